//! Bindings, compactly: less than 300 octets of the process each, all indices counted.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::net::Ipv4Addr;

use super::{ClientId, Hardware, State};

/// As `Entry::until`.
pub const FOR_EVER: i64 = i64::MAX;
/// Addresses one client is remembered with beside those it holds.
const PAST_ADDRESSES: usize = 8;

/// One address, and who has or had it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub address: u32,
    pub hardware: Hardware,
    pub state: State,
    /// Milliseconds since the epoch of the leases.
    pub until: i64,
    pub client: Box<[u8]>,
    pub name: Option<Box<str>>,
}

impl Entry {
    pub fn new(
        address: Ipv4Addr,
        client: &ClientId,
        hardware: Hardware,
        name: Option<&str>,
        state: State,
        until: i64,
    ) -> Self {
        let (address, client) = (address.to_bits(), client.0.clone());
        Self { address, hardware, state, until, client, name: name.map(Into::into) }
    }

    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address)
    }

    /// Whether nobody else may have the address.
    pub fn holds(&self, time: i64) -> bool {
        self.state != State::Released && self.until > time
    }
}

#[derive(Debug, Default)]
pub struct Book {
    slots: Vec<Option<Entry>>,
    empty: Vec<u32>,
    by_address: BTreeMap<u32, u32>,
    /// By a keyed hash, so that nobody can choose clients that share one.
    by_client: BTreeSet<(u64, u32)>,
    /// What ends, by when; without those that are parked.
    ends: BTreeSet<(i64, u32)>,
    hasher: RandomState,
}

impl Book {
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    pub fn of_address(&self, address: Ipv4Addr) -> Option<&Entry> {
        self.entry(*self.by_address.get(&address.to_bits())?)
    }

    pub fn of_client(&self, client: &ClientId) -> impl Iterator<Item = &Entry> {
        let hash = self.hasher.hash_one(&client.0);
        let own = self.by_client.range((hash, 0)..=(hash, u32::MAX));
        own.filter_map(|(_, slot)| self.entry(*slot)).filter(move |entry| entry.client == client.0)
    }

    /// By address.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.by_address.values().filter_map(|slot| self.entry(*slot))
    }

    /// Those whose time is over, the longest ago first.
    pub fn ended(&self, time: i64) -> impl Iterator<Item = Ipv4Addr> {
        let ended = self.ends.range(..=(time, u32::MAX));
        ended.filter_map(|(_, slot)| self.entry(*slot)).map(Entry::address)
    }

    /// Some entries, in the order of their slots.
    pub fn slots(&self, from: usize, some: usize) -> impl Iterator<Item = &Entry> {
        self.slots.iter().skip(from).take(some).flatten()
    }

    pub fn next_slot(&self, from: usize, some: usize) -> Option<usize> {
        Some(from.saturating_add(some)).filter(|next| *next < self.slots.len())
    }

    /// In the place of what is known of the address; returns addresses that are forgotten for it.
    pub fn put(&mut self, entry: Entry, time: i64) -> Vec<Ipv4Addr> {
        self.remove(entry.address());
        let hash = self.hash(&entry);
        let slot = self.empty.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.by_address.insert(entry.address, slot);
        if entry.until != FOR_EVER {
            self.ends.insert((entry.until, slot));
        }
        if let Some(place) = usize::try_from(slot).ok().and_then(|slot| self.slots.get_mut(slot)) {
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

    pub fn remove(&mut self, address: Ipv4Addr) {
        let Some(slot) = self.by_address.remove(&address.to_bits()) else { return };
        let found = usize::try_from(slot).ok().and_then(|slot| self.slots.get_mut(slot)?.take());
        if let Some(entry) = found {
            self.ends.remove(&(entry.until, slot));
            if let Some(hash) = self.hash(&entry) {
                self.by_client.remove(&(hash, slot));
            }
            self.empty.push(slot);
        }
    }

    /// Offered to somebody: not among those that ended.
    pub fn park(&mut self, address: Ipv4Addr) {
        if let Some((until, slot)) = self.end_of(address) {
            self.ends.remove(&(until, slot));
        }
    }

    /// Not offered any more. False when it is not known.
    pub fn unpark(&mut self, address: Ipv4Addr) -> bool {
        let end = self.end_of(address);
        if let Some((until, slot)) = end.filter(|(until, _)| *until != FOR_EVER) {
            self.ends.insert((until, slot));
        }
        end.is_some()
    }

    fn end_of(&self, address: Ipv4Addr) -> Option<(i64, u32)> {
        let slot = *self.by_address.get(&address.to_bits())?;
        Some((self.entry(slot)?.until, slot))
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.slots.get(usize::try_from(slot).ok()?)?.as_ref()
    }

    /// What is in quarantine is nobody's.
    fn hash(&self, entry: &Entry) -> Option<u64> {
        (entry.state != State::Declined).then(|| self.hasher.hash_one(&entry.client))
    }

    /// The client's oldest addresses beyond those that are remembered; what it holds or somebody is offered stays.
    fn forget_past(&mut self, hash: u64, latest: u32, time: i64) -> Vec<Ipv4Addr> {
        let own = self.by_client.range((hash, 0)..=(hash, u32::MAX)).map(|(_, slot)| *slot);
        let mut past: Vec<(i64, Ipv4Addr)> = own
            .filter(|slot| *slot != latest)
            .filter_map(|slot| Some((slot, self.entry(slot)?)))
            .filter(|(slot, entry)| entry.until <= time && self.ends.contains(&(entry.until, *slot)))
            .map(|(_, entry)| (entry.until, entry.address()))
            .collect();
        if past.len() <= PAST_ADDRESSES {
            return Vec::new();
        }
        past.sort_unstable();
        past.truncate(past.len() - PAST_ADDRESSES);
        let forgotten: Vec<Ipv4Addr> = past.into_iter().map(|(_, address)| address).collect();
        forgotten.iter().for_each(|address| self.remove(*address));
        forgotten
    }
}
