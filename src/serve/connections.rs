//! TCP connections of DNS clients (RFC 7766): how many, whose, and what waits on them.
//!
//! A client has no more than its number of connections. When all places are taken, one is closed for a new one, of the
//! client that has most: the one without a question for longest, else the one whose question is the oldest. Who opens many
//! keeps nobody out, whether or not something is asked on them, and who has few loses none. Answers that are not read are
//! bounded in octets, by client (`Shares`).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::proto::dns::{LARGEST_QUESTION, Shares};

/// Connections at once, those of one client, how long one may take for its next question or to read an answer, and
/// questions of one that may wait for their answers (RFC 7766 §6.2).
const MAX_CONNECTIONS: usize = 256;
const MAX_PER_CLIENT: usize = 16;
const IDLE: Duration = Duration::from_secs(10);
const MAX_PIPELINED: usize = 32;
/// Octets of answers that have yet to be read, of all.
const MAX_UNREAD: usize = 4 << 20;
/// Longer than the core waits for any server.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What a connection tells.
#[derive(Debug)]
pub enum Event {
    /// With a place among the answers of its connection.
    Query {
        place: Place,
        bytes: Vec<u8>,
    },
    /// It announced a question too long for one.
    TooLong,
    Closed {
        id: u64,
    },
}

/// Where an answer of a connection goes.
#[derive(Debug)]
pub struct Place {
    pub id: u64,
    pub client: IpAddr,
    answers: OwnedPermit<Unread>,
}

/// An answer that waits for its reader.
#[derive(Debug)]
struct Unread {
    bytes: Vec<u8>,
    client: IpAddr,
    shares: Arc<Mutex<Shares>>,
}

impl Drop for Unread {
    fn drop(&mut self) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.give(Some(self.client), self.bytes.len());
    }
}

/// DNS over TCP: which connections are open, and whose.
#[derive(Debug)]
pub struct Connections {
    open: BTreeMap<u64, Connection>,
    next: u64,
    unread: Arc<Mutex<Shares>>,
}

#[derive(Debug)]
struct Connection {
    client: IpAddr,
    /// Questions without an answer, and when the last one came.
    asked: usize,
    since: Instant,
    task: AbortHandle,
}

impl Connections {
    /// None is open.
    pub fn new() -> Self {
        let unread = Arc::new(Mutex::new(Shares::new(MAX_UNREAD)));
        Self { open: BTreeMap::new(), next: 0, unread }
    }

    /// Takes one in. False: there is no place for it, or another one was closed for it.
    pub fn accept<T>(
        &mut self,
        now: Instant,
        stream: TcpStream,
        client: IpAddr,
        tell: &mpsc::Sender<T>,
    ) -> bool
    where
        T: From<Event> + Send + 'static,
    {
        let own = self.open.values().filter(|open| open.client == client).count();
        if own >= MAX_PER_CLIENT {
            return false;
        }
        let has_place = self.open.len() < MAX_CONNECTIONS;
        if !has_place && !self.close_one(client, own) {
            return false;
        }
        self.next += 1;
        let (id, tell) = (self.next, tell.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = serve(stream, id, client, &tell).await {
                tracing::debug!(%client, %error, "DNS connection ended");
            }
            let _ = tell.send(Event::Closed { id }.into()).await;
        });
        let task = task.abort_handle();
        self.open.insert(id, Connection { client, asked: 0, since: now, task });
        has_place
    }

    /// Makes room for one who has so many already: with fewer than somebody else, by one of theirs; else by one of its own
    /// that nothing is asked on.
    fn close_one(&mut self, client: IpAddr, own: usize) -> bool {
        let mut held = BTreeMap::<IpAddr, usize>::new();
        self.open.values().for_each(|open| *held.entry(open.client).or_default() += 1);
        let max = held.values().copied().max().unwrap_or_default();
        let may_end = |open: &Connection| {
            if own < max {
                held.get(&open.client) == Some(&max)
            } else {
                open.client == client && open.asked == 0
            }
        };
        let some = self.open.iter().filter(|(_, open)| may_end(open));
        let Some(id) = some.min_by_key(|(_, open)| (open.asked > 0, open.since)).map(|(id, _)| *id)
        else {
            return false;
        };
        if let Some(closed) = self.open.remove(&id) {
            closed.task.abort();
        }
        true
    }

    /// Forgets a connection.
    pub fn closed(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// Puts off the end of an idle connection.
    pub fn asks(&mut self, now: Instant, place: &Place) {
        if let Some(open) = self.open.get_mut(&place.id) {
            (open.asked, open.since) = (open.asked + 1, now);
        }
    }

    /// False: the client has too much to read already.
    pub fn answer(&mut self, place: Place, bytes: Vec<u8>) -> bool {
        let Place { id, client, answers } = place;
        if let Some(open) = self.open.get_mut(&id) {
            open.asked = open.asked.saturating_sub(1);
        }
        let has = {
            let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
            unread.take(Some(client), bytes.len())
        };
        if has {
            drop(answers.send(Unread { bytes, client, shares: self.unread.clone() }));
        }
        has
    }
}

/// Messages with their length before them, answers in any order (RFC 7766 §6.2.1). A question is read when there is a
/// place for its answer: who does not take answers is not read from any more.
async fn serve<T: From<Event>>(
    stream: TcpStream,
    id: u64,
    client: IpAddr,
    tell: &mpsc::Sender<T>,
) -> io::Result<()> {
    let (mut read, mut write) = stream.into_split();
    let (answer, mut answers) = mpsc::channel::<Unread>(MAX_PIPELINED);
    let writing = async move {
        while let Some(unread) = answers.recv().await {
            let Ok(length) = u16::try_from(unread.bytes.len()) else { continue };
            let message = [&length.to_be_bytes()[..], &unread.bytes].concat();
            if !matches!(timeout(IDLE, write.write_all(&message)).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    let reading = async move {
        loop {
            let Ok(place) = answer.clone().reserve_owned().await else { return Ok(()) };
            // The whole message within this time, however it is cut up.
            let event = match timeout(IDLE, question(&mut read)).await {
                Ok(Ok(Some(bytes))) => {
                    Event::Query { place: Place { id, client, answers: place }, bytes }
                }
                Ok(Ok(None)) => Event::TooLong,
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(()),
            };
            let ends = matches!(event, Event::TooLong);
            if tell.send(event.into()).await.is_err() || ends {
                return Ok(());
            }
        }
    };
    tokio::pin!(writing);
    let result = tokio::select! {
        result = reading => result,
        () = &mut writing => return Ok(()),
    };
    // Questions under way keep a place each: the writer ends when the last one is answered.
    let _ = timeout(LAST_ANSWERS, writing).await;
    result
}

/// None: it is longer than any question, and is not read.
async fn question(stream: &mut OwnedReadHalf) -> io::Result<Option<Vec<u8>>> {
    let length = usize::from(stream.read_u16().await?);
    if length > LARGEST_QUESTION {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}
