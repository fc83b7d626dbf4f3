//! What this process takes.

use crate::{
    host::SysRoot,
    view::prometheus::{Family, Labels, Value, own},
};

/// Its families; what cannot be read is left out.
pub(super) fn families(root: &SysRoot) -> Vec<Family> {
    let mut families = Vec::new();
    let mut add = |family: fn() -> Family, value: Option<Value>| {
        families.extend(value.map(|value| family().with(Labels::default(), value)));
    };
    let stat = root.text("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let boot = root.text("/proc/stat").ok().and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()
    });
    if let Some(stat) = stat {
        add(own::cpu_time, Some(Value::Real(stat.cpu_ticks as f64 / ticks)));
        add(own::memory, Some(Value::Count(stat.resident_pages * rustix::param::page_size() as u64)));
        add(own::started, boot.map(|boot| Value::Real(boot + stat.start_ticks as f64 / ticks)));
    }
    let descriptors = std::fs::read_dir(root.path("/proc/self/fd")).ok();
    // The one that lists them is one of them.
    add(own::descriptors, descriptors.map(|entries| Value::Count(entries.count().saturating_sub(1) as u64)));
    families
}

/// What /proc/self/stat says, proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// User and system time.
    cpu_ticks: u64,
    /// Since the host started.
    start_ticks: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        // Of the manual's numbers the first here is 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { cpu_ticks: field(14)? + field(15)?, start_ticks: field(22)?, resident_pages: field(24)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_at_the_places_of_the_manual() {
        let text = "77 (a) b) S 1 77 77 0 -1 4194560 100 0 0 0 31 37 0 0 20 0 2 0 4111 9000000 1013 18446744073709551615";
        assert_eq!(Stat::parse(text), Some(Stat { cpu_ticks: 68, start_ticks: 4111, resident_pages: 1013 }));
        assert_eq!(Stat::parse("77 (x"), None);
    }

    #[test]
    fn this_process_takes_something() {
        let families = families(&SysRoot::default());
        assert_eq!(families.len(), 4);
        for family in families {
            let value = match family.metrics[0].value {
                Value::Count(count) => count as f64,
                Value::Real(real) => real,
                _ => -1.0,
            };
            assert!(value >= 0.0 && (family.name == "process_cpu_seconds" || value > 0.0), "{family:?}");
        }
    }
}
