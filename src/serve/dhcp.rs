//! The DHCP task: DHCPv4, DHCPv6 or both, and the file that keeps the leases of both.
//!
//! Requests are taken in batches: all that wait are answered, what has to be remembered is written once, then the
//! replies leave. One disk access serves them all.

mod four;
mod six;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::{interval, sleep_until};

use self::four::Four;
use self::six::Six;
pub(super) use self::six::to;
use super::store::{Both, Keeping, Store, header};
use super::tally::Tally;
use super::{On, Wanted};
use crate::net::{IfName, MacAddr};
use crate::plan::GuestPlan;
use crate::plan::serve::{Dhcp6Plan, LeasesPlan, ServePlan};
use crate::proto::Now;
use crate::proto::dhcp4::{self, OneGuest, Settings};
use crate::proto::dhcp6::Addresses;
use crate::proto::dns::Named;
use crate::proto::leases::{Address, Lease, Leases, State, is_ours};
use crate::sys::lease_file::{self, LeaseFile};
use crate::sys::socket::{self, Dhcp, Dhcp6};

/// Datagrams answered with one access to the disk.
const BATCH: usize = 128;
/// How often what waits is looked at.
const TICK: Duration = Duration::from_millis(10);
/// Between two words in the log about the same trouble.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Who serves what, from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    interface: IfName,
    mac: MacAddr,
    four: Option<FourTask>,
    six: Option<SixTask>,
    /// None: leases are not kept.
    leases: Option<LeasesPlan>,
}

/// Of IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FourTask {
    address: Ipv4Addr,
    /// An address that is our own, too, and what its client is known by instead (`nat::alias4`).
    alias: Option<(Ipv4Addr, Ipv4Addr)>,
    settings: Settings,
    /// Addresses that may be remembered.
    limit: usize,
    /// The guest's address and MAC, whose first ACK is worth a word.
    guest: Option<(Ipv4Addr, MacAddr)>,
}

/// Of IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SixTask {
    address: Ipv6Addr,
    plan: Dhcp6Plan,
}

impl Task {
    /// The one guest of `berth run`.
    pub fn one_guest(plan: &GuestPlan) -> Self {
        let guest = OneGuest {
            server: plan.gateway,
            routed: plan.routed,
            guest: plan.address,
            dns: plan.dns.clone(),
            search: plan.search.clone(),
            hostname: plan.hostname.clone(),
            mtu: plan.mtu,
            lease_secs: plan.lease_secs,
        };
        let four = FourTask {
            address: plan.gateway,
            alias: plan.alias.map(|alias| (plan.address.address, alias)),
            settings: guest.into(),
            limit: 1,
            guest: Some((plan.address.address, plan.mac)),
        };
        let (interface, mac) = (plan.interface.clone(), plan.gateway_mac);
        Self { interface, mac, four: Some(four), six: None, leases: None }
    }

    /// Whether clients are told this address, and a router or none.
    pub fn gives(&self, plan: &GuestPlan) -> bool {
        let of_plan = dhcp4::Addresses::OneGuest(plan.address.address);
        let subnets = self.four.iter().flat_map(|four| &four.settings.subnets);
        subnets.into_iter().any(|subnet| {
            subnet.addresses == of_plan && subnet.parameters.router.is_some() == plan.routed
        })
    }

    /// `berth serve`, when it serves DHCP.
    pub(crate) fn from_serve(plan: &ServePlan) -> Option<Self> {
        let four = plan.dhcp.as_ref().zip(plan.address).map(|(dhcp, address)| FourTask {
            address: address.address,
            alias: None,
            settings: dhcp.settings.clone(),
            limit: dhcp.limit,
            guest: None,
        });
        let six = plan.dhcp6.clone().zip(plan.address6);
        let six = six.map(|(plan, address)| SixTask { address: address.address, plan });
        (four.is_some() || six.is_some()).then(|| Self {
            interface: plan.interface.clone(),
            mac: plan.mac,
            four,
            six,
            leases: plan.leases.clone(),
        })
    }

    fn keeping(&self) -> Keeping<'_> {
        let six = self.six.as_ref().and_then(|six| match &six.plan.settings.addresses {
            Addresses::Pool(pool) => Some((pool, six.plan.limit)),
            Addresses::OneGuest { .. } => None,
        });
        Keeping {
            file: self.leases.as_ref().map(|leases| leases.file.as_path()),
            sync: self.leases.as_ref().is_some_and(|leases| leases.sync),
            four: self.four.as_ref().map(|four| (&four.settings, four.limit)),
            six,
        }
    }
}

/// Why the task ended.
#[derive(Debug)]
pub enum End {
    Socket(io::Error),
    Leases(lease_file::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => error.fmt(f),
            Self::Leases(error) => f.write_str(&crate::exit::error_chain(error)),
        }
    }
}

/// Opens and closes the lease file: whether it can be had is known before anything is served.
pub fn check(leases: &LeasesPlan) -> Result<(), lease_file::Error> {
    LeaseFile::open(&leases.file, header(leases.ipv6), is_ours).map(drop)
}

/// Sockets of each family that is served.
#[derive(Debug)]
pub(super) struct Sockets {
    four: Option<Dhcp>,
    six: Option<Dhcp6>,
}

/// Its sockets, and one more where it looks who has an address.
pub(super) fn bind(on: &On<Task>) -> Result<Sockets, socket::Error> {
    let (task, off) = (&on.plan, on.off);
    let interface = &task.interface;
    let four = |four: &FourTask| {
        let mut sockets = socket::dhcp(interface, four.address, off)?;
        if four.settings.probe
            && let Err(error) = sockets.listen_to_arp(interface)
        {
            tracing::warn!(%interface, %error, "--probe needs CAP_NET_RAW: who has an address is not seen");
        }
        Ok(sockets)
    };
    let six = |six: &SixTask| socket::dhcp6_of_link(interface, on.link, six.address, off);
    Ok(Sockets {
        four: task.four.as_ref().map(four).transpose()?,
        six: task.six.as_ref().map(six).transpose()?,
    })
}

/// Serves until a socket fails; the end is why.
/// Names of clients go to whoever wants them.
pub(super) async fn serve(
    sockets: Sockets,
    task: Task,
    wanted: watch::Receiver<Wanted>,
    tally: Tally,
) -> End {
    let (store, leases) = match Store::open(&task.keeping(), now()) {
        Ok(opened) => opened,
        Err(error) => return End::Leases(error),
    };
    let Both { four: leases4, six: leases6 } = leases;
    let Task { interface, mac, four, six, .. } = task;
    let four = match sockets.four.zip(four) {
        Some((sockets, four)) => {
            let four = Four::new(sockets, interface.clone(), mac, four, leases4, tally.clone());
            Served::Here(Box::new(four))
        }
        None => Served::Idle(leases4),
    };
    let six = match sockets.six.zip(six) {
        Some((sockets, six)) => {
            match Six::new(sockets, interface, six.plan.settings, leases6, tally) {
                Ok(six) => Served::Here(Box::new(six)),
                Err(error) => return End::Socket(io::Error::other(error)),
            }
        }
        None => Served::Idle(leases6),
    };
    let server = DhcpServer { four, six, store, started: now().monotonic, wanted };
    End::Socket(server.run().await)
}

/// The clock is read here and handed to the cores.
#[expect(clippy::disallowed_methods, reason = "a verb")]
fn now() -> Now {
    Now { monotonic: Instant::now(), wall: SystemTime::now() }
}

/// One family: who serves it, or its leases, which stay in the file.
enum Served<S, L> {
    Here(Box<S>),
    Idle(L),
}

impl<S, L> Served<S, L> {
    fn here(&self) -> Option<&S> {
        match self {
            Self::Here(served) => Some(served),
            Self::Idle(_) => None,
        }
    }

    fn here_mut(&mut self) -> Option<&mut S> {
        match self {
            Self::Here(served) => Some(served),
            Self::Idle(_) => None,
        }
    }
}

impl Served<Four, Leases> {
    fn leases(&mut self) -> &mut Leases {
        match self {
            Self::Here(four) => four.responder.leases(),
            Self::Idle(leases) => leases,
        }
    }
}

impl Served<Six, Leases<Ipv6Addr>> {
    fn leases(&mut self) -> &mut Leases<Ipv6Addr> {
        match self {
            Self::Here(six) => six.responder.leases(),
            Self::Idle(leases) => leases,
        }
    }
}

struct DhcpServer {
    four: Served<Four, Leases>,
    six: Served<Six, Leases<Ipv6Addr>>,
    store: Option<Store>,
    started: Instant,
    wanted: watch::Receiver<Wanted>,
}

impl DhcpServer {
    async fn run(mut self) -> io::Error {
        let mut tick = interval(TICK);
        loop {
            let rewriting = self.store.as_ref().is_some_and(Store::is_rewriting);
            let next_check = self.store.as_ref().map(|store| store.next_check(now().monotonic));
            let waits = rewriting || self.four.here().is_some_and(Four::waits);
            tokio::select! {
                ready = readable4(self.four.here()), if self.four.here().is_some() => if let Err(error) = ready {
                    return error;
                },
                ready = readable6(self.six.here()), if self.six.here().is_some() => if let Err(error) = ready {
                    return error;
                },
                _ = tick.tick(), if waits => {}
                () = sleep_until(next_check.unwrap_or(self.started).into()), if next_check.is_some() => self.check_store().await,
                Ok(()) = self.wanted.changed() => self.forget_named(),
            }
            let taken = self.four.here_mut().map_or(Ok(()), Four::take);
            let taken = taken.and_then(|()| self.six.here_mut().map_or(Ok(()), Six::take));
            if let Err(error) = taken {
                return error;
            }
            self.send().await;
            self.publish_names().await;
        }
    }

    /// The lease file may need something though nobody asks.
    async fn check_store(&mut self) {
        if let Some(store) = &mut self.store {
            store.check(&Both { four: self.four.leases(), six: self.six.leases() }, now()).await;
        }
    }

    /// Sends what the disk has taken.
    async fn send(&mut self) {
        let mut written = true;
        if let Some(store) = &mut self.store {
            let mut both = Both { four: self.four.leases(), six: self.six.leases() };
            written = store.write(&mut both, now()).await;
        }
        if let Some(four) = self.four.here_mut() {
            four.send(written);
        }
        if let Some(six) = self.six.here_mut() {
            six.send(written);
        }
        if let Some(store) = &mut self.store {
            store.tidy(&Both { four: self.four.leases(), six: self.six.leases() }, now()).await;
        }
    }

    fn forget_named(&mut self) {
        self.four.leases().forget_named();
        self.six.leases().forget_named();
    }

    /// Tells the names of clients to who wants them.
    async fn publish_names(&mut self) {
        let wanted = self.wanted.borrow().clone();
        let Some(wanted) = wanted else { return };
        let mut changed: Vec<Named> = Vec::new();
        if self.four.here().is_some() {
            changed.extend(self.four.leases().named().into_iter().map(named));
        }
        if self.six.here().is_some() {
            changed.extend(self.six.leases().named().into_iter().map(named));
        }
        for named in changed {
            if wanted.send(named).await.is_err() {
                return self.forget_named();
            }
        }
    }
}

fn named<A: Address + Into<IpAddr>>(lease: Lease<A>) -> Named {
    let name = lease.name.filter(|_| lease.state == State::Bound);
    Named { address: lease.address.into(), name, until: lease.until }
}

async fn readable4(four: Option<&Four>) -> io::Result<()> {
    match four {
        Some(four) => four.sockets.udp.readable().await,
        None => std::future::pending().await,
    }
}

async fn readable6(six: Option<&Six>) -> io::Result<()> {
    match six {
        Some(six) => six.readable().await,
        None => std::future::pending().await,
    }
}
