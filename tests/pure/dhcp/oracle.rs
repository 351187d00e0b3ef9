//! dhcproto reads what we write, and agrees on what we read.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message, OptionCode};
use dhcproto::{Decodable, Decoder};
use proptest::prelude::*;

use crate::dhcp::config::Config;
use crate::dhcp::packet::*;
use crate::dhcp::wire::{Core, Wire};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever is asked for, another implementation finds in the reply what we mean.
    #[test]
    fn replies_are_read_alike(
        number in 1u16..500,
        wanted in proptest::collection::vec(any::<u8>(), 1..60),
        id in proptest::collection::vec(any::<u8>(), 2..60),
        size in 576u16..1500,
        secs in 1u32..10_000,
    ) {
        let option = |code, value: &[u8]| [&[code, u8::try_from(value.len()).unwrap()], value].concat();
        let packet = Packet::new(mac(number), &[
            DISCOVER,
            &option(55, &wanted),
            &option(61, &id),
            &option(57, &size.to_be_bytes()),
            &option(51, &secs.to_be_bytes()),
        ]);
        let asked = Message::decode(&mut Decoder::new(&packet.0)).unwrap();
        prop_assert_eq!(asked.opts().get(OptionCode::ClientIdentifier), Some(&DhcpOption::ClientIdentifier(id.clone())));
        let mut core = Core::new(Config::Office);
        let reply = (&mut core as &mut dyn Wire).reply(&packet);
        let read = Message::decode(&mut Decoder::new(&reply.bytes)).unwrap();
        prop_assert_eq!((read.xid(), read.yiaddr(), read.siaddr()), (asked.xid(), reply.yiaddr(), reply.siaddr()));
        prop_assert_eq!(read.chaddr(), asked.chaddr());
        let options = read.opts();
        prop_assert_eq!(options.get(OptionCode::ClientIdentifier), Some(&DhcpOption::ClientIdentifier(id)));
        prop_assert_eq!(options.get(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 1))));
        prop_assert_eq!(options.get(OptionCode::AddressLeaseTime), Some(&DhcpOption::AddressLeaseTime(secs.clamp(300, 3600))));
        prop_assert_eq!(options.get(OptionCode::SubnetMask), Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0))));
    }
}
