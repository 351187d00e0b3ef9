//! Sockets in the state directory (`unix(7)`): ours alone, and no trust in what else is there.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with,
};
use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::exit::error_chain;

/// Those that ask at the same time and wait (listen(2)).
const BACKLOG: i32 = 128;

/// Listens at `path`, for its owner only; the socket of a launcher that was killed makes room, that of one that runs
/// does not: None. Whatever else is in its place is not ours, and makes room as well. `verb` asks there.
pub fn listen(path: &Path, verb: &str) -> io::Result<Option<UnixListener>> {
    let replace = |what: &str| {
        tracing::warn!(path = %path.display(), "{what} is where `{verb}` asks: replacing it");
        remove(path)
    };
    match look(path)? {
        Found::Nothing => {}
        Found::Ours if is_answered(path) => return Ok(None),
        Found::Ours => remove(path)?,
        Found::Strange => replace("a socket of another user")?,
        Found::Other(what) => replace(what)?,
    }
    let listener = socket()?;
    // Before it has a name: chmod(2) would follow what somebody puts there meanwhile.
    fchmod(&listener, Mode::RUSR | Mode::WUSR)?;
    bind(&listener, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&listener, BACKLOG)?;
    UnixListener::from_std(listener.into()).map(Some)
}

/// [`listen`], and one line in the log where that cannot be had, or is another launcher's: it costs the answers, nothing else.
pub fn listen_or_tell(path: &Path, verb: &str) -> Option<UnixListener> {
    let why = match listen(path, verb) {
        Ok(Some(listener)) => return Some(listener),
        Ok(None) => "another launcher is listening there: left to it".to_owned(),
        Err(error) => error_chain(&error),
    };
    tracing::warn!(path = %path.display(), error = why, "`{verb}` gets no answer");
    None
}

/// One line, and all that is answered to it, at most `largest` octets, within a time. Who was too slow to be heard is told
/// what those are told who say nothing.
pub async fn exchange(
    path: &Path,
    line: &[u8],
    largest: u64,
    within: Duration,
) -> io::Result<Vec<u8>> {
    let exchange = async {
        let mut stream = open(path)?;
        match stream.write_all(line).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
        let mut text = Vec::new();
        stream.take(largest).read_to_end(&mut text).await?;
        Ok(text)
    };
    let exchanged = tokio::time::timeout(within, exchange).await;
    exchanged.unwrap_or_else(|_| Err(Errno::TIMEDOUT.into()))
}

/// Connects to what [`listen`] made, without waiting. Root may ask one that is not root.
pub fn open(path: &Path) -> io::Result<UnixStream> {
    match look(path)? {
        Found::Nothing => return Err(Errno::NOENT.into()),
        Found::Ours => {}
        Found::Strange if geteuid().is_root() => {}
        Found::Strange => return Err(Errno::ACCESS.into()),
        Found::Other(what) => return Err(io::Error::other(format!("{what} is there"))),
    }
    UnixStream::from_std(dial(path)?.into())
}

/// What is where the socket is meant to be.
enum Found {
    Nothing,
    Ours,
    /// A socket of another user.
    Strange,
    Other(&'static str),
}

/// The directory may be anybody's: no link is followed, and of sockets those count that berth made.
fn look(path: &Path) -> io::Result<Found> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        found => found?,
    };
    Ok(if found.file_type().is_symlink() {
        Found::Other("a link")
    } else if !found.file_type().is_socket() {
        Found::Other("something else than a socket")
    } else if found.uid() != geteuid().as_raw() {
        Found::Strange
    } else if found.nlink() > 1 {
        Found::Other("a socket with another name")
    } else {
        Found::Ours
    })
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Not connected, non-blocking.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// At once: a listener whose backlog is full is an error, EAGAIN (connect(2)).
pub(crate) fn dial(path: &Path) -> io::Result<OwnedFd> {
    let stream = socket()?;
    connect(&stream, &SocketAddrUnix::new(path)?)?;
    Ok(stream)
}

/// Whether somebody listens, who may be too busy to answer.
fn is_answered(path: &Path) -> bool {
    dial(path).map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true)
}
