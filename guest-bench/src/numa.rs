//! Which NUMA node a CPU belongs to: /sys/devices/system/node (Documentation/ABI/stable/sysfs-devices-node).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The nodes that have CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    node_of: BTreeMap<usize, usize>,
}

impl Nodes {
    /// Of this machine. Without NUMA support in the kernel all CPUs are in node 0.
    pub fn here() -> Self {
        Self::read(Path::new("/sys/devices/system/node"))
    }

    /// From a directory like /sys/devices/system/node. A node need have no memory, and no CPU either.
    pub fn read(directory: &Path) -> Self {
        let mut node_of = BTreeMap::new();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("node")?.parse::<usize>().ok());
            let Some(node) = number else { continue };
            let cpus = fs::read_to_string(entry.path().join("cpulist")).unwrap_or_default();
            node_of.extend(list(&cpus).into_iter().map(|cpu| (cpu, node)));
        }
        Self { node_of }
    }

    /// The node of a CPU.
    pub fn of(&self, cpu: usize) -> usize {
        self.node_of.get(&cpu).copied().unwrap_or(0)
    }
}

/// The numbers in a list like `0-3,8,10-11` (lib/vsprintf.c, `bitmap_list_string`).
pub fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        // A list from sysfs is short; one that is not is no list.
        (to < 1 << 16).then_some(from..=to)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(nodes: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (node, cpus) in nodes {
            fs::create_dir(directory.path().join(node)).unwrap();
            fs::write(directory.path().join(node).join("cpulist"), cpus).unwrap();
        }
        directory
    }

    #[test]
    fn lists_have_ranges_and_holes() {
        assert_eq!(list("0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(list("\n"), Vec::<usize>::new());
        assert_eq!(list("0-99999999999,x,-"), Vec::<usize>::new());
        assert_eq!(list("64-65,127"), [64, 65, 127]);
    }

    #[test]
    fn nodes_may_be_without_memory_without_cpus_and_not_contiguous() {
        // Node 2 has memory only, as CXL memory shows; node 7 has CPUs only; has_cpu and such lie beside them.
        let directory = directory(&[("node0", "0-1,64-65\n"), ("node2", "\n"), ("node7", "2-3,130\n")]);
        fs::write(directory.path().join("has_memory"), "0,2\n").unwrap();
        let nodes = Nodes::read(directory.path());
        assert_eq!([0, 65, 2, 130].map(|cpu| nodes.of(cpu)), [0, 0, 7, 7]);
    }

    #[test]
    fn without_numa_everything_is_in_node_0() {
        let nodes = Nodes::read(Path::new("/nonexistent"));
        assert_eq!((nodes.of(0), nodes.of(500)), (0, 0));
    }
}
