//! What the server that does as little as one can says in DHCPv6: one address for each client number, without any memory.

use std::net::Ipv6Addr;

use berth::net::MacAddr;

use super::six::{
    ADVERTISE, CLIENT_ID, RAPID_COMMIT, REPLY, SERVER_ID, SOLICIT, association, head,
};
use super::wire::{CLIENT_PORT, Packet, SERVER_PORT, option, options, udp6};
use crate::dhcp::echo::Options;
use crate::dhcp::wire::client;

const OWN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The reply to a frame of a client's; none if it is not that.
pub fn reply(frame: &[u8], own: MacAddr, options: &Options) -> Option<Vec<u8>> {
    let number = if options.duplicate { 0 } else { client(Packet::read(frame)?.from.0)? };
    let [high, low] = [number >> 16, number & 0xffff].map(|half| u16::try_from(half).unwrap_or(0));
    answer(frame, own, Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 1, high, low))
}

/// The same with this address.
pub fn answer(frame: &[u8], own: MacAddr, address: Ipv6Addr) -> Option<Vec<u8>> {
    let packet = Packet::read(frame)?;
    let (CLIENT_PORT, SERVER_PORT, payload) = packet.datagram()? else { return None };
    let (&[kind, a, b, c], rest) = payload.split_first_chunk::<4>()?;
    let items = options(rest)?;
    let is_rapid = items.iter().any(|(code, _)| *code == RAPID_COMMIT);
    let (_, id) = items.iter().find(|(code, _)| *code == CLIENT_ID)?;
    let kind = if kind == SOLICIT && !is_rapid { ADVERTISE } else { REPLY };
    let mut payload = head(kind, u32::from_be_bytes([0, a, b, c]));
    payload.extend(option(CLIENT_ID, id));
    payload.extend(option(SERVER_ID, &[&[0, 3, 0, 1][..], &own.0].concat()));
    if is_rapid {
        payload.extend(option(RAPID_COMMIT, &[]));
    }
    payload.extend(association(client(packet.from.0)?, Some(address), 3600));
    udp6((own, OWN, SERVER_PORT), (packet.from.0, packet.from.1, CLIENT_PORT), &payload)
}
