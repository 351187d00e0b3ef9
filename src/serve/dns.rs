//! The DNS task: one loop owns the core; TCP connections and questions under way are tasks that talk to it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Interval, sleep_until, timeout};

use super::Wanted;
use crate::facts::Resolver;
use crate::plan::serve::DnsPlan;
use crate::proto::dns::{Forwarder, Input, MOST_FLIGHTS, Output, Over, Reason};
use crate::sys::file_watch::FileWatch;
use crate::sys::socket::{Basket, Dns, send_all, upstream};

/// Answers that leave together.
const BATCH: usize = 64;
/// Names of DHCP clients that wait to be noted; the DHCP task waits for more.
const MOST_NAMES: usize = 1024;
/// TCP connections at once, those of one client, how long one may be idle, and questions of one that may wait for their
/// answers (RFC 7766 §6.2).
const MOST_CONNECTIONS: usize = 256;
const MOST_OF_ONE: usize = 16;
const IDLE: Duration = Duration::from_secs(10);
const MOST_PIPELINED: usize = 32;
/// Longer than the core waits for any server.
const ASK: Duration = Duration::from_secs(5);
/// Datagrams looked at for one question: more are a flood.
const MOST_REPLIES: usize = 16;
/// No server sends more over UDP: RFC 6891 §6.2.5 suggests 4096, most send 1232.
const LARGEST_REPLY: usize = 16 << 10;
/// How often resolv.conf is looked at, whatever inotify says: not every file system tells.
const LOOK: Duration = Duration::from_secs(60);

/// What the tasks tell the loop.
enum Told {
    /// With a place among the answers of its connection.
    Query {
        place: OwnedPermit<Vec<u8>>,
        bytes: Vec<u8>,
    },
    Reply {
        ask: u64,
        bytes: Vec<u8>,
    },
    Failed {
        ask: u64,
    },
    Closed {
        client: IpAddr,
    },
}

/// How an answer gets back.
enum Way {
    Udp(SocketAddr),
    Tcp(OwnedPermit<Vec<u8>>),
}

/// The loop's own state beside the core's.
struct Desk {
    forwarder: Forwarder,
    ways: HashMap<u64, Way>,
    /// Answers that have yet to leave by UDP.
    answers: Vec<(SocketAddr, Vec<u8>)>,
    asks: BTreeMap<u64, AbortHandle>,
    next: u64,
    /// How many of whom.
    connections: BTreeMap<IpAddr, usize>,
    tell: mpsc::Sender<Told>,
    dropped: BTreeMap<Reason, u64>,
}

/// Serves until a socket fails; the error is why.
/// It says where it wants to hear the names of DHCP clients.
pub(super) async fn serve(sockets: Dns, plan: DnsPlan, wanted: watch::Sender<Wanted>) -> io::Error {
    let (tell, mut told) = mpsc::channel(MOST_FLIGHTS);
    let (name, mut names) = mpsc::channel(MOST_NAMES);
    wanted.send_replace(Some(name));
    let mut seed = [0; 8];
    if let Err(error) = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()) {
        return error.into();
    }
    let mut desk = Desk {
        forwarder: Forwarder::new(plan.settings.clone(), u64::from_ne_bytes(seed)),
        ways: HashMap::new(),
        answers: Vec::new(),
        asks: BTreeMap::new(),
        next: 0,
        connections: BTreeMap::new(),
        tell,
        dropped: BTreeMap::new(),
    };
    let mut resolv_conf = ResolvConf::new(&plan.resolv_conf);
    let mut look = tokio::time::interval(LOOK);
    let mut basket = Basket::default();
    loop {
        let deadline = desk.forwarder.deadline();
        tokio::select! {
            ready = sockets.udp.readable() => if let Err(error) = ready.and_then(|()| desk.take(&sockets, &mut basket)) {
                return error;
            },
            accepted = sockets.tcp.accept() => match accepted {
                Ok((stream, from)) => desk.accept(stream, from.ip()),
                Err(error) => tracing::debug!(%error, "DNS connection lost before it began"),
            },
            Some(named) = names.recv() => desk.forwarder.name(now(), named),
            Some(told) = told.recv() => desk.told(now(), told),
            () = until(deadline) => desk.input(now(), Input::Tick),
            () = resolv_conf.may_have_changed(&mut look) => if let Some(resolver) = resolv_conf.changed() {
                tracing::info!(nameservers = ?resolver.nameservers, search = ?resolver.search, "resolv.conf changed");
                desk.forwarder.reconfigure(plan.settings(&resolver));
            },
        }
        desk.drain(&sockets).await;
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "a verb: the clock is read here and handed to the core")]
fn now() -> Instant {
    Instant::now()
}

impl Desk {
    /// The datagrams that wait, some at a time.
    fn take(&mut self, sockets: &Dns, basket: &mut Basket) -> io::Result<()> {
        let now = now();
        basket.take(&sockets.udp, |from, bytes| self.query(now, Way::Udp(from), bytes)).map(drop)
    }

    fn query(&mut self, now: Instant, way: Way, bytes: &[u8]) {
        let over = if matches!(way, Way::Udp(_)) { Over::Udp } else { Over::Tcp };
        self.next += 1;
        let client = self.next;
        self.ways.insert(client, way);
        if let Err(reason) = self.forwarder.handle(now, Input::Query { client, over, bytes }) {
            if !reason.is_answered() {
                self.ways.remove(&client);
            }
            self.count(reason);
        }
    }

    fn input(&mut self, now: Instant, input: Input<'_>) {
        if let Err(reason) = self.forwarder.handle(now, input) {
            self.count(reason);
        }
    }

    fn told(&mut self, now: Instant, told: Told) {
        match told {
            Told::Query { place, bytes } => self.query(now, Way::Tcp(place), &bytes),
            Told::Reply { ask, bytes } => {
                match self.forwarder.handle(now, Input::Reply { ask, bytes: &bytes }) {
                    Ok(()) => self.forget(ask),
                    // A forged answer must not end the wait for the true one.
                    Err(reason) => self.count(reason),
                }
            }
            Told::Failed { ask } => {
                self.forget(ask);
                self.input(now, Input::Failed { ask });
            }
            Told::Closed { client } => {
                if let Some(count) = self.connections.get_mut(&client) {
                    *count -= 1;
                }
                self.connections.retain(|_, count| *count > 0);
            }
        }
    }

    fn count(&mut self, reason: Reason) {
        let count = self.dropped.entry(reason).or_default();
        *count += 1;
        if reason == Reason::Loop && *count == 1 {
            tracing::warn!(
                "a name server asks us what we asked it: it is answered SERVFAIL, and passed over"
            );
        }
        tracing::debug!(reason = reason.label(), count, "DNS message without an answer of a server");
    }

    fn forget(&mut self, ask: u64) {
        if let Some(task) = self.asks.remove(&ask) {
            task.abort();
        }
    }

    async fn drain(&mut self, sockets: &Dns) {
        while let Some(output) = self.forwarder.poll() {
            match output {
                Output::Answer { client, bytes } => match self.ways.remove(&client) {
                    Some(Way::Udp(to)) => {
                        self.answers.push((to, bytes));
                        if self.answers.len() >= BATCH {
                            self.send(sockets).await;
                        }
                    }
                    Some(Way::Tcp(place)) => drop(place.send(bytes)),
                    None => {}
                },
                Output::Ask { ask, server, over, bytes } => {
                    let task = tokio::spawn(ask_server(self.tell.clone(), ask, server, over, bytes));
                    self.asks.insert(ask, task.abort_handle());
                }
                Output::Forget { ask } => self.forget(ask),
            }
        }
        self.send(sockets).await;
    }

    /// All at once; where the socket does not take the next one, that by itself.
    async fn send(&mut self, sockets: &Dns) {
        let mut left = self.answers.as_slice();
        while let Some(((to, bytes), others)) = left.split_first() {
            let taken = send_all(&sockets.udp, left).unwrap_or(0);
            if taken > 0 {
                left = left.get(taken..).unwrap_or_default();
                continue;
            }
            if let Err(error) = sockets.udp.send_to(bytes, *to).await {
                tracing::debug!(%to, %error, "DNS answer not sent");
            }
            left = others;
        }
        self.answers.clear();
    }

    fn accept(&mut self, stream: TcpStream, client: IpAddr) {
        let all: usize = self.connections.values().sum();
        let own = self.connections.get(&client).copied().unwrap_or_default();
        if all >= MOST_CONNECTIONS || own >= MOST_OF_ONE {
            self.count(Reason::Connections);
            return;
        }
        self.connections.insert(client, own + 1);
        let tell = self.tell.clone();
        tokio::spawn(async move {
            if let Err(error) = connection(stream, &tell).await {
                tracing::debug!(%client, %error, "DNS connection ended");
            }
            let _ = tell.send(Told::Closed { client }).await;
        });
    }
}

/// One connection: messages with their length before them, answers in any order (RFC 7766 §6.2.1). A question is read
/// when there is a place for its answer: who does not take answers is not read from any more.
async fn connection(stream: TcpStream, tell: &mpsc::Sender<Told>) -> io::Result<()> {
    let (mut read, mut write) = stream.into_split();
    let (answer, mut answers) = mpsc::channel::<Vec<u8>>(MOST_PIPELINED);
    let writer = tokio::spawn(async move {
        while let Some(bytes) = answers.recv().await {
            let Ok(length) = u16::try_from(bytes.len()) else { continue };
            let message = [&length.to_be_bytes()[..], &bytes].concat();
            if !matches!(timeout(IDLE, write.write_all(&message)).await, Ok(Ok(()))) {
                return;
            }
        }
    });
    // The writer's end is the reader's: there is no place any more.
    let result = loop {
        let Ok(place) = answer.clone().reserve_owned().await else { break Ok(()) };
        match timeout(IDLE, read_message(&mut read)).await {
            Ok(Ok(bytes)) => {
                if tell.send(Told::Query { place, bytes }).await.is_err() {
                    break Ok(());
                }
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break Ok(()),
            Ok(Err(error)) => break Err(error),
            Err(_) => break Ok(()),
        }
    };
    // Questions under way keep a place each: the writer ends when the last one is answered.
    drop(answer);
    let _ = timeout(ASK, writer).await;
    result
}

async fn read_message(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn ask_server(tell: mpsc::Sender<Told>, ask: u64, server: SocketAddr, over: Over, bytes: Vec<u8>) {
    let asked = async {
        match over {
            Over::Udp => over_udp(&tell, ask, server, &bytes).await,
            Over::Tcp => over_tcp(&tell, ask, server, &bytes).await,
        }
    };
    if !matches!(timeout(ASK, asked).await, Ok(Ok(()))) {
        let _ = tell.send(Told::Failed { ask }).await;
    }
}

async fn over_udp(tell: &mpsc::Sender<Told>, ask: u64, server: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let socket = upstream(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; LARGEST_REPLY];
    for _ in 0..MOST_REPLIES {
        let length = socket.recv(&mut buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        if tell.send(Told::Reply { ask, bytes }).await.is_err() {
            return Ok(());
        }
    }
    Err(io::Error::other("a flood of answers"))
}

async fn over_tcp(tell: &mpsc::Sender<Told>, ask: u64, server: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let bytes = read_message(&mut stream).await?;
    let _ = tell.send(Told::Reply { ask, bytes }).await;
    Ok(())
}

/// Notices that resolv.conf is another one than it was.
struct ResolvConf<'a> {
    path: &'a Path,
    watch: Option<FileWatch>,
    seen: Option<(SystemTime, u64)>,
}

impl<'a> ResolvConf<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, watch: FileWatch::new(path).ok(), seen: Self::stamp(path) }
    }

    async fn may_have_changed(&self, look: &mut Interval) {
        match &self.watch {
            Some(watch) => tokio::select! {
                () = watch.changed() => {}
                _ = look.tick() => {}
            },
            None => drop(look.tick().await),
        }
    }

    fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// The new content, when there is any: an empty file is one that is being written.
    fn changed(&mut self) -> Option<Resolver> {
        let stamp = Self::stamp(self.path)?;
        if self.seen == Some(stamp) {
            return None;
        }
        let text = std::fs::read(self.path).ok().filter(|text| !text.is_empty())?;
        self.seen = Some(stamp);
        Some(Resolver::parse(&text))
    }
}
