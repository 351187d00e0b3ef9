//! Whether the driver tells the truth: about servers whose delay, loss and mistakes are known.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may stop"
)]

use std::process::Command;

use serde_json::Value;

/// One round against a server of these words; the report, and whether the program was content with it.
fn measured(echo: &str, words: &str) -> (Value, bool) {
    measured_by("dhcp", echo, words)
}

/// The same by one of the drivers.
fn measured_by(driver: &str, echo: &str, words: &str) -> (Value, bool) {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth-bench"));
    command.args([
        driver,
        "--against=echo",
        "--rounds=1",
        "--warmup=0.2",
        &format!("--echo={echo}"),
    ]);
    let output = command.args(words.split_whitespace()).arg("--json").arg(&json).output().unwrap();
    let text = std::fs::read_to_string(&json)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let report: Value = serde_json::from_str(&text).unwrap();
    (report["servers"][0]["rounds"][0].clone(), output.status.success())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_known_delay_is_measured_as_it_is() {
    let (round, content) = measured("--delay-ms 20", "--rate=100 --duration=2");
    assert!(content);
    for leg in ["offer", "ack"] {
        let median = number(&round[leg]["p50"]);
        assert!((20.0..24.0).contains(&median), "{leg}: {median} ms");
    }
    let whole = number(&round["whole"]["p50"]);
    assert!((40.0..48.0).contains(&whole), "{whole} ms");
    assert_eq!((round["begun"].as_u64(), number(&round["loss"])), (Some(200), 0.0));
}

#[test]
fn a_known_loss_is_counted_as_it_is() {
    let (round, content) =
        measured("--loss-percent 20", "--rate=500 --duration=2 --timeout-ms=200");
    assert!(content, "a loss is no mistake");
    let dropped = number(&round["dropped_offers"]) + number(&round["dropped_acks"]);
    let sent = number(&round["begun"]) + number(&round["offer"]["count"]);
    let share = dropped / sent;
    assert!((0.18..0.22).contains(&share), "{dropped} of {sent}");
    assert_eq!(round["done"].as_u64().unwrap() + dropped as u64, round["begun"].as_u64().unwrap());
}

#[test]
fn with_retransmission_a_lossy_server_loses_less() {
    let (round, _) =
        measured("--loss-percent 20", "--rate=500 --duration=2 --timeout-ms=200 --retransmit");
    assert!(number(&round["retransmitted"]) > 100.0);
    // Without it 0.36 are lost; how much less depends on how often there was time to try again.
    assert!(number(&round["loss"]) < 0.25, "{}", round["loss"]);
}

#[test]
fn one_address_for_two_clients_fails_the_run() {
    let (round, content) = measured("--duplicate", "--rate=100 --duration=0.5");
    assert!(!content);
    assert!(number(&round["duplicates"]) > 10.0);
}

/// No coordinated omission: who is due while the server stalls waits from then on.
#[test]
fn a_server_that_stalls_cannot_hide_it() {
    let (round, _) = measured("--stall-ms 300", "--rate=200 --duration=3");
    assert_eq!(number(&round["loss"]), 0.0);
    let (median, most) = (number(&round["whole"]["p50"]), number(&round["whole"]["p90"]));
    assert!(median < 30.0, "{median} ms");
    // Three of ten are due in a stall, evenly over its 300 ms: one of ten waits longer than 200.
    assert!((120.0..300.0).contains(&most), "{most} ms");
}

#[test]
fn a_closed_loop_keeps_so_many_under_way() {
    let (round, content) = measured("--delay-ms 10", "--closed=5 --duration=1");
    assert!(content);
    let rate = number(&round["per_second"]);
    // Five at a time, 20 ms each.
    assert!((200.0..260.0).contains(&rate), "{rate}/s");
}

#[test]
fn renewals_and_relays_and_offers_alone_are_measured() {
    for words in ["--exchange=renew --clients=50", "--relay", "--exchange=do"] {
        let (round, content) =
            measured("--delay-ms 5", &format!("--rate=100 --duration=0.5 {words}"));
        assert!(content, "{words}");
        assert_eq!((round["begun"].as_u64(), number(&round["loss"])), (Some(50), 0.0), "{words}");
        let whole = number(&round["whole"]["p50"]);
        let legs = if words == "--relay" { 2.0 } else { 1.0 };
        assert!((5.0 * legs..7.0 * legs).contains(&whole), "{words}: {whole} ms");
    }
}

/// What differs in IPv6: the frames, and a lease without an offer. The schedule is the same driver's.
#[test]
fn all_exchanges_of_dhcpv6_are_measured() {
    for (words, legs) in [
        ("--exchange=sarr", 2.0),
        ("--exchange=solicit", 1.0),
        ("--exchange=rapid", 1.0),
        ("--exchange=renew --clients=50", 1.0),
        ("--exchange=sarr --clients=50 --held=50", 2.0),
    ] {
        let words = format!("--rate=100 --duration=0.5 {words}");
        let (round, content) = measured_by("dhcp6", "--delay-ms 5", &words);
        assert!(content, "{words}");
        assert_eq!((round["begun"].as_u64(), number(&round["loss"])), (Some(50), 0.0), "{words}");
        let whole = number(&round["whole"]["p50"]);
        assert!((5.0 * legs..7.0 * legs).contains(&whole), "{words}: {whole} ms");
    }
}

#[test]
fn losses_and_mistakes_of_dhcpv6_are_counted_as_they_are() {
    let words = "--rate=500 --duration=2 --timeout-ms=200";
    let (round, content) = measured_by("dhcp6", "--loss-percent 20", words);
    assert!(content, "a loss is no mistake");
    let dropped = number(&round["dropped_offers"]) + number(&round["dropped_acks"]);
    let share = dropped / (number(&round["begun"]) + number(&round["offer"]["count"]));
    assert!((0.18..0.22).contains(&share), "{share}");
    let (round, content) = measured_by("dhcp6", "--duplicate", "--rate=100 --duration=0.5");
    assert!(!content);
    assert!(number(&round["duplicates"]) > 10.0);
}

#[test]
fn plots_and_percentiles_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, svg) = (dir.path().join("x.csv"), dir.path().join("plots"));
    let words =
        format!("--rate=2000 --duration=0.3 --csv={} --svg={}", csv.display(), svg.display());
    measured("", &words);
    let text = std::fs::read_to_string(&csv).unwrap();
    assert!(
        text.starts_with("server,round,leg,share,milliseconds\necho,1,offer,0.000000,"),
        "{text}"
    );
    for name in ["latency.svg", "time.svg"] {
        let text = std::fs::read_to_string(svg.join(name)).unwrap();
        assert!(
            text.contains("<svg") && text.contains("echo") && text.contains("milliseconds"),
            "{name}"
        );
    }
}

/// Every measurement there is, as briefly as it can be: they run, and the report has them all.
#[test]
fn all_of_them_make_one_report() {
    let dir = tempfile::tempdir().unwrap();
    let bench = std::path::Path::new(env!("CARGO_BIN_EXE_berth-bench"));
    let mut command = Command::new(bench);
    command
        .args(["all", "--brief", "--out"])
        .arg(dir.path())
        .arg("--berth")
        .arg(bench.with_file_name("berth"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = std::fs::read_to_string(dir.path().join("report.md")).unwrap();
    for step in [
        "startup",
        "boot",
        "nft",
        "dhcp",
        "dhcp-limit",
        "dhcp6",
        "dhcp6-limit",
        "scale",
        "dns",
        "path",
        "footprint",
        "operate",
        "hostile",
    ] {
        let json = std::fs::read_to_string(dir.path().join(step).with_extension("json")).unwrap();
        assert!(serde_json::from_str::<Value>(&json).unwrap().is_object(), "{step}");
    }
    for title in [
        "## Goals",
        "## DNS",
        "## Launchers",
        "![DHCP at 1,000 exchanges a second](dhcp/latency.svg)",
    ] {
        assert!(report.contains(title), "{title}: {report}");
    }
    // Measured, whatever it was: no figure comes from nowhere.
    for figure in [
        "start to QEMU's exec",
        "TCP to the guest",
        "RSS of a launcher",
        "our table healed in the worst flood",
        "our mean of an exchange, off perfdhcp's",
    ] {
        let row =
            report.lines().find(|line| line.contains(figure)).unwrap_or_else(|| panic!("{figure}"));
        assert!(!row.contains("not measured"), "{row}");
    }
}

/// In peace nobody loses anything, whatever comes then; a flood has a rate, and berth an end.
#[test]
fn honest_clients_are_measured_in_peace_and_in_a_flood() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("report.json");
    let bench = std::path::Path::new(env!("CARGO_BIN_EXE_berth-bench"));
    let mut command = Command::new(bench);
    command.args([
        "hostile",
        "--seconds=1",
        "--only=net-quiet,serve-dns-names,run-console",
        "--berth",
    ]);
    let output =
        command.arg(bench.with_file_name("berth")).arg("--json").arg(&json).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = report["floods"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let name = row["name"].as_str().unwrap();
        assert!(row["ended"].is_null() && number(&row["sigterm_ms"]) > 0.0, "{row}");
        for phase in ["quiet", "flood"] {
            let clients = row[phase]["clients"].as_object().unwrap();
            assert_eq!(clients.len(), if name.starts_with("serve") { 2 } else { 3 }, "{row}");
            assert!(number(&row[phase]["peak_rss_kib"]) > 1000.0, "{row}");
            assert_eq!(row[phase]["heal_ms"].is_null(), name.starts_with("serve"), "{row}");
        }
        // In peace they are answered, though the table is flushed once and the machine may be busy.
        for (service, times) in row["quiet"]["clients"].as_object().unwrap() {
            assert!(number(&times["lost"]) < 0.5, "{name} {service}: {times}");
            assert!(number(&times["sent"]) >= 4.0 && number(&times["median_ms"]) > 0.0, "{times}");
        }
    }
    assert!(number(&rows[1]["sent_per_second"]) > 100.0, "{}", rows[1]);
    assert_eq!(number(&rows[0]["sent_per_second"]), 0.0);
}

#[test]
fn a_flood_that_is_not_known_is_refused_with_those_that_are() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth-bench"));
    let output = command.args(["hostile", "--only", "net-smurf"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("net-quiet, net-dhcp"), "{said}");
}
