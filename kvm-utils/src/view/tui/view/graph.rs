//! Bars and curves out of characters.

use ratatui_core::{buffer::Buffer, layout::Rect, style::Style};

use super::{Look, put};
use crate::view::tui::state::{BUCKETS, Ledger};

/// Heights of an eighth to all of a character.
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The same order without Unicode.
const STEPS: [char; 8] = ['_', '-', '~', '=', '+', '*', '%', '#'];

/// The bucket of idle time: the rest of its part of a bar shows nothing.
const IDLE: usize = 4;

/// Draws where time goes: each bucket begins with its letter.
pub fn ledger(ledger: &Ledger, look: Look, area: Rect, buffer: &mut Buffer) {
    let mut column = 0;
    for (bucket, places) in ledger.places(usize::from(area.width)).into_iter().enumerate() {
        let (_, letter, _) = BUCKETS[bucket];
        let rest = match bucket {
            IDLE => look.char('·', '.'),
            _ if look.color => ' ',
            _ => letter,
        };
        for place in 0..places {
            let shown = if place == 0 { letter } else { rest };
            column += put(buffer, area, column, shown.encode_utf8(&mut [0; 4]), look.bucket(bucket));
        }
    }
}

/// Draws values as columns of characters, `area.height` high, up to `most`. Nothing is drawn where nothing is known, a
/// point where nothing happened.
pub fn curve(values: &[Option<f64>], most: f64, look: Look, style: Style, area: Rect, buffer: &mut Buffer) {
    let scale = if look.unicode { EIGHTHS } else { STEPS };
    let eighths = usize::from(area.height) * 8;
    for (value, column) in values.iter().zip(0..area.width) {
        let Some(value) = value else { continue };
        let height = if *value <= 0.0 || most <= 0.0 {
            0
        } else {
            ((value / most * eighths as f64).ceil() as usize).clamp(1, eighths)
        };
        for row in 0..area.height {
            let below = usize::from(area.height - 1 - row) * 8;
            let shown = match height.saturating_sub(below).min(8) {
                0 if height == 0 && below == 0 => look.char('·', '.'),
                0 => continue,
                full => scale[full - 1],
            };
            let line = Rect { y: area.y + row, height: 1, ..area };
            put(buffer, line, column, shown.encode_utf8(&mut [0; 4]), style);
        }
    }
}
