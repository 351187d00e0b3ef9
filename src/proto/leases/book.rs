//! Bindings, compactly: some hundred octets of the process each, all indices counted.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::ops::Deref;

use super::{Address, ClientId, Hardware, Range, State};

/// As `Entry::until`.
pub(crate) const FOR_EVER: i64 = i64::MAX;
/// Addresses one client is remembered with beside those it holds.
const PAST_ADDRESSES: usize = 8;
/// As `Entry::said`: the client is who its hardware is.
const NOTHING: u16 = u16::MAX;
/// Entries that get their memory at once: what grows by doubling is half empty.
const CHUNK: usize = 1024;

/// One address, and who has or had it.
#[derive(Debug, Clone)]
pub struct Entry<A> {
    address: A,
    pub hardware: Hardware,
    pub state: State,
    /// Octets of `words` that are the client's identifier; the others are its name.
    said: u16,
    /// Milliseconds since the epoch of the leases.
    pub until: i64,
    words: Box<[u8]>,
}

/// Who has an entry.
#[derive(Debug, Clone, Copy)]
pub enum Client<'a> {
    Machine([u8; 7]),
    Said(&'a [u8]),
}

impl Deref for Client<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Machine(octets) => octets,
            Self::Said(octets) => octets,
        }
    }
}

/// Hardware type and address: the identifier of who has none, and the usual one (RFC 2132 §9.14).
fn machine(hardware: Hardware) -> [u8; 7] {
    let [a, b, c, d, e, f] = hardware.address.0;
    [hardware.kind, a, b, c, d, e, f]
}

impl<A: Address> Entry<A> {
    /// An entry of the address, `name` at most 255 octets.
    pub fn new(
        address: A,
        client: &ClientId,
        hardware: Hardware,
        name: Option<&str>,
        state: State,
        until: i64,
    ) -> Self {
        let is_machine = *client.0 == machine(hardware);
        let id = if is_machine { &[] } else { &*client.0 };
        // No request is as long as that.
        let said = u16::try_from(id.len()).ok().filter(|said| *said < NOTHING);
        let words = [id, name.unwrap_or_default().as_bytes()].concat();
        Self {
            address,
            hardware,
            state,
            said: said.filter(|_| !is_machine).unwrap_or(NOTHING),
            until,
            words: words.into(),
        }
    }

    /// The leased address.
    pub fn address(&self) -> A {
        self.address
    }

    /// Whose it is.
    pub fn client(&self) -> Client<'_> {
        match self.said {
            NOTHING => Client::Machine(machine(self.hardware)),
            said => Client::Said(self.words.get(..said.into()).unwrap_or_default()),
        }
    }

    /// The client's host name.
    pub fn name(&self) -> Option<&str> {
        let from = if self.said == NOTHING { 0 } else { self.said.into() };
        let name = self.words.get(from..).and_then(|name| std::str::from_utf8(name).ok());
        name.filter(|name| !name.is_empty())
    }

    /// Whether nobody else may have the address.
    pub fn holds(&self, time: i64) -> bool {
        self.state != State::Released && self.until > time
    }
}

#[derive(Debug)]
pub(crate) struct Book<A> {
    slots: Slots<A>,
    empty: Vec<u32>,
    by_address: BTreeMap<A, u32>,
    /// By a keyed hash of their owners, so that nobody can choose clients that share one.
    by_client: BTreeSet<(u64, u32)>,
    /// Where ranges that are given away begin, and what is behind them: between two of these nothing else begins.
    bounds: Vec<A>,
    /// What ends, by when; without those that are parked. One set more than there are bounds.
    ends: Vec<BTreeSet<(i64, u32)>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Slots<A>(Vec<Vec<Option<Entry<A>>>>);

impl<A> Slots<A> {
    fn place(slot: u32) -> (usize, usize) {
        let slot = usize::try_from(slot).unwrap_or(usize::MAX);
        (slot / CHUNK, slot % CHUNK)
    }

    fn at(&self, slot: u32) -> Option<&Entry<A>> {
        let (chunk, index) = Self::place(slot);
        self.0.get(chunk)?.get(index)?.as_ref()
    }

    fn at_mut(&mut self, slot: u32) -> Option<&mut Option<Entry<A>>> {
        let (chunk, index) = Self::place(slot);
        self.0.get_mut(chunk)?.get_mut(index)
    }

    fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.len())
    }

    /// One more, empty.
    fn push(&mut self) -> u32 {
        if self.0.last().is_none_or(|last| last.len() == CHUNK) {
            self.0.push(Vec::with_capacity(CHUNK));
        }
        if let Some(last) = self.0.last_mut() {
            last.push(None);
        }
        u32::try_from(self.len() - 1).unwrap_or(u32::MAX)
    }
}

impl<A: Address> Book<A> {
    pub fn new() -> Self {
        Self {
            slots: Slots(Vec::new()),
            empty: Vec::new(),
            by_address: BTreeMap::new(),
            by_client: BTreeSet::new(),
            bounds: Vec::new(),
            ends: Vec::new(),
            hasher: RandomState::new(),
        }
    }

    /// The ranges that addresses are taken from: what ended is looked up by them.
    pub(crate) fn divide(&mut self, ranges: &[Range<A>]) {
        let begin = ranges.iter().map(|range| range.first);
        let behind = ranges.iter().filter_map(|range| range.last.next());
        self.bounds = begin.chain(behind).collect();
        self.bounds.sort_unstable();
        self.bounds.dedup();
        let all = std::mem::take(&mut self.ends);
        self.ends.resize_with(self.bounds.len() + 1, BTreeSet::new);
        for (until, slot) in all.into_iter().flatten() {
            if let Some(address) = self.slots.at(slot).map(|entry| entry.address) {
                self.add_end(address, until, slot);
            }
        }
    }

    /// Which set of ends an address is in.
    fn part(&self, address: A) -> usize {
        self.bounds.partition_point(|bound| *bound <= address)
    }

    fn add_end(&mut self, address: A, until: i64, slot: u32) {
        let part = self.part(address);
        if self.ends.len() <= part {
            self.ends.resize_with(part + 1, BTreeSet::new);
        }
        if let Some(ends) = self.ends.get_mut(part) {
            ends.insert((until, slot));
        }
    }

    fn remove_end(&mut self, address: A, until: i64, slot: u32) {
        let part = self.part(address);
        if let Some(ends) = self.ends.get_mut(part) {
            ends.remove(&(until, slot));
        }
    }

    fn is_among_ends(&self, entry: &Entry<A>, slot: u32) -> bool {
        self.ends
            .get(self.part(entry.address))
            .is_some_and(|ends| ends.contains(&(entry.until, slot)))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    pub(crate) fn of_address(&self, address: A) -> Option<&Entry<A>> {
        self.entry(*self.by_address.get(&address)?)
    }

    pub(crate) fn of_client(&self, client: &ClientId) -> impl Iterator<Item = &Entry<A>> {
        let hash = self.hasher.hash_one(A::owner(&client.0));
        let own = self.by_client.range((hash, 0)..=(hash, u32::MAX));
        own.filter_map(|(_, slot)| self.entry(*slot))
            .filter(move |entry| *entry.client() == *client.0)
    }

    /// Those of all clients of one machine.
    pub(crate) fn of_owner<'a>(
        &'a self,
        owner: &'a [u8],
    ) -> impl Iterator<Item = &'a Entry<A>> + 'a {
        let hash = self.hasher.hash_one(owner);
        let own = self.by_client.range((hash, 0)..=(hash, u32::MAX));
        own.filter_map(|(_, slot)| self.entry(*slot))
            .filter(move |entry| A::owner(&entry.client()) == owner)
    }

    /// By address.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<A>> {
        self.by_address.values().filter_map(|slot| self.entry(*slot))
    }

    /// The one whose time is over for longest; within a range, and not one of those to `skip`.
    pub fn ended(
        &self,
        time: i64,
        within: Option<Range<A>>,
        skip: &dyn Fn(A) -> bool,
    ) -> Option<A> {
        let parts = match within {
            Some(range) => self.part(range.first)..=self.part(range.last),
            None => 0..=self.bounds.len(),
        };
        let inside = |entry: &&Entry<A>| {
            within.is_none_or(|range| range.contains(entry.address())) && !skip(entry.address())
        };
        let first = |ends: &BTreeSet<(i64, u32)>| {
            let mut ended =
                ends.range(..=(time, u32::MAX)).filter_map(|(_, slot)| self.slots.at(*slot));
            ended.find(inside)
        };
        let oldest = self.ends.get(parts)?.iter().filter_map(first).min_by_key(|entry| entry.until);
        oldest.map(Entry::address)
    }

    /// Some entries, in the order of their slots.
    pub fn slots(&self, from: usize, some: usize) -> impl Iterator<Item = &Entry<A>> {
        self.slots.0.iter().flatten().skip(from).take(some).flatten()
    }

    pub(crate) fn next_slot(&self, from: usize, some: usize) -> Option<usize> {
        Some(from.saturating_add(some)).filter(|next| *next < self.slots.len())
    }

    /// In the place of what is known of the address; returns addresses that are forgotten for it.
    pub fn put(&mut self, entry: Entry<A>, time: i64) -> Vec<A> {
        self.remove(entry.address());
        let hash = self.hash(&entry);
        let slot = self.empty.pop().unwrap_or_else(|| self.slots.push());
        self.by_address.insert(entry.address, slot);
        if entry.until != FOR_EVER {
            self.add_end(entry.address, entry.until, slot);
        }
        if let Some(place) = self.slots.at_mut(slot) {
            *place = Some(entry);
        }
        match hash {
            Some(hash) => {
                self.by_client.insert((hash, slot));
                self.forget_past(hash, slot, time)
            }
            None => Vec::new(),
        }
    }

    /// Forgets the address.
    pub fn remove(&mut self, address: A) {
        let Some(slot) = self.by_address.remove(&address) else { return };
        let found = self.slots.at_mut(slot).and_then(Option::take);
        if let Some(entry) = found {
            self.remove_end(entry.address, entry.until, slot);
            if let Some(hash) = self.hash(&entry) {
                self.by_client.remove(&(hash, slot));
            }
            self.empty.push(slot);
        }
    }

    /// Offered to somebody: not among those that ended.
    pub(crate) fn park(&mut self, address: A) {
        if let Some((until, slot)) = self.end_of(address) {
            self.remove_end(address, until, slot);
        }
    }

    /// Not offered any more. False when it is not known.
    pub(crate) fn unpark(&mut self, address: A) -> bool {
        let end = self.end_of(address);
        if let Some((until, slot)) = end.filter(|(until, _)| *until != FOR_EVER) {
            self.add_end(address, until, slot);
        }
        end.is_some()
    }

    fn end_of(&self, address: A) -> Option<(i64, u32)> {
        let slot = *self.by_address.get(&address)?;
        Some((self.entry(slot)?.until, slot))
    }

    fn entry(&self, slot: u32) -> Option<&Entry<A>> {
        self.slots.at(slot)
    }

    /// What is in quarantine is nobody's.
    fn hash(&self, entry: &Entry<A>) -> Option<u64> {
        (entry.state != State::Declined).then(|| self.hasher.hash_one(A::owner(&entry.client())))
    }

    /// The client's oldest addresses beyond those that are remembered; what it holds or somebody is offered stays.
    fn forget_past(&mut self, hash: u64, latest: u32, time: i64) -> Vec<A> {
        let own = self.by_client.range((hash, 0)..=(hash, u32::MAX)).map(|(_, slot)| *slot);
        let mut past: Vec<(i64, A)> = own
            .filter(|slot| *slot != latest)
            .filter_map(|slot| Some((slot, self.entry(slot)?)))
            .filter(|(slot, entry)| entry.until <= time && self.is_among_ends(entry, *slot))
            .map(|(_, entry)| (entry.until, entry.address()))
            .collect();
        if past.len() <= PAST_ADDRESSES {
            return Vec::new();
        }
        past.sort_unstable();
        past.truncate(past.len() - PAST_ADDRESSES);
        let forgotten: Vec<A> = past.into_iter().map(|(_, address)| address).collect();
        forgotten.iter().for_each(|address| self.remove(*address));
        forgotten
    }
}
