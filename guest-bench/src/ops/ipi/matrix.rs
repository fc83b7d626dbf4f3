//! One row of the matrix of all CPUs: from one source to each other CPU, in turn.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::super::helper::Spinner;
use super::super::{Opened, Place, Refusal, Spec, Target, witness};
use super::way::{Way, handled};
use super::{place, way};
use crate::measure::round::{Details, histogram, pairs};
use crate::shared::bracket::{self, Sample};

pub(super) fn open(spec: &Spec, place: Place) -> Opened {
    let allowed = place.allowed();
    place::enough(&allowed)?;
    let others = allowed.iter().copied().filter(|&cpu| cpu != place.cpu);
    Ok(Box::new(Row {
        cells: others
            .map(|dst| Ok(Cell { way: way(spec, dst, true)?, times: histogram(), sent: 0 }))
            .collect::<Result<_, Refusal>>()?,
        overhead: crate::measure::overhead::measure().cycles,
        spinners: Vec::new(),
        next: 0,
    }))
}

struct Cell {
    way: Way,
    times: Histogram<u64>,
    sent: u64,
}

struct Row {
    cells: Vec<Cell>,
    overhead: u64,
    spinners: Vec<Spinner>,
    /// Whose turn it is.
    next: usize,
}

fn sent_to(cpu: usize) -> String {
    format!("sent to CPU {cpu}")
}

impl Target for Row {
    fn begin(&mut self) -> Result<(), Refusal> {
        for cell in &mut self.cells {
            cell.times.reset();
            let spinner = Spinner::start(cell.way.dst)?;
            cell.way.aim(&spinner);
            self.spinners.push(spinner);
        }
        Ok(())
    }

    fn end(&mut self) {
        self.spinners.clear();
    }

    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        for sample in samples {
            let at = self.next % self.cells.len();
            self.next = at + 1;
            let cell = &mut self.cells[at];
            cell.way.prepare()?;
            let signals = handled(cell.way.dst);
            let mut is_ok = true;
            let start = bracket::start();
            for _ in 0..repeat {
                is_ok &= cell.way.send();
            }
            let (stop, aux) = bracket::stop();
            let cycles = stop.wrapping_sub(start);
            *sample = Sample { cycles, aux };
            if !is_ok || !cell.way.settle(signals) {
                return Err(super::failed(cell.way.via));
            }
            cell.sent += u64::from(repeat);
            cell.times.saturating_record(cycles.saturating_sub(self.overhead) / u64::from(repeat.max(1)));
        }
        Ok(())
    }

    fn evidence(&mut self) -> BTreeMap<String, u64> {
        let Some(kind) = self.cells.first().map(|cell| cell.way.via.kind()) else { return BTreeMap::new() };
        let cpus: Vec<usize> = self.cells.iter().map(|cell| cell.way.dst).collect();
        let mut counted = witness::interrupts(&[kind], &cpus);
        counted.extend(self.cells.iter().map(|cell| (sent_to(cell.way.dst), cell.sent)));
        counted
    }

    fn details(&mut self) -> Details {
        let via = self.cells.first().map(|cell| ("via".to_owned(), cell.way.via.about().to_owned()));
        Details {
            series: self.cells.iter().map(|cell| (cell.way.dst.to_string(), pairs(&cell.times))).collect(),
            notes: via.into_iter().collect(),
            ..Details::default()
        }
    }

    fn doubt(&self, _: u64, counted: &BTreeMap<String, u64>) -> Option<String> {
        self.cells.iter().find_map(|cell| {
            let dst = cell.way.dst;
            let sent = counted.get(&sent_to(dst)).copied().unwrap_or(0);
            witness::doubt(counted, cell.way.via.kind(), dst, sent)
        })
    }
}
