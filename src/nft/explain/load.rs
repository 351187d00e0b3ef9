//! What meta and fib say of the packet (net/netfilter/nft_meta.c, nft_fib.c, net/bridge/netfilter/nft_meta_bridge.c).

use std::net::{IpAddr, Ipv4Addr};

use super::super::Family;
use super::super::names::key::{fib, meta};
use super::super::names::{Order, Type};
use super::bits::{Bits, Truth};
use super::effect::{Effect, Loaded};
use super::packet::{State, address_of};
use super::words::{self, Style, host, interface};
use super::world::{Interface, Question, Route, kind};
use super::{LOOPBACK, Point, Walk};

/// PACKET_OTHERHOST.
pub(super) const OTHER_HOST: u8 = 3;

pub(super) fn known(value: u64, len: usize) -> Loaded {
    Loaded::Bits(Bits::known(&host(value, len)))
}

pub(super) fn perhaps(value: Option<u32>) -> Loaded {
    Loaded::Bits(
        value.map_or_else(|| Bits::unknown(4), |value| Bits::known(&host(value.into(), 4))),
    )
}

impl Walk<'_> {
    pub(super) fn meta(&self, key: u32) -> Loaded {
        let packet = &self.packet;
        let (iif, oif) = (self.incoming(), self.outgoing());
        match key {
            meta::LEN => perhaps(packet.length),
            meta::PROTOCOL => Loaded::Bits(Bits::known(&packet.ether_type().to_be_bytes())),
            meta::MARK => Loaded::Bits(packet.mark.clone()),
            meta::IIF => device(&iif, |interface| known(interface.index.into(), 4), || known(0, 4)),
            meta::OIF => device(&oif, |interface| known(interface.index.into(), 4), || known(0, 4)),
            meta::IIFNAME => name(&iif),
            meta::OIFNAME => name(&oif),
            // It is that of the device the packet is at: the outgoing one after routing.
            meta::IIFTYPE if self.point == Point::Postrouting => {
                of_device(&oif, |interface| known(interface.arp_type.into(), 2))
            }
            meta::IIFTYPE => of_device(&iif, |interface| known(interface.arp_type.into(), 2)),
            meta::OIFTYPE => of_device(&oif, |interface| known(interface.arp_type.into(), 2)),
            meta::SKUID | meta::SKGID => match (packet.local, packet.connection.state) {
                (true, _) => perhaps(if key == meta::SKUID { packet.uid } else { packet.gid }),
                (false, State::New) => Loaded::Nothing("the packet has no socket here"),
                _ => perhaps(None),
            },
            meta::NFPROTO => known(packet.family.0.into(), 1),
            meta::L4PROTO if packet.family == Family::ARP => {
                Loaded::Nothing("the packet is none of IP")
            }
            meta::L4PROTO => Loaded::Bits(Bits::known(&[packet.protocol])),
            meta::PKTTYPE => Loaded::Bits(self.packet_kind()),
            meta::IIFGROUP => of_device(&iif, |interface| known(interface.group.into(), 4)),
            meta::OIFGROUP => of_device(&oif, |interface| known(interface.group.into(), 4)),
            meta::IIFKIND => {
                of_device(&iif, |device| Loaded::Bits(Bits::known(&interface(&device.kind))))
            }
            meta::OIFKIND => {
                of_device(&oif, |device| Loaded::Bits(Bits::known(&interface(&device.kind))))
            }
            meta::IBRNAME => self.bridge(&iif),
            meta::OBRNAME => self.bridge(&oif),
            meta::SDIFNAME => Loaded::Bits(Bits::unknown(16)),
            meta::TIME => Loaded::Bits(Bits::unknown(8)),
            meta::DAY => Loaded::Bits(Bits::unknown(1)),
            _ => perhaps(None),
        }
    }

    /// The bridge that an interface is a port of; no name when it is none's.
    fn bridge(&self, port: &Device<'_>) -> Loaded {
        let master = match port {
            Device::Is(port) => port.master.and_then(|index| self.world.interface(index)),
            Device::None => None,
            Device::Unknown => return Loaded::Bits(Bits::unknown(16)),
        };
        let master = master.filter(|found| found.kind == "bridge");
        Loaded::Bits(Bits::known(&interface(master.map_or("", |found| found.name.as_str()))))
    }

    /// PACKET_HOST, _BROADCAST, …, as the link has it or a rule has set it.
    pub(super) fn packet_kind(&self) -> Bits {
        let kind_of = |address: IpAddr| match self.world.kind_of(address, None) {
            kind::BROADCAST => 1,
            kind::MULTICAST => 2,
            _ => 0,
        };
        let by_address = || Bits::known(&[self.packet.destination().map_or(0, kind_of)]);
        let by_link = || self.kind_by_link();
        self.packet.kind.clone().or_else(by_link).unwrap_or_else(by_address)
    }

    /// As the driver sees it (`eth_type_trans` in the kernel): to whom the frame is.
    pub(super) fn kind_by_link(&self) -> Option<Bits> {
        let (iif, link) = (self.packet.iif.as_ref()?, self.packet.link.as_ref()?);
        let to = link.part(0, 6)?.bytes().filter(|_| !self.packet.local && iif.ether.is_some())?;
        let bridge = iif.master.and_then(|index| self.world.interface(index));
        let ours = [Some(iif), bridge].into_iter().flatten().filter_map(|found| found.ether);
        Some(Bits::known(&[match to.as_slice() {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => 1,
            [first, ..] if first & 1 == 1 => 2,
            to if ours.into_iter().any(|own| own == *to) => 0,
            _ => OTHER_HOST,
        }]))
    }

    pub(super) fn set_meta(&mut self, key: u32, bits: &Bits, certain: bool) -> Effect {
        match key {
            meta::MARK => {
                self.packet.mark = if certain { bits.clone() } else { self.packet.mark.or(bits) };
                Effect::Said(format!("meta mark is {} from here on", shown(&self.packet.mark)))
            }
            meta::PKTTYPE => {
                let old = self.packet_kind();
                let new = bits.part(0, 1).unwrap_or_else(|| Bits::unknown(1));
                self.packet.kind = Some(match new.above(&[OTHER_HOST]) {
                    // The kernel takes no others.
                    Truth::Yes => old,
                    Truth::No if certain => new,
                    _ => old.or(&new),
                });
                Effect::Next
            }
            // Priority, trace, security mark: nothing that decides where the packet goes; asked for, they are not known.
            _ => Effect::Next,
        }
    }

    pub(super) fn fib(&self, result: u32, flags: u32) -> Result<Loaded, Question> {
        let Some(address) = address_of(&self.packet.address(flags & fib::DADDR != 0)) else {
            return Ok(Loaded::Bits(Bits::unknown(4)));
        };
        let device = match flags {
            flags if flags & fib::BY_IIF != 0 => self.incoming(),
            flags if flags & fib::BY_OIF != 0 => self.outgoing(),
            _ => Device::None,
        };
        let link = match device {
            Device::Is(interface) => Some(interface.index),
            Device::None => None,
            Device::Unknown => {
                return Ok(Loaded::Bits(Bits::unknown(fib_len(result, flags & fib::PRESENT != 0))));
            }
        };
        if result == fib::ADDRTYPE {
            let found = self.world.kind_of(address, link);
            if found == kind::UNICAST && address.is_ipv6() {
                let question = self.fib_question(address, link, 0);
                let routed = matches!(self.world.route(&question)?, Route::To { .. });
                return Ok(known(if routed { kind::UNICAST } else { kind::UNREACHABLE }.into(), 4));
            }
            return Ok(known(found.into(), 4));
        }
        let mark = self.packet.mark.bytes().filter(|_| flags & fib::MARK != 0);
        let mark = mark.map_or(0, |bytes| u32::try_from(words::number(&bytes, true)).unwrap_or(0));
        let question = self.fib_question(address, link, mark);
        let found = match self.fib_unasked() {
            Some(link) => link,
            None => match self.world.route(&question)? {
                Route::To { kind: kind::UNICAST, link: found, .. }
                    if link.is_none_or(|link| link == *found) =>
                {
                    *found
                }
                _ => 0,
            },
        };
        Ok(match (result, flags & fib::PRESENT != 0) {
            (_, true) => known(u64::from(found != 0), 1),
            (1, false) => known(found.into(), 4),
            _ => {
                let name =
                    self.world.interface(found).map_or("", |interface| interface.name.as_str());
                Loaded::Bits(Bits::known(&interface(name)))
            }
        })
    }

    /// The routing is asked without an interface, and its answer compared with the rule's: only an address of a link
    /// means nothing without one.
    fn fib_question(&self, to: IpAddr, link: Option<u32>, mark: u32) -> Question {
        let of_a_link = matches!(to, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let oif =
            link.or_else(|| self.device().map(|interface| interface.index)).filter(|_| of_a_link);
        Question { from: None, to, iif: None, oif, mark }
    }

    /// The interface that is found without asking: what comes by the loopback interface, and what somebody without an
    /// address sends to his neighbours (DHCP), is where it should be.
    fn fib_unasked(&self) -> Option<u32> {
        let interface = self.device()?;
        let looped = self.point == Point::Prerouting && interface.name == LOOPBACK;
        let [from, to] =
            [false, true].map(|destination| address_of(&self.packet.address(destination)));
        let to_neighbours = match to {
            Some(IpAddr::V4(to)) => to.is_broadcast() || to.octets().starts_with(&[224, 0, 0]),
            _ => false,
        };
        let nobody = from == Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) && to_neighbours;
        (looped || nobody).then_some(interface.index)
    }

    /// Where the packet is: the interface it came by, or else the one it leaves by.
    fn device(&self) -> Option<&Interface> {
        match (self.incoming(), self.outgoing()) {
            (Device::Is(interface), _) | (Device::None, Device::Is(interface)) => Some(interface),
            _ => None,
        }
    }
}

/// How many octets `fib` loads: a truth, a name, or a number.
fn fib_len(result: u32, present: bool) -> usize {
    match result {
        1 | 2 if present => 1,
        2 => 16,
        _ => 4,
    }
}

/// An interface that a hook may have or not.
#[derive(Debug, Clone, Copy)]
pub(super) enum Device<'a> {
    Is(&'a Interface),
    /// The hook has none.
    None,
    /// It has one, that nobody named.
    Unknown,
}

fn device(
    device: &Device<'_>,
    is: impl FnOnce(&Interface) -> Loaded,
    none: impl FnOnce() -> Loaded,
) -> Loaded {
    match device {
        Device::Is(interface) => is(interface),
        Device::None => none(),
        Device::Unknown => perhaps(None),
    }
}

fn of_device(found: &Device<'_>, is: impl FnOnce(&Interface) -> Loaded) -> Loaded {
    device(found, is, || Loaded::Nothing("there is no interface at this hook"))
}

fn name(found: &Device<'_>) -> Loaded {
    match found {
        Device::Is(device) => Loaded::Bits(Bits::known(&interface(&device.name))),
        Device::None => Loaded::Bits(Bits::known(&[0; 16])),
        Device::Unknown => Loaded::Bits(Bits::unknown(16)),
    }
}

pub(super) fn shown(bits: &Bits) -> String {
    bits.bytes().map_or_else(
        || "not known".to_owned(),
        |bytes| Style::of(Type::Mark, Order::Host).text(&bytes),
    )
}
