//! DHCPv4 as the driver speaks it: one client of many, on the link or behind a relay.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use berth::net::MacAddr;

use super::link::Link;
use super::load::Leg;
use super::protocol::{Ask, Protocol, Reply, Seen};
use super::wire::{self, ACK, DISCOVER, Message, OFFER, Path, REQUEST, arp_answer, mac};
use crate::{Error, at};

#[derive(Debug)]
pub struct Four(pub Path);

impl Protocol for Four {
    type Address = Ipv4Addr;
    type Server = Ipv4Addr;
    const TRANSACTIONS: u32 = u32::MAX;

    fn frame(&self, client: u32, xid: u32, ask: &Ask<Ipv4Addr, Ipv4Addr>) -> Option<Vec<u8>> {
        let message =
            Message { kind: DISCOVER, xid, client, ciaddr: None, requested: None, server: None };
        let message = match *ask {
            Ask::Discover => message,
            // RFC 4039 is not measured.
            Ask::Rapid => return None,
            Ask::Request { address, server } => {
                Message { kind: REQUEST, requested: Some(address), server, ..message }
            }
            Ask::Renew { address } => Message { kind: REQUEST, ciaddr: address, ..message },
        };
        message.frame(self.0)
    }

    fn read(&mut self, frame: &[u8]) -> Seen<Ipv4Addr, Ipv4Addr> {
        let reply = match wire::read(frame) {
            wire::Seen::Reply(reply) => reply,
            wire::Seen::Wrong(what) => return Seen::Wrong(what),
            wire::Seen::Nothing => return Seen::Nothing,
        };
        let leg = match reply.kind {
            OFFER => Some(Leg::Offer),
            ACK => Some(Leg::Ack),
            _ => None,
        };
        Seen::Reply(Reply {
            leg,
            xid: reply.xid,
            client: wire::client(reply.chaddr),
            address: Some(reply.yiaddr).filter(|address| !address.is_unspecified()),
            server: reply.server,
            from: reply.from,
        })
    }

    fn learn(&mut self, server: &Ipv4Addr, from: MacAddr) {
        if let Path::Link { server: known } = &mut self.0 {
            *known = Some((*server, from));
        }
    }

    fn neighbour(&self, frame: &[u8], holders: &HashMap<Ipv4Addr, u32>) -> Option<Vec<u8>> {
        arp_answer(frame, |address| holders.get(&address).map(|client| mac(*client)))
    }
}

/// The MAC of an address on the link, by ARP.
pub fn resolve(
    link: &mut Link,
    own: (Ipv4Addr, MacAddr),
    address: Ipv4Addr,
) -> Result<MacAddr, Error> {
    let request = |op: u8| {
        let mut frame = vec![0xff; 6];
        frame.extend(own.1.0);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, op]);
        frame.extend(own.1.0);
        frame.extend(own.0.octets());
        frame.extend([0; 6]);
        frame.extend(address.octets());
        frame
    };
    let mut buffer = [0; 256];
    for _ in 0..20 {
        link.send(&request(1))?;
        let until = Instant::now() + Duration::from_millis(100);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            link.wait(left)?;
            while let Some(length) = link.receive_arp(&mut buffer)? {
                let frame = buffer.get(..length).unwrap_or_default();
                let is_answer = frame.get(20..22) == Some(&[0, 2])
                    && frame.get(28..32) == Some(&address.octets());
                if let Some(mac) =
                    frame.get(22..28).and_then(|mac| mac.first_chunk()).filter(|_| is_answer)
                {
                    return Ok(MacAddr(*mac));
                }
            }
        }
    }
    at(format!("{address}"), Err(std::io::Error::other("nobody answers ARP for it")))
}
