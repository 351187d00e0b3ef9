//! Hearing of changes as they happen: transactions of nf_tables, and links, addresses, routes and rules
//! (netlink(7)).
//!
//! What is heard says that something changed and who did it, not what it is now: that is read anew. So a buffer that
//! overflows loses nothing; it is one more change.

use std::fmt;
use std::io;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use rustix::net::sockopt;
use socket2::{SockFilter, SockRef};

use super::Error;
use crate::nft::Ruleset;
use crate::nft::attr::Messages;
use crate::nft::dump::{self, Transaction};

/// Multicast groups (linux/netfilter/nfnetlink.h, linux/rtnetlink.h).
const NFNLGRP_NFTABLES: u32 = 7;
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV4_RULE: u32 = 8;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_IPV4_NETCONF: u32 = 24;
const DATAGRAM_LEN: usize = 64 * 1024;
/// Octets of the receive buffer where all changes are heard: transactions of some ten thousand rules.
const RECEIVE_BUFFER_LEN: usize = 16 << 20;

struct Listener {
    netlink: TokioSocket,
    buffer: Vec<u8>,
}

impl Listener {
    fn open(protocol: isize, groups: &[u32], filter: &[SockFilter]) -> io::Result<Self> {
        let mut netlink = TokioSocket::new(protocol)?;
        let socket = netlink.socket_mut();
        socket.bind_auto()?;
        if filter.is_empty() {
            // Without the privilege the default has to do.
            let _ = sockopt::set_socket_recv_buffer_size_force(&*socket, RECEIVE_BUFFER_LEN);
        } else {
            SockRef::from(&*socket).attach_filter(filter)?;
        }
        groups.iter().try_for_each(|group| socket.add_membership(*group))?;
        Ok(Self { netlink, buffer: Vec::with_capacity(DATAGRAM_LEN) })
    }

    /// The next datagram; None when some were lost. May be dropped while it waits.
    async fn hear(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            self.buffer.clear();
            match self.netlink.recv(&mut self.buffer).await {
                Ok(_) => return Ok(Some(&self.buffer)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

/// A classic BPF program that passes only the message that ends a transaction: those of what was changed could fill
/// the buffer. The load reads network order, the field is in the host's.
fn transactions_only() -> [SockFilter; 4] {
    const LOAD_HALF_WORD: u16 = 0x28;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const KIND_AT: u32 = 4;
    let kind = u32::from(u16::from_be_bytes(dump::TRANSACTION.to_ne_bytes()));
    [
        SockFilter::new(LOAD_HALF_WORD, 0, 0, KIND_AT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, kind),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Transactions of nf_tables, whoever makes them.
#[derive(Debug)]
pub struct Transactions(Listener);

impl Transactions {
    /// Listens in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let listener = Listener::open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES], &transactions_only());
        listener.map(Self).map_err(Error::Open)
    }

    /// Waits for the next; None when there were more than could be heard.
    pub async fn next(&mut self) -> Result<Option<Transaction>, Error> {
        loop {
            match self.0.hear().await.map_err(Error::Talk)? {
                None => return Ok(None),
                Some(datagram) => {
                    if let Some(found) =
                        Messages(datagram).find_map(|message| dump::transaction(&message))
                    {
                        return Ok(Some(found));
                    }
                }
            }
        }
    }
}

/// Transactions of nf_tables with all that they change.
#[derive(Debug)]
pub struct Changes(Listener);

impl Changes {
    /// Listens in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Listener::open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES], &[]).map(Self).map_err(Error::Open)
    }

    /// Waits for the next transaction and makes its changes in `ruleset`; None when some could not be heard, and
    /// `ruleset` is not what is loaded any more. What was heard before it is dropped is kept.
    pub async fn next(&mut self, ruleset: &mut Ruleset) -> Result<Option<Transaction>, Error> {
        loop {
            let Some(datagram) = self.0.hear().await.map_err(Error::Talk)? else { return Ok(None) };
            for message in Messages(datagram) {
                if let Some(transaction) = dump::transaction(&message) {
                    return Ok(Some(transaction));
                }
                ruleset.replay(&message);
            }
        }
    }
}

/// That a link or an address changed, or also a route, a rule of policy routing or forwarding.
#[derive(Debug)]
pub(crate) struct LinkChanges(Listener);

impl LinkChanges {
    /// Listens in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let groups = [
            RTNLGRP_LINK,
            RTNLGRP_IPV4_IFADDR,
            RTNLGRP_IPV4_ROUTE,
            RTNLGRP_IPV4_RULE,
            RTNLGRP_IPV6_IFADDR,
            RTNLGRP_IPV6_ROUTE,
            RTNLGRP_IPV4_NETCONF,
        ];
        Listener::open(NETLINK_ROUTE, &groups, &[]).map(Self).map_err(Error::Open)
    }

    /// The same for links and addresses alone: routes of a busy router are no news.
    pub(crate) fn of_links_and_addresses() -> Result<Self, Error> {
        let groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR];
        Listener::open(NETLINK_ROUTE, &groups, &[]).map(Self).map_err(Error::Open)
    }

    /// Waits for the next change; an error ends the watch.
    pub async fn next(&mut self) -> Result<(), Error> {
        self.0.hear().await.map(drop).map_err(Error::Talk)
    }
}
