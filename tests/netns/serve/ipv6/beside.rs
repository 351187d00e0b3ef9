//! The same messages to us and to Kea: what both answer, and where they differ and why.
//!
//! ```text
//! server s0 fd00::1 ── c0 ┐
//!                         │ client
//! kea    k0 fd00::1 ── d0 ┘
//! ```

use std::fs;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use crate::serve::{Running, Site};
use crate::support::{Netns, until, veth};

const SOLICIT: u8 = 1;
const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
const INFORMATION_REQUEST: u8 = 11;
/// Of a network that neither serves.
const ELSEWHERE: &str = "2001:db8::9";

const KEA: &str = r#"{"Dhcp6": {
    "interfaces-config": {"interfaces": ["k0"]},
    "lease-database": {"type": "memfile", "persist": false}, "server-id": {"type": "LL", "persist": false},
    "valid-lifetime": 3600, "preferred-lifetime": 3600, "renew-timer": 1800, "rebind-timer": 2880,
    "option-data": [{"name": "dns-servers", "data": "fd00::1"}, {"name": "domain-search", "data": "lan"}],
    "subnet6": [{"subnet": "fd00::/64", "interface": "k0", "pools": [{"pool": "fd00::100-fd00::1ff"}]}]
}}"#;

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&code.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

fn ia(code: u16, id: u8, addresses: &[Ipv6Addr]) -> Vec<u8> {
    let times = if code == 4 { 0 } else { 8 };
    let mut value = [&[0, 0, 0, id][..], &vec![0; times]].concat();
    for address in addresses {
        value.extend(option(5, &[&address.octets()[..], &[0; 8]].concat()));
    }
    option(code, &value)
}

fn items(mut rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let [a, b, c, d, tail @ ..] = rest {
        let (value, tail) = tail.split_at(usize::from(u16::from_be_bytes([*c, *d])));
        found.push((u16::from_be_bytes([*a, *b]), value.to_vec()));
        rest = tail;
    }
    found
}

/// Type and options in the order of their codes; statuses with their number, addresses as valid or not.
fn words(payload: &[u8]) -> String {
    fn one((code, value): &(u16, Vec<u8>)) -> String {
        match code {
            3 | 25 => format!("{code}({})", all(&value[12..])),
            4 => format!("4({})", all(&value[4..])),
            5 if value[20..24] == [0; 4] => "ended".to_owned(),
            5 => "address".to_owned(),
            13 => format!("status {}", u16::from_be_bytes([value[0], value[1]])),
            code => code.to_string(),
        }
    }
    fn all(octets: &[u8]) -> String {
        let mut items = items(octets);
        items.sort_by_key(|(code, _)| *code);
        items.iter().map(one).collect::<Vec<_>>().join(" ")
    }
    format!("{}: {}", payload[0], all(&payload[4..]))
}

/// One server, as a client on this interface knows it.
struct Server {
    socket: UdpSocket,
    index: u32,
    id: Vec<u8>,
    /// That of the client's first association.
    address: Ipv6Addr,
}

impl Server {
    fn new(netns: &Netns, interface: &str) -> Self {
        let path = format!("cat /sys/class/net/{interface}/ifindex");
        let index = netns.run(&path).trim().parse().unwrap();
        let link_local = netns.ip(&format!("-6 -br addr show dev {interface} scope link"));
        let address = link_local.split_whitespace().nth(2).unwrap().split('/').next().unwrap();
        let from = SocketAddrV6::new(address.parse().unwrap(), 546, 0, index);
        let socket = netns.within(|| UdpSocket::bind(from).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self { socket, index, id: Vec::new(), address: Ipv6Addr::UNSPECIFIED }
    }

    /// What is answered, None: nothing.
    fn answer(&self, kind: u8, to: bool, options: &[u8]) -> Option<Vec<u8>> {
        let server = if to { option(2, &self.id) } else { Vec::new() };
        let client = option(1, &[&[0, 4][..], &[7; 16]].concat());
        let wanted = option(6, &[0, 23, 0, 24]);
        let message = [&[kind, 1, 2, 3][..], &client, &server, &wanted, options].concat();
        let all = SocketAddrV6::new("ff02::1:2".parse().unwrap(), 547, 0, self.index);
        self.socket.send_to(&message, all).unwrap();
        let mut buffer = [0; 2000];
        let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    fn words(&self, kind: u8, to: bool, options: &[u8]) -> String {
        self.answer(kind, to, options).map_or_else(|| "nothing".to_owned(), |it| words(&it))
    }
}

/// Name, type, whether it names the server, and its options for the address that the server gave.
type Question = (&'static str, u8, bool, fn(Ipv6Addr) -> Vec<u8>);

const QUESTIONS: [Question; 17] = [
    ("solicit again", SOLICIT, false, |_| ia(3, 1, &[])),
    ("solicit of all kinds", SOLICIT, false, |_| {
        [ia(3, 1, &[]), ia(4, 1, &[]), ia(25, 1, &[])].concat()
    }),
    ("request", REQUEST, true, |its| ia(3, 1, &[its])),
    ("request elsewhere", REQUEST, true, |_| ia(3, 3, &[ELSEWHERE.parse().unwrap()])),
    ("confirm", CONFIRM, false, |its| ia(3, 1, &[its])),
    ("confirm elsewhere", CONFIRM, false, |_| ia(3, 1, &[ELSEWHERE.parse().unwrap()])),
    ("confirm nothing", CONFIRM, false, |_| ia(3, 1, &[])),
    ("renew", RENEW, true, |its| ia(3, 1, &[its])),
    ("renew with another", RENEW, true, |its| ia(3, 1, &[its, ELSEWHERE.parse().unwrap()])),
    ("renew unknown", RENEW, true, |its| ia(3, 9, &[its])),
    ("rebind", REBIND, false, |its| ia(3, 1, &[its])),
    ("rebind elsewhere", REBIND, false, |_| ia(3, 9, &[ELSEWHERE.parse().unwrap()])),
    ("inform", INFORMATION_REQUEST, false, |_| Vec::new()),
    ("inform with an address", INFORMATION_REQUEST, false, |its| ia(3, 1, &[its])),
    ("release unknown", RELEASE, true, |its| ia(3, 5, &[its])),
    ("decline", DECLINE, true, |its| ia(3, 1, &[its])),
    ("release after that", RELEASE, true, |its| ia(3, 1, &[its])),
];

/// Where we differ: what we say, what Kea 2.2 does, and why (sections of RFC 8415).
const DIFFERENCES: [(&str, &str, &str, &str); 11] = [
    (
        "solicit again",
        "2: 1 2 3(address) 7 23 24",
        "2: 1 2 3(address) 23 24",
        "a preference of 255 lets a client of the only server wait for no other (§18.2.1)",
    ),
    (
        "solicit of all kinds",
        "2: 1 2 3(address) 4(status 2) 7 23 24 25(status 6)",
        "2: 1 2 3(address) 23 24 25(status 6)",
        "each association that has none hears why (§18.3.9), a temporary one too",
    ),
    (
        "request elsewhere",
        "7: 1 2 3(status 4) 23 24",
        "7: 1 2 3(address) 23 24",
        "NotOnLink for an address of another link (§18.3.2)",
    ),
    (
        "confirm",
        "7: 1 2 status 0",
        "7: 1 2 status 0 23 24",
        "a status is all there is to say (§18.3.3)",
    ),
    ("confirm elsewhere", "7: 1 2 status 4", "7: 1 2 status 4 23 24", "the same"),
    (
        "renew unknown",
        "7: 1 2 3(status 3) 23 24",
        "7: 1 2 3(address ended) 23 24",
        "NoBinding where nothing is known (§18.3.4): the client asks by REQUEST then",
    ),
    (
        "rebind elsewhere",
        "7: 1 2 3(ended) 23 24",
        "7: 1 2 3(address ended) 23 24",
        "lifetimes of 0 are all that is to be said (§18.3.5)",
    ),
    ("inform with an address", "nothing", "7: 1 2 23 24", "discarded (§16.12)"),
    (
        "release unknown",
        "7: 1 2 3(status 3) status 0",
        "7: 1 2 3(status 3) status 3",
        "Success for the message, whatever is known of its associations (§18.3.7)",
    ),
    (
        "decline",
        "7: 1 2 status 0",
        "7: 1 2 3(status 0)",
        "the status is the message's, and no association is added (§18.3.8)",
    ),
    (
        "release after that",
        "7: 1 2 3(status 3) status 0",
        "7: 1 2 3(status 3) status 3",
        "as of what is not known",
    ),
];

#[test]
fn kea_answers_alike_but_where_the_table_says_why() {
    let site = Site::advertising("--domain=lan --router-advertisements=on");
    let kea = Netns::new("kea");
    veth(&kea, "k0", &site.client, "d0");
    kea.ip("addr add fd00::1/64 dev k0 nodad");
    let (config, (log, path)) = (site.dir.path().join("kea.json"), site.log("kea.log"));
    fs::write(&config, KEA).unwrap();
    for netns in [&kea, &site.client] {
        until("addresses", || !netns.ip("-6 addr show").contains("tentative"));
    }
    let mut command = kea.command("kea-dhcp6");
    for variable in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR"] {
        command.env(variable, site.dir.path());
    }
    command.arg("-c").arg(&config).stdout(log).stderr(Stdio::null());
    let _kea = Running(command.spawn().unwrap());
    let mut ours = Server::new(&site.client, "c0");
    let mut theirs = Server::new(&site.client, "d0");
    let solicit = ia(3, 1, &[]);
    until("Kea", || theirs.answer(SOLICIT, false, &solicit).is_some());
    for server in [&mut ours, &mut theirs] {
        let advertised = server.answer(SOLICIT, false, &solicit).unwrap();
        for (code, value) in items(&advertised[4..]) {
            match code {
                2 => server.id = value,
                3 => {
                    let octets: [u8; 16] = value[16..32].try_into().unwrap();
                    server.address = octets.into();
                }
                _ => {}
            }
        }
    }
    let mut wrong = Vec::new();
    for (name, kind, to, options) in QUESTIONS {
        let ours = ours.words(kind, to, &options(ours.address));
        let kea = theirs.words(kind, to, &options(theirs.address));
        let listed = DIFFERENCES.iter().find(|(it, ..)| *it == name);
        let (wanted, other) = listed.map_or((kea.as_str(), kea.as_str()), |it| (it.1, it.2));
        if ours != wanted || kea != other {
            wrong.push(format!("{name}\n  ours {ours}\n  Kea  {kea}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), fs::read_to_string(path).unwrap());
}
