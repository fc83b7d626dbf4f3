//! Nothing: the bracket alone.

use super::{Noun, Simple, Spec};

pub(super) const NOUN: Noun =
    Noun { name: "null", usual: || vec![Spec::new("null")], open: |_, _| Ok(Box::new(Simple(|| ()))) };
