//! What needs no privilege and no other program: a plain `cargo test` runs these as any user.
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

mod completions;
mod contract;
mod corpus;
mod dhcp;
mod docs;
mod history;
mod layers;
mod metrics;
mod page;
mod runner;
mod validate;
