//! How each service is, from what really happens to it, and how long it waits before it is started again.
//!
//! ```text
//!             bound                        ends
//! Starting ─────────► Serving ───────────────────────► Failing ─┐ pause, start again
//!                        ▲    after a good run, or bound at last │
//!                        └───────────────────────────────────────┘
//! Off: nothing of it is asked for, or not now
//! ```
//!
//! One that dies every few seconds is failing all the while: only a run that lasts makes it a service that serves. A
//! single end after a good run costs the pause, and no more.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;

/// First and longest pause before a service that keeps ending is started again.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A run of so long is a good one: what was before it is forgotten. Longer than the longest pause.
pub(super) const GOOD_RUN: Duration = Duration::from_secs(30);

/// How a service is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Health {
    /// It is not asked for, or there is nothing to serve it on.
    Off,
    /// It is not bound yet.
    #[default]
    Starting,
    Serving,
    /// It ended, or could not be bound, and why.
    Failing(String),
}

/// The services of one process. All of them are starting until they are looked after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    pub dhcp: Health,
    pub dns: Health,
    /// Router advertisements.
    pub router: Health,
    pub dhcp6: Health,
}

impl Services {
    /// Nothing is served here.
    pub const OFF: Self =
        Self { dhcp: Health::Off, dns: Health::Off, router: Health::Off, dhcp6: Health::Off };

    /// With their names.
    pub fn all(&self) -> [(&'static str, &Health); 4] {
        let Self { dhcp, dns, router, dhcp6 } = self;
        [("dhcp", dhcp), ("dns", dns), ("router", router), ("dhcp6", dhcp6)]
    }
}

/// What one service did so far.
pub(super) struct Record<'a> {
    health: &'a watch::Sender<Services>,
    of: fn(&mut Services) -> &mut Health,
    /// Before the next start, should this one end.
    pause: Duration,
    /// Its last run was a good one, or it has had none.
    is_trusted: bool,
}

impl<'a> Record<'a> {
    pub(super) fn new(
        health: &'a watch::Sender<Services>,
        of: fn(&mut Services) -> &mut Health,
    ) -> Self {
        Self { health, of, pause: PAUSE, is_trusted: true }
    }

    fn set(&self, now: Health) {
        self.health.send_if_modified(|services| {
            let health = (self.of)(services);
            let differs = *health != now;
            *health = now;
            differs
        });
    }

    pub(super) fn is_off(&self) {
        self.set(Health::Off);
    }

    /// It is bound, and runs from now on.
    pub(super) fn begins(&mut self) {
        if std::mem::take(&mut self.is_trusted) {
            self.set(Health::Serving);
        }
    }

    /// Stands beside its run, for as long as that takes.
    pub(super) async fn runs(&mut self) -> Infallible {
        tokio::time::sleep(GOOD_RUN).await;
        self.forget();
        self.set(Health::Serving);
        std::future::pending().await
    }

    /// It ended, or could not be bound. Returns the pause before its next start.
    pub(super) fn ends(&mut self, why: String) -> Duration {
        self.set(Health::Failing(why));
        let next = (self.pause * 2).min(LONGEST_PAUSE);
        std::mem::replace(&mut self.pause, next)
    }

    /// What it is to serve is another thing now, or it has shown that it can: what was before does not count.
    pub(super) fn forget(&mut self) {
        self.pause = PAUSE;
        self.is_trusted = true;
    }
}
