//! smoltcp's DHCP client on a link: its stack behind a packet socket, in a thread of its own.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::dhcpv4;
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;
use socket2::{Domain, Socket, Type};

use crate::support::Netns;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Ends with the test.
pub struct Client {
    told: Arc<Mutex<String>>,
    ended: Arc<AtomicBool>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Client {
    pub fn start(netns: &Netns, link: &str) -> Self {
        let index: u32 =
            netns.run(&format!("cat /sys/class/net/{link}/ifindex")).trim().parse().unwrap();
        netns.ip(&format!("link set {link} promisc on"));
        let socket = netns.enter(move || async move {
            let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
            berth::sys::ffi::bind_packet(&socket, index, 3).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            socket
        });
        let client = Self { told: Arc::default(), ended: Arc::default() };
        let (told, ended) = (client.told.clone(), client.ended.clone());
        std::thread::spawn(move || run(Wire(socket), &told, &ended));
        client
    }

    /// A line for each lease that was had or lost.
    pub fn told(&self) -> String {
        self.told.lock().unwrap().clone()
    }
}

fn run(mut wire: Wire, told: &Mutex<String>, ended: &AtomicBool) {
    let config = Config::new(EthernetAddress(MAC).into());
    let mut interface = Interface::new(config, &mut wire, Instant::now());
    let mut sockets = SocketSet::new(Vec::new());
    let handle = sockets.add(dhcpv4::Socket::new());
    while !ended.load(Ordering::Relaxed) {
        interface.poll(Instant::now(), &mut wire, &mut sockets);
        let line = match sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
            None => continue,
            Some(dhcpv4::Event::Configured(config)) => {
                let address = config.address.into();
                interface.update_ip_addrs(|addresses| *addresses = [address].into_iter().collect());
                format!("{} by {}\n", config.address, config.server.identifier)
            }
            Some(dhcpv4::Event::Deconfigured) => {
                interface.update_ip_addrs(|addresses| *addresses = [].into_iter().collect());
                "lost\n".to_owned()
            }
        };
        told.lock().unwrap().push_str(&line);
    }
}

/// Frames in and out; one that comes is waited for a little.
struct Wire(Socket);

struct Frame(Vec<u8>);

struct Sending<'a>(&'a Socket);

impl Device for Wire {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Frame, Sending<'_>)> {
        let mut buffer = vec![0; 2048];
        let length = (&self.0).read(&mut buffer).ok()?;
        buffer.truncate(length);
        Some((Frame(buffer), Sending(&self.0)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.write_all(&frame).unwrap();
        result
    }
}
