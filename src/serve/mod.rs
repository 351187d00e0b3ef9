//! Drive the DHCP and DNS cores with sockets and timers, for as long as there is something to serve.
//!
//! Each service is a task of its own, on a thread without any capability (`packets`), on a target that may change: another link of the same name, another address, or
//! nothing for a while. One that ends or panics is started again, with a pause and a line in the log; clients notice at
//! most a question asked twice.
//!
//! ```text
//!  run:   the healer made another bridge ─┐
//!  serve: the link or its addresses differ ┴─► target ─► each service whose part of it differs is bound anew
//! ```

mod connections;
pub mod dhcp;
mod dhcp6;
mod dns;
mod follow;
mod health;
pub mod leases;
mod packets;
mod reach;
mod resolver;
mod router;
mod store;
mod tally;
#[cfg(test)]
mod tests;
mod upstreams;

use std::fmt;
use std::io;
use std::path::PathBuf;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::confine;
use crate::exit::{Code, Coded};
use crate::facts::Interface;
use crate::faults::Fault;
use crate::net::IfName;
use crate::plan::GuestPlan;
use crate::plan::serve::{DnsPlan, LeasesPlan, ServePlan};
use crate::proto::dhcp6::Settings;
use crate::proto::dns::Named;
use crate::sys::frames::{self, Frames};
use crate::sys::socket;

pub use follow::Follower;
use health::Record;
pub use health::{Health, Services};
use packets::Packets;
pub use packets::Starting;
pub use tally::{BOUNDS, Counted, Tally};

/// Where names of DHCP clients are wanted: by the DNS service, when it runs.
type Wanted = Option<mpsc::Sender<Named>>;

/// What is served, and on which link: sockets stay with the link they were bound to, even when it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its index.
    pub link: u32,
    interface: IfName,
    /// None: not served, or not now.
    dhcp: Option<dhcp::Task>,
    dns: Option<DnsPlan>,
    router: Option<router::Task>,
    /// Of the one guest.
    dhcp6: Option<Settings>,
    /// Files that are read and written, now or when there is something to serve.
    leases: Option<LeasesPlan>,
    resolv_conf: Option<PathBuf>,
    /// What turns the first two off.
    off: [&'static str; 2],
}

impl Target {
    /// For the one guest of `berth run`; None when nothing is to be served.
    pub fn one_guest(plan: &GuestPlan, link: u32) -> Option<Self> {
        let mut target = Self {
            link,
            interface: plan.interface.clone(),
            dhcp: Some(dhcp::Task::one_guest(plan)),
            dns: Some(DnsPlan::one_guest(plan)),
            router: None,
            dhcp6: None,
            leases: None,
            resolv_conf: Some(plan.resolv_conf.clone()),
            off: ["set NO_DHCP to serve neither DHCP nor DNS"; 2],
        };
        target.follow(plan);
        plan.serve.then_some(target)
    }

    /// For `berth serve`.
    pub(crate) fn from_serve(plan: &ServePlan, link: u32) -> Self {
        Self {
            link,
            interface: plan.interface.clone(),
            dhcp: dhcp::Task::from_serve(plan),
            dns: plan.dns.clone(),
            router: plan.router.clone().map(|advertisement| router::Task {
                port: router::Port::Link(plan.interface.clone()),
                advertisement,
            }),
            dhcp6: None,
            leases: plan.leases.clone(),
            resolv_conf: plan.resolv_conf.clone(),
            off: ["leave DHCP to it with --no-dhcp", "leave DNS to it with --no-dns"],
        }
    }

    /// Nothing, as long as that is so.
    fn without_services(&self) -> Self {
        Self { dhcp: None, dns: None, router: None, dhcp6: None, ..self.clone() }
    }

    fn part<P: Clone>(&self, plan: Option<&P>, off: usize) -> Option<On<P>> {
        let off = self.off.get(off).copied().unwrap_or_default();
        Some(On { link: self.link, interface: self.interface.clone(), off, plan: plan?.clone() })
    }

    fn dhcp(&self) -> Option<On<dhcp::Task>> {
        self.part(self.dhcp.as_ref(), 0)
    }

    fn dns(&self) -> Option<On<DnsPlan>> {
        self.part(self.dns.as_ref(), 1)
    }

    fn router(&self) -> Option<On<router::Task>> {
        self.part(self.router.as_ref(), 0)
    }

    fn dhcp6(&self) -> Option<On<Settings>> {
        self.part(self.dhcp6.as_ref(), 0)
    }

    /// What the guest is told of its addresses now; a router that is none any more says so. True when it is something
    /// else.
    pub fn follow(&mut self, plan: &GuestPlan) -> bool {
        let before = self.clone();
        if let Some(dhcp) = self.dhcp.as_mut().filter(|dhcp| !dhcp.gives(plan)) {
            *dhcp = dhcp::Task::one_guest(plan);
        }
        if let Some(dns) = &mut self.dns {
            dns.address6 = plan.ipv6.as_ref().map(|ipv6| ipv6.dns);
        }
        match &plan.ipv6 {
            Some(ipv6) => {
                let (tap, advertisement) = (ipv6.control.clone(), ipv6.advertisement.clone());
                self.router = Some(router::Task { port: router::Port::Tap(tap), advertisement });
                self.dhcp6 = Some(ipv6.dhcp.clone());
            }
            None => {
                self.dhcp6 = None;
                if let Some(router) = &mut self.router {
                    router.advertisement = router.advertisement.withdrawn();
                }
            }
        }
        before != *self
    }

    /// This kernel has no way for the guest's IPv6.
    fn without_ipv6(&mut self) {
        (self.router, self.dhcp6) = (None, None);
        if let Some(dns) = &mut self.dns {
            dns.address6 = None;
        }
    }
}

/// One service's part of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
struct On<P> {
    link: u32,
    interface: IfName,
    off: &'static str,
    plan: P,
}

fn bind_dhcp(on: &On<dhcp::Task>) -> Result<dhcp::Sockets, Error> {
    Ok(dhcp::bind(on)?)
}

fn bind_dns(on: &On<DnsPlan>) -> Result<socket::Dns, Error> {
    let four = on.plan.address.map(|address| socket::dns(&on.interface, address, on.off));
    let mut dns = socket::Dns { four: four.transpose()?, six: None };
    let six = on.plan.address6.map(|address| socket::dns6(&on.interface, address, on.off));
    match six.transpose() {
        Ok(six) => dns.six = six,
        Err(error) if dns.four.is_none() => return Err(error.into()),
        // The guest has its IPv4 server all the same.
        Err(error) => {
            let error = crate::exit::error_chain(&error);
            tracing::warn!(error, "DNS is not served over IPv6");
        }
    }
    Ok(dns)
}

fn bind_dhcp6(on: &On<Settings>) -> Result<UdpSocket, Error> {
    Ok(socket::dhcp6(&on.interface, on.link, on.off)?)
}

fn bind_router(on: &On<router::Task>) -> Result<Frames, Error> {
    Ok(router::bind(&on.plan)?)
}

/// What can keep us from serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Socket(#[from] socket::Error),
    #[error(transparent)]
    Frames(#[from] frames::Error),
    #[error(transparent)]
    Leases(#[from] crate::sys::lease_file::Error),
    #[error("starting the thread that reads packets")]
    Thread(#[from] io::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Socket(_) | Self::Frames(_) | Self::Leases(_) | Self::Thread(_) => Code::Serve,
        }
    }

    fn fault(&self) -> Option<&'static Fault> {
        match self {
            Self::Socket(error) => error.fault(),
            Self::Frames(_) | Self::Leases(_) | Self::Thread(_) => None,
        }
    }
}

/// Starts the thread that is to serve this, which makes itself ready beside whatever else there is to do. Needs no link.
pub fn prepare(target: &Target) -> Result<Starting, Error> {
    let (leases, resolv_conf) = (target.leases.clone(), target.resolv_conf.clone());
    let starting = Packets::start(move || {
        // The file is made now, if it is not there.
        leases.as_ref().map_or(Ok(()), dhcp::check)?;
        let lease_file = leases.as_ref().map(|leases| leases.file.as_path());
        if let Err(error) = confine::packets_to(resolv_conf.as_deref(), lease_file) {
            tracing::warn!(%error, "the thread that reads packets is confined less than it could be");
        }
        Ok(())
    })?;
    Ok(starting)
}

/// Sockets that are bound: from here on clients may ask.
#[derive(Debug)]
pub struct Bound {
    packets: Packets,
    target: Target,
    dhcp: Option<(On<dhcp::Task>, dhcp::Sockets)>,
    dns: Option<(On<DnsPlan>, socket::Dns)>,
    router: Option<(On<router::Task>, Frames)>,
}

impl Bound {
    /// Binds what is served. Needs the link; the lease file has to be there for the taking, too.
    pub fn new(target: Target) -> Result<Self, Error> {
        let starting = prepare(&target)?;
        Self::on(target, starting)
    }

    /// The same, on the thread that was prepared for it.
    pub fn on(target: Target, starting: Starting) -> Result<Self, Error> {
        let packets = starting.ready()?;
        let _there = packets.enter();
        let dhcp =
            target.dhcp().map(|on| bind_dhcp(&on).map(|sockets| (on, sockets))).transpose()?;
        let dns = target.dns().map(|on| bind_dns(&on).map(|sockets| (on, sockets))).transpose()?;
        // A tap of our own comes later.
        let router = target.router().filter(|on| matches!(on.plan.port, router::Port::Link(_)));
        let router = router.map(|on| bind_router(&on).map(|frames| (on, frames))).transpose()?;
        drop(_there);
        Ok(Self { packets, target, dhcp, dns, router })
    }

    /// Serves what is left of IPv6 with this kernel: nothing was told of it so far.
    pub fn with_less(&mut self, plan: &GuestPlan) {
        match plan.ipv6 {
            Some(_) => drop(self.target.follow(plan)),
            None => self.target.without_ipv6(),
        }
    }

    /// What it was bound for; who sends another one changes what is served.
    pub fn targets(&self) -> watch::Sender<Target> {
        watch::Sender::new(self.target.clone())
    }

    /// Serves what `targets` says, until `stop` turns true or its sender is gone.
    pub async fn run(
        self,
        stop: watch::Receiver<bool>,
        targets: watch::Receiver<Target>,
        health: &watch::Sender<Services>,
        tally: &Tally,
    ) {
        let (wanted, wants) = watch::channel(None);
        let dhcp = restart_forever(
            Service { name: "dhcp", packets: &self.packets, pick: Target::dhcp, bind: bind_dhcp },
            Record::new(health, |services| &mut services.dhcp),
            self.dhcp,
            targets.clone(),
            stop.clone(),
            |sockets, on: On<dhcp::Task>| {
                dhcp::serve(sockets, on.plan, wants.clone(), tally.clone())
            },
        );
        let router = restart_forever(
            Service {
                name: "router",
                packets: &self.packets,
                pick: Target::router,
                bind: bind_router,
            },
            Record::new(health, |services| &mut services.router),
            self.router,
            targets.clone(),
            stop.clone(),
            |frames, on: On<router::Task>| router::serve(frames, on.plan),
        );
        let dhcp6 = restart_forever(
            Service {
                name: "dhcp6",
                packets: &self.packets,
                pick: Target::dhcp6,
                bind: bind_dhcp6,
            },
            Record::new(health, |services| &mut services.dhcp6),
            None,
            targets.clone(),
            stop.clone(),
            |socket, on: On<Settings>| dhcp6::serve(socket, on.plan, tally.clone()),
        );
        let dns = restart_forever(
            Service { name: "dns", packets: &self.packets, pick: Target::dns, bind: bind_dns },
            Record::new(health, |services| &mut services.dns),
            self.dns,
            targets,
            stop,
            |sockets, on: On<DnsPlan>| {
                dns::serve(sockets, on.interface, on.plan, wanted.clone(), tally.clone())
            },
        );
        tokio::join!(dhcp, dns, router, dhcp6);
    }
}

/// `berth serve`: DHCP, DNS or both on one interface, which is followed, until `stop` turns true or its sender is gone.
/// `ready` is called once, when all of it is bound.
pub async fn serve_standalone<P>(
    follower: Follower<'_, P>,
    stop: watch::Receiver<bool>,
    ready: impl FnOnce(),
) -> Result<(), Error>
where
    P: Fn(&Interface) -> Result<ServePlan, crate::plan::serve::Error>,
{
    // The whole of it, so that what cannot be had is known now.
    let bound = Bound::new(follower.target())?;
    let targets = bound.targets();
    follower.begin(&targets);
    ready();
    let health = watch::Sender::default();
    let tally = Tally::default();
    let serving = bound.run(stop, targets.subscribe(), &health, &tally);
    tokio::select! {
        () = serving => Ok(()),
        never = follower.run(&targets) => match never {},
    }
}

/// How one service is had.
struct Service<'a, P, B> {
    name: &'static str,
    packets: &'a Packets,
    pick: fn(&Target) -> Option<On<P>>,
    bind: B,
}

/// Runs a service until told to stop, however often it ends or is to be another one. What it is to be is said by who
/// says so in `targets`.
async fn restart_forever<S, P: Clone + PartialEq, B, F, E>(
    service: Service<'_, P, B>,
    mut record: Record<'_>,
    mut ready: Option<(On<P>, S)>,
    mut targets: watch::Receiver<Target>,
    mut stop: watch::Receiver<bool>,
    serve: impl Fn(S, On<P>) -> F,
) where
    B: Fn(&On<P>) -> Result<S, Error>,
    F: Future<Output = E> + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    let Service { name, packets, pick, bind } = service;
    loop {
        let Some(on) = pick(&targets.borrow_and_update()) else {
            record.is_off();
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = differs(&mut targets, pick, None) => continue,
            }
        };
        let sockets = match ready.take().filter(|(bound, _)| *bound == on) {
            Some((_, sockets)) => Ok(sockets),
            None => {
                let _there = packets.enter();
                bind(&on)
            }
        };
        let ended = match sockets {
            Ok(sockets) => {
                let mut task = packets.spawn(serve(sockets, on.clone()));
                record.begins();
                tokio::select! {
                    () = stopped(&mut stop) => return end(task).await,
                    () = differs(&mut targets, pick, Some(&on)) => {
                        end(task).await;
                        record.forget();
                        continue;
                    }
                    ended = &mut task => match ended {
                        Ok(error) => error.to_string(),
                        Err(panic) => panic.to_string(),
                    },
                    never = record.runs() => match never {},
                }
            }
            Err(error) => crate::exit::error_chain(&error),
        };
        tracing::error!(service = name, error = %ended, "service ended, starting it again");
        let pause = record.ends(ended);
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = differs(&mut targets, pick, Some(&on)) => record.forget(),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Its sockets and files are closed when this returns: the next one wants the same.
async fn end<T>(task: JoinHandle<T>) {
    task.abort();
    let _ = task.await;
}

/// Waits until something else is to be served; for ever when nobody can say so any more.
async fn differs<P: Clone + PartialEq>(
    targets: &mut watch::Receiver<Target>,
    pick: fn(&Target) -> Option<On<P>>,
    from: Option<&On<P>>,
) {
    if targets.wait_for(|target| pick(target).as_ref() != from).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can say stop any more: as good as being told.
    let _ = stop.wait_for(|stop| *stop).await;
}
