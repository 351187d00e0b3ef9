//! The NAT chains: the pod's addresses onto the guest's, and back, of either version of IP.
//!
//! Where the guest has the pod's own address this is between the pod's stack and the guest alone.

use crate::net::Transport;
use crate::nft::build::meta_nfproto;
use crate::nft::expr::{CmpOp, NatKind, meta};
use crate::nft::{Expr, Rule, Verdict, hook};
use crate::plan::LinkPlan;
use crate::plan::ipv6::Ipv6Plan;

use super::matches::{from_ports, interface, masquerade, nat, was_dnat};
use super::version::Version;
use super::{Build, Names, PRIORITY_DSTNAT, PRIORITY_SRCNAT, TRANSPORTS, ports_of};

/// Where the guest leaves from when its own port stays with the pod: below those that the kernel gives by itself (32768).
const OTHER_PORTS: (u16, u16) = (16384, 32767);

/// The longest run of them without a port that stays with the pod. Sorted ports of one transport.
fn other_ports(kept: impl Iterator<Item = u16>) -> (u16, u16) {
    let (first, last) = OTHER_PORTS;
    let kept = kept.filter(|port| (first..=last).contains(port)).chain([last + 1]);
    let mut begin = first;
    let runs = kept.map(|port| (std::mem::replace(&mut begin, port + 1), port - 1));
    runs.max_by_key(|(from, to)| i32::from(*to) - i32::from(*from)).unwrap_or(OTHER_PORTS)
}

/// Addresses of one version, as NAT has them.
#[derive(Debug, Clone)]
pub(super) struct Side {
    version: Version,
    /// Addresses of the pod's, and what they are for whom the pod's own stack sends to, or for everybody.
    onto: Vec<(Vec<Vec<u8>>, Vec<u8>)>,
    /// None: the guest has the pod's own.
    translated: Option<Translated>,
}

/// An address of the guest's own.
#[derive(Debug, Clone)]
struct Translated {
    guest: Vec<u8>,
    /// The one of the pod's that it leaves as by the uplink.
    primary: Option<Vec<u8>>,
}

impl Side {
    /// Of IPv4, for these addresses of the pod's.
    pub fn four(names: &Names, pod: &[std::net::Ipv4Addr]) -> Self {
        let octets = |address: &std::net::Ipv4Addr| address.octets().to_vec();
        let guest = octets(&names.mapping.guest);
        let primary = pod.first().map(octets);
        let pod: Vec<_> = pod.iter().map(octets).collect();
        Self {
            version: Version::Four,
            onto: if pod.is_empty() { Vec::new() } else { vec![(pod, guest.clone())] },
            translated: names.own4.is_none().then_some(Translated { guest, primary }),
        }
    }

    /// Of IPv6, where the guest has some.
    pub fn six(link: &LinkPlan) -> Option<Self> {
        let octets = |address: &std::net::Ipv6Addr| address.octets().to_vec();
        let (onto, translated) = match &link.ipv6 {
            Ipv6Plan::Off(_) => return None,
            Ipv6Plan::Own(own) => {
                let alone = |(pod, alias)| (vec![octets(&pod)], octets(&alias));
                (own.aliases().map(alone).collect(), None)
            }
            Ipv6Plan::Nat(nat) => {
                let guest = octets(&nat.guest);
                let primary = nat.pod.first().map(octets);
                let pod = nat.pod.iter().map(octets).collect();
                (vec![(pod, guest.clone())], Some(Translated { guest, primary }))
            }
        };
        Some(Self { version: Version::Six, onto, translated })
    }

    /// `ip saddr GUEST`, where it has one of its own.
    fn sent_by(&self, guest: &[u8]) -> Vec<Expr> {
        self.version.has(self.version.saddr(), guest.to_vec())
    }
}

impl Build {
    pub(super) fn prerouting(&mut self) {
        let mut rules = Vec::new();
        for side in self.names.sides.clone().iter().filter(|side| side.translated.is_some()) {
            rules.extend(self.mapped(side, "to the pod: every protocol and port is the guest's"));
        }
        self.chain("prerouting", "nat", hook::PREROUTING, PRIORITY_DSTNAT, rules);
    }

    /// Connections the pod makes to its own address.
    pub(super) fn output(&mut self) {
        let mut rules = Vec::new();
        for side in &self.names.sides.clone() {
            rules.extend(self.mapped(side, "from the pod to its own address: the guest's too"));
        }
        self.chain("output", "nat", hook::OUTPUT, PRIORITY_DSTNAT, rules);
    }

    pub(super) fn postrouting(&mut self) {
        let mut rules = Vec::new();
        for side in &self.names.sides.clone() {
            match (&side.translated, side.version) {
                (Some(translated), _) => rules.extend(self.leaving(side, translated)),
                (None, Version::Four) => rules.extend(self.postrouting4()),
                (None, Version::Six) => rules.push(self.postrouting6()),
            }
        }
        self.chain("postrouting", "nat", hook::POSTROUTING, PRIORITY_SRCNAT, rules);
    }

    /// Of the pod's addresses, where it has some: what stays with it, and the rest.
    fn mapped(&mut self, side: &Side, comment: &str) -> Vec<Rule> {
        let mut rules = self.reserved_rules(side);
        for (pod, guest) in &side.onto {
            let mut exprs = self.addressed_to(side, pod.clone());
            exprs.push(Expr::counter());
            exprs.extend(nat(NatKind::Dnat, side.version, guest.clone()));
            rules.push(Rule::new(exprs, comment));
        }
        rules
    }

    /// What the guest sends, as the pod.
    fn leaving(&mut self, side: &Side, Translated { guest, primary }: &Translated) -> Vec<Rule> {
        let mut rules = self.kept_ports(side, guest, primary.as_ref());
        let Names { uplink, bridge, .. } = &self.names;
        let from_guest = || side.sent_by(guest);
        let mut hairpin = from_guest();
        hairpin.extend(interface(meta::OIFNAME, CmpOp::Eq, bridge));
        hairpin.extend(was_dnat());
        hairpin.extend([Expr::counter(), masquerade()]);

        let out = primary.as_ref().map(|primary| {
            let mut out = from_guest();
            out.extend(interface(meta::OIFNAME, CmpOp::Eq, uplink));
            out.push(Expr::counter());
            out.extend(nat(NatKind::Snat, side.version, primary.clone()));
            Rule::new(out, "guest to the world: as the pod")
        });

        let mut elsewhere = from_guest();
        elsewhere.extend(interface(meta::OIFNAME, CmpOp::Neq, bridge));
        elsewhere.extend([Expr::counter(), masquerade()]);

        let hairpin =
            Rule::new(hairpin, "guest to its own pod address: replies must come back this way");
        let elsewhere = Rule::new(elsewhere, "guest through any other interface of the pod");
        rules.extend([hairpin].into_iter().chain(out).chain([elsewhere]));
        rules
    }

    /// From a port that stays with the pod the guest leaves by another one: what comes to it would else be taken for an answer
    /// to the guest. `ip saddr GUEST tcp sport { … } oifname UPLINK counter snat ip to POD:16384-32767`, and elsewhere.
    fn kept_ports(&mut self, side: &Side, guest: &[u8], primary: Option<&Vec<u8>>) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (transport, word) in TRANSPORTS {
            let reserved = &self.names.mapping.reserved;
            let Some(ports) = ports_of(reserved, transport) else { continue };
            let kept =
                reserved.iter().filter(|port| port.transport == transport).map(|port| port.number);
            let others = other_ports(kept);
            let Names { uplink, bridge, .. } = &self.names;
            let to_the_world = interface(meta::OIFNAME, CmpOp::Eq, uplink);
            let elsewhere = interface(meta::OIFNAME, CmpOp::Neq, bridge);
            let world = primary.map(|primary| (to_the_world, Some(primary), "to the world"));
            for (where_to, to, words) in world.into_iter().chain([(elsewhere, None, "elsewhere")]) {
                let mut exprs = side.sent_by(guest);
                exprs.extend(self.ports(0, transport, ports.clone()));
                exprs.extend(where_to);
                exprs.push(Expr::counter());
                exprs.extend(from_ports(side.version, to.cloned(), others));
                rules.push(Rule::new(
                    exprs,
                    &format!("guest {words} from {word} ports that stay with the pod"),
                ));
            }
        }
        rules
    }

    /// `ip daddr POD tcp dport { … } counter return`, one rule for each transport that has reserved ports.
    fn reserved_rules(&mut self, side: &Side) -> Vec<Rule> {
        let pod: Vec<Vec<u8>> = side.onto.iter().flat_map(|(pod, _)| pod.clone()).collect();
        let mut rules = Vec::new();
        for (transport, word) in TRANSPORTS.into_iter().filter(|_| !pod.is_empty()) {
            let Some(ports) = self.reserved(transport) else { continue };
            let mut exprs = self.addressed_to(side, pod.clone());
            exprs.extend(self.destination_ports(transport, ports));
            exprs.extend([Expr::counter(), Expr::verdict(Verdict::Return)]);
            rules.push(Rule::new(exprs, &format!("{word} ports that stay with the pod")));
        }
        rules
    }

    fn reserved(&self, transport: Transport) -> Option<Vec<Vec<u8>>> {
        ports_of(&self.names.mapping.reserved, transport)
    }

    /// `ip daddr POD`
    fn addressed_to(&mut self, side: &Side, pod: Vec<Vec<u8>>) -> Vec<Expr> {
        let version = side.version;
        let mut exprs = meta_nfproto(version.nfproto()).to_vec();
        exprs.push(version.load(version.daddr()));
        exprs.push(self.one_of(version.set_type(), pod));
        exprs
    }
}

#[cfg(test)]
mod tests {
    use super::other_ports;

    #[test]
    fn other_ports_are_none_of_those_that_stay() {
        assert_eq!(other_ports([22, 5900].into_iter()), (16384, 32767));
        assert_eq!(other_ports([16384].into_iter()), (16385, 32767));
        assert_eq!(other_ports([32767].into_iter()), (16384, 32766));
        assert_eq!(other_ports([16400, 20000, 32000].into_iter()), (20001, 31999));
    }
}
