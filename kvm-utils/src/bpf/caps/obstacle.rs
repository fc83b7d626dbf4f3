//! What keeps any program from counting exits here, found out quickly: for a command that is about to start.

use super::{
    answers::Answers,
    item::{Item, Support},
    kvm::{self, Modules},
    privileges,
    verdict::Blocker,
};
use crate::host::SysRoot;

/// The first of these that stands in the way: what this process may do, then KVM being there. Everything else shows
/// when programs are loaded, or in [`super::Caps::gather`].
#[must_use]
pub fn obstacle(root: &SysRoot) -> Option<Blocker> {
    let blocker = |item: Item| match item.support {
        Support::No { why, remedy } => Some(Blocker { item: item.id, why, remedy }),
        _ => None,
    };
    blocker(privileges::own(root, &Answers::ask_programs(root)))
        .or_else(|| blocker(kvm::vendor(root, &Modules::find(root))))
}
