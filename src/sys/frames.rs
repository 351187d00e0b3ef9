//! Whole Ethernet frames by a tap that is berth's own, a port of the bridge: what a packet socket does, without
//! CAP_NET_RAW.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{ioctl_fionbio, read, write};
use tokio::io::unix::AsyncFd;

use super::ffi;
use super::link::{self, open_tap};
use crate::net::IfName;

/// `struct virtio_net_hdr` (linux/virtio_net.h): of zeros, a frame as it is, with its checksums.
const HEADER: usize = 10;
/// Octets of a frame that are read; what is longer is cut, and no control packet.
const LARGEST: usize = 2048;

/// One queue of the tap, held as long as this is.
#[derive(Debug)]
pub struct Frames(AsyncFd<OwnedFd>);

/// Why the tap cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error("waiting for frames of {name}")]
    Wait { name: IfName, source: io::Error },
}

impl Frames {
    /// Attaches to the tap; to be called within the runtime that it waits in. Needs CAP_NET_ADMIN.
    ///
    /// # Errors
    ///
    /// It is not there, or somebody else is attached to it.
    pub fn attach(name: &IfName) -> Result<Self, Error> {
        let wait = |source| Error::Wait { name: name.clone(), source };
        let queues = open_tap(name, 1)?;
        let queue = queues.into_iter().next();
        let queue = queue.ok_or_else(|| wait(io::ErrorKind::NotFound.into()))?;
        ioctl_fionbio(&queue, true).map_err(|errno| wait(errno.into()))?;
        Ok(Self(ffi::awaited(queue).map_err(wait)?))
    }

    /// The next frame.
    pub async fn next(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; HEADER + LARGEST];
        loop {
            let mut ready = self.0.readable().await?;
            let taken = ready.try_io(|queue| read(queue, &mut *buffer).map_err(io::Error::from));
            if let Ok(taken) = taken {
                buffer.truncate(taken?);
                buffer.drain(..HEADER.min(buffer.len()));
                return Ok(buffer);
            }
        }
    }

    /// Sends one, or fails: the kernel takes it at once.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let whole = [&[0; HEADER], frame].concat();
        write(&self.0, &whole).map(drop).map_err(io::Error::from)
    }
}
