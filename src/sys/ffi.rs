//! The only `unsafe` code: system calls no crate wraps safely. One operation per block, each with its reason.
#![allow(unsafe_code)]

// ── tun ──

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `struct ifreq` as the tun driver reads it (linux/if.h): a name, then 16-bit flags, 40 octets in all.
#[repr(C)]
struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// TUNSETIFF (linux/if_tun.h): makes or joins the tap `name` with these flags.
pub fn tun_set_iff(tun: &File, name: &str, flags: u16) -> io::Result<()> {
    let mut request = IfReq { name: [0; libc::IFNAMSIZ], flags, rest: [0; 22] };
    for (slot, byte) in request.name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *slot = byte;
    }
    // SAFETY: the descriptor is open for the call, and `request` is a whole, initialised ifreq the driver
    // reads and writes within its 40 octets.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// TUNSETPERSIST: the tap stays when its last descriptor closes.
pub fn tun_set_persist(tun: &File) -> io::Result<()> {
    // SAFETY: the argument is a plain number; nothing is read from memory.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST, 1) })
}

/// TUNSETOWNER: this uid may attach without CAP_NET_ADMIN.
pub fn tun_set_owner(tun: &File, uid: u32) -> io::Result<()> {
    // SAFETY: the argument is a plain number; nothing is read from memory.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOWNER, libc::c_ulong::from(uid)) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// ── sockets ──

/// SO_NO_CHECK (socket(7)): datagrams go out with the checksum zero, which means that there is none.
pub fn set_no_check(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` is a whole int and its length is given; the kernel reads it during the call only.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4),
        )
    })
}

/// Binds a packet socket to one link (packet(7)), to send whole frames and to receive none.
pub fn bind_packet(socket: &impl AsRawFd, link: u32) -> io::Result<()> {
    // SAFETY: every field of sockaddr_ll is a number; all zero is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    address.sll_ifindex = i32::try_from(link).unwrap_or(0);
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    // SAFETY: `address` is initialised and lives through the call; its true length is given.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })
}
