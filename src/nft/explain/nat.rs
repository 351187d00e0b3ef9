//! What NAT makes of a packet: addresses and ports of the first packet of a connection
//! (net/netfilter/nf_nat_core.c, nf_nat_masquerade.c, nf_nat_redirect.c).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Not;

use super::super::expr::{Expr, NatKind, Register};
use super::super::{Family, Verdict};
use super::bits::{Bits, Truth};
use super::effect::{Effect, End, stuck};
use super::machine::Machine;
use super::packet::{ICMP, ICMP6, bits_of};
use super::track::{STATUS_DNAT, STATUS_SNAT};
use super::words::{host, number};
use super::world::{Address, Interface, Question, UNIVERSE, within};
use super::{Point, Walk};

/// `NF_NAT_RANGE_*` (linux/netfilter/nf_nat.h).
const RANDOM: u32 = 4;
const FULLY_RANDOM: u32 = 0x10;
const NETMAP: u32 = 0x40;
/// IPS_SRC_NAT_DONE, IPS_DST_NAT_DONE.
const SOURCE_DONE: u32 = 0x80;
const DESTINATION_DONE: u32 = 0x100;

/// What is wanted of an address and port: anything from the first to the second.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) destination: bool,
    pub(super) address: Option<(Bits, Bits)>,
    pub(super) port: Option<(Bits, Bits)>,
    pub(super) flags: u32,
}

pub(super) fn apply(machine: &mut Machine<'_, '_>, expr: &Expr) -> Result<Effect, Question> {
    let change = match expr {
        Expr::Nat { family, .. } if !machine.is_for(*family) => return Ok(Effect::Next),
        Expr::Nat { kind, addr, addr_max, port, port_max, flags, .. } => {
            let len = if machine.walk.packet.family == Family::IP6 { 16 } else { 4 };
            Change {
                destination: *kind == NatKind::Dnat,
                address: range(machine, *addr, *addr_max, len),
                port: range(machine, *port, *port_max, 2),
                flags: *flags,
            }
        }
        Expr::Masquerade { port, port_max, flags } => {
            machine.walk.masquerade(range(machine, *port, *port_max, 2), *flags)
        }
        Expr::Redirect { port, port_max, flags } => {
            match machine.walk.redirect(range(machine, *port, *port_max, 2), *flags) {
                Some(change) => change,
                None => return Ok(Effect::End(End::Verdict(Verdict::Drop))),
            }
        }
        _ => return Ok(Effect::Next),
    };
    Ok(machine.nat(&change))
}

fn range(
    machine: &Machine<'_, '_>,
    low: Option<Register>,
    high: Option<Register>,
    len: usize,
) -> Option<(Bits, Bits)> {
    let low = machine.register(low?, len);
    let high = high.map_or_else(|| low.clone(), |high| machine.register(high, len));
    Some((low, high))
}

impl Machine<'_, '_> {
    /// Nothing is rewritten as long as the rule may not match: the walk ends here.
    pub(super) fn nat(&mut self, change: &Change) -> Effect {
        if self.walk.rewritten {
            return stuck(
                "nat after a rule that wrote an address or port into the packet is not modelled",
            );
        }
        let said = if self.certain() { self.walk.translate(change) } else { String::new() };
        Effect::End(End::Nat(said))
    }
}

impl Walk<'_> {
    /// As `masquerade` chooses: the first address of the interface that is in the next hop's network.
    pub(super) fn masquerade(&self, port: Option<(Bits, Bits)>, flags: u32) -> Change {
        let next = self.gateway.or_else(|| self.packet.destination());
        let address = self.packet.oif.as_ref().and_then(|oif| match self.packet.family {
            Family::IP6 => only_global(oif),
            _ => preferred(oif, next).or_else(|| self.any_address()),
        });
        let len = if self.packet.family == Family::IP6 { 16 } else { 4 };
        let bits = address.map_or_else(|| Bits::unknown(len), bits_of);
        Change { destination: false, address: Some((bits.clone(), bits)), port, flags }
    }

    /// An address of another interface, for one that has none of its own: lo.
    fn any_address(&self) -> Option<IpAddr> {
        let mut addresses = self.world.interfaces.iter().flat_map(|interface| &interface.addresses);
        let fits = |found: &&Address| {
            found.address.is_ipv4() && !found.secondary && found.scope == UNIVERSE
        };
        addresses.find(fits).map(|found| found.address)
    }

    /// To this machine: the first address of the interface it came by; None when that has none.
    pub(super) fn redirect(&self, port: Option<(Bits, Bits)>, flags: u32) -> Option<Change> {
        let v6 = self.packet.family == Family::IP6;
        let bits = match (self.point, v6, &self.packet.iif) {
            (Point::Output, false, _) => bits_of(Ipv4Addr::LOCALHOST.into()),
            (Point::Output, true, _) => bits_of(Ipv6Addr::LOCALHOST.into()),
            (_, _, None) => Bits::unknown(if v6 { 16 } else { 4 }),
            (_, false, Some(iif)) => {
                bits_of(iif.addresses.iter().find(|found| found.address.is_ipv4())?.address)
            }
            (_, true, Some(iif)) => only_global(iif).map_or_else(|| Bits::unknown(16), bits_of),
        };
        Some(Change { destination: true, address: Some((bits.clone(), bits)), port, flags })
    }

    /// Rewrites the packet and says how.
    pub(super) fn translate(&mut self, change: &Change) -> String {
        let destination = change.destination;
        let before = self.packet.end(destination);
        let old = (self.packet.address(destination), self.packet.port(destination));
        if let Some((low, high)) = &change.address {
            let address = pick_address(&old.0, low, high, change);
            self.packet.set_address(destination, &address);
        }
        self.translate_port(change);
        let new = (self.packet.address(destination), self.packet.port(destination));
        let changed = |old: &Bits, new: &Bits| match (old.bytes(), new.bytes()) {
            (Some(old), _) => new.equals(&old).not(),
            (None, _) if old == new => Truth::No,
            _ => Truth::Maybe,
        };
        let ports = if self.packet.has_ports() { changed(&old.1, &new.1) } else { Truth::No };
        let differs = match (changed(&old.0, &new.0), ports) {
            (Truth::Yes, _) | (_, Truth::Yes) => Truth::Yes,
            (Truth::No, Truth::No) => Truth::No,
            _ => Truth::Maybe,
        };
        let bit = if destination { STATUS_DNAT } else { STATUS_SNAT };
        match differs {
            Truth::Yes => self.set_status(bit),
            Truth::Maybe => self.forget_status(bit),
            Truth::No => {}
        }
        let what = if destination { "destination" } else { "source" };
        match self.packet.end(destination) {
            after if differs == Truth::No => format!("{what} stays {after}"),
            after => format!("{what} {before} becomes {after}"),
        }
    }

    fn translate_port(&mut self, change: &Change) {
        let random = change.flags & (RANDOM | FULLY_RANDOM) != 0;
        if !self.packet.has_ports() {
            // An echo's identifier stands for its port.
            if matches!(self.packet.protocol, ICMP | ICMP6) && (change.port.is_some() || random) {
                self.packet.transport.put(4, &Bits::unknown(2));
            }
            return;
        }
        let old = self.packet.port(change.destination);
        let new = match &change.port {
            None if random && !change.destination => Bits::unknown(2),
            None => return,
            Some((low, high)) if low == high => low.clone(),
            Some((low, high)) => match (low.bytes(), high.bytes()) {
                (Some(low), Some(high)) if !random && old.within(&low, &high) == Truth::Yes => old,
                (Some(low), Some(high)) => Bits::between(&low, &high),
                _ => Bits::unknown(2),
            },
        };
        self.packet.set_port(change.destination, &new);
    }

    /// Nothing is to be rewritten on this side, now or for any later packet.
    pub(super) fn bind(&mut self, destination: bool) {
        if destination {
            self.destination_bound = true;
            self.set_status(DESTINATION_DONE);
        } else {
            self.source_bound = true;
            self.set_status(SOURCE_DONE);
        }
    }

    fn set_status(&mut self, bit: u32) {
        let status = &mut self.packet.connection.status;
        let mask = (!bit).to_ne_bytes();
        *status = status.masked(&mask, &bit.to_ne_bytes());
    }

    fn forget_status(&mut self, bit: u32) {
        let status = self.packet.connection.status.clone();
        self.set_status(bit);
        self.packet.connection.status = self.packet.connection.status.or(&status);
    }

    /// Whether conntrack is known to rewrite the packets of this connection.
    pub(super) fn is_translated(&self, destination: bool) -> Truth {
        let bit = if destination { STATUS_DNAT } else { STATUS_SNAT };
        let bits = self.packet.connection.status.masked(&host(bit.into(), 4), &[0; 4]);
        match bits.bytes() {
            None => Truth::Maybe,
            Some(bytes) if number(&bytes, true) == 0 => Truth::No,
            Some(_) => Truth::Yes,
        }
    }
}

fn pick_address(old: &Bits, low: &Bits, high: &Bits, change: &Change) -> Bits {
    if low == high {
        return low.clone();
    }
    let (Some(from), Some(to)) = (low.bytes(), high.bytes()) else {
        return Bits::unknown(low.len());
    };
    if change.flags & NETMAP != 0 {
        // The bits in which the ends differ are kept.
        let network: Vec<u8> = from.iter().zip(&to).map(|(from, to)| !(from ^ to)).collect();
        let host: Vec<u8> = network.iter().map(|octet| !octet).collect();
        let prefix: Vec<u8> = from.iter().zip(&network).map(|(from, mask)| from & mask).collect();
        return old.masked(&host, &prefix);
    }
    let stays = !change.destination
        && change.port.is_none()
        && change.flags & (RANDOM | FULLY_RANDOM) == 0
        && old.within(&from, &to) == Truth::Yes;
    if stays { old.clone() } else { Bits::between(&from, &to) }
}

/// `inet_select_addr` of the kernel.
fn preferred(interface: &Interface, next: Option<IpAddr>) -> Option<IpAddr> {
    let mut candidates = interface
        .addresses
        .iter()
        .filter(|found| found.address.is_ipv4() && !found.secondary && found.scope == UNIVERSE);
    let first = candidates.clone().next()?;
    let near =
        next.and_then(|next| candidates.find(|found| within(next, found.address, found.length)));
    Some(near.unwrap_or(first).address)
}

/// The one global IPv6 address; with several the choice is RFC 6724's.
fn only_global(interface: &Interface) -> Option<IpAddr> {
    let mut candidates = interface
        .addresses
        .iter()
        .filter(|found| found.address.is_ipv6() && found.scope == UNIVERSE);
    let first = candidates.next()?;
    candidates.next().is_none().then_some(first.address)
}
