//! Whether an address that asks is somebody's: who answers ARP on the link, or is behind such a router.
//!
//! A datagram to an address without a MAC waits in the kernel for its ARP, three seconds, and is charged to the socket that
//! sent it: some hundred of them, and the socket takes no more. So what goes to strangers goes by a socket of its own,
//! whose buffer is small: they wait for each other, and few entries of the node's neighbour table are theirs. Who asks
//! for our MAC first, as hosts do, is known when its question comes; who was known and has been quiet for so long that the
//! kernel forgot it does not wait with those who never were (a second such socket).

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::net::IfName;
use crate::sys::neighbours::{Neighbours, Tables};

/// How old what is known may be. A neighbour that does not answer any more is given up in seconds, not in less.
const FRESH: Duration = Duration::from_millis(200);
/// Between two looks that strangers cause, and how many times as long as a look takes.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_FACTOR: u32 = 10;

/// Addresses that are remembered to have had a MAC, twice as many in all.
const MAX_MET: usize = 2048;

/// Where a sender is, as far as ARP knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// It has a MAC.
    Near,
    /// It had none after its question came, but once.
    Gone,
    /// Nor ever.
    Nowhere,
    /// It had none before that, and it is too early to look again.
    Pending,
}

#[derive(Debug)]
pub(crate) struct Reach {
    interface: IfName,
    /// None: they cannot be read.
    tables: Option<Arc<Tables>>,
    neighbours: Neighbours,
    /// When that was, and when to look again at the earliest.
    looked: Option<(Instant, Instant)>,
    /// Those that were near, and those before them.
    met: [HashSet<Ipv4Addr>; 2],
}

impl Reach {
    /// Reads the neighbour table as long as it can be read.
    pub fn new(interface: IfName, tables: &io::Result<Arc<Tables>>) -> Self {
        let tables = tables.as_ref().inspect_err(|error| blind(error)).ok().cloned();
        Self {
            interface,
            tables,
            neighbours: Neighbours::default(),
            looked: None,
            met: Default::default(),
        }
    }

    /// Of one whose question came at `since`.
    pub fn of(&mut self, address: IpAddr, since: Instant, now: Instant) -> Where {
        let IpAddr::V4(address) = address else { return Where::Near };
        let fresh = self.looked.filter(|(looked, _)| now.duration_since(*looked) < FRESH);
        match fresh {
            _ if self.tables.is_none() => {}
            Some(_) if self.neighbours.reach(address) => {}
            Some((looked, _)) if looked >= since => {}
            Some((_, again)) if again > now => return Where::Pending,
            _ => self.look(now),
        }
        self.known(address)
    }

    /// When to ask again about one that is `Pending`.
    pub(crate) fn recheck_at(&self) -> Option<Instant> {
        self.looked.map(|(_, again)| again)
    }

    fn known(&mut self, address: Ipv4Addr) -> Where {
        if self.tables.is_none() {
            return Where::Near;
        }
        if !self.neighbours.reach(address) {
            let was_met = self.met.iter().any(|met| met.contains(&address));
            return if was_met { Where::Gone } else { Where::Nowhere };
        }
        let [met, before] = &mut self.met;
        if met.len() >= MAX_MET {
            *before = std::mem::take(met);
        }
        met.insert(address);
        Where::Near
    }

    #[expect(clippy::disallowed_methods, reason = "how long it takes is the machine's to say")]
    fn look(&mut self, now: Instant) {
        let began = Instant::now();
        let Some(tables) = &self.tables else { return };
        match Neighbours::read(tables, &self.interface) {
            Ok(neighbours) => self.neighbours = neighbours,
            Err(error) => {
                blind(&error);
                self.tables = None;
            }
        }
        self.looked = Some((now, now + PAUSE.max(began.elapsed() * PAUSE_FACTOR)));
    }
}

fn blind(error: &io::Error) {
    tracing::warn!(%error, "/proc/net/arp cannot be read: queries from addresses without a host may delay others");
}
