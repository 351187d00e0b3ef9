//! Many clients, each with its own address: under a clock that is moved by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::net::Ipv6Prefix;
use crate::proto::leases::{Lease, LeaseTime, Range, State};
use crate::proto::limits::Limits;

const LINK: &str = "fd00::/64";
const BEHIND: &str = "fd00:0:0:2::/64";
const OURS: &str = "fd00::1";
/// Of the client with this MAC.
const RESERVED: &str = "fd00::5";
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 5];

fn prefix(text: &str) -> Ipv6Prefix {
    text.parse().unwrap()
}

fn range(first: &str, last: &str) -> Range<Ipv6Addr> {
    Range { first: address(first), last: address(last) }
}

/// Three addresses on the link, one more reserved, one in the relayed network.
fn pool() -> Pool {
    let lease = LeaseTime { default: 3600, min: 60, max: 7200 };
    Pool {
        subnets: vec![
            Subnet {
                network: prefix(LINK),
                server: Some(address(OURS)),
                ranges: vec![range("fd00::1", "fd00::5")],
                lease,
            },
            Subnet {
                network: prefix(BEHIND),
                server: None,
                ranges: vec![range("fd00:0:0:2::9", "fd00:0:0:2::9")],
                lease,
            },
        ],
        reservations: vec![Reservation {
            client: ReservedFor::Mac(MacAddr(MAC)),
            address: address(RESERVED),
            name: Some("web".to_owned()),
        }],
        authoritative: true,
        offer_hold: Duration::from_secs(60),
        quarantine: Duration::from_secs(600),
        limits: Limits::default(),
    }
}

struct Core {
    responder: Responder,
    now: Now,
    settings: Settings,
    file: Vec<u8>,
}

impl Core {
    fn with(change: impl FnOnce(&mut Settings, &mut Pool)) -> Self {
        let mut pool = pool();
        let mut settings = Settings::pool(Duid::new(&US[4..]).unwrap(), pool.clone());
        change(&mut settings, &mut pool);
        settings.addresses = Addresses::Pool(pool);
        let responder = Responder::with_leases(settings.clone(), Leases::new(1000)).unwrap();
        Self { responder, now: now(), settings, file: Vec::new() }
    }

    fn new() -> Self {
        Self::with(|_, _| {})
    }

    fn on(&mut self, secs: u64) {
        self.now.monotonic += Duration::from_secs(secs);
        self.now.wall += Duration::from_secs(secs);
    }

    fn ask(&mut self, octets: &[u8]) -> Result<Option<Reply>, Reason> {
        let datagram = Datagram { payload: octets, unicast: false };
        let answer = self.responder.answer(self.now, datagram);
        self.file.extend(self.responder.leases().journal());
        Ok(answer?.map(|transmit| Reply::of(&transmit.payload)))
    }

    fn reply(&mut self, kind: u8, client: &[u8], association: &[u8]) -> Reply {
        let us: &[u8] = if [REQUEST, RENEW, RELEASE, DECLINE].contains(&kind) { US } else { &[] };
        self.ask(&message(kind, &[client, us, association])).unwrap().unwrap()
    }

    /// What the association 7 of a client gets by a message that names these addresses.
    fn gets(&mut self, kind: u8, number: u8, named: &[&str]) -> Content {
        self.reply(kind, &client(number), &ia_na(7, named)).only()
    }

    fn given(&mut self, kind: u8, number: u8, named: &[&str]) -> Ipv6Addr {
        match self.gets(kind, number, named) {
            Content::Lease(_, addresses) => addresses[0].0,
            Content::Status(status) => panic!("status {status}"),
        }
    }

    fn leased(&mut self, number: u8) -> Ipv6Addr {
        let advertised = self.given(SOLICIT, number, &[]);
        assert_eq!(self.given(REQUEST, number, &[&advertised.to_string()]), advertised);
        advertised
    }

    /// Killed, and started with what its file says.
    fn restart(&mut self) {
        let (leases, recovered) = Leases::recover(self.now, &self.file, 1000);
        assert_eq!(recovered.damaged, 0);
        self.responder = Responder::with_leases(self.settings.clone(), leases).unwrap();
    }
}

/// A DUID-UUID, which has no MAC in it.
fn client(number: u8) -> Vec<u8> {
    option(1, &[&[0, 4][..], &[number; 16]].concat())
}

fn duid_ll(mac: [u8; 6]) -> Vec<u8> {
    option(1, &[&[0, 3, 0, 1][..], &mac].concat())
}

fn valid(times: [u32; 2], addresses: &[(Ipv6Addr, u32)]) -> Content {
    let each = addresses.iter().map(|(address, valid)| (*address, vec![*valid, *valid]));
    Content::Lease(times.to_vec(), each.collect())
}

#[test]
fn v11_each_client_is_advertised_an_address_of_its_own_and_the_same_again() {
    let mut core = Core::new();
    let addresses: Vec<Ipv6Addr> = (0..3).map(|it| core.given(SOLICIT, it, &[])).collect();
    for (number, advertised) in (0..3).zip(&addresses) {
        assert!(*advertised != address(OURS) && *advertised != address(RESERVED));
        assert_eq!(core.given(SOLICIT, number, &[]), *advertised);
        assert_eq!(addresses.iter().filter(|other| *other == advertised).count(), 1);
    }
    assert_eq!(core.gets(SOLICIT, 9, &[]), Content::Status(NO_ADDRS_AVAIL), "three are held");
    assert_eq!(core.responder.counts()[&Reason::Exhausted], 1);
    core.on(61);
    core.given(SOLICIT, 9, &[]);
}

#[test]
fn v11_rapid_commit_binds_at_once_when_it_is_enabled() {
    let mut core = Core::with(|settings, _| settings.rapid_commit = true);
    let asked = message(SOLICIT, &[&client(1), RAPID_COMMIT, &ia_na(7, &[])]);
    let reply = core.ask(&asked).unwrap().unwrap();
    assert_eq!((reply.kind, reply.option(14)), (REPLY, Some(&[][..])));
    assert_eq!(core.responder.leases().len(), 1);
    let mut core = Core::new();
    assert_eq!(core.ask(&asked).unwrap().unwrap().kind, ADVERTISE);
    assert_eq!(core.responder.leases().len(), 0);
}

#[test]
fn v11_a_client_may_have_the_free_address_it_names_and_no_other() {
    let mut core = Core::new();
    assert_eq!(core.given(SOLICIT, 1, &["fd00::4"]), address("fd00::4"));
    for taken in ["fd00::4", OURS, RESERVED, "fd00::77", UNKNOWN] {
        assert_ne!(core.given(SOLICIT, 2, &[taken]), address(taken));
    }
}

#[test]
fn v12_a_request_binds_and_one_for_another_link_is_told_so() {
    let mut core = Core::new();
    let address = core.leased(1);
    assert_eq!(core.gets(REQUEST, 1, &[UNKNOWN]), Content::Status(NOT_ON_LINK));
    let line = String::from_utf8(core.file.clone()).unwrap();
    assert!(line.starts_with(&format!("bound {address} ")), "{line}");
    // Without an offer: forgotten by time, or by a restart.
    core.given(REQUEST, 2, &["fd00::3"]);
}

#[test]
fn v12_a_request_to_another_server_frees_what_was_advertised() {
    let mut core = Core::new();
    let offered: Vec<Ipv6Addr> = (1..4).map(|it| core.given(SOLICIT, it, &[])).collect();
    let other = message(REQUEST, &[&client(1), OTHER, &ia_na(7, &[])]);
    assert_eq!(core.ask(&other).err(), Some(Reason::OtherServer));
    assert_eq!(core.given(SOLICIT, 4, &[]), offered[0]);
}

#[test]
fn v13_confirm_is_about_the_link() {
    let mut core = Core::new();
    for (named, status) in [("fd00::77", SUCCESS), (UNKNOWN, NOT_ON_LINK)] {
        let reply = core.reply(CONFIRM, &client(1), &ia_na(7, &[named]));
        assert_eq!(reply.status(), Some(status), "{named}");
    }
    let mut beside = Core::with(|_, pool| pool.authoritative = false);
    let asked = message(CONFIRM, &[&client(1), &ia_na(7, &[UNKNOWN])]);
    assert!(beside.ask(&asked).unwrap().is_none(), "another server may know");
}

#[test]
fn v14_renew_and_rebind_extend_and_end_what_is_not_its_own() {
    let mut core = Core::new();
    let its = core.leased(1);
    for kind in [RENEW, REBIND] {
        core.on(3000);
        assert_eq!(core.gets(kind, 1, &[&its.to_string()]), valid([1800, 2880], &[(its, 3600)]));
        let both = core.gets(kind, 1, &[UNKNOWN, &its.to_string()]);
        assert_eq!(both, valid([1800, 2880], &[(its, 3600), (address(UNKNOWN), 0)]));
    }
}

#[test]
fn v14_who_is_not_known_gets_its_free_address_back_or_hears_that_it_has_none() {
    let mut core = Core::new();
    let its = core.leased(1);
    for kind in [RENEW, REBIND] {
        assert_eq!(core.gets(kind, 9, &[&its.to_string()]), Content::Status(NO_BINDING));
    }
    assert_eq!(core.gets(REBIND, 9, &[UNKNOWN]), valid([0, 0], &[(address(UNKNOWN), 0)]));
    let free = (2..5).map(|last| format!("fd00::{last}")).find(|it| address(it) != its).unwrap();
    assert_eq!(core.given(RENEW, 2, &[&free]), address(&free));
    // Another server's, perhaps.
    let mut beside = Core::with(|_, pool| pool.authoritative = false);
    let rebind = message(REBIND, &[&client(1), &ia_na(7, &["fd00::3"])]);
    assert!(beside.ask(&rebind).unwrap().is_none());
    assert_eq!(beside.gets(RENEW, 1, &["fd00::3"]), Content::Status(NO_BINDING));
}

#[test]
fn v16_release_frees_and_decline_quarantines() {
    let mut core = Core::new();
    let its = core.leased(1).to_string();
    for kind in [RELEASE, DECLINE] {
        let foreign = core.reply(kind, &client(2), &ia_na(7, &[&its]));
        assert_eq!(foreign.status(), Some(SUCCESS));
        assert_eq!(foreign.only(), Content::Status(NO_BINDING));
    }
    let released = core.reply(RELEASE, &client(1), &ia_na(7, &[&its]));
    assert_eq!((released.status(), released.associations()), (Some(SUCCESS), Vec::new()));
    assert_eq!(core.given(REQUEST, 2, &[&its]), address(&its));
    core.reply(DECLINE, &client(2), &ia_na(7, &[&its]));
    assert_eq!(core.responder.last_declined(), Some(address(&its)));
    core.restart();
    for number in 1..3 {
        core.leased(number);
    }
    assert_eq!(core.gets(SOLICIT, 3, &[]), Content::Status(NO_ADDRS_AVAIL));
    // The file's ends are rounded up.
    core.on(604);
    assert_eq!(core.given(SOLICIT, 3, &[]), address(&its));
}

#[test]
fn v15_a_server_without_addresses_answers_information_requests_alone() {
    let mut core = Core::with(|_, pool| {
        pool.reservations.clear();
        pool.subnets.iter_mut().for_each(|subnet| subnet.ranges.clear());
    });
    let solicit = message(SOLICIT, &[&client(1), &ia_na(7, &[])]);
    assert_eq!(core.ask(&solicit).err(), Some(Reason::NothingToGive));
    assert_eq!(core.ask(&message(INFORMATION_REQUEST, &[])).unwrap().unwrap().kind, REPLY);
}

#[test]
fn v18_several_associations_have_an_address_each_and_other_kinds_none() {
    let mut core = Core::new();
    let all = [ia_na(7, &[]), ia_na(8, &[]), association(4, 9, &[]), association(25, 9, &[])];
    let reply = core.reply(SOLICIT, &client(1), &all.concat());
    let contents: Vec<Content> = reply.associations().into_iter().map(|(.., it)| it).collect();
    let [Content::Lease(_, one), Content::Lease(_, two), temporary, prefix] = &contents[..] else {
        panic!("{contents:?}");
    };
    assert_ne!(one, two);
    assert_eq!(*temporary, Content::Status(NO_ADDRS_AVAIL));
    assert_eq!(*prefix, Content::Status(NO_PREFIX_AVAIL));
}

/// A client that invents associations would have all of the pool.
#[test]
fn v18_no_client_has_more_than_eight_addresses() {
    let wide = |_: &mut Settings, pool: &mut Pool| {
        pool.subnets[0].ranges = vec![range("fd00::100", "fd00::ffff")];
    };
    let mut core = Core::with(wide);
    for kind in [SOLICIT, REQUEST] {
        for id in 0..20 {
            core.reply(kind, &client(1), &ia_na(id, &[]));
        }
    }
    assert_eq!(core.responder.leases().len(), MAX_HELD);
    let third = |lease: &Lease<Ipv6Addr>| lease.client.0.ends_with(&[0, 3]);
    let its = core.responder.leases().iter().find(third).unwrap().address.to_string();
    core.reply(RELEASE, &client(1), &ia_na(3, &[&its]));
    core.reply(REQUEST, &client(1), &ia_na(99, &[]));
    assert_eq!(
        core.responder.leases().iter().filter(|it| it.state == State::Bound).count(),
        MAX_HELD
    );
    core.leased(2);
}

#[test]
fn v19_lifetimes_asked_for_are_bounded() {
    let mut core = Core::new();
    for (asked, given) in [(1, 60), (600, 600), (0, 3600), (u32::MAX, 7200)] {
        let wish = [&address("::").octets()[..], &asked.to_be_bytes(), &asked.to_be_bytes()];
        let wish = option(
            3,
            &[&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0], &option(5, &wish.concat())[..]].concat(),
        );
        let Content::Lease(_, addresses) = core.reply(SOLICIT, &client(1), &wish).only() else {
            panic!()
        };
        assert_eq!(addresses[0].1, [given, given]);
    }
}

#[test]
fn v21_a_relay_agent_chooses_the_network() {
    let mut core = Core::new();
    let relay = |link: &str, options: &[u8], inner: &[u8]| {
        let head = [&[12, 0][..], &address(link).octets(), &address("fe80::2").octets()].concat();
        [&head[..], options, &option(9, inner)].concat()
    };
    let solicit = message(SOLICIT, &[&client(1), &ia_na(7, &[])]);
    let inner = |core: &mut Core, octets: &[u8], depth: usize| {
        let datagram = Datagram { payload: octets, unicast: true };
        let mut payload = core.responder.answer(core.now, datagram)?.unwrap().payload;
        for _ in 0..depth {
            let (_, value) =
                items(&payload[34..]).into_iter().find(|(code, _)| *code == 9).unwrap();
            payload = value;
        }
        Ok::<_, Reason>(Reply::of(&payload).only())
    };
    let there = valid([1800, 2880], &[(address("fd00:0:0:2::9"), 3600)]);
    assert_eq!(inner(&mut core, &relay("fd00:0:0:2::1", &[], &solicit), 1), Ok(there.clone()));
    assert_eq!(inner(&mut core, &relay(UNKNOWN, &[], &solicit), 1), Err(Reason::NoSubnet));
    // One that only passes on what comes by a link has no address there (RFC 6221).
    let light = relay("::", &[], &solicit);
    assert_eq!(inner(&mut core, &relay("fd00:0:0:2::1", &[], &light), 2), Ok(there));
    let on_link = inner(&mut core, &light, 1).unwrap();
    assert!(matches!(on_link, Content::Lease(_, all) if prefix(LINK).contains(all[0].0)));
    // A MAC is what the agent says it is (RFC 6939).
    let says = option(79, &[&[0, 1][..], &MAC].concat());
    let reserved = valid([1800, 2880], &[(address(RESERVED), 3600)]);
    assert_eq!(inner(&mut core, &relay("fd00::2", &says, &solicit), 1), Ok(reserved));
}

#[test]
fn v22_a_reserved_address_is_the_machine_s_whatever_it_calls_itself() {
    let mut core = Core::new();
    let llt = option(1, &[&[0, 1, 0, 1, 9, 9, 9, 9][..], &MAC].concat());
    for (duid, id) in [(duid_ll(MAC), 7), (llt, 7), (duid_ll(MAC), 8)] {
        for kind in [SOLICIT, REQUEST] {
            let reply = core.reply(kind, &duid, &ia_na(id, &[]));
            let [(.., Content::Lease(_, all))] = &reply.associations()[..] else { panic!() };
            assert_eq!(all[0].0, address(RESERVED));
        }
    }
    let named = core.responder.leases().named();
    assert!(named.iter().all(|lease| lease.name.as_deref() == Some("web")), "{named:?}");
    assert_ne!(core.given(SOLICIT, 1, &[RESERVED]), address(RESERVED));
}

#[test]
fn v22_bindings_are_of_a_duid_and_an_iaid_and_outlive_a_restart() {
    let mut core = Core::new();
    let (one, two) = (core.leased(1), core.leased(2));
    core.restart();
    assert_eq!(core.given(RENEW, 1, &[&one.to_string()]), one);
    core.on(7201);
    assert_eq!(core.given(SOLICIT, 2, &[]), two, "its previous one");
    let other = core.reply(SOLICIT, &client(1), &ia_na(8, &[]));
    let [(.., Content::Lease(_, all))] = &other.associations()[..] else { panic!() };
    assert_ne!(all[0].0, two);
}

#[test]
fn v22_a_client_has_the_same_address_after_everything_was_forgotten() {
    let wide = |_: &mut Settings, pool: &mut Pool| {
        pool.subnets[0].ranges = vec![range("fd00::1:0", "fd00::ffff:ffff:ffff")];
    };
    let before: Vec<Ipv6Addr> = (0..9).map(|it| Core::with(wide).leased(it)).collect();
    let mut core = Core::with(wide);
    let after: Vec<Ipv6Addr> = (0..9).rev().map(|it| core.leased(it)).collect();
    assert!(before.iter().eq(after.iter().rev()));
}

#[test]
fn v22_a_flood_of_clients_is_held_to_its_rate_and_renewals_are_not() {
    let mut core = Core::with(|_, pool| {
        pool.limits = Limits { per_client: None, total: Some(1) };
    });
    let its = core.leased(1).to_string();
    let refused = |core: &mut Core, number| {
        let asked = message(SOLICIT, &[&client(number), &ia_na(7, &[])]);
        core.ask(&asked).err() == Some(Reason::TooMany)
    };
    assert_eq!((2..12).filter(|number| refused(&mut core, *number)).count(), 9);
    core.given(RENEW, 1, &[&its]);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let refused = |change: fn(&mut Pool)| {
        let mut pool = pool();
        change(&mut pool);
        Responder::new(Settings::pool(Duid::new(&US[4..]).unwrap(), pool)).unwrap_err()
    };
    let inside = |pool: &mut Pool| pool.subnets[1].network = prefix("fd00::8:0/112");
    assert!(matches!(refused(inside), Error::Overlap(..)));
    let outside = |pool: &mut Pool| pool.subnets[0].ranges[0].last = address(UNKNOWN);
    assert!(matches!(refused(outside), Error::Range(..)));
    let turned = |pool: &mut Pool| pool.subnets[0].lease.min = 9999;
    assert!(matches!(refused(turned), Error::LeaseTime(_)));
    assert_eq!(refused(|pool| pool.subnets.clear()), Error::NoAddress);
}

/// What one of five clients does next.
fn any_step() -> impl Strategy<Value = (u8, u8, u8, u8, u16)> {
    let kinds = prop_oneof![
        Just(SOLICIT),
        Just(REQUEST),
        Just(RENEW),
        Just(REBIND),
        Just(RELEASE),
        Just(DECLINE)
    ];
    (kinds, 0..5_u8, 0..2_u8, 0..8_u8, prop_oneof![3 => 0..100_u16, 1 => 0..9000_u16])
}

proptest! {
    /// No address is valid for two clients at once, whatever they send, and a restart changes nothing.
    #[test]
    fn v22_no_address_is_two_clients(steps in vec(any_step(), 1..80), restart in 0..80_usize) {
        let mut core = Core::with(|settings, _| settings.rapid_commit = true);
        let mut held: BTreeMap<Ipv6Addr, ((u8, u8), Instant)> = BTreeMap::new();
        for (at, (kind, number, id, named, secs)) in steps.into_iter().enumerate() {
            if at == restart {
                let before: Vec<_> = core.responder.leases().iter().collect();
                core.restart();
                let after: Vec<_> = core.responder.leases().iter().collect();
                let plain = |all: Vec<Lease<Ipv6Addr>>| {
                    all.into_iter().map(|it| (it.address, it.client, it.state)).collect::<Vec<_>>()
                };
                prop_assert_eq!(plain(before), plain(after));
            }
            core.on(secs.into());
            let (who, named) = ((number, id), format!("fd00::{named}"));
            let us: &[u8] = if [SOLICIT, REBIND].contains(&kind) { &[] } else { US };
            let rapid = if kind == SOLICIT && secs % 2 == 0 { RAPID_COMMIT } else { &[] };
            let octets = message(kind, &[&client(number), us, rapid, &ia_na(id, &[&named])]);
            let Ok(Some(reply)) = core.ask(&octets) else { continue };
            if [RELEASE, DECLINE].contains(&kind) {
                let its = address(&named);
                if reply.associations().is_empty() {
                    prop_assert_eq!(held.remove(&its).map(|(owner, _)| owner), Some(who));
                }
                continue;
            }
            for (.., content) in reply.associations() {
                let Content::Lease(_, addresses) = content else { continue };
                for (its, times) in addresses {
                    let other = held.get(&its).filter(|(owner, until)| {
                        *owner != who && *until > core.now.monotonic
                    });
                    prop_assert!(times[1] == 0 || other.is_none(), "{its} is {other:?}'s");
                    if times[1] > 0 && reply.kind == REPLY {
                        held.retain(|_, (owner, _)| *owner != who);
                        let until = core.now.monotonic + Duration::from_secs(times[1].into());
                        held.insert(its, (who, until));
                    }
                }
            }
        }
    }
}
