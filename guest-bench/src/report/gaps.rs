//! What gaps come to: their number in the time that was watched, and what they took of it.

use super::table::{grouped, time};
use crate::measure::supervisor::Measured;
use crate::stats;

/// For what watches time; None for all else. Also without any gap.
pub(super) fn line(measured: &Measured) -> Option<String> {
    let totals = stats::totals(&measured.rounds);
    let (watched, lost) = (*totals.get("watched_ns")?, *totals.get("lost_ns")?);
    let total = |name: &str| totals.get(name).copied().unwrap_or(0) as f64 / 1e9;
    let evidence = stats::evidence(&measured.rounds);
    let count = |name: &str| grouped(evidence.get(name).copied().unwrap_or(0) as f64);
    Some(format!(
        "gaps    {}: {} in {}, {:.3} % of it lost; meanwhile {} interrupts, {} preemptions, {} stolen",
        measured.spec.title(),
        count("gaps"),
        time(watched as f64 / 1e9),
        lost as f64 * 100.0 / watched.max(1) as f64,
        count("interrupts"),
        count("preemptions"),
        time(total("steal_ns")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Round;
    use crate::measure::round::Details;
    use crate::measure::supervisor::Status;
    use crate::measure::worker::Ready;
    use crate::ops::Spec;

    #[test]
    fn rounds_add_up_and_no_gap_is_said_too() {
        let round = |lost: u64, gaps| Round {
            evidence: [("gaps".to_owned(), gaps), ("interrupts".to_owned(), 3)].into(),
            details: Details {
                totals: [("watched_ns".to_owned(), 500_000_000), ("lost_ns".to_owned(), lost)].into(),
                ..Details::default()
            },
            ..Round::default()
        };
        let mut measured = Measured {
            spec: Spec::new("jitter"),
            status: Status::Ok,
            ready: Ready::default(),
            rounds: vec![round(1_000_000, 7), round(4_000_000, 1200)],
        };
        assert_eq!(
            line(&measured).unwrap(),
            "gaps    jitter: 1,207 in 1.00s, 0.500 % of it lost; meanwhile 6 interrupts, 0 preemptions, 0ns stolen"
        );
        measured.rounds = vec![round(0, 0)];
        assert!(line(&measured).unwrap().starts_with("gaps    jitter: 0 in 500.00ms, 0.000 %"));
        measured.rounds = vec![Round::default()];
        assert_eq!(line(&measured), None);
    }
}
