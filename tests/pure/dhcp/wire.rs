//! How a case reaches its server.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime};

use berth::proto::Now;
use berth::proto::dhcp4::{Destination, Reason, Responder, Settings, Transmit};
use berth::proto::leases::Leases;

use crate::dhcp::config::Config;
use crate::dhcp::packet::{ACK, DISCOVER, Mac, OFFER, Packet, REQUEST, Reply, To, US, asks_for};

pub trait Wire {
    /// What comes back for one packet.
    fn send(&mut self, packet: &Packet) -> Vec<Reply>;
    fn advance(&mut self, by: Duration);
}

/// What every case needs.
impl dyn Wire + '_ {
    pub fn reply(&mut self, packet: &Packet) -> Reply {
        let mut replies = self.send(packet);
        assert_eq!(replies.len(), 1, "one reply to {packet:02x?}");
        replies.remove(0)
    }

    pub fn silence(&mut self, packet: &Packet) {
        assert_eq!(self.send(packet), [], "no reply to {packet:02x?}");
    }

    /// The address offered.
    pub fn discover(&mut self, mac: Mac, options: &[&[u8]]) -> Ipv4Addr {
        let offer = self.reply(&Packet::new(mac, &[&[DISCOVER], options].concat()));
        assert_eq!(offer.kind(), OFFER);
        offer.yiaddr()
    }

    /// The answer to a REQUEST that selects what was offered.
    pub fn select(&mut self, mac: Mac, address: Ipv4Addr, options: &[&[u8]]) -> Reply {
        let asked = asks_for(address);
        self.reply(&Packet::new(mac, &[&[REQUEST, US, &asked], options].concat()))
    }

    /// The address the client has in the end.
    pub fn lease(&mut self, mac: Mac, options: &[&[u8]]) -> Ipv4Addr {
        let address = self.discover(mac, options);
        let ack = self.select(mac, address, options);
        assert_eq!((ack.kind(), ack.yiaddr()), (ACK, address));
        address
    }

    pub fn renew(&mut self, mac: Mac, address: Ipv4Addr) -> Reply {
        self.reply(&Packet::new(mac, &[REQUEST]).ciaddr(address))
    }
}

/// Where requests come from with which a relay says that it does not use the server port.
pub const ANOTHER_PORT: u16 = 1067;
/// Option 82 that says so.
pub const SOURCE_PORT: &[u8] = &[82, 2, 19, 0];

/// The core, under a virtual clock.
pub struct Core {
    pub responder: Responder,
    pub now: Now,
}

impl Core {
    pub fn new(config: Config) -> Self {
        Self::with(config.settings())
    }

    pub fn with(settings: Settings) -> Self {
        let now = Now {
            monotonic: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30),
        };
        Self { responder: Responder::new(settings, Leases::new(100_000)), now }
    }

    pub fn answer(&mut self, packet: &Packet) -> Result<Option<Transmit>, Reason> {
        self.responder.answer(self.now, &packet.0)
    }
}

impl Wire for Core {
    fn send(&mut self, packet: &Packet) -> Vec<Reply> {
        let Ok(Some(transmit)) = self.answer(packet) else { return Vec::new() };
        let to = match transmit.destination {
            Destination::Broadcast => To { address: Ipv4Addr::BROADCAST, port: 68, mac: None },
            Destination::Unicast { address, mac } => To { address, port: 68, mac: Some(mac.0) },
            Destination::Client(address) => To { address, port: 68, mac: None },
            Destination::Relay(address) => To { address, port: 67, mac: None },
            Destination::RelaySource(address) => To { address, port: ANOTHER_PORT, mac: None },
        };
        vec![Reply { to, bytes: transmit.payload }]
    }

    fn advance(&mut self, by: Duration) {
        self.now.monotonic += by;
        self.now.wall += by;
    }
}
