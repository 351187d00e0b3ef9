//! Expressions: the instructions a rule is made of, and their bytes (linux/netfilter/nf_tables.h).
//!
//! An expression that is unknown here, or carries an attribute that is unknown here, is kept whole as
//! [`Expr::Unknown`] and sent back byte for byte: nothing is dropped silently. What the kernel fills in by itself
//! (flags that follow from registers, an upper bound equal to the lower) is left out on both ways.

mod asked;
mod decode;
mod encode;
mod operand;

use std::collections::BTreeMap;

pub use super::names::extension::Extension;
pub use super::names::key::{base, ct, meta};
pub use operand::{CmpOp, Data, NatKind, Verdict};

/// Register numbers: 0 is the verdict, 1 to 4 are sixteen bytes, 8 to 23 are the same space in fours.
pub type Register = u32;
/// The register that a rule ends by.
pub const VERDICT: Register = 0;

/// Octets of a value, as the kernel bounds them: what all registers hold (NFT_DATA_VALUE_MAXLEN).
const VALUE_MAX: u32 = 64;

pub(super) fn length(octets: Option<u32>) -> Option<u32> {
    octets.filter(|octets| *octets <= VALUE_MAX)
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
