//! Drive the DHCP and DNS cores with sockets and timers, for as long as the guest lives.
//!
//! Each service is a task of its own. One that ends or panics is started again, with a pause and a line in the
//! log; the guest notices at most a question asked twice.

pub mod dhcp;
mod dns;
pub mod leases;
mod store;

use std::fmt;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::plan::GuestPlan;
use crate::plan::serve::{DnsPlan, ServePlan};
use crate::proto::dns::Named;
use crate::sys::socket;

/// Where names of DHCP clients are wanted: by the DNS service, when it runs.
type Wanted = Option<mpsc::Sender<Named>>;

/// How many services are not running at this moment.
pub type Down = watch::Sender<usize>;

/// Longest pause before a service that keeps ending is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Sockets that are bound: from here on the guest may ask.
#[derive(Debug)]
pub struct Bound {
    plan: GuestPlan,
    dhcp: socket::Dhcp,
    dns: socket::Dns,
}

/// Binds both services; None when nothing is to be served. Needs the bridge.
pub fn bind(plan: &GuestPlan) -> Result<Option<Bound>, socket::Error> {
    if !plan.serve {
        return Ok(None);
    }
    let dhcp = socket::dhcp(&plan.interface)?;
    let dns = socket::dns(&plan.interface, plan.gateway)?;
    Ok(Some(Bound { plan: plan.clone(), dhcp, dns }))
}

/// Serves until `stop` turns true or its sender is gone; anew whenever `bridge`, the link's index, changes: sockets
/// stay with the link they were bound to, even when it is gone.
pub async fn run(
    bound: Option<Bound>,
    mut stop: watch::Receiver<bool>,
    mut bridge: watch::Receiver<u32>,
    down: &Down,
) {
    let Some(mut bound) = bound else { return };
    loop {
        let plan = bound.plan.clone();
        let (end, ended) = watch::channel(false);
        let serving = bound.run(ended, down);
        tokio::pin!(serving);
        let rebind = tokio::select! {
            () = &mut serving => return,
            () = stopped(&mut stop) => false,
            changed = bridge.changed() => changed.is_ok(),
        };
        let _ = end.send(true);
        serving.await;
        if !rebind {
            return;
        }
        tracing::warn!(interface = %plan.interface, "the bridge is another one now, binding DHCP and DNS anew");
        down.send_modify(|down| *down += 1);
        let Some(again) = bind_again(&plan, &mut stop).await else { return };
        down.send_modify(|down| *down -= 1);
        bound = again;
    }
}

/// Tries until it succeeds; None when told to stop meanwhile.
async fn bind_again(plan: &GuestPlan, stop: &mut watch::Receiver<bool>) -> Option<Bound> {
    loop {
        match bind(plan) {
            Ok(bound) => return bound,
            Err(error) => tracing::error!(error = %crate::exit::story(&error), "binding DHCP and DNS"),
        }
        tokio::select! {
            () = stopped(stop) => return None,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

impl Bound {
    /// Serves until `stop` turns true or its sender is gone.
    pub async fn run(self, stop: watch::Receiver<bool>, down: &Down) {
        let Self { plan, dhcp, dns } = self;
        let task = dhcp::Task::one_guest(&plan);
        // The one guest's name is known without its help.
        let (wanted, wants) = watch::channel(None);
        let dhcp = keep(
            "dhcp",
            stop.clone(),
            down,
            dhcp,
            &task,
            |task| socket::dhcp(task.interface()),
            |sockets, task| dhcp::serve(sockets, task, wants.clone()),
        );
        let (interface, names) = (plan.interface.clone(), DnsPlan::one_guest(&plan));
        let bind = |names: &DnsPlan| socket::dns(&interface, names.address);
        let dns = keep("dns", stop, down, dns, &names, bind, |sockets, names| {
            dns::serve(sockets, names, wanted.clone())
        });
        tokio::join!(dhcp, dns);
    }
}

/// What can keep `berth serve` from serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Socket(#[from] socket::Error),
    #[error(transparent)]
    Leases(#[from] crate::sys::lease_file::Error),
}

/// `berth serve`: DHCP, DNS or both on one interface, until `stop` turns true or its sender is gone.
pub async fn standing(plan: &ServePlan, stop: watch::Receiver<bool>) -> Result<(), Error> {
    let dhcp = match dhcp::Task::standing(plan) {
        Some(task) => {
            dhcp::check(&task)?;
            Some((socket::dhcp(task.interface())?, task))
        }
        None => None,
    };
    let names = match &plan.dns {
        Some(names) => Some((socket::dns(&plan.interface, names.address)?, names)),
        None => None,
    };
    let serving =
        |what| tracing::info!(interface = %plan.interface, address = %plan.address, "serving {what}");
    let (wanted, wants) = watch::channel(None);
    let down = Down::default();
    let leases = async {
        if let Some((sockets, task)) = dhcp {
            serving("DHCP");
            let serve = |sockets, task| dhcp::serve(sockets, task, wants.clone());
            keep("dhcp", stop.clone(), &down, sockets, &task, |task| socket::dhcp(task.interface()), serve)
                .await;
        }
    };
    let answers = async {
        if let Some((sockets, names)) = names {
            serving("DNS");
            let bind = |names: &DnsPlan| socket::dns(&plan.interface, names.address);
            let serve = |sockets, names| dns::serve(sockets, names, wanted.clone());
            keep("dns", stop.clone(), &down, sockets, names, bind, serve).await;
        }
    };
    tokio::join!(leases, answers);
    Ok(())
}

/// Runs a service until told to stop, however often it ends.
async fn keep<S, P: Clone, F, E>(
    name: &'static str,
    mut stop: watch::Receiver<bool>,
    down: &Down,
    sockets: S,
    plan: &P,
    bind: impl Fn(&P) -> Result<S, socket::Error>,
    serve: impl Fn(S, P) -> F,
) where
    F: Future<Output = E> + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    let mut ready = Some(sockets);
    let mut pause = Duration::from_millis(100);
    let mut is_down = false;
    let mut tell = |now: bool| {
        if std::mem::replace(&mut is_down, now) != now {
            down.send_modify(|down| *down = if now { *down + 1 } else { *down - 1 });
        }
    };
    loop {
        let bound = match ready.take() {
            Some(sockets) => Ok(sockets),
            None => bind(plan),
        };
        let ended = match bound {
            Ok(sockets) => {
                let mut task = tokio::spawn(serve(sockets, plan.clone()));
                tell(false);
                tokio::select! {
                    () = stopped(&mut stop) => return task.abort(),
                    end = &mut task => match end {
                        Ok(error) => error.to_string(),
                        Err(panic) => panic.to_string(),
                    },
                }
            }
            Err(error) => crate::exit::story(&error),
        };
        tell(true);
        tracing::error!(service = name, error = %ended, "service ended, starting it again");
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can say stop any more: as good as being told.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn plan() -> GuestPlan {
        GuestPlan {
            serve: true,
            interface: "br0".parse().unwrap(),
            mac: crate::net::MacAddr([2, 0, 0, 0, 0, 1]),
            address: "192.168.254.2/30".parse().unwrap(),
            gateway: [192, 168, 254, 1].into(),
            gateway_mac: crate::net::MacAddr([2, 0, 0, 0, 0, 2]),
            hostname: "web".into(),
            dns: vec![],
            search: vec![],
            mtu: 1500,
            lease_secs: 3600,
            upstreams: vec![],
            ndots: 1,
            resolv_conf: "/etc/resolv.conf".into(),
            notes: vec![],
        }
    }

    /// A guest must not lose its machine because a service of ours has a bug.
    #[tokio::test(start_paused = true)]
    async fn a_service_that_panics_or_ends_is_started_again_until_told_to_stop() {
        let (stop, stopping) = watch::channel(false);
        let (starts, binds) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (counted, bound) = (starts.clone(), binds.clone());
        let (down, mut downs) = watch::channel(0);
        downs.mark_unchanged();
        let seen = tokio::spawn(async move {
            let mut seen = Vec::new();
            while downs.changed().await.is_ok() {
                seen.push(*downs.borrow_and_update());
            }
            seen
        });
        let kept = tokio::spawn(async move {
            let bind = |_: &GuestPlan| {
                bound.fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            keep("test", stopping, &down, (), &plan(), bind, |(), _| {
                let start = counted.fetch_add(1, Ordering::Relaxed);
                async move {
                    match start {
                        0 => panic!("a bug"),
                        1 => "a socket that failed",
                        _ => std::future::pending().await,
                    }
                }
            })
            .await;
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!((starts.load(Ordering::Relaxed), binds.load(Ordering::Relaxed)), (3, 2));
        stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(1), kept).await.expect("it stops").unwrap();
        assert_eq!(seen.await.unwrap(), [1, 0, 1, 0], "who asks meanwhile hears that it does not serve");
    }
}
