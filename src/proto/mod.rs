//! Protocol cores: bytes and `now` in, bytes and events out. No clock, no socket, no sleep in here.
//!
//! Request/answer cores (`dhcp4`, `dhcp6`): `answer(&mut self, now, datagram) -> Result<Option<Transmit>, Reason>`.
//! Conversing cores (`dns`, `qmp`, `lifecycle`, `agent`): one mutation by `handle(now, input)`, then drain `poll()`
//! until it gives None, then sleep until `deadline()`. A `Reason` says why there is no answer; it is counted,
//! never propagated: what a peer sends is data, not an error.

pub mod agent;
pub mod dhcp4;
pub mod dhcp6;
pub mod dns;
pub mod frame;
pub mod leases;
pub mod lifecycle;
pub mod limits;
pub mod ndp;
pub mod qmp;
pub mod rfb;

/// Both clocks: the monotonic one decides, the wall clock is only written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub monotonic: std::time::Instant,
    pub wall: std::time::SystemTime,
}
