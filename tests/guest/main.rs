//! The launcher with QEMU: real guests, containers, the chart, a container runtime told as a kubelet tells it.
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

mod agent;
mod backup;
mod browser;
mod chart;
mod codes;
mod confine;
mod console;
mod containers;
mod cri;
mod disks;
mod doctor;
mod files;
mod full;
mod ipv6;
mod life;
mod machine;
mod metrics;
mod overlay;
#[cfg(feature = "package")]
mod package;
mod panic;
mod reliability;
mod split;
mod suspend;
mod vm;
mod web;
