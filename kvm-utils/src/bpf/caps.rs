//! What this host can do for the tracer, and why not.
//!
//! The kernel is asked, never its version: programs that do nothing are loaded and attached for a moment, maps are
//! made, files are looked at. Nothing stays behind, and [`Caps::gather`] never fails as a whole: what cannot be found
//! out is itself an answer.

mod answers;
mod bpf;
mod btf;
mod filesystems;
mod fires;
mod hooks;
mod item;
mod kvm;
mod obstacle;
mod privileges;
mod syscalls;
mod verdict;

use std::time::Duration;

pub use answers::{Answer, Answers, HOOKS};
pub use fires::{Fires, fired_during};
pub use item::{Group, Item, Support};
pub use obstacle::obstacle;
pub use verdict::{Blocker, Verdict};

use super::tracer::Source;
use crate::host::{HostInfo, PidNs, SysRoot};

/// What a host can do.
#[derive(Clone, Debug)]
pub struct Caps {
    /// The machine.
    pub host: HostInfo,
    /// One thing each, in an order fit for reading.
    pub items: Vec<Item>,
    root: SysRoot,
    /// Whether programs can be loaded.
    programs: Answer,
    /// Ways of attaching that work, the best first.
    sources: Vec<Source>,
}

impl Caps {
    /// Asks the kernel whose files are below `root`; takes some milliseconds.
    #[must_use]
    pub fn gather(root: &SysRoot) -> Self {
        Self::assess(root, &Answers::ask(root))
    }

    /// Judges the files below `root` together with what the kernel answered to system calls.
    #[must_use]
    pub fn assess(root: &SysRoot, answers: &Answers) -> Self {
        let initial_pidns = PidNs::own(&root.proc()).map(PidNs::is_initial).ok();
        let modules = kvm::Modules::find(root);
        let layout = btf::Layout::find(root, &modules);
        let sources = hooks::sources(answers, &layout);
        let fires = Fires::not_watched("nobody watched");

        let mut items = privileges::items(root, answers, initial_pidns);
        items.extend(kvm::items(root, &modules));
        items.extend(filesystems::items(root, &modules, initial_pidns == Some(true)));
        items.extend(bpf::items(root, answers));
        items.extend(btf::items(root, &modules, &layout));
        items.extend(hooks::items(root, answers, &layout));
        items.push(fires.item());
        Self {
            host: HostInfo::gather(root),
            items,
            root: root.clone(),
            programs: answers.raw_program.clone(),
            sources,
        }
    }

    /// Watches for `window` whether running guests make kvm_exit fire; returns at once when the answer is known.
    pub fn watch(&mut self, window: Duration) {
        self.set_fires(&match &self.programs {
            Answer::Yes => fires::watch(&self.root, window),
            _ => Fires::NotWatched {
                why: "not tried: programs cannot be loaded".to_owned(),
                remedy: "see privileges and bpf(2)",
            },
        });
    }

    /// Takes over what was seen of kvm_exit.
    pub fn set_fires(&mut self, fires: &Fires) {
        let item = fires.item();
        match self.items.iter_mut().find(|known| known.id == item.id) {
            Some(known) => *known = item,
            None => self.items.push(item),
        }
    }

    /// The item of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.id == id)
    }

    /// Ways in which exits can be learned of, the best first.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Whether `kvm-utils exits` can run here.
    #[must_use]
    pub fn exits(&self) -> Verdict {
        verdict::exits(&self.items, &self.sources)
    }
}
