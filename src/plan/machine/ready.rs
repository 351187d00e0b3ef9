//! A machine whose disks are ready: what only they could tell, without a change to the plan.

use std::path::Path;

use super::{Attempt, BaseFormat, Handed, MachinePlan};

impl MachinePlan {
    /// The machine on disks that are ready. `base` is the image that the overlay has below it, which may be another than
    /// was asked for; None for a root device.
    pub fn ready(&self, base: Option<(&Path, BaseFormat)>) -> ReadyMachine {
        let fdset = self.root.as_ref().map(|root| root.base_fdset);
        let on_base = |(number, handed): &(i32, Handed)| match (handed, base) {
            (Handed::Disk { fdset: set, writable, .. }, Some((path, _))) if Some(*set) == fdset => {
                (*number, Handed::Disk { path: path.to_owned(), writable: *writable, fdset: *set })
            }
            _ => (*number, handed.clone()),
        };
        let handed = self.handed.iter().map(on_base).collect();
        let base = base.map_or(BaseFormat::Raw, |(_, format)| format);
        ReadyMachine { plan: Self { handed, ..self.clone() }, base }
    }
}

/// A machine that can be started: its plan, and what only its disks could tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyMachine {
    pub plan: MachinePlan,
    base: BaseFormat,
}

impl ReadyMachine {
    /// The whole command line of one attempt.
    pub fn command(&self, attempt: &Attempt) -> Vec<String> {
        self.plan.command(attempt, self.base)
    }
}
