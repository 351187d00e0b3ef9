//! What a rule can look at: where it is, of which type, and which protocol must be known for it.

use nftables::expr::{CT, CTDir, CTFamily, Fib, FibFlag, FibResult, MetaKey, Payload, PayloadBase};

use super::Why;
use super::kind::Kind;
use crate::nft::expr::{Expr, base, ct, meta};

/// Something to be loaded into a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Register 1 stands for whichever it will be.
    pub load: Expr,
    pub kind: Kind,
    /// Octets loaded.
    pub octets: usize,
    /// The field is these bits of what is loaded; its lowest is so many bits above the lowest loaded.
    pub bits: Option<(Vec<u8>, u32)>,
    pub needs: Needs,
}

/// The protocol a header field belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    Ether,
    /// AF_INET or AF_INET6.
    Network(u8),
    Arp,
    Transport(u8),
    /// ICMP of one of the two families.
    Icmp {
        protocol: u8,
        family: u8,
    },
}

pub const IPV4: u8 = 2;
pub const IPV6: u8 = 10;
pub const TCP: u8 = 6;

/// NFTA_FIB_F_PRESENT: only whether there is one.
const FIB_PRESENT: u32 = 0x20;

impl Field {
    fn whole(load: Expr, kind: Kind) -> Self {
        Self { load, kind, octets: kind.octets(), bits: None, needs: Needs::Nothing }
    }

    pub fn payload(payload: &Payload<'_>) -> Result<Self, Why> {
        let field = match payload {
            Payload::PayloadField(field) => field,
            Payload::PayloadRaw(raw) => {
                let base = match raw.base {
                    PayloadBase::LL => base::LINK,
                    PayloadBase::NH => base::NETWORK,
                    PayloadBase::TH => base::TRANSPORT,
                    PayloadBase::IH => return Err("a raw payload of base ih is not supported".into()),
                };
                if raw.offset % 8 != 0 || raw.len % 8 != 0 || !(8..=128).contains(&raw.len) {
                    return Err("a raw payload that is not of whole octets, 1 to 16, is not supported".into());
                }
                let kind = Kind::Number { octets: raw.len / 8, host: false };
                return Ok(Self::bits(base, raw.offset, raw.len, kind, Needs::Nothing));
            }
        };
        let (protocol, name) = (field.protocol.as_ref(), field.field.as_ref());
        let found = match protocol {
            "ether" => ether(name).map(|at| (base::LINK, at, Needs::Ether)),
            "arp" => arp(name).map(|at| (base::NETWORK, at, Needs::Arp)),
            "ip" => ip(name).map(|at| (base::NETWORK, at, Needs::Network(IPV4))),
            "ip6" => ip6(name).map(|at| (base::NETWORK, at, Needs::Network(IPV6))),
            _ => transport(protocol, name).map(|(at, needs)| (base::TRANSPORT, at, needs)),
        };
        let (base, (offset, len, kind), needs) =
            found.ok_or_else(|| format!("the header field {protocol} {name} is not supported"))?;
        Ok(Self::bits(base, offset, len, kind, needs))
    }

    /// `offset` and `len` in bits.
    fn bits(base: u32, offset: u32, len: u32, kind: Kind, needs: Needs) -> Self {
        let first = offset / 8;
        let octets = (offset + len).div_ceil(8) - first;
        let load = Expr::Payload { base, offset: first, len: octets, dreg: 1 };
        let shift = octets * 8 - offset % 8 - len;
        let partial = !offset.is_multiple_of(8) || !len.is_multiple_of(8);
        let bits = partial.then(|| {
            let mask = ((1u64 << len) - 1) << shift;
            let bytes = mask.to_be_bytes();
            let skip = bytes.len().saturating_sub(octets as usize);
            (bytes.get(skip..).unwrap_or(&[]).to_vec(), shift)
        });
        Self { load, kind, octets: octets as usize, bits, needs }
    }

    pub fn meta(key: MetaKey) -> Result<Self, Why> {
        let number = |octets| Kind::Number { octets, host: true };
        let (key, kind) = match key {
            MetaKey::Length => (meta::LEN, number(4)),
            MetaKey::Protocol => (meta::PROTOCOL, Kind::EtherType),
            MetaKey::Mark => (meta::MARK, Kind::Mark),
            MetaKey::Iif => (meta::IIF, number(4)),
            MetaKey::Oif => (meta::OIF, number(4)),
            MetaKey::Iifname => (meta::IIFNAME, Kind::IfName),
            MetaKey::Oifname => (meta::OIFNAME, Kind::IfName),
            MetaKey::Iiftype => (meta::IIFTYPE, Kind::LinkType),
            MetaKey::Oiftype => (9, Kind::LinkType),
            MetaKey::Skuid => (10, number(4)),
            MetaKey::Skgid => (11, number(4)),
            MetaKey::Nftrace => (12, Kind::Boolean),
            MetaKey::Nfproto => (meta::NFPROTO, Kind::Family),
            MetaKey::L4proto => (meta::L4PROTO, Kind::Protocol),
            MetaKey::Pkttype => (meta::PKTTYPE, Kind::PacketType),
            MetaKey::Cpu => (20, number(4)),
            MetaKey::Iifgroup => (21, number(4)),
            MetaKey::Oifgroup => (22, number(4)),
            MetaKey::Cgroup => (23, number(4)),
            other => {
                return Err(format!("the meta key {} is not supported", format!("{other:?}").to_lowercase()));
            }
        };
        Ok(Self::whole(Expr::Meta { key, dreg: 1 }, kind))
    }

    pub fn ct(wanted: &CT<'_>) -> Result<Self, Why> {
        let direction = wanted.dir.map(|dir| match dir {
            CTDir::Original => 0,
            CTDir::Reply => 1,
        });
        let host = |octets| Kind::Number { octets, host: true };
        // Which direction they want: none, any, one.
        let (key, kind, directed) = match (wanted.key.as_ref(), wanted.family) {
            ("state", None) => (ct::STATE, Kind::CtState, Some(false)),
            ("direction", None) => (ct::DIRECTION, Kind::CtDirection, Some(false)),
            ("status", None) => (ct::STATUS, Kind::CtStatus, Some(false)),
            ("mark", None) => (ct::MARK, Kind::Mark, Some(false)),
            ("protocol", None) => (10, Kind::Protocol, Some(true)),
            ("proto-src", None) => (11, Kind::Service, Some(true)),
            ("proto-dst", None) => (12, Kind::Service, Some(true)),
            ("packets", None) => (14, host(8), None),
            ("bytes", None) => (15, host(8), None),
            ("zone", None) => (17, host(2), None),
            ("saddr", Some(CTFamily::IP)) => (19, Kind::Ipv4, Some(true)),
            ("daddr", Some(CTFamily::IP)) => (20, Kind::Ipv4, Some(true)),
            ("saddr", Some(CTFamily::IP6)) => (21, Kind::Ipv6, Some(true)),
            ("daddr", Some(CTFamily::IP6)) => (22, Kind::Ipv6, Some(true)),
            (key, _) => return Err(format!("the ct key {key} is not supported")),
        };
        if directed.is_some_and(|directed| directed != direction.is_some()) {
            let word = if direction.is_some() { "with" } else { "without" };
            return Err(format!("the ct key {} {word} a direction is not supported", wanted.key));
        }
        Ok(Self::whole(Expr::Ct { key, dreg: 1, direction }, kind))
    }

    /// `present`: compared with true or false.
    pub fn fib(fib: &Fib, present: bool) -> Result<Self, Why> {
        let flags = fib.flags.iter().fold(0, |flags, flag| {
            flags
                | match flag {
                    FibFlag::Saddr => 1,
                    FibFlag::Daddr => 2,
                    FibFlag::Mark => 4,
                    FibFlag::Iif => 8,
                    FibFlag::Oif => 0x10,
                }
        });
        let (result, kind) = match fib.result {
            FibResult::Oif => (1, Kind::Number { octets: 4, host: true }),
            FibResult::Oifname => (2, Kind::IfName),
            FibResult::Type => (3, Kind::FibType),
        };
        Ok(if present {
            Self::whole(Expr::Fib { dreg: 1, result, flags: flags | FIB_PRESENT }, Kind::Exists)
        } else {
            Self::whole(Expr::Fib { dreg: 1, result, flags }, kind)
        })
    }

    /// The load, into this register.
    pub fn load_into(&self, register: u32) -> Expr {
        let mut load = self.load.clone();
        if let Expr::Payload { dreg, .. }
        | Expr::Meta { dreg, .. }
        | Expr::Ct { dreg, .. }
        | Expr::Fib { dreg, .. } = &mut load
        {
            *dreg = register;
        }
        load
    }
}

/// Bit offset, length in bits, type.
type At = (u32, u32, Kind);

fn plain(offset: u32, len: u32) -> At {
    (offset, len, Kind::Number { octets: len.div_ceil(8), host: false })
}

fn ether(name: &str) -> Option<At> {
    Some(match name {
        "daddr" => (0, 48, Kind::Ether),
        "saddr" => (48, 48, Kind::Ether),
        "type" => (96, 16, Kind::EtherType),
        _ => return None,
    })
}

fn arp(name: &str) -> Option<At> {
    Some(match name {
        "htype" => plain(0, 16),
        "ptype" => (16, 16, Kind::EtherType),
        "hlen" => plain(32, 8),
        "plen" => plain(40, 8),
        "operation" => (48, 16, Kind::ArpOperation),
        "saddr ether" => (64, 48, Kind::Ether),
        "saddr ip" => (112, 32, Kind::Ipv4),
        "daddr ether" => (144, 48, Kind::Ether),
        "daddr ip" => (192, 32, Kind::Ipv4),
        _ => return None,
    })
}

fn ip(name: &str) -> Option<At> {
    Some(match name {
        "version" => plain(0, 4),
        "hdrlength" => plain(4, 4),
        "dscp" => (8, 6, Kind::Dscp),
        "ecn" => plain(14, 2),
        "length" => plain(16, 16),
        "id" => plain(32, 16),
        "frag-off" => plain(48, 16),
        "ttl" => plain(64, 8),
        "protocol" => (72, 8, Kind::Protocol),
        "checksum" => plain(80, 16),
        "saddr" => (96, 32, Kind::Ipv4),
        "daddr" => (128, 32, Kind::Ipv4),
        _ => return None,
    })
}

fn ip6(name: &str) -> Option<At> {
    Some(match name {
        "version" => plain(0, 4),
        "dscp" => (4, 6, Kind::Dscp),
        "flowlabel" => plain(12, 20),
        "length" => plain(32, 16),
        "nexthdr" => (48, 8, Kind::Protocol),
        "hoplimit" => plain(56, 8),
        "saddr" => (64, 128, Kind::Ipv6),
        "daddr" => (192, 128, Kind::Ipv6),
        _ => return None,
    })
}

fn transport(protocol: &str, name: &str) -> Option<(At, Needs)> {
    let ports = match name {
        "sport" => Some((0, 16, Kind::Service)),
        "dport" => Some((16, 16, Kind::Service)),
        _ => None,
    };
    let needs = match protocol {
        "th" => return ports.map(|at| (at, Needs::Nothing)),
        "tcp" => Needs::Transport(TCP),
        "udp" => Needs::Transport(17),
        "dccp" => Needs::Transport(33),
        "sctp" => Needs::Transport(132),
        "udplite" => Needs::Transport(136),
        "icmp" => Needs::Icmp { protocol: 1, family: IPV4 },
        "icmpv6" => Needs::Icmp { protocol: 58, family: IPV6 },
        _ => return None,
    };
    let at = match (protocol, name) {
        ("icmp", "type") => (0, 8, Kind::IcmpType),
        ("icmpv6", "type") => (0, 8, Kind::Icmpv6Type),
        ("icmp" | "icmpv6", "code") => plain(8, 8),
        ("icmp" | "icmpv6", "checksum") => plain(16, 16),
        ("icmp" | "icmpv6", _) => return None,
        ("tcp", "sequence") => plain(32, 32),
        ("tcp", "ackseq") => plain(64, 32),
        ("tcp", "doff") => plain(96, 4),
        ("tcp", "flags") => (104, 8, Kind::TcpFlags),
        ("tcp", "window") => plain(112, 16),
        ("tcp", "checksum") => plain(128, 16),
        ("tcp", "urgptr") => plain(144, 16),
        ("udp", "length") => plain(32, 16),
        ("udp" | "udplite", "checksum") => plain(48, 16),
        ("sctp", "vtag") => plain(32, 32),
        _ => ports?,
    };
    Some((at, needs))
}
