//! What meta, ct and fib say of the packet (net/netfilter/nft_meta.c, nft_ct.c, nft_fib.c).

use std::net::IpAddr;

use super::super::Family;
use super::super::expr::{ct, meta};
use super::bits::{Bits, Truth};
use super::machine::Effect;
use super::packet::{Packet, State, address_of};
use super::words::{self, Style, host, interface};
use super::world::{Interface, Question, Route, kind};
use super::{Point, Stage, Walk};

/// What a register is given.
#[derive(Debug)]
pub(super) enum Loaded {
    Bits(Bits),
    /// There is no such thing: the rule does not match.
    Nothing(&'static str),
}

fn known(value: u64, len: usize) -> Loaded {
    Loaded::Bits(Bits::known(&host(value, len)))
}

fn perhaps(value: Option<u32>) -> Loaded {
    Loaded::Bits(value.map_or_else(|| Bits::unknown(4), |value| Bits::known(&host(value.into(), 4))))
}

/// IPS_SRC_NAT, IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h).
pub(super) const STATUS_SNAT: u32 = 0x10;
pub(super) const STATUS_DNAT: u32 = 0x20;

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
            9 => of_device(&oif, |interface| known(interface.arp_type.into(), 2)),
            10 | 11 => match (packet.local, packet.connection.state) {
                (true, _) => perhaps(if key == 10 { packet.uid } else { packet.gid }),
                (false, State::New) => Loaded::Nothing("the packet has no socket here"),
                _ => perhaps(None),
            },
            meta::NFPROTO => known(packet.family.0.into(), 1),
            meta::L4PROTO => Loaded::Bits(Bits::known(&[packet.protocol])),
            meta::PKTTYPE => known(self.packet_kind().into(), 1),
            21 => of_device(&iif, |interface| known(interface.group.into(), 4)),
            22 => of_device(&oif, |interface| known(interface.group.into(), 4)),
            26 => of_device(&iif, |device| Loaded::Bits(Bits::known(&interface(&device.kind)))),
            27 => of_device(&oif, |device| Loaded::Bits(Bits::known(&interface(&device.kind)))),
            17 | 18 | 34 => Loaded::Bits(Bits::unknown(16)),
            30 => Loaded::Bits(Bits::unknown(8)),
            31 => Loaded::Bits(Bits::unknown(1)),
            _ => perhaps(None),
        }
    }

    fn packet_kind(&self) -> u8 {
        let kind_of = |address: IpAddr| match self.world.kind_of(address, None) {
            kind::BROADCAST => 1,
            kind::MULTICAST => 2,
            _ => 0,
        };
        self.packet.kind.or_else(|| self.packet.destination().map(kind_of)).unwrap_or(0)
    }

    pub(super) fn set_meta(&mut self, key: u32, bits: &Bits, certain: bool) -> Effect {
        match key {
            meta::MARK => {
                self.packet.mark = if certain { bits.clone() } else { self.packet.mark.or(bits) };
                Effect::Said(format!("meta mark is {} from here on", shown(&self.packet.mark)))
            }
            meta::PKTTYPE => {
                self.packet.kind = bits.bytes().and_then(|bytes| bytes.first().copied());
                Effect::Next
            }
            // Priority, trace, security mark: nothing that decides where the packet goes.
            _ => Effect::Next,
        }
    }

    pub(super) fn ct(&self, key: u32, direction: Option<u8>) -> Loaded {
        let connection = &self.packet.connection;
        let state = match self.stage {
            Stage::Before => State::Invalid,
            Stage::Untracked => State::Untracked,
            Stage::Tracked => connection.state,
        };
        let bit = match state {
            State::Invalid => 1,
            State::Established => 2,
            State::Related => 4,
            State::New => 8,
            State::Untracked => 0x40,
        };
        let first = state == State::New;
        match (key, state) {
            (ct::STATE, _) => known(bit, 4),
            (_, State::Invalid) if self.stage == Stage::Before => {
                Loaded::Nothing("conntrack sees the packet only later (priority -200)")
            }
            (_, State::Invalid | State::Untracked) => Loaded::Nothing("the packet has no connection"),
            (ct::DIRECTION, _) => known(connection.reply.into(), 1),
            (ct::STATUS, _) => Loaded::Bits(connection.status.clone()),
            (ct::MARK, _) => Loaded::Bits(connection.mark.clone()),
            (6, _) if first => Loaded::Nothing("a first packet has no helper yet"),
            (6, _) => Loaded::Bits(Bits::unknown(16)),
            (7, _) => known(self.packet.family.0.into(), 1),
            (8 | 9 | 11 | 12 | 19..=22, _) => self.tuple(key, direction),
            (10, _) => Loaded::Bits(Bits::known(&[self.packet.protocol])),
            (13, _) if first => Loaded::Bits(Bits::known(&[0; 16])),
            (13, _) => Loaded::Bits(Bits::unknown(16)),
            (14..=16, _) => Loaded::Bits(Bits::unknown(8)),
            (17, _) => known(0, 2),
            _ => perhaps(None),
        }
    }

    /// An address or port of the connection: what it was before any NAT, or what its replies look for.
    fn tuple(&self, key: u32, direction: Option<u8>) -> Loaded {
        let source = matches!(key, 8 | 11 | 19 | 21);
        let port = matches!(key, 11 | 12);
        let len = match (port, self.packet.family) {
            (true, _) => 2,
            (_, Family::IP6) => 16,
            _ => 4,
        };
        if matches!((key, self.packet.family), (19 | 20, Family::IP6) | (21 | 22, Family::IP)) {
            return Loaded::Nothing("the connection is of the other family");
        }
        let first = self.packet.connection.state == State::New;
        let bits = match (direction.unwrap_or(0), first, &self.original) {
            (0, true, Some(original)) => part(original, !source, port),
            // A reply comes from where the packet goes now.
            (_, true, _) => part(&self.packet, source, port),
            (0, false, Some(original)) if !self.packet.connection.reply => part(original, !source, port),
            // A reply that nobody rewrites is the other way round.
            (0, false, Some(original)) if self.is_untranslated() => part(original, source, port),
            (_, false, Some(original)) if self.is_untranslated() => {
                part(original, source != self.packet.connection.reply, port)
            }
            _ => Bits::unknown(len),
        };
        Loaded::Bits(bits)
    }

    fn is_untranslated(&self) -> bool {
        [true, false].into_iter().all(|destination| self.is_translated(destination) == Truth::No)
    }

    pub(super) fn set_ct(&mut self, key: u32, bits: &Bits, certain: bool) -> Effect {
        if self.stage != Stage::Tracked {
            // Zones are set before there is a connection; marks need one.
            return Effect::Next;
        }
        if key != ct::MARK {
            return Effect::Next;
        }
        let mark = &mut self.packet.connection.mark;
        *mark = if certain { bits.clone() } else { mark.or(bits) };
        Effect::Said(format!("ct mark is {} from here on", shown(mark)))
    }

    pub(super) fn no_track(&mut self, certain: bool) -> Effect {
        match (self.stage, certain) {
            (Stage::Before, true) => {
                self.stage = Stage::Untracked;
                Effect::Said("conntrack leaves the packet alone".into())
            }
            (Stage::Before, false) => super::machine::stuck("whether the packet is tracked is not known"),
            _ => Effect::Next,
        }
    }

    pub(super) fn fib(&self, result: u32, flags: u32) -> Result<Loaded, Question> {
        const DADDR: u32 = 2;
        const MARK: u32 = 4;
        const IIF: u32 = 8;
        const OIF: u32 = 0x10;
        const PRESENT: u32 = 0x20;
        let Some(address) = address_of(&self.packet.address(flags & DADDR != 0)) else {
            return Ok(Loaded::Bits(Bits::unknown(4)));
        };
        let index = |device: Device<'_>| match device {
            Device::Is(interface) => Some(interface.index),
            Device::None | Device::Unknown => None,
        };
        let link = match flags {
            flags if flags & IIF != 0 => index(self.incoming()),
            flags if flags & OIF != 0 => index(self.outgoing()),
            _ => None,
        };
        if result == 3 {
            let found = self.world.kind_of(address, link);
            if found == kind::UNICAST && address.is_ipv6() {
                let question = Question { from: None, to: address, iif: None, oif: link, mark: 0 };
                let routed = matches!(self.world.route(&question)?, Route::To { .. });
                return Ok(known(if routed { kind::UNICAST } else { kind::UNREACHABLE }.into(), 4));
            }
            return Ok(known(found.into(), 4));
        }
        let mark = self.packet.mark.bytes().filter(|_| flags & MARK != 0);
        let mark = mark.map_or(0, |bytes| u32::try_from(words::number(&bytes, true)).unwrap_or(0));
        let question = Question { from: None, to: address, iif: None, oif: link, mark };
        let found = match self.world.route(&question)? {
            Route::To { kind: kind::UNICAST, link, .. } => *link,
            _ => 0,
        };
        Ok(match (result, flags & PRESENT != 0) {
            (_, true) => known(u64::from(found != 0), 1),
            (1, false) => known(found.into(), 4),
            _ => {
                let name = self.world.interface(found).map_or("", |interface| interface.name.as_str());
                Loaded::Bits(Bits::known(&interface(name)))
            }
        })
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

fn part(packet: &Packet, destination: bool, port: bool) -> Bits {
    if port { packet.port(destination) } else { packet.address(destination) }
}

fn shown(bits: &Bits) -> String {
    bits.bytes().map_or_else(|| "not known".to_owned(), |bytes| Style::Mark.text(&bytes))
}
