//! Protocol headers: where each field is, what it is called and what its values are.

use super::datatype::Type::{self, *};

/// A field: nft's word, type, first bit and number of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub kind: Type,
    pub offset: u32,
    pub bits: u32,
    /// ICMP types that have the field; none when all do.
    pub only: &'static [u8],
}

#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub name: &'static str,
    pub fields: &'static [Field],
    /// The field that tells the protocol above.
    pub upper: Option<&'static str>,
}

const fn f(name: &'static str, kind: Type, offset: u32, bits: u32) -> Field {
    Field { name, kind, offset, bits, only: &[] }
}

const fn of(only: &'static [u8], name: &'static str, kind: Type, offset: u32, bits: u32) -> Field {
    Field { name, kind, offset, bits, only }
}

pub static ETHER: Header = Header {
    name: "ether",
    fields: &[f("daddr", Ether, 0, 48), f("saddr", Ether, 48, 48), f("type", EtherType, 96, 16)],
    upper: Some("type"),
};

/// Counted from the end of the Ethernet addresses and type, as the tag follows them.
pub static VLAN: Header = Header {
    name: "vlan",
    fields: &[
        f("pcp", Integer, 0, 3),
        f("dei", Integer, 3, 1),
        f("id", Integer, 4, 12),
        f("type", EtherType, 16, 16),
    ],
    upper: Some("type"),
};

pub static ARP: Header = Header {
    name: "arp",
    fields: &[
        f("htype", Integer, 0, 16),
        f("ptype", EtherType, 16, 16),
        f("hlen", Integer, 32, 8),
        f("plen", Integer, 40, 8),
        f("operation", ArpOp, 48, 16),
        f("saddr ether", Ether, 64, 48),
        f("saddr ip", Ipv4, 112, 32),
        f("daddr ether", Ether, 144, 48),
        f("daddr ip", Ipv4, 192, 32),
    ],
    upper: None,
};

pub static IP: Header = Header {
    name: "ip",
    fields: &[
        f("version", Integer, 0, 4),
        f("hdrlength", Integer, 4, 4),
        f("dscp", Dscp, 8, 6),
        f("ecn", Ecn, 14, 2),
        f("length", Integer, 16, 16),
        f("id", Integer, 32, 16),
        f("frag-off", Integer, 48, 16),
        f("ttl", Integer, 64, 8),
        f("protocol", InetProto, 72, 8),
        f("checksum", Integer, 80, 16),
        f("saddr", Ipv4, 96, 32),
        f("daddr", Ipv4, 128, 32),
    ],
    upper: Some("protocol"),
};

pub static IP6: Header = Header {
    name: "ip6",
    fields: &[
        f("version", Integer, 0, 4),
        f("dscp", Dscp, 4, 6),
        f("ecn", Ecn, 10, 2),
        f("flowlabel", Integer, 12, 20),
        f("length", Integer, 32, 16),
        f("nexthdr", InetProto, 48, 8),
        f("hoplimit", Integer, 56, 8),
        f("saddr", Ipv6, 64, 128),
        f("daddr", Ipv6, 192, 128),
    ],
    upper: Some("nexthdr"),
};

/// Types of ICMP that carry an identifier and a sequence number.
pub const ECHO: &[u8] = &[0, 8];
pub const ECHO6: &[u8] = &[128, 129];

pub static ICMP: Header = Header {
    name: "icmp",
    fields: &[
        f("type", IcmpType, 0, 8),
        f("code", IcmpCode, 8, 8),
        f("checksum", Integer, 16, 16),
        of(ECHO, "id", Integer, 32, 16),
        of(ECHO, "sequence", Integer, 48, 16),
        of(&[5], "gateway", Integer, 32, 32),
        of(&[3], "mtu", Integer, 48, 16),
    ],
    upper: None,
};

pub static ICMPV6: Header = Header {
    name: "icmpv6",
    fields: &[
        f("type", Icmpv6Type, 0, 8),
        f("code", Icmpv6Code, 8, 8),
        f("checksum", Integer, 16, 16),
        of(&[4], "parameter-problem", Integer, 32, 32),
        of(&[2], "mtu", Integer, 32, 32),
        of(ECHO6, "id", Integer, 32, 16),
        of(ECHO6, "sequence", Integer, 48, 16),
        of(&[130, 131, 132], "max-delay", Integer, 32, 16),
    ],
    upper: None,
};

pub static IGMP: Header = Header {
    name: "igmp",
    fields: &[
        f("type", IgmpType, 0, 8),
        f("checksum", Integer, 16, 16),
        f("mrt", Integer, 8, 8),
        f("group", Integer, 32, 32),
    ],
    upper: None,
};

pub static UDP: Header = Header {
    name: "udp",
    fields: &[
        f("sport", InetService, 0, 16),
        f("dport", InetService, 16, 16),
        f("length", Integer, 32, 16),
        f("checksum", Integer, 48, 16),
    ],
    upper: None,
};

pub static UDPLITE: Header = Header {
    name: "udplite",
    fields: &[
        f("sport", InetService, 0, 16),
        f("dport", InetService, 16, 16),
        f("csumcov", Integer, 32, 16),
        f("checksum", Integer, 48, 16),
    ],
    upper: None,
};

pub static TCP: Header = Header {
    name: "tcp",
    fields: &[
        f("sport", InetService, 0, 16),
        f("dport", InetService, 16, 16),
        f("sequence", Integer, 32, 32),
        f("ackseq", Integer, 64, 32),
        f("doff", Integer, 96, 4),
        f("reserved", Integer, 100, 4),
        f("flags", TcpFlag, 104, 8),
        f("window", Integer, 112, 16),
        f("checksum", Integer, 128, 16),
        f("urgptr", Integer, 144, 16),
    ],
    upper: None,
};

pub static DCCP: Header = Header {
    name: "dccp",
    fields: &[
        f("sport", InetService, 0, 16),
        f("dport", InetService, 16, 16),
        f("type", DccpType, 67, 4),
    ],
    upper: None,
};

pub static SCTP: Header = Header {
    name: "sctp",
    fields: &[
        f("sport", InetService, 0, 16),
        f("dport", InetService, 16, 16),
        f("vtag", Integer, 32, 32),
        f("checksum", Integer, 64, 32),
    ],
    upper: None,
};

/// Ports of whatever is above IP.
pub static TH: Header = Header {
    name: "th",
    fields: &[f("sport", InetService, 0, 16), f("dport", InetService, 16, 16)],
    upper: None,
};

pub static AH: Header = Header {
    name: "ah",
    fields: &[
        f("nexthdr", InetProto, 0, 8),
        f("hdrlength", Integer, 8, 8),
        f("reserved", Integer, 16, 16),
        f("spi", Integer, 32, 32),
        f("sequence", Integer, 64, 32),
    ],
    upper: None,
};

pub static ESP: Header = Header {
    name: "esp",
    fields: &[f("spi", Integer, 0, 32), f("sequence", Integer, 32, 32)],
    upper: None,
};

pub static COMP: Header = Header {
    name: "comp",
    fields: &[f("nexthdr", InetProto, 0, 8), f("flags", Bitmask, 8, 8), f("cpi", Integer, 16, 16)],
    upper: None,
};

/// In the order of nft's own numbers (`enum proto_desc_id`), from 1.
pub static ALL: [&Header; 17] = [
    &AH, &ESP, &COMP, &ICMP, &IGMP, &UDP, &UDPLITE, &TCP, &DCCP, &SCTP, &TH, &IP, &IP6, &ICMPV6,
    &ARP, &VLAN, &ETHER,
];

/// By IANA's protocol numbers.
static TRANSPORTS: [(u8, &Header); 11] = [
    (1, &ICMP),
    (2, &IGMP),
    (6, &TCP),
    (17, &UDP),
    (33, &DCCP),
    (50, &ESP),
    (51, &AH),
    (58, &ICMPV6),
    (108, &COMP),
    (132, &SCTP),
    (136, &UDPLITE),
];

impl Header {
    /// The header of an IANA protocol number.
    pub fn transport(protocol: u8) -> Option<&'static Self> {
        TRANSPORTS.iter().find(|(number, _)| *number == protocol).map(|(_, header)| *header)
    }

    /// The IANA protocol number of a header above IP.
    pub fn protocol(&self) -> Option<u8> {
        TRANSPORTS.iter().find(|(_, header)| header.name == self.name).map(|(number, _)| *number)
    }

    /// The header that nft calls so.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|header| header.name == name)
    }

    /// The header of an EtherType.
    pub fn network(ethertype: u16) -> Option<&'static Self> {
        Some(match ethertype {
            0x0800 => &IP,
            0x86dd => &IP6,
            0x0806 => &ARP,
            0x8100 | 0x88a8 => &VLAN,
            _ => return None,
        })
    }

    /// Fields that begin at the bit and are no longer; `icmp` is the type a match has told.
    pub fn fields_at(
        &'static self,
        offset: u32,
        icmp: Option<u8>,
    ) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().filter(move |field| {
            field.offset == offset
                && (field.only.is_empty() || icmp.is_none_or(|icmp| field.only.contains(&icmp)))
        })
    }
}
