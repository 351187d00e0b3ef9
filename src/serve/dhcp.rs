//! The DHCP task: datagrams in, replies where RFC 2131 §4.1 sends them.
//!
//! Requests are taken in batches: all that wait are answered, what has to be remembered is written once, then the
//! replies leave. One disk access serves them all.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use dhcproto::v4::MessageType;
use tokio::sync::watch;
use tokio::time::{interval, sleep_until};

use super::Wanted;
use super::reach::{Reach, Where};
use super::store::Store;
use crate::net::{IfName, MacAddr};
use crate::plan::GuestPlan;
use crate::plan::serve::{DhcpPlan, ServePlan};
use crate::proto::Now;
use crate::proto::dhcp4::{
    Addresses, CLIENT_PORT, Destination, OneGuest, Reason, Responder, SERVER_PORT, Transmit,
};
use crate::proto::dns::Named;
use crate::proto::frame::{Endpoint, arp_probe, arp_sender, udp4};
use crate::proto::leases::{HEADER, State, is_ours};
use crate::sys::lease_file::{self, LeaseFile};
use crate::sys::socket::{self, Dhcp};

/// Datagrams answered with one access to the disk.
const BATCH: usize = 128;
/// An offer waits so long for somebody who has its address already (RFC 2131 §2.2; less than a second).
const PROBE: Duration = Duration::from_millis(500);
/// Offers that wait at once; more leave without.
const MAX_PROBES: usize = 256;
/// How often what waits is looked at.
const TICK: Duration = Duration::from_millis(10);
/// Between two words in the log about the same trouble.
const WARN_INTERVAL: Duration = Duration::from_secs(60);
/// Replies that wait until it is known whether somebody has their address; more are for strangers.
const MAX_PENDING: usize = 256;
/// ARP frames looked at in one turn: more are a flood.
const MAX_ARP: usize = 256;
/// Characters of a client's name in the log.
const MAX_SHOWN: usize = 64;

/// Who serves what, from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    interface: IfName,
    mac: MacAddr,
    address: Ipv4Addr,
    plan: DhcpPlan,
    /// An address that is our own, too, and what its client is known by instead (`nat::alias4`).
    alias: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The guest's address and MAC, whose first ACK is worth a word.
    guest: Option<(Ipv4Addr, MacAddr)>,
}

impl Task {
    /// The one guest of `berth run`.
    pub fn one_guest(plan: &GuestPlan) -> Self {
        let guest = OneGuest {
            server: plan.gateway,
            routed: plan.routed,
            guest: plan.address,
            dns: plan.dns.clone(),
            search: plan.search.clone(),
            hostname: plan.hostname.clone(),
            mtu: plan.mtu,
            lease_secs: plan.lease_secs,
        };
        Self {
            interface: plan.interface.clone(),
            mac: plan.gateway_mac,
            address: plan.gateway,
            plan: DhcpPlan { settings: guest.into(), lease_file: None, sync: false, limit: 1 },
            alias: plan.alias.map(|alias| (plan.address.address, alias)),
            guest: Some((plan.address.address, plan.mac)),
        }
    }

    /// Whether clients are told this address, and a router or none.
    pub fn gives(&self, plan: &GuestPlan) -> bool {
        let of_plan = Addresses::OneGuest(plan.address.address);
        self.plan.settings.subnets.iter().any(|subnet| {
            subnet.addresses == of_plan && subnet.parameters.router.is_some() == plan.routed
        })
    }

    /// Where a client is sent to at.
    fn reached_at(&self, address: Ipv4Addr) -> Ipv4Addr {
        match self.alias {
            Some((own, alias)) if own == address => alias,
            _ => address,
        }
    }

    /// `berth serve`, when it serves DHCP.
    pub(crate) fn from_serve(plan: &ServePlan) -> Option<Self> {
        Some(Self {
            interface: plan.interface.clone(),
            mac: plan.mac,
            address: plan.address.address,
            plan: plan.dhcp.clone()?,
            alias: None,
            guest: None,
        })
    }
}

impl Task {
    /// The lease file's path, if leases are kept.
    pub fn lease_file(&self) -> Option<&Path> {
        self.plan.lease_file.as_deref()
    }
}

/// Why the task ended.
#[derive(Debug)]
pub enum End {
    Socket(io::Error),
    Leases(lease_file::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => error.fmt(f),
            Self::Leases(error) => f.write_str(&crate::exit::error_chain(error)),
        }
    }
}

/// Opens and closes the lease file: whether it can be had is known before anything is served.
pub fn check(path: &Path) -> Result<(), lease_file::Error> {
    LeaseFile::open(path, HEADER, is_ours).map(drop)
}

/// Its sockets, and one more where it looks who has an address.
pub(super) fn bind(task: &Task, off: &'static str) -> Result<Dhcp, socket::Error> {
    let interface = &task.interface;
    let mut sockets = socket::dhcp(interface, task.address, off)?;
    if task.plan.settings.probe
        && let Err(error) = sockets.listen_to_arp(interface)
    {
        tracing::warn!(%interface, %error, "--probe needs CAP_NET_RAW: who has an address is not seen");
    }
    Ok(sockets)
}

/// Serves until the socket fails; the end is why.
/// Names of clients go to whoever wants them.
pub(super) async fn serve(sockets: Dhcp, task: Task, wanted: watch::Receiver<Wanted>) -> End {
    let (store, leases) = match Store::open(&task.plan, now()) {
        Ok(opened) => opened,
        Err(error) => return End::Leases(error),
    };
    let reach = Reach::new(task.interface.clone(), &sockets.aside.tables);
    let responder = Responder::new(task.plan.settings.clone(), leases);
    let server = DhcpServer {
        sockets,
        reach,
        responder,
        store,
        probes: VecDeque::new(),
        pending: Vec::new(),
        started: now().monotonic,
        acked: false,
        warned: BTreeMap::new(),
        wanted,
        task,
    };
    End::Socket(server.run().await)
}

/// The clock is read here and handed to the cores.
#[expect(clippy::disallowed_methods, reason = "a verb")]
fn now() -> Now {
    Now { monotonic: Instant::now(), wall: SystemTime::now() }
}

struct DhcpServer {
    task: Task,
    sockets: Dhcp,
    reach: Reach,
    responder: Responder,
    store: Option<Store>,
    probes: VecDeque<Probe>,
    /// Replies to addresses nobody knew when they were to leave.
    pending: Vec<Reply>,
    started: Instant,
    acked: bool,
    /// When the log was last told of trouble.
    warned: BTreeMap<Reason, Instant>,
    wanted: watch::Receiver<Wanted>,
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

impl DhcpServer {
    async fn run(mut self) -> io::Error {
        let mut buffer = vec![0; 4097];
        let mut tick = interval(TICK);
        let mut replies = Vec::new();
        loop {
            let rewriting = self.store.as_ref().is_some_and(Store::is_rewriting);
            let next_check = self.store.as_ref().map(|store| store.next_check(now().monotonic));
            tokio::select! {
                ready = self.sockets.udp.readable() => if let Err(error) = ready {
                    return error;
                },
                _ = tick.tick(), if rewriting || !self.probes.is_empty() || !self.pending.is_empty() => {}
                () = sleep_until(next_check.unwrap_or(self.started).into()), if next_check.is_some() => self.check_store().await,
                Ok(()) = self.wanted.changed() => self.responder.leases().forget_named(),
            }
            self.look_for_conflicts(&mut replies);
            replies.append(&mut self.pending);
            for _ in 0..BATCH {
                match self.sockets.udp.try_recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        let request = buffer.get(..length).unwrap_or_default();
                        replies.extend(self.answer(request, from));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // What a broken peer's ICMP error leaves behind is not the socket's end.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => return error,
                }
            }
            self.send(&mut replies).await;
            self.publish_names().await;
        }
    }

    fn answer(&mut self, request: &[u8], from: SocketAddr) -> Option<Reply> {
        let now = now();
        let answer = self.responder.answer(now, request);
        if let Some((client, name)) = self.responder.unusable_name() {
            self.warn_of_name(client, &name, now.monotonic);
        }
        match answer {
            Ok(Some(transmit)) => match transmit.probe.filter(|_| self.probes.len() < MAX_PROBES) {
                Some(address) => {
                    let frame = arp_probe(self.task.mac, address);
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
        let (interface, declined) = (&self.task.interface, self.responder.last_declined());
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
    fn look_for_conflicts(&mut self, replies: &mut Vec<Reply>) {
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
                replies.extend(self.answer(&probe.request, probe.from));
            } else if probe.until <= now.monotonic {
                replies.push(probe.offer);
            } else {
                self.probes.push_back(probe);
            }
        }
    }

    /// The lease file may need something though nobody asks.
    async fn check_store(&mut self) {
        if let Some(store) = &mut self.store {
            store.check(self.responder.leases(), now()).await;
        }
    }

    /// Tells the names of clients to who wants them.
    async fn publish_names(&mut self) {
        let wanted = self.wanted.borrow().clone();
        let Some(wanted) = wanted else { return };
        for lease in self.responder.leases().named() {
            let name = lease.name.filter(|_| lease.state == State::Bound);
            let named = Named { address: lease.address, name, until: lease.until };
            if wanted.send(named).await.is_err() {
                return self.responder.leases().forget_named();
            }
        }
    }

    /// Sends what the disk has taken; what it has not, clients will ask for again.
    async fn send(&mut self, replies: &mut Vec<Reply>) {
        if let Some(store) = &mut self.store {
            let written = store.write(self.responder.leases(), now()).await;
            if !written {
                replies.clear();
            }
            store.tidy(self.responder.leases(), now()).await;
        }
        for reply in replies.drain(..) {
            let place = self.place(&reply);
            if place == Where::Pending && self.pending.len() < MAX_PENDING {
                self.pending.push(reply);
                continue;
            }
            match transmit(&self.sockets, &self.task, &reply, place) {
                Ok(()) => self.log_reply(&reply.transmit),
                Err(error) => self.warn_unsent(&reply.transmit, &error),
            }
        }
    }

    /// Whether the one it is sent to has a MAC; whoever has no address yet is sent to by the MAC it has said, or with all.
    fn place(&mut self, reply: &Reply) -> Where {
        match reply.transmit.destination {
            Destination::Broadcast | Destination::Unicast { .. } => Where::Near,
            Destination::Client(address)
            | Destination::Relay(address)
            | Destination::RelaySource(address) => {
                let address = self.task.reached_at(address);
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
        let Some((address, planned)) = self.task.guest.filter(|_| !self.acked) else { return };
        if reply.kind == Some(MessageType::Ack) {
            self.acked = true;
            let client = reply.client;
            let after = now().monotonic.duration_since(self.started);
            tracing::info!(%client, %address, after_ms = after.as_millis(), "guest has its address");
            if client != planned {
                tracing::warn!(%client, %planned, "the guest has another MAC than it was given");
            }
        }
    }
}

/// Nothing waits: what the socket does not take is not sent.
fn transmit(sockets: &Dhcp, task: &Task, reply: &Reply, place: Where) -> io::Result<()> {
    let Reply { transmit: reply, from, .. } = reply;
    let to = |address: Ipv4Addr, port| SocketAddr::from((address, port));
    let destination = match reply.destination {
        Destination::Broadcast => to(Ipv4Addr::BROADCAST, CLIENT_PORT),
        Destination::Client(address) => to(task.reached_at(address), CLIENT_PORT),
        Destination::Relay(address) => to(address, SERVER_PORT),
        Destination::RelaySource(address) => to(address, from.port()),
        Destination::Unicast { address, mac } => {
            let from =
                Endpoint { mac: task.mac, socket: SocketAddrV4::new(task.address, SERVER_PORT) };
            let client = Endpoint { mac, socket: SocketAddrV4::new(address, CLIENT_PORT) };
            let frame = udp4(from, client, &reply.payload);
            if frame.is_some_and(|frame| sockets.send_frame(&frame).unwrap_or(false)) {
                return Ok(());
            }
            to(Ipv4Addr::BROADCAST, CLIENT_PORT)
        }
    };
    let aside = match place {
        Where::Near => return sockets.udp.try_send_to(&reply.payload, destination).map(drop),
        Where::Gone => &sockets.aside.gone,
        Where::Nowhere | Where::Pending => &sockets.aside.strangers,
    };
    aside.send_to(&reply.payload, destination)
}
