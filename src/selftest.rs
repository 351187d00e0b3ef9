//! A synthetic guest that walks the whole path: DHCP, DNS, out through the NAT, and in from the pod's own address.
//!
//! It is smoltcp's stack on the tap, where QEMU would be. Whether a node lets a launcher do its work shows in seconds, and
//! without an image.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, tcp, udp};
use smoltcp::time::{Duration as Wait, Instant};
use smoltcp::wire::{EthernetAddress, IpEndpoint, Ipv4Cidr};

use crate::net::MacAddr;
use crate::plan::{GuestPlan, NetPlan};

/// Each step has this long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at the tap.
const PAUSE: Duration = Duration::from_millis(1);
/// Echo, RFC 862.
const ECHO: u16 = 7;
const DNS: u16 = 53;
const WORDS: &[u8] = b"berth selftest";
/// `struct virtio_net_hdr` before each frame: all zero means nothing is left to do.
const HEADER: usize = 10;
const LARGEST_FRAME: usize = 65_550;

/// What one step found.
#[derive(Debug)]
pub struct Finding {
    pub step: &'static str,
    pub outcome: Outcome,
}

/// Of one step.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was seen.
    Seen(String),
    /// What was not, and where to look.
    Failed(String),
    /// Why it was not tried.
    Skipped(String),
}

impl From<Result<String, String>> for Outcome {
    fn from(seen: Result<String, String>) -> Self {
        seen.map_or_else(Self::Failed, Self::Seen)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step;
        match &self.outcome {
            Outcome::Seen(what) => write!(f, "ok      {step}: {what}"),
            Outcome::Failed(why) => write!(f, "FAILED  {step}: {why}"),
            Outcome::Skipped(why) => write!(f, "skipped {step}: {why}"),
        }
    }
}

/// Walks the path on a tap that is a port of the bridge, while the network half serves. `pod` is the address that is
/// mapped onto the guest. With `no_dns` there is no name server to be had, and none of the pod's is asked.
pub async fn run(
    tap: OwnedFd,
    plan: &NetPlan,
    pod: Option<Ipv4Addr>,
    no_dns: bool,
) -> Vec<Finding> {
    let guest = plan.guest.clone();
    let walk = tokio::task::spawn_blocking(move || walk(tap, &guest, pod, no_dns));
    walk.await.unwrap_or_else(|error| {
        vec![Finding { step: "guest", outcome: Outcome::Failed(error.to_string()) }]
    })
}

fn walk(tap: OwnedFd, plan: &GuestPlan, pod: Option<Ipv4Addr>, no_dns: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told = |step, outcome: Outcome| {
        let well = matches!(outcome, Outcome::Seen(_));
        findings.push(Finding { step, outcome });
        well
    };
    let mut guest = match Guest::new(tap, plan) {
        Ok(guest) => guest,
        Err(error) => {
            told("tap", Outcome::Failed(format!("it cannot be read: {error}")));
            return findings;
        }
    };
    if told("DHCP", guest.lease(plan).into()) {
        told("DNS", guest.resolve(plan.gateway, "localhost.").into());
        let server = plan.upstreams.iter().find_map(|server| match server.address {
            IpAddr::V4(server) if !server.is_loopback() => Some(server),
            _ => None,
        });
        let none = || Outcome::Skipped("the pod has no IPv4 address".to_owned());
        let out = match server {
            _ if no_dns => {
                Outcome::Skipped("the pod's name servers are not to be asked (--no-dns)".to_owned())
            }
            _ if pod.is_none() => none(),
            None => Outcome::Skipped(
                "resolv.conf names no IPv4 server that a guest could ask".to_owned(),
            ),
            Some(server) => guest.resolve(server, ".").into(),
        };
        told("out through the NAT", out);
        told("in through the NAT", pod.map_or_else(none, |pod| guest.echo(pod).into()));
    }
    findings
}

struct Guest {
    tap: Tap,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl Guest {
    fn new(tap: OwnedFd, plan: &GuestPlan) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&tap, true)?;
        let mtu = usize::try_from(plan.mtu).unwrap_or(1500) + 14;
        let mut tap = Tap { file: File::from(tap), mtu };
        let MacAddr(mac) = plan.mac;
        let interface =
            Interface::new(Config::new(EthernetAddress(mac).into()), &mut tap, Instant::now());
        Ok(Self { tap, interface, sockets: SocketSet::new(Vec::new()) })
    }

    /// Lets the stack work until `done` has something to tell, or too long.
    fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let end = Instant::now() + Wait::from(TIMEOUT);
        while Instant::now() < end {
            self.interface.poll(Instant::now(), &mut self.tap, &mut self.sockets);
            if let Some(found) = done(self) {
                return Some(found);
            }
            std::thread::sleep(PAUSE);
        }
        None
    }

    fn lease(&mut self, plan: &GuestPlan) -> Result<String, String> {
        let mut socket = dhcpv4::Socket::new();
        let mut retry = dhcpv4::RetryConfig::default();
        retry.discover_timeout = Wait::from_millis(500);
        socket.set_retry_config(retry);
        let handle = self.sockets.add(socket);
        let lease =
            self.until(|guest| match guest.sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
                Some(dhcpv4::Event::Configured(lease)) => Some((lease.address, lease.router)),
                _ => None,
            });
        let Some((address, router)) = lease else {
            return Err(
                "no lease: is the tap a port of the bridge, and does anything else answer DHCP there?"
                    .to_owned(),
            );
        };
        let wanted = Ipv4Cidr::new(plan.address.address, plan.address.length);
        if address != wanted || router != Some(plan.gateway) {
            return Err(format!("{address} by {router:?} instead of {wanted} by {}", plan.gateway));
        }
        self.interface
            .update_ip_addrs(|addresses| *addresses = [address.into()].into_iter().collect());
        let route = self.interface.routes_mut().add_default_ipv4_route(plan.gateway);
        route.map_err(|error| error.to_string())?;
        Ok(format!("{address}, router {}", plan.gateway))
    }

    /// Asks a server for a name; any answer to the question will do.
    fn resolve(&mut self, server: Ipv4Addr, name: &str) -> Result<String, String> {
        let name = Name::from_ascii(name).map_err(|error| error.to_string())?;
        let mut question = Message::query();
        question.add_query(Query::query(name, RecordType::A));
        let id = question.metadata.id;
        let octets = question.to_vec().map_err(|error| error.to_string())?;
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 8192]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(49_152 + (id & 0x3fff)).map_err(|error| error.to_string())?;
        let handle = self.sockets.add(socket);
        let endpoint = IpEndpoint::new(server.into(), DNS);
        let mut due = Instant::now();
        let answer = self.until(|guest| {
            let socket = guest.sockets.get_mut::<udp::Socket>(handle);
            if Instant::now() >= due {
                due = Instant::now() + Wait::from_secs(1);
                let _ = socket.send_slice(&octets, endpoint);
            }
            let answer =
                socket.recv().ok().and_then(|(octets, _)| Message::from_vec(octets).ok())?;
            (answer.metadata.id == id).then_some(answer)
        });
        self.sockets.remove(handle);
        match answer {
            Some(answer) => Ok(format!("{server} answers {}", answer.metadata.response_code)),
            None => Err(format!(
                "{server} does not answer: if it is not ours, a network policy may be in the way, or forwarding; --no-dns where no name server is to be had"
            )),
        }
    }

    /// A client in the pod calls the pod's address, and this guest says what it says.
    fn echo(&mut self, pod: Ipv4Addr) -> Result<String, String> {
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(ECHO).map_err(|error| error.to_string())?;
        let handle = self.sockets.add(socket);
        let client = std::thread::spawn(move || call(SocketAddr::from((pod, ECHO))));
        let heard = self.until(|guest| {
            guest.say_it_again(handle);
            client.is_finished().then_some(())
        });
        if heard.is_none() {
            return Err(format!(
                "{pod}:{ECHO} does not answer: other rules of this pod may be in the way (berth nft trace)"
            ));
        }
        let said = client.join().map_err(|_| "the client panicked".to_owned())?;
        said.map(|()| format!("{pod}:{ECHO} is the guest's")).map_err(|error| {
            format!("{pod}:{ECHO}: {error}; other rules of this pod may be in the way (berth nft explain)")
        })
    }

    fn say_it_again(&mut self, handle: SocketHandle) {
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        if socket.can_recv() && socket.can_send() {
            let heard = socket.recv(|octets| (octets.len(), octets.to_vec())).unwrap_or_default();
            let _ = socket.send_slice(&heard);
        }
    }
}

fn call(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(WORDS)?;
    let mut heard = [0; WORDS.len()];
    stream.read_exact(&mut heard)?;
    if heard == *WORDS { Ok(()) } else { Err(io::Error::other("it says something else")) }
}

/// Frames of the tap, without the header that QEMU wants.
struct Tap {
    file: File,
    /// Octets, the Ethernet header with them.
    mtu: usize,
}

struct Received(Vec<u8>);

struct Sending<'a>(&'a File);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, look: F) -> R {
        look(self.0.get(HEADER..).unwrap_or_default())
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, length: usize, fill: F) -> R {
        let mut frame = vec![0; HEADER + length];
        let filled = fill(frame.get_mut(HEADER..).unwrap_or_default());
        // What is lost is sent again.
        let _ = self.0.write(&frame);
        filled
    }
}

impl Device for Tap {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let mut frame = vec![0; LARGEST_FRAME];
        let length = self.file.read(&mut frame).ok()?;
        frame.truncate(length);
        Some((Received(frame), Sending(&self.file)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&self.file))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}
