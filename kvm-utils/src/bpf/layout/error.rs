//! Why raw tracepoints cannot be used on this kernel, in words that say what to do.

use std::fmt;

use thiserror::Error;

use super::btf::BtfError;

/// Follows the name of a module without BTF.
pub(super) const NO_OWN_BTF: &str = ", which has no BTF of its own";

/// What an argument of a tracepoint is, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A pointer to the named type.
    Pointer(String),
    /// An integer of that many bytes.
    Integer(u32),
    /// Anything else.
    Other,
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(to) => write!(f, "{to} *"),
            Self::Integer(size) => write!(f, "{size}-byte integer"),
            Self::Other => f.write_str("something else"),
        }
    }
}

/// Joined by commas.
pub(super) struct Arguments<'a>(pub(super) &'a [Argument]);

impl fmt::Display for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, argument) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            argument.fmt(f)?;
        }
        Ok(())
    }
}

/// Why the layout of KVM's structs could not be had from BTF. In each case classic tracepoints still work
/// (`--source tracepoint`).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// No BTF of the kernel at all.
    #[error(
        "there is no {path}: this kernel was built without BTF (CONFIG_DEBUG_INFO_BTF); \
         use --source tracepoint"
    )]
    NoBtf {
        /// The file.
        path: String,
    },
    /// A BTF file that cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's message.
        reason: String,
    },
    /// A BTF file that is damaged or too new.
    #[error("the BTF of {module} is of no use: {source}; use --source tracepoint")]
    Malformed {
        /// `vmlinux` or a module.
        module: &'static str,
        /// What is wrong.
        source: BtfError,
    },
    /// A tracepoint's prototype is in none of the files.
    #[error(
        "the arguments of {event} cannot be found: {source} (looked in {files}); without the BTF of kvm (is the \
         module loaded? kernels before 5.11 have none) use --source tracepoint"
    )]
    NoPrototype {
        /// The tracepoint.
        event: &'static str,
        /// Which BTF was there and which was not.
        files: String,
        /// What was missing.
        source: BtfError,
    },
    /// A prototype from which it is not clear which argument is which.
    #[error(
        "the arguments of {event} are ({}), which this version does not know; use --source tracepoint",
        Arguments(arguments)
    )]
    UnknownPrototype {
        /// The tracepoint.
        event: &'static str,
        /// Its arguments.
        arguments: Vec<Argument>,
    },
    /// A struct or member is not there.
    #[error(
        "cannot find {ty}.{member}: {source} (looked in {files}); if the module is not loaded load it, else use \
         --source tracepoint"
    )]
    Missing {
        /// The struct.
        ty: &'static str,
        /// The member, by its path.
        member: &'static str,
        /// Which BTF was there and which was not.
        files: String,
        /// What was missing.
        source: BtfError,
    },
    /// A member that is not what it is on other kernels.
    #[error(
        "{ty}.{member} {problem} on this kernel, which this version does not know; use --source tracepoint"
    )]
    Unexpected {
        /// The struct.
        ty: &'static str,
        /// The member, by its path.
        member: &'static str,
        /// What is unexpected about it.
        problem: String,
    },
    /// The reason is not among the arguments, and no vendor's struct says where it is.
    #[error("the exit reason cannot be found in any vendor's vCPU.\n  Intel: {vmx}\n  AMD: {svm}")]
    NoVendor {
        /// Why not in Intel's.
        vmx: Box<LayoutError>,
        /// Why not in AMD's.
        svm: Box<LayoutError>,
    },
}

impl LayoutError {
    /// What is missing, in one line and without advice.
    #[must_use]
    pub fn brief(&self) -> String {
        if let Self::NoVendor { .. } = self {
            return "this kernel's BTF does not say where its KVM keeps the exit reason".to_owned();
        }
        if let Self::NoPrototype { files, .. } = self
            && files.ends_with(NO_OWN_BTF)
        {
            return "there is no BTF of the kvm module (CONFIG_DEBUG_INFO_BTF_MODULES, from 5.11)".to_owned();
        }
        let text = self.to_string();
        let end = ["; use --source", "; if the module", "; without the BTF"]
            .into_iter()
            .filter_map(|advice| text.find(advice))
            .min();
        text[..end.unwrap_or(text.len())].split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
