//! Whole Ethernet frames: by a tap that is berth's own, a port of the bridge, which takes no CAP_NET_RAW; or by a packet
//! socket of a link.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{ioctl_fionbio, read, write};
use tokio::io::unix::AsyncFd;

use super::ffi;
use super::link::{self, open_tap};
use super::socket::{every_frame, solicitations};
use crate::net::IfName;

/// `struct virtio_net_hdr` (linux/virtio_net.h): of zeros, a frame as it is, with its checksums.
const HEADER: usize = 10;
/// Octets of a frame that are read; what is longer is cut, and no control packet.
const LARGEST: usize = 2048;

/// One queue of the tap, or a packet socket, held as long as this is.
#[derive(Debug)]
pub struct Frames {
    queue: AsyncFd<OwnedFd>,
    /// Octets before each frame.
    header: usize,
    /// What has the link listen to a group.
    _member: Option<OwnedFd>,
}

/// Why the tap cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error("waiting for frames of {name}")]
    Wait { name: IfName, source: io::Error },
    #[error("router solicitations of {name} cannot be heard{}", hint(.source))]
    Solicitations { name: IfName, source: io::Error },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            " (needs CAP_NET_RAW; --router-advertisements off does without)"
        }
        _ => "",
    }
}

impl Frames {
    /// Of a link that is not berth's: router solicitations come in, and whatever is sent goes out. To be called within the
    /// runtime that it waits in. Needs CAP_NET_RAW.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn solicitations(name: &IfName) -> Result<Self, Error> {
        let refused = |source| Error::Solicitations { name: name.clone(), source };
        let (queue, member) = solicitations(name).map_err(refused)?;
        let queue = ffi::awaited(queue).map_err(refused)?;
        Ok(Self { queue, header: 0, _member: Some(member) })
    }

    /// All that is sent and received on a link, to be looked at. Needs CAP_NET_RAW.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn every(name: &IfName) -> Result<Self, Error> {
        let wait = |source| Error::Wait { name: name.clone(), source };
        let queue = ffi::awaited(every_frame(name).map_err(wait)?).map_err(wait)?;
        Ok(Self { queue, header: 0, _member: None })
    }

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
        let queue = ffi::awaited(queue).map_err(wait)?;
        Ok(Self { queue, header: HEADER, _member: None })
    }

    /// The next frame.
    pub async fn next(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; HEADER + LARGEST];
        loop {
            let mut ready = self.queue.readable().await?;
            let taken = ready.try_io(|queue| read(queue, &mut *buffer).map_err(io::Error::from));
            if let Ok(taken) = taken {
                buffer.truncate(taken?);
                buffer.drain(..self.header.min(buffer.len()));
                return Ok(buffer);
            }
        }
    }

    /// Sends one, or fails: the kernel takes it at once.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let whole = [&vec![0; self.header], frame].concat();
        write(&self.queue, &whole).map(drop).map_err(io::Error::from)
    }
}
