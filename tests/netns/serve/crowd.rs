//! Many clients on one link, each with a MAC of its own, as fast as they are answered.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use berth::net::MacAddr;
use berth::proto::frame::{Endpoint, udp4};
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use socket2::{Domain, Socket, Type};

use crate::support::Netns;

const SILENCE: Duration = Duration::from_millis(150);
/// How often one asks, as clients do: on a busy machine an answer takes longer than silence does.
const TRIES: usize = 100;

pub struct Crowd {
    socket: Socket,
    silence: Duration,
    next: u32,
    held: HashMap<MacAddr, Ipv4Addr>,
}

impl Crowd {
    pub fn new(netns: &Netns, link: &str) -> Self {
        let index: u32 =
            netns.run(&format!("cat /sys/class/net/{link}/ifindex")).trim().parse().unwrap();
        let socket = netns.enter(move || async move {
            let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
            berth::sys::ffi::bind_packet(&socket, index, 3).unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            socket
        });
        Self { socket, silence: SILENCE, next: 0, held: HashMap::new() }
    }

    /// No answer within this time is none.
    pub fn silence(&mut self, silence: Duration) {
        self.silence = silence;
        self.socket.set_read_timeout(Some(silence)).unwrap();
    }

    /// Nobody uses any address any more.
    pub fn forget(&mut self) {
        self.held.clear();
    }

    pub fn held(&self) -> impl Iterator<Item = (MacAddr, Ipv4Addr)> {
        self.held.iter().map(|(client, address)| (*client, *address))
    }

    /// New clients, one after another, until the server says nothing more; how many have their lease.
    pub fn lease_until_silent(&mut self) -> usize {
        (0..)
            .find(|_| {
                let client = self.newcomer();
                self.lease_one(client).is_none()
            })
            .unwrap()
    }

    /// So many new clients.
    pub fn lease(&mut self, count: usize) {
        for number in 0..count {
            let client = self.newcomer();
            let leased = (0..TRIES).any(|_| self.lease_one(client).is_some());
            assert!(leased, "{number} of {count}");
        }
    }

    fn newcomer(&mut self) -> MacAddr {
        self.next += 1;
        let [_, a, b, c] = self.next.to_be_bytes();
        MacAddr([2, 0, 0, a, b, c])
    }

    fn lease_one(&mut self, client: MacAddr) -> Option<()> {
        let offer = self.ask(client, MessageType::Discover, None)?;
        let ack = self.ask(client, MessageType::Request, Some(offer.yiaddr()))?;
        let other = self.held.iter().find(|(_, address)| **address == ack.yiaddr());
        assert_eq!(other, None, "{client} was given another's address");
        self.held.insert(client, ack.yiaddr());
        Some(())
    }

    /// Some of those who have an address ask for it again.
    pub fn renew_some(&mut self) {
        let some: Vec<_> = self.held().take(20).collect();
        for (client, address) in some {
            let reply =
                (0..TRIES).find_map(|_| self.ask(client, MessageType::Request, Some(address)));
            let reply = reply.expect("an answer");
            assert_eq!(
                (reply.opts().msg_type(), reply.yiaddr()),
                (Some(MessageType::Ack), address)
            );
        }
    }

    pub fn discover(&mut self, client: MacAddr) -> Option<Message> {
        self.ask(client, MessageType::Discover, None)
    }

    fn ask(
        &mut self,
        client: MacAddr,
        kind: MessageType,
        address: Option<Ipv4Addr>,
    ) -> Option<Message> {
        let mut message = Message::default();
        message.set_opcode(Opcode::BootRequest).set_chaddr(&client.0).set_xid(self.next);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        if let Some(address) = address {
            message.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
        }
        let end = |mac, address: Ipv4Addr, port| Endpoint {
            mac,
            socket: SocketAddrV4::new(address, port),
        };
        let (from, to) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        let payload = message.to_vec().unwrap();
        let frame = udp4(end(client, from, 68), end(MacAddr([0xff; 6]), to, 67), &payload).unwrap();
        (&self.socket).write_all(&frame).unwrap();
        let mut buffer = [0; 2048];
        // Under a flood there is always something to read.
        let end = Instant::now() + self.silence;
        while Instant::now() < end {
            let length = (&self.socket).read(&mut buffer).ok()?;
            let bytes = buffer.get(42..length).unwrap_or_default();
            let Ok(reply) = Message::decode(&mut Decoder::new(bytes)) else { continue };
            let ours = reply.opcode() == Opcode::BootReply && reply.chaddr() == client.0;
            let wanted =
                if kind == MessageType::Discover { MessageType::Offer } else { MessageType::Ack };
            if ours && reply.opts().has_msg_type(wanted) {
                assert!(reply.opts().get(OptionCode::ServerIdentifier).is_some());
                return Some(reply);
            }
        }
        None
    }
}
