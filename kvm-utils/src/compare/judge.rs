//! Judges every figure of every row, and holds the rate of false alarms over all of them together.

use std::borrow::Cow;

use kvm_bench::compare::statistics::{self as shared, Floor, SIGNIFICANT, Size};

use super::{
    Per, Question, RUNS,
    applies::{Sums, Thing},
    blocks::{self, LEAST_BLOCKS, LEAST_INTERVALS},
    finding::{Because, FigureUnit, Finding, Verdict},
    limits::Key,
    measure::{LEAST_EVENTS, Measure},
    statistics::{
        family::{self, Figures},
        serial::{self, Answer, Difference},
    },
    table::{Counted, Span, Subject, Table, What},
    tally::Tally,
};

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Blocks of consecutive intervals of each file.
    Blocks,
    /// One figure per file.
    Files,
}

/// The method for so many files.
#[must_use]
pub fn method(files: [usize; 2], per: Per) -> Method {
    if matches!(per, Per::Run(_)) || files.iter().all(|count| *count >= RUNS) {
        Method::Files
    } else {
        Method::Blocks
    }
}

/// Standard errors of files are not taken to be smaller than this share of the floor.
const LEAST_ERROR: f64 = 0.1;

/// Confidence of the intervals that are told.
const TOLD: f64 = 0.95;

/// A figure to be judged, and what it is judged by.
struct Candidate {
    finding: Finding,
    measure: Measure,
    /// The smallest relative change that matters.
    relative: f64,
    /// Sums over all files of each side.
    wholes: [Tally; 2],
    exposures: [f64; 2],
    seconds: [f64; 2],
    /// How many intervals each side has.
    intervals: [usize; 2],
    /// Of whole files, for several of them.
    of_files: [Vec<Option<f64>>; 2],
    /// What is compared, per file.
    figures: [Vec<Vec<f64>>; 2],
    /// The same as numbers whose differences are ratios.
    logs: [Vec<Vec<f64>>; 2],
    size: Option<Size>,
    answer: Option<Answer>,
    /// There is enough to judge it by.
    is_judged: bool,
}

/// Judges all of them.
#[must_use]
pub fn judge(tables: &[Table], question: &Question, method: Method) -> Vec<Finding> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let sums = Sums::of(tables.iter().flat_map(|table| table.subjects.iter().map(|one| thing(table, one))));
    for table in tables {
        let blocks = blocks::cut(&table.spans);
        for subject in &table.subjects {
            for measure in measures(table, subject, &sums, question) {
                candidates.extend(candidate(table, subject, measure, &sums, question, method, &blocks));
            }
        }
    }
    for candidate in &mut candidates {
        candidate.weigh(question, method);
    }
    correct(&mut candidates, method);
    candidates.into_iter().map(|candidate| candidate.judged(method)).collect()
}

fn thing<'a>(table: &Table, subject: &'a Subject) -> Thing<'a> {
    (table.noun, subject.scope.as_deref(), &subject.what)
}

/// What is told of a subject.
fn measures(table: &Table, subject: &Subject, sums: &Sums<'_>, question: &Question) -> Vec<Measure> {
    let mut measures = vec![Measure::Rate];
    let has = |is_it: &dyn Fn(&Tally) -> bool| subject.files.iter().flatten().any(|one| is_it(&one.whole));
    let is_sum = !matches!(subject.what, What::Row { .. });
    if !subject.waiting && has(&|tally| tally.timed > 0) {
        let is_limited = |measure| is_limited(measure, thing(table, subject), sums, question);
        let durations = [
            (Measure::Busy, is_sum),
            (Measure::Mean, !is_sum || is_limited(Measure::Mean)),
            (Measure::P99, !is_sum || is_limited(Measure::P99)),
        ];
        measures.extend(durations.into_iter().filter(|(_, is_told)| *is_told).map(|(measure, _)| measure));
        if !has(&|tally| !tally.buckets.is_empty()) {
            measures.retain(|measure| *measure != Measure::P99);
        }
    }
    for (index, column) in table.times.iter().enumerate() {
        if has(&|tally| tally.times.get(index).is_some_and(|ns| *ns > 0)) {
            measures.push(Measure::Time(index, column));
        }
    }
    measures.retain(|measure| question.measures.contains(&measure.kind()));
    measures
}

/// Whether a limit says how long such events may take by this figure.
fn is_limited(measure: Measure, thing: Thing<'_>, sums: &Sums<'_>, question: &Question) -> bool {
    let key = measure.limit().filter(|key| *key != Key::Rate);
    key.is_some_and(|key| !sums.rules(&question.limits.rules, key, thing).is_empty())
}

/// The smallest relative change that matters. Who asks for less wants to know of less.
fn relative_floor(measure: Measure, thing: Thing<'_>, sums: &Sums<'_>, question: &Question) -> f64 {
    let allowed = sums.rules(&question.limits.rules, Key::Increase, thing);
    let asked = allowed.into_iter().map(|(_, most)| most).chain(question.fail_above);
    asked.filter(|share| *share > 0.0).fold(measure.relative_floor(&question.floors), f64::min)
}

/// How long a file is, as rates are told.
fn exposure(per: Per, side: usize, span: &Span) -> f64 {
    match per {
        Per::Second => span.seconds,
        Per::Units(units) => units[side],
        Per::Run(_) => 1.0,
    }
}

/// `None` for the durations of what happened too seldom: its rate says so already.
fn candidate(
    table: &Table,
    subject: &Subject,
    measure: Measure,
    sums: &Sums<'_>,
    question: &Question,
    method: Method,
    blocks: &[Vec<Vec<std::ops::Range<usize>>>; 2],
) -> Option<Candidate> {
    let mut wholes = [Tally::default(), Tally::default()];
    let (mut exposures, mut seconds, mut intervals) = ([0.0; 2], [0.0; 2], [0; 2]);
    let mut of_files: [Vec<Option<f64>>; 2] = [Vec::new(), Vec::new()];
    let (mut figures, mut logs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for side in [0, 1] {
        for (file, counted) in subject.files[side].iter().enumerate() {
            let Some(span) = table.spans[side].get(file).and_then(Option::as_ref) else {
                of_files[side].push(None);
                figures[side].push(Vec::new());
                logs[side].push(Vec::new());
                continue;
            };
            let exposure = exposure(question.per, side, span);
            wholes[side].add(&counted.whole);
            exposures[side] += exposure;
            seconds[side] += span.seconds;
            intervals[side] += span.intervals.len();
            let figure = measure.of(&counted.whole, exposure);
            of_files[side].push(figure);
            let pairs = match method {
                Method::Files => figure
                    .and_then(|figure| Some((figure, measure.to_log(figure, exposure, span.seconds)?)))
                    .into_iter()
                    .collect(),
                Method::Blocks => {
                    let ranges = blocks[side].get(file).map(Vec::as_slice).unwrap_or_default();
                    of_blocks(counted, measure, ranges, span, exposure)
                }
            };
            let (raw, log): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            figures[side].push(raw);
            logs[side].push(log);
        }
    }
    let events = [wholes[0].count, wholes[1].count];
    let sum = events[0].saturating_add(events[1]);
    let is_limited = is_limited(measure, thing(table, subject), sums, question);
    let is_of_durations = matches!(measure, Measure::Mean | Measure::P99 | Measure::Busy);
    if measure == Measure::Rate && sum == 0 || is_of_durations && sum < LEAST_EVENTS && !is_limited {
        return None;
    }
    let shown = |side: usize| match method {
        Method::Files => median(of_files[side].iter().flatten().copied()),
        Method::Blocks => measure.of(&wholes[side], exposures[side]),
    };
    let (base, new) = (shown(0), shown(1));
    // What there is on one side only has nothing to be held against, but for a limit.
    if base.is_none() && new.is_none() || (base.is_none() || new.is_none()) && !is_limited {
        return None;
    }
    let finding = Finding {
        noun: table.noun,
        counting: table.counting,
        scope: subject.scope.clone(),
        what: subject.what.clone(),
        waiting: subject.waiting,
        measure: Some(measure),
        figure: measure.id().to_owned(),
        unit: match measure {
            Measure::Rate => FigureUnit::Events,
            Measure::Mean | Measure::P99 => FigureUnit::Nanoseconds,
            Measure::Busy | Measure::Time(..) => FigureUnit::NanosecondsPer,
        },
        verdict: Verdict::Inconclusive,
        because: None,
        base,
        new,
        events,
        interval: None,
        p: None,
        floor: None,
        figures: [0, 1].map(|side: usize| figures[side].iter().map(Vec::len).sum()),
        worth: None,
    };
    Some(Candidate {
        finding,
        measure,
        relative: relative_floor(measure, thing(table, subject), sums, question),
        wholes,
        exposures,
        seconds,
        intervals,
        of_files,
        figures,
        logs,
        size: None,
        answer: None,
        is_judged: false,
    })
}

/// The figures of the blocks of one file.
fn of_blocks(
    counted: &Counted,
    measure: Measure,
    ranges: &[std::ops::Range<usize>],
    span: &Span,
    exposure: f64,
) -> Vec<(f64, f64)> {
    let all: f64 = span.intervals.iter().sum();
    let figure = |range: &std::ops::Range<usize>| {
        let mut sum = Tally::default();
        for (_, tally) in counted.intervals.range(range.clone()) {
            sum.add(tally);
        }
        let seconds: f64 = span.intervals[range.clone()].iter().sum();
        let exposure = exposure * seconds / all;
        let figure = measure.of(&sum, exposure)?;
        Some((figure, measure.to_log(figure, exposure, seconds)?))
    };
    ranges.iter().filter_map(figure).collect()
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| shared::median(&values))
}

impl Candidate {
    /// Compares the figures of both sides.
    fn weigh(&mut self, question: &Question, method: Method) {
        let flat = |side: &Vec<Vec<f64>>| side.concat();
        let [base, new] = [flat(&self.figures[0]), flat(&self.figures[1])];
        if base.is_empty() || new.is_empty() {
            return;
        }
        let floor = Floor {
            relative: self.relative,
            absolute: self.measure.absolute_floor(
                [&self.wholes[0], &self.wholes[1]],
                self.exposures,
                self.seconds,
                &question.floors,
            ),
        };
        let size = shared::size(&base, &new, floor);
        self.finding.floor = Some(size.floor).filter(|floor| floor.is_finite());
        match method {
            Method::Files => {
                let told = size.interval.filter(|interval| interval.confidence >= TOLD - 1e-9);
                self.finding.interval = told.map(|interval| [interval.low, interval.high]);
                self.is_judged = base.len() >= RUNS && new.len() >= RUNS;
            }
            Method::Blocks if base.len() >= LEAST_BLOCKS && new.len() >= LEAST_BLOCKS => {
                self.answer = {
                    let [base, new] = &*self.series();
                    serial::compare(base, new)
                };
                if let Some(Answer::Difference(difference)) = &self.answer {
                    self.finding.worth = Some(difference.worth);
                    let has_ratio = !self.finding.events.contains(&0);
                    self.finding.interval = has_ratio.then(|| difference.interval(TOLD).map(f64::exp));
                    self.is_judged = true;
                }
            }
            Method::Blocks => {}
        }
        self.is_judged &= self.measure != Measure::Rate || self.events() >= LEAST_EVENTS;
        self.is_judged &= !self.is_of_a_mix();
        self.size = Some(size);
    }

    /// What is compared of each block: its figure as a logarithm; where one side has no event at all, how much the other one varies
    /// says nothing of that, and what is compared is whether there was any.
    fn series(&self) -> Cow<'_, [Vec<Vec<f64>>; 2]> {
        if self.measure != Measure::Rate || !self.finding.events.contains(&0) {
            return Cow::Borrowed(&self.logs);
        }
        let is_any = |file: &Vec<f64>| file.iter().map(|figure| f64::from(u8::from(*figure > 0.0))).collect();
        Cow::Owned([0, 1].map(|side: usize| self.figures[side].iter().map(is_any).collect()))
    }

    /// How long events of several kinds take changes with their mix, though none of them takes longer.
    fn is_of_a_mix(&self) -> bool {
        let is_duration = matches!(self.measure, Measure::Mean | Measure::P99);
        is_duration && !matches!(self.finding.what, What::Row { .. })
    }

    fn events(&self) -> u64 {
        self.finding.events[0].saturating_add(self.finding.events[1])
    }

    fn judged(mut self, method: Method) -> Finding {
        let (verdict, because) = self.verdict(method);
        self.finding.verdict = verdict;
        self.finding.because = because;
        self.finding
    }

    fn verdict(&self, method: Method) -> (Verdict, Option<Because>) {
        let unclear = |because| (Verdict::Inconclusive, Some(because));
        let [base, new] = self.finding.figures;
        if self.is_of_a_mix() {
            return unclear(Because::Mix);
        }
        if self.finding.base.is_none() || self.finding.new.is_none() {
            return unclear(Because::OneSided);
        }
        let Some(size) = &self.size else { return unclear(self.too_few(method)) };
        if self.measure == Measure::Rate && self.events() < LEAST_EVENTS {
            return unclear(Because::FewEvents);
        }
        let least = match method {
            Method::Files => RUNS,
            Method::Blocks => LEAST_BLOCKS,
        };
        if base < least || new < least {
            return unclear(self.too_few(method));
        }
        if let Some(Answer::Correlated(worth)) = &self.answer {
            return unclear(Because::Correlated(worth[0].min(worth[1]).floor().max(0.0) as u32));
        }
        let relative = self.relative;
        let is_rare = self.finding.p.is_some_and(|p| p < SIGNIFICANT);
        if size.is_large() && is_rare {
            return self.changed(size.ratio > 1.0, relative, method);
        }
        if self.is_counting(relative) {
            return unclear(Because::FewEvents);
        }
        if size.is_large() {
            let is_rare_alone = self.p_alone().is_some_and(|p| p < SIGNIFICANT);
            return unclear(if is_rare_alone { Because::Chance } else { Because::Noise });
        }
        let is_same = match &self.answer {
            Some(Answer::Difference(difference)) => is_within(difference, size.floor),
            _ => size.is_same(),
        };
        if is_same { (Verdict::Same, None) } else { unclear(Because::Noise) }
    }

    /// Probability of a difference as clear as this one, were it the only one that is looked for.
    fn p_alone(&self) -> Option<f64> {
        match &self.answer {
            Some(Answer::Difference(difference)) => Some(difference.p()),
            Some(Answer::Correlated(_)) => None,
            None => {
                let base = self.logs[0].len();
                family::by_rearranging(&[self.by_file(0.0)], base).first().copied()
            }
        }
    }

    /// One figure per file, to be dealt out to the sides anew.
    fn by_file(&self, least_error: f64) -> Figures {
        let of_runs = self.logs.iter().flatten().map(|file| file.first().copied()).collect();
        Figures { of_runs, least_error }
    }

    /// A change that was shown, unless the recordings as wholes say otherwise.
    fn changed(&self, is_higher: bool, relative: f64, method: Method) -> (Verdict, Option<Because>) {
        let unclear = |because| (Verdict::Inconclusive, Some(because));
        let Some(change) = self.finding.change() else { return unclear(Because::Noise) };
        let size = if change >= 0.0 { change } else { 1.0 / (1.0 + change) - 1.0 };
        if (change > 0.0) != is_higher || size <= relative {
            // Of files, the middle one says another thing than all of them.
            let by_blocks = method == Method::Blocks;
            return unclear(if by_blocks { Because::Bursts } else { Because::Noise });
        }
        if method == Method::Blocks && self.files_overlap() {
            return unclear(Because::FilesDiffer);
        }
        let is_rate = self.measure == Measure::Rate;
        let verdict = match self.finding.events {
            [0, _] if is_rate => Verdict::New,
            [_, 0] if is_rate => Verdict::Gone,
            _ if is_higher => Verdict::Worse,
            _ => Verdict::Better,
        };
        (verdict, None)
    }

    /// Whether the figures differ by more than what matters, but by less than what counting may bring about.
    fn is_counting(&self, relative: f64) -> bool {
        let (Some(base), Some(new)) = (self.finding.base, self.finding.new) else { return false };
        let apart = (base - new).abs();
        let floor = self.size.as_ref().map_or(f64::INFINITY, |size| size.floor);
        let least = base.min(new);
        self.measure == Measure::Rate && apart > relative * least && (least == 0.0 || apart <= floor * least)
    }

    /// Whether, of several files a side, not all of one side are on the same side of all of the other.
    fn files_overlap(&self) -> bool {
        let [base, new] =
            [0, 1].map(|side: usize| self.of_files[side].iter().flatten().copied().collect::<Vec<f64>>());
        if base.len() < 2 && new.len() < 2 {
            return false;
        }
        let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        least(&new) <= most(&base) && least(&base) <= most(&new)
    }

    fn too_few(&self, method: Method) -> Because {
        let [base, new] = self.finding.figures;
        match method {
            Method::Files => Because::FewFiles(base, new),
            Method::Blocks if self.intervals.iter().any(|count| *count < LEAST_INTERVALS) => {
                Because::FewIntervals(self.intervals[0], self.intervals[1])
            }
            Method::Blocks => Because::FewTimed,
        }
    }
}

/// Whether changes below the floor are all that a difference allows: two one-sided tests of 5 % (D. J. Schuirmann 1987).
fn is_within(difference: &Difference, floor: f64) -> bool {
    let most = (1.0 + floor).ln() + 1e-9;
    let [low, high] = difference.interval(shared::CONFIDENT);
    low >= -most && high <= most
}

/// Finds the probabilities of a false alarm anywhere among all comparisons.
fn correct(candidates: &mut [Candidate], method: Method) {
    let judged: Vec<usize> = (0..candidates.len()).filter(|index| candidates[*index].is_judged).collect();
    let judged_ones = || judged.iter().map(|index| &candidates[*index]);
    let corrected = match method {
        Method::Blocks => {
            let alone: Vec<f64> = judged_ones().map(|one| one.p_alone().unwrap_or(1.0)).collect();
            family::holm(&alone)
        }
        Method::Files => {
            let error = |one: &Candidate| LEAST_ERROR * one.relative;
            let table: Vec<Figures> = judged_ones().map(|one| one.by_file(error(one))).collect();
            let base = candidates.first().map_or(0, |one| one.logs[0].len());
            family::by_rearranging(&table, base)
        }
    };
    for (index, p) in judged.into_iter().zip(corrected) {
        candidates[index].finding.p = Some(p);
    }
}
