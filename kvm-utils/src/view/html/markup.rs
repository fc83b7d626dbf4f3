//! Markup that what it shows cannot break: tags are literals, all else is escaped on its way in.

use serde::Serialize;

use crate::view::text;

/// A document, or a part of one.
#[derive(Debug, Default)]
pub struct Markup(String);

impl Markup {
    /// Markup as it is written here; nothing that comes from a host or a guest can get into it.
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, without characters that act unseen.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.escape(&text::safe(text, true));
        self
    }

    /// Attribute of the tag that is open.
    pub fn attr(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.0.push(' ');
        self.0.push_str(name);
        self.0.push_str("=\"");
        self.escape(&text::safe(value, true));
        self.0.push('"');
        self
    }

    /// A value as JSON, for a `script` element of a type that is not executed.
    ///
    /// # Errors
    ///
    /// serde_json's.
    pub fn json(&mut self, value: &impl Serialize) -> serde_json::Result<&mut Self> {
        for c in serde_json::to_string(value)?.chars() {
            match c {
                // `<` would let a string end the element or begin a comment; all of these occur in strings only.
                '<' | '>' | '&' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    self.0.push_str(&format!("\\u{:04x}", c as u32));
                }
                _ => self.0.push(c),
            }
        }
        Ok(self)
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.0
    }

    fn escape(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                _ => self.0.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_no_markup() {
        let mut markup = Markup::default();
        markup.raw("<a").attr("title", "\"><script>'&\u{202e}").raw(">").text("</a><b>\u{1b}").raw("</a>");
        assert_eq!(
            markup.finish(),
            r#"<a title="&quot;&gt;&lt;script&gt;&#39;&amp;\u{202e}">&lt;/a&gt;&lt;b&gt;\u{1b}</a>"#
        );
        let mut markup = Markup::default();
        markup.json(&["</script><!--\u{2028}\u{9b}&"]).unwrap();
        assert_eq!(markup.finish(), r#"["\u003c/script\u003e\u003c!--\u2028\u009b\u0026"]"#);
    }

    proptest! {
        #[test]
        fn nothing_gets_out_of_where_it_is_put(text in any::<String>()) {
            let mut markup = Markup::default();
            markup.text(&text).attr("x", &text);
            let written = markup.finish();
            prop_assert!(!written.contains(['<', '>', '\'', '\n']), "{}", written);
            prop_assert_eq!(written.matches('"').count(), 2);
            let mut markup = Markup::default();
            markup.json(&text)?;
            let written = markup.finish();
            prop_assert!(!written.contains(['<', '>', '&']), "{}", written);
            prop_assert_eq!(serde_json::from_str::<String>(&written)?, text);
        }
    }
}
