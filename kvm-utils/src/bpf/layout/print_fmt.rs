//! The names that the running kernel itself gives to exit reasons: the `__print_symbolic` tables in the print format
//! of `kvm_exit`.

use thiserror::Error;

use super::format::EventFormat;
use crate::decode::{ExitReason, Isa};

/// Parentheses that an expression may nest; the kernel's tables have one or none.
const MAX_DEPTH: u32 = 16;

/// Why the names could not be read from a print format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrintFmtError {
    /// Something that is not C as the kernel writes it.
    #[error("cannot read the print format at byte {at}: expected {expected}")]
    Syntax {
        /// Byte position in the print format.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// Not of the form `isa == 1 ? VMX's table : SVM's table`.
    #[error(
        "the print format of {event:?} does not choose between two tables of exit reasons by isa: its names \
         cannot be compared"
    )]
    NoReasons {
        /// The event.
        event: String,
    },
}

/// One `__print_symbolic(value, { number, "name" }, ...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolTable {
    /// Byte position of the table in the print format.
    pub at: usize,
    /// The C expression whose value is named, e.g. `REC->exit_reason & 0xffff`.
    pub value: String,
    /// Numbers as the kernel's `unsigned long`, and their names.
    pub entries: Vec<(u64, String)>,
}

/// All tables of a print format, in order.
///
/// # Errors
/// [`PrintFmtError::Syntax`] if a table is malformed or uses names where numbers are expected.
pub fn symbol_tables(print_fmt: &str) -> Result<Vec<SymbolTable>, PrintFmtError> {
    let mut scan = Scanner { text: print_fmt, at: 0 };
    let mut tables = Vec::new();
    while let Some(byte) = scan.peek() {
        if byte == b'"' {
            scan.string()?;
        } else if byte.is_ascii_alphabetic() || byte == b'_' {
            let (at, word) = (scan.at, scan.word());
            if matches!(word, "__print_symbolic" | "__print_symbolic64") {
                tables.push(scan.table(at)?);
            }
        } else {
            scan.at += 1;
        }
    }
    Ok(tables)
}

/// The names of both vendors' exit reasons as one kernel has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonNames {
    /// Each named reason, VMX's first, in the order of the kernel's tables.
    pub names: Vec<(ExitReason, String)>,
}

impl ReasonNames {
    /// Reads the names from the format of `kvm_exit`.
    ///
    /// # Errors
    /// [`PrintFmtError`] if its print format is not of the known form.
    pub fn new(format: &EventFormat) -> Result<Self, PrintFmtError> {
        let text = &format.print_fmt;
        let tables = symbol_tables(text)?;
        let mut reasons = tables.iter().filter(|table| table.value.contains("exit_reason"));
        let chosen = match (reasons.next(), reasons.next(), reasons.next()) {
            (Some(vmx), Some(svm), None) => text
                .get(..vmx.at)
                .is_some_and(|before| before.contains("isa == 1"))
                .then_some([(Isa::Vmx, vmx), (Isa::Svm, svm)]),
            _ => None,
        };
        let Some(chosen) = chosen else {
            return Err(PrintFmtError::NoReasons { event: format.name.clone() });
        };
        let names = chosen
            .into_iter()
            .flat_map(|(isa, table)| table.entries.iter().map(move |entry| (isa, entry)))
            // The event holds 32 bits of a reason, the tables up to 64 (-1 is SVM's invalid state).
            .map(|(isa, (code, name))| (ExitReason::new(isa, *code as u32), name.clone()))
            .collect();
        Ok(Self { names })
    }

    /// Reasons that this kernel calls something else than [`ExitReason::name`] does, with the kernel's name.
    pub fn differences(&self) -> impl Iterator<Item = (ExitReason, &str)> {
        self.names
            .iter()
            .filter(|(reason, name)| reason.name() != name.as_str())
            .map(|(reason, name)| (*reason, name.as_str()))
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error<T>(&self, expected: &'static str) -> Result<T, PrintFmtError> {
        Err(PrintFmtError::Syntax { at: self.at, expected })
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Takes `token`, after any space, if it is next.
    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(token));
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &'static str) -> Result<(), PrintFmtError> {
        if self.take(token) { Ok(()) } else { self.error(token) }
    }

    fn word(&mut self) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// A C string; an escape stands for the character behind the backslash.
    fn string(&mut self) -> Result<String, PrintFmtError> {
        self.expect("\"")?;
        let mut bytes = Vec::new();
        loop {
            let Some(mut byte) = self.peek() else { return self.error("the end of a string") };
            self.at += 1;
            if byte == b'"' {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            if byte == b'\\' {
                let Some(escaped) = self.peek() else { return self.error("the end of a string") };
                byte = escaped;
                self.at += 1;
            }
            bytes.push(byte);
        }
    }

    /// What follows the word `__print_symbolic`.
    fn table(&mut self, at: usize) -> Result<SymbolTable, PrintFmtError> {
        self.expect("(")?;
        let start = self.at;
        let mut depth = 0_u32;
        loop {
            match self.peek() {
                Some(b',') if depth == 0 => break,
                Some(b'(') => depth += 1,
                Some(b')') if depth > 0 => depth -= 1,
                Some(b'"' | b')') | None => return self.error("a value and a comma"),
                Some(_) => {}
            }
            self.at += 1;
        }
        let value = self.text.get(start..self.at).unwrap_or_default().trim().to_owned();
        let mut entries = Vec::new();
        while self.take(",") {
            self.expect("{")?;
            let number = self.or(0)?;
            self.expect(",")?;
            self.skip_space();
            let name = self.string()?;
            self.expect("}")?;
            entries.push((number, name));
        }
        self.expect(")")?;
        Ok(SymbolTable { at, value, entries })
    }

    /// A constant expression, in C's order of precedence: `|`, `<<`, `+` and `-`, then signs and parentheses.
    fn or(&mut self, depth: u32) -> Result<u64, PrintFmtError> {
        let mut value = self.shift(depth)?;
        while self.take("|") {
            value |= self.shift(depth)?;
        }
        Ok(value)
    }

    fn shift(&mut self, depth: u32) -> Result<u64, PrintFmtError> {
        let mut value = self.sum(depth)?;
        while self.take("<<") {
            let by = u32::try_from(self.sum(depth)?).unwrap_or(u32::MAX);
            value = value.checked_shl(by).unwrap_or(0);
        }
        Ok(value)
    }

    fn sum(&mut self, depth: u32) -> Result<u64, PrintFmtError> {
        let mut value = self.unary(depth)?;
        loop {
            if self.take("+") {
                value = value.wrapping_add(self.unary(depth)?);
            } else if self.take("-") {
                value = value.wrapping_sub(self.unary(depth)?);
            } else {
                return Ok(value);
            }
        }
    }

    fn unary(&mut self, depth: u32) -> Result<u64, PrintFmtError> {
        if depth > MAX_DEPTH {
            return self.error("a simpler expression");
        }
        if self.take("(") {
            let value = self.or(depth + 1)?;
            self.expect(")")?;
            Ok(value)
        } else if self.take("-") {
            Ok(self.unary(depth + 1)?.wrapping_neg())
        } else if self.take("~") {
            Ok(!self.unary(depth + 1)?)
        } else {
            self.number()
        }
    }

    /// `12`, `0x0c`, with any of the suffixes u, l, ll.
    fn number(&mut self) -> Result<u64, PrintFmtError> {
        self.skip_space();
        let start = self.at;
        let word = self.word().trim_end_matches(['u', 'U', 'l', 'L']);
        let value = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => word.parse(),
        };
        value.or_else(|_| {
            self.at = start;
            self.error("a number")
        })
    }
}
