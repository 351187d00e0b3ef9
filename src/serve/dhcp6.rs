//! The DHCPv6 task of the one guest: datagrams in, replies to where they came from (RFC 8415 §18.3.10). Nothing is kept.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Instant, SystemTime};

use dhcproto::v6::MessageType;
use tokio::net::UdpSocket;

use super::dhcp::to;
use super::tally::{self, Tally, Told};
use crate::proto::Now;
use crate::proto::dhcp6::{Datagram, Reason, Responder, Settings, Transmit};

/// More than is looked at: a longer one is known as such.
const LARGEST: usize = 4097;

/// Serves until the socket fails; the error is why.
#[expect(clippy::disallowed_methods, reason = "a verb: the core is told the time here")]
pub(super) async fn serve(socket: UdpSocket, settings: Settings, tally: Tally) -> io::Error {
    let mut responder = match Responder::new(settings) {
        Ok(responder) => responder,
        Err(error) => return io::Error::other(error),
    };
    let mut told = Told::default();
    let mut given: Vec<Ipv6Addr> = Vec::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok((length, SocketAddr::V6(from))) => (length, from),
            Ok(_) => continue,
            Err(error) => return error,
        };
        let payload = buffer.get(..length).unwrap_or_default();
        let now = Now { monotonic: Instant::now(), wall: SystemTime::now() };
        tally.request("6", tally::asked6(payload));
        match responder.answer(now, Datagram { payload, unicast: false }) {
            Ok(Some(transmit)) => {
                // What the socket does not take is lost, as any datagram may be.
                let sent = socket.try_send_to(&transmit.payload, to(&transmit, from).into());
                if sent.is_ok() {
                    tally.reply("6", tally::kind6(transmit.kind));
                    if is_lease(&transmit) {
                        tally.ack(now.monotonic, None);
                    }
                } else {
                    responder.count(Reason::Unsent);
                }
                tell(&transmit, sent.as_ref().err(), &mut given);
            }
            Ok(None) => {}
            Err(reason) => tracing::debug!(reason = reason.label(), %from, "DHCPv6: no answer"),
        }
        told.tell((&tally, "6"), responder.counts(), Reason::label);
    }
}

/// Whether the guest has addresses by it. Of a release these are the ones that it names.
fn is_lease(transmit: &Transmit) -> bool {
    let Transmit { message, kind, addresses, .. } = transmit;
    let is_asked_for = !matches!(message, MessageType::Release | MessageType::Decline);
    *kind == MessageType::Reply && is_asked_for && !addresses.is_empty()
}

/// The first time that the guest has its addresses is worth a word.
fn tell(transmit: &Transmit, error: Option<&io::Error>, given: &mut Vec<Ipv6Addr>) {
    let Transmit { message, kind, addresses, .. } = transmit;
    tracing::debug!(to = ?message, ?kind, ?addresses, ?error, "DHCPv6 reply");
    if is_lease(transmit) && *given != *addresses {
        given.clone_from(addresses);
        tracing::info!(?addresses, "the guest has its IPv6 address");
    }
}
