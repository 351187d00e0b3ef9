//! Answers one captured DHCP packet, without a socket, a clock or an interface.
//!
//! ```console
//! $ cargo run --example dhcp                                    # a DISCOVER out of the fuzz corpus
//! $ cargo run --example dhcp -- fuzz/corpus/dhcp4/decline       # UDP payloads, as a capture has them
//! ```
//!
//! The protocol cores are pure: bytes and the time in, bytes out (`berth::proto`). This one gives every client the
//! same address, as `berth run` does.

use std::error::Error;
use std::io::Write;

use berth::proto::Now;
use berth::proto::dhcp4::{OneGuest, Responder};
use berth::proto::leases::Leases;
use dhcproto::v4::Message;
use dhcproto::{Decodable, Decoder};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).unwrap_or_else(|| "fuzz/corpus/dhcp4/discover".into());
    let datagram = std::fs::read(path)?;
    let guest = OneGuest {
        server: [192, 168, 254, 1].into(),
        routed: true,
        guest: "192.168.254.2/30".parse()?,
        dns: vec![[192, 168, 254, 1].into()],
        search: vec!["cluster.local".into()],
        hostname: "web".into(),
        mtu: 1450,
        lease_secs: 86_400,
    };
    let mut responder = Responder::new(guest.into(), Leases::new(1));
    let mut out = std::io::stdout().lock();
    match responder.answer(now(), &datagram) {
        Ok(Some(reply)) => {
            let message = Message::decode(&mut Decoder::new(&reply.payload))?;
            writeln!(
                out,
                "to {:?}, {} octets:\n{message}",
                reply.destination,
                reply.payload.len()
            )?;
        }
        Ok(None) => writeln!(out, "no answer is due")?,
        // What a client sends is data, never an error.
        Err(reason) => writeln!(out, "no answer: {}", reason.label())?,
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the caller of a core reads the clock for it")]
fn now() -> Now {
    Now { monotonic: std::time::Instant::now(), wall: std::time::SystemTime::now() }
}
