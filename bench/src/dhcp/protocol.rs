//! What the driver needs of a protocol: what clients say, and what is said to them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use berth::net::MacAddr;

use super::load::Leg;

pub trait Protocol {
    type Address: Copy + Eq + Hash + Debug;
    /// Who made an offer, as the request for it names it.
    type Server: Clone;
    /// Largest number of a transaction; numbers begin anew after it.
    const TRANSACTIONS: u32;

    /// The whole frame; none when there is none for that.
    fn frame(
        &self,
        client: u32,
        xid: u32,
        ask: &Ask<Self::Address, Self::Server>,
    ) -> Option<Vec<u8>>;

    /// Reads a frame, with all its checksums.
    fn read(&mut self, frame: &[u8]) -> Seen<Self::Address, Self::Server>;

    /// Who gave a right answer, and from where: renewals go there.
    fn learn(&mut self, server: &Self::Server, from: MacAddr);

    /// The answer to one who looks for the MAC of a client, by its address or by one that it holds.
    fn neighbour(&self, frame: &[u8], holders: &HashMap<Self::Address, u32>) -> Option<Vec<u8>>;
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask<A, S> {
    Discover,
    /// A lease at once.
    Rapid,
    Request {
        address: A,
        server: Option<S>,
    },
    Renew {
        address: Option<A>,
    },
}

/// A frame that came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<A, S> {
    Reply(Reply<A, S>),
    /// From a server's port, and wrong.
    Wrong(&'static str),
    /// Something else.
    Nothing,
}

/// What counts in a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<A, S> {
    /// None: neither an offer nor a lease.
    pub leg: Option<Leg>,
    pub xid: u32,
    /// None: nobody of ours.
    pub client: Option<u32>,
    pub address: Option<A>,
    pub server: Option<S>,
    pub from: MacAddr,
}
