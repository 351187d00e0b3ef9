//! Who behaves: one question at a time by a schedule that no answer delays, over each service, and the upstream that
//! answers names.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::frames::question;
use super::stand::Stand;
use crate::dhcp::link::Link;
use crate::dhcp::wire::{self, DISCOVER, Message, OFFER, Path, Seen};
use crate::{Error, at};

/// Later than this is lost.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The guest's own, and what the address it is given is bound to.
pub const CLIENT: u32 = 7;
/// Marks our messages among those of a flood.
const XID: u32 = 0x0be7_0000;
/// Each question asks for a name of its own, in this run of the program.
static FRESH: AtomicU32 = AtomicU32::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// From outside to the guest and back.
    Nat,
    /// A name that the upstream has to be asked for.
    Dns,
    /// DISCOVER to OFFER.
    Dhcp,
}

/// Milliseconds; `lost` is a share of `sent`.
#[derive(Debug, Clone, Serialize)]
pub struct Times {
    pub sent: usize,
    pub lost: f64,
    pub median_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// All services of a stand at once, for so long.
pub fn measure(stand: &Stand, length: Duration) -> Result<BTreeMap<Service, Times>, Error> {
    std::thread::scope(|scope| {
        let started: Vec<_> = stand
            .services()
            .iter()
            .map(|&service| {
                let work = move || stand.place(service).inside(|| one(service, stand, length));
                (service, scope.spawn(work))
            })
            .collect();
        let ended = started.into_iter().map(|(service, thread)| {
            let times =
                thread.join().map_err(|_| Error::Step("the honest client stopped".into()))??;
            Ok((service, times))
        });
        ended.collect()
    })
}

/// Until each service has answered once.
pub fn warm_up(stand: &Stand, patience: Duration) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let times = measure(stand, Duration::from_millis(100))?;
        let silent = times.iter().find(|(_, times)| times.median_ms.is_none());
        let Some((service, _)) = silent else { return Ok(()) };
        if began.elapsed() > patience {
            return Err(Error::Step(format!("{service:?} does not answer\n{}", stand.log())));
        }
    }
}

fn one(service: Service, stand: &Stand, length: Duration) -> Result<Times, Error> {
    match service {
        Service::Nat => {
            by_schedule(&mut Datagrams::connected(stand.guest_outside(), echo)?, 20, length)
        }
        Service::Dns => {
            by_schedule(&mut Datagrams::connected(stand.resolver(), fresh)?, 20, length)
        }
        // A client that asks more often than it may is passed over, flood or not.
        Service::Dhcp => by_schedule(&mut Client(Link::open(stand.link())?), 100, length),
    }
}

trait Exchange {
    fn send(&mut self, id: u16) -> Result<(), Error>;
    /// The number of an answer, or none within so long.
    fn receive(&mut self, longest: Duration) -> Result<Option<u16>, Error>;
}

fn by_schedule(
    exchange: &mut impl Exchange,
    every_ms: u64,
    length: Duration,
) -> Result<Times, Error> {
    let (start, every) = (Instant::now(), Duration::from_millis(every_ms));
    let end = start + length;
    let (mut due, mut id, mut sent) = (start, 0u16, 0usize);
    let (mut waiting, mut times) = (HashMap::new(), Vec::new());
    loop {
        let now = Instant::now();
        if due < end && due <= now {
            exchange.send(id)?;
            waiting.insert(id, due);
            (id, sent, due) = (id.wrapping_add(1), sent + 1, due + every);
            continue;
        }
        if due >= end && (waiting.is_empty() || now > end + TIMEOUT) {
            break;
        }
        let longest = if due < end { due.saturating_duration_since(now) } else { every };
        if let Some(due) = exchange.receive(longest)?.and_then(|id| waiting.remove(&id)) {
            let taken = due.elapsed();
            if taken <= TIMEOUT {
                times.push(taken.as_secs_f64() * 1e3);
            }
        }
    }
    times.sort_by(f64::total_cmp);
    let quantile =
        |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    #[expect(clippy::cast_precision_loss, reason = "a count of questions")]
    let lost = (sent - times.len()) as f64 / sent.max(1) as f64;
    Ok(Times { sent, lost, median_ms: quantile(50).copied(), p99_ms: quantile(99).copied() })
}

/// A request and its answer begin with the same two octets.
struct Datagrams {
    socket: UdpSocket,
    payload: fn(u16) -> Vec<u8>,
}

impl Datagrams {
    fn connected(to: SocketAddr, payload: fn(u16) -> Vec<u8>) -> Result<Self, Error> {
        let socket = at("a UDP socket", UdpSocket::bind("0.0.0.0:0"))?;
        at("a UDP socket", socket.connect(to))?;
        at("a UDP socket", socket.set_nonblocking(true))?;
        Ok(Self { socket, payload })
    }
}

fn echo(id: u16) -> Vec<u8> {
    [&id.to_be_bytes()[..], b" honest"].concat()
}

fn fresh(id: u16) -> Vec<u8> {
    let number = FRESH.fetch_add(1, Ordering::Relaxed);
    question(id.into(), &format!("nh{number}"), &[])
}

impl Exchange for Datagrams {
    /// What cannot be sent, because an address is not resolved or a queue is full, is lost.
    fn send(&mut self, id: u16) -> Result<(), Error> {
        let _ = self.socket.send(&(self.payload)(id));
        Ok(())
    }

    fn receive(&mut self, longest: Duration) -> Result<Option<u16>, Error> {
        // Not a socket's own time-out: it ends with the kernel's tick, and the next question would be late.
        let mut waits = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        let longest = Timespec {
            tv_sec: 0,
            tv_nsec: longest.as_nanos().min(999_999_999).try_into().unwrap_or(0),
        };
        let _ = poll(&mut waits, Some(&longest));
        let mut buffer = [0; 1500];
        let length = self.socket.recv(&mut buffer).unwrap_or(0);
        Ok(buffer.get(..length).and_then(<[u8]>::first_chunk).map(|id| u16::from_be_bytes(*id)))
    }
}

/// Asks for an address, and does not take it.
struct Client(Link);

impl Exchange for Client {
    fn send(&mut self, id: u16) -> Result<(), Error> {
        let xid = XID | u32::from(id);
        let (kind, client) = (DISCOVER, CLIENT);
        let message = Message { kind, xid, client, ciaddr: None, requested: None, server: None };
        message.frame(Path::Link { server: None }).map_or(Ok(()), |frame| self.0.send(&frame))
    }

    fn receive(&mut self, longest: Duration) -> Result<Option<u16>, Error> {
        self.0.wait(longest)?;
        let mut buffer = [0; 2048];
        while self.0.receive_arp(&mut buffer)?.is_some() {}
        while let Some(length) = self.0.receive(&mut buffer)? {
            if let Some(Seen::Reply(reply)) = buffer.get(..length).map(wire::read)
                && (reply.kind, reply.xid & 0xffff_0000) == (OFFER, XID)
            {
                return Ok(u16::try_from(reply.xid & 0xffff).ok());
            }
        }
        Ok(None)
    }
}

/// Sends back what comes, in the place of the guest; in the namespace of the calling thread.
pub fn echoes(port: u16, stop: &AtomicBool) -> Result<(), Error> {
    serve(port, stop, |datagram| Some(datagram.to_vec()))
}

/// A name server that knows every name that begins with n, and keeps silent about others.
pub fn upstream(port: u16, stop: &AtomicBool) -> Result<(), Error> {
    serve(port, stop, |datagram| {
        let name = datagram.get(12..)?;
        if name.get(1) != Some(&b'n') {
            return None;
        }
        let end = 12 + name.iter().position(|octet| *octet == 0)? + 5;
        let mut answer = datagram.get(..2)?.to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend(datagram.get(12..end)?);
        // The same name, A, IN, 60 seconds, 192.0.2.7.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
        Some(answer)
    })
}

fn serve(
    port: u16,
    stop: &AtomicBool,
    answer: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<(), Error> {
    let socket = at(format!("UDP port {port}"), UdpSocket::bind(("0.0.0.0", port)))?;
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20);
    at("a time-out", socket.set_read_timeout(Some(Duration::from_millis(100))))?;
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            // A port that closed meanwhile.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
            Err(error) => return at(format!("UDP port {port}"), Err(error)),
        };
        if let Some(answer) = buffer.get(..length).and_then(&answer) {
            let _ = socket.send_to(&answer, from);
        }
    }
    Ok(())
}
