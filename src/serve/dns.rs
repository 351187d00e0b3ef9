//! The DNS task: one loop owns the core; TCP connections and questions under way are tasks that talk to it.
//!
//! The loop waits for nothing but its next event: what a socket does not take is dropped, and counted.

mod ready;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use self::ready::{accept4, accept6, next6, readable};
use super::Wanted;
use super::connections::{Connections, Event, Place};
use super::reach::{Reach, Where};
use super::resolver::ResolvConf;
use super::tally::Tally;
use super::upstreams::{MAX_OVER_TCP, UpstreamEvent, ask_server};
use crate::facts::Resolver;
use crate::net::IfName;
use crate::plan::serve::DnsPlan;
use crate::proto::dns::{
    Client, Forwarder, Input, LARGEST_QUESTION, Output, Over, Reason, Settings,
};
use crate::sys::socket::{Basket, Dns, send_all};

/// Answers that leave together.
const BATCH: usize = 64;
/// Events that wait for the loop, and how many it takes at a time.
const MAX_EVENTS: usize = 64;
/// Names of DHCP clients that wait to be noted; the DHCP task waits for more.
const MAX_NAMES: usize = 1024;
/// Octets of questions that wait until it is known where they come from, and what each costs beside its own; more are a
/// stranger's.
const MAX_PENDING: usize = 1 << 20;
const PENDING_OVERHEAD: usize = 96;
/// After what may be over soon: no descriptor is left, for one.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Between two words in the log about servers that do not answer.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// What the tasks tell the loop.
enum TaskMessage {
    Connection(Event),
    Server(UpstreamEvent),
}

impl From<UpstreamEvent> for TaskMessage {
    fn from(said: UpstreamEvent) -> Self {
        Self::Server(said)
    }
}

impl From<Event> for TaskMessage {
    fn from(event: Event) -> Self {
        Self::Connection(event)
    }
}

/// How an answer gets back.
enum ReplyPath {
    /// And where that was when it asked.
    Udp(SocketAddr, Where),
    /// By IPv6: the guest, who is always there.
    Udp6(SocketAddr),
    Tcp(Place),
}

/// A question that came when nobody knew of its sender.
struct Pending {
    since: Instant,
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// The loop's own state beside the core's.
struct DnsServer {
    forwarder: Forwarder,
    reply_paths: HashMap<u64, ReplyPath>,
    /// None: no IPv4.
    reach: Option<Reach>,
    pending: Vec<Pending>,
    pending_octets: usize,
    /// Answers that have yet to leave by UDP.
    answers: Vec<(SocketAddr, Vec<u8>)>,
    /// Under way, and since when.
    asks: BTreeMap<u64, (AbortHandle, Instant)>,
    over_tcp: Arc<Semaphore>,
    next: u64,
    connections: Connections,
    /// No connection is taken before.
    accept_again: Option<Instant>,
    sender: mpsc::Sender<TaskMessage>,
    dropped: BTreeMap<Reason, u64>,
    /// That no server answers was said, and when that was last.
    without_servers: bool,
    warned: Option<Instant>,
    /// When the log was last told of a connection that could not be taken.
    refused: Option<Instant>,
    tally: Tally,
}

/// Serves until a socket fails; the error is why.
/// It says where it wants to hear the names of DHCP clients.
pub(super) async fn serve(
    sockets: Dns,
    interface: IfName,
    plan: DnsPlan,
    wanted: watch::Sender<Wanted>,
    tally: Tally,
) -> io::Error {
    let (sender, mut messages) = mpsc::channel(MAX_EVENTS);
    let (name, mut names) = mpsc::channel(MAX_NAMES);
    wanted.send_replace(Some(name));
    let mut resolv_conf = plan.reads_resolv_conf().then(|| ResolvConf::new(&plan.resolv_conf));
    let settings = initial_settings(&plan, resolv_conf.as_ref().and_then(ResolvConf::says));
    let reach = sockets.four.as_ref().map(|four| Reach::new(interface, &four.aside.tables));
    let mut server = DnsServer::new(settings, reach, sender, tally);
    let mut basket = Basket::default();
    loop {
        let deadline = server.forwarder.deadline();
        let recheck_at = server.recheck_at();
        tokio::select! {
            ready = readable(sockets.four.as_ref()), if sockets.four.is_some() => {
                let taken = ready.and_then(|()| server.take(&sockets, &mut basket));
                if let Err(error) = taken {
                    return error;
                }
            }
            taken = next6(&sockets), if sockets.six.is_some() => match taken {
                Ok((from, bytes)) => server.query(now(), Some(from.ip()), ReplyPath::Udp6(from), &bytes),
                Err(error) => return error,
            },
            accepted = accept6(&sockets, server.accept_again), if sockets.six.is_some() => {
                server.accepted(now(), accepted);
            }
            accepted = accept4(&sockets, server.accept_again), if sockets.four.is_some() => {
                server.accepted(now(), accepted);
            }
            Some(named) = names.recv() => server.forwarder.name(now(), named),
            Some(first) = messages.recv() => {
                server.handle(now(), first);
                for _ in 1..MAX_EVENTS {
                    let Ok(next) = messages.try_recv() else { break };
                    server.handle(now(), next);
                }
                server.log_servers(now());
            }
            () = until(deadline) => {
                server.input(now(), Input::Tick);
                server.log_servers(now());
            }
            () = until(recheck_at) => server.retry_pending(now()),
            resolver = changed(&mut resolv_conf) => {
                log_resolv_conf(&plan, &resolver);
                server.forwarder.reconfigure(plan.settings(&resolver));
            }
        }
        server.drain(&sockets);
    }
}

/// Message ids from the kernel's generator, some at a time (RFC 5452 §9.2). None: it gives none.
fn ids() -> impl FnMut() -> Option<u16> {
    let mut pool = Vec::new();
    move || {
        if pool.is_empty() {
            pool = vec![0; 512];
            let got =
                rustix::rand::getrandom(pool.as_mut_slice(), rustix::rand::GetRandomFlags::empty());
            pool.truncate(got.unwrap_or(0));
        }
        Some(u16::from_ne_bytes([pool.pop()?, pool.pop()?]))
    }
}

/// The settings of now: the file may say something else than when they were planned.
fn initial_settings(plan: &DnsPlan, says: Option<&Resolver>) -> Settings {
    let settings = says.map_or_else(|| plan.settings.clone(), |resolver| plan.settings(resolver));
    if settings != plan.settings {
        says.iter().for_each(|resolver| log_resolv_conf(plan, resolver));
    } else if !plan.note_logged
        && let Some(note) = plan.note(says.unwrap_or(&Resolver::parse(b"")))
    {
        tracing::warn!("{note}");
    }
    settings
}

/// That `resolv.conf` changed, and what of it is not used.
fn log_resolv_conf(plan: &DnsPlan, resolver: &Resolver) {
    let servers: Vec<String> = resolver.nameservers.iter().map(ToString::to_string).collect();
    let (nameservers, search) = (servers.join(" "), resolver.search.join(" "));
    tracing::info!(nameservers, search, "resolv.conf changed");
    if let Some(note) = plan.note(resolver) {
        tracing::warn!("{note}");
    }
}

async fn changed(resolv_conf: &mut Option<ResolvConf<'_>>) -> Resolver {
    match resolv_conf {
        Some(resolv_conf) => resolv_conf.changed().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a verb: the clock is read here and handed to the core"
)]
fn now() -> Instant {
    Instant::now()
}

impl DnsServer {
    fn new(
        settings: Settings,
        reach: Option<Reach>,
        sender: mpsc::Sender<TaskMessage>,
        tally: Tally,
    ) -> Self {
        Self {
            forwarder: Forwarder::new(settings, ids()),
            reply_paths: HashMap::new(),
            reach,
            pending: Vec::new(),
            pending_octets: 0,
            answers: Vec::new(),
            asks: BTreeMap::new(),
            over_tcp: Arc::new(Semaphore::new(MAX_OVER_TCP)),
            next: 0,
            connections: Connections::new(),
            accept_again: None,
            sender,
            dropped: BTreeMap::new(),
            without_servers: false,
            warned: None,
            refused: None,
            tally,
        }
    }

    /// The datagrams that wait, some at a time.
    fn take(&mut self, sockets: &Dns, basket: &mut Basket) -> io::Result<()> {
        let now = now();
        let Some(four) = &sockets.four else { return Ok(()) };
        basket.take(&four.udp, |from, bytes| self.datagram(now, now, from, bytes)).map(drop)
    }

    fn datagram(&mut self, now: Instant, since: Instant, from: SocketAddr, bytes: &[u8]) {
        let place = self.place(from, since, now);
        let octets = self.pending_octets + bytes.len() + PENDING_OVERHEAD;
        if place == Where::Pending && octets <= MAX_PENDING && bytes.len() <= LARGEST_QUESTION {
            self.pending_octets = octets;
            return self.pending.push(Pending { since, from, bytes: bytes.to_vec() });
        }
        let client = matches!(place, Where::Near | Where::Gone).then_some(from.ip());
        self.query(now, client, ReplyPath::Udp(from, place), bytes);
    }

    fn place(&mut self, of: SocketAddr, since: Instant, now: Instant) -> Where {
        self.reach.as_mut().map_or(Where::Near, |reach| reach.of(of.ip(), since, now))
    }

    /// When those whose senders nobody knew are looked at again.
    fn recheck_at(&self) -> Option<Instant> {
        self.reach.as_ref()?.recheck_at().filter(|_| !self.pending.is_empty())
    }

    fn retry_pending(&mut self, now: Instant) {
        self.pending_octets = 0;
        for Pending { since, from, bytes } in std::mem::take(&mut self.pending) {
            self.datagram(now, since, from, &bytes);
        }
    }

    fn query(&mut self, now: Instant, from: Client, reply_path: ReplyPath, bytes: &[u8]) {
        let over = match reply_path {
            ReplyPath::Udp(..) | ReplyPath::Udp6(_) => Over::Udp,
            ReplyPath::Tcp(_) => Over::Tcp,
        };
        self.next += 1;
        let client = self.next;
        self.reply_paths.insert(client, reply_path);
        if let Err(reason) = self.forwarder.handle(now, Input::Query { client, from, over, bytes })
        {
            if !reason.is_answered() {
                self.reply_paths.remove(&client);
            }
            self.count(reason);
        }
    }

    fn input(&mut self, now: Instant, input: Input<'_>) {
        if let Err(reason) = self.forwarder.handle(now, input) {
            self.count(reason);
        }
    }

    fn handle(&mut self, now: Instant, message: TaskMessage) {
        match message {
            TaskMessage::Connection(Event::Query { place, bytes }) => {
                self.connections.asks(now, &place);
                self.query(now, Some(place.client), ReplyPath::Tcp(place), &bytes);
            }
            TaskMessage::Connection(Event::TooLong) => self.count(Reason::TooLong),
            TaskMessage::Connection(Event::Closed { id }) => self.connections.closed(id),
            TaskMessage::Server(UpstreamEvent::Reply { ask, bytes }) => {
                match self.forwarder.handle(now, Input::Reply { ask, bytes: &bytes }) {
                    Ok(()) => {
                        if let Some((_, since)) = self.asks.get(&ask) {
                            self.tally.upstream_answered(now.duration_since(*since));
                        }
                        self.forget(ask);
                    }
                    // A forged answer must not end the wait for the true one.
                    Err(reason) => self.count(reason),
                }
            }
            TaskMessage::Server(UpstreamEvent::Failed { ask }) => {
                self.tally.upstream_failed();
                self.forget(ask);
                self.input(now, Input::Failed { ask });
            }
        }
    }

    fn count(&mut self, reason: Reason) {
        let count = self.dropped.entry(reason).or_default();
        *count += 1;
        self.tally.dns_dropped(reason.label());
        if reason == Reason::Loop && *count == 1 {
            tracing::warn!(
                "a name server asks us what we asked it: it is answered SERVFAIL, and passed over"
            );
        }
        tracing::debug!(
            reason = reason.label(),
            count,
            "DNS message without an answer of a server"
        );
    }

    /// Says that no name server answers, and that one does again; not over and over where they come and go.
    fn log_servers(&mut self, now: Instant) {
        let without = self.forwarder.is_without_servers();
        let quiet = self.warned.is_some_and(|warned| now.duration_since(warned) < WARN_INTERVAL);
        match (self.without_servers, without) {
            (false, true) if !quiet => {
                tracing::warn!(
                    "no name server answers: names that are not known here are answered SERVFAIL until one does"
                );
                (self.without_servers, self.warned) = (true, Some(now));
            }
            (true, false) => {
                tracing::info!("a name server answers again");
                self.without_servers = false;
            }
            _ => {}
        }
    }

    fn forget(&mut self, ask: u64) {
        if let Some((task, _)) = self.asks.remove(&ask) {
            task.abort();
        }
    }

    fn drain(&mut self, sockets: &Dns) {
        while let Some(output) = self.forwarder.poll() {
            match output {
                Output::Answer { client, bytes } => self.answer(sockets, client, bytes),
                Output::Ask { ask, server, over, bytes } => {
                    let (sender, over_tcp) = (self.sender.clone(), self.over_tcp.clone());
                    let task = tokio::spawn(ask_server(sender, over_tcp, ask, server, over, bytes));
                    self.asks.insert(ask, (task.abort_handle(), now()));
                }
                // It was silent for too long.
                Output::Forget { ask } => {
                    self.tally.upstream_failed();
                    self.forget(ask);
                }
            }
        }
        if let Some(outcomes) = self.forwarder.outcomes() {
            self.tally.dns(&outcomes);
        }
        if self.reply_paths.is_empty() {
            self.reply_paths.shrink_to(MAX_NAMES);
        }
        self.send(sockets);
    }

    fn answer(&mut self, sockets: &Dns, client: u64, bytes: Vec<u8>) {
        match self.reply_paths.remove(&client) {
            Some(ReplyPath::Udp(to, then)) => self.answer_over_udp(sockets, to, then, bytes),
            Some(ReplyPath::Udp6(to)) => {
                let sent = sockets.six.as_ref().map(|six| six.udp.try_send_to(&bytes, to));
                if !matches!(sent, Some(Ok(_))) {
                    self.count(Reason::Unsent);
                }
            }
            Some(ReplyPath::Tcp(place)) => {
                let taken = self.connections.answer(place, bytes);
                if !taken {
                    self.count(Reason::Unsent);
                }
            }
            None => {}
        }
    }

    /// By the socket for where it is now.
    fn answer_over_udp(&mut self, sockets: &Dns, to: SocketAddr, then: Where, bytes: Vec<u8>) {
        let now = now();
        let Some(four) = &sockets.four else { return };
        let place = match self.place(to, now, now) {
            Where::Pending => then,
            place => place,
        };
        let aside = match place {
            Where::Near => {
                self.answers.push((to, bytes));
                if self.answers.len() >= BATCH {
                    self.send(sockets);
                }
                return;
            }
            Where::Gone => &four.aside.gone,
            Where::Nowhere | Where::Pending => &four.aside.strangers,
        };
        if let Err(error) = aside.send_to(&bytes, to) {
            tracing::debug!(%to, %error, "DNS answer to who has no MAC not sent");
            self.count(Reason::Unsent);
        }
    }

    /// All at once; what the socket does not take is asked for again by who wants it.
    fn send(&mut self, sockets: &Dns) {
        let answers = std::mem::take(&mut self.answers);
        let Some(four) = &sockets.four else { return };
        let mut left = answers.as_slice();
        while let Some(((to, _), others)) = left.split_first() {
            match send_all(&four.udp, left) {
                Ok(taken) if taken > 0 => left = left.get(taken..).unwrap_or_default(),
                refused => {
                    let error = refused.err();
                    tracing::debug!(%to, ?error, "DNS answer not sent");
                    self.count(Reason::Unsent);
                    left = others;
                }
            }
        }
    }

    fn accepted(&mut self, now: Instant, accepted: io::Result<(TcpStream, SocketAddr)>) {
        self.accept_again = None;
        match accepted {
            Ok((stream, from)) => {
                if !self.connections.accept(now, stream, from.ip(), &self.sender) {
                    self.count(Reason::Connections);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                tracing::debug!(%error, "DNS connection lost before it began");
            }
            Err(error) => {
                // The connection still waits: asked again at once, it would be the same.
                self.accept_again = Some(now + ACCEPT_RETRY);
                if self.refused.is_none_or(|refused| now.duration_since(refused) >= WARN_INTERVAL) {
                    self.refused = Some(now);
                    tracing::warn!(%error, "DNS over TCP takes no connection for now (too many open files: raise the limit)");
                }
            }
        }
    }
}
