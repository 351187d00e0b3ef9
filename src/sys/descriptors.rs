//! Descriptors for another process: one sent along a socket, and a file without a name for it to write.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Sends these octets, and the descriptor with the first of them (SCM_RIGHTS, unix(7)). How many were taken.
pub(crate) fn send_with(socket: impl AsFd, bytes: &[u8], file: &OwnedFd) -> io::Result<usize> {
    let files = [file.as_fd()];
    let mut space = [const { std::mem::MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// A file in memory, and the same opened for writing alone: QEMU takes nothing else for a file that it is to write
/// (qapi/misc.json, `add-fd`: the access mode has to be the one it opens with).
pub fn written_by_another(name: &str) -> io::Result<(File, OwnedFd)> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let writer = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((file.into(), writer))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::mem::MaybeUninit;
    use std::os::unix::fs::FileExt;
    use std::os::unix::net::UnixStream;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    #[test]
    fn what_another_writes_is_read_here() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (file, writer) = written_by_another("test").unwrap();
        assert_eq!(send_with(&ours, b"{}", &writer).unwrap(), 2);
        let mut space = [const { MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut octets = [0; 8];
        let mut buffers = [io::IoSliceMut::new(&mut octets)];
        let got = recvmsg(&theirs, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        assert_eq!(got.bytes, 2);
        let Some(RecvAncillaryMessage::ScmRights(mut files)) = control.drain().next() else {
            panic!("no descriptor")
        };
        let mut received = File::from(files.next().unwrap());
        received.write_all(b"picture").unwrap();
        assert!(received.read(&mut [0]).is_err(), "for writing alone");
        let mut text = [0; 7];
        file.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, b"picture");
    }
}
