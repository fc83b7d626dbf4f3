//! A matrix in a terminal: numbers always, colours where they are seen. What is too wide is put together in blocks.

use super::matrix::Matrix;
use super::table::{grouped, time};

/// From green to red, of the 256 colours that terminals have.
const COLOURS: [u8; 7] = [22, 28, 64, 100, 136, 130, 124];

/// CPUs that share a row or a column.
type Block<'a> = &'a [usize];

/// The map for so many columns of text.
pub fn text(matrix: &Matrix, hz: u64, width: usize, colour: bool) -> String {
    let cells: Vec<f64> = matrix.p50.iter().flatten().flatten().copied().collect();
    let (Some(least), Some(most)) =
        (cells.iter().copied().reduce(f64::min), cells.iter().copied().reduce(f64::max))
    else {
        return String::new();
    };
    let indices: Vec<usize> = (0..matrix.cpus.len()).collect();
    let (size, rows) = (1..=indices.len())
        .map(|size| (size, lay_out(matrix, &indices.chunks(size).collect::<Vec<_>>())))
        .find(|(size, rows)| *size == indices.len() || length(rows) <= width)
        .unwrap_or_default();
    let blocks = match size {
        1 => String::new(),
        _ => format!(", medians of blocks of {size} by {size}; each pair is in JSON"),
    };
    let mut text = format!("median from each vCPU (row) to each (column), TSC cycles{blocks}\n");
    // What hardly differs shall not look as if it did: red is at least half as much again as the least.
    let range = (most - least).max(least / 2.0);
    let shade = |value: f64| {
        let at = if range > 0.0 { (value - least) / range } else { 0.0 };
        COLOURS[((at * COLOURS.len() as f64) as usize).min(COLOURS.len() - 1)]
    };
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].0.len()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|((cell, value), &width)| {
            let cell = format!("{cell:>width$}");
            match value.filter(|_| colour) {
                Some(value) => format!("\x1b[97;48;5;{}m{cell}\x1b[0m", shade(value)),
                None => cell,
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join(" ").trim_end());
        text.push('\n');
    }
    let pair = |wanted: f64| {
        let at = |(row, values): (usize, &Vec<Option<f64>>)| {
            Some((row, values.iter().position(|value| *value == Some(wanted))?))
        };
        matrix.p50.iter().enumerate().find_map(at).map_or(String::new(), |(src, dst)| {
            format!(
                "{} -> {}: {} ({})",
                matrix.cpus[src],
                matrix.cpus[dst],
                grouped(wanted),
                time(wanted / hz.max(1) as f64)
            )
        })
    };
    text.push_str(&format!("least {}, most {}\n", pair(least), pair(most)));
    text
}

/// Text and value of each cell, titles first.
type Row = Vec<(String, Option<f64>)>;

fn lay_out(matrix: &Matrix, blocks: &[Block]) -> Vec<Row> {
    let title = |block: &Block| match (block.first(), block.last()) {
        (Some(&first), Some(&last)) if first != last => {
            format!("{}-{}", matrix.cpus[first], matrix.cpus[last])
        }
        (Some(&first), _) => matrix.cpus[first].to_string(),
        _ => String::new(),
    };
    let mut rows = vec![
        std::iter::once(String::new())
            .chain(blocks.iter().map(title))
            .map(|title| (title, None))
            .collect::<Row>(),
    ];
    for from in blocks {
        let mut row = vec![(title(from), None)];
        for to in blocks {
            let values = from.iter().flat_map(|&src| to.iter().filter_map(move |&dst| matrix.p50[src][dst]));
            let middle = median(values.collect());
            row.push((middle.map_or_else(|| "-".to_owned(), grouped), middle));
        }
        rows.push(row);
    }
    rows
}

fn length(rows: &[Row]) -> usize {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].0.len() + 1).max().unwrap_or(0);
    (0..columns).map(width).sum()
}

/// The lower one of two in the middle, so that it is a value that was seen.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(cpus: Vec<usize>) -> Matrix {
        let cell = |src: usize, dst: usize| (src != dst).then(|| 10_000.0 + (src * 10 + dst) as f64);
        let p50 = cpus.iter().map(|&src| cpus.iter().map(|&dst| cell(src, dst)).collect()).collect();
        Matrix { unit: "cycles", p50, cpus }
    }

    #[test]
    fn two_cpus_are_two_numbers() {
        assert_eq!(
            text(&matrix(vec![0, 1]), 1_000_000_000, 100, false),
            "median from each vCPU (row) to each (column), TSC cycles\n       0      1\n0      - 10,001\n1 10,010      -\n\
             least 0 -> 1: 10,001 (10.00us), most 1 -> 0: 10,010 (10.01us)\n"
        );
    }

    #[test]
    fn many_cpus_fit_into_the_terminal_with_their_own_numbers() {
        let text = text(&matrix((0..=190).step_by(2).collect()), 1_000_000_000, 100, false);
        assert!(text.lines().skip(1).all(|line| line.len() <= 100), "{text}");
        assert!(text.contains("blocks of"), "{text}");
        assert!(text.lines().nth(1).unwrap().trim_start().starts_with("0-"), "{text}");
        assert!(text.contains("190\n"), "{text}");
        assert!(text.contains("most 190 -> 188: 12,088"), "{text}");
    }

    #[test]
    fn colours_are_for_terminals() {
        let plain = text(&matrix(vec![0, 3]), 1, 100, false);
        let coloured = text(&matrix(vec![0, 3]), 1, 100, true);
        assert!(!plain.contains('\x1b'));
        assert_eq!(coloured.matches("\x1b[97;48;5;").count(), 2);
        // They are nearly the same, and look like it.
        assert!(coloured.contains("10,003") && coloured.matches("48;5;22m").count() == 2);
        let far = text(&matrix(vec![0, 3000]), 1, 100, true);
        assert!(far.contains("48;5;22m") && far.contains("48;5;124m"));
    }
}
