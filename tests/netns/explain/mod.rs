//! `berth nft explain` against a kernel: what it says becomes of a packet is what becomes of it.

mod cli;
mod frames;
mod keys;
mod people;
mod random;
mod wire;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Instant;

use crate::support::dice::Dice;
use crate::support::{self, Netns};
use berth::inspect::explain::predict;
use berth::nft::Ruleset;
use berth::nft::dump::Filter;
use berth::nft::explain::{
    Bits, Explanation, ICMP, ICMP6, Outcome, Packet, Paint, Path, State, TCP, UDP, World,
};
use berth::sys::link::Links;
use berth::sys::netlink::Firewall;
use berth::sys::route;
use wire::{Post, SETTLE, Shot, Sight};

const RULESETS: u64 = 60;
/// Longer, for who works on it: `EXPLAIN_RULESETS=1000 EXPLAIN_SEED=7`.
fn rulesets() -> u64 {
    std::env::var("EXPLAIN_RULESETS").ok().and_then(|text| text.parse().ok()).unwrap_or(RULESETS)
}

const SHOTS: usize = 12;

/// peer ── pod ── guest, without rules.
#[derive(Debug)]
struct Site {
    peer: Netns,
    pod: Netns,
    guest: Netns,
}

impl Site {
    fn new() -> Self {
        let (peer, pod, guest) = (Netns::new("peer"), Netns::new("pod"), Netns::new("guest"));
        support::veth(&peer, "eth0", &pod, "eth0");
        support::veth(&guest, "eth0", &pod, "inner");
        for (netns, link, addresses) in [
            (
                &peer,
                "eth0",
                ["10.1.1.1/24", "10.1.1.9/24", "10.1.1.130/24", "fd00:1::1/64", "fd00:1::9/64"]
                    .as_slice(),
            ),
            (&pod, "eth0", &["10.1.1.2/24", "10.1.1.3/24", "fd00:1::2/64"]),
            (&pod, "inner", &["192.168.254.1/24", "fd00:2::1/64"]),
            (
                &guest,
                "eth0",
                &[
                    "192.168.254.2/24",
                    "192.168.254.3/24",
                    "192.168.254.5/24",
                    "fd00:2::2/64",
                    "fd00:2::3/64",
                ],
            ),
        ] {
            for address in addresses {
                let nodad = if address.contains("::") { "nodad" } else { "" };
                netns.ip(&format!("addr add {address} dev {link} {nodad}"));
            }
        }
        pod.ip("route add default via 10.1.1.1");
        peer.ip("route add default via 10.1.1.2");
        guest.ip("route add default via 192.168.254.1");
        peer.ip("-6 route add default via fd00:1::2");
        guest.ip("-6 route add default via fd00:2::1");
        pod.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0 net.ipv4.conf.all.send_redirects=0");
        for netns in [&peer, &pod, &guest] {
            netns.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0");
        }
        // Neighbour discovery would meet the rules too.
        for (netns, link, other, its) in [
            (&peer, "eth0", &pod, "eth0"),
            (&pod, "eth0", &peer, "eth0"),
            (&pod, "inner", &guest, "eth0"),
            (&guest, "eth0", &pod, "inner"),
        ] {
            let ether = other.ip(&format!("-o link show {its}"));
            let ether =
                ether.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
            for line in other.ip(&format!("-o addr show dev {its}")).lines() {
                let address = line.split_whitespace().nth(3).unwrap().split('/').next().unwrap();
                netns.ip(&format!(
                    "neigh replace {address} lladdr {ether} nud permanent dev {link}"
                ));
            }
        }
        pod.run("sysctl -qw net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.inner.rp_filter=0");
        Self { peer, pod, guest }
    }
}

/// Runs a program with this on its standard input; its complaint when it fails.
fn feed(netns: &Netns, words: &str, text: &str) -> Result<(), String> {
    let (program, arguments) = words.split_once(' ').unwrap_or((words, ""));
    let mut child = netns
        .command(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{}\n{text}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Loads what `nft` takes of the text: a line it refuses (conflicting protocols, …) is left out. How many were, and
/// the others.
fn load_what_is_taken<'a>(netns: &Netns, text: &'a str) -> (usize, Vec<&'a str>) {
    let mut lines: Vec<&str> = text.lines().collect();
    for refused in 0..200 {
        let Err(complaint) = feed(netns, "nft -f -", &(lines.join("\n") + "\n")) else {
            return (refused, lines);
        };
        let number = complaint.split(':').nth(1).and_then(|word| word.parse::<usize>().ok());
        let number = number.unwrap_or_else(|| panic!("{complaint}\n{text}"));
        assert!(lines[number - 1].starts_with("  "), "{complaint}\n{text}");
        lines.remove(number - 1);
    }
    panic!("nft takes none of it:\n{text}")
}

fn load(netns: &Netns, text: &str) -> usize {
    load_what_is_taken(netns, text).0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Peer,
    Pod,
    Guest,
}

/// One packet of the test: who sends it, and what conntrack will think of it.
#[derive(Debug, Clone)]
struct Try {
    shot: Shot,
    sender: Who,
    state: State,
    reply: bool,
}

struct Range {
    peer: Post,
    pod: Post,
    guest: Post,
}

impl Range {
    fn post(&self, who: Who) -> &Post {
        match who {
            Who::Peer => &self.peer,
            Who::Pod => &self.pod,
            Who::Guest => &self.guest,
        }
    }

    /// What came of the packets, by number; on a busy machine those that are told to come are waited for.
    fn wait_for(&self, told: &[(Try, Explanation)]) -> BTreeMap<u32, Vec<(Who, Sight)>> {
        let accepted =
            told.iter().filter(|(_, explanation)| explanation.outcome == Outcome::Accepted);
        let wanted: Vec<u32> = accepted.map(|(attempt, _)| attempt.shot.number).collect();
        let mut seen: BTreeMap<u32, Vec<(Who, Sight)>> = BTreeMap::new();
        for _ in 0..300 {
            std::thread::sleep(SETTLE);
            for (who, sight) in self.seen() {
                seen.entry(sight.number).or_default().push((who, sight));
            }
            if wanted.iter().all(|number| seen.contains_key(number)) {
                break;
            }
        }
        seen
    }

    fn seen(&self) -> Vec<(Who, Sight)> {
        let of = |who| self.post(who).seen().into_iter().map(move |sight| (who, sight));
        [Who::Peer, Who::Pod, Who::Guest].into_iter().flat_map(of).collect()
    }
}

/// Flows that exist before the rules do: the pod's conntrack knows them, un-NATed and answered.
struct Flows {
    spare: Vec<(Try, Try)>,
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn any_try(dice: &mut Dice, number: u32) -> Try {
    use random::{GUESTS, GUESTS6, PEERS, PEERS6, PODS, PODS6};
    let v6 = dice.chance(15);
    let (peers, pods, guests): (&[&str], &[&str], &[&str]) =
        if v6 { (&PEERS6, &PODS6, &GUESTS6) } else { (&PEERS, &PODS, &GUESTS) };
    let (sender, from, to) = match dice.below(10) {
        0..=2 => (Who::Peer, dice.one(peers), dice.one(pods)),
        3..=4 => (Who::Peer, dice.one(peers), dice.one(guests)),
        5 => (Who::Guest, dice.one(guests), dice.one(pods)),
        6 => (Who::Guest, dice.one(guests), dice.one(peers)),
        7 => (Who::Pod, dice.one(pods), dice.one(peers)),
        8 => (Who::Pod, dice.one(pods), dice.one(guests)),
        // By the wrong interface.
        9 if dice.chance(50) => (Who::Peer, dice.one(guests), dice.one(pods)),
        _ => (Who::Pod, dice.one(pods), dice.one(pods)),
    };
    let protocol = match (dice.below(5), v6) {
        (0 | 1, _) => TCP,
        (2 | 3, _) => UDP,
        (_, false) => ICMP,
        (_, true) => ICMP6,
    };
    // Both SYN and FIN: conntrack calls that invalid.
    let (flags, state) = match dice.below(10) {
        0 if protocol == TCP => (3, State::Invalid),
        1 => (0x10, State::New),
        _ => (2, State::New),
    };
    let shot = Shot {
        number,
        from: address(from),
        to: address(to),
        protocol,
        sport: u16::try_from(20_000 + number % 20_000).unwrap(),
        dport: dice.one(&random::PORTS).parse().unwrap(),
        flags,
        tos: if dice.chance(20) { 0x20 } else { 0 },
    };
    Try { shot, sender, state, reply: false }
}

/// Flows over UDP from the peer, made known to conntrack; each is used for one packet, in either direction.
fn known_flows(site: &Site, range: &Range, dice: &mut Dice, count: u32) -> Flows {
    use random::{GUESTS, PEERS, PODS};
    load(
        &site.pod,
        "table ip prime {\n chain c {\n type filter hook prerouting priority 0;\n  ct state new accept\n }\n}",
    );
    let mut spare = Vec::new();
    for at in 0..count {
        let (far, who) = if dice.chance(50) {
            (dice.one(&PODS), Who::Pod)
        } else {
            (dice.one(&GUESTS), Who::Guest)
        };
        let (peer, dport) = (address(dice.one(&PEERS)), dice.one(&random::PORTS).parse().unwrap());
        let number = 1_000_000 + at * 4;
        let sport = u16::try_from(41_000 + at).unwrap();
        let there = Shot {
            number,
            from: peer,
            to: address(far),
            protocol: UDP,
            sport,
            dport,
            flags: 0,
            tos: 0,
        };
        let back = Shot {
            number: number + 1,
            from: there.to,
            to: there.from,
            sport: there.dport,
            dport: there.sport,
            ..there.clone()
        };
        range.post(Who::Peer).send(&there);
        let again = |shot: &Shot, sender, reply| {
            let shot = Shot { number: shot.number + 2, ..shot.clone() };
            Try { shot, sender, state: State::Established, reply }
        };
        spare.push((again(&there, Who::Peer, false), again(&back, who, true)));
        std::thread::sleep(std::time::Duration::from_micros(200));
        if who == Who::Pod {
            send_from(&site.pod, vec![back]);
        } else {
            range.post(who).send(&back);
        }
    }
    let mut seen = 0;
    for _ in 0..300 {
        std::thread::sleep(SETTLE);
        seen += range.seen().len();
        if seen == count as usize * 2 {
            break;
        }
    }
    assert_eq!(seen, count as usize * 2, "the flows are not what the test takes them to be");
    Flows { spare }
}

fn packet_of(attempt: &Try, world: &World) -> (Packet, Path) {
    let Try { shot, sender, state, reply } = attempt;
    let mut packet = Packet::ip(Some(shot.from), shot.to, shot.protocol);
    if packet.has_ports() {
        packet.set_ports(Some(shot.sport), Some(shot.dport));
    }
    if shot.protocol == TCP {
        packet.set_tcp_flags(shot.flags);
    }
    packet.set_ttl(64);
    packet.set_tos(shot.tos);
    packet.set_length(shot.length());
    packet.connection.state = *state;
    packet.connection.reply = *reply;
    if *state == State::Established {
        // Neither dnat nor snat, nobody has set a mark, and it was looked for in no zone.
        packet.connection.zone = Some(0);
        packet.connection.labels = Bits::known(&[0; 16]);
        packet.connection.status = Bits::partly(&[0; 4], &0x30_u32.to_ne_bytes());
    }
    let link = match sender {
        Who::Pod => {
            packet.local = true;
            return (packet, Path::Local);
        }
        Who::Peer => "eth0",
        Who::Guest => "inner",
    };
    let iif = world.named(link).unwrap().clone();
    packet.set_ether(None, iif.ether);
    packet.iif = Some(iif);
    (packet, Path::Arriving)
}

fn send_from(netns: &Netns, shots: Vec<Shot>) {
    netns.enter(async move || {
        for shot in &shots {
            wire::send_from_socket(shot);
        }
    });
}

fn predictions(netns: &Netns, tries: Vec<Try>) -> (Ruleset, Vec<(Try, Explanation)>) {
    netns.enter(async move || {
        let links = Links::open().unwrap();
        let mut world = route::world(links.handle()).await.unwrap();
        let ruleset = Firewall::start().unwrap().dump(Filter::default()).await.unwrap().1;
        let mut told = Vec::new();
        for attempt in tries {
            let (packet, path) = packet_of(&attempt, &world);
            let explanation =
                predict(links.handle(), &ruleset, &mut world, &packet, path, None).await.unwrap();
            told.push((attempt, explanation));
        }
        (ruleset, told)
    })
}

/// What is wrong with the prediction, if anything is.
fn compare(told: &Explanation, seen: &[&(Who, Sight)]) -> Option<String> {
    let expected = match told.outcome {
        Outcome::CannotTell => return None,
        Outcome::Dropped | Outcome::Rejected => None,
        Outcome::Accepted => Some(match told.end.oif.as_ref().map(|oif| oif.name.as_str()) {
            Some("eth0") => Who::Peer,
            Some("inner") => Who::Guest,
            _ => Who::Pod,
        }),
    };
    let found: Vec<Who> = seen.iter().map(|(who, _)| *who).collect();
    match (expected, seen) {
        (None, []) => None,
        (Some(who), [(found, sight)]) if who == *found => {
            let end = &told.end;
            let port = |mine: Option<u16>, its: u16| mine.is_none_or(|mine| mine == its);
            let ports = sight.ports.is_none_or(|(source, destination)| {
                port(end.source_port(), source) && port(end.destination_port(), destination)
            });
            let fits = end.source().is_none_or(|from| from == sight.from)
                && (sight.to.is_none() || end.destination().is_none_or(|to| Some(to) == sight.to))
                && ports
                && sight.tos.is_none_or(|tos| end.may_have_tos(tos));
            (!fits).then(|| format!("told {end}, seen {sight:?}"))
        }
        _ => Some(format!("told {:?} at {expected:?}, seen at {found:?}", told.outcome)),
    }
}

#[derive(Debug, Default)]
struct Tally {
    pairs: usize,
    accepted: usize,
    dropped: usize,
    rewritten: usize,
    cannot_tell: usize,
    refused_lines: usize,
}

/// Tells and tries, for many rulesets; what was told wrong ends the test with the first story.
fn agree(rulesets: u64, load: impl Fn(&Netns, u64) -> usize) -> Tally {
    let began = Instant::now();
    let site = Site::new();
    let post = |netns: &Netns, make: fn() -> Post| netns.enter(async move || make());
    let range = Range {
        peer: post(&site.peer, Post::on_the_wire),
        pod: post(&site.pod, Post::of_a_host),
        guest: post(&site.guest, Post::on_the_wire),
    };
    let first_seed =
        std::env::var("EXPLAIN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut dice = Dice::new(first_seed);
    let mut flows = known_flows(&site, &range, &mut dice, 40);
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    let mut number = 0;
    for seed in first_seed..first_seed + rulesets {
        // By itself, so that nat is not kept at its hooks from one ruleset to the next.
        site.pod.nft("flush ruleset");
        tally.refused_lines += load(&site.pod, seed);
        let mut tries: Vec<Try> = (0..SHOTS)
            .map(|_| {
                number += 1;
                any_try(&mut dice, number)
            })
            .collect();
        if let Some((there, back)) = flows.spare.pop() {
            tries.push(if dice.chance(50) { there } else { back });
        }
        range.seen();
        // Before they are sent: packets change sets.
        let (ruleset, told) = predictions(&site.pod, tries.clone());
        let (own, foreign): (Vec<&Try>, Vec<&Try>) =
            tries.iter().partition(|attempt| attempt.sender == Who::Pod);
        for attempt in foreign {
            range.post(attempt.sender).send(&attempt.shot);
        }
        send_from(&site.pod, own.into_iter().map(|attempt| attempt.shot.clone()).collect());
        let seen = range.wait_for(&told);
        for (attempt, explanation) in told {
            let sights: Vec<&(Who, Sight)> =
                seen.get(&attempt.shot.number).into_iter().flatten().collect();
            tally.pairs += 1;
            match explanation.outcome {
                Outcome::Accepted => tally.accepted += 1,
                Outcome::CannotTell => tally.cannot_tell += 1,
                _ => tally.dropped += 1,
            }
            if explanation.outcome == Outcome::Accepted
                && explanation.end.to_string() != explanation.packet
            {
                tally.rewritten += 1;
            }
            if explanation.outcome == Outcome::CannotTell {
                println!("seed {seed}: {}", explanation.why);
            }
            if let Some(difference) = compare(&explanation, &sights) {
                let paint = Paint { explanation: &explanation, colours: false };
                wrong.push(format!("seed {seed}: {attempt:?}\n{difference}\n{paint}\n{ruleset}"));
            }
        }
    }
    println!("{tally:?} in {:?}", began.elapsed());
    for error_chain in &wrong {
        println!("{}", error_chain.lines().take(2).collect::<Vec<_>>().join("\n"));
    }
    assert!(wrong.is_empty(), "{} of {} wrong; the first:\n{}", wrong.len(), tally.pairs, wrong[0]);
    tally
}

#[test]
fn explain_agrees_with_reality() {
    let tally = agree(rulesets(), |pod, seed| load(pod, &random::ruleset(seed)));
    assert!(tally.pairs - tally.cannot_tell >= 500, "{tally:?}");
    assert!(tally.accepted >= 150 && tally.dropped >= 100 && tally.rewritten >= 50, "{tally:?}");
}

#[test]
fn explain_agrees_with_reality_about_the_rules_of_iptables() {
    let tally = agree(rulesets() / 2, |pod, seed| {
        feed(pod, "iptables-nft-restore", &random::iptables(seed))
            .unwrap_or_else(|error| panic!("{error}"));
        0
    });
    assert!(tally.pairs - tally.cannot_tell >= 250, "{tally:?}");
    assert!(tally.accepted >= 100 && tally.dropped >= 50 && tally.rewritten >= 30, "{tally:?}");
}
