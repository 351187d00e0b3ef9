//! The DHCP task: datagrams from the bridge, replies where RFC 2131 §4.1 sends them.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Instant, SystemTime};

use dhcproto::v4::MessageType;

use crate::plan::GuestPlan;
use crate::proto::Now;
use crate::proto::dhcp4::{CLIENT_PORT, Destination, OneGuest, Reason, Responder, SERVER_PORT, Transmit};
use crate::proto::frame::{Endpoint, udp4};
use crate::proto::leases::Leases;
use crate::sys::socket::Dhcp;

/// Serves until the socket fails; the error is why.
#[expect(clippy::disallowed_methods, reason = "a verb: the clock is read here and handed to the core")]
pub(super) async fn serve(sockets: Dhcp, plan: GuestPlan) -> io::Error {
    let started = Instant::now();
    let mut responder = Responder::new(settings(&plan).into(), Leases::new(1));
    let mut dropped: BTreeMap<Reason, u64> = BTreeMap::new();
    let mut acked = false;
    let mut buffer = vec![0; 4096];
    loop {
        let received = match sockets.udp.recv_from(&mut buffer).await {
            Ok((length, _)) => buffer.get(..length).unwrap_or_default(),
            // What a broken peer's ICMP error leaves behind is not the socket's end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return error,
        };
        match responder.answer(Now { monotonic: Instant::now(), wall: SystemTime::now() }, received) {
            Ok(Some(transmit)) => {
                if let Err(error) = send(&sockets, &plan, &transmit).await {
                    tracing::warn!(client = %transmit.client, %error, "DHCP reply not sent");
                } else if transmit.kind == Some(MessageType::Ack) && !acked {
                    acked = true;
                    let (client, address) = (transmit.client, plan.address);
                    tracing::info!(%client, %address, after_ms = started.elapsed().as_millis(), "guest has its address");
                    if client != plan.mac {
                        tracing::warn!(%client, planned = %plan.mac, "the guest has another MAC than it was given");
                    }
                } else {
                    tracing::debug!(kind = ?transmit.kind, client = %transmit.client, "DHCP reply");
                }
            }
            Ok(None) => {}
            Err(reason) => {
                let count = dropped.entry(reason).or_default();
                *count += 1;
                tracing::debug!(reason = reason.label(), count, "DHCP request without an answer");
            }
        }
    }
}

fn settings(plan: &GuestPlan) -> OneGuest {
    OneGuest {
        server: plan.gateway,
        guest: plan.address,
        dns: plan.dns.clone(),
        search: plan.search.clone(),
        hostname: plan.hostname.clone(),
        mtu: plan.mtu,
        lease_secs: plan.lease_secs,
    }
}

async fn send(sockets: &Dhcp, plan: &GuestPlan, transmit: &Transmit) -> io::Result<()> {
    let to = |address: Ipv4Addr, port| SocketAddr::from((address, port));
    let destination = match transmit.destination {
        Destination::Broadcast => to(Ipv4Addr::BROADCAST, CLIENT_PORT),
        Destination::Client(address) => to(address, CLIENT_PORT),
        Destination::Relay(address) => to(address, SERVER_PORT),
        Destination::Unicast { address, mac } => {
            let from =
                Endpoint { mac: plan.gateway_mac, socket: SocketAddrV4::new(plan.gateway, SERVER_PORT) };
            let to_guest = Endpoint { mac, socket: SocketAddrV4::new(address, CLIENT_PORT) };
            let frame = udp4(from, to_guest, &transmit.payload);
            if frame.is_some_and(|frame| sockets.send_frame(&frame).unwrap_or(false)) {
                return Ok(());
            }
            to(Ipv4Addr::BROADCAST, CLIENT_PORT)
        }
    };
    sockets.udp.send_to(&transmit.payload, destination).await.map(|_| ())
}
