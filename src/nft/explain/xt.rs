//! Matches and targets of x_tables, as iptables-nft loads them: what Kubernetes, Docker and Istio are made of.
//!
//! Their data is the C structure of each module (linux/netfilter/xt_*.h, revisions as iptables 1.8 uses them), in
//! host order with the host's padding. A module that is not here is named, and the answer left open.

use std::net::IpAddr;
use std::ops::Not;

use super::super::attr::array;
use super::super::{Family, Verdict};
use super::bits::{Bits, Truth};
use super::effect::{Effect, End, Loaded, stuck};
use super::machine::Machine;
use super::nat::Change;
use super::packet::{ICMP, ICMP6, Packet, State, TCP, UDP};
use super::track::Zone;
use super::words::number;
use super::world::Question;
use super::{Stage, Walk};

/// NF_NAT_RANGE_MAP_IPS and _PROTO_SPECIFIED.
const MAP_IPS: u32 = 1;
const PORTS: u32 = 2;

/// A module's structure, read without trust.
#[derive(Clone, Copy)]
struct Info<'a>(&'a [u8]);

impl Info<'_> {
    fn u8(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn u16(self, at: usize) -> u16 {
        array(self.0, at).map_or(0, u16::from_ne_bytes)
    }

    fn u32(self, at: usize) -> u32 {
        array(self.0, at).map_or(0, u32::from_ne_bytes)
    }

    fn bytes(self, at: usize, len: usize) -> Vec<u8> {
        self.0.get(at..at + len).map_or_else(|| vec![0; len], <[u8]>::to_vec)
    }

    /// Two numbers in host order, as the wire has them.
    fn ports(self, at: usize) -> (Vec<u8>, Vec<u8>) {
        (self.u16(at).to_be_bytes().to_vec(), self.u16(at + 2).to_be_bytes().to_vec())
    }
}

/// XT_CT_ZONE_DIR_ORIG 4, _REPL 8, _ZONE_MARK 16; a helper or timeout alone makes a template of zone 0.
fn zone(packet: &Packet, info: Info<'_>) -> Zone {
    let (flags, id) = (info.u16(0), info.u16(2));
    let of_mark = if cfg!(target_endian = "little") { 0 } else { 2 };
    let id = match flags & 16 {
        0 => Bits::known(&id.to_ne_bytes()),
        _ => packet.mark.part(of_mark, 2).unwrap_or_else(|| Bits::unknown(2)),
    };
    let direction = match flags & 12 {
        4 => Some(0),
        8 => Some(1),
        _ => None,
    };
    Zone { id, direction }
}

/// Truth of a match, inverted when its flag is set.
fn unless(truth: Truth, inverted: bool) -> Truth {
    if inverted { truth.not() } else { truth }
}

fn given(condition: bool) -> Truth {
    if condition { Truth::Yes } else { Truth::No }
}

impl Machine<'_, '_> {
    pub(super) fn xt(
        &mut self,
        target: bool,
        name: &str,
        revision: u32,
        info: &[u8],
    ) -> Result<Effect, Question> {
        let info = Info(info);
        if target {
            return Ok(self.target(name, revision, info));
        }
        let truth = match (name, revision) {
            ("comment", _) => Truth::Yes,
            ("tcp", _) => tcp(&self.walk.packet, info),
            ("udp", _) => udp(&self.walk.packet, info),
            ("icmp" | "icmp6", _) => icmp(&self.walk.packet, info),
            ("multiport", 1) => multiport(&self.walk.packet, info),
            ("conntrack", 1..=3) => match self.walk.conntrack(revision, info) {
                Some(truth) => truth,
                None => {
                    return Ok(Effect::Doubt("match conntrack asks for more than is given".into()));
                }
            },
            ("state", _) => self.walk.state_in(info.u32(0)),
            ("addrtype", 1) => self.walk.address_types(info),
            ("mark", 1) => masked(&self.walk.packet.mark, info),
            ("connmark", 1) => match self.walk.ct(super::super::expr::ct::MARK, None) {
                Loaded::Bits(mark) => masked(&mark, info),
                Loaded::Nothing(_) => Truth::No,
            },
            ("owner", 1) => self.walk.owner(info),
            ("iprange", 1) => ranges(&self.walk.packet, info),
            ("limit" | "hashlimit" | "connlimit" | "quota", _) => {
                return Ok(self.limited(name, false));
            }
            ("statistic", _) => {
                return Ok(Effect::Doubt("match statistic leaves it to chance".into()));
            }
            (name, _) => {
                return Ok(Effect::Doubt(format!("match {name} depends on more than is given")));
            }
        };
        Ok(match truth {
            Truth::Yes => Effect::Next,
            Truth::No => Effect::Break(format!("match {name} says no")),
            Truth::Maybe => {
                Effect::Doubt(format!("match {name} depends on something that was not given"))
            }
        })
    }

    fn target(&mut self, name: &str, revision: u32, info: Info<'_>) -> Effect {
        match (name, revision) {
            (
                "LOG" | "NFLOG" | "TRACE" | "CHECKSUM" | "CLASSIFY" | "TCPMSS" | "AUDIT"
                | "SECMARK",
                _,
            ) => Effect::Next,
            ("MARK", 2) => {
                let mark = set_mark(&self.walk.packet.mark, info.u32(0), info.u32(4));
                let certain = self.certain();
                self.walk.set_meta(super::super::expr::meta::MARK, &mark, certain)
            }
            ("CONNMARK", 1 | 2) => self.connection_mark(revision, info),
            ("DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP", _) => {
                self.translation(name, revision, info)
            }
            // IPT_TCP_RESET, IP6T_TCP_RESET.
            ("REJECT", _) => {
                let reset = if self.walk.packet.family == Family::IP6 { 6 } else { 7 };
                self.reject(info.u32(0) == reset)
            }
            ("CT", _) if info.u16(0) & 1 != 0 => self.walk.no_track(self.certain()),
            ("NOTRACK", _) => self.walk.no_track(self.certain()),
            ("CT", _) => self.walk.set_zone(zone(&self.walk.packet, info), self.certain()),
            ("NFQUEUE", _) => stuck("a program in user space decides (NFQUEUE)"),
            ("TPROXY", _) => stuck("the packet goes to a proxy's socket, if there is one (TPROXY)"),
            (name, _) => stuck(&format!("target {name} is not understood")),
        }
    }

    /// XT_CONNMARK_SET 0, _SAVE 1, _RESTORE 2.
    fn connection_mark(&mut self, revision: u32, info: Info<'_>) -> Effect {
        use super::super::expr::{ct, meta};
        let Loaded::Bits(mark) = self.walk.ct(ct::MARK, None) else { return Effect::Next };
        let (value, mask, packet_mask) = (info.u32(0), info.u32(4), info.u32(8));
        let mode = info.u8(if revision == 1 { 12 } else { 14 });
        let of_packet = |mask: u32| self.walk.packet.mark.masked(&mask.to_ne_bytes(), &[0; 4]);
        let certain = self.certain();
        match mode {
            0 => {
                let mark = set_mark(&mark, value, mask);
                self.walk.set_ct(ct::MARK, None, &mark, certain)
            }
            1 => {
                let mark =
                    mark.masked(&(!mask).to_ne_bytes(), &[0; 4]).xor(&of_packet(packet_mask));
                self.walk.set_ct(ct::MARK, None, &mark, certain)
            }
            _ => {
                let kept = of_packet(!packet_mask);
                let mark = kept.xor(&mark.masked(&mask.to_ne_bytes(), &[0; 4]));
                self.walk.set_meta(meta::MARK, &mark, certain)
            }
        }
    }

    /// Revision 0 has IPv4's old structure with a count before it, later ones `nf_nat_range`.
    fn translation(&mut self, name: &str, revision: u32, info: Info<'_>) -> Effect {
        let v4 = self.walk.packet.family != Family::IP6;
        let old = v4 && revision == 0;
        let (flags, low, high, port) = if old {
            (info.u32(4), info.bytes(8, 4), info.bytes(12, 4), 16)
        } else {
            let len = if v4 { 4 } else { 16 };
            (info.u32(0), info.bytes(4, len), info.bytes(20, len), 36)
        };
        let known = |low: Vec<u8>, high: Vec<u8>| Some((Bits::known(&low), Bits::known(&high)));
        let ports = (flags & PORTS != 0)
            .then(|| known(info.bytes(port, 2), info.bytes(port + 2, 2)))
            .flatten();
        let address = (flags & MAP_IPS != 0).then(|| known(low, high)).flatten();
        let change = match name {
            "MASQUERADE" => self.walk.masquerade(ports, flags),
            "REDIRECT" => match self.walk.redirect(ports, flags) {
                Some(change) => change,
                None => return Effect::End(End::Verdict(Verdict::Drop)),
            },
            "NETMAP" => return stuck("target NETMAP is not understood"),
            _ => Change { destination: name == "DNAT", address, port: ports, flags },
        };
        self.nat(&change)
    }
}

impl Walk<'_> {
    fn state_in(&self, wanted: u32) -> Truth {
        match self.ct(super::super::expr::ct::STATE, None) {
            // XT_STATE_UNTRACKED is a bit of its own there.
            Loaded::Bits(bits) => {
                let state = bits.bytes().map_or(0, |bytes| number(&bytes, true));
                let state = if state == 0x40 { 0x100 } else { state };
                given(state & u64::from(wanted) != 0)
            }
            Loaded::Nothing(_) => Truth::No,
        }
    }

    /// `struct xt_conntrack_mtinfo1` to 3, as far as state, status and direction go.
    fn conntrack(&self, revision: u32, info: Info<'_>) -> Option<Truth> {
        const STATE: u16 = 1;
        const STATUS: u16 = 0x40;
        const DIRECTION: u16 = 0x1000;
        const ALIAS: u16 = 0x2000;
        const SNAT: u32 = 0x40;
        const DNAT: u32 = 0x80;
        let (flags, inverted) = (info.u16(146), info.u16(148));
        if flags & !(STATE | STATUS | DIRECTION | ALIAS) != 0 {
            return None;
        }
        let (states, statuses) = if revision == 1 {
            (info.u8(150).into(), info.u8(151).into())
        } else {
            (u32::from(info.u16(150)), u32::from(info.u16(152)))
        };
        let tracked =
            self.stage == Stage::Tracked && self.packet.connection.state != State::Invalid;
        let mut truth = Truth::Yes;
        if flags & STATE != 0 {
            let mut found = self.state_in(states);
            for (bit, destination) in [(SNAT, false), (DNAT, true)] {
                if states & bit != 0 && tracked {
                    found = found.not().and(self.is_translated(destination).not()).not();
                }
            }
            truth = truth.and(unless(found, inverted & STATE != 0));
        }
        if !tracked {
            return Some(if flags & STATE != 0 { truth } else { Truth::No });
        }
        if flags & STATUS != 0 {
            let bits = self.packet.connection.status.masked(&statuses.to_ne_bytes(), &[0; 4]);
            truth = truth.and(unless(bits.equals(&[0; 4]).not(), inverted & STATUS != 0));
        }
        if flags & DIRECTION != 0 {
            let original = given(!self.packet.connection.reply);
            truth = truth.and(unless(original, inverted & DIRECTION != 0));
        }
        Some(truth)
    }

    /// `struct xt_addrtype_info_v1`.
    fn address_types(&self, info: Info<'_>) -> Truth {
        let (source, destination, flags) = (info.u16(0), info.u16(2), info.u32(4));
        let index = |interface: &Option<super::Interface>| {
            interface.as_ref().map(|interface| interface.index)
        };
        let link = match flags {
            flags if flags & 4 != 0 => index(&self.packet.iif),
            flags if flags & 8 != 0 => index(&self.packet.oif),
            _ => None,
        };
        let is = |address: Option<IpAddr>, mask: u16, inverted: bool| match (mask, address) {
            (0, _) => Truth::Yes,
            (_, None) => Truth::Maybe,
            (mask, Some(address)) => {
                let bit = 1_u16.checked_shl(self.world.kind_of(address, link).into()).unwrap_or(0);
                unless(given(mask & bit != 0), inverted)
            }
        };
        let source = is(self.packet.source(), source, flags & 1 != 0);
        source.and(is(self.packet.destination(), destination, flags & 2 != 0))
    }

    /// `struct xt_owner_match_info`.
    fn owner(&self, info: Info<'_>) -> Truth {
        let (wanted, inverted) = (info.u8(16), info.u8(17));
        if !self.packet.local {
            // Without a socket only "has none" can be so.
            return given(wanted & !inverted & 7 == 0);
        }
        let within = |bit: u8, value: Option<u32>, at: usize| match (wanted & bit != 0, value) {
            (false, _) => Truth::Yes,
            (true, None) => Truth::Maybe,
            (true, Some(value)) => {
                let inside = (info.u32(at)..=info.u32(at + 4)).contains(&value);
                unless(given(inside), inverted & bit != 0)
            }
        };
        let socket = given(wanted & 4 == 0 || inverted & 4 == 0);
        socket.and(within(1, self.packet.uid, 0)).and(within(2, self.packet.gid, 8))
    }
}

/// `struct xt_tcp`.
fn tcp(packet: &Packet, info: Info<'_>) -> Truth {
    if packet.protocol != TCP {
        return Truth::No;
    }
    let inverted = info.u8(11);
    let ports = both_ports(packet, info, inverted);
    let (mask, wanted) = (info.u8(9), info.u8(10));
    let flags = packet.transport.part(13, 1).unwrap_or_else(|| Bits::unknown(1));
    let flags = unless(flags.masked(&[mask], &[0]).equals(&[wanted]), inverted & 4 != 0);
    let option = if info.u8(8) == 0 { Truth::Yes } else { Truth::Maybe };
    ports.and(flags).and(option)
}

/// `struct xt_udp`.
fn udp(packet: &Packet, info: Info<'_>) -> Truth {
    if packet.protocol == UDP { both_ports(packet, info, info.u8(8)) } else { Truth::No }
}

fn both_ports(packet: &Packet, info: Info<'_>, inverted: u8) -> Truth {
    let side = |at: usize, destination: bool, bit: u8| {
        let (from, to) = info.ports(at);
        unless(packet.port(destination).within(&from, &to), inverted & bit != 0)
    };
    side(0, false, 1).and(side(4, true, 2))
}

/// `struct ipt_icmp`; type 0xff is any of IPv4's.
fn icmp(packet: &Packet, info: Info<'_>) -> Truth {
    let wanted = info.u8(0);
    let any = wanted == 0xff && packet.protocol == ICMP;
    if !matches!(packet.protocol, ICMP | ICMP6) {
        return Truth::No;
    }
    let part = |at: usize| packet.transport.part(at, 1).unwrap_or_else(|| Bits::unknown(1));
    let code = part(1).within(&[info.u8(1)], &[info.u8(2)]);
    let found = if any { Truth::Yes } else { part(0).equals(&[wanted]).and(code) };
    unless(found, info.u8(3) & 1 != 0)
}

/// `struct xt_multiport_v1`.
fn multiport(packet: &Packet, info: Info<'_>) -> Truth {
    if !packet.has_ports() {
        return Truth::No;
    }
    let mut found = Truth::No;
    let mut at = 0;
    while at < usize::from(info.u8(1)).min(15) {
        let port = |at: usize| info.u16(2 + 2 * at).to_be_bytes();
        let range = info.u8(32 + at) != 0;
        let (from, to) = (port(at), port(if range { at + 1 } else { at }));
        let source = || packet.port(false).within(&from, &to);
        let destination = || packet.port(true).within(&from, &to);
        let here = match info.u8(0) {
            0 => source(),
            1 => destination(),
            _ => source().not().and(destination().not()).not(),
        };
        found = found.not().and(here.not()).not();
        at += if range { 2 } else { 1 };
    }
    unless(found, info.u8(47) != 0)
}

/// `struct xt_mark_mtinfo1`, and that of connmark.
fn masked(mark: &Bits, info: Info<'_>) -> Truth {
    let mask = info.u32(4).to_ne_bytes();
    unless(mark.masked(&mask, &[0; 4]).equals(&info.u32(0).to_ne_bytes()), info.u8(8) != 0)
}

/// `(mark & ~mask) ^ value`.
fn set_mark(mark: &Bits, value: u32, mask: u32) -> Bits {
    mark.masked(&(!mask).to_ne_bytes(), &value.to_ne_bytes())
}

/// `struct xt_iprange_mtinfo`.
fn ranges(packet: &Packet, info: Info<'_>) -> Truth {
    let flags = info.u8(64);
    let len = if packet.family == Family::IP6 { 16 } else { 4 };
    let side = |bit: u8, at: usize, destination: bool| {
        if flags & bit == 0 {
            return Truth::Yes;
        }
        let inside =
            packet.address(destination).within(&info.bytes(at, len), &info.bytes(at + 16, len));
        unless(inside, flags & bit << 4 != 0)
    };
    side(1, 0, false).and(side(2, 32, true))
}

impl Bits {
    fn xor(&self, other: &Self) -> Self {
        let same = [0xff; 4];
        match (self.bytes(), other.bytes()) {
            (_, Some(other)) if other.len() == same.len() => self.masked(&same, &other),
            (Some(mine), _) if mine.len() == same.len() => other.masked(&same, &mine),
            _ => Self::unknown(self.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_ports_has_ranges_among_its_ports() {
        let mut info = [0_u8; 48];
        (info[0], info[1], info[32]) = (1, 4, 1);
        for (at, port) in [(2, 10_u16), (4, 20), (6, 80), (8, 443)] {
            info[at..at + 2].copy_from_slice(&port.to_ne_bytes());
        }
        let ask = |port| {
            let mut packet = Packet::ip(None, IpAddr::from([10, 0, 0, 1]), TCP);
            packet.set_ports(None, port);
            multiport(&packet, Info(&info))
        };
        let found = [9, 10, 15, 20, 21, 80, 443].map(|port| ask(Some(port)));
        use Truth::{No, Yes};
        assert_eq!(found, [No, Yes, Yes, Yes, No, Yes, Yes]);
        assert_eq!(ask(None), Truth::Maybe);
    }

    #[test]
    fn a_structure_that_is_too_short_is_no_reason_to_stop() {
        let packet = Packet::ip(None, IpAddr::from([10, 0, 0, 1]), TCP);
        for info in [&[][..], &[1, 15], &[0xff; 40]] {
            let info = Info(info);
            let _ = (
                tcp(&packet, info),
                multiport(&packet, info),
                ranges(&packet, info),
                masked(&packet.mark, info),
            );
        }
    }
}
