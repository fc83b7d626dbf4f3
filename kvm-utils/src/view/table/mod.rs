//! The table: for every VM a line that says whose numbers these are and whether to worry, the rows, and last whether
//! to believe them and what to look at next. No line is wider than the terminal.

pub(super) mod fit;
mod grid;
mod whose;
pub(super) mod words;

use crate::model::{Report, Row, Vm};
use fit::{Block, Document, Line, Paint};

/// Columns of a table that goes to no terminal.
pub const PIPE_WIDTH: usize = 120;

/// What to show a table for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// A table per VM.
    #[default]
    Vm,
    /// A table per vCPU.
    Vcpu,
    /// One table over all VMs.
    Reason,
}

/// How to write a table. The caller knows the terminal; [`Style::default`] is right for a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; `None` means [`PIPE_WIDTH`].
    pub width: Option<usize>,
    /// Lines to use at most; what does not fit is left out and counted. `None` is no limit.
    pub height: Option<usize>,
    /// Write colours (SGR sequences); nothing depends on seeing them.
    pub color: bool,
    /// Write characters outside ASCII; without, they are spelled out.
    pub unicode: bool,
    /// What to show a table for.
    pub by: By,
}

impl Default for Style {
    fn default() -> Self {
        Self { width: None, height: None, color: false, unicode: true, by: By::Vm }
    }
}

impl Style {
    fn columns(&self) -> usize {
        self.width.unwrap_or(PIPE_WIDTH).max(1)
    }
}

/// Writes a report as tables; every line ends with a newline.
#[must_use]
pub fn render(report: &Report, style: &Style) -> String {
    let mut document = Document {
        lead: Vec::new(),
        blocks: Vec::new(),
        unit: ("VM", "VMs"),
        hidden: 0,
        proof: words::proof(report, style, false),
        brief_proof: words::proof(report, style, true),
        extra: words::advice(report, style),
    };
    let totals_only = style.by == By::Reason || report.vms.is_empty() && !report.totals.is_empty();
    if report.vms.is_empty() && report.totals.is_empty() {
        document.lead = words::nothing(report, style);
    } else if totals_only {
        document.lead = words::overview(report, style);
        document.blocks.push(totals(report, style));
    } else {
        if report.vms.len() > 1 {
            document.lead = words::overview(report, style);
        }
        // A block takes a line at least: those beyond the last line need not be laid out.
        let most = style.height.unwrap_or(usize::MAX);
        if style.by == By::Vcpu {
            document.unit = ("vCPU", "vCPUs");
            document.blocks = vcpus(report, style, most);
            let all: usize = report.vms.iter().map(|vm| vm.vcpus.len().max(1)).sum();
            document.hidden = all - document.blocks.len();
        } else {
            document.blocks = vms(report, style, most);
            document.hidden = report.vms.len() - document.blocks.len();
        }
    }
    fit::lines(document, style).iter().map(|line| line.render(style)).collect()
}

/// The block of all VMs together.
fn totals(report: &Report, style: &Style) -> Block {
    let rows: Vec<&Row> = report.totals.iter().collect();
    let grid = grid::grid(report.columns, &rows, style, 0);
    let mut block = Block::default();
    if !rows.is_empty() {
        block.head.push(Line::new(grid.header, Paint::Plain));
    }
    block.rows = grid.lines.into_iter().flatten().collect();
    block
}

/// A block per VM, `most` at most. One grid for all, so that columns line up from VM to VM.
fn vms(report: &Report, style: &Style, most: usize) -> Vec<Block> {
    let shown = || report.vms.iter().take(most);
    let rows: Vec<&Row> = shown().flat_map(|vm| rows_of(vm, report)).collect();
    let grid = grid::grid(report.columns, &rows, style, 0);
    let mut lines = grid.lines.into_iter();
    let mut blocks = Vec::new();
    for vm in shown() {
        let mut head = words::vm(vm, report, style);
        let count = rows_of(vm, report).count();
        if count > 0 {
            head.push(Line::new(grid.header.clone(), Paint::Plain));
        }
        let rows = lines.by_ref().take(count).flatten().collect();
        blocks.push(Block { apart: report.vms.len() > 1, head, rows });
    }
    blocks
}

/// A VM's rows: those over all its vCPUs; before them, where each has only one, those of each, unless that is all.
pub(in crate::view) fn rows_of<'a>(vm: &'a Vm, report: &Report) -> impl Iterator<Item = &'a Row> + use<'a> {
    let each = if report.one_row { vm.vcpus.as_slice() } else { &[] };
    let sum = if each.len() == 1 { &[] } else { vm.rows.as_slice() };
    each.iter().flat_map(|vcpu| &vcpu.rows).chain(sum)
}

/// A block per vCPU, `most` at most, the first of each VM with the VM's heading and the columns' titles.
fn vcpus(report: &Report, style: &Style, most: usize) -> Vec<Block> {
    let all = || report.vms.iter().flat_map(|vm| &vm.vcpus);
    let rows: Vec<&Row> = all().take(most).flat_map(|vcpu| &vcpu.rows).collect();
    let grid = grid::grid(report.columns, &rows, style, 2);
    let mut lines = grid.lines.into_iter();
    let mut blocks = Vec::new();
    for vm in &report.vms {
        let mut head = words::vm(vm, report, style);
        if vm.vcpus.iter().any(|vcpu| !vcpu.rows.is_empty()) {
            head.push(Line::new(grid.header.clone(), Paint::Plain));
        }
        let mut block = Block { apart: report.vms.len() > 1, head, ..Block::default() };
        for (i, vcpu) in vm.vcpus.iter().enumerate() {
            if i > 0 {
                blocks.push(std::mem::take(&mut block));
            }
            if blocks.len() >= most {
                return blocks;
            }
            block.head.extend(words::vcpu(vcpu, report, style));
            block.rows = lines.by_ref().take(vcpu.rows.len()).flatten().collect();
        }
        blocks.push(block);
        if blocks.len() >= most {
            break;
        }
    }
    blocks
}
