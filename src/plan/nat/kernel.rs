//! The rules as one kernel takes them: without what it has not, and with the numbers of its links.

use crate::nft::{Data, Expr, Family, Ruleset, Table};
use crate::plan::NetPlan;
use crate::plan::ipv4::Ipv4Plan;
use crate::plan::ipv6::Ipv6Plan;

use super::is_ours;

/// Stand for the interfaces whose numbers are not known yet: no interface has such a one.
pub(super) const BRIDGE: u32 = 0x7fff_fffe;
pub(super) const TAP: u32 = 0x7fff_ffff;

/// Numbers of our links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indices {
    pub bridge: u32,
    pub tap: u32,
}

/// What a kernel can hold, found by committing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Tables of family arp.
    pub arp: bool,
    /// `fwd`, and chains for what a device sends (Linux 5.16).
    pub fwd: bool,
    /// `dup` to an IPv6 address, without which the guest has not the pod's own.
    pub dup: bool,
    /// Of IPv6 what the links want, by whichever way.
    pub ipv6: bool,
}

impl Abilities {
    /// Everything, until it is known better.
    pub const ALL: Self = Self { arp: true, fwd: true, dup: true, ipv6: true };

    /// Less by what was refused; None when nothing is left to do without.
    #[must_use]
    pub fn without(self, refused: Family) -> Option<Self> {
        match refused {
            Family::ARP if self.arp => Some(Self { arp: false, ..self }),
            Family::NETDEV if self.fwd => Some(Self { fwd: false, ..self }),
            Family::IP6 if self.dup => Some(Self { dup: false, ..self }),
            _ => None,
        }
    }

    /// No way for IPv6 at all.
    #[must_use]
    pub fn without_ipv6(self) -> Self {
        Self { ipv6: false, ..self }
    }

    /// Whether what the guest has of IPv6 can be had.
    pub(crate) fn take(self, plan: &Ipv6Plan) -> bool {
        match plan {
            Ipv6Plan::Own(_) => self.ipv6 && self.dup,
            Ipv6Plan::Nat(_) => self.ipv6,
            Ipv6Plan::Off(_) => true,
        }
    }

    /// Without tables of ours that such a kernel refuses.
    #[must_use]
    pub fn of(self, rules: &Ruleset) -> Ruleset {
        let lacks = |family| match family {
            Family::ARP => !self.arp,
            Family::NETDEV => !self.fwd,
            _ => false,
        };
        let lacks = |table: &Table| {
            lacks(table.family) && (table.family != Family::NETDEV || uses_fwd(table))
        };
        let mut rules = rules.clone();
        rules.tables.retain(|table| !(lacks(table) && is_ours(table.family, &table.name)));
        rules
    }
}

/// Or chains for what a device sends, which come with it.
fn uses_fwd(table: &Table) -> bool {
    let mut exprs = table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.exprs);
    exprs.any(|expr| matches!(expr, Expr::Fwd { .. }))
}

/// The way of the guest's IPv4, for people.
pub fn told4(plan: &Ipv4Plan, abilities: Abilities) -> String {
    match plan {
        Ipv4Plan::Own(_) => format!("{plan}, by {}", if abilities.fwd { "fwd" } else { "dup" }),
        Ipv4Plan::Nat => plan.to_string(),
    }
}

/// The way of the guest's IPv6, for people.
pub fn told(plan: &Ipv6Plan, abilities: Abilities) -> String {
    match plan {
        Ipv6Plan::Own(_) => format!("{plan}, by {}", if abilities.fwd { "fwd" } else { "dup" }),
        Ipv6Plan::Nat(_) | Ipv6Plan::Off(_) => plan.to_string(),
    }
}

/// The rules of a plan as this kernel takes them, and with the numbers of the links.
pub fn for_kernel(plan: &NetPlan, abilities: Abilities, indices: Indices) -> Ruleset {
    placed(abilities.of(&plan.on(abilities).nat), indices)
}

fn placed(mut rules: Ruleset, indices: Indices) -> Ruleset {
    let ours = rules.tables.iter_mut().filter(|table| is_ours(table.family, &table.name));
    let rules_of = ours.flat_map(|table| &mut table.chains).flat_map(|chain| &mut chain.rules);
    for expr in rules_of.flat_map(|rule| &mut rule.exprs) {
        let Expr::Immediate { data: Data::Value(value), .. } = expr else { continue };
        if *value == BRIDGE.to_ne_bytes() {
            *value = indices.bridge.to_ne_bytes().to_vec();
        } else if *value == TAP.to_ne_bytes() {
            *value = indices.tap.to_ne_bytes().to_vec();
        }
    }
    rules
}
