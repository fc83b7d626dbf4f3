//! Page faults: the first touch of a page of this process. The guest's kernel finds and clears a page; whether the host
//! has to do the same below depends on whether that page was ever used.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ptr;

use super::{Noun, Opened, Refusal, Spec, Target};
use crate::shared::bracket::{self, Sample};

pub(super) const NOUN: Noun = Noun {
    name: "fault",
    usual: || vec![Spec::new("fault:4k"), Spec::new("fault:2m")],
    open: |spec, _| match spec.op.as_str() {
        "fault:2m" => huge(),
        _ => Ok(Box::new(Pool::new(SMALL, 1024)?)),
    },
};

const SMALL: usize = 4096;
const HUGE: usize = 2 << 20;

fn huge() -> Opened {
    let mut pool = Pool::new(HUGE, 8)?;
    // What cannot be had shall be known now.
    pool.fill(&mut [Sample::default(); 4], 1)?;
    if pool.huge_now() == 0 {
        let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
        let setting = setting.trim();
        let reason = if setting.is_empty() {
            "this kernel has no transparent huge pages".to_owned()
        } else {
            format!("the kernel gives pages of 4 KiB although 2 MiB are asked for (enabled: {setting})")
        };
        return Err(Refusal::new(
            reason,
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, and have 16 MiB free in one piece",
        ));
    }
    Ok(Box::new(pool))
}

/// Pages that are touched one after the other, and given back when all are.
struct Pool {
    start: *mut u8,
    /// Bytes that were mapped, of which the pool begins at the first multiple of its pages' size.
    mapped: (*mut libc::c_void, usize),
    page: usize,
    pages: usize,
    next: usize,
    touched: u64,
    huge: u64,
}

impl Pool {
    fn new(page: usize, pages: usize) -> Result<Self, Refusal> {
        let length = page * (pages + 1);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping where the kernel chooses.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(refused("mmap"));
        }
        let start = mapped.cast::<u8>();
        let start = start.wrapping_add(start.align_offset(page));
        let pool = Self { start, mapped: (mapped, length), page, pages, next: 0, touched: 0, huge: 0 };
        let advice = if page == HUGE { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // A kernel without huge pages does not know the advice: that it gives none shows below.
        pool.advise(advice);
        Ok(pool)
    }

    fn advise(&self, advice: libc::c_int) -> bool {
        // SAFETY: the pool lies in the mapping, and nothing is kept in it.
        unsafe { libc::madvise(self.start.cast(), self.page * self.pages, advice) == 0 }
    }

    /// Gives all pages back, after they were counted.
    fn refresh(&mut self) -> Result<(), Refusal> {
        self.huge += self.huge_now();
        self.next = 0;
        if self.advise(libc::MADV_DONTNEED) { Ok(()) } else { Err(refused("madvise")) }
    }

    /// Touched pages of 2 MiB that are one page, as the kernel says.
    fn huge_now(&self) -> u64 {
        if self.page != HUGE || self.next == 0 {
            return 0;
        }
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        huge_kib(&smaps, self.start as u64) / (HUGE as u64 / 1024)
    }
}

/// `AnonHugePages` of the mapping that holds an address, KiB: Documentation/filesystems/proc.rst, 3.12.
fn huge_kib(smaps: &str, address: u64) -> u64 {
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
    };
    let lines = smaps.lines().skip_while(|line| !range(line).is_some_and(|range| range.contains(&address)));
    let mut lines = lines.skip(1).take_while(|line| range(line).is_none());
    let number = lines.find_map(|line| line.strip_prefix("AnonHugePages:"));
    number.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn refused(call: &str) -> Refusal {
    Refusal::new(format!("{call} fails: {}", io::Error::last_os_error()), "free some memory")
}

fn minor_faults() -> u64 {
    // SAFETY: an all-zero rusage is valid, and getrusage only writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    u64::try_from(usage.ru_minflt).unwrap_or(0)
}

impl Target for Pool {
    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        let repeat = repeat as usize;
        for sample in samples {
            if self.next + repeat > self.pages {
                self.refresh()?;
            }
            let first = self.start.wrapping_add(self.next * self.page);
            *sample = bracket::time(|| {
                for page in 0..repeat {
                    // SAFETY: `refresh` leaves so many pages to touch, all of them within the mapping.
                    unsafe { first.add(page * self.page).write_volatile(1) };
                }
            });
            self.next += repeat;
            self.touched += repeat as u64;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Refusal> {
        self.refresh()
    }

    fn end(&mut self) {
        // The memory is for others while they are measured.
        let _ = self.refresh();
    }

    fn evidence(&mut self) -> BTreeMap<String, u64> {
        let mut counts: BTreeMap<_, _> = [("faults".to_owned(), minor_faults())].into();
        if self.page == HUGE {
            counts.insert("huge_pages".to_owned(), self.huge + self.huge_now());
        }
        counts
    }

    fn doubt(&self, operations: u64, counted: &BTreeMap<String, u64>) -> Option<String> {
        let count = |name: &str| counted.get(name).copied().unwrap_or(0);
        if count("faults") < operations {
            return Some(format!("{operations} pages were touched, with {} faults only", count("faults")));
        }
        // One in a hundred may find memory in pieces.
        if self.page == HUGE && count("huge_pages") * 100 < operations * 99 {
            return Some(format!(
                "{} of {operations} pages had 2 MiB, the others 4 KiB: memory is in pieces",
                count("huge_pages")
            ));
        }
        None
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: `new` mapped it, and nothing points into it any more.
        unsafe { libc::munmap(self.mapped.0, self.mapped.1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_touch_is_a_fault() {
        let mut pool = Pool::new(SMALL, 16).unwrap();
        pool.begin().unwrap();
        let before = minor_faults();
        pool.fill(&mut [Sample::default(); 101], 3).unwrap();
        let faults = minor_faults() - before;
        assert!((303..400).contains(&faults), "{faults}");
        let counted = |faults| [("faults".to_owned(), faults)].into();
        assert_eq!(pool.doubt(303, &counted(faults)), None);
        // The second touch of a page is none.
        assert!(pool.doubt(303, &counted(302)).is_some());
    }

    #[test]
    fn small_pages_in_place_of_large_ones_are_doubted() {
        let pool = Pool::new(HUGE, 1).unwrap();
        let counted = |huge| [("faults".to_owned(), 1000), ("huge_pages".to_owned(), huge)].into();
        assert_eq!(pool.doubt(1000, &counted(995)), None);
        assert!(pool.doubt(1000, &counted(980)).is_some_and(|why| why.contains("980 of 1000")));
    }

    #[test]
    fn huge_pages_are_those_of_the_pool_s_mapping() {
        let smaps = "7f0000000000-7f0000200000 rw-p 00000000 00:00 0\nRss: 4 kB\nAnonHugePages:      2048 kB\n\
            7f0000400000-7f0001400000 rw-p 00000000 00:00 0 \nAnonHugePages:      6144 kB\nVmFlags: rd\n\
            7f0002000000-7f0002001000 rw-p 00000000 00:00 0 \nVmFlags: rd\n";
        assert_eq!(huge_kib(smaps, 0x7f00_0040_0000), 6144);
        assert_eq!(huge_kib(smaps, 0x7f00_0000_1000), 2048);
        assert_eq!(huge_kib(smaps, 0x7f00_0200_0000), 0);
        assert_eq!(huge_kib(smaps, 0x1000), 0);
    }
}
