//! Options that say the same thing as another, or as a field: whichever words said it, a client is told one thing.

use berth::plan::serve::Error;

use crate::dhcp::config::planned;
use crate::dhcp::packet::*;
use crate::dhcp::wire::{Core, Wire};

const BASE: &[&str] = &["--no-dns", "--address=10.0.0.1/24", "--range=10.0.0.100,10.0.0.200"];

fn offer_by(words: &[&str], giaddr: [u8; 4], also: &[&[u8]]) -> Reply {
    let mut core = Core::with(planned(&[BASE, words].concat()).unwrap().settings);
    let all: Vec<u8> = [55, 254].into_iter().chain(1..=254).collect();
    let options = [&[DISCOVER, &all, &[57, 2, 5, 0xdc]], also].concat();
    (&mut core as &mut dyn Wire).reply(&Packet::new(mac(1), &options).giaddr(giaddr))
}

fn offer(words: &[&str]) -> Reply {
    offer_by(words, [0; 4], &[])
}

fn refused(words: &[&str]) -> Error {
    planned(&[BASE, words].concat()).map(drop).unwrap_err()
}

const OURS: [u8; 5] = [0, 10, 0, 0, 1];

#[test]
fn both_options_of_routes_have_the_default_route_and_what_is_told() {
    let told = [&[16, 10, 50, 10, 0, 0, 9][..], &OURS].concat();
    for words in [
        "--option=121=10.50.0.0/16,10.0.0.9",
        "--option=249=10.50.0.0/16,10.0.0.9",
        "--option=121=hex:100a320a000009",
    ] {
        let reply = offer(&[words]);
        assert_eq!(
            (reply.option(121), reply.option(249)),
            (Some(told.clone()), Some(told.clone())),
            "{words}"
        );
        assert_eq!(reply.option(3), Some(vec![10, 0, 0, 1]));
    }
    let both = offer(&["--option=121=10.50.0.0/16,10.0.0.9", "--option=249=10.50.0.0/16,10.0.0.9"]);
    assert_eq!(both.option(249), Some(told));
    assert_eq!(
        (offer(&[]).option(121), offer(&[]).option(249)),
        (Some(OURS.to_vec()), Some(OURS.to_vec()))
    );
    let none = offer(&["--option=121="]);
    assert_eq!(
        (none.option(121), none.option(249), none.option(3)),
        (None, None, Some(vec![10, 0, 0, 1]))
    );
}

#[test]
fn a_default_route_in_the_words_is_the_router_for_all() {
    let reply = offer(&["--option=121=0.0.0.0/0,10.0.0.9,10.50.0.0/16,10.0.0.8"]);
    let told = vec![0, 10, 0, 0, 9, 16, 10, 50, 10, 0, 0, 8];
    assert_eq!((reply.option(121), reply.option(249)), (Some(told.clone()), Some(told)));
    assert_eq!(reply.option(3), Some(vec![10, 0, 0, 9]));
    let alone = offer(&["--router=none", "--option=121=0.0.0.0/0,10.0.0.9"]);
    assert_eq!((alone.option(121), alone.option(3)), (Some(vec![0, 10, 0, 0, 9]), None));
    let two = |words: &[&str]| matches!(refused(words), Error::TwoDefaults { .. });
    assert!(two(&["--router=10.0.0.8", "--option=121=0.0.0.0/0,10.0.0.9"]));
    assert!(two(&["--option=3=10.0.0.8", "--option=121=0.0.0.0/0,10.0.0.9"]));
    let same = offer(&["--router=10.0.0.9", "--option=121=0.0.0.0/0,10.0.0.9"]);
    assert_eq!(same.option(3), Some(vec![10, 0, 0, 9]));
}

#[test]
fn routers_by_number_are_those_of_the_routes_and_nobody_s_address() {
    let reply = offer(&["--option=3=10.0.0.100,10.0.0.101"]);
    assert_eq!(reply.option(3), Some(vec![10, 0, 0, 100, 10, 0, 0, 101]));
    assert_eq!(reply.option(121), Some(vec![0, 10, 0, 0, 100]));
    assert_eq!(reply.yiaddr().octets(), [10, 0, 0, 102]);
    let none = offer(&["--option=3="]);
    assert_eq!((none.option(3), none.option(121), none.option(249)), (None, None, None));
}

/// Behind a relay the link's own routers, routes and broadcast address lead nowhere.
#[test]
fn a_relayed_network_has_its_own_router_routes_and_broadcast() {
    let words = [
        "--relayed=10.2.0.0/24,10.2.0.10,10.2.0.20,10.2.0.1",
        "--option=3=10.0.0.7,10.0.0.8",
        "--option=28=10.0.0.127",
        "--option=121=10.50.0.0/16,10.0.0.9,10.60.0.0/16,10.2.0.9",
    ];
    let (here, behind) = (offer(&words), offer_by(&words, [10, 2, 0, 1], &[]));
    assert_eq!(here.option(3), Some(vec![10, 0, 0, 7, 10, 0, 0, 8]));
    assert_eq!(here.option(28), Some(vec![10, 0, 0, 127]));
    assert_eq!(here.option(121), Some(vec![16, 10, 50, 10, 0, 0, 9, 0, 10, 0, 0, 7]));
    assert_eq!(
        (behind.option(3), behind.option(28)),
        (Some(vec![10, 2, 0, 1]), Some(vec![10, 2, 0, 255]))
    );
    assert_eq!(behind.option(121), Some(vec![16, 10, 60, 10, 2, 0, 9, 0, 10, 2, 0, 1]));
    let twice =
        ["--relayed=10.2.0.0/24,10.2.0.10,10.2.0.20,10.2.0.1", "--option=121=0.0.0.0/0,10.2.0.9"];
    assert!(matches!(refused(&twice), Error::TwoDefaults { .. }));
}

#[test]
fn a_mask_by_number_decides_the_broadcast_address_and_the_way_to_the_router() {
    let wide = offer(&["--option=1=255.255.0.0"]);
    assert_eq!(
        (wide.option(1), wide.option(28)),
        (Some(vec![255, 255, 0, 0]), Some(vec![10, 0, 255, 255]))
    );
    let alone = offer(&["--option=1=255.255.255.255"]);
    assert_eq!((alone.option(1), alone.option(28)), (Some(vec![255; 4]), None));
    assert_eq!(alone.option(121), Some([&[32, 10, 0, 0, 1, 0, 0, 0, 0][..], &OURS].concat()));
    let told = offer(&["--option=1=255.255.0.0", "--option=28=10.0.0.9"]);
    assert_eq!(told.option(28), Some(vec![10, 0, 0, 9]));
}

#[test]
fn names_by_number_are_those_of_the_flags() {
    let fqdn = [81, 6, 0, 0, 0, b'p', b'c', b'1'];
    let by_number =
        offer_by(&["--option=15=corp.test", "--option=119=a.test,b.test"], [0; 4], &[&fqdn]);
    let by_flag =
        offer_by(&["--domain=corp.test", "--search=a.test", "--search=b.test"], [0; 4], &[&fqdn]);
    assert_eq!(by_number.options(), by_flag.options());
    assert_eq!(by_number.option(81), Some(b"\x08\xff\xffpc1.corp.test".to_vec()));
    assert_eq!(offer(&["--option=119=a.test"]).options(), offer(&["--search=a.test"]).options());
    assert_eq!(offer(&["--option=6=10.0.0.53"]).options(), offer(&["--dns=10.0.0.53"]).options());
    let nothing = offer_by(&["--option=15=", "--search=a.test"], [0; 4], &[&fqdn]);
    assert_eq!((nothing.option(15), nothing.option(81)), (None, Some(b"\x08\xff\xffpc1".to_vec())));
    let named = offer_by(&["--option=12=kiosk"], [0; 4], &[&fqdn]);
    assert_eq!(
        (named.text(12).as_deref(), named.option(81)),
        (Some("kiosk"), Some(b"\x08\xff\xffkiosk".to_vec()))
    );
}

#[test]
fn boot_files_and_servers_by_number_are_in_the_fields_too() {
    let pxe = [60, 9, b'P', b'X', b'E', b'C', b'l', b'i', b'e', b'n', b't'];
    let of = |words: &[&str]| offer_by(words, [0; 4], &[&pxe]);
    let by_number = of(&["--option=66=10.0.0.69", "--option=67=lpxelinux.0"]);
    assert_eq!(by_number, of(&["--next-server=10.0.0.69", "--boot-file=lpxelinux.0"]));
    assert_eq!((by_number.siaddr().octets(), by_number.file()), ([10, 0, 0, 69], "lpxelinux.0"));
    assert_eq!(
        (by_number.text(66).as_deref(), by_number.text(67).as_deref()),
        (Some("10.0.0.69"), Some("lpxelinux.0"))
    );
    // What telephones take is no address, and stays beside the boot file's server.
    let named = of(&["--option=66=https://phones.test/", "--boot-file=7=grubx64.efi"]);
    assert_eq!(
        (named.text(66).as_deref(), named.siaddr().octets()),
        (Some("https://phones.test/"), [10, 0, 0, 1])
    );
    let particular = [&pxe[..], &[93, 2, 0, 7]].concat();
    let words = ["--option=67=lpxelinux.0", "--boot-file=7=grubx64.efi"];
    assert_eq!(offer_by(&words, [0; 4], &[&particular]).file(), "grubx64.efi");
    assert_eq!(of(&words).file(), "lpxelinux.0");
}

#[test]
fn what_is_said_twice_is_refused() {
    for (words, code) in [
        (["--router=10.0.0.9", "--option=3=10.0.0.8"], 3),
        (["--router=none", "--option=3=10.0.0.8"], 3),
        (["--dns=10.0.0.9", "--option=6=10.0.0.8"], 6),
        (["--domain=a.test", "--option=15=b.test"], 15),
        (["--search=a.test", "--option=119=b.test"], 119),
        (["--next-server=10.0.0.9", "--option=66=10.0.0.8"], 66),
        (["--boot-file=a", "--option=67=b"], 67),
    ] {
        assert!(
            matches!(refused(&words), Error::SaidTwice { code: of, .. } if of == code),
            "{words:?}"
        );
    }
    assert_eq!(refused(&["--option=42=10.0.0.8", "--option=42=10.0.0.9"]), Error::OptionTwice(42));
    assert_eq!(refused(&["--option=33=10.50.0.1,10.0.0.9"]), Error::StaticRoutes);
    assert_eq!(
        refused(&["--option=121=10.5.0.0/16,10.0.0.9", "--option=249=10.6.0.0/16,10.0.0.9"]),
        Error::RoutesDiffer
    );
    assert_eq!(refused(&["--option=121=hex:21ffffffff"]), Error::NoRoutes);
    for ours in [50, 51, 53, 54, 58, 59, 61, 82] {
        assert!(
            matches!(refused(&[&format!("--option={ours}=hex:00000001")]), Error::Option(_)),
            "{ours}"
        );
    }
}
