//! The command line: words `name=value`. Unknown ones are the loader's or a kernel's, and are none of our business.

use crate::apic::Mode;

/// What was asked for.
#[derive(Clone, Copy)]
pub struct Options {
    /// `ops=`: operations or nouns, with commas between; `name@0x10` gives a leaf or an index. None: all that are safe.
    pub ops: Option<&'static [u8]>,
    /// `rounds=`
    pub rounds: u64,
    /// `samples=`: per operation in all rounds.
    pub samples: Option<u64>,
    /// `time_ms=`: per operation in all rounds, at most.
    pub time_ms: u64,
    /// `reference=`: after each round the operation is done so often in one loop, timed as a whole as kvm-unit-tests do.
    pub reference: u32,
    /// `seed=` of the shuffled order.
    pub seed: Option<u64>,
    /// `tsc_khz=`: who starts us knows better.
    pub tsc_khz: Option<u64>,
    /// `cpus=`: how many to wait for; 1 leaves the others alone.
    pub cpus: Option<usize>,
    /// `apic=xapic` or `apic=x2apic`.
    pub apic: Option<Mode>,
    /// `mark_port=`: before each round the number of the operation's line is written there (4 bytes, from 1 on), and 0 behind it.
    pub mark_port: Option<u16>,
    /// `notify_port=` and `notify_address=`
    pub notify: Notify,
}

/// What the VMM has made eventfds of, if anything.
#[derive(Clone, Copy)]
pub struct Notify {
    pub port: Option<u16>,
    /// In the last gigabyte below 4 GiB, which is not cached.
    pub address: Option<u64>,
}

/// Reads it.
pub fn parse(line: &'static [u8]) -> Options {
    let mut options = Options {
        ops: None,
        rounds: 5,
        samples: None,
        time_ms: 1000,
        reference: 0,
        seed: None,
        tsc_khz: None,
        cpus: None,
        apic: None,
        mark_port: None,
        notify: Notify { port: None, address: None },
    };
    for word in line.split(|&byte| byte == b' ') {
        let Some(equals) = word.iter().position(|&byte| byte == b'=') else { continue };
        let (name, value) = (&word[..equals], &word[equals + 1..]);
        let number = number(value).filter(|&number| number > 0);
        match name {
            b"ops" => options.ops = Some(value),
            b"rounds" => options.rounds = number.unwrap_or(options.rounds),
            b"samples" => options.samples = number,
            b"time_ms" => options.time_ms = number.unwrap_or(options.time_ms),
            b"reference" => options.reference = number.unwrap_or(0).min(1_000_000) as u32,
            b"seed" => options.seed = number,
            b"tsc_khz" => options.tsc_khz = number,
            b"cpus" => options.cpus = number.map(|cpus| cpus as usize),
            b"mark_port" => options.mark_port = number.map(|port| port as u16),
            b"notify_port" => options.notify.port = number.map(|port| port as u16),
            b"notify_address" => options.notify.address = number.filter(|at| at >> 30 == 3 && at % 4 == 0),
            b"apic" if value == b"xapic" => options.apic = Some(Mode::X),
            b"apic" if value == b"x2apic" => options.apic = Some(Mode::X2),
            _ => {}
        }
    }
    options
}

/// Decimal, or hexadecimal after 0x.
pub fn number(text: &[u8]) -> Option<u64> {
    let (digits, base) = match text {
        [b'0', b'x', digits @ ..] => (digits, 16),
        digits => (digits, 10),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    for &digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' if base == 16 => digit - b'a' + 10,
            _ => return None,
        };
        number = number.checked_mul(base)?.checked_add(value.into())?;
    }
    Some(number)
}
