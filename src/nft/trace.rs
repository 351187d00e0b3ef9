//! Trace events: which rules a packet met, as the kernel tells it (linux/netfilter/nf_tables.h,
//! `enum nft_trace_attributes`; net/netfilter/nf_tables_trace.c).
//!
//! The kernel sends one event for each rule that a marked packet matched, and one where a chain ends; the first of
//! each base chain carries the packet's headers. A rule that sets `meta nftrace` marks packets: [`ruleset`] makes
//! it, in a table that is gone when the socket that loaded it is. [`Groups`] puts the events of a packet together.

mod group;
mod packet;
mod rules;

pub use group::{Groups, Traced, TracedStep};
pub use packet::{Packet, protocol_name};
pub use rules::{Filter, Net, PRIORITY, ruleset};

use super::attr::{Attributes, Message};
use super::batch::SUBSYSTEM;
use super::expr::Verdict;
use super::nfta::trace;
use super::wire::kind;
use super::{Family, Policy};

/// `nlmsg_type` of trace events and of the notice that a transaction is done, for a filter on the socket.
pub(crate) const EVENT: u16 = SUBSYSTEM << 8 | kind::TRACE as u16;
/// NFT_MSG_NEWGEN: the rules have changed.
pub const NEW_GENERATION: u16 = SUBSYSTEM << 8 | kind::NEW_GENERATION as u16;

/// What names of tables that mark packets begin with.
pub(crate) const TABLE_PREFIX: &str = "berth-trace-";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The same for all events of a packet; packets later on may have it again.
    pub id: u32,
    /// Of the table.
    pub family: Family,
    /// By name.
    pub table: String,
    /// By name.
    pub chain: String,
    /// What happened there.
    pub step: Step,
    /// Interface indices; with the headers only.
    pub iif: Option<u32>,
    /// Index of the interface it leaves by.
    pub oif: Option<u32>,
    /// `skb->mark`.
    pub mark: Option<u32>,
    /// Headers, in the first event of each base chain.
    pub packet: Option<Packet>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A rule matched.
    Rule {
        /// The kernel's number of the rule.
        handle: u64,
        /// That it ended by.
        verdict: Verdict,
    },
    /// The end of a chain that was jumped to, or `return` in it.
    Return {
        /// The kernel's number of the rule that came last, if it tells.
        handle: Option<u64>,
        /// That the chain ended by.
        verdict: Verdict,
    },
    /// The end of a base chain.
    Policy(Policy),
    /// A type of event that has no name here.
    Unknown(u32),
}

impl Event {
    /// None when the message is something else, or lacks what every event has.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        if message.kind != EVENT {
            return None;
        }
        let a = message.attributes();
        let handle = a.u64(trace::RULE_HANDLE);
        let verdict =
            || a.nest(trace::VERDICT).and_then(Verdict::decode).unwrap_or(Verdict::Continue);
        let step = match a.u32(trace::TYPE)? {
            1 => Step::Policy(if a.u32(trace::POLICY) == Some(0) {
                Policy::Drop
            } else {
                Policy::Accept
            }),
            2 => Step::Return { handle, verdict: verdict() },
            3 => Step::Rule { handle: handle?, verdict: verdict() },
            other => Step::Unknown(other),
        };
        Some(Self {
            id: a.u32(trace::ID)?,
            family: Family(message.family()),
            table: a.text(trace::TABLE)?,
            chain: a.text(trace::CHAIN).unwrap_or_default(),
            step,
            iif: a.u32(trace::IIF),
            oif: a.u32(trace::OIF),
            mark: a.u32(trace::MARK),
            packet: Self::packet(a),
        })
    }

    fn packet(a: Attributes<'_>) -> Option<Packet> {
        let network = a.value(trace::NETWORK_HEADER)?;
        Some(Packet::parse(
            a.value(trace::LL_HEADER).unwrap_or(&[]),
            network,
            a.value(trace::TRANSPORT_HEADER).unwrap_or(&[]),
        ))
    }

    /// The rule's, where there is one.
    pub fn handle(&self) -> Option<u64> {
        match self.step {
            Step::Rule { handle, .. } => Some(handle),
            Step::Return { handle, .. } => handle,
            Step::Policy(_) | Step::Unknown(_) => None,
        }
    }

    /// Whether the packet goes nowhere from here.
    pub fn drops(&self) -> bool {
        matches!(
            self.step,
            Step::Policy(Policy::Drop)
                | Step::Rule { verdict: Verdict::Drop, .. }
                | Step::Return { verdict: Verdict::Drop, .. }
        )
    }
}

#[cfg(test)]
mod tests;
