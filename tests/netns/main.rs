//! What needs root, network namespaces, or the programs of others as judges: the kernel, `nft`, DHCP clients, `qemu-img`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may stop"
)]

#[path = "../support/mod.rs"]
mod support;

mod atomic;
mod clients;
mod cni;
mod decode;
mod dhcp;
mod engine;
mod explain;
mod extra;
mod fetch;
mod flags;
mod generated;
mod guests;
mod hostile_frames;
mod hostile_ipv6;
mod hostile_nat66;
mod image;
mod ipv6;
mod iso;
mod link;
mod listing;
mod nft;
mod observe;
mod own_ipv4;
mod owner;
mod qcow2;
mod relisted;
mod route;
mod seed;
mod serve;
mod trace;
