//! A REQUEST by what tells its client's state, and what becomes of it by what the server knows (RFC 2131 §4.3.2, table 4).

use std::net::Ipv4Addr;

use crate::dhcp::packet::*;

pub const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 110);
pub const FREE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 120);
pub const HELD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 130);
/// Of this network, not ours to give.
pub const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 220);
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 7);
const ADDRESSES: [Ipv4Addr; 5] = [OWN, FREE, HELD, THEIRS, ELSEWHERE];

/// What the server knows of the client.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Record {
    None,
    /// OWN is offered to it.
    Offered,
    /// OWN is its own.
    Bound,
    /// OWN was its own.
    Ended,
}

pub const RECORDS: [Record; 4] = [Record::None, Record::Offered, Record::Bound, Record::Ended];

/// A REQUEST by what tells its client's state.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Option 54.
    pub server: Option<&'static [u8]>,
    /// Option 50.
    pub asked: Option<Ipv4Addr>,
    pub ciaddr: Option<Ipv4Addr>,
}

impl Shape {
    pub fn all() -> impl Iterator<Item = Self> {
        let addresses = || std::iter::once(None).chain(ADDRESSES.map(Some));
        [None, Some(US), Some(OTHER)].into_iter().flat_map(move |server| {
            addresses().flat_map(move |asked| {
                addresses().map(move |ciaddr| Self { server, asked, ciaddr })
            })
        })
    }

    pub fn packet(self, mac: Mac) -> Packet {
        let asked = self.asked.map(asks_for).unwrap_or_default();
        let packet = Packet::new(mac, &[REQUEST, self.server.unwrap_or_default(), &asked]);
        packet.ciaddr(self.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED))
    }

    /// Row by row: 0 is silence.
    pub fn expected(self, record: Record, authoritative: bool) -> u8 {
        let Self { server, asked, ciaddr } = self;
        if server == Some(OTHER) {
            return 0;
        }
        let (address, names_us) = match (server, asked, ciaddr) {
            // SELECTING; INIT-REBOOT; RENEWING and REBINDING, which may say their address and server once more.
            (Some(_), Some(asked), None) => (asked, true),
            (None, Some(asked), None) => (asked, false),
            (_, None, Some(ciaddr)) => (ciaddr, server.is_some()),
            (_, Some(asked), Some(ciaddr)) if asked == ciaddr => (ciaddr, server.is_some()),
            _ => return 0,
        };
        let may_take = names_us || authoritative;
        match (record, address) {
            (Record::Offered | Record::Bound | Record::Ended, OWN) => ACK,
            // It has another address; or is offered one, of which another server's client knows nothing.
            (Record::Bound, _) => NAK,
            (Record::Offered, _) if may_take => NAK,
            (Record::Offered, _) => 0,
            (Record::None, OWN | FREE) if may_take => ACK,
            // What it had once keeps it from nothing when it selects; else it is the one it is known by.
            (Record::Ended, FREE) if names_us && ciaddr.is_none() => ACK,
            _ if may_take => NAK,
            _ => 0,
        }
    }
}
