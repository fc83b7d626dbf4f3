//! What the bracket itself costs, and in which steps the counter moves.

use crate::shared::bracket;

/// Of the bracket, measured here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overhead {
    /// Median of empty brackets, TSC cycles.
    pub cycles: u64,
    /// The counter moves in multiples of this, TSC cycles: the greatest common divisor of the differences seen.
    pub quantum: u64,
}

/// How many empty brackets are timed.
const SAMPLES: usize = 10_001;

/// Measures it on this CPU.
pub fn measure() -> Overhead {
    // Twice: the first warms up.
    of(&mut sample());
    of(&mut sample())
}

fn sample() -> Vec<u64> {
    (0..SAMPLES).map(|_| bracket::time(|| ()).cycles).collect()
}

fn of(samples: &mut [u64]) -> Overhead {
    samples.sort_unstable();
    let quantum = samples.iter().fold(0, |divisor, &cycles| gcd(divisor, cycles));
    Overhead { cycles: samples.get(samples.len() / 2).copied().unwrap_or(0), quantum: quantum.max(1) }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantum_divides_all_differences() {
        assert_eq!(of(&mut [52, 78, 52, 52, 260]), Overhead { cycles: 52, quantum: 26 });
        assert_eq!(of(&mut [52, 53, 54]), Overhead { cycles: 53, quantum: 1 });
        assert_eq!(of(&mut []), Overhead { cycles: 0, quantum: 1 });
    }
}
