//! What each fuzz target does with its bytes. `tests/pure/corpus.rs` does the same with the committed corpus.

mod agent;
mod download;
mod host;
mod kernel;
mod packets;
mod ram;
mod seed;
mod web;

pub use agent::*;
pub use download::*;
pub use host::*;
pub use kernel::*;
pub use packets::*;
pub use ram::*;
pub use seed::*;
pub use web::*;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant, SystemTime};

use berth::config::{Proxies, SeedFormat, Source};
use berth::facts::Resolver;
use berth::net::MacAddr;
use berth::nft::Batch;
use berth::nft::attr::Messages;
use berth::nft::dump::{Dump, Filter};
use berth::nft::json::{Document, Release};
use berth::nft::text::Style;
use berth::plan::disk;
use berth::proto::leases::{HEADER, Leases, Range};
use berth::proto::{Now, dhcp4, dhcp6, dns};
use berth::sys::image::Note;
use berth::sys::image::qcow2::{Header, check_tables};
use dhcproto::v4::{DhcpOption, Message, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, v6};
use hickory_proto::op::Message as Question;
use hickory_proto::rr::Name;

fn one_guest() -> dhcp4::Settings {
    dhcp4::OneGuest {
        routed: true,
        server: [192, 168, 254, 1].into(),
        guest: "192.168.254.2/30".parse().expect("a prefix"),
        dns: vec![[192, 168, 254, 1].into()],
        search: vec!["default.svc.cluster.local".into(), "cluster.local".into()],
        hostname: "web".into(),
        mtu: 1450,
        lease_secs: 86_400,
    }
    .into()
}

/// One address for whoever comes first, and everything allowed.
fn pool() -> dhcp4::Settings {
    let mut pool = dhcp4::Settings {
        rapid_commit: true,
        bootp: true,
        subnet_selection: true,
        probe: true,
        limits: dhcp4::Limits { per_client: Some(5), total: Some(50) },
        ..one_guest()
    };
    for subnet in &mut pool.subnets {
        let last = [192, 168, 254, 2].into();
        subnet.addresses = dhcp4::Addresses::Pool(vec![Range { first: last, last }]);
        let file = "http://192.168.254.1/boot.efi".into();
        subnet.parameters.boot = vec![dhcp4::Boot { client: dhcp4::BootClient::Any, file }];
    }
    pool
}

fn at(now: Instant) -> Now {
    Now { monotonic: now, wall: SystemTime::UNIX_EPOCH }
}

/// A datagram to the DHCP server of one guest, and to one with a pool and everything allowed: twice, as clients do.
pub fn dhcp4(now: Instant, data: &[u8]) {
    for settings in [one_guest(), pool()] {
        let mut responder = dhcp4::Responder::new(settings, Leases::new(4));
        for _ in 0..2 {
            if let Ok(Some(transmit)) = responder.answer(at(now), data) {
                assert!((300..=1472).contains(&transmit.payload.len()));
            }
        }
    }
}

fn request(options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0, 0xde, 0xad, 0, 1];
    bytes.resize(28, 0);
    bytes.extend([0x52, 0x54, 0, 1, 2, 3]);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99]);
    bytes.extend(options);
    bytes
}

/// Options of an otherwise right request: whatever is answered, another library can read. And a person's words for an
/// option: the first octet is its code.
pub fn dhcp4_options(now: Instant, data: &[u8]) {
    let mut responder = dhcp4::Responder::new(pool(), Leases::new(4));
    for kind in [&[53, 1, 1][..], &[53, 1, 3], &[]] {
        if let Ok(Some(transmit)) = responder.answer(at(now), &request(&[kind, data].concat())) {
            Message::decode(&mut Decoder::new(&transmit.payload))
                .expect("a reply that can be read");
        }
    }
    if let Some((code, words)) = data.split_first()
        && let Ok(words) = std::str::from_utf8(words)
        && let Ok(value) = dhcp4::encode(*code, words)
    {
        assert!(value.len() <= 1024);
    }
}

/// A datagram to a DHCPv6 server, by multicast and by unicast; and options of an otherwise right message of each type. The
/// first octet says whether it has one guest or a pool.
pub fn dhcp6(now: Instant, data: &[u8]) {
    const CLIENT: &[u8] = &[0, 1, 0, 10, 0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 2];
    const SERVER: &[u8] = &[0, 2, 0, 4, 0, 4, 0xbe, 1];
    let mut pool = dhcp6::Responder::with_leases(dhcp6_pool(), Leases::new(8)).expect("settings");
    let is_pool = data.first().is_some_and(|first| first & 0x80 != 0);
    let data = if is_pool { data.get(1..).unwrap_or_default() } else { data };
    let mut answer = |payload: &[u8], unicast| {
        let datagram = dhcp6::Datagram { payload, unicast };
        if is_pool {
            dhcp6_of_pool(&mut pool, now, datagram);
        } else {
            dhcp6_answer(now, datagram);
        }
    };
    for unicast in [false, true] {
        answer(data, unicast);
    }
    for kind in [1, 3, 4, 5, 6, 8, 9, 11] {
        let server = if [3, 5, 8, 9].contains(&kind) { SERVER } else { &[] };
        answer(&[&[kind, 0xab, 0xcd, 0xef], CLIENT, server, data].concat(), false);
    }
}

/// Three addresses, one of them reserved, and a network behind a relay agent.
fn dhcp6_pool() -> dhcp6::Settings {
    let server = dhcp6::Duid::new(&[0, 4, 0xbe, 1]).expect("an identifier");
    let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last);
    let behind = |last| Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, last);
    let lease = dhcp6::LeaseTime { default: 3600, min: 60, max: u32::MAX };
    let subnet = |network: &str, first, last| dhcp6::Subnet {
        network: network.parse().expect("a prefix"),
        server: None,
        ranges: vec![Range { first, last }],
        lease,
    };
    let pool = dhcp6::Pool {
        subnets: vec![
            subnet("2001:db8:1::/64", address(0x10), address(0x12)),
            subnet("2001:db8:2::/64", behind(0), behind(u16::MAX)),
        ],
        reservations: vec![dhcp6::Reservation {
            client: dhcp6::ReservedFor::Mac(MacAddr([0x52, 0x54, 0, 0, 0, 2])),
            address: address(0x11),
            name: Some("web".into()),
        }],
        authoritative: true,
        offer_hold: Duration::from_secs(60),
        quarantine: Duration::from_secs(600),
        limits: dhcp6::Limits { per_client: Some(5), total: Some(50) },
    };
    dhcp6::Settings { rapid_commit: true, ..dhcp6::Settings::pool(server, pool) }
}

/// What is answered fits into a packet, and what is leased is read again from its line.
fn dhcp6_of_pool(responder: &mut dhcp6::Responder, now: Instant, datagram: dhcp6::Datagram<'_>) {
    if let Ok(Some(transmit)) = responder.answer(at(now), datagram) {
        assert!(transmit.payload.len() <= 1232);
    }
    let lines = responder.leases().journal();
    let (_, recovered) = Leases::<Ipv6Addr>::recover(at(now), &lines, 8);
    assert_eq!((recovered.damaged, recovered.torn), (0, 0));
    assert!(responder.leases().len() <= 8);
}

fn dhcp6_settings() -> dhcp6::Settings {
    let server = dhcp6::Duid::new(&[0, 4, 0xbe, 1]).expect("an identifier");
    let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last);
    let current = vec![address(0x10), address(0x11)];
    let mut settings =
        dhcp6::Settings::one_guest(server, current.clone(), dhcp6::Lifetimes::of(3600, 7200));
    settings.addresses = dhcp6::Addresses::OneGuest { current, previous: vec![address(9)] };
    settings.parameters = dhcp6::Parameters {
        dns: vec![address(1)],
        search: vec!["svc.cluster.local".parse().expect("a name")],
        ntp: vec![address(1)],
        boot: Some(dhcp6::Boot {
            url: "http://boot.lan/a.efi".into(),
            parameters: vec!["quiet".into()],
        }),
        domain: None,
        sol_max_rt: Some(60),
        inf_max_rt: Some(60),
        refresh: Some(600),
    };
    settings
}

/// The same answer twice, within a packet, whole as another library reads it; and none to itself.
fn dhcp6_answer(now: Instant, datagram: dhcp6::Datagram<'_>) {
    let mut responder = dhcp6::Responder::new(dhcp6_settings()).expect("settings");
    let first = responder.answer(at(now), datagram);
    assert_eq!(responder.answer(at(now), datagram), first);
    let Ok(Some(transmit)) = first else { return };
    assert!(transmit.payload.len() <= 1232);
    let mut inner = transmit.payload.as_slice();
    // 34 octets of each agent, then its options.
    while let [13, ..] = inner {
        let mut rest = &inner[34..];
        while rest[..2] != [0, 9] {
            rest = &rest[4 + usize::from(u16::from_be_bytes([rest[2], rest[3]]))..];
        }
        inner = &rest[4..];
    }
    let read = v6::Message::decode(&mut Decoder::new(inner)).expect("a reply that can be read");
    assert_eq!(read.msg_type(), transmit.kind);
    assert_eq!(read.to_vec().expect("a reply").len(), inner.len());
    let itself = dhcp6::Datagram { payload: &transmit.payload, unicast: false };
    assert_eq!(responder.answer(at(now), itself), Err(dhcp6::Reason::NotARequest));
}

/// A search list, a domain a line: option 119 as another library reads it has the domains that are some, in order.
pub fn search_list(now: Instant, data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut settings = one_guest();
    for subnet in &mut settings.subnets {
        subnet.parameters.search = text.lines().take(40).map(str::to_owned).collect();
    }
    let mut responder = dhcp4::Responder::new(settings, Leases::new(4));
    let asked = request(&[53, 1, 1, 55, 1, 119, 57, 2, 5, 0xdc, 255]);
    let answer = responder.answer(at(now), &asked);
    assert!(matches!(answer, Ok(Some(_))), "no offer: {answer:?}");
    let Ok(Some(transmit)) = answer else { return };
    let Ok(message) = Message::decode(&mut Decoder::new(&transmit.payload)) else { return };
    if let Some(DhcpOption::DomainSearch(found)) = message.opts().get(OptionCode::DomainSearch) {
        assert!(found.len() <= text.lines().count());
    }
}

/// A lease file, however spoilt; what was read is written and read again.
pub fn leases_file(now: Instant, data: &[u8]) {
    let now = at(now);
    let (leases, recovered) = Leases::<Ipv4Addr>::recover(now, data, 64);
    assert!(leases.len() <= recovered.lines.min(64));
    let lasting = leases.snapshot(now, 0, usize::MAX).0;
    let (again, second) =
        Leases::<Ipv4Addr>::recover(now, &[HEADER.as_bytes(), &lasting].concat(), 64);
    assert_eq!((second.damaged, second.torn), (0, 0));
    let listed = |leases: &Leases| {
        leases.iter().map(|lease| (lease.address, lease.client, lease.state)).collect::<Vec<_>>()
    };
    let (first, second) = (listed(&leases), listed(&again));
    assert!(second.iter().all(|lease| first.contains(lease)));
}

fn forwarder(now: Instant) -> dns::Forwarder {
    let mut forwarder = dns::Forwarder::new(
        dns::Settings {
            hostname: "web".into(),
            guest: [192, 168, 254, 2].into(),
            gateway: Some([192, 168, 254, 1].into()),
            gateway6: None,
            upstreams: vec!["10.96.0.10:53".parse().expect("an address")],
            search: vec!["svc.cluster.local".into()],
            ndots: 5,
            hosts: vec![("printer.lan".into(), [10, 0, 0, 9].into())],
            below: vec![("apps.lan".into(), [10, 0, 0, 7].into())],
            domain: Some("lan".into()),
            networks: vec!["10.0.0.1/24".parse().expect("a prefix")],
            networks6: vec![],
            aaaa: true,
        },
        || Some(7),
    );
    let laptop =
        dns::Named { address: [10, 0, 0, 7].into(), name: Some("laptop".into()), until: None };
    forwarder.name(now, laptop);
    forwarder
}

/// The short way to read and to write questions, beside the library: what a server is asked is what was asked of us, by
/// its own name or by one in a search domain.
fn asks_the_same(query: &[u8], asked: &[u8]) {
    let asked = Question::from_vec(asked).expect("a question that can be read");
    let query = Question::from_vec(query).expect("only what can be read is asked");
    assert_eq!((asked.queries.len(), query.queries.len()), (1, 1));
    let (ours, theirs) = (&asked.queries[0], &query.queries[0]);
    assert_eq!(
        (ours.query_type(), ours.query_class()),
        (theirs.query_type(), theirs.query_class())
    );
    let labels = |name: &Name| name.iter().map(<[u8]>::to_ascii_lowercase).collect::<Vec<_>>();
    assert!(
        labels(ours.name()).starts_with(&labels(theirs.name())),
        "{} for {}",
        ours.name(),
        theirs.name()
    );
    assert_eq!(asked.edns.is_some(), query.edns.is_some());
    let bits = |message: &Question| {
        (message.metadata.recursion_desired, message.metadata.checking_disabled)
    };
    assert_eq!(bits(&asked), bits(&query));
}

/// Everything that is asked of servers gets `reply`, with the right id; how many answers came of it.
fn converse(
    forwarder: &mut dns::Forwarder,
    now: Instant,
    query: &[u8],
    reply: impl Fn(&[u8]) -> Vec<u8>,
) -> usize {
    let _ = forwarder.handle(
        now,
        dns::Input::Query { client: 1, from: None, over: dns::Over::Udp, bytes: query },
    );
    let mut answers = 0;
    for _ in 0..64 {
        match forwarder.poll() {
            None => break,
            Some(dns::Output::Ask { ask, bytes, .. }) => {
                asks_the_same(query, &bytes);
                let mut reply = reply(&bytes);
                if let (Some(head), Some(id)) = (reply.get_mut(..2), bytes.get(..2)) {
                    head.copy_from_slice(id);
                }
                if let Some(flags) = reply.get_mut(2) {
                    *flags |= 0x80;
                }
                let _ = forwarder.handle(now, dns::Input::Reply { ask, bytes: &reply });
            }
            Some(dns::Output::Answer { bytes, .. }) => {
                assert!(bytes.len() <= 4096);
                answers += 1;
            }
            Some(dns::Output::Forget { .. }) => {}
        }
    }
    assert!(answers <= 1, "one question, {answers} answers");
    answers
}

/// A question, answered with itself and an address; then once more.
pub fn dns_query(now: Instant, data: &[u8]) {
    let mut forwarder = forwarder(now);
    let found = |asked: &[u8]| {
        let mut reply = asked.to_vec();
        if let Some(count) = reply.get_mut(7) {
            *count = 1;
        }
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 10, 0, 0, 1]);
        reply
    };
    for seconds in [0, 10, 300] {
        converse(&mut forwarder, now + Duration::from_secs(seconds), data, found);
    }
}

/// What a server answers to a right question; asked again while that is remembered, and when it is over.
pub fn dns_response(now: Instant, data: &[u8]) {
    const QUERY: &[u8] =
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x01b\x01c\x01d\x01e\x07example\0\0\x01\0\x01";
    let mut forwarder = forwarder(now);
    for seconds in [0, 1, 60, 100_000] {
        converse(&mut forwarder, now + Duration::from_secs(seconds), QUERY, |_| data.to_vec());
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
    let mut document = Document::new(&Release::of("1.0.6"));
    found.json(&Style::default(), &mut document);
    let _ = document.finish();
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

/// A values file: told in its order, each finding in a place that is there.
pub fn values_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let findings = berth::validate::values(&[text]);
    // A return alone ends a line in YAML, too (1.2.2, 5.4).
    let lines = text.replace("\r\n", "\n").split(['\r', '\n']).count();
    assert!(findings.is_sorted_by_key(|finding| finding.at));
    assert!(
        findings
            .iter()
            .all(|finding| (1..=lines + 1).contains(&finding.at.line) && finding.at.column > 0)
    );
}

/// A source, what a server redirects it to, and the variables of proxies, a line each: never shown with a password in
/// it, and a URL is the same when it is read again.
pub fn image_source(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let mut line = || lines.next().unwrap_or_default().to_owned();
    let (source, location, proxy, except) = (line(), line(), line(), line());
    let proxies = Proxies::read(|name| match name {
        "all_proxy" => Some(proxy.clone()),
        "no_proxy" => Some(except.clone()),
        _ => None,
    });
    let Ok(Source::Url(url)) = Source::parse(&source) else { return };
    let _ = proxies.of(&url).map(|proxy| proxy.map(ToString::to_string));
    let next = url.redirect(&location).unwrap_or(url);
    let again = Source::parse(&next.absolute_form());
    assert!(
        matches!(&again, Ok(Source::Url(again)) if again.absolute_form() == next.absolute_form())
    );
    assert!(
        next.origin_form().starts_with('/')
            && !next.host().is_empty()
            && next.port_or_default() > 0
    );
    // Only what was masked may stand before an at sign of the host.
    let shown = next.to_string();
    let authority = shown.split('/').nth(2).unwrap_or_default();
    assert!(authority.rsplit_once('@').is_none_or(|(user, _)| user == "***"), "{shown}");
}

/// A qcow2 image as somebody serves it: read within its bounds, and a note of a base is one that was written.
pub fn qcow2(data: &[u8]) {
    let Ok(header) = Header::read(data) else { return };
    assert!(header.extensions.len() <= data.len() / 8);
    let _ = check_tables(data, &header);
    let _ = header.usable();
    let _ = header.data_file(data);
    if let Ok(Some(note)) = Note::read(data, &header) {
        assert!(note.base.len() <= 1023);
    }
}

/// Each of cloud-init's files, in both formats: what is refused is refused in words.
pub fn seed_file(data: &[u8]) {
    for format in [SeedFormat::ConfigDrive, SeedFormat::NoCloud] {
        for key in disk::KEYS {
            let _ = disk::judged(format, key, data);
        }
    }
}
