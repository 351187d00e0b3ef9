//! The guest's serial line for many readers: our stdout, `berth console`, a page in a browser.
//!
//! ```text
//!   QEMU's serial line ──► Wire::write ──► ring ──► Output of each session ──► stdout, sockets, …
//!                      ◄── Wire::typed ◄── queue ◄── Input of each session
//! ```
//!
//! The [`Hub`] is written without ever waiting for a reader: each has a bound on what may wait for it, and loses octets, with
//! a mark, when it is slower than that. Nothing is done here with the QEMU that has the line: that is `supervise`'s.
//! [`socket`] is the way in from other processes of the container, [`client`] the other end of that.

pub mod client;
mod hub;
mod keys;
mod ring;
pub mod socket;

pub use hub::{Counts, Full, Gone, Hub, Input, Kind, Mode, Output, Request, Session, Wire, new};
pub use ring::Chunk;

/// Octets that are kept for whoever attaches later.
pub const REPLAY_BYTES: usize = 64 << 10;
/// Sessions at a time, besides our stdout.
pub const MAX_SESSIONS: usize = 16;
