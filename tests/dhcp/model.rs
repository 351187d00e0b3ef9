//! Random conversations of more clients than addresses against a simple model: no two clients ever hold one
//! address, who holds one keeps it, a declined one is nobody's; also when the server is killed and started again.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use berth::proto::dhcp4::{Addresses, Responder};
use berth::proto::leases::{HEADER, Leases, Range};
use proptest::prelude::*;

use crate::config::Config;
use crate::packet::*;
use crate::wire::{Core, Wire};

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
    Wait(u16),
    /// The server is killed in the middle of a line; before that, perhaps, the file was written anew.
    Kill(bool),
}

fn steps() -> impl Strategy<Value = Vec<(u16, Step)>> {
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
        3 => (1u16..2000).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Kill),
    ];
    proptest::collection::vec((1..=CLIENTS, step), 1..200)
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

    fn check(&mut self, client: u16, reply: &Reply) {
        let address = reply.yiaddr();
        if reply.kind() == NAK {
            return;
        }
        assert!(self.holder(address).is_none_or(|holder| holder == client), "{address} is another's");
        assert!(self.declined.get(&address).is_none_or(|end| *end <= self.time), "{address} is nobody's");
        if reply.kind() == ACK {
            let secs = u64::from(reply.secs(51).unwrap());
            self.held.insert(address, (client, self.time + secs));
        } else {
            self.offered.insert(client, address);
        }
    }
}

fn packet(model: &mut Model, client: u16, step: &Step) -> Option<Packet> {
    let hardware = mac(client);
    let address = |last: u8| Ipv4Addr::new(10, 0, 0, last);
    let select = |address| Packet::new(hardware, &[REQUEST, US, &asks_for(address)]);
    Some(match step {
        Step::Discover => Packet::new(hardware, &[DISCOVER]),
        Step::Select => select(*model.offered.get(&client)?),
        Step::SelectAny(last) => select(address(*last)),
        Step::RenewAny(last) => Packet::new(hardware, &[REQUEST]).ciaddr(address(*last)),
        Step::RebootAny(last) => Packet::new(hardware, &[REQUEST, &asks_for(address(*last))]),
        Step::Renew => Packet::new(hardware, &[REQUEST]).ciaddr(model.own(client)?),
        Step::Release => {
            let own = model.own(client)?;
            model.held.remove(&own);
            Packet::new(hardware, &[RELEASE, US]).ciaddr(own)
        }
        Step::Decline => {
            let own = model.own(client)?;
            model.held.remove(&own);
            model.declined.insert(own, model.time + 600);
            Packet::new(hardware, &[DECLINE, US, &asks_for(own)])
        }
        Step::OtherServer => Packet::new(hardware, &[REQUEST, OTHER, &asks_for(address(9))]),
        Step::Wait(_) | Step::Kill(_) => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_two_clients_hold_one_address_and_who_holds_one_keeps_it(steps in steps()) {
        let mut settings = Config::Office.settings();
        settings.subnets[0].addresses =
            Addresses::Pool(vec![Range { first: [10, 0, 0, 100].into(), last: [10, 0, 0, 107].into() }]);
        let mut core = Core::with(settings.clone());
        let mut model = Model::default();
        let mut file = HEADER.as_bytes().to_vec();
        for (client, step) in steps {
            if let Step::Wait(secs) = step {
                model.time += u64::from(secs);
                core.advance(Duration::from_secs(secs.into()));
            }
            if let Step::Kill(anew) = step {
                if anew {
                    file = [HEADER.as_bytes(), &core.responder.leases().snapshot(core.now, 0, usize::MAX).0].concat();
                }
                file.extend(b"bound 10.0.0.10");
                let (leases, recovered) = Leases::recover(core.now, &file, 100);
                if anew {
                    model.kills = 0;
                }
                prop_assert_eq!(recovered.damaged, model.kills);
                core.responder = Responder::new(settings.clone(), leases);
                file.push(b'\n');
                model.kills += 1;
            }
            let Some(packet) = packet(&mut model, client, &step) else { continue };
            let own = model.own(client);
            let replies = core.send(&packet);
            // Written before the reply leaves.
            file.extend(core.responder.leases().journal());
            for reply in &replies {
                model.check(client, reply);
            }
            if let (Step::Renew, Some(own)) = (step, own) {
                prop_assert_eq!(replies.iter().map(|it| (it.kind(), it.yiaddr())).collect::<Vec<_>>(), [(ACK, own)]);
            }
        }
    }
}
