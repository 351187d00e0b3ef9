//! The plan: everything `berth run` will do, decided before anything is touched.
//!
//! A pure function of (Config, Facts). A Plan that exists can be applied; `apply` twice equals once.

pub mod disk;
mod findings;
pub mod guest;
mod host_name;
pub mod ipv4;
pub mod ipv6;
pub mod link;
pub mod machine;
pub mod nat;
pub mod route;
pub mod serve;
mod text;
mod upstreams;
pub mod web;

pub use disk::DiskPlan;
pub use guest::GuestPlan;
pub use ipv6::Ipv6Plan;
pub use link::LinkPlan;
pub use machine::MachinePlan;
use nat::Abilities;
pub use route::RoutePlan;
pub use web::WebPlan;

use serde::Serialize;

use crate::config::{Config, Lifecycle};
use crate::exit::{Code, Coded};
use crate::facts::{Facts, NetFacts};
use crate::faults::{self, Fault, Finding};
use crate::net::{IfName, Mapping, Mapping6};
use crate::nft::{Ruleset, Table, compile};

/// What cannot be planned: the user's wish and the pod do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{link} has no IPv4 address, and the guest cannot have its IPv6 address: {why}")]
    NoAddress { link: IfName, why: String },
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error(transparent)]
    Extra(#[from] compile::Error),
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(transparent)]
    Machine(#[from] machine::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Disk(error) => error.code(),
            Self::NoAddress { .. } | Self::Extra(_) | Self::Link(_) | Self::Machine(_) => {
                Code::Plan
            }
        }
    }

    fn fault(&self) -> Option<&'static Fault> {
        match self {
            Self::Disk(error) => error.fault(),
            Self::NoAddress { .. } => Some(&faults::NO_ADDRESS),
            Self::Link(link::Error::Overlap { .. }) => Some(&faults::NETWORK_OVERLAP),
            Self::Machine(machine::Error::NoKvm) => Some(&faults::NO_KVM),
            Self::Extra(_) | Self::Link(_) | Self::Machine(_) => None,
        }
    }
}

/// The desired state of kernel, disks and guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub name: String,
    #[serde(flatten)]
    pub net: NetPlan,
    pub disk: DiskPlan,
    pub machine: MachinePlan,
    pub lifecycle: Lifecycle,
    pub web: WebPlan,
}

/// Who starts the QEMU that attaches to the tap: whose the tap is depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// This process: as the uid of QEMU, or as it is when it may not change that.
    Here,
    /// `berth vm` in another container, which is the uid of QEMU.
    Elsewhere,
}

/// The network half: `berth net` has no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetPlan {
    pub link: LinkPlan,
    pub route: RoutePlan,
    /// Our table, and those of the operator's own rules.
    pub nat: Ruleset,
    /// What the NAT is for: flows that began before it was there are told by it.
    pub mapping: Mapping,
    pub guest: GuestPlan,
    /// What will not be as one might expect: told once.
    pub notes: Vec<String>,
    /// Those of them that have a name.
    #[serde(skip)]
    pub findings: Vec<Finding>,
    /// The one of them that the DNS service tells anew whenever `resolv.conf` changes.
    #[serde(skip)]
    pub resolver_note: Option<String>,
    /// The same with less of IPv6, where a kernel takes this not; None when it has none.
    #[serde(skip)]
    pub less: Option<Box<NetPlan>>,
}

impl NetPlan {
    /// Decides the network for the machine of `attached`.
    pub fn new(config: &Config, facts: &NetFacts, attached: Attached) -> Result<Self, Error> {
        let owner = match attached {
            Attached::Here if !facts.can_setuid => 0,
            Attached::Here | Attached::Elsewhere => config.machine.uid,
        };
        let link = link::plan(config, facts, owner)?;
        if let (None, Ipv6Plan::Off(why)) = (facts.uplink.address, &link.ipv6) {
            let link = facts.uplink.name.clone();
            return Err(Error::NoAddress { link, why: why.clone() });
        }
        let extra = match &facts.extra_rules {
            Some(text) => compile::compile(text, nat::is_ours)?.tables,
            None => Vec::new(),
        };
        Ok(Self::of(config, facts, link, &extra))
    }

    fn of(config: &Config, facts: &NetFacts, link: LinkPlan, extra: &[Table]) -> Self {
        let mut nat = nat::plan(config, facts, &link);
        nat.tables.extend_from_slice(extra);
        let less = ipv6::less(&link.ipv6, config, facts).map(|ipv6| {
            let link = LinkPlan { ipv6, ..link.clone() };
            Box::new(Self::of(config, facts, link, extra))
        });
        let six = link.ipv6.nat().map(|nat| Mapping6 {
            pod: nat.pod.clone(),
            guest: nat.guest,
            gateway: ipv6::GATEWAY,
        });
        let mapping = Mapping { six, ..nat::mapping(config, facts) };
        let guest = guest::plan(config, facts, &link);
        let mut notes = guest.notes.clone();
        let [resolver_note, other] = guest::notes(&guest, facts);
        let mut findings = findings::of_network(config, facts, &link);
        notes.extend(findings.iter().map(Finding::to_string));
        let words = resolver_note.iter().chain(&other);
        let of_resolver = findings::of_resolver(&guest);
        findings.extend(words.clone().map(|note| of_resolver.found(note)));
        notes.extend(words.cloned());
        if facts.uplink.address.is_none() {
            notes.push(format!(
                "{} has no IPv4 address: the guest has one for the pod alone, and no router",
                facts.uplink.name
            ));
        }
        notes.extend(ipv4::notes(&link.ipv4, facts));
        notes.extend(ipv6::note(&link.ipv6, config, facts));
        if link.ipv4.own().is_none() {
            notes.extend(route::notes(config, facts));
        }
        Self {
            route: route::plan(config, facts),
            link,
            nat,
            mapping,
            guest,
            notes,
            findings,
            resolver_note,
            less,
        }
    }

    /// What of it can be had with this kernel.
    pub fn on(&self, abilities: Abilities) -> &Self {
        match &self.less {
            Some(less) if !abilities.take(&self.link.ipv6) => less.on(abilities),
            _ => self,
        }
    }
}

impl Plan {
    /// Decides everything; touches nothing.
    pub fn new(config: &Config, facts: &Facts) -> Result<Self, Error> {
        let net = NetPlan::new(config, &facts.net, Attached::Here)?;
        let disk = disk::plan(config, facts)?;
        Ok(Self {
            name: config.name.clone(),
            machine: machine::plan(config, facts, &net.link, &disk)?,
            net,
            disk,
            lifecycle: config.lifecycle.clone(),
            web: web::plan(config, &facts.net),
        })
    }

    /// What has a name of what will not be as one might expect.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.net.findings.iter().chain(&self.disk.findings).chain(&self.machine.findings)
    }
}
