//! One thing that a host can or cannot do.

use serde::Serialize;

/// How far it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// As it should be.
    Full,
    /// It works, but worse than it could.
    Degraded {
        /// What is worse, and by what cause.
        why: String,
        /// What to type or do; empty if nothing is to be done.
        remedy: String,
    },
    /// It does not work.
    No {
        /// The cause.
        why: String,
        /// What to type or do.
        remedy: String,
    },
    /// It cannot be found out.
    Unknown {
        /// The cause.
        why: String,
        /// How to find out.
        remedy: String,
    },
    /// This host does not need it.
    Unneeded {
        /// The cause.
        why: String,
    },
}

impl Support {
    /// It works, but worse than it could.
    pub fn degraded(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Degraded { why: why.into(), remedy: remedy.into() }
    }

    /// It does not work.
    pub fn no(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::No { why: why.into(), remedy: remedy.into() }
    }

    /// It cannot be found out.
    pub fn unknown(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unknown { why: why.into(), remedy: remedy.into() }
    }

    /// This host does not need it.
    pub fn unneeded(why: impl Into<String>) -> Self {
        Self::Unneeded { why: why.into() }
    }

    /// One word for programs; never changes.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Degraded { .. } => "degraded",
            Self::No { .. } => "no",
            Self::Unknown { .. } => "unknown",
            Self::Unneeded { .. } => "unneeded",
        }
    }

    /// One word for a table.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Full => "ok",
            Self::Degraded { .. } => "limited",
            Self::No { .. } => "no",
            Self::Unknown { .. } => "unknown",
            Self::Unneeded { .. } => "-",
        }
    }

    /// The cause, where there is something to explain.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Full => None,
            Self::Degraded { why, .. }
            | Self::No { why, .. }
            | Self::Unknown { why, .. }
            | Self::Unneeded { why } => Some(why),
        }
    }

    /// What to do about it, where something can be done.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Degraded { remedy, .. } | Self::No { remedy, .. } | Self::Unknown { remedy, .. } => {
                Some(remedy.as_str()).filter(|remedy| !remedy.is_empty())
            }
            Self::Full | Self::Unneeded { .. } => None,
        }
    }
}

/// What an item is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// What this process may do.
    Process,
    /// KVM.
    Kvm,
    /// Where the kernel shows things.
    Files,
    /// What the kernel's BPF can do.
    Bpf,
    /// Where things lie in the kernel.
    Layout,
    /// Where programs can be attached.
    Hooks,
    /// What each drill-down finds.
    Drilldowns,
}

impl Group {
    /// Heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Process => "this process",
            Self::Kvm => "KVM",
            Self::Files => "kernel files",
            Self::Bpf => "BPF",
            Self::Layout => "layout",
            Self::Hooks => "hooks",
            Self::Drilldowns => "drill-downs",
        }
    }
}

/// One thing that a host can or cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Name for programs; never changes.
    pub id: &'static str,
    /// What it is about.
    pub group: Group,
    /// Name for people.
    pub title: &'static str,
    /// How far it can.
    pub support: Support,
    /// What was found.
    pub detail: String,
}

impl Item {
    /// An item about `group`.
    pub fn new(
        group: Group,
        id: &'static str,
        title: &'static str,
        support: Support,
        detail: impl Into<String>,
    ) -> Self {
        Self { id, group, title, support, detail: detail.into() }
    }
}
