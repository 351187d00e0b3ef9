//! What `fib` finds, and which frames IP takes at all.

use super::*;

/// NFTA_FIB_F_*, and the result `oif`.
const SOURCE: u32 = 1;
const IIF: u32 = 8;
const PRESENT: u32 = 0x20;
const OIF: u32 = 1;

fn route(world: &mut World, to: [u8; 4], oif: Option<u32>, found: Route) {
    world.routes.insert(Question { from: None, to: to.into(), iif: None, oif, mark: 0 }, found);
}

fn by(link: u32) -> Route {
    Route::To { kind: kind::UNICAST, link, gateway: None, source: None }
}

/// `fib saddr . iif oif missing drop` on prerouting, for a packet from here to there by this interface.
fn is_spoofed(world: &World, from: [u8; 4], to: [u8; 4], iif: u32) -> bool {
    let mut packet = Packet::ip(Some(from.into()), to.into(), UDP);
    packet.iif = world.interface(iif).cloned();
    let missing = vec![
        Expr::Fib { dreg: 1, result: OIF, flags: SOURCE | IIF | PRESENT },
        Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: vec![0] },
    ];
    let rules =
        table(vec![chain("c", "filter", hook::PREROUTING, 0, vec![with(missing, Verdict::Drop)])]);
    let found =
        explain(&rules, world, &packet, Path::Hook(Point::Prerouting), None).expect("known routes");
    found.outcome == Outcome::Dropped
}

/// With a default route by eth0 all addresses are somehow reached by it; the kernel does not ask that.
#[test]
fn an_address_that_is_routed_by_another_interface_is_spoofed() {
    let mut world = world();
    route(&mut world, GUEST, None, by(3));
    route(&mut world, GUEST, Some(2), by(2));
    route(&mut world, PEER, None, by(2));
    route(
        &mut world,
        POD,
        None,
        Route::To { kind: kind::LOCAL, link: 1, gateway: None, source: None },
    );
    for (from, iif, spoofed) in
        [(GUEST, 2, true), (GUEST, 3, false), (PEER, 2, false), (PEER, 3, true)]
    {
        assert_eq!(is_spoofed(&world, from, POD, iif), spoofed, "{from:?} by {iif}");
    }
    assert!(is_spoofed(&world, POD, POD, 2));
    assert!(!is_spoofed(&world, POD, POD, 1), "what comes by lo is where it should be");
}

#[test]
fn who_has_no_address_yet_may_ask_his_neighbours() {
    let mut world = world();
    route(&mut world, [0; 4], None, Route::None("no route".into()));
    for (to, spoofed) in [
        ([255; 4], false),
        ([224, 0, 0, 251], false),
        ([224, 0, 1, 1], true),
        ([10, 1, 1, 255], true),
    ] {
        assert_eq!(is_spoofed(&world, [0; 4], to, 2), spoofed, "{to:?}");
    }
    assert_eq!(world.kind_of([0, 0, 0, 0].into(), None), kind::BROADCAST);
    assert_eq!(world.kind_of([0, 0, 0, 5].into(), None), kind::UNICAST);
}

/// A frame to another host ends before prerouting, and one to a group is not forwarded.
#[test]
fn ip_takes_what_the_frame_is_for() {
    let mut world = world();
    world.interfaces[1].ether = Some([2, 0, 0, 0, 0, 1]);
    let (own, other, group) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9], [3, 0, 0, 0, 0, 9]);
    for (ether, to, taken) in [
        (own, POD, true),
        (other, POD, false),
        (group, POD, true),
        (own, GUEST, true),
        (group, GUEST, false),
    ] {
        let mut packet = Packet::ip(Some(PEER.into()), to.into(), UDP);
        packet.iif = world.interface(2).cloned();
        packet.set_ether(None, Some(ether));
        let found = explain(&Ruleset::default(), &world, &packet, Path::Arriving, None)
            .expect("known routes");
        assert_eq!(found.outcome == Outcome::Accepted, taken, "{ether:?} {to:?}: {}", found.why);
    }
}
