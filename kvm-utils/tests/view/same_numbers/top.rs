//! Reads back the full screen, on its way down from the VMs to the rows of each vCPU, as keys lead there.

use std::collections::BTreeMap;

use kvm_utils::model::Report;
use kvm_utils::view::tui::{Key, Look, Offer, State, draw};
use ratatui_core::{buffer::Buffer, layout::Rect};

use super::{Known, Of, Shown, Where, Whole, all, columns, edges_of, is_right, is_seen, seen};

/// Every column fits beside the others, and every row below.
const SIZE: (u16, u16) = (1000, 64);

const EXITS: (&str, Whole) = ("EXITS", Whole::Exits);
const WHOLE: [(&str, Whole); 3] =
    [("EXITS/s", Whole::ExitRate), ("IN EXITS", Whole::Busy), ("WAITING", Whole::Waiting)];
const LEDGER: [(&str, Whole); 2] = [("GUEST", Whole::Guest), ("STEAL", Whole::Steal)];
const PERCENTILES: [(&str, Whole); 2] = [("p50", Whole::P50), ("p99", Whole::P99)];

/// What is known of a VM or a vCPU as a whole is in the tables of these, the rest in its rows.
pub fn shows(report: &Report, place: &Where) -> bool {
    match place {
        Where::Counted => true,
        Where::Whole(_, Whole::Events) => false,
        Where::Whole(_, Whole::Guest | Whole::Steal) => report.noun == "time",
        Where::Whole(..) => true,
        // In its own table.
        Where::Cell(Of::Vcpu(..), _, id) => columns(report).any(|column| column.id == *id),
        Where::Cell(of, row, id) => is_seen(report, *of, *row, id),
        _ => false,
    }
}

pub fn read(report: &Report) -> Vec<(Where, Shown)> {
    let offer = Offer { noun: report.noun, runs: true, can_start: false, failure: None };
    let mut top = Top { report, all: all(report), state: State::new(vec![offer]), shown: Vec::new() };
    top.state.update(vec![report.clone()]);
    top.vms();
    top.shown
}

struct Top<'a> {
    report: &'a Report,
    all: BTreeMap<Where, Known>,
    state: State,
    shown: Vec<(Where, Shown)>,
}

impl Top<'_> {
    fn vms(&mut self) {
        let lines = self.screen();
        self.read_proof(&lines);
        let count = self.report.vms.len();
        if count == 0 {
            return;
        }
        let mut titles = WHOLE.to_vec();
        if self.report.noun == "time" {
            titles.extend(LEDGER);
        }
        titles.extend(PERCENTILES);
        let table = Table::find(&lines, &titles, count);
        let pids = table.words("PID");
        let vm = |pid: &String| self.report.vms.iter().position(|vm| vm.pid.to_string() == *pid);
        let vms: Vec<usize> = pids.iter().map(|pid| vm(pid).expect("a VM")).collect();
        for (line, vm) in vms.into_iter().enumerate() {
            self.read_whole(&table, line, Of::Vm(vm), &titles);
            self.open(line);
            self.vcpus(vm);
            self.state.key(Key::Esc);
        }
    }

    fn vcpus(&mut self, vm: usize) {
        let lines = self.screen();
        let mut titles = vec![EXITS];
        titles.extend(WHOLE);
        if self.report.noun == "time" {
            titles.extend(LEDGER);
        }
        titles.extend(PERCENTILES);
        let vcpus = self.report.vms[vm].vcpus.len();
        let table = Table::find(&lines, &titles, 1 + vcpus);
        let mut of = Vec::new();
        for id in table.words("VCPU") {
            of.push(match id.as_str() {
                "all" => Of::Vm(vm),
                id => Of::Vcpu(vm, id.parse().expect("a vCPU")),
            });
        }
        for (line, of) in of.into_iter().enumerate() {
            self.read_whole(&table, line, of, &titles);
            self.open(line);
            self.rows(of);
            self.state.key(Key::Esc);
        }
    }

    /// Of a vCPU or of all.
    fn rows(&mut self, of: Of) {
        let other = self.report.noun != "exits";
        if other {
            self.state.key(Key::Tab);
        }
        let rows: Vec<(Of, usize)> = match of {
            Of::Vcpu(vm, vcpu) => {
                (0..self.report.vms[vm].vcpus[vcpu].rows.len()).map(|row| (of, row)).collect()
            }
            Of::Vm(vm) => seen(self.report, vm),
            Of::Totals => Vec::new(),
        };
        let lines = self.screen();
        self.read_proof(&lines);
        if !rows.is_empty() {
            let titles: Vec<_> = columns(self.report).map(|column| (column.title, ())).collect();
            let table = Table::find(&lines, &titles, rows.len());
            self.read_rows(&table, rows);
        }
        if other {
            self.state.key(Key::Esc);
        }
    }

    /// Goes to a line and down from it.
    fn open(&mut self, line: usize) {
        self.state.key(Key::Home);
        for _ in 0..line {
            self.state.key(Key::Down);
        }
        self.state.key(Key::Enter);
    }

    /// What is on the screen, a character for each of its columns.
    fn screen(&mut self) -> Vec<Vec<char>> {
        let (width, height) = SIZE;
        let mut buffer = Buffer::empty(Rect { x: 0, y: 0, width, height });
        let drawn = draw(&self.state, Look { color: false, unicode: true }, &mut buffer);
        self.state.drawn(drawn);
        let lines = buffer.content().chunks(usize::from(width));
        lines
            .map(|line| line.iter().map(|cell| cell.symbol().chars().next().unwrap_or(' ')).collect())
            .collect()
    }

    fn read_proof(&mut self, lines: &[Vec<char>]) {
        let mut lines = lines.iter().map(|line| line.iter().collect::<String>());
        let proof = lines.find_map(|line| line.strip_prefix("proof  counted ").map(str::to_owned));
        let proof = proof.expect("a proof");
        let counted = proof.split(' ').next().unwrap_or_default().trim_end_matches(',');
        self.shown.push((Where::Counted, Shown::Rounded(counted.to_owned())));
    }

    fn read_whole(&mut self, table: &Table, line: usize, of: Of, titles: &[(&str, Whole)]) {
        for ((_, what), text) in titles.iter().zip(table.numbers(line)) {
            self.shown.push((Where::Whole(of, *what), Shown::Rounded(text)));
        }
    }

    /// Rows come in an order of their own and may say the same of themselves: each line is taken for the row, of those
    /// that are left, of which it shows the most numbers.
    fn read_rows(&mut self, table: &Table, mut rows: Vec<(Of, usize)>) {
        let ids: Vec<&'static str> = columns(self.report).map(|column| column.id).collect();
        let mut lines: Vec<Vec<String>> = (0..rows.len()).map(|line| table.numbers(line)).collect();
        let right = |line: &[String], (of, row): (Of, usize)| {
            let cells = ids.iter().zip(line);
            let is_right = |(id, text): (&&'static str, &String)| {
                let (cell, unit, waiting) = &self.all[&Where::Cell(of, row, id)];
                is_right(&Shown::Rounded(text.clone()), cell, *unit, *waiting)
            };
            cells.filter(|cell| is_right(*cell)).count()
        };
        for least in (0..=ids.len()).rev() {
            lines.retain(|line| {
                let Some(at) = rows.iter().position(|row| right(line, *row) >= least) else { return true };
                let (of, row) = rows.remove(at);
                for (id, text) in ids.iter().zip(line) {
                    self.shown.push((Where::Cell(of, row, id), Shown::Rounded(text.clone())));
                }
                false
            });
        }
    }
}

/// A table on the screen.
struct Table {
    titles: String,
    /// Where its columns of numbers end.
    edges: Vec<usize>,
    lines: Vec<Vec<char>>,
}

impl Table {
    /// The one with these titles over numbers, and so many lines.
    fn find<T>(screen: &[Vec<char>], titles: &[(&str, T)], count: usize) -> Self {
        let titles: Vec<&str> = titles.iter().map(|(title, _)| *title).collect();
        let text = |line: &Vec<char>| line.iter().collect::<String>();
        let find = |(y, line): (usize, &Vec<char>)| Some((y, edges_of(text(line).trim_end(), &titles)?));
        let all = || screen.iter().map(text).collect::<Vec<_>>().join("\n");
        let Some((y, edges)) = screen.iter().enumerate().find_map(find) else {
            unreachable!("no {titles:?} in\n{}", all());
        };
        let below = y + 1 + count;
        assert!(
            text(&screen[below]).trim().is_empty(),
            "more than {count} lines, or no room for them:\n{}",
            all()
        );
        Self { titles: text(&screen[y]), edges, lines: screen[y + 1..below].to_vec() }
    }

    /// The numbers of a line.
    fn numbers(&self, line: usize) -> Vec<String> {
        let line = &self.lines[line];
        let number = |edge: &usize| {
            let before = &line[..*edge];
            let start = before.iter().rposition(|c| *c == ' ').map_or(0, |space| space + 1);
            before[start..].iter().collect()
        };
        self.edges.iter().map(number).collect()
    }

    /// The words in a column of texts, line by line.
    fn words(&self, title: &str) -> Vec<String> {
        let at = self.titles.find(&format!(" {title}")).expect("a title") + 1;
        let at = self.titles[..at].chars().count();
        self.lines.iter().map(|line| line[at..].iter().take_while(|c| **c != ' ').collect()).collect()
    }
}
