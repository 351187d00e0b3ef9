//! Which name servers answer. Those that do are asked in the order they were given; one that was silent comes last until
//! it has answered again, and is tried with a question of its own now and then.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// First and longest pause until a silent server is tried again; it doubles.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);

/// Which name servers answer.
#[derive(Debug, Default)]
pub struct Servers {
    silent: BTreeMap<SocketAddr, Silent>,
}

#[derive(Debug)]
struct Silent {
    pause: Duration,
    again: Instant,
}

impl Servers {
    /// In the order they are to be asked.
    pub(crate) fn ranked(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut ranked = servers.to_vec();
        ranked.sort_by_key(|server| self.silent.get(server).map(|silent| silent.pause));
        ranked
    }

    /// The server is in order.
    pub fn answered(&mut self, server: SocketAddr) {
        self.silent.remove(&server);
    }

    pub(crate) fn was_silent(&mut self, now: Instant, server: SocketAddr) {
        let pause =
            self.silent.get(&server).map_or(FIRST, |silent| (silent.pause * 2).min(LONGEST));
        self.silent.insert(server, Silent { pause, again: now + pause });
    }

    /// A silent one that is to be tried again now; not the one that is asked anyway.
    pub fn due(&mut self, now: Instant, servers: &[SocketAddr]) -> Option<SocketAddr> {
        let asked = self.ranked(servers).first().copied();
        let time = |server: &&SocketAddr| {
            Some(**server) != asked
                && self.silent.get(server).is_some_and(|silent| silent.again <= now)
        };
        let server = servers.iter().find(time).copied()?;
        if let Some(silent) = self.silent.get_mut(&server) {
            silent.again = now + silent.pause;
        }
        Some(server)
    }

    /// Whether none of them has answered the last two times it was asked.
    pub(crate) fn are_silent(&self, servers: &[SocketAddr]) -> bool {
        let is_silent = |server| self.silent.get(server).is_some_and(|silent| silent.pause > FIRST);
        !servers.is_empty() && servers.iter().all(is_silent)
    }

    /// All servers are in order again.
    pub fn forget(&mut self) {
        self.silent.clear();
    }
}
