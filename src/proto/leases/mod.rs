//! Who has which address: what was offered, bound, released and declined, and the record of it on disk.
//!
//! A binding outlives its end: it is remembered until somebody else needs the address, so that a client that comes
//! back gets it again (RFC 2131 §4.3.1). Offers lie above the bindings and never change them. Time is the monotonic
//! clock's; the wall clock is only for the file (see `file`), so that its steps end no lease.

mod address;
mod book;
mod file;
mod lease;
mod offered;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime};

use super::Now;
use crate::net::MacAddr;
use book::{Book, Entry, FOR_EVER};
use offered::Offered;

pub use address::Address;
pub(crate) use file::has_ipv6_header;
pub use file::{HEADER, HEADER6, Recovered, is_ours};
pub use lease::{ClientId, Hardware, Lease, LeaseTime, Range, State};

/// Offers that stand at once, some 2 MiB of them: for one more the oldest is taken back. Who means it has asked for
/// its own by then; who floods loses what it was offered.
const MAX_OFFERS: usize = 8192;

/// An address that waits for its REQUEST.
#[derive(Debug, Clone)]
struct Offer {
    client: ClientId,
    hardware: Hardware,
    /// As in `Entry`.
    until: i64,
    number: u64,
}

/// All leases of a server.
#[derive(Debug)]
pub struct Leases<A = Ipv4Addr> {
    book: Book<A>,
    offers: HashMap<A, Offer>,
    offered_to: Offered<A>,
    /// In the order they end, as all are held equally long; some were taken or withdrawn since.
    offers_end: VecDeque<(i64, A, u64)>,
    /// Offers made so far.
    offered: u64,
    /// For each range: below this, every address was given away or is in `returned`.
    fresh: HashMap<(A, A), Option<A>>,
    returned: BTreeSet<A>,
    limit: usize,
    journal: Vec<u8>,
    /// Addresses whose names somebody wants to know of, as they change.
    named: Option<Vec<Lease<A>>>,
    /// What times are counted from.
    epoch: Option<Instant>,
}

impl<A: Address> Leases<A> {
    /// At most `limit` addresses are remembered, and as many offered, or fewer.
    pub fn new(limit: usize) -> Self {
        Self {
            book: Book::new(),
            offers: HashMap::new(),
            offered_to: Offered::new(),
            offers_end: VecDeque::new(),
            offered: 0,
            fresh: HashMap::new(),
            returned: BTreeSet::new(),
            limit,
            journal: Vec::new(),
            named: None,
            epoch: None,
        }
    }

    /// Addresses will be taken from these ranges: each looks only at its own.
    pub(crate) fn divide(&mut self, ranges: &[Range<A>]) {
        self.book.divide(ranges);
    }

    /// The client's address within these ranges: bound, else offered, else the one it had.
    pub(crate) fn of_client(
        &self,
        now: Now,
        client: &ClientId,
        within: &[Range<A>],
    ) -> Option<Lease<A>> {
        let inside = |address: A| within.iter().any(|range| range.contains(address));
        let time = self.time(now);
        let own = self.book.of_client(client).filter(|entry| inside(entry.address()));
        let latest = own
            .max_by_key(|entry| (entry.state == State::Bound && entry.until > time, entry.until));
        let bound = latest.filter(|entry| entry.state == State::Bound && entry.until > time);
        let offered = || {
            let address = self.offered_to.get(client).filter(|address| inside(*address))?;
            self.offered(time, address)
        };
        let past = || latest.map(|entry| self.lease(entry));
        bound.map(|entry| self.lease(entry)).or_else(offered).or_else(past)
    }

    /// Who has the address, is offered it, or had it last.
    pub(crate) fn of_address(&self, now: Now, address: A) -> Option<Lease<A>> {
        let time = self.time(now);
        let entry = self.book.of_address(address);
        let held = entry.filter(|entry| entry.holds(time)).map(|entry| self.lease(entry));
        held.or_else(|| self.offered(time, address))
            .or_else(|| entry.map(|entry| self.lease(entry)))
    }

    /// Whether nobody else has the address or is offered it, and it is not in quarantine.
    pub(crate) fn is_free_for(&self, now: Now, address: A, client: &ClientId) -> bool {
        let time = self.time(now);
        let held = self.book.of_address(address).is_some_and(|entry| {
            entry.holds(time) && (entry.state == State::Declined || *entry.client() != *client.0)
        });
        let offered = self
            .offers
            .get(&address)
            .is_some_and(|offer| offer.until > time && offer.client != *client);
        !held && !offered
    }

    /// How many addresses the clients of one machine hold or are offered.
    pub(crate) fn held_by(&self, now: Now, owner: &[u8]) -> usize {
        let time = self.time(now);
        let bound = self.book.of_owner(owner).filter(|entry| entry.holds(time));
        let stands = |client: &&ClientId| {
            let address = self.offered_to.get(client);
            address.is_some_and(|address| self.offered(time, address).is_some())
        };
        bound.count() + self.offered_to.owned_by(owner).filter(stands).count()
    }

    /// An address nobody ever had, else the one that ended longest ago. Not those to `skip`, for good.
    pub fn free(&mut self, now: Now, ranges: &[Range<A>], skip: &dyn Fn(A) -> bool) -> Option<A> {
        self.end_offers(now);
        let time = self.time(now);
        ranges.iter().find_map(|range| self.never_had(*range, skip)).or_else(|| {
            let ended = ranges.iter().filter_map(|range| self.book.ended(time, Some(*range), skip));
            ended.min_by_key(|address| self.book.of_address(*address).map(|entry| entry.until))
        })
    }

    fn never_had(&mut self, range: Range<A>, skip: &dyn Fn(A) -> bool) -> Option<A> {
        let back =
            self.returned.range(range.first..=range.last).copied().find(|address| !skip(*address));
        if back.is_some() {
            return back;
        }
        let next = self.fresh.entry((range.first, range.last)).or_insert(Some(range.first));
        while let Some(address) = next.filter(|next| *next <= range.last) {
            let known =
                self.book.of_address(address).is_some() || self.offers.contains_key(&address);
            if !known && !skip(address) {
                return Some(address);
            }
            *next = address.next();
        }
        None
    }

    /// Keeps the address for the client for so long. What is bound stays bound. False when there are too many.
    pub fn offer(
        &mut self,
        now: Now,
        address: A,
        client: &ClientId,
        hardware: Hardware,
        hold: Duration,
    ) -> bool {
        self.end_offers(now);
        if self.offers.len() >= MAX_OFFERS && !self.offers.contains_key(&address) {
            self.end_oldest_offer();
        }
        if self.offers.len() >= self.limit && !self.offers.contains_key(&address)
            || !self.is_free_for(now, address, client)
        {
            return false;
        }
        let until = self.time(now).saturating_add(milliseconds(hold));
        // Asked again and again, it is not noted each time.
        let half = milliseconds(hold) / 2;
        if self
            .offers
            .get(&address)
            .is_some_and(|offer| offer.client == *client && offer.until > until - half)
        {
            return true;
        }
        if let Some(before) = self.offered_to.insert(client.clone(), address)
            && before != address
        {
            self.take_back(before);
        }
        self.returned.remove(&address);
        self.book.park(address);
        self.offered += 1;
        let number = self.offered;
        self.offers.insert(address, Offer { client: client.clone(), hardware, until, number });
        self.offers_end.push_back((until, address, number));
        if self.offers_end.len() > 2 * self.offers.len() + 1024 {
            let offers = &self.offers;
            let stands = |(_, address, number): &(i64, A, u64)| {
                offers.get(address).is_some_and(|offer| offer.number == *number)
            };
            self.offers_end.retain(stands);
        }
        true
    }

    /// The client's from now on, for so long or for ever; written into the journal. False when somebody else has it.
    pub fn bind(
        &mut self,
        now: Now,
        address: A,
        client: &ClientId,
        hardware: Hardware,
        name: Option<&str>,
        lease: Option<Duration>,
    ) -> bool {
        self.begin(now);
        let known = self.book.of_address(address).is_some();
        if !self.is_free_for(now, address, client) || !known && !self.make_room(now) {
            return false;
        }
        self.settle(client, address);
        let until = match lease {
            Some(lease) => self.time(now).saturating_add(milliseconds(lease)),
            None => FOR_EVER,
        };
        self.put(now, Entry::new(address, client, hardware, name, State::Bound, until));
        true
    }

    /// Given back before its end.
    pub fn release(&mut self, now: Now, address: A) {
        let time = self.time(now);
        if let Some(entry) = self.book.of_address(address).filter(|entry| entry.holds(time)) {
            let mut entry = entry.clone();
            (entry.state, entry.until) = (State::Released, time);
            self.put(now, entry);
        }
        self.withdraw(address);
    }

    /// No end lies further ahead than `longest` says of an address (None: any may), and what was given back ended by
    /// now. A file's ends are those of a clock that may have been wrong, and of settings that may have been others.
    /// How many lay far ahead: by more than what the file rounds up.
    pub fn shorten(&mut self, now: Now, longest: impl Fn(A, State) -> Option<Duration>) -> usize {
        self.begin(now);
        let time = self.time(now);
        let mut far = 0;
        let shorter = |entry: &Entry<A>| {
            let max = match entry.state {
                State::Released => time,
                state => time.saturating_add(milliseconds(longest(entry.address(), state)?)),
            };
            far += usize::from(entry.holds(time) && entry.until > max.saturating_add(ROUNDED));
            (entry.until > max).then(|| {
                let mut entry = entry.clone();
                entry.until = max;
                entry
            })
        };
        let shorter: Vec<Entry<A>> = self.book.entries().filter_map(shorter).collect();
        shorter.into_iter().for_each(|entry| self.put(now, entry));
        far
    }

    /// Nobody's for so long.
    pub fn decline(&mut self, now: Now, address: A, quarantine: Duration) {
        self.begin(now);
        self.withdraw(address);
        if self.book.of_address(address).is_none() && !self.make_room(now) {
            return;
        }
        let until = self.time(now).saturating_add(milliseconds(quarantine));
        let nobody = Hardware { kind: 0, address: MacAddr([0; 6]) };
        self.put(
            now,
            Entry::new(address, &ClientId::new(&[]), nobody, None, State::Declined, until),
        );
    }

    /// The offer of this address is none any more.
    pub(crate) fn withdraw(&mut self, address: A) {
        if let Some(offer) = self.offers.get(&address) {
            self.offered_to.remove(&offer.client);
            self.take_back(address);
        }
    }

    /// Bytes to be appended to the file before any reply made so far may leave.
    pub fn journal(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.journal)
    }

    /// Leases with a name since the last time, and those that took an address from one; first of all, all of them.
    pub fn named(&mut self) -> Vec<Lease<A>> {
        match self.named.replace(Vec::new()) {
            Some(changed) => changed,
            None => self.iter().filter(|lease| lease.name.is_some()).collect(),
        }
    }

    /// Nobody asks for `named` any more; who does next hears of all.
    pub(crate) fn forget_named(&mut self) {
        self.named = None;
    }

    /// What the file would hold if it were written anew, some at a time: from this place on, and the place to go on
    /// from. What changes meanwhile is in the journal, and has to follow in the new file as in the old one.
    pub fn snapshot(&self, now: Now, from: usize, some: usize) -> (Vec<u8>, Option<usize>) {
        let (time, wall) = (self.time(now), self.wall(now));
        let lasting = |entry: &&Entry<A>| entry.state != State::Declined || entry.holds(time);
        let entries = self.book.slots(from, some).filter(lasting);
        let bytes = entries.flat_map(|entry| file::line(entry, &wall)).collect();
        (bytes, self.book.next_slot(from, some))
    }

    /// What is bound or remembered, by address.
    pub fn iter(&self) -> impl Iterator<Item = Lease<A>> {
        self.book.entries().map(|entry| self.lease(entry))
    }

    /// Addresses remembered, those whose lease has ended among them.
    pub fn len(&self) -> usize {
        self.book.len()
    }

    /// Whether no address is leased, offered or declined.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn put(&mut self, now: Now, entry: Entry<A>) {
        self.journal.extend(file::line(&entry, self.wall(now)));
        let had =
            self.book.of_address(entry.address()).is_some_and(|before| before.name().is_some());
        if had || entry.name().is_some() {
            let lease = self.lease(&entry);
            self.named.iter_mut().for_each(|named| named.push(lease.clone()));
        }
        self.insert(now, entry);
    }

    fn insert(&mut self, now: Now, entry: Entry<A>) {
        self.returned.remove(&entry.address());
        for address in self.book.put(entry, self.time(now)) {
            self.returned.insert(address);
        }
    }

    /// The client is bound now: neither its offer of another address stands, nor the one of this address.
    fn settle(&mut self, client: &ClientId, address: A) {
        if let Some(offered) = self.offered_to.remove(client) {
            self.take_back(offered);
        }
        self.offers.remove(&address);
    }

    /// False when everything that is remembered is still held.
    fn make_room(&mut self, now: Now) -> bool {
        if self.book.len() < self.limit {
            return true;
        }
        let oldest = self.book.ended(self.time(now), None, &|_| false);
        if let Some(address) = oldest {
            self.book.remove(address);
            self.returned.insert(address);
        }
        oldest.is_some()
    }

    fn begin(&mut self, now: Now) {
        self.epoch.get_or_insert(now.monotonic);
    }

    fn end_offers(&mut self, now: Now) {
        self.begin(now);
        let time = self.time(now);
        while let Some((_, address, number)) =
            self.offers_end.pop_front_if(|(until, ..)| *until <= time)
        {
            if self.offers.get(&address).is_some_and(|offer| offer.number == number) {
                self.withdraw(address);
            }
        }
    }

    fn end_oldest_offer(&mut self) {
        while let Some((_, address, number)) = self.offers_end.pop_front() {
            if self.offers.get(&address).is_some_and(|offer| offer.number == number) {
                return self.withdraw(address);
            }
        }
    }

    /// An address that is not offered any more.
    fn take_back(&mut self, address: A) {
        if self.offers.remove(&address).is_some() && !self.book.unpark(address) {
            self.returned.insert(address);
        }
    }

    fn offered(&self, time: i64, address: A) -> Option<Lease<A>> {
        let offer = self.offers.get(&address).filter(|offer| offer.until > time)?;
        let until = self.instant(offer.until);
        let (client, hardware) = (offer.client.clone(), offer.hardware);
        Some(Lease { address, client, hardware, name: None, state: State::Offered, until })
    }

    fn lease(&self, entry: &Entry<A>) -> Lease<A> {
        Lease {
            address: entry.address(),
            client: ClientId::new(&entry.client()),
            hardware: entry.hardware,
            name: entry.name().map(str::to_owned),
            state: entry.state,
            until: self.instant(entry.until),
        }
    }

    /// Milliseconds since the epoch, which is the first `now` of all.
    fn time(&self, now: Now) -> i64 {
        let Some(epoch) = self.epoch else { return 0 };
        milliseconds(now.monotonic.saturating_duration_since(epoch))
    }

    fn instant(&self, time: i64) -> Option<Instant> {
        let epoch = self.epoch?;
        if time == FOR_EVER {
            return None;
        }
        let distance = Duration::from_millis(time.unsigned_abs());
        let moved =
            if time < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
        Some(moved.unwrap_or(epoch))
    }

    /// From our times to those of the file.
    fn wall(&self, now: Now) -> impl Fn(i64) -> Option<i64> + use<A> {
        let time = self.time(now);
        let seconds = seconds(now.wall);
        // Rounded up: the file must not end a lease before its client does.
        move |until| {
            (until != FOR_EVER).then(|| seconds.saturating_add((until - time).div_euclid(1000) + 2))
        }
    }
}

/// Milliseconds; the file's ends are at most so much too late.
const ROUNDED: i64 = 10_000;

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// Since 1970.
fn seconds(wall: SystemTime) -> i64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 4)
}
