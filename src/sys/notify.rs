//! Telling a service manager how the start is going: the protocol of sd_notify(3), a datagram to the socket that it names.
//!
//! Not done: barriers, the watchdog, file descriptors, and sockets of AF_VSOCK (`vsock:`), which are a virtual machine's.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// The variable that names the socket.
pub const VARIABLE: &str = "NOTIFY_SOCKET";
/// What is served is bound: who comes after us may ask.
pub const READY: &str = "READY=1";
/// We were asked to end.
pub const STOPPING: &str = "STOPPING=1";

/// Sends one state to the manager that listens at `socket`, the variable's value. Waits for nothing.
///
/// # Errors
///
/// The value is neither an absolute path nor an abstract name (`@name`), or nobody listens there.
pub fn notify(socket: &OsStr, state: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address(socket)?)?;
    Ok(())
}

fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(Path::new(socket)),
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither an absolute path nor an abstract name",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hears(address: &SocketAddr, socket: &OsStr) {
        let manager = UnixDatagram::bind_addr(address).unwrap();
        notify(socket, READY).unwrap();
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn a_manager_hears_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        hears(&SocketAddr::from_pathname(&path).unwrap(), path.as_os_str());
        let name = format!("berth-test-{}", std::process::id());
        let said = format!("@{name}");
        hears(&SocketAddr::from_abstract_name(name).unwrap(), OsStr::new(&said));
    }

    #[test]
    fn what_is_no_socket_is_an_error_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = dir.path().join("nobody");
        for socket in
            [nobody.as_os_str(), OsStr::new("@"), OsStr::new("vsock:2:1234"), OsStr::new("run")]
        {
            assert!(notify(socket, READY).is_err(), "{socket:?}");
        }
    }
}
