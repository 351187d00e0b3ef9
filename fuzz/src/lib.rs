//! What each fuzz target does with its bytes. `tests/corpus.rs` does the same with the committed corpus.

use std::time::{Instant, SystemTime};

use berth::facts::Resolver;
use berth::nft::Batch;
use berth::nft::attr::Messages;
use berth::nft::dump::{Dump, Filter};
use berth::proto::leases::{Leases, Range};
use berth::proto::{Now, dhcp4, dns};

/// A datagram to the DHCP server of one guest, and to one with a pool and everything allowed: twice, as clients do.
pub fn dhcp4(now: Instant, data: &[u8]) {
    let guest = dhcp4::OneGuest {
        server: [192, 168, 254, 1].into(),
        guest: "192.168.254.2/30".parse().expect("a prefix"),
        dns: vec![[192, 168, 254, 1].into()],
        search: vec!["default.svc.cluster.local".into(), "cluster.local".into()],
        hostname: "web".into(),
        mtu: 1450,
        lease_secs: 86_400,
    };
    let one_guest = dhcp4::Settings::from(guest);
    let mut pool = dhcp4::Settings {
        rapid_commit: true,
        bootp: true,
        subnet_selection: true,
        probe: true,
        limits: dhcp4::Limits { per_client: Some(5), total: Some(50) },
        ..one_guest.clone()
    };
    for subnet in &mut pool.subnets {
        let last = [192, 168, 254, 2].into();
        subnet.addresses = dhcp4::Addresses::Pool(vec![Range { first: last, last }]);
        let file = "http://192.168.254.1/boot.efi".into();
        subnet.parameters.boot = vec![dhcp4::Boot { client: dhcp4::BootClient::Any, file }];
    }
    let now = Now { monotonic: now, wall: SystemTime::UNIX_EPOCH };
    for settings in [one_guest, pool] {
        let mut responder = dhcp4::Responder::new(settings, Leases::new(4));
        for _ in 0..2 {
            if let Ok(Some(transmit)) = responder.answer(now, data) {
                assert!((300..=1472).contains(&transmit.payload.len()));
            }
        }
    }
}

/// A question from the guest, then the same bytes as the answer of every server asked.
pub fn dns(now: Instant, data: &[u8]) {
    let mut forwarder = dns::Forwarder::new(
        dns::Settings {
            hostname: "web".into(),
            guest: [192, 168, 254, 2].into(),
            gateway: [192, 168, 254, 1].into(),
            upstreams: vec!["10.96.0.10:53".parse().expect("an address")],
            search: vec!["svc.cluster.local".into()],
            ndots: 5,
            hosts: vec![("printer.lan".into(), [10, 0, 0, 9].into())],
            domain: Some("lan".into()),
            aaaa: true,
        },
        7,
    );
    let _ = forwarder.handle(now, dns::Input::Query { client: 1, over: dns::Over::Udp, bytes: data });
    for _ in 0..64 {
        let Some(output) = forwarder.poll() else { break };
        if let dns::Output::Ask { ask, bytes, .. } = output {
            let mut reply = data.to_vec();
            if let (Some(head), Some(id)) = (reply.get_mut(..2), bytes.get(..2)) {
                head.copy_from_slice(id);
            }
            if let Some(flags) = reply.get_mut(2) {
                *flags |= 0x80;
            }
            let _ = forwarder.handle(now, dns::Input::Reply { ask, bytes: &reply });
        }
    }
}

/// The kernel's answers to the requests of a dump. The corpus is what Linux 6.18 said of rules that nft and iptables
/// loaded: every kind of expression, every set of its attributes.
pub fn nft_dump(data: &[u8]) {
    let mut dump = Dump::new(Filter::default());
    for message in Messages(data) {
        dump.add(&message);
    }
    let _ = dump.set_requests(1);
    let found = dump.finish();
    let _ = found.to_string();
    let canonical = found.canonical();
    // What was found can be sent, whatever it is, and is the same ruleset then; a rule may be too long for it.
    if let Ok(batch) = Batch::replace(&found, &canonical, Some(1), 1) {
        let _ = batch.describe(&found, 3, Some(40));
        let mut dump = Dump::new(Filter::default());
        for message in Messages(batch.bytes()) {
            dump.add(&message);
        }
        let _ = dump.finish();
    }
}

/// resolv.conf as somebody wrote it.
pub fn resolv_conf(data: &[u8]) {
    let resolver = Resolver::parse(data);
    assert!(resolver.nameservers.len() <= 32 && resolver.search.len() <= 32);
}
