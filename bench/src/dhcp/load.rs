//! Simulated clients against one server, from one thread.
//!
//! ```text
//!            DISCOVER          REQUEST
//!   due ──────────────► offered ──────► acked        each leg: timed, or dropped after the time-out
//! ```
//!
//! With an open loop (a rate) exchanges begin by a schedule that no answer delays, and a time counts from when the packet
//! was due, not from when it left: a server that stalls pays for all who wait. With a closed loop a given number is
//! always under way.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use berth::net::MacAddr;
use clap::ValueEnum;
use hdrhistogram::Histogram;

use super::wire::{
    ACK, DISCOVER, Message, OFFER, Path, REQUEST, Reply, Seen, arp_answer, mac, read,
};
use crate::dhcp::link::Link;
use crate::{Error, at};

/// A packet that leaves this much later than it was due is the driver's fault.
const LATE: Duration = Duration::from_millis(1);
/// By less than this a sleep ends late (prctl(2), PR_SET_TIMERSLACK, and waking).
const SLEEP_ENDS_LATE: Duration = Duration::from_micros(150);
/// Frames taken between two looks at the schedule.
const BATCH: usize = 64;
/// Length of one point of the series over time.
const STEP: Duration = Duration::from_millis(100);
/// Nanoseconds; three digits of precision.
const LONGEST: u64 = 60_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Exchange {
    /// DISCOVER, OFFER, REQUEST, ACK
    Dora,
    /// DISCOVER, OFFER
    Do,
    /// REQUEST, ACK, of clients that have their lease (made before, unmeasured)
    Renew,
}

#[derive(Debug, Clone, Copy)]
pub enum Arrival {
    /// Exchanges a second.
    Open(f64),
    /// Exchanges under way.
    Closed(usize),
}

#[derive(Debug, Clone)]
pub struct Load {
    pub exchange: Exchange,
    pub arrival: Arrival,
    /// Clients in turn; numbers begin with `first`.
    pub clients: u32,
    pub first: u32,
    pub warmup: Duration,
    pub duration: Duration,
    pub timeout: Duration,
    /// Once more after half of the time-out.
    pub retransmit: bool,
    /// At most so many exchanges in all.
    pub most: Option<u64>,
}

/// What came of a load.
#[derive(Debug)]
pub struct Outcome {
    pub offer: Histogram<u64>,
    pub ack: Histogram<u64>,
    pub whole: Histogram<u64>,
    /// Exchanges begun and ended within the time that counts, and those that ended.
    pub begun: u64,
    pub done: u64,
    /// Packets that were not answered, by leg.
    pub dropped_offers: u64,
    pub dropped_acks: u64,
    pub retransmitted: u64,
    /// Packets that left late.
    pub late: u64,
    /// Replies with something wrong in them, by what.
    pub wrong: HashMap<&'static str, u64>,
    /// Addresses that two clients were given.
    pub duplicates: Vec<Ipv4Addr>,
    /// By tenths of a second: exchanges that ended, and their mean and longest time in nanoseconds.
    pub series: Vec<(u64, u64, u64)>,
    pub took: Duration,
}

impl Outcome {
    fn new() -> Result<Self, Error> {
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST, 3)
                .map_err(|error| Error::Step(format!("histogram: {error}")))
        };
        Ok(Self {
            offer: histogram()?,
            ack: histogram()?,
            whole: histogram()?,
            begun: 0,
            done: 0,
            dropped_offers: 0,
            dropped_acks: 0,
            retransmitted: 0,
            late: 0,
            wrong: HashMap::new(),
            duplicates: Vec::new(),
            series: Vec::new(),
            took: Duration::ZERO,
        })
    }

    /// Share of the exchanges that did not end.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn loss(&self) -> f64 {
        if self.begun == 0 { 0.0 } else { 1.0 - self.done as f64 / self.begun as f64 }
    }

    /// Exchanges that ended, a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// An exchange under way.
#[derive(Debug)]
struct Pending {
    client: u32,
    leg: Leg,
    /// When the exchange was due, and this leg.
    began: Instant,
    due: Instant,
    offered: Option<(Ipv4Addr, Ipv4Addr)>,
    again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Offer,
    Ack,
}

/// The clients of one link, and the leases they have: those stay from one load to the next.
pub struct Crowd<'a> {
    link: &'a mut Link,
    path: Path,
    held: HashMap<u32, Ipv4Addr>,
    holder: HashMap<Ipv4Addr, u32>,
    xid: u32,
    ended: u64,
}

struct Run<'a, 'b> {
    crowd: &'a mut Crowd<'b>,
    load: &'a Load,
    outcome: Outcome,
    pending: HashMap<u32, Pending>,
    /// In the order they end.
    timeouts: VecDeque<(Instant, u32, Leg)>,
    again: VecDeque<(Instant, u32, Leg)>,
    busy: HashMap<u32, u32>,
    counts_from: Instant,
    ends: Instant,
    sums: Vec<(u64, u64, u64)>,
}

impl<'a> Crowd<'a> {
    pub fn new(link: &'a mut Link, path: Path) -> Self {
        Self {
            link,
            path,
            held: HashMap::new(),
            holder: HashMap::new(),
            xid: 0x1000_0000,
            ended: 0,
        }
    }

    /// Exchanges that ended, in all loads, counted or not.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Leases for the clients from `first` on, as fast as the server gives them.
    pub fn prepare(&mut self, first: u32, clients: u32, within: Duration) -> Result<u64, Error> {
        let load = Load {
            exchange: Exchange::Dora,
            arrival: Arrival::Closed(64),
            clients,
            first,
            warmup: Duration::ZERO,
            duration: within,
            timeout: Duration::from_secs(2),
            retransmit: true,
            most: Some(clients.into()),
        };
        self.run(&load).map(|outcome| outcome.done)
    }

    pub fn run(&mut self, load: &Load) -> Result<Outcome, Error> {
        if load.exchange == Exchange::Renew {
            let had = self.prepare(load.first, load.clients, Duration::from_secs(60))?;
            if had < u64::from(load.clients) {
                return Err(Error::Step(format!(
                    "only {had} of {} clients got a lease to renew",
                    load.clients
                )));
            }
        }
        let start = Instant::now();
        let run = Run {
            crowd: self,
            load,
            outcome: Outcome::new()?,
            pending: HashMap::new(),
            timeouts: VecDeque::new(),
            again: VecDeque::new(),
            busy: HashMap::new(),
            counts_from: start + load.warmup,
            ends: start + load.warmup + load.duration,
            sums: Vec::new(),
        };
        run.drive(start)
    }
}

impl Run<'_, '_> {
    fn drive(mut self, start: Instant) -> Result<Outcome, Error> {
        let mut begun = 0u64;
        let mut buffer = vec![0; 2048];
        loop {
            let now = Instant::now();
            let mut next = None;
            match self.load.arrival {
                Arrival::Open(rate) => loop {
                    #[expect(
                        clippy::cast_precision_loss,
                        reason = "a schedule of less than 2^52 packets"
                    )]
                    let due = start + Duration::from_secs_f64(begun as f64 / rate);
                    if due >= self.ends || self.is_enough(begun) {
                        break;
                    }
                    if due > now {
                        next = Some(due);
                        break;
                    }
                    self.begin(begun, due)?;
                    begun += 1;
                    if begun.is_multiple_of(16) {
                        self.receive(&mut buffer)?;
                    }
                },
                Arrival::Closed(most) => {
                    while self.pending.len() < most && now < self.ends && !self.is_enough(begun) {
                        self.begin(begun, Instant::now())?;
                        begun += 1;
                    }
                }
            }
            let received = self.receive(&mut buffer)?;
            let now = Instant::now();
            self.time_out(now)?;
            let over = now >= self.ends || self.is_enough(begun);
            if over && self.pending.is_empty() {
                break;
            }
            if received == 0 {
                let due = [
                    next,
                    self.timeouts.front().map(|(due, ..)| *due),
                    self.again.front().map(|(due, ..)| *due),
                ];
                let until = due.into_iter().flatten().min().unwrap_or(self.ends);
                // A sleep ends late: the rest is spent looking.
                let sleep =
                    until.saturating_duration_since(Instant::now()).saturating_sub(SLEEP_ENDS_LATE);
                if !sleep.is_zero() {
                    self.crowd.link.wait(sleep)?;
                }
            }
        }
        let counted = Instant::now().min(self.ends).saturating_duration_since(self.counts_from);
        self.outcome.took = counted;
        self.outcome.series = self
            .sums
            .iter()
            .map(|(count, sum, most)| (*count, sum / (*count).max(1), *most))
            .collect();
        Ok(self.outcome)
    }

    fn is_enough(&self, begun: u64) -> bool {
        self.load.most.is_some_and(|most| begun >= most)
    }

    fn begin(&mut self, number: u64, due: Instant) -> Result<(), Error> {
        let turn = u32::try_from(number % u64::from(self.load.clients.max(1))).unwrap_or(0);
        let client = self.load.first + turn;
        // A client that is not through with its last exchange gives it up.
        if let Some(before) = self.busy.remove(&client) {
            self.pending.remove(&before);
        }
        self.crowd.xid = self.crowd.xid.wrapping_add(1);
        let xid = self.crowd.xid;
        let leg = if self.load.exchange == Exchange::Renew { Leg::Ack } else { Leg::Offer };
        let pending = Pending { client, leg, began: due, due, offered: None, again: false };
        if self.counts(&pending) {
            self.outcome.begun += 1;
        }
        self.busy.insert(client, xid);
        self.say(xid, &pending)?;
        self.pending.insert(xid, pending);
        Ok(())
    }

    /// Whether it began in the time that counts.
    fn counts(&self, pending: &Pending) -> bool {
        pending.began >= self.counts_from
    }

    fn say(&mut self, xid: u32, pending: &Pending) -> Result<(), Error> {
        let client = pending.client;
        let held = self.crowd.held.get(&client).copied();
        let message =
            Message { kind: DISCOVER, xid, client, ciaddr: None, requested: None, server: None };
        let message = match (pending.leg, pending.offered) {
            (Leg::Offer, _) => message,
            (Leg::Ack, Some((address, server))) => {
                Message { kind: REQUEST, requested: Some(address), server: Some(server), ..message }
            }
            (Leg::Ack, None) => Message { kind: REQUEST, ciaddr: held, ..message },
        };
        if let Some(frame) = message.frame(self.crowd.path) {
            self.crowd.link.send(&frame)?;
        }
        let sent = Instant::now();
        if !pending.again && sent > pending.due + LATE && self.counts(pending) {
            self.outcome.late += 1;
        }
        if self.load.retransmit && !pending.again {
            self.again.push_back((sent + self.load.timeout / 2, xid, pending.leg));
        }
        if !pending.again {
            self.timeouts.push_back((sent + self.load.timeout, xid, pending.leg));
        }
        Ok(())
    }

    /// How many frames there were.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        for count in 0..BATCH {
            let Some(length) = self.crowd.link.receive(buffer)? else {
                return self.answer_arp(buffer).map(|()| count);
            };
            match read(buffer.get(..length).unwrap_or_default()) {
                Seen::Nothing => {}
                Seen::Wrong(what) => *self.outcome.wrong.entry(what).or_default() += 1,
                Seen::Reply(reply) => self.take(&reply)?,
            }
        }
        Ok(BATCH)
    }

    /// Servers look for who has an address before they send there.
    fn answer_arp(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        while let Some(length) = self.crowd.link.receive_arp(buffer)? {
            let holder = &self.crowd.holder;
            let owner = |address| holder.get(&address).map(|client| mac(*client));
            if let Some(answer) = arp_answer(buffer.get(..length).unwrap_or_default(), owner) {
                self.crowd.link.send(&answer)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, reply: &Reply) -> Result<(), Error> {
        let now = Instant::now();
        // Another's, or an answer to what was given up.
        let Some(mut pending) = self.pending.remove(&reply.xid) else { return Ok(()) };
        let right = match pending.leg {
            Leg::Offer => reply.kind == OFFER,
            Leg::Ack => reply.kind == ACK,
        };
        let wrong = match reply {
            _ if reply.chaddr != mac(pending.client) => Some("client"),
            // The second of two OFFERs, where a packet was sent twice.
            _ if pending.leg == Leg::Ack && reply.kind == OFFER => {
                self.pending.insert(reply.xid, pending);
                return Ok(());
            }
            _ if !right => Some("message type"),
            _ if reply.yiaddr.is_unspecified() => Some("address"),
            _ if pending.offered.is_some_and(|(address, _)| address != reply.yiaddr) => {
                Some("address")
            }
            _ => None,
        };
        if let Some(what) = wrong {
            *self.outcome.wrong.entry(what).or_default() += 1;
            return Ok(());
        }
        if let (Path::Link { server }, Some(address)) = (&mut self.crowd.path, reply.server) {
            *server = Some((address, reply.from));
        }
        let leg = nanoseconds(now.saturating_duration_since(pending.due));
        let counts = self.counts(&pending);
        match pending.leg {
            Leg::Offer => {
                if counts {
                    self.outcome.offer.saturating_record(leg);
                }
                if self.load.exchange == Exchange::Do {
                    return self.done(&pending, now);
                }
                pending.leg = Leg::Ack;
                pending.offered =
                    Some((reply.yiaddr, reply.server.unwrap_or(Ipv4Addr::UNSPECIFIED)));
                (pending.due, pending.again) = (now, false);
                self.say(reply.xid, &pending)?;
                self.pending.insert(reply.xid, pending);
                Ok(())
            }
            Leg::Ack => {
                if counts {
                    self.outcome.ack.saturating_record(leg);
                }
                self.lease(pending.client, reply.yiaddr);
                self.done(&pending, now)
            }
        }
    }

    fn lease(&mut self, client: u32, address: Ipv4Addr) {
        if let Some(other) = self.crowd.holder.insert(address, client)
            && other != client
        {
            self.outcome.duplicates.push(address);
        }
        if let Some(before) = self.crowd.held.insert(client, address)
            && before != address
        {
            self.crowd.holder.remove(&before);
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the last step of one that may fail")]
    fn done(&mut self, pending: &Pending, now: Instant) -> Result<(), Error> {
        self.busy.remove(&pending.client);
        self.crowd.ended += 1;
        if !self.counts(pending) {
            return Ok(());
        }
        let whole = nanoseconds(now.saturating_duration_since(pending.began));
        self.outcome.whole.saturating_record(whole);
        self.outcome.done += 1;
        let step = now.saturating_duration_since(self.counts_from).as_millis() / STEP.as_millis();
        let step = usize::try_from(step).unwrap_or(0);
        if self.sums.len() <= step {
            self.sums.resize(step + 1, (0, 0, 0));
        }
        if let Some((count, sum, most)) = self.sums.get_mut(step) {
            (*count, *sum, *most) = (*count + 1, *sum + whole, (*most).max(whole));
        }
        Ok(())
    }

    fn time_out(&mut self, now: Instant) -> Result<(), Error> {
        while let Some((_, xid, leg)) = self.again.pop_front_if(|(due, ..)| *due <= now) {
            let Some(mut pending) = self.pending.remove(&xid).filter(|pending| pending.leg == leg)
            else {
                continue;
            };
            pending.again = true;
            self.outcome.retransmitted += 1;
            self.say(xid, &pending)?;
            self.pending.insert(xid, pending);
        }
        while let Some((_, xid, leg)) = self.timeouts.pop_front_if(|(due, ..)| *due <= now) {
            if self.pending.get(&xid).is_none_or(|pending| pending.leg != leg) {
                continue;
            }
            let Some(pending) = self.pending.remove(&xid) else { continue };
            self.busy.remove(&pending.client);
            if self.counts(&pending) {
                match leg {
                    Leg::Offer => self.outcome.dropped_offers += 1,
                    Leg::Ack => self.outcome.dropped_acks += 1,
                }
            }
        }
        Ok(())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
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
