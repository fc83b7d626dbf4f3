//! Which CPUs take part: what is asked for is held against what there is.

use super::super::Refusal;
use crate::numa::Nodes;

/// Where the two of a pair are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Numa {
    /// On the same node.
    Within,
    /// On different nodes.
    Across,
    /// Anywhere.
    #[default]
    Any,
}

impl Numa {
    /// By its name.
    pub fn named(name: &str) -> Result<Self, Refusal> {
        match name {
            "within" => Ok(Self::Within),
            "across" => Ok(Self::Across),
            "any" => Ok(Self::Any),
            _ => Err(Refusal::new(format!("numa={name} is not known"), "give within, across or any")),
        }
    }

    fn allows(self, nodes: &Nodes, one: usize, other: usize) -> bool {
        match self {
            Self::Any => true,
            Self::Within => nodes.of(one) == nodes.of(other),
            Self::Across => nodes.of(one) != nodes.of(other),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Within => " on the same NUMA node",
            Self::Across => " on another NUMA node",
        }
    }
}

/// The target: the one asked for, else the first other one.
pub(super) fn target(
    allowed: &[usize],
    nodes: &Nodes,
    src: usize,
    dst: Option<usize>,
    numa: Numa,
) -> Result<usize, Refusal> {
    enough(allowed)?;
    if let Some(dst) = dst {
        if dst == src {
            return Err(Refusal::new(format!("CPU {src} is both source and target"), "choose two CPUs"));
        }
        if !allowed.contains(&dst) {
            return Err(Refusal::new(
                format!("CPU {dst} is offline or outside of this cpuset; there are {allowed:?}"),
                "choose one of these",
            ));
        }
        if !numa.allows(nodes, src, dst) {
            return Err(Refusal::new(
                format!("CPU {dst} is on node {}, CPU {src} on node {}", nodes.of(dst), nodes.of(src)),
                "leave --numa or --dst away",
            ));
        }
        return Ok(dst);
    }
    let mut others = allowed.iter().copied().filter(|&cpu| cpu != src);
    others
        .find(|&cpu| numa.allows(nodes, src, cpu))
        .ok_or_else(|| Refusal::new(format!("CPU {src} has no other{}", numa.words()), "leave --numa away"))
}

/// Refuses when there are not two.
pub(super) fn enough(allowed: &[usize]) -> Result<(), Refusal> {
    if allowed.len() < 2 {
        return Err(Refusal::new(
            format!("it takes two CPUs, and only {allowed:?} may be used"),
            "give the guest a second vCPU, or the process a larger cpuset",
        ));
    }
    Ok(())
}

/// Disjoint pairs of source and target, the first with a given source; as many as there can be, or as are wanted.
pub(super) fn pairs(
    allowed: &[usize],
    nodes: &Nodes,
    src: usize,
    wanted: Option<usize>,
    numa: Numa,
) -> Result<Vec<(usize, usize)>, Refusal> {
    enough(allowed)?;
    let mut free: Vec<usize> = allowed.iter().copied().filter(|&cpu| cpu != src).collect();
    let mut pairs = Vec::new();
    let mut next = Some(src);
    while let Some(one) = next {
        if wanted == Some(pairs.len()) {
            break;
        }
        if let Some(at) = free.iter().position(|&cpu| numa.allows(nodes, one, cpu)) {
            pairs.push((one, free.remove(at)));
        } else if pairs.is_empty() {
            break;
        }
        next = (!free.is_empty()).then(|| free.remove(0));
    }
    match wanted {
        Some(wanted) if pairs.len() < wanted => Err(Refusal::new(
            format!("{} CPUs make {} pairs{}, not {wanted}", allowed.len(), pairs.len(), numa.words()),
            "choose fewer --pairs",
        )),
        _ if pairs.is_empty() => target(allowed, nodes, src, None, numa).map(|dst| vec![(src, dst)]),
        _ => Ok(pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(lists: &[(usize, &str)]) -> Nodes {
        let directory = tempfile::tempdir().unwrap();
        for (node, cpus) in lists {
            let path = directory.path().join(format!("node{node}"));
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("cpulist"), cpus).unwrap();
        }
        Nodes::read(directory.path())
    }

    #[test]
    fn cpus_need_not_be_contiguous() {
        let (allowed, nodes) = ([3, 8, 130], Nodes::default());
        assert_eq!(target(&allowed, &nodes, 8, None, Numa::Any), Ok(3));
        assert_eq!(target(&allowed, &nodes, 3, Some(130), Numa::Any), Ok(130));
        let absent = target(&allowed, &nodes, 3, Some(4), Numa::Any).unwrap_err();
        assert!(absent.reason.contains("CPU 4 is offline or outside of this cpuset; there are [3, 8, 130]"));
        assert!(target(&allowed, &nodes, 3, Some(3), Numa::Any).unwrap_err().reason.contains("both"));
        assert_eq!(pairs(&allowed, &nodes, 130, None, Numa::Any), Ok(vec![(130, 3)]));
    }

    #[test]
    fn one_cpu_is_refused_in_words() {
        let alone = target(&[5], &Nodes::default(), 5, None, Numa::Any).unwrap_err();
        assert_eq!(alone.reason, "it takes two CPUs, and only [5] may be used");
        assert!(pairs(&[5], &Nodes::default(), 5, None, Numa::Any).is_err());
    }

    #[test]
    fn nodes_are_minded_also_without_memory() {
        // Node 1 has no CPU, node 2 no memory.
        let nodes = nodes(&[(0, "0-3\n"), (1, "\n"), (2, "4-7\n")]);
        let allowed: Vec<usize> = (0..8).collect();
        assert_eq!(target(&allowed, &nodes, 0, None, Numa::Across), Ok(4));
        assert_eq!(target(&allowed, &nodes, 5, None, Numa::Within), Ok(4));
        assert!(target(&allowed, &nodes, 0, Some(4), Numa::Within).is_err());
        assert!(target(&allowed[..4], &nodes, 0, None, Numa::Across).is_err());
        let across = pairs(&allowed, &nodes, 0, None, Numa::Across).unwrap();
        assert_eq!(across, [(0, 4), (1, 5), (2, 6), (3, 7)]);
        let within = pairs(&allowed, &nodes, 0, None, Numa::Within).unwrap();
        assert_eq!(within, [(0, 1), (2, 3), (4, 5), (6, 7)]);
    }

    #[test]
    fn every_cpu_is_in_one_pair_at_most() {
        let allowed: Vec<usize> = (0..200).step_by(3).collect();
        let pairs = pairs(&allowed, &Nodes::default(), 99, None, Numa::Any).unwrap();
        assert_eq!((pairs.len(), pairs[0].0), (33, 99));
        let mut used: Vec<usize> = pairs.iter().flat_map(|&(one, other)| [one, other]).collect();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), 66);
        let few = super::pairs(&allowed, &Nodes::default(), 99, Some(2), Numa::Any).unwrap();
        assert_eq!(few, pairs[..2]);
        let many = super::pairs(&allowed, &Nodes::default(), 99, Some(34), Numa::Any).unwrap_err();
        assert_eq!(many.reason, "67 CPUs make 33 pairs, not 34");
    }
}
