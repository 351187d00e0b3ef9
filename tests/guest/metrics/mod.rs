//! Metrics against the truth, and readiness, with real guests.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::world::{BOOT, PEER, World};
use crate::support::{self, checked};

mod rules;
mod signs;
#[path = "../../support/snapshot.rs"]
mod snapshot;

const SOON: Duration = Duration::from_secs(30);

/// What `berth status` prints as metrics.
fn page(world: &World, format: &str) -> String {
    let output = world.command(&[]).args(["status", "--output", format]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// By name and labels, as they are written.
fn numbers(page: &str) -> BTreeMap<String, f64> {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    page.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// A page that is not an earlier one.
fn fresh(world: &World) -> BTreeMap<String, f64> {
    std::thread::sleep(Duration::from_millis(1100));
    numbers(&page(world, "prometheus"))
}

fn of(numbers: &BTreeMap<String, f64>, series: &str) -> f64 {
    *numbers.get(series).unwrap_or_else(|| panic!("no {series} in {numbers:#?}"))
}

fn qemu(world: &World) -> String {
    checked(Command::new("pgrep").args(["-P", &world.pid().to_string()])).trim().to_owned()
}

/// Octets that a link of the peer's has sent and received.
fn of_peer(world: &World, what: &str) -> f64 {
    let path = format!("cat /sys/class/net/eth0/statistics/{what}");
    world.peer.run(&path).trim().parse().unwrap()
}

/// The host's own count of a process's threads, in seconds: utime and stime (proc(5)).
fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = checked(Command::new("getconf").arg("CLK_TCK")).trim().parse::<f64>().unwrap();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / ticks
}

pub fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool, of Debian's package prometheus");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}\n{}", String::from_utf8_lossy(&said));
}

#[test]
fn numbers_are_those_that_others_count() {
    let mut world = World::new();
    world.start().ready();
    let qemu = qemu(&world);
    let before = fresh(&world);
    let (sent, received) = (of_peer(&world, "tx_bytes"), of_peer(&world, "rx_bytes"));

    // Past the guest's cache, and with nothing left in it before.
    let block = 4096.0;
    world.guest("sync; dd if=/dev/zero of=/data/x bs=4096 count=1024 conv=fsync; sync");
    world.guest("dd if=/dev/vda of=/dev/null bs=4096 count=2048 skip=2000 iflag=direct");
    let data = vec![b'x'; 2 << 20];
    for _ in 0..4 {
        assert_eq!(World::tcp(&world.peer, world.address, 7, &data).unwrap().len(), data.len());
    }
    let after = fresh(&world);
    let (sent, received) =
        (of_peer(&world, "tx_bytes") - sent, of_peer(&world, "rx_bytes") - received);
    let more = |series: &str| of(&after, series) - of(&before, series);

    let read = more("berth_disk_read_bytes_total{disk=\"disk0\"}");
    assert!((read - 2048.0 * block).abs() <= block, "{read}");
    // The file system writes its journal and its tables, too: some blocks, never fewer.
    let written = more("berth_disk_written_bytes_total{disk=\"disk0\"}");
    assert!((1024.0 * block..1024.0 * block + 64.0 * block).contains(&written), "{written}");
    for (what, truth) in [("receive", sent), ("transmit", received)] {
        let guest = more(&format!("berth_network_{what}_bytes_total{{device=\"guest\"}}"));
        assert!((guest - truth).abs() <= truth / 100.0, "{what}: {guest} of {truth}");
    }
    // Twice within a moment: the host's count is between them.
    let cpu = |numbers: &BTreeMap<String, f64>| {
        let mode = |mode| of(numbers, &format!("berth_qemu_cpu_seconds_total{{mode=\"{mode}\"}}"));
        mode("user") + mode("system")
    };
    let first = cpu(&fresh(&world));
    let truth = cpu_seconds(&qemu);
    let second = cpu(&fresh(&world));
    assert!(first <= truth * 1.02 && truth <= second * 1.02, "{first} {truth} {second}");
    let vcpu = of(&after, "berth_vcpu_run_seconds_total{vcpu=\"0\"}");
    assert!(vcpu > 0.5 * cpu(&after) && vcpu <= cpu(&after) * 1.02, "{vcpu} of {}", cpu(&after));

    assert_eq!(of(&after, "berth_guest_state{state=\"running\"}"), 1.0);
    assert_eq!(of(&after, "berth_ready{verb=\"run\"}"), 1.0);
    assert_eq!(of(&after, "berth_guest_vcpus"), 1.0);
    assert_eq!(of(&after, "berth_guest_memory_bytes"), f64::from(192 << 20));
    assert!(of(&after, "berth_dhcp_replies_total{protocol=\"4\",kind=\"ack\"}") >= 1.0);
    assert!(of(&after, "berth_disk_size_bytes{disk=\"disk0\"}") > 1e7);
    let errors = after.iter().filter(|(series, _)| series.starts_with("berth_scrape_errors"));
    for (series, count) in errors {
        assert_eq!(*count, 0.0, "{series}");
    }
    for series in ["berth_guest_memory_total_bytes", "berth_guest_memory_balloon_bytes"] {
        assert!(!after.contains_key(series), "without a balloon there is no {series}");
    }
    nothing_fell(&before, &after);
    promtool(&["check", "metrics"], &page(&world, "prometheus"));
    is_openmetrics(&page(&world, "openmetrics"));
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

fn nothing_fell(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) {
    for (series, value) in before.iter().filter(|(series, _)| series.contains("_total")) {
        assert!(of(after, series) >= *value, "{series} fell from {value}");
    }
    assert!(after.values().all(|value| value.is_finite() && *value < 1e18), "{after:#?}");
}

/// The reference parser of the Prometheus project reads it, and finds a unit and a type for each sample.
pub fn is_openmetrics(page: &str) {
    let script = "import sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
families = list(read(sys.stdin.read()))
assert len(families) > 3, families
assert all(family.type != 'unknown' and family.documentation for family in families), families";
    let mut command = Command::new(crate::chart::engine::python());
    command.args(["-c", script]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{page}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn parsers_of_others_read_every_family() {
    let page = berth::metrics::samples(&snapshot::whole());
    promtool(&["check", "metrics"], &page.write(berth::metrics::Format::Text));
    is_openmetrics(&page.write(berth::metrics::Format::OpenMetrics));
}

/// One question waits in QEMU, and no more of them, however often somebody asks; the rest is there in time.
#[test]
fn a_qemu_that_hangs_costs_its_own_numbers_and_half_a_second() {
    let mut world = World::new();
    world.start().ready();
    let qemu = qemu(&world);
    let before = fresh(&world);
    support::run("kill", &["-STOP", &qemu]);
    for times in 1..=3 {
        std::thread::sleep(Duration::from_millis(1100));
        let asked = Instant::now();
        let now = numbers(&page(&world, "prometheus"));
        // Half a second is berth's; the rest is for a program to be started on a busy machine.
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        assert_eq!(
            of(&now, "berth_scrape_errors_total{source=\"qmp\",verb=\"run\"}"),
            f64::from(times)
        );
        assert!(of(&now, "berth_scrape_duration_seconds{verb=\"run\"}") < 0.6);
        assert!(!now.keys().any(|series| series.starts_with("berth_disk_")), "{now:#?}");
        assert!(now.contains_key("berth_vcpu_run_seconds_total{vcpu=\"0\"}"), "threads are there");
        assert!(now.contains_key("berth_network_receive_bytes_total{device=\"guest\"}"));
    }
    support::run("kill", &["-CONT", &qemu]);
    let series = "berth_disk_read_bytes_total{disk=\"disk0\"}";
    world.until("QEMU's numbers again", SOON, |world| {
        fresh(world).contains_key(series).then_some(())
    });
    nothing_fell(&before, &fresh(&world));
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

/// The balloon is the user's here; without the guest's driver it has no figures, and 2^64-1 least of all.
#[test]
fn a_balloon_without_a_driver_and_rules_that_are_made_anew_tell_no_nonsense() {
    let mut world = World::new();
    world.args = ["--", "-device", "virtio-balloon"].map(str::to_owned).to_vec();
    world.start().ready();
    fresh(&world);
    let before = fresh(&world);
    assert_eq!(of(&before, "berth_guest_memory_balloon_bytes"), f64::from(192 << 20));
    assert!(!before.contains_key("berth_guest_memory_total_bytes"), "{before:#?}");
    let series = "berth_nat_packets_total{rule=\"guest to the world: as the pod\"}";
    world.guest(&format!("echo x | nc -w 1 {PEER} 9"));
    world.pod.run("nft flush table inet berth");
    let healed = "berth_heal_total{what=\"rules\"}";
    let after = world.until("the rules are healed", SOON, |world| {
        let now = fresh(world);
        (of(&now, healed) > of(&before, healed)).then_some(now)
    });
    assert!(of(&after, series) >= of(&before, series));
    nothing_fell(&before, &after);
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

/// Not a test of speed, but the figures of docs/metrics.md: run by hand, with --release.
#[test]
#[ignore = "a measurement"]
fn how_long_a_page_takes() {
    let mut world = World::new();
    world.start().ready();
    let resident = |world: &World| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid())).unwrap();
        status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned()
    };
    let before = resident(&world);
    let socket = world.path("state/status.sock");
    let mut took = Vec::new();
    let mut text = String::new();
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(1010));
        let asked = Instant::now();
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.write_all(b"metrics openmetrics\n").unwrap();
        text.clear();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        took.push(asked.elapsed());
    }
    took.sort();
    println!("median {:?}, p99 {:?}, max {:?}", took[100], took[198], took[199]);
    println!("{} octets, {} series", text.len(), numbers(&text).len());
    println!("{before}; after {}", resident(&world));
    println!("{text}");
    world.stop();
}
