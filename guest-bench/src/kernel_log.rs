//! The kernel's log, as far as it may be read and has not been overwritten.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

/// Messages of the kernel, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelLog {
    /// Each without time and priority.
    pub lines: Vec<String>,
    /// It reaches back to the boot, so that what is missing was not said.
    pub is_whole: bool,
}

/// A record is at most this long: `PRINTK_MESSAGE_MAX` in kernel/printk/internal.h.
const RECORD: usize = 8192;

impl KernelLog {
    /// Reads /dev/kmsg, without waiting for more.
    ///
    /// # Errors
    /// Why it cannot be read, with the remedy.
    pub fn read() -> Result<Self, String> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .map_err(|error| unreadable(&error))?;
        let mut record = vec![0; RECORD];
        let mut records = Vec::new();
        loop {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => records.push(String::from_utf8_lossy(&record[..length]).into_owned()),
                // The oldest ones were overwritten while reading.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    return Err(format!("the kernel's log cannot be read ({error}); run this as root"));
                }
            }
        }
        Ok(Self::of(&records))
    }

    /// From records of Documentation/ABI/testing/dev-kmsg: `priority,sequence,time,flags;text`.
    pub fn of(records: &[String]) -> Self {
        let sequence = |record: &String| record.split(',').nth(1)?.parse::<u64>().ok();
        // Programs can write here too, but not as the kernel's facility, 0.
        let is_kernels = |record: &&String| {
            record.split(',').next().and_then(|priority| priority.parse::<u32>().ok()).is_some_and(|p| p < 8)
        };
        let text = |record: &String| Some(record.split_once(';')?.1.lines().next()?.to_owned());
        Self {
            lines: records.iter().filter(is_kernels).filter_map(text).collect(),
            is_whole: records.first().and_then(sequence) == Some(0),
        }
    }

    /// The first line that holds this, in whatever case.
    pub fn find(&self, text: &str) -> Option<&str> {
        let text = text.to_ascii_lowercase();
        self.lines.iter().find(|line| line.to_ascii_lowercase().contains(&text)).map(String::as_str)
    }
}

fn unreadable(error: &io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "run this outside of the container",
        _ => "run this as root",
    };
    format!("the kernel's log cannot be read ({error}); {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernel_is_believed_and_a_beginning_is_noticed() {
        let records =
            ["6,0,0,-;Linux version 6.1.0", "12,1,5,-;kvm-guest: setup PV IPIs", "6,2,9,-;A\n SUBSYSTEM=x"];
        let log = KernelLog::of(&records.map(str::to_owned));
        assert_eq!(log, KernelLog { lines: vec!["Linux version 6.1.0".into(), "A".into()], is_whole: true });
        assert_eq!((log.find("linux VERSION"), log.find("PV IPIs")), (Some("Linux version 6.1.0"), None));
        assert!(!KernelLog::of(&["6,400,1,-;late".to_owned()]).is_whole);
    }
}
