//! Random conversations of more clients than addresses against a simple model: no two clients ever hold one
//! address, who holds one keeps it, a declined one is nobody's; also when the server is killed and started again, when
//! clients move behind a relay and back, when packets come twice or replies are lost, and when the clock is set.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use berth::proto::dhcp4::{Addresses, Responder};
use berth::proto::leases::{HEADER, Leases, Range};
use proptest::prelude::*;

use crate::dhcp::config::Config;
use crate::dhcp::packet::*;
use crate::dhcp::wire::{Core, Wire};

const CLIENTS: u16 = 12;

#[derive(Debug, Clone)]
enum Step {
    Discover,
    /// What was offered last.
    Select,
    /// Any address of the pool and around it, whoever has it.
    SelectAny(u8),
    RenewAny(u8),
    RebootAny(u8),
    Renew,
    Release,
    Decline,
    OtherServer,
    Inform(u8),
    Wait(u16),
    /// The wall clock, by so many minutes; the file is written anew for it.
    SetClock(i16),
    /// The server is killed in the middle of a line; before that, perhaps, the file was written anew.
    Kill(bool),
}

/// How a packet travels.
#[derive(Debug, Clone, Copy)]
struct Way {
    relayed: bool,
    twice: bool,
    reply_lost: bool,
}

fn steps() -> impl Strategy<Value = Vec<(u16, Way, Step)>> {
    let near = || 98u8..110;
    let step = prop_oneof![
        4 => Just(Step::Discover),
        4 => Just(Step::Select),
        1 => near().prop_map(Step::SelectAny),
        1 => near().prop_map(Step::RenewAny),
        1 => near().prop_map(Step::RebootAny),
        3 => Just(Step::Renew),
        1 => Just(Step::Release),
        1 => Just(Step::Decline),
        1 => Just(Step::OtherServer),
        1 => near().prop_map(Step::Inform),
        3 => (1u16..2000).prop_map(Step::Wait),
        1 => (-2000i16..2000).prop_map(Step::SetClock),
        1 => any::<bool>().prop_map(Step::Kill),
    ];
    let way = (
        proptest::bool::weighted(0.3),
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.1),
    );
    let way = way.prop_map(|(relayed, twice, reply_lost)| Way { relayed, twice, reply_lost });
    proptest::collection::vec((1..=CLIENTS, way, step), 1..200)
}

#[derive(Default)]
struct Model {
    /// Seconds since the start.
    time: u64,
    held: HashMap<Ipv4Addr, (u16, u64)>,
    offered: HashMap<u16, Ipv4Addr>,
    declined: HashMap<Ipv4Addr, u64>,
    /// Lines that were cut.
    kills: usize,
}

impl Model {
    fn holder(&self, address: Ipv4Addr) -> Option<u16> {
        self.held.get(&address).filter(|(_, end)| *end > self.time).map(|(client, _)| *client)
    }

    fn own(&self, client: u16) -> Option<Ipv4Addr> {
        self.held.keys().copied().filter(|address| self.holder(*address) == Some(client)).min()
    }

    fn check(&mut self, client: u16, way: Way, reply: &Reply) {
        let address = reply.yiaddr();
        let net = if way.relayed { [10, 1, 0] } else { [10, 0, 0] };
        assert!(
            reply.kind() == NAK || address.octets()[..3] == net,
            "{address} is of another link"
        );
        if reply.kind() == NAK {
            return;
        }
        assert!(
            self.holder(address).is_none_or(|holder| holder == client),
            "{address} is another's"
        );
        assert!(
            self.declined.get(&address).is_none_or(|end| *end <= self.time),
            "{address} is nobody's"
        );
        if reply.kind() == ACK {
            let secs = u64::from(reply.secs(51).unwrap());
            self.held.insert(address, (client, self.time + secs));
        } else if !way.reply_lost {
            self.offered.insert(client, address);
        }
    }
}

/// Some addresses of both pools and around them.
fn near_address(way: Way, last: u8) -> Ipv4Addr {
    if way.relayed { Ipv4Addr::new(10, 1, 0, last - 50) } else { Ipv4Addr::new(10, 0, 0, last) }
}

/// And the way it travels: what is sent to the server itself goes by no relay.
fn packet(model: &mut Model, client: u16, way: Way, step: &Step) -> Option<(Packet, Way)> {
    let hardware = mac(client);
    let address = |last: u8| near_address(way, last);
    let select = |address| Packet::new(hardware, &[REQUEST, US, &asks_for(address)]);
    let to_us = |packet: Packet, address: Ipv4Addr| {
        Some((packet.ciaddr(address), Way { relayed: address.octets()[1] == 1, ..way }))
    };
    let packet = match step {
        Step::Discover => Packet::new(hardware, &[DISCOVER]),
        Step::Select => select(*model.offered.get(&client)?),
        Step::SelectAny(last) => select(address(*last)),
        Step::RenewAny(last) => Packet::new(hardware, &[REQUEST]).ciaddr(address(*last)),
        Step::RebootAny(last) => Packet::new(hardware, &[REQUEST, &asks_for(address(*last))]),
        Step::Renew => return to_us(Packet::new(hardware, &[REQUEST]), model.own(client)?),
        Step::Release => {
            let own = model.own(client)?;
            model.held.remove(&own);
            return to_us(Packet::new(hardware, &[RELEASE, US]), own);
        }
        Step::Decline => {
            let own = model.own(client)?;
            model.held.remove(&own);
            model.declined.insert(own, model.time + 600);
            let way = Way { relayed: own.octets()[1] == 1, ..way };
            return Some((
                through(Packet::new(hardware, &[DECLINE, US, &asks_for(own)]), way),
                way,
            ));
        }
        Step::OtherServer => Packet::new(hardware, &[REQUEST, OTHER, &asks_for(address(199))]),
        Step::Inform(last) => Packet::new(hardware, &[INFORM]).ciaddr(address(*last)),
        Step::Wait(_) | Step::SetClock(_) | Step::Kill(_) => return None,
    };
    Some((through(packet, way), way))
}

fn through(packet: Packet, way: Way) -> Packet {
    if way.relayed { packet.giaddr([10, 1, 0, 1]) } else { packet }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_two_clients_hold_one_address_and_who_holds_one_keeps_it(steps in steps()) {
        let mut settings = Config::Office.settings();
        let pool = |net, first, last| {
            Addresses::Pool(vec![Range { first: [10, net, 0, first].into(), last: [10, net, 0, last].into() }])
        };
        settings.subnets[0].addresses = pool(0, 100, 107);
        settings.subnets[1].addresses = pool(1, 50, 53);
        let mut core = Core::with(settings.clone());
        let mut model = Model::default();
        let mut file = HEADER.as_bytes().to_vec();
        for (client, way, step) in steps {
            if let Step::Wait(secs) = step {
                model.time += u64::from(secs);
                core.advance(Duration::from_secs(secs.into()));
            }
            if let Step::SetClock(minutes) = step {
                let moved = Duration::from_secs(60 * u64::from(minutes.unsigned_abs()));
                core.now.wall = if minutes < 0 { core.now.wall - moved } else { core.now.wall + moved };
                file = [HEADER.as_bytes(), &core.responder.leases().snapshot(core.now, 0, usize::MAX).0].concat();
                model.kills = 0;
            }
            if let Step::Kill(anew) = step {
                if anew {
                    file = [HEADER.as_bytes(), &core.responder.leases().snapshot(core.now, 0, usize::MAX).0].concat();
                }
                file.extend(b"bound 10.0.0.10");
                let (mut leases, recovered) = Leases::recover(core.now, &file, 100);
                // No end that was written lies too far ahead, whatever the clock was set to.
                prop_assert_eq!(leases.shorten(core.now, |address, state| settings.longest(address, state)), 0);
                if anew {
                    model.kills = 0;
                }
                prop_assert_eq!(recovered.damaged, model.kills);
                let journal = leases.journal();
                core.responder = Responder::new(settings.clone(), leases);
                file.push(b'\n');
                file.extend(journal);
                model.kills += 1;
            }
            let own = model.own(client);
            let Some((packet, way)) = packet(&mut model, client, way, &step) else { continue };
            for again in 0..=usize::from(way.twice) {
                let replies = core.send(&packet);
                // Written before the reply leaves.
                file.extend(core.responder.leases().journal());
                if let Step::Inform(_) = step {
                    prop_assert!(replies.iter().all(|reply| reply.yiaddr().is_unspecified()));
                    continue;
                }
                // What somebody gave back or declined is not given back twice.
                prop_assert!(again == 0 || !matches!(step, Step::Release | Step::Decline) || replies.is_empty());
                for reply in &replies {
                    model.check(client, way, reply);
                }
                if let (Step::Renew, Some(own)) = (&step, own) {
                    prop_assert_eq!(replies.iter().map(|it| (it.kind(), it.yiaddr())).collect::<Vec<_>>(), [(ACK, own)]);
                }
            }
        }
    }
}
