//! What would happen to a packet: the rules it meets, hook by hook, and how it leaves them.
//!
//! The packet is as true as it was described: header octets, interfaces, conntrack. What was not described is not
//! known, and where the outcome depends on it the answer is "cannot tell", never a guess. Expressions are run as
//! the kernel runs them, over registers that know which of their bits are known.
//!
//! ```text
//! Ruleset, World, Packet, Path ──► walk (hooks, routing) ──► chain (rules, jumps) ──► machine (expressions)
//!       ▲                                │ a question about a route that has no answer yet
//!       └──── the caller finds it out ◄──┘ and begins anew
//! ```
//!
//! Not modelled: fragments, IP options and extension headers, bridges between the hooks, flowtables (noted), rules of
//! the legacy xtables, and what happens to a packet outside netfilter (sockets, traffic control, XFRM).

mod action;
mod bits;
mod chain;
mod effect;
mod load;
mod lookup;
mod machine;
mod nat;
mod packet;
mod registers;
mod text;
mod track;
mod walk;
mod words;
mod world;
mod xt;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::{Family, Ruleset};

pub use super::names::protocol::number as protocol;
pub use bits::{Bits, Truth};
pub use packet::{Connection, ICMP, ICMP6, Packet, State, TCP, UDP};
pub use text::Paint;
pub use words::{icmp_type, status_bits, tcp_flags};
pub use world::{Address, Interface, LocalRoute, Question, Route, UNIVERSE, World, kind};

/// Where packets meet rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Point {
    /// As a device receives it.
    Ingress,
    /// Before it is routed.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After it is routed.
    Postrouting,
    /// As a device sends it.
    Egress,
}

impl Point {
    /// In the order packets meet them.
    pub const ALL: [Self; 7] = [
        Self::Ingress,
        Self::Prerouting,
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::Postrouting,
        Self::Egress,
    ];
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Egress => "egress",
        })
    }
}

/// Where the packet begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// On an interface.
    Arriving,
    /// In a socket of this machine.
    Local,
    /// At one hook, which is all that is walked.
    Hook(Point),
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing stops it.
    Accepted,
    /// Without an answer.
    Dropped,
    /// With an answer.
    Rejected,
    /// It depends on what is not known.
    CannotTell,
}

/// A rule that was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Met {
    /// Jumps below the base chain.
    pub depth: usize,
    /// The rule is in it.
    pub chain: String,
    /// The kernel's number of the rule.
    pub handle: Option<u64>,
    /// As nft lists it.
    pub rule: String,
    /// Whether it matches.
    #[serde(rename = "matched")]
    pub outcome: Truth,
    /// Why it did not match, or why that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it does, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
}

/// On the way of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A base chain, and those it leads to.
    Chain {
        /// Where.
        hook: Point,
        /// Of the table.
        family: String,
        /// Its name.
        table: String,
        /// Its name.
        chain: String,
        /// `filter`, `nat` or `route`.
        #[serde(rename = "type")]
        kind: String,
        /// The least comes first.
        priority: i32,
        /// That were looked at, in order.
        rules: Vec<Met>,
        /// How it ends, in words.
        result: String,
        /// As it is now, if that chain has changed it.
        #[serde(skip_serializing_if = "Option::is_none")]
        packet: Option<String>,
    },
    /// What the routing tables say, in words.
    Routing(String),
    /// What is to be known besides.
    Note(String),
}

/// The whole story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// As it began.
    pub packet: String,
    /// What was not said of it and is taken to be so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
    /// In the order of the way.
    pub steps: Vec<Step>,
    /// At the end.
    pub outcome: Outcome,
    /// In words.
    pub why: String,
    /// As it ended.
    #[serde(serialize_with = "as_text")]
    pub end: Packet,
}

fn as_text<S: serde::Serializer>(packet: &Packet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(packet)
}

/// Walks the packet through the rules. An error is a question to be answered in `world` before trying again.
/// `family` narrows the rules to those of one family, which bridge, arp and netdev need.
pub fn explain(
    ruleset: &Ruleset,
    world: &World,
    packet: &Packet,
    path: Path,
    family: Option<Family>,
) -> Result<Explanation, Question> {
    let mut walk = Walk {
        ruleset,
        world,
        packet: packet.clone(),
        family,
        point: Point::Prerouting,
        stage: Stage::Before,
        original: None,
        destination_bound: false,
        source_bound: false,
        zone: None,
        helper_set: false,
        rewritten: false,
        changed: BTreeMap::new(),
        copied: None,
        gateway: None,
        preferred: None,
        steps: Vec::new(),
    };
    let (outcome, why) = walk.go(path)?;
    Ok(Explanation {
        packet: packet.to_string(),
        assumed: Vec::new(),
        steps: walk.steps,
        outcome,
        why,
        end: walk.packet,
    })
}

/// Whether conntrack has seen the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Before,
    Tracked,
    Untracked,
}

/// Why a walk does not go on.
enum Stop {
    Ask(Question),
    Over(Outcome, String),
}

impl From<Question> for Stop {
    fn from(question: Question) -> Self {
        Self::Ask(question)
    }
}

/// The name the kernel gives its loopback interface.
const LOOPBACK: &str = "lo";

/// What a rule does to a set for a packet.
#[derive(Debug, Clone)]
struct Change {
    key: Bits,
    /// Whether it happened.
    certain: bool,
    removes: bool,
}

/// A packet on its way.
struct Walk<'a> {
    ruleset: &'a Ruleset,
    world: &'a World,
    packet: Packet,
    /// Only chains of this family.
    family: Option<Family>,
    point: Point,
    stage: Stage,
    /// As conntrack saw it first.
    original: Option<Packet>,
    /// NAT has decided about this side of the connection.
    destination_bound: bool,
    source_bound: bool,
    /// Given by a rule before conntrack looks; the connection's after it.
    zone: Option<track::Zone>,
    /// A rule may have given the connection a helper.
    helper_set: bool,
    /// A rule has written an address or port into the packet since conntrack saw it.
    rewritten: bool,
    /// What rules have done to sets on the way.
    changed: BTreeMap<(Family, String, String), Vec<Change>>,
    /// Where a copy of it was sent.
    copied: Option<String>,
    /// Of the last route found: next hop, and the address packets from here get.
    gateway: Option<IpAddr>,
    preferred: Option<IpAddr>,
    steps: Vec<Step>,
}

impl Walk<'_> {
    fn incoming(&self) -> load::Device<'_> {
        match (self.point, self.packet.local, &self.packet.iif) {
            (Point::Output | Point::Egress, ..) => load::Device::None,
            (Point::Postrouting, true, _) => load::Device::None,
            (Point::Postrouting, ..) if self.family == Some(Family::BRIDGE) => load::Device::None,
            (_, _, Some(interface)) => load::Device::Is(interface),
            (_, _, None) => load::Device::Unknown,
        }
    }

    fn outgoing(&self) -> load::Device<'_> {
        match (self.point, &self.packet.oif) {
            (Point::Ingress | Point::Prerouting | Point::Input, _) => load::Device::None,
            (_, Some(interface)) => load::Device::Is(interface),
            (_, None) => load::Device::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
