//! The plan: everything `berth run` will do, decided before anything is touched.
//!
//! A pure function of (Config, Facts). A Plan that exists can be applied; `apply` twice equals once.

pub mod disk;
pub mod extra;
pub mod guest;
pub mod link;
pub mod machine;
pub mod nat;
pub mod serve;
mod text;

pub use disk::DiskPlan;
pub use guest::GuestPlan;
pub use link::LinkPlan;
pub use machine::MachinePlan;

use serde::Serialize;

use crate::config::{Config, Lifecycle};
use crate::facts::Facts;
use crate::net::Mapping;
use crate::nft::Ruleset;

/// What cannot be planned: the user's wish and the pod do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error(transparent)]
    Extra(#[from] extra::Error),
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(transparent)]
    Machine(#[from] machine::Error),
}

/// The desired state of kernel, disks and guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub name: String,
    pub link: LinkPlan,
    /// Our table, and those of the operator's own rules.
    pub nat: Ruleset,
    /// What the NAT is for: flows that began before it was there are told by it.
    pub mapping: Mapping,
    pub guest: GuestPlan,
    pub disk: DiskPlan,
    pub machine: MachinePlan,
    pub lifecycle: Lifecycle,
}

impl Plan {
    /// Decides everything; touches nothing.
    pub fn new(config: &Config, facts: &Facts) -> Result<Self, Error> {
        let link = link::plan(config, facts)?;
        let disk = disk::plan(config, facts)?;
        let mut nat = nat::plan(config, facts, &link);
        if let Some(text) = &facts.extra_rules {
            nat.tables.extend(extra::compile(text)?.tables);
        }
        Ok(Self {
            name: config.name.clone(),
            nat,
            mapping: nat::mapping(config, facts),
            guest: guest::plan(config, facts, &link),
            machine: machine::plan(config, facts, &link, &disk)?,
            link,
            disk,
            lifecycle: config.lifecycle.clone(),
        })
    }
}
