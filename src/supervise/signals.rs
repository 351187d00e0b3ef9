//! What signals ask of a launcher (signal(7)).

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Error;
use crate::sys::child;

/// The signals that matter, heard from the moment this is made: PID 1 has no default for them.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    /// The ends of a session (signal(7)); None where whoever started us wanted them ignored, as nohup(1) does.
    hangup: Option<Signal>,
    quit: Option<Signal>,
    interrupt: Signal,
    child: Signal,
}

impl Signals {
    /// Call early: before anything that takes time.
    pub fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signals);
        let unless_ignored = |kind: SignalKind| {
            let heard = !child::ignores(kind.as_raw_value());
            heard.then(|| listen(kind)).transpose()
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            hangup: unless_ignored(SignalKind::hangup())?,
            quit: unless_ignored(SignalKind::quit())?,
            interrupt: listen(SignalKind::interrupt())?,
            child: listen(SignalKind::child())?,
        })
    }

    /// Resolves when we are asked to stop: for whatever is done before the machine starts. Cancel-safe.
    pub async fn asked_to_stop(&mut self) {
        let Self { terminate, hangup, quit, interrupt, .. } = self;
        tokio::select! {
            _ = terminate.recv() => {}
            () = heard(hangup) => {}
            () = heard(quit) => {}
            _ = interrupt.recv() => {}
        }
    }

    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Wanted {
        let Self { terminate, hangup, quit, interrupt, child } = self;
        tokio::select! {
            biased;
            _ = terminate.recv() => Wanted::Stop,
            () = heard(hangup) => Wanted::Stop,
            () = heard(quit) => Wanted::Stop,
            _ = interrupt.recv() => Wanted::Hurry,
            _ = child.recv() => Wanted::Bury,
        }
    }
}

/// What a signal asks for.
pub(super) enum Wanted {
    Stop,
    /// SIGINT: stop, and each further one sooner.
    Hurry,
    /// A child has ended.
    Bury,
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
