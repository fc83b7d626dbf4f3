//! Where the fields of a classic tracepoint lie: `events/kvm/*/format` of tracefs, as the running kernel says it.
//!
//! Offsets are bytes from the start of the record, which includes the common fields. Nothing depends on a kernel
//! version: distribution kernels carry layouts of later ones.

use thiserror::Error;

/// Why a `format` file could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// The file lacks its `name:` or `ID:` line, or they make no sense.
    #[error(
        "not a tracepoint's format file: the line {line:?} is missing or malformed; is tracefs mounted on \
         /sys/kernel/tracing?"
    )]
    NotFormat {
        /// What was looked for, e.g. `name:`.
        line: &'static str,
    },
    /// A `field:` line that does not read as `field:TYPE NAME; offset:N; size:N; signed:N;`.
    #[error("line {number} of the format file does not describe a field: {text:?}")]
    BadField {
        /// Line number, from 1.
        number: usize,
        /// The line, shortened.
        text: String,
    },
    /// The format of another tracepoint.
    #[error("this is the format of {found:?}, not of {wanted:?}")]
    WrongEvent {
        /// The event asked for.
        wanted: &'static str,
        /// The event described.
        found: String,
    },
    /// A field that cannot be missed.
    #[error("this kernel's {event} has no field {field:?}: its layout is one this version does not know")]
    MissingField {
        /// The tracepoint.
        event: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field that is not an integer of a size that can be read.
    #[error("field {field:?} of {event} has {size} bytes, which this version cannot read")]
    WrongSize {
        /// The tracepoint.
        event: &'static str,
        /// The field.
        field: &'static str,
        /// Its size in bytes.
        size: u32,
    },
}

/// How many elements a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// It is no array.
    One,
    /// `name[N]`, where the kernel says N.
    Fixed(u32),
    /// An array whose length is not a number (a macro's name), or `__data_loc`: the field then holds position and
    /// length of the data.
    Dynamic,
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its C type without array bounds.
    pub ty: String,
    /// Bytes from the start of the record.
    pub offset: u32,
    /// Bytes of the whole field.
    pub size: u32,
    /// Whether it is a signed integer.
    pub signed: bool,
    /// Whether it is an array.
    pub elements: Elements,
}

impl Field {
    /// Parses `TYPE NAME; offset:N; size:N; signed:N;`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let declaration = parts.next()?;
        let (mut offset, mut size, mut signed) = (None, None, false);
        for part in parts.filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once(':')?;
            match key {
                "offset" => offset = Some(value.parse::<u32>().ok()?),
                "size" => size = Some(value.parse::<u32>().ok()?),
                "signed" => signed = value.parse::<u32>().ok()? != 0,
                _ => {}
            }
        }
        let (offset, size) = (offset?, size?);
        offset.checked_add(size)?;
        let (declaration, mut elements) = match declaration.strip_suffix(']') {
            None => (declaration, Elements::One),
            Some(rest) => {
                let (rest, count) = rest.rsplit_once('[')?;
                (rest, count.parse().map_or(Elements::Dynamic, Elements::Fixed))
            }
        };
        let name_at = declaration.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')? + 1;
        let (ty, name) = declaration.split_at_checked(name_at)?;
        let ty = ty.trim();
        if name.is_empty() || ty.is_empty() {
            return None;
        }
        if ty.starts_with("__data_loc") || ty.starts_with("__rel_loc") {
            elements = Elements::Dynamic;
        }
        Some(Self { name: name.to_owned(), ty: ty.to_owned(), offset, size, signed, elements })
    }
}

/// A parsed `format` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFormat {
    /// The event's name without its group, e.g. `kvm_exit`.
    pub name: String,
    /// The number under which perf knows the event on this boot.
    pub id: u32,
    /// All fields, the common ones first, in the order of the file.
    pub fields: Vec<Field>,
    /// The C expression that prints a record, without the words `print fmt:`; empty if the file ends before it.
    pub print_fmt: String,
}

impl EventFormat {
    /// Parses the text of a `format` file.
    ///
    /// # Errors
    /// [`FormatError`] if the text is something else or a field line is malformed. Lines that are none of the known
    /// ones are skipped.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let (mut name, mut id, mut print_fmt, mut fields) = (None, None, String::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            if let Some(rest) = line.strip_prefix("name:") {
                name = Some(rest.trim().to_owned());
            } else if let Some(rest) = line.strip_prefix("ID:") {
                id = rest.trim().parse().ok();
            } else if let Some(rest) = line.trim_start().strip_prefix("field:") {
                let field = Field::parse(rest).ok_or_else(|| FormatError::BadField {
                    number: index + 1,
                    text: line.trim().chars().take(80).collect(),
                })?;
                fields.push(field);
            } else if let Some(rest) = line.strip_prefix("print fmt:") {
                print_fmt = rest.trim().to_owned();
            }
        }
        Ok(Self {
            name: name.filter(|name| !name.is_empty()).ok_or(FormatError::NotFormat { line: "name:" })?,
            id: id.ok_or(FormatError::NotFormat { line: "ID:" })?,
            fields,
            print_fmt,
        })
    }

    /// The field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The integer field of that name: 1, 2, 4 or 8 bytes and no array.
    fn integer(&self, name: &str) -> Option<Slot> {
        self.field(name).and_then(|field| Slot::of(field).ok())
    }

    /// An integer field that must be there with one of these sizes.
    fn required(&self, event: &'static str, field: &'static str, sizes: &[u32]) -> Result<Slot, FormatError> {
        let found = self.field(field).ok_or(FormatError::MissingField { event, field })?;
        match Slot::of(found) {
            Ok(slot) if sizes.contains(&slot.size) => Ok(slot),
            Ok(Slot { size, .. }) | Err(size) => Err(FormatError::WrongSize { event, field, size }),
        }
    }

    /// As [`Self::required`], but it may be absent.
    fn optional(
        &self,
        event: &'static str,
        field: &'static str,
        sizes: &[u32],
    ) -> Result<Option<Slot>, FormatError> {
        if self.field(field).is_none() {
            return Ok(None);
        }
        self.required(event, field, sizes).map(Some)
    }

    /// That this is the format of `wanted`.
    ///
    /// # Errors
    /// [`FormatError::WrongEvent`] if it is another's.
    pub fn expect_event(&self, wanted: &'static str) -> Result<(), FormatError> {
        if self.name == wanted {
            return Ok(());
        }
        Err(FormatError::WrongEvent { wanted, found: self.name.clone() })
    }
}

/// Place of an integer in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Bytes from the start of the record.
    pub offset: u32,
    /// 1, 2, 4 or 8 bytes, little-endian.
    pub size: u32,
}

impl Slot {
    /// The field's slot, or its size if it is not an integer.
    ///
    /// # Errors
    /// Its size in bytes.
    pub fn of(field: &Field) -> Result<Self, u32> {
        match (field.elements, field.size) {
            (Elements::One, 1 | 2 | 4 | 8) => Ok(Self { offset: field.offset, size: field.size }),
            (_, size) => Err(size),
        }
    }
}

/// What this kernel's classic `kvm_exit` record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitFormat {
    /// Why the guest left: 4 bytes everywhere (if 8, the low half is what other kernels report).
    pub exit_reason: Slot,
    /// The instruction set, 4 bytes; see [`crate::decode::Isa`].
    pub isa: Slot,
    /// The vCPU's number in its VM, 4 bytes. Linux 4.18 has none: attribute by thread.
    pub vcpu_id: Option<Slot>,
    /// Guest instruction pointer; reads 0 for protected guests.
    pub guest_rip: Option<Slot>,
    /// First vendor-specific detail.
    pub info1: Option<Slot>,
    /// Second vendor-specific detail.
    pub info2: Option<Slot>,
    /// Interruption information.
    pub intr_info: Option<Slot>,
    /// Error code of the event in `intr_info`.
    pub error_code: Option<Slot>,
    /// Pending requests of the vCPU.
    pub requests: Option<Slot>,
}

impl ExitFormat {
    /// Parses the text of `events/kvm/kvm_exit/format`.
    ///
    /// # Errors
    /// [`FormatError`] if it is not that, or if `exit_reason`, `isa` or `vcpu_id` cannot be read from the record.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        Self::new(&EventFormat::parse(text)?)
    }

    /// From a parsed file.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn new(format: &EventFormat) -> Result<Self, FormatError> {
        const EVENT: &str = "kvm_exit";
        format.expect_event(EVENT)?;
        Ok(Self {
            exit_reason: format.required(EVENT, "exit_reason", &[4, 8])?,
            isa: format.required(EVENT, "isa", &[4])?,
            vcpu_id: format.optional(EVENT, "vcpu_id", &[4])?,
            guest_rip: format.integer("guest_rip"),
            info1: format.integer("info1"),
            info2: format.integer("info2"),
            intr_info: format.integer("intr_info"),
            error_code: format.integer("error_code"),
            requests: format.integer("requests"),
        })
    }
}

/// What this kernel's classic `kvm_entry` record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryFormat {
    /// The vCPU's number in its VM, 4 bytes.
    pub vcpu_id: Slot,
    /// Guest instruction pointer.
    pub rip: Option<Slot>,
    /// Whether the guest is to leave again at once.
    pub immediate_exit: Option<Slot>,
    /// Event that the entry injects.
    pub intr_info: Option<Slot>,
    /// Its error code.
    pub error_code: Option<Slot>,
}

impl EntryFormat {
    /// Parses the text of `events/kvm/kvm_entry/format`.
    ///
    /// # Errors
    /// [`FormatError`] if it is not that, or if `vcpu_id` cannot be read from the record.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        Self::new(&EventFormat::parse(text)?)
    }

    /// From a parsed file.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn new(format: &EventFormat) -> Result<Self, FormatError> {
        const EVENT: &str = "kvm_entry";
        format.expect_event(EVENT)?;
        Ok(Self {
            vcpu_id: format.required(EVENT, "vcpu_id", &[4])?,
            rip: format.integer("rip"),
            immediate_exit: format.integer("immediate_exit"),
            intr_info: format.integer("intr_info"),
            error_code: format.integer("error_code"),
        })
    }
}
