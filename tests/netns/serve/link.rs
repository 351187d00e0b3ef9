//! The interface of `berth serve` changes under it, and somebody else wants its ports.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Output, Stdio};

use berth::net::MacAddr;
use dhcproto::v4::{DhcpOption, Message, OptionCode};

use crate::serve::crowd::Crowd;
use crate::serve::{Running, Site};
use crate::support::{checked, until};

const CLIENT: MacAddr = MacAddr([2, 0, 0, 9, 0, 1]);

impl Site {
    /// s0 is a bridge, which may go without the client's link; it is what serves.
    fn bridged() -> Self {
        let site = Self::silent();
        site.server.ip("link set s0 down");
        site.server.ip("link set s0 name p0");
        site.server.ip("addr flush dev p0");
        site.server.ip("link set p0 up");
        site.client.ip("addr add 10.0.0.2/16 dev c0");
        site.make_bridge();
        site
    }

    fn make_bridge(&self) {
        self.server.ip("link add s0 address 02:00:00:00:00:aa type bridge");
        self.server.ip("addr add 10.0.0.1/16 dev s0");
        self.server.ip("link set p0 master s0");
        self.server.ip("link set s0 up");
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn says(&self, what: &str) {
        until(what, || self.said().contains(what));
    }

    /// What a client is offered, however often it has to ask.
    fn offered(&self) -> Message {
        let mut crowd = Crowd::new(&self.client, "c0");
        let mut offer = None;
        for _ in 0..100 {
            offer = offer.or_else(|| crowd.discover(CLIENT));
        }
        offer.unwrap_or_else(|| panic!("no offer\n{}", self.said()))
    }

    fn is_silent(&self) {
        assert!(Crowd::new(&self.client, "c0").discover(CLIENT).is_none(), "{}", self.said());
        assert!(!self.resolves("10.0.0.1"), "{}", self.said());
    }

    fn resolves(&self, server: &str) -> bool {
        let mut dig = self.client.command("dig");
        dig.args([&format!("@{server}"), "+short", "+tries=1", "+time=1", "printer.lan"]);
        dig.output().unwrap().stdout == b"10.0.0.9\n"
    }
}

fn server_of(offer: &Message) -> Ipv4Addr {
    match offer.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(address)) => *address,
        other => panic!("{other:?}"),
    }
}

fn mtu_of(offer: &Message) -> Option<u16> {
    offer.opts().iter().find_map(|(_, option)| match option {
        DhcpOption::InterfaceMtu(mtu) => Some(*mtu),
        _ => None,
    })
}

const NAMES: &str = "--domain=lan --host=printer=10.0.0.9 --upstream=10.0.0.2";

#[test]
fn an_interface_that_is_deleted_is_waited_for_and_served_again() {
    let mut site = Site::bridged();
    site.serve_both(NAMES);
    let first = site.offered();
    assert!(site.resolves("10.0.0.1"));
    assert_eq!(site.said().matches("lease file read").count(), 1, "nothing was begun twice");
    for round in 1..=2 {
        site.server.ip("link del s0");
        let gone = "the interface is gone: nothing is served until it is back";
        until("word of it", || site.said().matches(gone).count() == round);
        site.make_bridge();
        let again = "the interface was replaced, rebinding";
        until("word of it", || site.said().matches(again).count() == round);
        until("names", || site.resolves("10.0.0.1"));
        let offer = site.offered();
        assert_eq!(
            (offer.yiaddr(), server_of(&offer)),
            (first.yiaddr(), Ipv4Addr::new(10, 0, 0, 1))
        );
    }
    // All at once: it was never seen to be gone.
    checked(site.server.command("ip").args(["-batch", &batch(&site, "link del s0")]));
    until("names", || site.resolves("10.0.0.1"));
    assert_eq!(site.offered().yiaddr(), first.yiaddr());
}

/// A file of commands that remake the bridge after `first`.
fn batch(site: &Site, first: &str) -> String {
    let path = site.dir.path().join("batch");
    let rest = "link add s0 address 02:00:00:00:00:aa type bridge\naddr add 10.0.0.1/16 dev s0\nlink set p0 master s0\nlink set s0 up\n";
    fs::write(&path, format!("{first}\n{rest}")).unwrap();
    path.display().to_string()
}

#[test]
fn an_interface_that_is_renamed_or_down_is_served_when_it_is_back() {
    let mut site = Site::bridged();
    site.serve_both(NAMES);
    assert!(site.resolves("10.0.0.1"));
    site.server.ip("link set s0 down");
    site.says("the interface is down: no client can reach us until it is up");
    site.server.ip("link set s0 name other");
    site.says("the interface is called other now: nothing is served until one is called s0");
    site.server.ip("link set other up");
    site.is_silent();
    site.server.ip("link set other down");
    site.server.ip("link set other name s0");
    site.says("serving again");
    site.server.ip("link set s0 up");
    site.says("the interface is up, and hears");
    until("names", || site.resolves("10.0.0.1"));
    assert_eq!(server_of(&site.offered()), Ipv4Addr::new(10, 0, 0, 1));
}

#[test]
fn an_address_that_changes_is_followed_while_the_range_fits() {
    let mut site = Site::bridged();
    site.serve_both(NAMES);
    // Another beside it is no reason.
    site.server.ip("addr add 10.0.0.7/16 dev s0");
    assert_eq!(server_of(&site.offered()), Ipv4Addr::new(10, 0, 0, 1));
    site.server.ip("addr add 10.0.0.77/16 dev s0");
    site.server.ip("addr del 10.0.0.7/16 dev s0");
    site.server.run("sysctl -qw net.ipv4.conf.s0.promote_secondaries=1");
    site.server.ip("addr del 10.0.0.1/16 dev s0");
    site.says("our address changed, serving from the new one");
    until("names", || site.resolves("10.0.0.77"));
    assert_eq!(server_of(&site.offered()), Ipv4Addr::new(10, 0, 0, 77));
    site.server.ip("addr flush dev s0");
    site.says("s0 has no IPv4 address");
    site.server.ip("addr add 10.9.0.1/16 dev s0");
    site.says("is not within 10.9.0.1/16");
    site.is_silent();
    site.server.ip("addr flush dev s0");
    site.server.ip("addr add 10.0.0.1/16 dev s0");
    site.says("serving again");
    until("names", || site.resolves("10.0.0.1"));
    assert_eq!(server_of(&site.offered()), Ipv4Addr::new(10, 0, 0, 1));
}

/// As with addresses that a cluster moves between machines: who does not have it does not serve.
#[test]
fn an_address_that_was_chosen_is_served_only_while_the_interface_has_it() {
    let mut site = Site::bridged();
    site.serve_both(&format!("--address=10.0.0.5/16 {NAMES}"));
    site.says("does not have 10.0.0.5/16 (--address): nothing is served until it does");
    site.is_silent();
    site.server.ip("addr add 10.0.0.5/32 dev s0");
    site.says("serving again");
    until("names", || site.resolves("10.0.0.5"));
    assert_eq!(server_of(&site.offered()), Ipv4Addr::new(10, 0, 0, 5));
    site.server.ip("addr del 10.0.0.5/32 dev s0");
    until("word of it", || site.said().matches("does not have 10.0.0.5/16").count() == 2);
    site.is_silent();
}

#[test]
fn clients_are_told_the_mtu_of_now() {
    let mut site = Site::bridged();
    site.serve_both(NAMES);
    assert_ne!(mtu_of(&site.offered()), Some(1400));
    site.server.ip("link set s0 mtu 1400 address 02:00:00:00:00:bb");
    site.says("the interface's MAC or MTU changed");
    until("the new MTU", || mtu_of(&site.offered()) == Some(1400));
}

impl Site {
    /// Another `berth serve` here, which ends by itself.
    fn another(&self, words: &str) -> Output {
        let mut command = self.server.command("timeout");
        command.args(["5", env!("CARGO_BIN_EXE_berth"), "serve", "--range=10.0.1.1,10.0.1.9"]);
        command.arg(format!("--lease-file={}", self.dir.path().join("other").display()));
        command.args(words.split_whitespace()).output().unwrap()
    }

    /// A dnsmasq for DHCP alone; it says soon whether it can.
    fn dnsmasq(&self, words: &str) -> (Running, String) {
        let mut command = self.server.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"]);
        command
            .args(["--pid-file", "--log-facility=-", "--leasefile-ro"])
            .args(words.split_whitespace());
        let (log, path) = self.log("dnsmasq.log");
        let running = Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let said = || fs::read_to_string(&path).unwrap();
        until("dnsmasq", || said().contains("DHCP, ") || said().contains("failed to"));
        (running, said())
    }
}

fn refused(output: &Output, what: &str, instead: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(18), "{text}");
    assert!(
        text.contains(&format!(
            "binding {what} (something else serves there: stop it, or {instead}"
        )),
        "{text}"
    );
}

#[test]
fn a_second_server_of_one_link_is_refused_and_told_how_to_do_without() {
    let mut site = Site::silent();
    site.serve("");
    let (dhcp, dns) = ("leave DHCP to it with --no-dhcp", "leave DNS to it with --no-dns");
    refused(&site.another("--interface=s0 --no-dns"), "DHCP, port 67/udp on s0", dhcp);
    refused(&site.another("--interface=s0 --address=10.0.0.9/16"), "DHCP, port 67/udp on s0", dhcp);
    drop(site.serving.take());
    site.serve_names("--upstream=10.0.0.2");
    refused(&site.another("--interface=s0"), "DNS, port 53 on 10.0.0.1", dns);
    // Two links are two servers, with the same address too; 124: it served until it was ended.
    site.server.ip("link add s1 type bridge");
    site.server.ip("link set s1 up");
    site.server.ip("addr add 10.0.0.1/16 dev s1");
    assert_eq!(site.another("--interface=s1").status.code(), Some(124));
}

#[test]
fn a_server_that_was_killed_starts_again_at_once() {
    let mut site = Site::silent();
    for _ in 0..20 {
        site.serve_both(NAMES);
        let mut running = site.serving.take().unwrap();
        running.0.kill().unwrap();
        running.0.wait().unwrap();
    }
    site.serve_both(NAMES);
}

#[test]
fn dnsmasq_on_our_link_is_seen_and_on_another_it_is_welcome() {
    let mut site = Site::silent();
    site.server.ip("link add s1 type bridge");
    site.server.ip("addr add 10.1.0.1/16 dev s1");
    site.server.ip("link set s1 up");
    let (on_ours, on_another) =
        ("--dhcp-range=10.0.2.1,10.0.2.9", "--dhcp-range=10.1.2.1,10.1.2.9");
    let ours = |how: &str| format!("--interface=s0 {how} {on_ours}");
    for how in ["", "--bind-interfaces"] {
        let (running, _) = site.dnsmasq(&ours(how));
        refused(&site.another("--interface=s0"), "DHCP, port 67/udp on s0", "leave DHCP");
        drop(running);
    }
    site.serve("");
    let (_, said) = site.dnsmasq(&ours(""));
    assert!(said.contains("failed to bind DHCP server socket: Address already in use"), "{said}");
    // On its own link it is in nobody's way.
    let (mut running, said) =
        site.dnsmasq(&format!("--interface=s1 --bind-interfaces {on_another}"));
    assert!(said.contains("sockets bound exclusively to interface s1"), "{said}");
    assert!(running.0.try_wait().unwrap().is_none());
    assert_eq!(server_of(&site.offered()), Ipv4Addr::new(10, 0, 0, 1));
}

#[test]
fn a_port_of_a_bridge_hears_nothing_and_that_is_said() {
    let mut site = Site::silent();
    site.server.ip("link add outer type bridge");
    site.server.ip("link set s0 master outer");
    site.serve_both(NAMES);
    let deaf = "the interface is a port of a bridge, which takes all that comes in: serve on that";
    site.says(deaf);
    site.server.ip("link set s0 nomaster");
    site.says("the interface is up, and hears");
    assert_eq!(server_of(&site.offered()), Ipv4Addr::new(10, 0, 0, 1));
    site.server.ip("link set s0 master outer");
    until("word of it", || site.said().matches(deaf).count() == 2);
}

/// Numbers of a sequence that is the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Seeds in development: BERTH_TEST_SEEDS=FIRST..END.
fn seeds() -> std::ops::Range<u64> {
    let words = std::env::var("BERTH_TEST_SEEDS").unwrap_or_default();
    let read = || {
        let (first, end) = words.split_once("..")?;
        Some(first.parse().ok()?..end.parse().ok()?)
    };
    read().unwrap_or(1..5)
}

/// Whatever is done to the interface, however fast, in the end it is served as it is then.
#[test]
fn whatever_happens_to_the_interface_it_is_served_when_it_is_right_again() {
    let mut site = Site::bridged();
    site.serve_both(NAMES);
    let lines = [
        "link del s0",
        "link add s0 type bridge",
        "link set s0 down",
        "link set s0 up",
        "link set s0 name other",
        "link set other name s0",
        "addr add 10.0.0.1/16 dev s0",
        "addr del 10.0.0.1/16 dev s0",
        "addr add 10.0.0.77/16 dev s0",
        "addr add 10.9.0.1/16 dev s0",
        "addr flush dev s0",
        "link set s0 mtu 1400",
        "link set s0 address 02:00:00:00:00:bb",
        "link set p0 master s0",
    ];
    let path = site.dir.path().join("batch");
    for seed in seeds() {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..1 + numbers.below(4) {
            let some: Vec<&str> = (0..1 + numbers.below(25))
                .map(|_| lines[usize::try_from(numbers.below(lines.len() as u64)).unwrap()])
                .collect();
            fs::write(&path, some.join("\n") + "\n").unwrap();
            let mut batch = site.server.command("ip");
            // Not all of it is possible.
            batch.args(["-force", "-batch"]).arg(&path).stderr(Stdio::null()).status().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(numbers.below(120)));
        }
        for name in ["s0", "other"] {
            let mut end = site.server.command("ip");
            end.args(["link", "del", name]).stderr(Stdio::null()).status().unwrap();
        }
        site.make_bridge();
        until(&format!("names, seed {seed}\n{}", site.said()), || site.resolves("10.0.0.1"));
        let offer = site.offered();
        assert_eq!(server_of(&offer), Ipv4Addr::new(10, 0, 0, 1), "seed {seed}\n{}", site.said());
        assert_ne!(mtu_of(&offer), Some(1400), "seed {seed}\n{}", site.said());
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", site.serving.as_ref().unwrap().0.id()))
        .unwrap();
    let times = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    let ticks: u64 = times.map(|word| word.parse::<u64>().unwrap()).sum();
    let rounds = seeds().end - seeds().start;
    println!("{rounds} rounds, {ticks} hundredths of a second");
    assert!(ticks < 50 * rounds, "it looks when something happens, and rests else");
}
