//! Texts on a terminal: made safe, measured in columns, cut and wrapped.
//!
//! Names of VMs come from whoever started them. Nothing in them may move the cursor, colour the screen, break a line
//! or turn the direction of writing.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` without anything that a terminal obeys: control characters and characters that act without being seen are
/// spelled out (`\u{1b}`), variation selectors left out since terminals disagree on their width. With `unicode` false
/// everything outside ASCII is spelled out.
#[must_use]
pub fn safe(text: &str, unicode: bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => safe.push(c),
            // Variation selectors 1 to 256.
            '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => {}
            _ if !unicode || c.is_control() || acts_unseen(c) => safe.extend(c.escape_default()),
            _ => safe.push(c),
        }
    }
    safe
}

/// Zero-width and bidirectional format characters, line and paragraph separators, fillers that show nothing.
fn acts_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// Columns that a text without escape sequences takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text if it fits into `max` columns, else as much of it as does, with `…` (or `~`) at the end.
#[must_use]
pub fn cut(text: &str, max: usize, unicode: bool) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    if max == 0 {
        return String::new();
    }
    let mut kept = prefix(text, max - 1).to_owned();
    kept.push(if unicode { '…' } else { '~' });
    kept
}

/// The longest beginning of `text` that fits into `max` columns.
#[must_use]
pub fn prefix(text: &str, max: usize) -> &str {
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let next = at + c.len_utf8();
        if width(&text[..next]) > max {
            break;
        }
        end = next;
    }
    &text[..end]
}

/// A line that may hold colours (SGR sequences, as [`super::table`] writes them), cut to `max` columns, and the
/// columns it takes; colours are kept, and ended where the line was cut.
#[must_use]
pub fn cut_styled(line: &str, max: usize) -> (String, usize) {
    let mut kept = String::with_capacity(line.len());
    let (mut used, mut full, mut in_sequence) = (0, false, false);
    for c in line.chars() {
        if in_sequence || c == '\u{1b}' {
            // A sequence ends with its first letter.
            in_sequence = !c.is_ascii_alphabetic();
            kept.push(c);
            continue;
        }
        let width = c.width().unwrap_or(0);
        full = full || used + width > max;
        if !full {
            used += width;
            kept.push(c);
        }
    }
    (kept, used)
}

/// Breaks `text` into lines of at most `max` columns, at spaces where possible; the spaces within a line stay as
/// they are.
#[must_use]
pub fn wrap(text: &str, max: usize) -> Vec<String> {
    let max = max.max(1);
    let mut lines = Vec::new();
    let mut rest = text.trim_end();
    while width(rest) > max {
        let fits = prefix(rest, max).len();
        // One character may be wider than a very narrow line.
        let fits = if fits == 0 { rest.chars().next().map_or(rest.len(), char::len_utf8) } else { fits };
        let at = if rest[fits..].starts_with(' ') {
            fits
        } else {
            rest[..fits].rfind(' ').filter(|at| !rest[..*at].trim().is_empty()).unwrap_or(fits)
        };
        lines.push(rest[..at].trim_end().to_owned());
        rest = rest[at..].trim_start();
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest.to_owned());
    }
    lines
}

/// Puts `items` beside each other, three spaces apart, into lines of at most `max` columns; lines after the first
/// begin with `indent` spaces. An item longer than a line is cut.
#[must_use]
pub fn pack(items: &[String], max: usize, indent: usize, unicode: bool) -> Vec<String> {
    const GAP: usize = 3;
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if width(line) + GAP + width(item) <= max => {
                line.push_str(&" ".repeat(GAP));
                line.push_str(item);
            }
            last => {
                let indent = if last.is_some() { indent } else { 0 };
                lines.push(format!("{:indent$}{}", "", cut(item, max.saturating_sub(indent), unicode)));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_in_a_name_reaches_the_terminal() {
        assert_eq!(safe("web-1 [a]", true), "web-1 [a]");
        assert_eq!(safe("\u{1b}[31mred\u{1b}]0;t\u{7}\r\n\t", true), r"\u{1b}[31mred\u{1b}]0;t\u{7}\r\n\t");
        assert_eq!(safe("a\u{9b}31m\u{202e}\u{200d}b", true), r"a\u{9b}31m\u{202e}\u{200d}b");
        assert_eq!(safe("データ-é", true), "データ-é");
        assert_eq!(safe("é…", false), r"\u{e9}\u{2026}");
        assert_eq!(safe("❤\u{fe0f}", true), "❤");
    }

    #[test]
    fn cutting_counts_columns_not_characters() {
        assert_eq!(cut("データベース", 7, true), "データ…");
        assert_eq!(cut("データベース", 6, true), "デー…");
        assert_eq!(cut("データベース", 12, true), "データベース");
        assert_eq!(cut("abcdef", 3, false), "ab~");
        assert_eq!(cut("abc", 0, true), "");
    }

    #[test]
    fn cutting_a_coloured_line_ends_its_colour() {
        assert_eq!(cut_styled("\u{1b}[1mabcdef\u{1b}[0m", 3), ("\u{1b}[1mabc\u{1b}[0m".to_owned(), 3));
        assert_eq!(cut_styled("abデc", 3), ("ab".to_owned(), 2));
        assert_eq!(cut_styled("abc", 3), ("abc".to_owned(), 3));
    }

    #[test]
    fn wrapping_breaks_at_spaces_and_keeps_wide_gaps() {
        assert_eq!(wrap("kvm-utils io     half of it", 80), ["kvm-utils io     half of it"]);
        assert_eq!(wrap("kvm-utils io     half of it", 14), ["kvm-utils io", "half of it"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("デデ", 1), ["デ", "デ"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn packing_moves_what_does_not_fit_to_the_next_line() {
        let items = ["one".to_owned(), "two".to_owned(), "three".to_owned()];
        assert_eq!(pack(&items, 80, 2, true), ["one   two   three"]);
        assert_eq!(pack(&items, 9, 2, true), ["one   two", "  three"]);
        assert_eq!(pack(&items, 5, 2, true), ["one", "  two", "  th…"]);
    }

    proptest! {
        #[test]
        fn lines_fit_and_no_word_is_lost(text in "\\PC{0,60}", max in 2usize..40) {
            let text = safe(&text, true);
            let lines = wrap(&text, max);
            for line in &lines {
                prop_assert!(width(line) <= max, "{:?}", line);
            }
            let solid = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(solid(&lines.concat()), solid(&text));
            prop_assert!(width(&cut(&text, max, true)) <= max);
            prop_assert!(width(&cut_styled(&text, max).0) <= max);
        }

        #[test]
        fn safe_text_has_no_control_characters(text in any::<String>()) {
            prop_assert!(!safe(&text, true).chars().any(char::is_control));
            prop_assert!(safe(&text, false).is_ascii());
        }
    }
}
