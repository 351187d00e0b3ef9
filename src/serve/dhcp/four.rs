//! DHCPv4's half of the task: datagrams in, replies where RFC 2131 §4.1 sends them.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use dhcproto::v4::MessageType;

use super::{BATCH, FourTask, WARN_INTERVAL, now};
use crate::net::{IfName, MacAddr};
use crate::proto::dhcp4::{CLIENT_PORT, Destination, Reason, Responder, SERVER_PORT, Transmit};
use crate::proto::frame::{Endpoint, arp_probe, arp_sender, udp4};
use crate::proto::leases::Leases;
use crate::serve::reach::{Reach, Where};
use crate::serve::tally::{self, Tally, Told};
use crate::sys::socket::Dhcp;

/// An offer waits so long for somebody who has its address already (RFC 2131 §2.2; less than a second).
const PROBE: Duration = Duration::from_millis(500);
/// Offers that wait at once; more leave without.
const MAX_PROBES: usize = 256;
/// Replies that wait until it is known whether somebody has their address; more are for strangers.
const MAX_PENDING: usize = 256;
/// ARP frames looked at in one turn: more are a flood.
const MAX_ARP: usize = 256;
/// Characters of a client's name in the log.
const MAX_SHOWN: usize = 64;

pub(super) struct Four {
    interface: IfName,
    mac: MacAddr,
    address: Ipv4Addr,
    /// As in the task.
    alias: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The guest's address and MAC, whose first ACK is worth a word.
    guest: Option<(Ipv4Addr, MacAddr)>,
    pub sockets: Dhcp,
    reach: Reach,
    pub responder: Responder,
    probes: VecDeque<Probe>,
    /// Replies to addresses nobody knew when they were to leave.
    pending: Vec<Reply>,
    /// Those that leave once they are written.
    replies: Vec<Reply>,
    buffer: Vec<u8>,
    started: Instant,
    acked: bool,
    /// When the log was last told of trouble.
    warned: BTreeMap<Reason, Instant>,
    tally: Tally,
    told: Told<Reason>,
}

/// An offer that waits for somebody to object.
struct Probe {
    until: Instant,
    address: Ipv4Addr,
    offer: Reply,
    request: Vec<u8>,
    from: SocketAddr,
}

/// A reply, where its request came from, and when.
struct Reply {
    transmit: Transmit,
    from: SocketAddr,
    since: Instant,
}

impl Four {
    pub fn new(
        sockets: Dhcp,
        interface: IfName,
        mac: MacAddr,
        task: FourTask,
        leases: Leases,
        tally: Tally,
    ) -> Self {
        Self {
            reach: Reach::new(interface.clone(), &sockets.aside.tables),
            responder: Responder::new(task.settings, leases),
            interface,
            mac,
            address: task.address,
            alias: task.alias,
            guest: task.guest,
            sockets,
            probes: VecDeque::new(),
            pending: Vec::new(),
            replies: Vec::new(),
            buffer: vec![0; 4097],
            started: now().monotonic,
            acked: false,
            warned: BTreeMap::new(),
            tally,
            told: Told::default(),
        }
    }

    /// Whether something waits for its time.
    pub fn waits(&self) -> bool {
        !self.probes.is_empty() || !self.pending.is_empty()
    }

    /// Answers what has come, some at a time.
    pub fn take(&mut self) -> io::Result<()> {
        self.look_for_conflicts();
        self.replies.append(&mut self.pending);
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..BATCH {
            match self.sockets.udp.try_recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let request = buffer.get(..length).unwrap_or_default();
                    let reply = self.answer(request, from);
                    self.replies.extend(reply);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What a broken peer's ICMP error leaves behind is not the socket's end.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn answer(&mut self, request: &[u8], from: SocketAddr) -> Option<Reply> {
        let now = now();
        self.tally.request("4", tally::asked4(request));
        let answer = self.responder.answer(now, request);
        if let Some((client, name)) = self.responder.unusable_name() {
            self.warn_of_name(client, &name, now.monotonic);
        }
        match answer {
            Ok(Some(transmit)) => match transmit.probe.filter(|_| self.probes.len() < MAX_PROBES) {
                Some(address) => {
                    let frame = arp_probe(self.mac, address);
                    let _ =
                        frame.is_some_and(|frame| self.sockets.send_frame(&frame).unwrap_or(false));
                    let until = now.monotonic + PROBE;
                    let (offer, request) =
                        (Reply { transmit, from, since: now.monotonic }, request.to_vec());
                    self.probes.push_back(Probe { until, address, offer, request, from });
                    None
                }
                None => Some(Reply { transmit, from, since: now.monotonic }),
            },
            Ok(None) => None,
            Err(reason) => {
                self.warn_of(reason, now.monotonic);
                None
            }
        }
    }

    fn warn_of(&mut self, reason: Reason, now: Instant) {
        let count = self.responder.counts().get(&reason).copied().unwrap_or_default();
        tracing::debug!(reason = reason.label(), count, "DHCP request without an answer");
        let quiet = self.was_warned(reason, now);
        let (interface, declined) = (&self.interface, self.responder.last_declined());
        match (reason, declined) {
            _ if quiet => return,
            (Reason::Exhausted, _) => {
                tracing::warn!(%interface, count, "no address is left for a client that asks for one");
            }
            (Reason::Declined, Some(address)) => {
                tracing::warn!(%interface, %address, count, "a client says that another host uses its address: not offered for a while");
            }
            _ => return,
        }
        self.warned.insert(reason, now);
    }

    /// A client whose name DNS will not know.
    fn warn_of_name(&mut self, client: MacAddr, name: &[u8], now: Instant) {
        if self.was_warned(Reason::Name, now) {
            return;
        }
        let shown: String = String::from_utf8_lossy(name).chars().take(MAX_SHOWN).collect();
        tracing::warn!(%client, name = ?shown, "a client's name is none (letters, digits, - and _, 63 at most): leased without one, DNS does not know it");
        self.warned.insert(Reason::Name, now);
    }

    fn was_warned(&self, reason: Reason, now: Instant) -> bool {
        self.warned.get(&reason).is_some_and(|warned| now.duration_since(*warned) < WARN_INTERVAL)
    }

    /// Offers whose address somebody has are made anew; those nobody objects to leave.
    fn look_for_conflicts(&mut self) {
        let mut buffer = [0; 64];
        let mut taken = Vec::new();
        for _ in 0..MAX_ARP {
            let Some(frame) = self.sockets.heard_arp(&mut buffer) else { break };
            taken.extend(
                arp_sender(frame)
                    .filter(|sender| self.probes.iter().any(|probe| probe.address == *sender)),
            );
        }
        let now = now();
        for probe in std::mem::take(&mut self.probes) {
            if taken.contains(&probe.address) {
                tracing::warn!(address = %probe.address, "address conflict: another host uses an address that was to be offered");
                self.responder.conflict(now, probe.address);
                let reply = self.answer(&probe.request, probe.from);
                self.replies.extend(reply);
            } else if probe.until <= now.monotonic {
                self.replies.push(probe.offer);
            } else {
                self.probes.push_back(probe);
            }
        }
    }

    /// Sends what was written; what was not, clients will ask for again.
    pub fn send(&mut self, written: bool) {
        let replies = std::mem::take(&mut self.replies);
        for reply in replies.into_iter().filter(|_| written) {
            let place = self.place(&reply);
            if place == Where::Pending && self.pending.len() < MAX_PENDING {
                self.pending.push(reply);
                continue;
            }
            match self.transmit(&reply, place) {
                Ok(()) => self.log_reply(&reply.transmit),
                Err(error) => self.warn_unsent(&reply.transmit, &error),
            }
        }
        self.told.tell((&self.tally, "4"), self.responder.counts(), Reason::label);
    }

    /// Where a client is sent to at.
    fn reached_at(&self, address: Ipv4Addr) -> Ipv4Addr {
        match self.alias {
            Some((own, alias)) if own == address => alias,
            _ => address,
        }
    }

    /// Whether the one it is sent to has a MAC; whoever has no address yet is sent to by the MAC it has said, or with all.
    fn place(&mut self, reply: &Reply) -> Where {
        match reply.transmit.destination {
            Destination::Broadcast | Destination::Unicast { .. } => Where::Near,
            Destination::Client(address)
            | Destination::Relay(address)
            | Destination::RelaySource(address) => {
                let address = self.reached_at(address);
                self.reach.of(address.into(), reply.since, now().monotonic)
            }
        }
    }

    /// The client asks again, if there is one.
    fn warn_unsent(&mut self, reply: &Transmit, error: &io::Error) {
        self.responder.count(Reason::Unsent);
        let now = now().monotonic;
        if !self.was_warned(Reason::Unsent, now) {
            tracing::warn!(client = %reply.client, %error, "DHCP reply not sent");
            self.warned.insert(Reason::Unsent, now);
        }
    }

    fn log_reply(&mut self, reply: &Transmit) {
        tracing::debug!(kind = ?reply.kind, client = %reply.client, address = %reply.address, "DHCP reply");
        self.tally.reply("4", tally::kind4(reply.kind));
        let Some((address, planned)) = self.guest else { return };
        let is_ack = reply.kind == Some(MessageType::Ack);
        if is_ack && reply.address == address {
            self.tally.ack(now().monotonic, Some(reply.client));
        }
        if is_ack && !self.acked {
            self.acked = true;
            let client = reply.client;
            let after = now().monotonic.duration_since(self.started);
            tracing::info!(%client, %address, after_ms = after.as_millis(), "guest has its address");
            if client != planned {
                tracing::warn!(%client, %planned, "the guest has another MAC than it was given");
            }
        }
    }

    /// Nothing waits: what the socket does not take is not sent.
    fn transmit(&self, reply: &Reply, place: Where) -> io::Result<()> {
        let Reply { transmit: reply, from, .. } = reply;
        let to = |address: Ipv4Addr, port| SocketAddr::from((address, port));
        let destination = match reply.destination {
            Destination::Broadcast => to(Ipv4Addr::BROADCAST, CLIENT_PORT),
            Destination::Client(address) => to(self.reached_at(address), CLIENT_PORT),
            Destination::Relay(address) => to(address, SERVER_PORT),
            Destination::RelaySource(address) => to(address, from.port()),
            Destination::Unicast { address, mac } => {
                let from = Endpoint {
                    mac: self.mac,
                    socket: SocketAddrV4::new(self.address, SERVER_PORT),
                };
                let client = Endpoint { mac, socket: SocketAddrV4::new(address, CLIENT_PORT) };
                let frame = udp4(from, client, &reply.payload);
                if frame.is_some_and(|frame| self.sockets.send_frame(&frame).unwrap_or(false)) {
                    return Ok(());
                }
                to(Ipv4Addr::BROADCAST, CLIENT_PORT)
            }
        };
        let aside = match place {
            Where::Near => {
                return self.sockets.udp.try_send_to(&reply.payload, destination).map(drop);
            }
            Where::Gone => &self.sockets.aside.gone,
            Where::Nowhere | Where::Pending => &self.sockets.aside.strangers,
        };
        aside.send_to(&reply.payload, destination)
    }
}
