//! The table is replaced without end while traffic of every kind crosses it: nothing is lost, nothing passes without
//! its address translated, and whoever reads the table sees one of the variants, never half of two.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::Netns;
use crate::support::site::{
    PEER, POD, Site, ask, block_on, dial, firewall, plan, said, serve, talk, udp_socket,
};
use berth::net::{Port, Transport};
use berth::nft::Ruleset;
use berth::nft::dump::Filter;

const LONG: Duration = Duration::from_secs(5);
const PORT: u16 = 80;

/// How often, and how often not.
#[derive(Debug, Default)]
struct Tally {
    good: AtomicUsize,
    lost: AtomicUsize,
}

impl Tally {
    fn add(&self, good: bool) {
        let counter = if good { &self.good } else { &self.lost };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn numbers(&self) -> (usize, usize) {
        (self.good.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }
}

/// TCP segments that were sent a second time in a namespace.
fn sent_again(netns: &Netns) -> usize {
    let text = netns.run("cat /proc/net/snmp");
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (mut names, mut values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.position(|name| name == "RetransSegs").unwrap();
    values.nth(at).unwrap().parse().unwrap()
}

/// Does `once` in a thread inside `netns` until `over`.
fn repeat<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    netns: &'scope Netns,
    over: &'scope AtomicBool,
    tally: &'scope Tally,
    mut once: impl FnMut() -> bool + Send + 'scope,
) {
    scope.spawn(move || {
        netns.within(|| {
            while !over.load(Ordering::Relaxed) {
                tally.add(once());
                std::thread::sleep(Duration::from_micros(200));
            }
        });
    });
}

fn ports(numbers: &[u16]) -> Ruleset {
    let ports: Vec<_> =
        numbers.iter().map(|number| Port { transport: Transport::Tcp, number: *number }).collect();
    plan(&ports, &[])
}

/// The same rules on hooks that are called at another time: the table has to be made anew.
fn moved() -> Ruleset {
    let mut ruleset = ports(&[]);
    for hook in ruleset.tables[0].chains.iter_mut().filter_map(|chain| chain.hook.as_mut()) {
        hook.priority += 1;
    }
    ruleset
}

#[test]
fn nothing_is_lost_while_the_table_is_replaced_in_place() {
    replaced_under_traffic("in place", &[ports(&[]), ports(&[22, 443])]);
}

#[test]
fn nothing_is_lost_while_the_table_is_made_anew() {
    replaced_under_traffic("anew", &[ports(&[]), moved()]);
}

/// What the other tests would show if the table were gone for the moment between two transactions.
#[test]
fn the_same_in_two_transactions_is_noticed() {
    let site = Site::with_rules();
    serve(&site.guest, "guest", PORT);
    serve(&site.pod, "pod", PORT);
    let (over, tally) = (AtomicBool::new(false), Tally::default());
    std::thread::scope(|scope| {
        repeat(scope, &site.peer, &over, &tally, || {
            ask(&udp_socket(&site.peer, "0.0.0.0"), POD, PORT) == said("guest", PEER)
        });
        let wanted = ports(&[]);
        let tables: Vec<_> =
            wanted.tables.iter().map(|table| (table.family, table.name.clone())).collect();
        while tally.numbers().0 < 20 && tally.numbers().1 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..2000 {
            block_on(site.firewall.remove(tables.clone())).unwrap();
            block_on(site.firewall.commit(wanted.clone())).unwrap();
            if tally.numbers().1 > 0 {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let (good, lost) = tally.numbers();
    println!("two transactions: {good} answered, {lost} lost");
    assert!(
        good >= 20 && lost > 0,
        "{good} answered, {lost} lost: the other tests would not see it either"
    );
}

fn replaced_under_traffic(how: &str, variants: &[Ruleset; 2]) {
    let site = Site::new();
    block_on(site.firewall.commit(variants[0].clone())).unwrap();
    serve(&site.guest, "guest", PORT);
    serve(&site.pod, "pod", PORT);
    serve(&site.peer, "peer", PORT);
    let handles = || {
        let listing = site.pod.nft("-a list table inet berth");
        listing
            .lines()
            .filter(|line| line.contains("# handle") && !line.starts_with("\t\t"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = handles();

    let names = [
        "TCP, one long",
        "TCP, new ones",
        "UDP, one long",
        "UDP, new ones",
        "UDP from the guest, new ones",
    ];
    let tallies: [Tally; 5] = Default::default();
    let (over, replaced, read, torn) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let pings = std::thread::scope(|scope| {
        let (peer, over) = (&site.peer, &over);
        let mut stream = dial(peer, POD, PORT).unwrap();
        repeat(scope, peer, over, &tallies[0], move || talk(&mut stream) == said("guest", PEER));
        repeat(scope, peer, over, &tallies[1], || {
            dial(peer, POD, PORT).is_some_and(|mut stream| talk(&mut stream) == said("guest", PEER))
        });
        let socket = udp_socket(peer, "0.0.0.0");
        repeat(scope, peer, over, &tallies[2], move || {
            ask(&socket, POD, PORT) == said("guest", PEER)
        });
        repeat(scope, peer, over, &tallies[3], || {
            ask(&udp_socket(peer, "0.0.0.0"), POD, PORT) == said("guest", PEER)
        });
        repeat(scope, &site.guest, over, &tallies[4], || {
            ask(&udp_socket(&site.guest, "0.0.0.0"), PEER, PORT) == said("peer", POD)
        });
        scope.spawn(|| {
            let reader = firewall(&site.pod);
            let whole = variants.each_ref().map(Ruleset::canonical);
            while !over.load(Ordering::Relaxed) {
                let found = block_on(reader.dump(Filter::default())).unwrap().1.canonical();
                read.fetch_add(1, Ordering::Relaxed);
                torn.fetch_add(usize::from(!whole.contains(&found)), Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            for variant in variants.iter().cycle().skip(1) {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                block_on(site.firewall.commit(variant.clone())).unwrap();
                replaced.fetch_add(1, Ordering::Relaxed);
            }
        });
        let count = LONG.as_millis() / 5;
        let output = peer
            .command("ping")
            .args(["-q", "-i0.005", "-c", &count.to_string(), POD])
            .output()
            .unwrap();
        over.store(true, Ordering::Relaxed);
        String::from_utf8_lossy(&output.stdout).into_owned()
    });

    let number = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (replaced, read, torn) = (number(&replaced), number(&read), number(&torn));
    let pings =
        pings.lines().find(|line| line.contains("packet loss")).unwrap_or("no pings").to_owned();
    println!("{replaced} replacements {how}, {read} dumps, {torn} of them torn; pings: {pings}");
    let again: usize = [&site.peer, &site.guest, &site.pod].into_iter().map(sent_again).sum();
    println!("TCP segments sent again: {again}");
    for (name, tally) in names.iter().zip(&tallies) {
        let (good, lost) = tally.numbers();
        println!("{name}: {good} answered, {lost} lost");
        assert!(good > 500 && lost == 0, "{name}: {good} answered, {lost} lost");
    }
    // TCP would mend what is lost; a processor that stalls may send a few again for nothing.
    assert!(
        again * 1000 < tallies[0].numbers().0 + tallies[1].numbers().0,
        "{again} segments sent again"
    );
    assert!(pings.contains(" 0% packet loss"), "{pings}");
    // Enough to have met something; how many there are in the time is the machine's affair.
    assert!(replaced > 200 && read > 200, "{replaced} replacements, {read} dumps");
    assert_eq!(torn, 0);
    assert_eq!(handles() == before, how == "in place", "the other way of replacing was taken");
}
