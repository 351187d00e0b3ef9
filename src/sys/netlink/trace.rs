//! The socket that hears trace events, and that the ruleset changed, which makes known rules doubtful.

use std::fmt;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use rustix::net::{netdevice, sockopt};
use socket2::{SockFilter, SockRef};

use super::Error;
use crate::nft::attr::Messages;
use crate::nft::trace::{EVENT, Event, NEW_GENERATION, TABLE_PREFIX};

/// Multicast groups (linux/netfilter/nfnetlink.h).
const NFNLGRP_NFTABLES: u32 = 7;
const NFNLGRP_NFTRACE: u32 = 9;
/// Octets of the receive buffer where it may be as large: some 20,000 events.
const RECEIVE_BUFFER_LEN: usize = 16 << 20;
const DATAGRAM_LEN: usize = 64 * 1024;

/// What is heard.
#[derive(Debug)]
pub(crate) enum Heard {
    Event(Box<Event>),
    /// A transaction is done: rules known by handle may be others now.
    Changed,
    /// The buffer was full; what came then is lost.
    Lost,
}

pub(crate) struct Traces {
    netlink: TokioSocket,
    buffer: Vec<u8>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("netlink", self.netlink.socket_ref()).finish_non_exhaustive()
    }
}

impl Traces {
    /// Listens in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Self::try_open().map_err(Error::Open)
    }

    fn try_open() -> io::Result<Self> {
        let mut netlink = TokioSocket::new(NETLINK_NETFILTER)?;
        let socket = netlink.socket_mut();
        socket.bind_auto()?;
        SockRef::from(&*socket).attach_filter(&only(&[EVENT, NEW_GENERATION]))?;
        // Without the privilege the default has to do.
        let _ = sockopt::set_socket_recv_buffer_size_force(&*socket, RECEIVE_BUFFER_LEN);
        socket.add_membership(NFNLGRP_NFTRACE)?;
        socket.add_membership(NFNLGRP_NFTABLES)?;
        Ok(Self { netlink, buffer: Vec::with_capacity(DATAGRAM_LEN) })
    }

    /// Waits for the next datagram and returns what is in it. May be dropped between datagrams.
    pub async fn hear(&mut self) -> Result<Vec<Heard>, Error> {
        loop {
            self.buffer.clear();
            match self.netlink.recv(&mut self.buffer).await {
                Ok(_) => return Ok(heard(&self.buffer)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(vec![Heard::Lost]);
                }
                Err(error) => return Err(Error::Talk(error)),
            }
        }
    }

    /// The name of an interface, while there is one.
    pub fn interface(&self, index: u32) -> Option<String> {
        netdevice::index_to_name(self.netlink.socket_ref(), index).ok()
    }
}

fn heard(datagram: &[u8]) -> Vec<Heard> {
    let known = |message| match Event::decode(&message) {
        Some(event) => Some(Heard::Event(Box::new(event))),
        None => (message.kind == NEW_GENERATION).then_some(Heard::Changed),
    };
    Messages(datagram).filter_map(known).collect()
}

/// A classic BPF program that passes datagrams whose first message is of these types; the rest of a large
/// transaction would fill the buffer.
fn only(kinds: &[u16]) -> Vec<SockFilter> {
    const LOAD_HALF_WORD: u16 = 0x28;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const KIND_AT: u32 = 4;
    let mut program = vec![SockFilter::new(LOAD_HALF_WORD, 0, 0, KIND_AT)];
    for (left, kind) in (0..kinds.len()).rev().zip(kinds) {
        // The load reads network order, the field is in the host's.
        let value = u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
        let accept = u8::try_from(left + 1).unwrap_or(u8::MAX);
        program.push(SockFilter::new(JUMP_IF_EQUAL, accept, 0, value));
    }
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program
}

/// A name for a table that nobody else has: process ids repeat between the containers of a pod.
pub(crate) fn table_name() -> String {
    let mut octets = [0; 4];
    // Should the kernel have no randomness yet, the process id has to do.
    let random = rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::NONBLOCK);
    let number = random.map_or(std::process::id(), |_| u32::from_ne_bytes(octets));
    format!("{TABLE_PREFIX}{number:08x}")
}
