//! Removing a page that other threads have in their TLBs: how long it takes the one that removes it, by the clock.
//!
//! Before each sample, outside of the bracket, the page is written here and read by every other thread; they spin in
//! user mode meanwhile, so that the kernel must interrupt them. KVM's paravirtual flush leaves out vCPUs that the host
//! does not run at that moment (arch/x86/kernel/kvm.c, `kvm_flush_tlb_multi`), and processors with INVLPGB interrupt
//! nobody: the count of interrupts tells.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::helper::{Apart, Helper};
use super::{Noun, Opened, Place, Refusal, Spec, Target, witness};
use crate::measure::round::Details;
use crate::shared::bracket::{self, Sample};

pub(super) const NOUN: Noun = Noun { name: "tlb", usual, open };

fn usual() -> Vec<Spec> {
    ["madvise", "munmap", "mprotect"].map(|one| Spec::new(&format!("tlb:{one}"))).into()
}

/// What is done to the page.
#[derive(Clone, Copy)]
enum Removal {
    Madvise,
    Munmap,
    Mprotect,
}

fn open(spec: &Spec, place: Place) -> Opened {
    let removal = match spec.op.as_str() {
        "tlb:madvise" => Removal::Madvise,
        "tlb:munmap" => Removal::Munmap,
        _ => Removal::Mprotect,
    };
    let others: Vec<usize> = place.allowed().into_iter().filter(|&cpu| cpu != place.cpu).collect();
    if others.is_empty() {
        return Err(Refusal::new(
            format!("it takes two CPUs, and only [{}] may be used", place.cpu),
            "give the guest a second vCPU, or the process a larger cpuset",
        ));
    }
    let threads = usize::try_from(spec.number("threads", others.len() as u64)?).unwrap_or(usize::MAX);
    if threads == 0 || threads > others.len() {
        return Err(Refusal::new(
            format!("{threads} threads do not fit on {} other CPUs, one on each", others.len()),
            "choose fewer --threads",
        ));
    }
    // SAFETY: it changes whether memory is swapped out. What comes later stays unlocked: madvise refuses locked pages.
    let is_locked = unsafe { libc::mlockall(libc::MCL_CURRENT) == 0 };
    Ok(Box::new(Shootdown {
        removal,
        page: Page::new()?,
        cpus: others[..threads].to_vec(),
        touch: Arc::default(),
        touchers: Vec::new(),
        is_locked,
    }))
}

/// Bytes of a page, and of what one page table maps.
const PAGE: usize = 4096;
const TABLE: usize = 2 << 20;

/// One page between pages that nobody may touch: a mapping of its own, so that nothing need be split to remove it, whose
/// page table stays because of its neighbours.
struct Page {
    whole: *mut libc::c_void,
    at: *mut libc::c_void,
}

const LENGTH: usize = 2 * TABLE;

fn refused(what: &str) -> Refusal {
    Refusal::new(format!("{what} fails: {}", io::Error::last_os_error()), "see `ulimit -a` and free memory")
}

impl Page {
    fn new() -> Result<Self, Refusal> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping where the kernel likes.
        let whole = unsafe { libc::mmap(std::ptr::null_mut(), LENGTH, libc::PROT_NONE, flags, -1, 0) };
        if whole == libc::MAP_FAILED {
            return Err(refused("mmap"));
        }
        let inside = TABLE - whole as usize % TABLE + TABLE / 2;
        let page = Self { whole, at: whole.wrapping_byte_add(inside) };
        // SAFETY: the page is within the mapping, which is this struct's.
        if unsafe { libc::mprotect(page.at, PAGE, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(refused("mprotect"));
        }
        page.prepare()?;
        Ok(page)
    }

    /// No huge page, and present.
    fn prepare(&self) -> Result<(), Refusal> {
        // A kernel without huge pages does not know this.
        // SAFETY: advice about a mapping of this struct's.
        unsafe { libc::madvise(self.at, PAGE, libc::MADV_NOHUGEPAGE) };
        self.write();
        Ok(())
    }

    fn write(&self) {
        // SAFETY: the page is mapped and may be written whenever no sample is taken.
        unsafe { self.at.cast::<u64>().write_volatile(1) };
    }

    /// Puts it back after munmap.
    fn map(&self) -> Result<(), Refusal> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: it takes the hole only: NOREPLACE fails when something is there.
        let at = unsafe { libc::mmap(self.at, PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if at == self.at { self.prepare() } else { Err(refused("mmap")) }
    }

    #[inline(always)]
    fn remove(&self, removal: Removal) -> bool {
        // SAFETY: nobody touches the page meanwhile: helpers have read it and wait for the next time.
        unsafe {
            match removal {
                Removal::Madvise => libc::madvise(self.at, PAGE, libc::MADV_DONTNEED) == 0,
                Removal::Munmap => libc::munmap(self.at, PAGE) == 0,
                Removal::Mprotect => {
                    libc::mprotect(self.at, PAGE, libc::PROT_READ) == 0
                        && libc::mprotect(self.at, PAGE, libc::PROT_READ | libc::PROT_WRITE) == 0
                }
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: it is this struct's, and helpers have ended.
        unsafe { libc::munmap(self.whole, LENGTH) };
    }
}

struct Toucher {
    helper: Helper,
    /// The last time for which it has read the page.
    done: Arc<Apart<AtomicU64>>,
}

struct Shootdown {
    removal: Removal,
    page: Page,
    cpus: Vec<usize>,
    /// Counts the times for which the page is to be read.
    touch: Arc<Apart<AtomicU64>>,
    touchers: Vec<Toucher>,
    is_locked: bool,
}

/// How long a thread may take to read the page, cycles: it may have to wait for its CPU.
const PATIENCE: u64 = 3_000_000_000;

impl Shootdown {
    /// Has every thread read the page; returns when all have.
    fn spread(&self) -> Result<(), Refusal> {
        let time = self.touch.0.fetch_add(1, Ordering::Release) + 1;
        let start = bracket::start();
        for toucher in &self.touchers {
            while toucher.done.0.load(Ordering::Acquire) != time {
                if bracket::start().wrapping_sub(start) > PATIENCE {
                    return Err(Refusal::new(
                        format!("the thread on CPU {} does not run", toucher.helper.cpu),
                        "see what else runs there",
                    ));
                }
            }
        }
        Ok(())
    }
}

fn touch(page: usize, times: &AtomicU64, done: &AtomicU64, stop: &AtomicBool) {
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        let time = times.load(Ordering::Acquire);
        if time != last {
            // SAFETY: the page stays mapped until this is told to be done.
            unsafe { (page as *const u64).read_volatile() };
            done.store(time, Ordering::Release);
            last = time;
        }
    }
}

impl Target for Shootdown {
    fn begin(&mut self) -> Result<(), Refusal> {
        self.touch = Arc::default();
        for &cpu in &self.cpus {
            let done = Arc::<Apart<AtomicU64>>::default();
            let (page, times, its) = (self.page.at as usize, Arc::clone(&self.touch), Arc::clone(&done));
            let helper = Helper::start(cpu, move |stop| touch(page, &times.0, &its.0, stop))?;
            self.touchers.push(Toucher { helper, done });
        }
        Ok(())
    }

    fn end(&mut self) {
        self.touchers.clear();
    }

    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        for sample in samples {
            // More than one in a bracket would find the TLBs empty: one is long enough for any counter.
            *sample = Sample::default();
            for _ in 0..repeat {
                self.page.write();
                self.spread()?;
                let mut is_ok = true;
                let one = bracket::time(|| is_ok = self.page.remove(self.removal));
                if !is_ok {
                    return Err(refused("the system call"));
                }
                *sample = Sample { cycles: sample.cycles.wrapping_add(one.cycles), aux: one.aux };
                if matches!(self.removal, Removal::Munmap) {
                    self.page.map()?;
                }
            }
        }
        Ok(())
    }

    fn evidence(&mut self) -> BTreeMap<String, u64> {
        witness::interrupts(&["TLB"], &self.cpus)
    }

    fn details(&mut self) -> Details {
        let others = match self.cpus.as_slice() {
            [cpu] => format!("1 other thread, on CPU {cpu}"),
            cpus => format!("{} other threads, on a CPU each", cpus.len()),
        };
        let locked = if self.is_locked { "" } else { "; memory could not be locked" };
        let mut details = Details::default();
        details.notes.insert("cpus".into(), format!("{others}{locked}"));
        details
    }

    fn doubt(&self, operations: u64, counted: &BTreeMap<String, u64>) -> Option<String> {
        let doubt = self.cpus.iter().find_map(|&cpu| witness::doubt(counted, "TLB", cpu, operations))?;
        Some(format!(
            "{doubt}: KVM's paravirtual flush leaves out vCPUs that do not run, INVLPGB interrupts none, and a thread that did \
             not run had nothing to lose"
        ))
    }
}
