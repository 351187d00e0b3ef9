//! Whatever is sent: nothing panics, replies stay in bounds, memory does too.

use std::time::Duration;

use berth::proto::dhcp4::{Addresses, Parameters, Responder};
use berth::proto::leases::{Leases, Range};
use proptest::prelude::*;

use crate::dhcp::config::Config;
use crate::dhcp::packet::*;
use crate::dhcp::wire::{Core, Wire};

const CONFIGS: [Config; 3] = [Config::Office, Config::Small, Config::Careful];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn arbitrary_bytes_end_nothing(config in 0usize..3, bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        Core::new(CONFIGS[config]).send(&Packet(bytes));
    }

    #[test]
    fn spoilt_requests_end_nothing_and_replies_stay_in_bounds(
        config in 0usize..3,
        kind in 0u8..20,
        tail in proptest::collection::vec(any::<u8>(), 0..600),
        codes in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..8),
        spoilt in proptest::collection::vec((0usize..600, any::<u8>()), 0..6),
    ) {
        let options: Vec<u8> = codes
            .iter()
            .flat_map(|(code, value)| [&[*code, u8::try_from(value.len()).unwrap()], value.as_slice()].concat())
            .collect();
        let mut packet = Packet::new(mac(1), &[&[53, 1, kind], &options, &tail]);
        for (at, byte) in spoilt {
            if let Some(slot) = packet.0.get_mut(at) {
                *slot = byte;
            }
        }
        let mut core = Core::new(CONFIGS[config]);
        for reply in core.send(&packet).into_iter().chain(core.send(&packet)) {
            prop_assert!((300..=1472).contains(&reply.bytes.len()));
            prop_assert_eq!(reply.bytes[0], 2);
            reply.options();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// BOOTP's size (RFC 1542 §2.1), by a server that has nothing to say: some clients drop what is shorter.
    #[test]
    fn no_reply_is_shorter_than_300_octets(
        kind in prop_oneof![Just(None), proptest::sample::select(vec![1u8, 3, 8]).prop_map(Some)],
        cookie in any::<bool>(),
        fields in (any::<bool>(), any::<bool>(), any::<bool>()),
        asked in any::<u8>(),
        wanted in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let words = ["--no-dns", "--address=10.0.0.1/24", "--range=10.0.0.100,10.0.0.110", "--router=none",
            "--reserve=52:54:00:00:00:77,10.0.0.77", "--bootp"];
        let mut settings = crate::dhcp::config::planned(&words).unwrap().settings;
        settings.subnets[0].parameters = Parameters::default();
        let (ciaddr, giaddr, broadcast) = fields;
        let list = [&[55, u8::try_from(wanted.len()).unwrap()], wanted.as_slice()].concat();
        let kind = kind.map(|kind| vec![53, 1, kind]).unwrap_or_default();
        let requested = if asked.is_multiple_of(2) { vec![] } else { asks_for([10, 0, 0, asked].into()) };
        let mut packet = Packet::new([0x52, 0x54, 0, 0, 0, 0x77], &[&kind, &requested, &list]);
        if ciaddr { packet = packet.ciaddr([10, 0, 0, asked].into()); }
        if giaddr { packet = packet.giaddr([10, 0, 0, 9]); }
        if broadcast { packet = packet.broadcast(); }
        if !cookie { packet = packet.set(236, &[0; 4]); }
        for reply in Core::with(settings).send(&packet) {
            prop_assert!(reply.bytes.len() >= 300, "{} octets", reply.bytes.len());
        }
    }
}

/// Option 55 all of one code, all of every code, the longest identifiers: as much work as one packet can make.
#[test]
fn the_most_demanding_packets_are_answered_in_bounds() {
    let mut core = Core::new(Config::Office);
    let lists = [vec![3; 3000], (0..=255).cycle().take(3000).collect(), vec![119; 3000]];
    for list in lists {
        let parts: Vec<u8> = list
            .chunks(250)
            .flat_map(|part| [&[55, u8::try_from(part.len()).unwrap()], part].concat())
            .collect();
        let replies = core.send(&Packet::new(mac(1), &[DISCOVER, &parts, &[57, 2, 255, 255]]));
        assert_eq!(replies.len(), 1);
        assert!(replies[0].bytes.len() <= 1472);
    }
}

/// As many names as packets: what is remembered has its limit, and ends.
#[test]
fn a_flood_of_hardware_addresses_fills_no_more_than_the_limit_and_passes() {
    let mut settings = Config::Office.settings();
    settings.subnets[0].network = "10.0.0.1/8".parse().unwrap();
    let pool = Range { first: [10, 2, 0, 0].into(), last: [10, 2, 255, 255].into() };
    settings.subnets[0].addresses = Addresses::Pool(vec![pool]);
    settings.subnets.truncate(1);
    let now = Core::new(Config::Office).now;
    let mut core = Core { responder: Responder::new(settings, Leases::new(1000)), now };
    let mut offered = 0;
    for number in 0..20_000u16 {
        let replies = core.send(&Packet::new(mac(number), &[DISCOVER]));
        offered += replies.len();
        for reply in replies {
            core.send(&Packet::new(mac(number), &[REQUEST, US, &asks_for(reply.yiaddr())]));
        }
    }
    // As many bound, as many offered.
    assert_eq!((offered, core.responder.leases().len()), (2000, 1000));
    core.advance(Duration::from_secs(3601));
    let wire: &mut dyn Wire = &mut core;
    wire.lease(mac(30_000), &[]);
    assert_eq!(core.responder.leases().len(), 1000);
}
