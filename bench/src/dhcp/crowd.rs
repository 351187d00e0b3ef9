//! Simulated clients against one server, from one thread.
//!
//! ```text
//!            DISCOVER          REQUEST
//!   due ──────────────► offered ──────► acked        each leg: timed, or dropped after the time-out
//! ```
//!
//! With an open loop (a rate) exchanges begin by a schedule that no answer delays, and a time counts from when the packet
//! was due, not from when it left: a server that stalls pays for all who wait. With a closed loop a given number is
//! always under way. DHCPv6's messages have other names, and the same places in it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::link::Link;
use super::load::{Arrival, Exchange, Leg, Load, Outcome};
use super::protocol::{Ask, Protocol, Reply, Seen};
use crate::Error;

/// A packet that leaves this much later than it was due is the driver's fault.
const LATE: Duration = Duration::from_millis(1);
/// By less than this a sleep ends late (prctl(2), PR_SET_TIMERSLACK, and waking).
const SLEEP_ENDS_LATE: Duration = Duration::from_micros(150);
/// Frames taken between two looks at the schedule.
const BATCH: usize = 64;
/// Length of one point of the series over time.
const STEP: Duration = Duration::from_millis(100);

type PendingOf<P> = Pending<<P as Protocol>::Address, <P as Protocol>::Server>;

/// An exchange under way.
#[derive(Debug)]
struct Pending<A, S> {
    client: u32,
    leg: Leg,
    /// When the exchange was due, and this leg.
    began: Instant,
    due: Instant,
    offered: Option<(A, Option<S>)>,
    again: bool,
}

/// The clients of one link, and the leases they have: those stay from one load to the next.
pub struct Crowd<'a, P: Protocol> {
    link: &'a mut Link,
    protocol: P,
    held: HashMap<u32, P::Address>,
    holder: HashMap<P::Address, u32>,
    xid: u32,
    ended: u64,
}

struct Run<'a, 'b, P: Protocol> {
    crowd: &'a mut Crowd<'b, P>,
    load: &'a Load,
    outcome: Outcome<P::Address>,
    pending: HashMap<u32, PendingOf<P>>,
    /// In the order they end.
    timeouts: VecDeque<(Instant, u32, Leg)>,
    again: VecDeque<(Instant, u32, Leg)>,
    busy: HashMap<u32, u32>,
    counts_from: Instant,
    ends: Instant,
    sums: Vec<(u64, u64, u64)>,
}

impl<'a, P: Protocol> Crowd<'a, P> {
    pub fn new(link: &'a mut Link, protocol: P) -> Self {
        Self {
            link,
            protocol,
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
            exchange: Exchange::Full,
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

    pub fn run(&mut self, load: &Load) -> Result<Outcome<P::Address>, Error> {
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

impl<P: Protocol> Run<'_, '_, P> {
    fn drive(mut self, start: Instant) -> Result<Outcome<P::Address>, Error> {
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
        self.crowd.xid = self.crowd.xid.wrapping_add(1) & P::TRANSACTIONS;
        let (xid, leg) = (self.crowd.xid, self.load.exchange.first());
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
    fn counts(&self, pending: &PendingOf<P>) -> bool {
        pending.began >= self.counts_from
    }

    fn say(&mut self, xid: u32, pending: &PendingOf<P>) -> Result<(), Error> {
        let client = pending.client;
        let ask = match (pending.leg, &pending.offered) {
            (Leg::Offer, _) => Ask::Discover,
            (Leg::Ack, Some((address, server))) => {
                Ask::Request { address: *address, server: server.clone() }
            }
            (Leg::Ack, None) if self.load.exchange == Exchange::Rapid => Ask::Rapid,
            (Leg::Ack, None) => Ask::Renew { address: self.crowd.held.get(&client).copied() },
        };
        if let Some(frame) = self.crowd.protocol.frame(client, xid, &ask) {
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
                while let Some(length) = self.crowd.link.receive_arp(buffer)? {
                    self.answer_neighbour(buffer.get(..length).unwrap_or_default())?;
                }
                return Ok(count);
            };
            let frame = buffer.get(..length).unwrap_or_default();
            match self.crowd.protocol.read(frame) {
                Seen::Nothing => self.answer_neighbour(frame)?,
                Seen::Wrong(what) => *self.outcome.wrong.entry(what).or_default() += 1,
                Seen::Reply(reply) => self.take(reply)?,
            }
        }
        Ok(BATCH)
    }

    /// Servers look for who has an address before they send there.
    fn answer_neighbour(&mut self, frame: &[u8]) -> Result<(), Error> {
        let answer = self.crowd.protocol.neighbour(frame, &self.crowd.holder);
        answer.map_or(Ok(()), |answer| self.crowd.link.send(&answer))
    }

    fn take(&mut self, reply: Reply<P::Address, P::Server>) -> Result<(), Error> {
        let now = Instant::now();
        // Another's, or an answer to what was given up.
        let Some(mut pending) = self.pending.remove(&reply.xid) else { return Ok(()) };
        // The second of two OFFERs, where a packet was sent twice.
        let is_repeated = pending.offered.is_some() && reply.leg == Some(Leg::Offer);
        let offered = pending.offered.as_ref().map(|(address, _)| *address);
        let (address, wrong) = match reply.address {
            _ if reply.client != Some(pending.client) => (None, "client"),
            _ if is_repeated => {
                self.pending.insert(reply.xid, pending);
                return Ok(());
            }
            _ if reply.leg != Some(pending.leg) => (None, "message type"),
            Some(address) if offered.is_none_or(|offered| offered == address) => {
                (Some(address), "")
            }
            _ => (None, "address"),
        };
        let Some(address) = address else {
            *self.outcome.wrong.entry(wrong).or_default() += 1;
            return Ok(());
        };
        if let Some(server) = &reply.server {
            self.crowd.protocol.learn(server, reply.from);
        }
        let leg = nanoseconds(now.saturating_duration_since(pending.due));
        let counts = self.counts(&pending);
        match pending.leg {
            Leg::Offer => {
                if counts {
                    self.outcome.offer.saturating_record(leg);
                }
                if self.load.exchange == Exchange::Offer {
                    return self.done(&pending, now);
                }
                pending.leg = Leg::Ack;
                pending.offered = Some((address, reply.server));
                (pending.due, pending.again) = (now, false);
                self.say(reply.xid, &pending)?;
                self.pending.insert(reply.xid, pending);
                Ok(())
            }
            Leg::Ack => {
                if counts {
                    self.outcome.ack.saturating_record(leg);
                }
                self.lease(pending.client, address);
                self.done(&pending, now)
            }
        }
    }

    fn lease(&mut self, client: u32, address: P::Address) {
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
    fn done(&mut self, pending: &PendingOf<P>, now: Instant) -> Result<(), Error> {
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
