//! DHCPv6 as the driver speaks it: one client of many, on the link (RFC 8415 §18.2), a host of RFC 4861 beside it.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::rc::Rc;

use berth::net::MacAddr;
use berth::proto::frame::icmpv6;

use super::wire::{
    ALL_SERVERS, CLIENT_PORT, ICMPV6, Packet, SERVER_PORT, link_local, local_client, option,
    options, udp6,
};
use crate::dhcp::load::Leg;
use crate::dhcp::protocol::{Ask, Protocol, Reply, Seen};
use crate::dhcp::wire::{client, mac};

/// RFC 8415 §7.3.
pub const SOLICIT: u8 = 1;
pub const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const RENEW: u8 = 5;
pub const REPLY: u8 = 7;

/// RFC 8415 §21.
pub const CLIENT_ID: u16 = 1;
pub const SERVER_ID: u16 = 2;
pub const IA_NA: u16 = 3;
pub const IA_ADDRESS: u16 = 5;
const REQUESTED: u16 = 6;
const ELAPSED: u16 = 8;
const STATUS: u16 = 13;
pub const RAPID_COMMIT: u16 = 14;

/// RFC 4861 §4.3, §4.4.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Solicited, and newer than what was known.
const SOLICITED_OVERRIDE: u8 = 0x60;

/// A DUID.
type Server = Rc<[u8]>;

#[derive(Debug, Default)]
pub struct Six {
    /// Who gave the last right answer: renewals are for it.
    server: Option<Server>,
}

impl Protocol for Six {
    type Address = Ipv6Addr;
    type Server = Server;
    const TRANSACTIONS: u32 = 0x00ff_ffff;

    fn frame(&self, client: u32, xid: u32, ask: &Ask<Ipv6Addr, Server>) -> Option<Vec<u8>> {
        let (kind, server, address) = match ask {
            Ask::Discover | Ask::Rapid => (SOLICIT, None, None),
            Ask::Request { address, server } => (REQUEST, server.as_deref(), Some(*address)),
            Ask::Renew { address } => (RENEW, self.server.as_deref(), *address),
        };
        let mut payload = head(kind, xid);
        payload.extend(option(CLIENT_ID, &duid(client)));
        if let Some(server) = server {
            payload.extend(option(SERVER_ID, server));
        }
        if *ask == Ask::Rapid {
            payload.extend(option(RAPID_COMMIT, &[]));
        }
        payload.extend(association(client, address, 0));
        // What most clients ask for: DNS servers, search list, NTP, the longest time between two SOLICITs.
        payload.extend(option(REQUESTED, &[0, 23, 0, 24, 0, 56, 0, 82]));
        payload.extend(option(ELAPSED, &[0, 0]));
        let (to, group) = ALL_SERVERS;
        let own = (mac(client), link_local(client), CLIENT_PORT);
        udp6(own, (to, group, SERVER_PORT), &payload)
    }

    fn read(&mut self, frame: &[u8]) -> Seen<Ipv6Addr, Server> {
        let Some(packet) = Packet::read(frame) else { return Seen::Nothing };
        let Some(number) = client(packet.to.0) else { return Seen::Nothing };
        let Some((SERVER_PORT, port, payload)) = packet.datagram() else { return Seen::Nothing };
        if !packet.is_whole() {
            return Seen::Wrong("UDP checksum");
        }
        let is_to = port == CLIENT_PORT && packet.to.1 == link_local(number);
        match reply(payload, packet.from.0, number) {
            Some(reply) if is_to => Seen::Reply(reply),
            Some(_) => Seen::Wrong("destination"),
            None => Seen::Wrong("message"),
        }
    }

    fn learn(&mut self, server: &Server, _from: MacAddr) {
        if self.server.as_ref() != Some(server) {
            self.server = Some(Rc::clone(server));
        }
    }

    fn neighbour(&self, frame: &[u8], holders: &HashMap<Ipv6Addr, u32>) -> Option<Vec<u8>> {
        let packet = Packet::read(frame)?;
        let (&[SOLICITATION, 0, _, _, _, _, _, _], rest) =
            packet.payload.split_first_chunk::<8>()?
        else {
            return None;
        };
        let target = Ipv6Addr::from(*rest.first_chunk::<16>()?);
        let holder = local_client(target).or_else(|| holders.get(&target).copied())?;
        // From no address: one that only looks whether its own is taken (RFC 4862 §5.4.3), and none is.
        let asks = packet.next == ICMPV6 && packet.hops == 255 && !packet.from.1.is_unspecified();
        if !asks || !packet.is_whole() {
            return None;
        }
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, SOLICITED_OVERRIDE, 0, 0, 0];
        message.extend(target.octets());
        message.extend([2, 1]);
        message.extend(mac(holder).0);
        icmpv6((mac(holder), target), packet.from, &mut message)
    }
}

/// Type and transaction.
pub fn head(kind: u8, xid: u32) -> Vec<u8> {
    let [_, a, b, c] = xid.to_be_bytes();
    vec![kind, a, b, c]
}

/// DUID-LL of Ethernet (RFC 8415 §11.4).
fn duid(client: u32) -> Vec<u8> {
    [&[0, 3, 0, 1][..], &mac(client).0].concat()
}

/// The client's only one; times that it does not care for are 0.
pub fn association(client: u32, address: Option<Ipv6Addr>, lifetime: u32) -> Vec<u8> {
    let mut value = client.to_be_bytes().to_vec();
    value.extend([0; 8]);
    if let Some(address) = address {
        let lifetime = lifetime.to_be_bytes();
        value.extend(option(IA_ADDRESS, &[&address.octets()[..], &lifetime, &lifetime].concat()));
    }
    option(IA_NA, &value)
}

/// None when something in it is not right; no address where a status says so.
fn reply(payload: &[u8], from: MacAddr, number: u32) -> Option<Reply<Ipv6Addr, Server>> {
    let (&[kind, a, b, c], rest) = payload.split_first_chunk::<4>()?;
    let (mut client, mut server, mut addresses, mut refused) = (None, None, Vec::new(), false);
    for (code, value) in options(rest)? {
        match code {
            CLIENT_ID => client = Some(value),
            SERVER_ID if (3..=130).contains(&value.len()) => server = Some(Rc::from(value)),
            SERVER_ID => return None,
            IA_NA => {
                let (head, rest) = value.split_first_chunk::<12>()?;
                let is_its = head.starts_with(&number.to_be_bytes());
                refused |= !is_its;
                for (code, value) in options(rest)? {
                    match code {
                        IA_ADDRESS => addresses.extend(leased(value)?),
                        STATUS => refused |= value.first_chunk()? != &[0, 0],
                        _ => {}
                    }
                }
            }
            STATUS => refused |= value.first_chunk()? != &[0, 0],
            _ => {}
        }
    }
    Some(Reply {
        leg: match kind {
            ADVERTISE => Some(Leg::Offer),
            REPLY => Some(Leg::Ack),
            _ => None,
        },
        xid: u32::from_be_bytes([0, a, b, c]),
        client: Some(number).filter(|number| client == Some(&*duid(*number))),
        address: match *addresses {
            [address] if !refused => Some(address),
            _ => None,
        },
        server: Some(server?),
        from,
    })
}

/// An address that is valid for a while, as RFC 8415 §21.6 has it; nothing in it where it is not. None: cut.
fn leased(value: &[u8]) -> Option<Option<Ipv6Addr>> {
    let (address, rest) = value.split_first_chunk::<16>()?;
    let (preferred, rest) = rest.split_first_chunk::<4>()?;
    let (valid, rest) = rest.split_first_chunk::<4>()?;
    options(rest)?;
    let (preferred, valid) = (u32::from_be_bytes(*preferred), u32::from_be_bytes(*valid));
    let address = Ipv6Addr::from(*address);
    Some(Some(address).filter(|_| valid > 0 && preferred <= valid && !address.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::super::echo::answer;
    use super::*;

    const SERVER: MacAddr = MacAddr([2; 6]);

    fn asked(ask: &Ask<Ipv6Addr, Server>) -> Vec<u8> {
        Six::default().frame(9, 7, ask).unwrap()
    }

    fn address() -> Ipv6Addr {
        "fd77::9".parse().unwrap()
    }

    fn seen(frame: &[u8]) -> Reply<Ipv6Addr, Server> {
        match Six::default().read(frame) {
            Seen::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn replies_are_read_with_who_they_are_for() {
        for (ask, leg) in [
            (Ask::Discover, Leg::Offer),
            (Ask::Rapid, Leg::Ack),
            (Ask::Request { address: address(), server: Some(Rc::from([0, 3, 1])) }, Leg::Ack),
            (Ask::Renew { address: Some(address()) }, Leg::Ack),
        ] {
            let frame = asked(&ask);
            assert_eq!(Six::default().read(&frame), Seen::Nothing, "{ask:?}");
            let reply = seen(&answer(&frame, SERVER, address()).unwrap());
            assert_eq!((reply.leg, reply.xid, reply.client), (Some(leg), 7, Some(9)), "{ask:?}");
            assert_eq!((reply.address, reply.from), (Some(address()), SERVER), "{ask:?}");
        }
    }

    /// In every place: a bit that is not as it was is no right answer.
    #[test]
    fn spoilt_and_cut_replies_are_wrong() {
        let frame = answer(&asked(&Ask::Discover), SERVER, address()).unwrap();
        for at in 54..frame.len() {
            let mut spoilt = frame.clone();
            spoilt[at] ^= 1;
            let seen = Six::default().read(&spoilt);
            assert!(!matches!(seen, Seen::Reply(_)), "{at}: {seen:?}");
        }
        let payload = &frame[62..];
        for length in 0..payload.len() {
            let read = reply(&payload[..length], SERVER, 9);
            let right = |read: Reply<_, _>| read.client.is_some() && read.address.is_some();
            assert!(!read.is_some_and(right), "{length}");
        }
    }

    #[test]
    fn an_address_that_is_refused_or_over_or_anothers_is_none() {
        let all = |value: &[u8]| {
            let mut payload = head(REPLY, 7);
            payload.extend(option(CLIENT_ID, &duid(9)));
            payload.extend(option(SERVER_ID, &[0, 3, 1]));
            payload.extend(value);
            reply(&payload, SERVER, 9).unwrap()
        };
        let granted = association(9, Some(address()), 60);
        assert_eq!(all(&granted).address, Some(address()));
        assert_eq!(all(&association(9, Some(address()), 0)).address, None);
        assert_eq!(all(&association(8, Some(address()), 60)).address, None);
        assert_eq!(all(&[option(STATUS, &[0, 2]), granted.clone()].concat()).address, None);
        assert_eq!(all(&[granted.clone(), granted].concat()).address, None);
    }

    #[test]
    fn who_looks_for_a_client_is_told_its_mac() {
        let solicitation = |target: Ipv6Addr| {
            let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            message.extend(target.octets());
            message.extend([1, 1, 2, 2, 2, 2, 2, 2]);
            let group = (MacAddr([0x33, 0x33, 0xff, 0, 0, 9]), "ff02::1:ff00:9".parse().unwrap());
            icmpv6((SERVER, "fe80::1".parse().unwrap()), group, &mut message).unwrap()
        };
        let holders = HashMap::from([(address(), 9)]);
        for target in [link_local(9), address()] {
            let answer = Six::default().neighbour(&solicitation(target), &holders).unwrap();
            let packet = Packet::read(&answer).unwrap();
            assert!(packet.is_whole() && packet.hops == 255);
            assert_eq!(packet.from, (mac(9), target));
            assert_eq!(packet.to, (SERVER, "fe80::1".parse().unwrap()));
            let (kind, told) = (packet.payload[0], &packet.payload[8..]);
            assert_eq!((kind, packet.payload[4]), (ADVERTISEMENT, SOLICITED_OVERRIDE));
            assert_eq!(told, [&target.octets()[..], &[2, 1], &mac(9).0].concat());
        }
        let other = solicitation("fe80::2".parse().unwrap());
        assert_eq!(Six::default().neighbour(&other, &holders), None);
        let mut spoilt = solicitation(link_local(9));
        spoilt[80] ^= 1;
        assert_eq!(Six::default().neighbour(&spoilt, &holders), None);
    }
}
