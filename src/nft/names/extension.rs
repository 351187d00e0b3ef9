//! Fields that are not at a fixed place: IPv6 extension headers, TCP and IPv4 options, SCTP chunks.

use super::datatype::Type::{self, *};

/// A header option or extension header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extension {
    /// 0 IPv6 extension header, 1 TCP option, 2 IPv4 option, 3 SCTP chunk, 4 DCCP option.
    pub space: u32,
    /// Number of the header or option.
    pub kind: u8,
    /// First octet.
    pub offset: u32,
    /// Octets; none where its presence is asked.
    pub len: u32,
    /// 1: match presence only.
    pub flags: u32,
}

/// Where the field was found, as nft names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    pub name: &'static str,
    /// None: only whether it is there, or all of it.
    pub field: Option<(&'static str, Type, u32, u32)>,
    pub kind: Type,
}

/// Name, bit, bits, type.
type Fields = &'static [(&'static str, u32, u32, Type)];

pub const IPV6: u32 = 0;
pub const TCP: u32 = 1;
pub const IPV4: u32 = 2;
pub const SCTP: u32 = 3;

const EXTENSIONS: &[(u8, &str, Fields)] = &[
    (0, "hbh", &[("nexthdr", 0, 8, InetProto), ("hdrlength", 8, 8, Integer)]),
    (
        43,
        "rt",
        &[
            ("nexthdr", 0, 8, InetProto),
            ("hdrlength", 8, 8, Integer),
            ("type", 16, 8, Integer),
            ("seg-left", 24, 8, Integer),
        ],
    ),
    (
        43,
        "srh",
        &[
            ("last-entry", 32, 8, Integer),
            ("flags", 40, 8, Integer),
            ("tag", 48, 16, Integer),
            ("sid[1]", 64, 128, Ipv6),
            ("sid[2]", 192, 128, Ipv6),
        ],
    ),
    (
        44,
        "frag",
        &[
            ("nexthdr", 0, 8, InetProto),
            ("reserved", 8, 8, Integer),
            ("frag-off", 16, 13, Integer),
            ("reserved2", 29, 2, Integer),
            ("more-fragments", 31, 1, Integer),
            ("id", 32, 32, Integer),
        ],
    ),
    (60, "dst", &[("nexthdr", 0, 8, InetProto), ("hdrlength", 8, 8, Integer)]),
    (
        135,
        "mh",
        &[
            ("nexthdr", 0, 8, InetProto),
            ("hdrlength", 8, 8, Integer),
            ("type", 16, 8, MhType),
            ("reserved", 24, 8, Integer),
            ("checksum", 32, 16, Integer),
        ],
    ),
];

const KIND: (&str, u32, u32, Type) = ("kind", 0, 8, Integer);
const LENGTH: (&str, u32, u32, Type) = ("length", 8, 8, Integer);

const TCP_OPTIONS: &[(u8, &str, Fields)] = &[
    (0, "eol", &[KIND]),
    (1, "nop", &[KIND]),
    (2, "maxseg", &[KIND, LENGTH, ("size", 16, 16, Integer)]),
    (3, "window", &[KIND, LENGTH, ("count", 16, 8, Integer)]),
    (4, "sack-perm", &[KIND, LENGTH]),
    (5, "sack", &[KIND, LENGTH, ("left", 16, 32, Integer), ("right", 48, 32, Integer)]),
    (5, "sack1", &[("left", 80, 32, Integer), ("right", 112, 32, Integer)]),
    (5, "sack2", &[("left", 144, 32, Integer), ("right", 176, 32, Integer)]),
    (5, "sack3", &[("left", 208, 32, Integer), ("right", 240, 32, Integer)]),
    (8, "timestamp", &[KIND, LENGTH, ("tsval", 16, 32, Integer), ("tsecr", 48, 32, Integer)]),
    (19, "md5sig", &[KIND, LENGTH]),
    (30, "mptcp", &[KIND, LENGTH, ("subtype", 16, 4, Integer)]),
    (34, "fastopen", &[KIND, LENGTH]),
];

const ROUTE: Fields = &[
    ("type", 0, 8, Integer),
    ("length", 8, 8, Integer),
    ("ptr", 16, 8, Integer),
    ("addr", 24, 32, Ipv4),
];

const IP_OPTIONS: &[(u8, &str, Fields)] = &[
    (7, "rr", ROUTE),
    (131, "lsrr", ROUTE),
    (137, "ssrr", ROUTE),
    (148, "ra", &[("type", 0, 8, Integer), ("length", 8, 8, Integer), ("value", 16, 16, Integer)]),
];

const TYPE: (&str, u32, u32, Type) = ("type", 0, 8, Integer);
const FLAGS: (&str, u32, u32, Type) = ("flags", 8, 8, Integer);
const CHUNK_LENGTH: (&str, u32, u32, Type) = ("length", 16, 16, Integer);

const INIT: Fields = &[
    TYPE,
    FLAGS,
    CHUNK_LENGTH,
    ("init-tag", 32, 32, Integer),
    ("a-rwnd", 64, 32, Integer),
    ("num-outbound-streams", 96, 16, Integer),
    ("num-inbound-streams", 112, 16, Integer),
    ("initial-tsn", 128, 32, Integer),
];
const PLAIN: Fields = &[TYPE, FLAGS, CHUNK_LENGTH];
const CUMULATIVE: Fields = &[TYPE, FLAGS, CHUNK_LENGTH, ("cum-tsn-ack", 32, 32, Integer)];
const LOWEST: Fields = &[TYPE, FLAGS, CHUNK_LENGTH, ("lowest-tsn", 32, 32, Integer)];
const SEQUENCE: Fields = &[TYPE, FLAGS, CHUNK_LENGTH, ("seqno", 32, 32, Integer)];

const SCTP_CHUNKS: &[(u8, &str, Fields)] = &[
    (
        0,
        "data",
        &[
            TYPE,
            FLAGS,
            CHUNK_LENGTH,
            ("tsn", 32, 32, Integer),
            ("stream", 64, 16, Integer),
            ("ssn", 80, 16, Integer),
            ("ppid", 96, 32, Integer),
        ],
    ),
    (1, "init", INIT),
    (2, "init-ack", INIT),
    (
        3,
        "sack",
        &[
            TYPE,
            FLAGS,
            CHUNK_LENGTH,
            ("cum-tsn-ack", 32, 32, Integer),
            ("a-rwnd", 64, 32, Integer),
            ("num-gap-ack-blocks", 96, 16, Integer),
            ("num-dup-tsns", 112, 16, Integer),
        ],
    ),
    (4, "heartbeat", PLAIN),
    (5, "heartbeat-ack", PLAIN),
    (6, "abort", PLAIN),
    (7, "shutdown", CUMULATIVE),
    (8, "shutdown-ack", PLAIN),
    (9, "error", PLAIN),
    (10, "cookie-echo", PLAIN),
    (11, "cookie-ack", PLAIN),
    (12, "ecne", LOWEST),
    (13, "cwr", LOWEST),
    (14, "shutdown-complete", PLAIN),
    (128, "asconf-ack", SEQUENCE),
    (192, "forward-tsn", &[TYPE, FLAGS, CHUNK_LENGTH, ("new-cum-tsn", 32, 32, Integer)]),
    (193, "asconf", SEQUENCE),
];

/// NFT_EXTHDR_F_PRESENT.
const PRESENT: u32 = 1;

fn table(space: u32) -> &'static [(u8, &'static str, Fields)] {
    match space {
        IPV6 => EXTENSIONS,
        TCP => TCP_OPTIONS,
        IPV4 => IP_OPTIONS,
        SCTP => SCTP_CHUNKS,
        _ => &[],
    }
}

/// What is known of the field; `trimmed` are the bits a mask has left of it, when it has.
pub fn named(extension: &Extension, trimmed: Option<(u32, u32)>) -> Option<Named> {
    let rows = table(extension.space).iter().filter(|(kind, ..)| *kind == extension.kind);
    if extension.flags & PRESENT != 0 {
        return rows.into_iter().next().map(|(_, name, _)| Named {
            name,
            field: None,
            kind: Boolean,
        });
    }
    let (offset, bits) =
        trimmed.unwrap_or((extension.offset.saturating_mul(8), extension.len.saturating_mul(8)));
    for (_, name, fields) in rows {
        for (field, at, length, kind) in *fields {
            if (*at, *length) == (offset, bits) {
                return Some(Named {
                    name,
                    field: Some((field, *kind, offset, bits)),
                    kind: *kind,
                });
            }
        }
    }
    None
}

/// Where a field is, by its number: first bit, and bits.
pub fn place(space: u32, kind: u8, index: usize) -> Option<(u32, u32)> {
    let (.., fields) = table(space).iter().find(|(number, ..)| *number == kind)?;
    fields.get(index).map(|(_, offset, bits, _)| (*offset, *bits))
}

/// The same of a header or option by its name, with its number.
pub fn place_of(space: u32, name: &str, index: usize) -> Option<(u8, (u32, u32))> {
    let (kind, _, fields) = table(space).iter().find(|(_, found, _)| *found == name)?;
    fields.get(index).map(|(_, offset, bits, _)| (*kind, (*offset, *bits)))
}

/// The same of a field by its name.
pub fn place_named(space: u32, kind: u8, name: &str) -> Option<(u32, u32)> {
    let (.., fields) = table(space).iter().find(|(number, ..)| *number == kind)?;
    fields.iter().find(|(found, ..)| *found == name).map(|(_, offset, bits, _)| (*offset, *bits))
}

/// The name of a whole option or header.
pub fn name_of(space: u32, kind: u8) -> Option<&'static str> {
    table(space).iter().find(|(number, ..)| *number == kind).map(|(_, name, _)| *name)
}

pub fn is_presence(extension: &Extension) -> bool {
    extension.flags & PRESENT != 0
}

/// What an extension is called by itself.
pub fn space_word(space: u32) -> &'static str {
    match space {
        IPV6 => "exthdr",
        TCP => "tcp option",
        IPV4 => "ip option",
        SCTP => "sctp chunk",
        _ => "dccp option",
    }
}
