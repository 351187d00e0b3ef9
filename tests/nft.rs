//! Our rules in a kernel, with the real `nft` as judge, each test in network namespaces of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may stop"
)]

mod support;

use std::fs::File;
use std::net::Ipv4Addr;

use berth::net::{Port, Transport};
use berth::nft::dump::Filter;
use berth::nft::{Family, Ruleset};
use berth::sys::netlink::{Error, Firewall};
use support::Netns;

fn enter(netns: &Netns) {
    let file = File::open(netns.path()).unwrap();
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind)).unwrap();
}

/// A firewall whose socket is in `netns`, made by a thread that goes there and is gone.
fn firewall(netns: &Netns) -> Firewall {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                enter(netns);
                Firewall::start().unwrap()
            })
            .join()
            .unwrap()
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}
