//! A server that does as little as one can: whole frames in, the same frames out as replies, one address for each
//! client number. The floor that each figure is compared with; and, told to be slow, lossy or wrong, what the driver is
//! tested against.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use berth::net::MacAddr;
use berth::proto::frame::{Endpoint, udp4};
use clap::Args;

use super::link::Link;
use crate::{Error, dhcp6};

/// Ethernet, IPv4 without options, UDP.
const HEADERS: usize = 14 + 20 + 8;

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long)]
    interface: String,
    /// Of IPv6
    #[arg(long)]
    dhcp6: bool,
    /// The server's address
    #[arg(long, default_value = "10.77.0.1")]
    address: Ipv4Addr,
    /// Milliseconds that every reply waits
    #[arg(long, default_value_t = 0.0)]
    delay_ms: f64,
    /// Milliseconds of every second that it does nothing at all
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=900))]
    stall_ms: u64,
    /// Of a hundred requests so many get no answer, evenly
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    loss_percent: u32,
    /// All clients get the same address
    #[arg(long)]
    pub duplicate: bool,
}

/// Until it is killed.
pub fn run(options: &Options) -> Result<(), Error> {
    let open = if options.dhcp6 { Link::open6 } else { Link::open };
    let reply = if options.dhcp6 { dhcp6::echo::reply } else { reply };
    let mut link = open(&options.interface)?;
    let delay = Duration::from_secs_f64(options.delay_ms.max(0.0) / 1e3);
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut buffer, mut seen) = (vec![0; 2048], 0u32);
    println!("ready");
    let mut stalls = Instant::now() + Duration::from_secs(1);
    loop {
        if options.stall_ms > 0 && Instant::now() >= stalls {
            std::thread::sleep(Duration::from_millis(options.stall_ms));
            stalls += Duration::from_secs(1);
        }
        while let Some((_, frame)) = waiting.pop_front_if(|(due, _)| *due <= Instant::now()) {
            link.send(&frame)?;
        }
        let Some(length) = link.receive(&mut buffer)? else {
            let left =
                waiting.front().map(|(due, _)| due.saturating_duration_since(Instant::now()));
            link.wait(left.unwrap_or(Duration::from_secs(60)))?;
            continue;
        };
        let frame = buffer.get(..length).unwrap_or_default();
        let Some(reply) = reply(frame, link.mac, options) else { continue };
        seen += 1;
        if seen % 100 * options.loss_percent % 100 < options.loss_percent {
            continue;
        }
        if delay.is_zero() {
            link.send(&reply)?;
        } else {
            waiting.push_back((Instant::now() + delay, reply));
        }
    }
}

fn reply(frame: &[u8], own: MacAddr, options: &Options) -> Option<Vec<u8>> {
    let to_server = frame.get(36..38) == Some(&[0, 67]);
    let payload = frame.get(HEADERS..).filter(|_| to_server)?;
    let client: &[u8; 6] = payload.get(28..34)?.first_chunk()?;
    let [_, _, _, a, b, c] = *client;
    let address = if options.duplicate {
        Ipv4Addr::new(10, 77, 7, 7)
    } else {
        Ipv4Addr::new(10, a | 0x80, b, c)
    };
    let mut payload = payload.to_vec();
    *payload.first_mut()? = 2;
    payload.get_mut(16..20)?.copy_from_slice(&address.octets());
    let kind = payload.get_mut(242)?;
    *kind = if *kind == 1 { 2 } else { 5 };
    // In the place of whatever came next: who answers.
    payload
        .get_mut(243..250)?
        .copy_from_slice(&[&[54, 4][..], &options.address.octets(), &[255]].concat());
    let end = |mac, address, port| Endpoint { mac, socket: SocketAddrV4::new(address, port) };
    udp4(end(own, options.address, 67), end(MacAddr(*client), address, 68), &payload)
}
