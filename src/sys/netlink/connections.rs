//! Connections that must be forgotten, looked for one datagram of the table at a time: the table is as large as the guest
//! has made it, and neither memory nor whoever repairs the rules meanwhile has to bear it whole.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use tokio::sync::oneshot;

use super::Error;
use super::socket::Socket;
use crate::net::Mapping;
use crate::nft::attr::Message;
use crate::nft::conntrack;

/// Entries deleted per datagram.
const DELETIONS: usize = 200;

/// Which ones.
#[derive(Debug)]
pub(super) enum Which {
    /// Those of pod and guest that should have been translated and were not.
    Untranslated(Mapping),
    /// Those that were translated to or from these addresses.
    Translated(Vec<IpAddr>),
}

impl Which {
    fn requests(&self, first: u32) -> Vec<Vec<u8>> {
        match self {
            Self::Untranslated(mapping) => {
                let inbound =
                    |(sequence, pod): (u32, &Ipv4Addr)| conntrack::inbound_request(*pod, sequence);
                let outbound = conntrack::outbound_request(mapping.guest, first);
                let mut requests = vec![outbound];
                requests.extend((first.wrapping_add(1)..).zip(&mapping.pod).map(inbound));
                let next = u32::try_from(requests.len()).map(|sent| first.wrapping_add(sent));
                let six = next.ok().filter(|_| mapping.six.is_some());
                requests.extend(six.map(|sequence| conntrack::all_request(true, sequence)));
                requests
            }
            Self::Translated(addresses) => {
                let of = |is_six| addresses.iter().any(|address| address.is_ipv6() == is_six);
                let versions = [false, true].into_iter().filter(|is_six| of(*is_six));
                (first..)
                    .zip(versions)
                    .map(|(at, is_six)| conntrack::all_request(is_six, at))
                    .collect()
            }
        }
    }

    fn find(&self, message: &Message<'_>) -> Option<conntrack::Stale> {
        match self {
            Self::Untranslated(mapping) => conntrack::stale(message, mapping),
            Self::Translated(addresses) => conntrack::translated(message, addresses),
        }
    }
}

pub(super) type Tell = oneshot::Sender<Result<usize, Error>>;

/// Looks that are under way or wait, the first one at work.
#[derive(Debug, Default)]
pub(super) struct Looks {
    waiting: VecDeque<Look>,
    /// For the dump, and for deletions meanwhile.
    sockets: Option<(Socket, Socket)>,
}

#[derive(Debug)]
struct Look {
    which: Which,
    tell: Tell,
    /// None: it has not begun. Dumps that are still to be asked for.
    left: Option<Vec<Vec<u8>>>,
    /// A dump is being read.
    reads: bool,
    deleted: usize,
}

impl Looks {
    /// One more thing to look for; `tell` gets the count of deleted entries.
    pub fn add(&mut self, which: Which, tell: Tell) {
        self.waiting.push_back(Look { which, tell, left: None, reads: false, deleted: 0 });
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Reads one datagram, and deletes what is to go of it.
    pub(crate) fn go_on(&mut self) {
        let Some(look) = self.waiting.front_mut() else { return };
        let ended = match open(&mut self.sockets) {
            Ok((reader, deleter)) => look.go_on(reader, deleter).transpose(),
            Err(error) => Some(Err(Error::Open(error))),
        };
        if let Some(result) = ended
            && let Some(look) = self.waiting.pop_front()
        {
            // An asker that is gone wants no answer.
            let _ = look.tell.send(result);
        }
    }
}

/// Kept for life: closing one waits for the kernel's clean-up.
fn open(sockets: &mut Option<(Socket, Socket)>) -> io::Result<&mut (Socket, Socket)> {
    Ok(match sockets {
        Some(sockets) => sockets,
        none => none.insert((Socket::open()?, Socket::open()?)),
    })
}

impl Look {
    /// How many are deleted, when there is nothing more to read.
    fn go_on(&mut self, reader: &mut Socket, deleter: &mut Socket) -> Result<Option<usize>, Error> {
        let left = self.left.get_or_insert_with(|| {
            let requests = self.which.requests(reader.next_sequence());
            reader.used(requests.len());
            requests
        });
        if !self.reads {
            let Some(request) = left.pop() else { return Ok(Some(self.deleted)) };
            reader.send(&request).map_err(Error::Conntrack)?;
            self.reads = true;
        }
        let answers = reader.next().map_err(Error::Conntrack)?;
        if let Some(refusal) = answers.outcomes().find_map(|answer| answer.refusal) {
            return Err(Error::Conntrack(refusal.error));
        }
        self.reads = !answers.ended();
        let found: Vec<_> =
            answers.messages().filter_map(|message| self.which.find(&message)).collect();
        for some in found.chunks(DELETIONS) {
            self.deleted += delete(deleter, some)?;
        }
        Ok(None)
    }
}

fn delete(socket: &mut Socket, stale: &[conntrack::Stale]) -> Result<usize, Error> {
    let first = socket.next_sequence();
    socket.used(stale.len());
    let numbered = (0..).zip(stale);
    let bytes: Vec<u8> = numbered
        .flat_map(|(number, entry)| entry.delete_request(first.wrapping_add(number)))
        .collect();
    let answers = socket.ask(&bytes).map_err(Error::Conntrack)?;
    let mut deleted = 0;
    for answer in answers.outcomes() {
        match answer.refusal {
            None => deleted += 1,
            Some(refusal) if refusal.error.raw_os_error() == Some(libc::ENOENT) => {}
            Some(refusal) => return Err(Error::Conntrack(refusal.error)),
        }
    }
    Ok(deleted)
}
