//! The firewall: nf_tables and connection tracking over nfnetlink, on a thread of its own.
//!
//! The kernel works inside `sendmsg`, under a mutex that anybody's commit or socket close may hold for tens of
//! milliseconds, so none of it may run on the reactor. The thread is called `berth-nft` (the name others see in
//! NEWGEN) and keeps its socket for life: closing one waits for the kernel's clean-up.
//!
//! Replies are all queued when `sendmsg` returns; reading until the queue is empty gets them.

mod connections;
mod error;
mod socket;
pub mod trace;
pub mod watch;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::net::Mapping;
use crate::nft::dump::Filter;
use crate::nft::{Batch, Dump, Family, Generation, Ruleset, dump, hooks, table};
use connections::{Looks, Which};
use error::ATTEMPTS;
pub use error::Error;
use socket::{Refusal, Socket};

/// Requests that wait for the thread.
const QUEUE: usize = 8;
/// Rules that are asked for with one request.
const FEW_RULES: u32 = 500;
/// Sets whose elements one socket asks for.
const FEW_SETS: usize = 100;

enum Request {
    Commit(Ruleset, oneshot::Sender<Result<Generation, Error>>),
    Remove(Vec<(Family, String)>, oneshot::Sender<Result<Generation, Error>>),
    Peek(Filter, oneshot::Sender<Result<Ruleset, Error>>),
    Dump(Filter, oneshot::Sender<Result<(Generation, Ruleset), Error>>),
    Hooks(Vec<hooks::Query>, oneshot::Sender<Result<Vec<hooks::Entry>, Error>>),
    Restore(Ruleset, oneshot::Sender<Result<(Generation, bool), Error>>),
    Holds(Ruleset, oneshot::Sender<Result<bool, Error>>),
    Forget(Which, oneshot::Sender<Result<usize, Error>>),
}

/// Two that write at the same pace lose to each other again and again: from the fourth attempt on each waits for a time of
/// its own, 50 ms for all attempts at most.
fn pause(attempt: usize) {
    let longest = u64::try_from(attempt.saturating_sub(3)).unwrap_or(0) * 120;
    let random = RandomState::new().build_hasher().finish();
    std::thread::sleep(Duration::from_micros(random.checked_rem(longest).unwrap_or(0)));
}

/// A handle on the thread that owns the socket. The thread ends when the last handle is gone.
#[derive(Debug, Clone)]
pub struct Firewall {
    requests: mpsc::Sender<Request>,
}

impl Firewall {
    /// Opens the socket in the calling thread's network namespace.
    pub fn start() -> Result<Self, Error> {
        let kernel = Kernel {
            socket: Socket::open().map_err(Error::Open)?,
            second: None,
            looks: Looks::default(),
        };
        let (requests, inbox) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("berth-nft".to_owned());
        thread.spawn(move || kernel.serve(inbox)).map_err(Error::Thread)?;
        Ok(Self { requests })
    }

    /// Makes the tables of `wanted` be as they are there, in one transaction, and nothing when they are already.
    /// Returns the generation in which they hold.
    pub async fn commit(&self, wanted: Ruleset) -> Result<Generation, Error> {
        self.ask(|answer| Request::Commit(wanted, answer)).await
    }

    /// Like [`Firewall::commit`], and whether anything had to be done.
    pub async fn restore(&self, wanted: Ruleset) -> Result<(Generation, bool), Error> {
        self.ask(|answer| Request::Restore(wanted, answer)).await
    }

    /// Whether the tables of `wanted` are as they are there.
    pub async fn holds(&self, wanted: Ruleset) -> Result<bool, Error> {
        self.ask(|answer| Request::Holds(wanted, answer)).await
    }

    /// Removes tables; those that are not there are as wanted.
    pub async fn remove(&self, tables: Vec<(Family, String)>) -> Result<Generation, Error> {
        self.ask(|answer| Request::Remove(tables, answer)).await
    }

    /// What is loaded, as of one generation.
    pub async fn dump(&self, filter: Filter) -> Result<(Generation, Ruleset), Error> {
        self.ask(|answer| Request::Dump(filter, answer)).await
    }

    /// What is loaded, for its counters: without the kernel's mutex, so not of one generation for sure.
    pub async fn peek(&self, filter: Filter) -> Result<Ruleset, Error> {
        self.ask(|answer| Request::Peek(filter, answer)).await
    }

    /// Who sits on these hooks.
    pub async fn hooks(&self, queries: Vec<hooks::Query>) -> Result<Vec<hooks::Entry>, Error> {
        self.ask(|answer| Request::Hooks(queries, answer)).await
    }

    /// Forgets the connections of pod and guest that began when the rules were not there and would stay untranslated
    /// for ever. Returns how many. To be called after the first commit and after every one that healed. Takes some
    /// 20 ms for each address, as the kernel's table is shared by all namespaces, and keeps no other request waiting.
    pub async fn sweep(&self, mapping: Mapping) -> Result<usize, Error> {
        self.ask(|answer| Request::Forget(Which::Untranslated(mapping), answer)).await
    }

    /// Forgets every connection that was translated to or from these addresses. Returns how many.
    pub async fn forget(&self, addresses: Vec<IpAddr>) -> Result<usize, Error> {
        self.ask(|answer| Request::Forget(Which::Translated(addresses), answer)).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        self.requests.send(request(sender)).await.map_err(|_| Error::Gone)?;
        answer.await.map_err(|_| Error::Gone)?
    }
}

/// The thread's side.
struct Kernel {
    socket: Socket,
    /// For the other half of a large dump; as long-lived.
    second: Option<Socket>,
    /// Done when nothing else is asked.
    looks: Looks,
}

impl Kernel {
    fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        while let Some(request) = self.next(&mut inbox) {
            // An asker that is gone wants no answer.
            match request {
                Request::Commit(wanted, answer) => {
                    drop(answer.send(self.commit(&wanted).map(|(generation, _)| generation)));
                }
                Request::Restore(wanted, answer) => drop(answer.send(self.commit(&wanted))),
                Request::Holds(wanted, answer) => drop(answer.send(self.holds(&wanted))),
                Request::Remove(tables, answer) => drop(answer.send(self.remove(&tables))),
                Request::Peek(filter, answer) => {
                    let found = self.dump_once(&filter).and_then(|found| found.ok_or(Error::Busy));
                    drop(answer.send(found));
                }
                Request::Dump(filter, answer) => drop(answer.send(self.dump(&[filter]))),
                Request::Hooks(queries, answer) => drop(answer.send(self.hooks(&queries))),
                Request::Forget(which, answer) => self.looks.add(which, answer),
            }
        }
    }

    /// The next request; as long as there is none, connections are looked through.
    fn next(&mut self, inbox: &mut mpsc::Receiver<Request>) -> Option<Request> {
        while !self.looks.is_empty() {
            match inbox.try_recv() {
                Ok(request) => return Some(request),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.looks.go_on(),
            }
        }
        inbox.blocking_recv()
    }

    fn holds(&mut self, wanted: &Ruleset) -> Result<bool, Error> {
        Ok(self.find(wanted)?.1.canonical() == wanted.canonical())
    }

    /// The generation in which they hold, and whether they did not before.
    fn commit(&mut self, wanted: &Ruleset) -> Result<(Generation, bool), Error> {
        let canonical = wanted.canonical();
        for attempt in 0..ATTEMPTS {
            pause(attempt);
            let (generation, found) = self.find(wanted)?;
            if found.canonical() == canonical {
                return Ok((generation, false));
            }
            let batch =
                Batch::replace(wanted, &found, Some(generation), self.socket.next_sequence())?;
            match self.transact(&batch, wanted) {
                Err(Error::Refused { source, .. }) if restart(&source) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok((after(generation), true)),
            }
        }
        Err(Error::Busy)
    }

    /// The tables that `wanted` names, as they are now.
    fn find(&mut self, wanted: &Ruleset) -> Result<(Generation, Ruleset), Error> {
        let named = wanted.tables.iter().map(|table| Filter::table(table.family, &table.name));
        self.dump(&named.collect::<Vec<_>>())
    }

    fn remove(&mut self, tables: &[(Family, String)]) -> Result<Generation, Error> {
        let named: Vec<(Family, &str)> =
            tables.iter().map(|(family, name)| (*family, name.as_str())).collect();
        let batch = Batch::remove(&named, self.socket.next_sequence());
        self.transact(&batch, &Ruleset::default())?;
        self.generation()
    }

    fn transact(&mut self, batch: &Batch, ruleset: &Ruleset) -> Result<(), Error> {
        self.socket.used(batch.len());
        let answers = self.socket.ask(batch.bytes()).map_err(Error::Talk)?;
        let mut acknowledged = false;
        for answer in answers.outcomes() {
            match answer.refusal {
                None => acknowledged = true,
                Some(refusal) => return Err(blame(batch, ruleset, answer.sequence, refusal)),
            }
        }
        if acknowledged || batch.is_empty() {
            Ok(())
        } else {
            Err(Error::Talk(io::ErrorKind::UnexpectedEof.into()))
        }
    }

    fn generation(&mut self) -> Result<Generation, Error> {
        let sequence = self.socket.next_sequence();
        self.socket.used(1);
        let answers = self.socket.ask(&dump::generation_request(sequence)).map_err(Error::Talk)?;
        let found = answers.messages().find_map(|message| dump::generation(&message));
        match (found, answers.outcomes().find_map(|answer| answer.refusal)) {
            (Some(generation), _) => Ok(generation),
            (None, Some(refusal)) => Err(Error::Talk(refusal.error)),
            (None, None) => Err(Error::Talk(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Whether the generation is still this one and no transaction is under way.
    fn barrier(&mut self, generation: Generation) -> Result<bool, Error> {
        let batch = Batch::barrier(generation, self.socket.next_sequence());
        self.socket.used(batch.len());
        let answers = self.socket.ask(batch.bytes()).map_err(Error::Talk)?;
        match answers.outcomes().find_map(|answer| answer.refusal) {
            None => Ok(true),
            Some(refusal) if restart(&refusal.error) => Ok(false),
            Some(refusal) => Err(Error::Talk(refusal.error)),
        }
    }

    fn dump(&mut self, filters: &[Filter]) -> Result<(Generation, Ruleset), Error> {
        for attempt in 0..ATTEMPTS {
            pause(attempt);
            let generation = self.generation()?;
            // Equal generations before and after prove nothing: dumps taken while a transaction is being prepared
            // tell objects twice or not at all. The barrier waits for it.
            if self.barrier(generation)?
                && let Some(ruleset) = self.dump_each(filters)?
                && self.barrier(generation)?
            {
                return Ok((generation, ruleset));
            }
        }
        Err(Error::Busy)
    }

    fn dump_each(&mut self, filters: &[Filter]) -> Result<Option<Ruleset>, Error> {
        let mut found = Ruleset::default();
        for filter in filters {
            let Some(ruleset) = self.dump_once(filter)? else { return Ok(None) };
            found.tables.extend(ruleset.tables);
        }
        Ok(Some(found))
    }

    /// None when the kernel says that the ruleset changed under the dump.
    fn dump_once(&mut self, filter: &Filter) -> Result<Option<Ruleset>, Error> {
        let mut dump = Dump::new(filter.clone());
        let requests = dump::requests(filter, self.socket.next_sequence());
        let complete =
            collect(&mut self.socket, &requests, &mut dump)? && self.dump_rules(&mut dump)?;
        if !complete {
            return Ok(None);
        }
        let mut requests = dump.set_requests(self.socket.next_sequence());
        let half = if requests.len() > FEW_SETS { requests.len() / 2 } else { requests.len() };
        let theirs = requests.split_off(half);
        let complete = self.collect_both(&requests, &theirs, &mut dump)?;
        Ok(complete.then(|| dump.finish()))
    }

    fn dump_rules(&mut self, dump: &mut Dump) -> Result<bool, Error> {
        let mut parts = dump.rule_requests(FEW_RULES, 2, self.socket.next_sequence()).into_iter();
        let (ours, theirs) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        self.collect_both(&ours, &theirs, dump)
    }

    /// Most of a large dump is the kernel's work, which two sockets can ask for at a time.
    fn collect_both(
        &mut self,
        ours: &[Vec<u8>],
        theirs: &[Vec<u8>],
        dump: &mut Dump,
    ) -> Result<bool, Error> {
        if theirs.is_empty() {
            return collect(&mut self.socket, ours, dump);
        }
        let second = match &mut self.second {
            Some(second) => second,
            none => none.insert(Socket::open().map_err(Error::Open)?),
        };
        let mut fork = dump.fork();
        let (first, rest) = std::thread::scope(|scope| {
            let rest = scope.spawn(|| collect(second, theirs, &mut fork));
            (collect(&mut self.socket, ours, dump), rest.join())
        });
        dump.join(fork);
        Ok(first? & rest.map_err(|_| Error::Gone)??)
    }

    /// A family or a device that the kernel knows nothing of has nothing to tell; when it knows none, it is the
    /// subsystem that is missing.
    fn hooks(&mut self, queries: &[hooks::Query]) -> Result<Vec<hooks::Entry>, Error> {
        let mut entries = Vec::new();
        let mut refused = None;
        let mut answered = false;
        for query in queries {
            let request = query.request(self.socket.next_sequence());
            self.socket.used(1);
            let answers = self.socket.dump(&request).map_err(Error::Talk)?;
            match answers.outcomes().find_map(|answer| answer.refusal) {
                Some(refusal) if refusal.error.raw_os_error() == Some(libc::EPERM) => {
                    return Err(Error::Talk(refusal.error));
                }
                Some(refusal) => refused = Some(refusal.error),
                None => {
                    answered = true;
                    entries.extend(answers.messages().filter_map(|message| query.entry(&message)));
                }
            }
        }
        match refused.filter(|_| !answered) {
            Some(source) => Err(Error::Missing {
                missing: "nfnetlink_hook (CONFIG_NETFILTER_NETLINK_HOOK)".to_owned(),
                subject: "`list hooks`".to_owned(),
                table: None,
                source,
            }),
            None => Ok(entries),
        }
    }
}

/// Asks for one dump after another and adds what they tell; false when that changed meanwhile. The table, chain
/// or set that is gone, or was never there, has nothing to tell.
fn collect(socket: &mut Socket, requests: &[Vec<u8>], dump: &mut Dump) -> Result<bool, Error> {
    socket.used(requests.len());
    for request in requests {
        let answers = socket.dump(request).map_err(Error::Talk)?;
        if answers.interrupted() {
            return Ok(false);
        }
        match answers.outcomes().find_map(|answer| answer.refusal) {
            Some(refusal) if refusal.error.raw_os_error() == Some(libc::ENOENT) => {}
            Some(refusal) => return Err(Error::Talk(refusal.error)),
            None => answers.messages().for_each(|message| dump.add(&message)),
        }
    }
    Ok(true)
}

/// The generation that a transaction makes of this one (net/netfilter/nf_tables_api.c, `nf_tables_commit`). To ask
/// for it would be too late: another may have followed, and its rules are not known to be right.
fn after(generation: Generation) -> Generation {
    generation.wrapping_add(1).max(1)
}

/// The part of the ruleset that the kernel did not like.
fn blame(batch: &Batch, ruleset: &Ruleset, sequence: u32, refusal: Refusal) -> Error {
    let Refusal { error: source, offset, message } = refusal;
    if let Some(table) = batch.table(ruleset, sequence) {
        let subject = batch.describe(ruleset, sequence, None);
        match source.raw_os_error() {
            Some(libc::EPERM) => return Error::Owned { subject, source },
            // Those of family inet are what all else is made of.
            Some(libc::EOPNOTSUPP) if table.family != Family::INET => {
                return Error::NoFamily { family: table.family, subject, source };
            }
            // Flags it does not know.
            Some(libc::EOPNOTSUPP | libc::EINVAL) if table.flags & table::PERSIST != 0 => {
                return Error::Owner { subject, source };
            }
            _ => {}
        }
    }
    let table = batch.part_of(ruleset, sequence).map(|table| (table.family, table.name.clone()));
    let unknown = source.raw_os_error() == Some(libc::ENOENT);
    let missing = if unknown { batch.missing(ruleset, sequence, offset) } else { None };
    match missing {
        Some(missing) => {
            let subject = batch.describe(ruleset, sequence, None);
            Error::Missing { missing, subject, table, source }
        }
        None => {
            let subject = batch.describe(ruleset, sequence, offset);
            Error::Refused { subject, message, table, source }
        }
    }
}

/// ERESTART: the generation is not the one the transaction was made for.
fn restart(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ERESTART)
}
