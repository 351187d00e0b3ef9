//! The thread that reads what guests, clients and name servers send. It has no capability, whatever the process has.
//!
//! Sockets are bound by who may (ports below 1024, whole frames), and wait for and read what comes here: a service that is
//! taken over by a packet can ask the kernel for nothing that any user could not.

use std::io;
use std::sync::mpsc;

use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Error;
use crate::confine;

/// Ends the thread when it is dropped.
#[derive(Debug)]
pub(super) struct Packets {
    runtime: Handle,
    _end: oneshot::Sender<()>,
}

/// The thread, as long as it is not known whether it is ready.
#[derive(Debug)]
pub struct Starting {
    told: mpsc::Receiver<Result<Handle, Error>>,
    end: oneshot::Sender<()>,
}

impl Starting {
    pub(super) fn ready(self) -> Result<Packets, Error> {
        let runtime = self.told.recv().map_err(io::Error::other)??;
        Ok(Packets { runtime, _end: self.end })
    }
}

impl Packets {
    /// Without waiting for `set_up`, which the thread does once its capabilities are gone.
    pub(super) fn start(
        set_up: impl FnOnce() -> Result<(), Error> + Send + 'static,
    ) -> io::Result<Starting> {
        let (tell, told) = mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("berth-packets".to_owned());
        thread.spawn(move || {
            let begin = || {
                confine::packets()?;
                let runtime = Builder::new_current_thread().enable_all().build()?;
                set_up()?;
                Ok(runtime)
            };
            let runtime = match begin() {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error))),
            };
            let _ = tell.send(Ok(runtime.handle().clone()));
            // An error is the end as well.
            let _: Result<(), _> = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Starting { told, end })
    }

    /// Sockets that are made while it is held wait there.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    pub(super) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(task)
    }

    /// The test's own thread.
    #[cfg(test)]
    pub(super) fn here() -> Self {
        Self { runtime: Handle::current(), _end: oneshot::channel().0 }
    }
}
