//! What others do to our rules and links, hundreds of times, with traffic under way; and what it takes to mend it.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::site::{
    PEER, POD, Site, block_on, dial, firewall, mapping, ours, plan, said, serve, talk,
};
use crate::support::{self, Netns, PATIENCE, sample, until};
use berth::net::{Port, Transport};
use berth::observe::{self, Counts, Rules};
use berth::plan::LinkPlan;
use berth::sys::link::Links;
use berth::sys::netlink::Firewall;
use berth::sys::netlink::watch::Transactions;
use tokio::sync::watch;

const ROUNDS: usize = 200;
/// Between two disturbances: what the ration allows for ever.
const PAUSE: Duration = Duration::from_millis(22);

fn rules() -> Rules {
    Rules { nat: plan(&[], &[]), mapping: mapping(&[]) }
}

/// The observer at work in a thread inside the pod.
struct Observing {
    stop: watch::Sender<bool>,
    counts: watch::Receiver<Counts>,
    thread: Option<JoinHandle<()>>,
}

/// The real code for links where there is a plan for them; else they are left alone.
struct Here {
    links: Option<(Links, LinkPlan)>,
    /// The first look at the links comes when all is listened to.
    listening: mpsc::Sender<()>,
}

impl observe::Pod for Here {
    async fn mend_links(&self) -> Result<bool, String> {
        let _ = self.listening.send(());
        let Some((links, plan)) = &self.links else { return Ok(false) };
        let before = links.changes();
        berth::apply::mend_links(plan, links)
            .await
            .map_err(|error| berth::exit::error_chain(&error))?;
        Ok(links.changes() != before)
    }

    async fn rules(&self) -> Result<Rules, String> {
        Ok(rules())
    }
}

impl Observing {
    fn start(pod: &Netns, links: Option<LinkPlan>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let (counts, counted) = watch::channel(Counts::default());
        let path = pod.path();
        let (listening, started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            berth::sys::netns::enter(path.as_ref()).unwrap();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let firewall = Firewall::start().unwrap();
                firewall.commit(rules().nat).await.unwrap();
                firewall.commit(berth::plan::nat::anchor()).await.unwrap();
                let links = match links {
                    Some(plan) => {
                        let links = Links::open().unwrap();
                        berth::apply::links(&plan, &links).await.unwrap();
                        Some((links, plan))
                    }
                    None => None,
                };
                let here = Here { links, listening };
                observe::run(&firewall, rules(), &here, &counts, stopping).await;
            });
        });
        started.recv_timeout(PATIENCE).expect("the observer starts");
        Self { stop, counts: counted, thread: Some(thread) }
    }

    fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until a count is as high as that.
    fn reaches(&self, what: &str, wanted: u64, count: impl Fn(Counts) -> u64) {
        let mut counts = self.counts.clone();
        let reached = async {
            let reached = counts.wait_for(|counts| count(*counts) >= wanted);
            tokio::time::timeout(PATIENCE, reached).await.is_ok_and(|counts| counts.is_ok())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        assert!(runtime.block_on(reached), "{what}: {:?}, not {wanted}", self.counts());
    }
}

impl Drop for Observing {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

/// When transactions were heard of, one after another.
fn clock(pod: &Netns) -> mpsc::Receiver<Instant> {
    let ((tell, heard), (ready, listening)) = (mpsc::channel(), mpsc::channel());
    let path = pod.path();
    std::thread::spawn(move || {
        berth::sys::netns::enter(path.as_ref()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut transactions = Transactions::open().unwrap();
            ready.send(()).unwrap();
            while transactions.next().await.is_ok() {
                if tell.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
    });
    listening.recv_timeout(PATIENCE).unwrap();
    heard
}

/// Talks over connections that exist, all the time, and counts the answers.
struct Traffic {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Option<String>>>,
}

impl Traffic {
    fn start(site: &Site) -> Self {
        serve(&site.guest, "guest", 80);
        serve(&site.peer, "peer", 81);
        let streams = [
            (dial(&site.peer, POD, 80).unwrap(), said("guest", PEER)),
            (dial(&site.guest, PEER, 81).unwrap(), said("peer", POD)),
        ];
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let talking = streams.into_iter().map(|(mut stream, wanted)| {
            let (stop, answers) = (stop.clone(), answers.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = talk(&mut stream);
                    if answer != wanted {
                        return Some(format!("{answer:?}, not {wanted:?}"));
                    }
                    answers.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
                None
            })
        });
        let threads = talking.collect();
        Self { stop, answers, threads }
    }

    /// How many answers there were; every one of them was right.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert_eq!(thread.join().unwrap(), None);
        }
        self.answers.load(Ordering::Relaxed)
    }
}

/// Counts at the peer what comes with the guest's own address: what left the pod untranslated.
fn count_leaks(site: &Site) {
    site.peer.nft(
        "add table ip leaks { chain c { type filter hook prerouting priority 0; ip saddr 192.168.254.2 counter; }; }",
    );
}

fn leaks(site: &Site) -> u64 {
    let listed = site.peer.nft("list table ip leaks");
    listed.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn report(kind: &str, mut times: Vec<Duration>) {
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{kind}: {} times, mended after {median:?} in the median, {worst:?} at worst",
        times.len()
    );
}

#[test]
fn our_rules_are_restored_whatever_is_done_to_them_and_nothing_leaks() {
    let site = Site::with_rules();
    count_leaks(&site);
    let observing = Observing::start(&site.pod, None);
    let traffic = Traffic::start(&site);
    let listed =
        || ["inet", "arp"].map(|family| site.pod.nft(&format!("-s list table {family} berth")));
    let good = listed();
    let heard = clock(&site.pod);
    let disturber = firewall(&site.pod);
    let other = plan(&[Port { transport: Transport::Tcp, number: 22 }], &[]);

    type Act<'a> = Box<dyn Fn() + 'a>;
    let by_netlink: [(&str, Act<'_>); 2] = [
        (
            "table deleted",
            Box::new(|| {
                block_on(disturber.remove(vec![(ours().family.unwrap(), "berth".to_owned())]))
                    .unwrap();
            }),
        ),
        (
            "table changed",
            Box::new(|| {
                block_on(disturber.commit(other.clone())).unwrap();
            }),
        ),
    ];
    let by_process =
        ["flush ruleset", "flush table inet berth", "insert rule inet berth prerouting accept"];
    let mut restored = 0;
    let mut disturb = |kind: &str, rounds: usize, act: &dyn Fn()| {
        let mut times = Vec::new();
        for _ in 0..rounds {
            while heard.try_recv().is_ok() {}
            act();
            restored += 1;
            observing.reaches(kind, restored, |counts| counts.rules_restored);
            let disturbed = heard.recv_timeout(PATIENCE).unwrap();
            times.push(heard.recv_timeout(PATIENCE).unwrap() - disturbed);
            std::thread::sleep(PAUSE);
        }
        assert_eq!(listed(), good, "{kind}");
        report(kind, times);
    };
    for (kind, act) in &by_netlink {
        disturb(kind, ROUNDS, act);
    }
    for words in by_process {
        disturb(&format!("nft {words}"), ROUNDS, &|| drop(site.pod.nft(words)));
    }
    for words in ["delete table arp berth", "insert rule arp berth input accept"] {
        disturb(&format!("nft {words}"), ROUNDS / 20, &|| drop(site.pod.nft(words)));
    }
    let answers = traffic.end();
    println!("{answers} answers over connections that existed, {} packets leaked", leaks(&site));
    assert!(answers > 1000, "{answers}");
    assert_eq!(leaks(&site), 0);
}

#[test]
fn a_storm_of_changes_is_answered_in_measure_and_outlived() {
    let site = Site::with_rules();
    let observing = Observing::start(&site.pod, None);
    let good = site.pod.nft("-s list table inet berth");
    let disturber = firewall(&site.pod);
    let other = plan(&[Port { transport: Transport::Tcp, number: 22 }], &[]);
    let (begun, mut disturbances) = (Instant::now(), 0);
    // Two seconds, or on a busy machine until it was a storm, and answered as one: all that is done at once.
    while begun.elapsed() < Duration::from_secs(2)
        || disturbances <= 200
        || observing.counts().rules_restored < 50
    {
        let counts = observing.counts();
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{disturbances} in a minute, {counts:?}"
        );
        block_on(disturber.commit(other.clone())).unwrap();
        disturbances += 1;
    }
    let (counts, elapsed) = (observing.counts(), begun.elapsed());
    println!("{disturbances} disturbances in {elapsed:?}, {counts:?}");
    // Fifty at once and fifty a second.
    assert!(counts.rules_restored <= 50 + 50 * (elapsed.as_secs() + 1) + 10, "{counts:?}");
    until("our rules are restored after the storm", || {
        site.pod.nft("-s list table inet berth") == good
    });
}

#[test]
fn our_links_are_mended_whatever_is_done_to_them() {
    let peer = Netns::new("peer");
    let pod = Netns::new("pod");
    support::veth(&peer, "eth0", &pod, "eth0");
    pod.ip("addr add 10.1.1.2/24 dev eth0");
    pod.ip("route add default via 10.1.1.1");
    let link = berth::plan::link::plan(&sample::config(), &sample::facts().net, 65534).unwrap();
    let observing = Observing::start(&pod, Some(link));
    let state = || {
        let links = pod.ip("-br link show");
        let ports = pod.ip("-d -o link show tap0");
        (
            links.contains("br0") && pod.ip("-br addr show br0").contains("192.168.254.1/30"),
            ports.contains("hairpin on")
                && ports.contains("learning off")
                && ports.contains(" flood on"),
        )
    };
    assert_eq!(state(), (true, true));
    let mut mended = observing.counts().links_mended;
    for (words, rounds) in [
        ("link set br0 down", ROUNDS),
        ("link set tap0 nomaster", ROUNDS),
        ("link del br0", ROUNDS),
        ("link del tap0", ROUNDS),
        ("link set tap0 type bridge_slave learning on", ROUNDS / 20),
        ("link set tap0 type bridge_slave flood off", ROUNDS / 20),
    ] {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let begun = Instant::now();
            pod.ip(words);
            observing.reaches(words, mended + 1, |counts| counts.links_mended);
            times.push(begun.elapsed());
            // What was mended is heard of too: let it settle.
            std::thread::sleep(Duration::from_millis(5));
            mended = observing.counts().links_mended;
        }
        until(words, || {
            state() == (true, true)
                && pod.ip("-o link show br0").contains(",UP")
                && pod.ip("-o link show tap0").contains("master br0")
        });
        report(&format!("ip {words}"), times);
    }
    // Nothing is done when nothing is done to them.
    until("half a second in which nothing is done", || {
        let before = observing.counts();
        std::thread::sleep(Duration::from_millis(500));
        observing.counts() == before
    });
}

/// Connections to an address the pod no longer has are forgotten; others stay.
#[test]
fn connections_of_an_address_that_is_gone_are_forgotten() {
    let site = Site::with_rules();
    serve(&site.guest, "guest", 80);
    let mut stream = dial(&site.peer, POD, 80).unwrap();
    assert_eq!(talk(&mut stream), said("guest", PEER));
    let forget =
        |address: &str| block_on(site.firewall.forget(vec![address.parse().unwrap()])).unwrap();
    assert_eq!(forget("10.9.9.9"), 0);
    assert_eq!(forget(POD), 1);
    assert_eq!(forget(POD), 0);
}

/// `berth nft` in the pod, with what `plan` needs to be told there.
fn berth_nft(pod: &Netns, words: &[&str]) -> std::process::Command {
    let mut command = pod.command(env!("CARGO_BIN_EXE_berth"));
    command.args(["nft"]).args(words);
    command
}

#[test]
fn watch_tells_who_changed_what() {
    let site = Site::with_rules();
    let mut watching = berth_nft(&site.pod, &["watch", "--count", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(watching.stderr.take().unwrap()).lines();
    assert!(log.next().unwrap().unwrap().contains("listening"));
    let mut told = BufReader::new(watching.stdout.take().unwrap());
    let mut text = String::new();
    for words in [
        "add rule inet berth forward tcp dport 25 drop",
        "add table ip other { set s { type ipv4_addr; elements = { 1.1.1.1 }; }; }",
        "delete table inet berth",
    ] {
        site.pod.nft(words);
        // The next one when this one was heard.
        let before = text.len();
        while !text[before..].contains("generation ") {
            assert!(told.read_line(&mut text).unwrap() > 0, "{text}");
        }
    }
    told.read_to_string(&mut text).unwrap();
    assert!(watching.wait().unwrap().success());
    let wanted = [
        ": nft (pid ",
        "  table inet berth {\n  \tchain forward {\n+ \t\ttcp dport 25 drop\n",
        "+ table ip other {\n",
        "+ \t\telements = { 1.1.1.1 }\n",
        "- table inet berth {\n",
    ];
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    assert_eq!(text.matches("generation ").count(), 3, "{text}");
    assert!(!text.contains('\u{1b}'), "colours are for terminals\n{text}");
}

#[test]
fn check_tells_drift_and_its_exit_code_too() {
    let site = Site::new();
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("base.qcow2");
    support::run("qemu-img", &["create", "-q", "-f", "qcow2", base.to_str().unwrap(), "8M"]);
    let check = |more: &[&str]| {
        let mut command = berth_nft(&site.pod, &["check"]);
        command.env("IMG_TARGET", &base).env("BERTH_IMAGE_DIR", directory.path());
        let out = command.env("HOSTNAME", "web").args(more).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stderr), "");
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, text) = check(&[]);
    assert_eq!(code, 1);
    assert!(text.starts_with("- table inet berth {\n"), "{text}");
    site.commit(&[]);
    assert_eq!(check(&[]), (0, String::new()));
    site.pod.nft("insert rule inet berth postrouting counter accept");
    let (code, text) = check(&[]);
    assert_eq!(code, 1);
    assert_eq!(text, "  table inet berth {\n  \tchain postrouting {\n+ \t\tcounter accept\n");
    site.pod.nft("flush chain inet berth raw");
    let (code, text) = check(&[]);
    assert!(
        code == 1
            && text.contains(
                "- \t\tiifname \"br0\" ip saddr != 192.168.254.2 ip saddr != 0.0.0.0 counter drop"
            ),
        "{text}"
    );
}

/// The kernel's own tale of each transaction, retold, is what a dump finds.
#[test]
fn what_is_replayed_is_what_is_loaded() {
    use berth::nft::dump::Filter;
    use berth::sys::netlink::watch::Changes;
    let pod = Netns::new("pod");
    let script = [
        "add table inet t { chain c { type filter hook input priority 0; }; }",
        "add rule inet t c tcp dport 1",
        "add rule inet t c tcp dport 3",
        "insert rule inet t c tcp dport 0",
        "add rule inet t c index 1 tcp dport 2",
        "add rule inet t c tcp dport { 4, 5 } accept",
        "add set inet t s { type ipv4_addr; }",
        "add element inet t s { 1.1.1.1, 2.2.2.2 }",
        "delete element inet t s { 1.1.1.1 }",
        "add map inet t m { type ipv4_addr : verdict; }",
        "add element inet t m { 1.1.1.1 : drop }",
        "add rule inet t c ip saddr vmap @m",
        "add counter inet t n",
        "add chain inet t c { policy drop; }",
        "add chain inet t d",
        "add rule inet t d ip saddr @s accept",
        "flush chain inet t d",
        "delete chain inet t d",
        "delete counter inet t n",
        "add table ip u { chain a { }; chain b { jump a; }; }",
        "flush chain inet t c",
        "delete map inet t m",
        "delete table ip u",
        "flush ruleset",
    ];
    let name = pod.name.clone();
    pod.enter(async move || {
        let firewall = Firewall::start().unwrap();
        let mut changes = Changes::open().unwrap();
        let mut ruleset = berth::nft::Ruleset::default();
        for words in script {
            let mut nft = std::process::Command::new("nft");
            let status = nft.args(words.split(' ')).status().unwrap();
            assert!(status.success(), "{name}: {words}");
            let transaction = changes.next(&mut ruleset).await.unwrap().expect("nothing is lost");
            assert_eq!(transaction.process, "nft");
            let found = firewall.dump(Filter::default()).await.unwrap().1;
            assert_eq!(ruleset.to_string(), found.to_string(), "{words}");
        }
    });
}
