//! Expressions: the instructions a rule is made of, and their bytes (linux/netfilter/nf_tables.h).
//!
//! An expression that is unknown here, or carries an attribute that is unknown here, is kept whole as
//! [`Expr::Unknown`] and sent back byte for byte: nothing is dropped silently. What the kernel fills in by itself
//! (flags that follow from registers, an upper bound equal to the lower) is left out on both ways.

mod decode;
mod encode;

use std::collections::BTreeMap;

pub use super::names::extension::Extension;
pub use super::names::key::{base, ct, meta};

/// Register numbers: 0 is the verdict, 1 to 4 are sixteen bytes, 8 to 23 are the same space in fours.
pub type Register = u32;
/// The register that a rule ends by.
pub const VERDICT: Register = 0;

/// Octets of a value, as the kernel bounds them: what all registers hold (NFT_DATA_VALUE_MAXLEN).
const VALUE_MAX: u32 = 64;

pub(super) fn length(octets: Option<u32>) -> Option<u32> {
    octets.filter(|octets| *octets <= VALUE_MAX)
}

/// How a register is compared, in network order (`enum nft_cmp_ops`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CmpOp {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
}

impl CmpOp {
    const ALL: [Self; 6] = [Self::Eq, Self::Neq, Self::Lt, Self::Lte, Self::Gt, Self::Gte];
}

/// Where a packet goes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// NF_DROP.
    Drop,
    /// NF_ACCEPT: this chain is done with it.
    Accept,
    /// NFT_CONTINUE: the next rule.
    Continue,
    /// NFT_RETURN: back to where the chain was jumped to from.
    Return,
    /// NFT_JUMP to this chain, which may return.
    Jump(String),
    /// NFT_GOTO this chain, which returns to where this one would.
    Goto(String),
    /// Any other code, as the kernel has it.
    Code(i32),
}

/// What a register, or the right side of a map, is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data {
    /// In the order the register holds it.
    Value(Vec<u8>),
    /// What becomes of the packet.
    Verdict(Verdict),
}

/// Which address is translated (`enum nft_nat_types`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// The source's.
    Snat,
    /// The destination's.
    Dnat,
}

/// An instruction of a rule. Values are in the order the register holds them, registers as [`Register`] counts them;
/// a `_max` that is None is as its lower bound.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expr {
    /// Loads what is known of the packet besides its octets.
    Meta {
        /// See [`meta`].
        key: u32,
        /// The register that is filled.
        dreg: Register,
    },
    /// Sets it.
    MetaSet {
        /// See [`meta`].
        key: u32,
        /// The register that is read.
        sreg: Register,
    },
    /// Loads octets of a header.
    Payload {
        /// Which header, see [`base`].
        base: u32,
        /// First octet, from the beginning of the header.
        offset: u32,
        /// Octets, 64 at most.
        len: u32,
        /// The register that is filled.
        dreg: Register,
    },
    /// Writes them.
    PayloadSet {
        /// Which header, see [`base`].
        base: u32,
        /// First octet, from the beginning of the header.
        offset: u32,
        /// Octets, 64 at most.
        len: u32,
        /// The register that is read.
        sreg: Register,
        /// Which checksum covers them: 0 none, 1 that of the Internet, 2 CRC-32c of SCTP.
        csum_type: u32,
        /// Its first octet, from the beginning of the header.
        csum_offset: u32,
        /// 1: the transport's checksum covers them, too.
        csum_flags: u32,
    },
    /// Ends the rule unless the comparison holds.
    Cmp {
        /// The register that is read.
        sreg: Register,
        /// How.
        op: CmpOp,
        /// With what.
        data: Vec<u8>,
    },
    /// Ends the rule unless the value lies between, both ends included.
    Range {
        /// The register that is read.
        sreg: Register,
        /// Unless it does not.
        inverted: bool,
        /// Lower end.
        from: Vec<u8>,
        /// Upper end.
        to: Vec<u8>,
    },
    /// `dreg = (sreg & mask) ^ xor`.
    Bitwise {
        /// The register that is read.
        sreg: Register,
        /// The register that is filled.
        dreg: Register,
        /// Octets, 64 at most.
        len: u32,
        /// `len` octets that are kept.
        mask: Vec<u8>,
        /// `len` octets that are turned round after that.
        xor: Vec<u8>,
    },
    /// `dreg = sreg << bits`, or `>>`.
    Shift {
        /// The register that is read.
        sreg: Register,
        /// The register that is filled.
        dreg: Register,
        /// Octets, 64 at most.
        len: u32,
        /// `>>`.
        right: bool,
        /// By how many.
        bits: u32,
    },
    /// Turns octets round.
    Byteorder {
        /// The register that is read.
        sreg: Register,
        /// The register that is filled.
        dreg: Register,
        /// From the host's order to the network's.
        hton: bool,
        /// Octets, 64 at most.
        len: u32,
        /// Octets of each number: 2, 4 or 8.
        size: u32,
    },
    /// `dreg` is there for maps; 0 of it for verdict maps.
    Lookup {
        /// Name of the set or map.
        set: String,
        /// The register that is read.
        sreg: Register,
        /// The register that is filled.
        dreg: Option<Register>,
        /// Ends the rule when it is there.
        inverted: bool,
    },
    /// Fills a register, or ends the rule by a verdict.
    Immediate {
        /// The register that is filled.
        dreg: Register,
        /// With what.
        data: Data,
    },
    /// Counts what comes here.
    Counter {
        /// So far.
        packets: u64,
        /// So far, from the network header on.
        bytes: u64,
    },
    /// Loads what conntrack knows of the packet's connection.
    Ct {
        /// See [`ct`].
        key: u32,
        /// The register that is filled.
        dreg: Register,
        /// 0 original, 1 reply; None where there is but one.
        direction: Option<u8>,
    },
    /// Sets it.
    CtSet {
        /// See [`ct`].
        key: u32,
        /// The register that is read.
        sreg: Register,
        /// 0 original, 1 reply; None where there is but one.
        direction: Option<u8>,
    },
    /// Asks the routing tables.
    Fib {
        /// The register that is filled.
        dreg: Register,
        /// 1 index of the interface, 2 its name, 3 type of the address (NFT_FIB_RESULT_*).
        result: u32,
        /// What is asked with: 1 source, 2 destination, 4 mark, 8 input, 0x10 output; 0x20 whether there is a route (NFTA_FIB_F_*).
        flags: u32,
    },
    /// Loads of the packet's route.
    Rt {
        /// 0 class, 1 next hop of IPv4, 2 of IPv6, 3 largest TCP segment, 4 IPsec (NFT_RT_*).
        key: u32,
        /// The register that is filled.
        dreg: Register,
    },
    /// Loads of an extension header or option.
    Exthdr {
        /// Where.
        field: Extension,
        /// The register that is filled.
        dreg: Register,
    },
    /// Writes there.
    ExthdrSet {
        /// Where.
        field: Extension,
        /// The register that is read.
        sreg: Register,
    },
    /// Takes the option out.
    ExthdrReset {
        /// Its kind alone counts.
        field: Extension,
    },
    /// Translates addresses, ports, or both.
    Nat {
        /// Which.
        kind: NatKind,
        /// NFPROTO_IPV4 (2) or _IPV6 (10).
        family: u32,
        /// Register of the address.
        addr: Option<Register>,
        /// Of the last address.
        addr_max: Option<Register>,
        /// Register of the port.
        port: Option<Register>,
        /// Of the last port.
        port_max: Option<Register>,
        /// NF_NAT_RANGE_*, without those that follow from the registers.
        flags: u32,
    },
    /// Translates the source to the address of the interface the packet leaves by.
    Masquerade {
        /// Register of the port.
        port: Option<Register>,
        /// Of the last port.
        port_max: Option<Register>,
        /// As of [`Expr::Nat`].
        flags: u32,
    },
    /// Translates the destination to this host.
    Redirect {
        /// Register of the port.
        port: Option<Register>,
        /// Of the last port.
        port_max: Option<Register>,
        /// As of [`Expr::Nat`].
        flags: u32,
    },
    /// `unit` in seconds; `by_bytes` counts bytes, else packets; `over` inverts.
    Limit {
        /// So many in each unit of time.
        rate: u64,
        /// Seconds.
        unit_secs: u64,
        /// So many more at once.
        burst: u32,
        /// Bytes are counted.
        by_bytes: bool,
        /// Matches what is more.
        over: bool,
    },
    /// Tells the log, or a program by nfnetlink_log.
    Log {
        /// 127 octets at most.
        prefix: Option<String>,
        /// The program's, instead of the log.
        group: Option<u16>,
        /// Octets of the packet that are told.
        snaplen: Option<u32>,
        /// Packets that are told together.
        threshold: Option<u16>,
        /// Of syslog(3).
        level: Option<u32>,
        /// NF_LOG_*.
        flags: Option<u32>,
    },
    /// Drops and answers.
    Reject {
        /// 0 ICMP of the family, 1 TCP reset, 2 ICMP of either (NFT_REJECT_*).
        kind: u32,
        /// Of ICMP.
        code: Option<u8>,
    },
    /// Leaves the packet out of conntrack.
    Notrack,
    /// `key` 0 transparent, 1 mark, 2 wildcard, 3 cgroupv2 at a level.
    Socket {
        /// What of the socket that the packet is for.
        key: u32,
        /// The register that is filled.
        dreg: Register,
        /// Of the cgroup, from the root.
        level: Option<u32>,
    },
    /// `flags` 1: the version, too.
    Osf {
        /// The register that is filled.
        dreg: Register,
        /// How TTLs are compared: 0 exactly, 1 less than the known one, 2 not (NF_OSF_TTL_*).
        ttl: u8,
        /// What is told of the system.
        flags: u32,
    },
    /// Counts, or throws dice.
    Numgen {
        /// The register that is filled.
        dreg: Register,
        /// The numbers are below this.
        modulus: u32,
        /// Dice.
        random: bool,
        /// Added to the number.
        offset: u32,
    },
    /// Jenkins' hash of a key; without one, the symmetric hash of the flow.
    Hash {
        /// The register that is read.
        sreg: Option<Register>,
        /// The register that is filled.
        dreg: Register,
        /// Octets of the key.
        len: u32,
        /// The numbers are below this.
        modulus: u32,
        /// None: the kernel takes one of its own.
        seed: Option<u32>,
        /// Added to the number.
        offset: u32,
    },
    /// `direction` 0 in, 1 out.
    Xfrm {
        /// The register that is filled.
        dreg: Register,
        /// 1 destination of IPv4, 2 of IPv6, 3 and 4 source, 5 request id, 6 SPI (NFT_XFRM_KEY_*).
        key: u32,
        /// Of the policy.
        direction: u8,
        /// Which of the states, from 0.
        spnum: u32,
    },
    /// Loads of the tunnel the packet came by.
    Tunnel {
        /// 0 whether there is one, 1 its id (NFT_TUNNEL_*).
        key: u32,
        /// The register that is filled.
        dreg: Register,
    },
    /// `flags` 1: over.
    Quota {
        /// So many.
        bytes: u64,
        /// Inverts.
        flags: u32,
        /// Bytes so far.
        consumed: u64,
    },
    /// `flags` 1: over.
    Connlimit {
        /// So many.
        count: u32,
        /// Inverts.
        flags: u32,
    },
    /// When a packet came last, milliseconds ago.
    Last {
        /// One has come.
        set: bool,
        /// Since then.
        milliseconds: u64,
    },
    /// Gives the packet to a socket of this host.
    Tproxy {
        /// NFPROTO_*; 0 for either.
        family: u32,
        /// Register of the address.
        addr: Option<Register>,
        /// Register of the port.
        port: Option<Register>,
    },
    /// `flags` 1 bypass, 2 fan out.
    Queue {
        /// First queue.
        from: u16,
        /// How many.
        total: u16,
        /// What else.
        flags: u16,
        /// The number is there instead.
        sreg: Option<Register>,
    },
    /// Sends a copy.
    Dup {
        /// Register of the address.
        addr: Option<Register>,
        /// Register of the interface's index.
        device: Option<Register>,
    },
    /// Sends the packet on by another interface.
    Fwd {
        /// Register of the interface's index.
        device: Register,
        /// Register of the address.
        addr: Option<Register>,
        /// NFPROTO_* of the address.
        family: Option<u32>,
    },
    /// `flags`: NF_SYNPROXY_OPT_*.
    Synproxy {
        /// Largest segment, octets.
        mss: u16,
        /// Scale of the window.
        wscale: u8,
        /// Which options are offered.
        flags: u32,
    },
    /// Adds (0), updates (1) or deletes (2) an element; `timeout` in milliseconds.
    Dynset {
        /// Name of the set or map.
        set: String,
        /// Which.
        operation: u32,
        /// First register of the key.
        key: Register,
        /// First register of the value.
        data: Option<Register>,
        /// After which it goes.
        timeout: Option<u64>,
        /// What the element is made with.
        exprs: Vec<Expr>,
        /// 1: the element is looked up inverted.
        flags: u32,
    },
    /// A match (or target) of x_tables, as iptables-nft loads them.
    Xt {
        /// A target.
        target: bool,
        /// As iptables calls it.
        name: String,
        /// Of its layout.
        revision: u32,
        /// The module's own structure.
        info: Vec<u8>,
    },
    /// Lets the flow pass by the rest of the stack.
    FlowOffload {
        /// Name of the flow table.
        table: String,
    },
    /// The object that a map gives.
    ObjrefMap {
        /// Name of the map.
        set: String,
        /// The register that is read.
        sreg: Register,
    },
    /// A named counter (1), quota (2), ct helper (3), limit (4), …
    Objref {
        /// NFT_OBJECT_*.
        kind: u32,
        /// Within the table.
        name: String,
    },
    /// `bytes`: the attributes of the expression as the kernel gave them.
    Unknown {
        /// As the kernel calls it.
        name: String,
        /// Whatever they say.
        bytes: Vec<u8>,
    },
}

/// How the sets of a batch are called on the wire: their template name and the identifier within the batch.
pub type SetIds = BTreeMap<String, (String, u32)>;

impl Expr {
    /// Ends the rule by this.
    pub fn verdict(verdict: Verdict) -> Self {
        Self::Immediate { dreg: VERDICT, data: Data::Verdict(verdict) }
    }

    /// A counter that has counted nothing.
    pub fn counter() -> Self {
        Self::Counter { packets: 0, bytes: 0 }
    }

    /// The set or map it uses, by name.
    pub fn set_name(&self) -> Option<&String> {
        match self {
            Self::Lookup { set, .. } | Self::Dynset { set, .. } | Self::ObjrefMap { set, .. } => {
                Some(set)
            }
            _ => None,
        }
    }

    pub(super) fn set_name_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Lookup { set, .. } | Self::Dynset { set, .. } | Self::ObjrefMap { set, .. } => {
                Some(set)
            }
            _ => None,
        }
    }

    /// The register a load fills.
    pub fn loads_into(&self) -> Option<Register> {
        match self {
            Self::Meta { dreg, .. }
            | Self::Payload { dreg, .. }
            | Self::Bitwise { dreg, .. }
            | Self::Shift { dreg, .. }
            | Self::Byteorder { dreg, .. }
            | Self::Immediate { dreg, .. }
            | Self::Ct { dreg, .. }
            | Self::Fib { dreg, .. }
            | Self::Rt { dreg, .. }
            | Self::Exthdr { dreg, .. }
            | Self::Socket { dreg, .. }
            | Self::Osf { dreg, .. }
            | Self::Numgen { dreg, .. }
            | Self::Hash { dreg, .. }
            | Self::Xfrm { dreg, .. }
            | Self::Tunnel { dreg, .. } => Some(*dreg),
            Self::Lookup { dreg, .. } => *dreg,
            _ => None,
        }
    }

    /// The kernel's name of the expression.
    pub fn name(&self) -> &str {
        match self {
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Payload { .. } | Self::PayloadSet { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Bitwise { .. } | Self::Shift { .. } => "bitwise",
            Self::Byteorder { .. } => "byteorder",
            Self::Lookup { .. } => "lookup",
            Self::Immediate { .. } => "immediate",
            Self::Counter { .. } => "counter",
            Self::Ct { .. } | Self::CtSet { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Rt { .. } => "rt",
            Self::Exthdr { .. } | Self::ExthdrSet { .. } | Self::ExthdrReset { .. } => "exthdr",
            Self::Nat { .. } => "nat",
            Self::Masquerade { .. } => "masq",
            Self::Redirect { .. } => "redir",
            Self::Limit { .. } => "limit",
            Self::Log { .. } => "log",
            Self::Reject { .. } => "reject",
            Self::Notrack => "notrack",
            Self::Socket { .. } => "socket",
            Self::Osf { .. } => "osf",
            Self::Numgen { .. } => "numgen",
            Self::Hash { .. } => "hash",
            Self::Xfrm { .. } => "xfrm",
            Self::Tunnel { .. } => "tunnel",
            Self::Quota { .. } => "quota",
            Self::Connlimit { .. } => "connlimit",
            Self::Last { .. } => "last",
            Self::Tproxy { .. } => "tproxy",
            Self::Queue { .. } => "queue",
            Self::Dup { .. } => "dup",
            Self::Fwd { .. } => "fwd",
            Self::Synproxy { .. } => "synproxy",
            Self::Dynset { .. } => "dynset",
            Self::Xt { target, .. } => {
                if *target {
                    "target"
                } else {
                    "match"
                }
            }
            Self::FlowOffload { .. } => "flow_offload",
            Self::Objref { .. } | Self::ObjrefMap { .. } => "objref",
            Self::Unknown { name, .. } => name,
        }
    }

    /// What nft has no words for, visible as what it is.
    pub fn raw(&self) -> String {
        match self {
            Self::Unknown { name, bytes } => format!("<{name} {}>", super::names::hex(bytes)),
            expr => format!("<{}>", expr.name()),
        }
    }
}
