//! nf_tables as data: the same types for the ruleset that is wanted and the one that is found.
//!
//! ```text
//! plan ──► Ruleset ──► batch (bytes) ──► kernel ──► dump (bytes) ──► Ruleset ──► text
//!              └──────────── canonical() == canonical() ────────────────┘
//! ```
//!
//! Who stands on whom, inside (`tests/pure/layers.rs` holds it to that):
//!
//! ```text
//! names (vocabulary)   nfta (attributes)   attr (their bytes)   userdata
//!    └─► expr, mod, wire ─┬─► batch, dump, replay, canonical
//!                         ├─► syntax ─► text ─► json, explain
//!                         └─► build ─► compile, trace
//! ```
//!
//! Everything the kernel reports about tables, chains, rules, sets and objects has a place here; what has no name
//! is kept as bytes. Flow tables are told, not made. Pure: sockets are `sys::netlink`'s.

#![warn(missing_docs)]

pub mod attr;
pub mod batch;
pub(crate) mod build;
mod canonical;
pub mod compile;
pub mod conntrack;
pub mod dump;
pub mod explain;
pub mod expr;
pub mod hooks;
pub mod json;
pub(crate) mod names;
mod nfta;
mod replay;
pub(crate) mod syntax;
pub mod text;
pub mod trace;
mod userdata;
mod wire;

use std::fmt;

use serde::Serialize;

pub use batch::Batch;
pub use dump::Dump;
pub use expr::{Data, Expr, Verdict};
pub use userdata::Userdata;

/// Number of the ruleset's state in a network namespace; every transaction makes it grow.
pub(crate) type Generation = u32;

/// Why a batch cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What, by kind and name.
    #[error("{0} does not fit into one netlink message (64 KiB): make it shorter or use a set")]
    TooLong(String),
}

/// All tables, or those that are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// In the order they are loaded or were made.
    pub tables: Vec<Table>,
}

/// The protocol family a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family(pub u8);

impl Family {
    pub(crate) const UNSPEC: Self = Self(0);
    /// NFPROTO_INET: IPv4 and IPv6.
    pub const INET: Self = Self(1);
    /// NFPROTO_IPV4.
    pub const IP: Self = Self(2);
    /// NFPROTO_ARP.
    pub const ARP: Self = Self(3);
    /// NFPROTO_NETDEV: what a device receives or sends.
    pub const NETDEV: Self = Self(5);
    /// NFPROTO_BRIDGE.
    pub const BRIDGE: Self = Self(7);
    /// NFPROTO_IPV6.
    pub const IP6: Self = Self(10);
}

/// A table and all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// With the name it is unique.
    pub family: Family,
    /// 31 octets at most.
    pub name: String,
    /// None until the kernel has made it.
    pub handle: Handle,
    /// See [`table`].
    pub flags: u32,
    /// Its comment, and what else nft stored.
    pub userdata: Userdata,
    /// Anonymous ones too.
    pub sets: Vec<Set>,
    /// Only listed.
    pub flowtables: Vec<Flowtable>,
    /// Counters, quotas, ….
    pub objects: Vec<Object>,
    /// In the order they were made.
    pub chains: Vec<Chain>,
}

/// Flags of a table.
pub mod table {
    /// Its base chains see nothing.
    pub const DORMANT: u32 = 1;
    /// Nobody but the socket that made it may change it; it goes when that is closed.
    pub const OWNER: u32 = 2;
    /// It stays then, and whoever replaces it next owns it (Linux 6.9).
    pub const PERSIST: u32 = 4;
}

/// A list of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Within the table.
    pub name: String,
    /// None until the kernel has made it.
    pub handle: Handle,
    /// None for a chain that is only jumped to.
    pub hook: Option<Hook>,
    /// Besides what follows from `hook`: 2 hardware offload, 4 bound to a rule.
    pub flags: u32,
    /// Its comment, and what else nft stored.
    pub userdata: Userdata,
    /// In the order packets meet them.
    pub rules: Vec<Rule>,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Number of the hook within the family; see [`hook`].
    pub number: u32,
    /// The least comes first.
    pub priority: i32,
    /// Of netdev, and of ingress in inet.
    pub devices: Vec<String>,
    /// What becomes of packets at the end.
    pub policy: Policy,
}

/// Hooks of the IP families.
pub mod hook {
    /// NF_INET_PRE_ROUTING.
    pub const PREROUTING: u32 = 0;
    /// NF_INET_LOCAL_IN.
    pub const INPUT: u32 = 1;
    /// NF_INET_FORWARD.
    pub const FORWARD: u32 = 2;
    /// NF_INET_LOCAL_OUT.
    pub const OUTPUT: u32 = 3;
    /// NF_INET_POST_ROUTING.
    pub const POSTROUTING: u32 = 4;
}

/// What a base chain does at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// NF_DROP.
    Drop,
    /// NF_ACCEPT, the default.
    #[default]
    Accept,
}

/// Expressions that are run in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// None until the kernel has made it.
    pub handle: Handle,
    /// Until one ends the rule.
    pub exprs: Vec<Expr>,
    /// Its comment, and what else nft stored.
    pub userdata: Userdata,
}

/// The kernel's number of an object, which is another when it is made again: none in the canonical form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle(pub Option<u64>);

/// A set, or a map when it has `data`. `linux/netfilter/nf_tables.h`, `enum nft_set_attributes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    /// Within the table. Of an anonymous set: any name that the rules of the same ruleset use for it.
    pub name: String,
    /// None until the kernel has made it.
    pub handle: Handle,
    /// See [`set`].
    pub flags: u32,
    /// nft's number of the type, six bits for each part of a concatenation; opaque to the kernel.
    pub key_type: u32,
    /// Octets; each part of a concatenation takes a multiple of four.
    pub key_len: u32,
    /// What it maps to, of a map.
    pub data: Option<DataType>,
    /// Type of the named objects it maps to.
    pub object: Option<u32>,
    /// 1: prefer memory to speed.
    pub policy: u32,
    /// Largest number of elements.
    pub size: Option<u32>,
    /// Lengths of the parts; only with intervals in a concatenation.
    pub fields: Vec<u32>,
    /// Milliseconds.
    pub timeout: Option<u64>,
    /// Milliseconds between looks for elements whose time is up.
    pub gc_interval: Option<u32>,
    /// What every element is made with.
    pub exprs: Vec<Expr>,
    /// Its comment, and what else nft stored.
    pub userdata: Userdata,
    /// In the kernel's order, which is none.
    pub elements: Vec<Element>,
}

/// Flags of a set, and numbers of nft's types.
pub mod set {
    /// Goes with the rule that uses it.
    pub const ANONYMOUS: u32 = 1;
    /// Not changed once rules use it.
    pub const CONSTANT: u32 = 2;
    /// Has ranges.
    pub const INTERVAL: u32 = 4;
    /// Maps to data.
    pub const MAP: u32 = 8;
    /// Elements go after a time.
    pub const TIMEOUT: u32 = 0x10;
    /// Rules add elements.
    pub const DYNAMIC: u32 = 0x20;
    /// Maps to named objects.
    pub const OBJECT: u32 = 0x40;
    /// Has ranges of several fields.
    pub const CONCAT: u32 = 0x80;

    /// `ipv4_addr`, 4 octets.
    pub const IPV4_ADDR: u32 = 7;
    /// `ipv6_addr`, 16 octets.
    pub const IPV6_ADDR: u32 = 8;
    /// `ether_addr`, 6 octets.
    pub const ETHER_ADDR: u32 = 9;
    pub(crate) const INET_PROTO: u32 = 12;
    /// `inet_service`, 2 octets.
    pub const INET_SERVICE: u32 = 13;
    /// `icmpv6_type`, 1 octet.
    pub const ICMPV6_TYPE: u32 = 29;
    /// `mark`, 4 octets in host order.
    pub const MARK: u32 = 19;
    /// `ifname`, 16 octets.
    pub const IFNAME: u32 = 41;
}

/// What a map maps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// What becomes of the packet.
    Verdict,
    /// A value.
    Value {
        /// nft's number of its type.
        kind: u32,
        /// Octets, 64 at most.
        len: u32,
    },
}

/// A key, and what a map has for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// Empty for the catch-all element.
    pub key: Vec<u8>,
    /// Upper end, inclusive; only in concatenations with intervals.
    pub key_end: Option<Vec<u8>>,
    /// 1: first value past an interval; 2: catch-all.
    pub flags: u32,
    /// Of a map.
    pub data: Option<Data>,
    /// Name of the object it maps to.
    pub object: Option<String>,
    /// Milliseconds.
    pub timeout: Option<u64>,
    /// Milliseconds that are left, as the kernel tells; never sent.
    pub expiration: Option<u64>,
    /// Counters, limits and the like of its own.
    pub exprs: Vec<Expr>,
    /// Its comment, and what else nft stored.
    pub userdata: Userdata,
}

/// Where forwarded flows may pass by the rest of the stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flowtable {
    /// Within the table.
    pub name: String,
    /// None until the kernel has made it.
    pub handle: Handle,
    /// 0: ingress.
    pub hook: u32,
    /// The least comes first.
    pub priority: i32,
    /// Whose packets take the short way.
    pub devices: Vec<String>,
    /// 1 hardware offload, 2 counters.
    pub flags: u32,
}

/// A named counter, quota, limit, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Within the table and kind.
    pub name: String,
    /// None until the kernel has made it.
    pub handle: Handle,
    /// With its state.
    pub kind: ObjectKind,
    /// Its comment, and what else nft stored.
    pub userdata: Userdata,
}

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// What has come so far.
    Counter {
        /// So many.
        packets: u64,
        /// From the network header on.
        bytes: u64,
    },
    /// Attributes as the kernel gave them.
    Other {
        /// NFT_OBJECT_*.
        kind: u32,
        /// NFTA_OBJ_DATA.
        bytes: Vec<u8>,
    },
}

/// NFT_CHAIN_BINDING: the chain lives and dies with a rule.
const BOUND: u32 = 4;

/// NFT_OBJECT_COUNTER, _QUOTA.
const OBJECT_COUNTER: u32 = 1;
const OBJECT_QUOTA: u32 = 2;

impl Table {
    /// An empty table.
    pub fn new(family: Family, name: &str) -> Self {
        Self {
            family,
            name: name.to_owned(),
            handle: Handle::default(),
            flags: 0,
            userdata: Userdata::default(),
            sets: Vec::new(),
            flowtables: Vec::new(),
            objects: Vec::new(),
            chains: Vec::new(),
        }
    }
}

impl Table {
    /// Whether iptables-nft keeps it: rules carry modules of x_tables.
    pub(crate) fn is_foreign(&self) -> bool {
        let mut exprs =
            self.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.exprs);
        exprs.any(|expr| matches!(expr, Expr::Xt { .. }))
    }
}

impl Chain {
    /// A chain without rules; `hook` for a base chain.
    pub fn new(name: &str, hook: Option<Hook>) -> Self {
        Self {
            name: name.to_owned(),
            handle: Handle::default(),
            hook,
            flags: 0,
            userdata: Userdata::default(),
            rules: Vec::new(),
        }
    }
}

impl Chain {
    /// Whether it has no name of its own and goes with the rule that jumps to it.
    pub fn is_bound(&self) -> bool {
        self.flags & BOUND != 0
    }
}

impl ObjectKind {
    /// NFT_OBJECT_*.
    pub fn number(&self) -> u32 {
        match self {
            Self::Counter { .. } => OBJECT_COUNTER,
            Self::Other { kind, .. } => *kind,
        }
    }
}
impl Set {
    pub(crate) fn is_map(&self) -> bool {
        self.flags & (set::MAP | set::OBJECT) != 0
    }

    /// A set that a rule fills by itself.
    pub(crate) fn is_meter(&self) -> bool {
        self.is_anonymous() && self.flags & set::DYNAMIC != 0
    }

    /// Whether nft merges neighbouring intervals (libnftnl's userdata 2).
    pub fn merges(&self) -> bool {
        self.userdata.value(2).is_some_and(|bytes| bytes.first() == Some(&1))
    }

    /// `{ a, b }` of nft type `key_type` as a rule writes it; `name` is what the rule's lookup says.
    pub fn anonymous(name: &str, key_type: u32, keys: Vec<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            flags: set::ANONYMOUS | set::CONSTANT,
            key_type,
            key_len: keys.first().map_or(0, |key| u32::try_from(key.len()).unwrap_or(u32::MAX)),
            size: u32::try_from(keys.len()).ok(),
            elements: keys.into_iter().map(|key| Element { key, ..Element::default() }).collect(),
            ..Self::default()
        }
    }

    /// Whether it has no name of its own and goes with its rule.
    pub fn is_anonymous(&self) -> bool {
        self.flags & set::ANONYMOUS != 0
    }

    /// What it is called.
    fn noun(&self) -> &'static str {
        if self.data.is_some() || self.object.is_some() { "map" } else { "set" }
    }
}

impl Rule {
    /// Not loaded yet.
    pub fn new(exprs: Vec<Expr>, comment: &str) -> Self {
        Self { handle: Handle::default(), exprs, userdata: Userdata::comment(comment) }
    }
}

impl Ruleset {
    /// By family and name.
    pub fn table(&self, family: Family, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.family == family && table.name == name)
    }
}

/// As `nft list ruleset` prints it.
impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tables.iter().try_for_each(|table| fmt::Display::fmt(table, f))
    }
}

/// The text of nft: what a person reads, and enough to see the difference between two plans.
impl Serialize for Ruleset {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests;
