//! DHCPv6's half of the task: datagrams in, replies to where they came from (RFC 8415 §18.3.10).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Instant;

use super::{BATCH, WARN_INTERVAL, now};
use crate::net::IfName;
use crate::proto::dhcp6::{
    CLIENT_PORT, Datagram, Destination, Error, Reason, Responder, SERVER_PORT, Settings, Transmit,
};
use crate::proto::leases::Leases;
use crate::serve::tally::{self, Tally, Told};
use crate::sys::socket::Dhcp6;

/// More than is looked at: a longer one is known as such.
const LARGEST: usize = 4097;

pub(super) struct Six {
    interface: IfName,
    sockets: Dhcp6,
    pub responder: Responder,
    /// Those that leave once they are written, each by the socket that its message came by.
    replies: Vec<(Transmit, SocketAddrV6, usize)>,
    buffer: Vec<u8>,
    /// When the log was last told of trouble.
    warned: BTreeMap<Reason, Instant>,
    tally: Tally,
    told: Told<Reason>,
}

impl Six {
    pub fn new(
        sockets: Dhcp6,
        interface: IfName,
        settings: Settings,
        leases: Leases<Ipv6Addr>,
        tally: Tally,
    ) -> Result<Self, Error> {
        Ok(Self {
            interface,
            sockets,
            responder: Responder::with_leases(settings, leases)?,
            replies: Vec::new(),
            buffer: vec![0; LARGEST],
            warned: BTreeMap::new(),
            tally,
            told: Told::default(),
        })
    }

    pub async fn readable(&self) -> io::Result<()> {
        let [all, site, ours] = self.sockets.each();
        tokio::select! {
            ready = all.readable() => ready,
            ready = site.readable() => ready,
            ready = ours.readable() => ready,
        }
    }

    /// Answers what has come, some at a time.
    pub fn take(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        for by in 0..self.sockets.each().len() {
            for _ in 0..BATCH {
                let Some(socket) = self.sockets.each().into_iter().nth(by) else { break };
                match socket.try_recv_from(&mut buffer) {
                    Ok((length, SocketAddr::V6(from))) => {
                        let payload = buffer.get(..length).unwrap_or_default();
                        self.answer(payload, from, by);
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // What a broken peer's ICMP error leaves behind is not the socket's end.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn answer(&mut self, payload: &[u8], from: SocketAddrV6, by: usize) {
        let now = now();
        self.tally.request("6", tally::asked6(payload));
        let unicast = by == Dhcp6::OURS;
        let before = self.count(Reason::Exhausted) + self.count(Reason::Declined);
        match self.responder.answer(now, Datagram { payload, unicast }) {
            Ok(Some(transmit)) => self.replies.push((transmit, from, by)),
            Ok(None) => {}
            Err(reason) => {
                let count = self.count(reason);
                tracing::debug!(reason = reason.label(), count, %from, "DHCPv6 message without an answer");
            }
        }
        if self.count(Reason::Exhausted) + self.count(Reason::Declined) > before {
            self.warn_of_addresses(now.monotonic);
        }
    }

    fn count(&self, reason: Reason) -> u64 {
        self.responder.counts().get(&reason).copied().unwrap_or_default()
    }

    /// That none is left, or that somebody else has one.
    fn warn_of_addresses(&mut self, now: Instant) {
        let interface = self.interface.clone();
        let (count, declined) = (self.count(Reason::Exhausted), self.responder.last_declined());
        if count > 0 && self.is_news(Reason::Exhausted, now) {
            tracing::warn!(%interface, count, "no IPv6 address is left for a client that asks for one");
        }
        if let Some(address) = declined.filter(|_| self.is_news(Reason::Declined, now)) {
            tracing::warn!(%interface, %address, "a client says that another host uses its IPv6 address: not offered for a while");
        }
    }

    fn is_news(&mut self, reason: Reason, now: Instant) -> bool {
        let warned = self.warned.get(&reason);
        let is_news = warned.is_none_or(|warned| now.duration_since(*warned) >= WARN_INTERVAL);
        if is_news {
            self.warned.insert(reason, now);
        }
        is_news
    }

    /// Sends what was written; what was not, clients will ask for again.
    pub fn send(&mut self, written: bool) {
        let replies = std::mem::take(&mut self.replies);
        for (transmit, from, by) in replies.into_iter().filter(|_| written) {
            let Some(socket) = self.sockets.each().into_iter().nth(by) else { continue };
            let Transmit { message, kind, addresses, .. } = &transmit;
            match socket.try_send_to(&transmit.payload, to(&transmit, from).into()) {
                Ok(_) => {
                    self.tally.reply("6", tally::kind6(*kind));
                    tracing::debug!(to = ?message, ?kind, ?addresses, %from, "DHCPv6 reply");
                }
                Err(error) => {
                    self.responder.count(Reason::Unsent);
                    if self.is_news(Reason::Unsent, now().monotonic) {
                        tracing::warn!(client = %from, %error, "DHCPv6 reply not sent");
                    }
                }
            }
        }
        self.told.tell((&self.tally, "6"), self.responder.counts(), Reason::label);
    }
}

pub(in super::super) fn to(transmit: &Transmit, from: SocketAddrV6) -> SocketAddrV6 {
    let port = match transmit.destination {
        Destination::Client => CLIENT_PORT,
        Destination::Relay => SERVER_PORT,
        Destination::RelaySource => from.port(),
    };
    SocketAddrV6::new(*from.ip(), port, 0, from.scope_id())
}
