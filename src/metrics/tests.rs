use serde_json::json;

use super::*;

#[test]
fn the_table_holds_what_both_formats_ask_of_names() {
    let mut names = std::collections::BTreeSet::new();
    for id in FAMILIES {
        let Family { name, kind, unit, help } = id.family();
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.starts_with("berth_") && !name.ends_with("_total"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        // OpenMetrics 1.0 §5.1.2.3: the unit is the end of the name.
        assert!(unit.is_empty() || name.ends_with(&format!("_{unit}")), "{name}");
        for known in ["seconds", "bytes"] {
            assert_eq!(name.ends_with(&format!("_{known}")), unit == known, "{name}");
        }
        assert!(help.ends_with('.') && !help.contains(['\n', '\\']) && help.len() > 10, "{name}");
        // Endings that a histogram or a counter's samples have (§5.1.1).
        let reserved = ["_bucket", "_count", "_sum", "_created", "_gcount", "_gsum"];
        assert!(!reserved.iter().any(|end| name.ends_with(end)), "{name}");
        assert!(!name.ends_with("_info") || *id == Id::Info && kind == Kind::Gauge, "{name}");
    }
}

#[test]
fn what_is_no_number_is_left_out_and_labels_are_escaped_and_cut() {
    let mut page = Page::default();
    page.add(Id::Ready, &[("verb", "a")], f64::NAN);
    page.add(Id::Ready, &[("verb", "b")], f64::INFINITY);
    page.add(Id::Ready, &[("verb", "c\\d\"e\nf\u{7}g")], 0.000_000_5);
    page.add_some::<u64>(Id::Ready, &[], None);
    // The same series to who reads it.
    page.add(Id::Ready, &[("verb", "c\\d\"e\nf\u{8}g")], 1);
    assert_eq!(
        page.write(Format::Text),
        "# TYPE berth_ready gauge\n# HELP berth_ready 1 when berth status says ready.\nberth_ready{verb=\"c\\\\d\\\"e\\nfg\"} 0.0000005\n"
    );
    let long = "x".repeat(1000);
    page.add(Id::Ready, &[("verb", &long)], 1);
    assert!(page.write(Format::Text).lines().all(|line| line.len() < 200));
    for vcpu in 0..10_000 {
        page.add(Id::VcpuRun, &[("vcpu", &vcpu.to_string())], 1);
    }
    assert!(page.series() < 600, "{}", page.series());
}

#[test]
fn the_other_half_s_page_is_joined_family_by_family_and_nothing_else_of_it() {
    let mut page = Page::default();
    page.add(Id::Ready, &[("verb", "vm")], 1);
    page.add(Id::ScrapeErrors, &[("source", "qmp"), ("verb", "vm")], 2);
    let mut other = Page::default();
    other.add(Id::Ready, &[("verb", "net")], 1);
    other.add(Id::ScrapeErrors, &[("source", "links"), ("verb", "net")], 3);
    other.add(Id::NetReceiveBytes, &[("device", "guest")], 7);
    other.add_histogram(Id::DnsUpstreamDuration, &[("0.1", 2), ("1.0", 1)], 4, 2.5);
    for format in [Format::Text, Format::OpenMetrics] {
        let mut joined = page.clone();
        joined.merge(&other.write(format));
        let text = joined.write(Format::OpenMetrics);
        for line in [
            "berth_ready{verb=\"vm\"} 1\nberth_ready{verb=\"net\"} 1\n",
            "berth_scrape_errors_total{source=\"links\",verb=\"net\"} 3\n",
            "berth_network_receive_bytes_total{device=\"guest\"} 7\n",
            "berth_dns_upstream_duration_seconds_bucket{le=\"1.0\"} 3\n",
            "berth_dns_upstream_duration_seconds_bucket{le=\"+Inf\"} 4\n",
            "berth_dns_upstream_duration_seconds_count 4\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(text.matches("# TYPE berth_ready ").count(), 1);
        // Twice is once.
        let series = joined.series();
        joined.merge(&other.write(format));
        assert_eq!(joined.series(), series);
    }
    let before = page.clone();
    for nonsense in [
        "berth_unknown 1",
        "berth_ready",
        "berth_ready{verb=\"x\"} NaN",
        "berth_ready{verb=\"x\" 1",
        "berth_readyish 1",
        "berth_scrape_errors{source=\"x\"} 1",
        "berth_network_receive_bytes_total 1\u{1b}",
        "up 1",
        "# EOF",
        "",
    ] {
        page.merge(nonsense);
        assert_eq!(page, before, "{nonsense:?}");
    }
}

#[test]
fn openmetrics_is_written_for_who_reads_it() {
    for (header, wanted) in [
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2", Format::OpenMetrics),
        ("text/plain, Application/OpenMetrics-Text", Format::OpenMetrics),
        ("text/plain;version=0.0.4", Format::Text),
        ("*/*", Format::Text),
        ("application/openmetrics-textual", Format::Text),
        ("", Format::Text),
    ] {
        assert_eq!(Format::accepted(header), wanted, "{header}");
    }
}

#[test]
fn a_balloon_whose_driver_is_silent_has_no_figures() {
    let unknown = u64::MAX;
    let silent = json!({"last-update": 0, "stats": {"stat-total-memory": unknown, "stat-free-memory": unknown}});
    let actual = json!({"actual": 268_435_456});
    let found = balloon(Some(&actual), Some(&silent), 1000);
    assert_eq!(found, Balloon { actual: Some(268_435_456), ..Balloon::default() });
    let told = json!({"last-update": 990, "stats": {"stat-total-memory": 100, "stat-free-memory": unknown, "stat-swap-in": 5}});
    let found = balloon(Some(&actual), Some(&told), 1000);
    let wanted = Balloon {
        actual: Some(268_435_456),
        total: Some(100),
        swap_in: Some(5),
        age_seconds: Some(10),
        ..Balloon::default()
    };
    assert_eq!(found, wanted);
    assert_eq!(balloon(None, Some(&json!([])), 1), Balloon::default());
}

#[test]
fn answers_of_a_qemu_that_is_the_guest_s_are_bounded_and_become_no_labels() {
    let mut disks = std::collections::BTreeMap::new();
    let many: Vec<_> = (0..1000)
        .map(|n| json!({"device": format!("disk{n}"), "stats": {"rd_bytes": n}}))
        .collect();
    stats(&json!(many), &mut disks);
    assert!(disks.len() <= 64);
    disks.clear();
    let odd = json!([
        {"device": "a\"} 1\nevil", "stats": {}},
        {"device": "", "qdev": "/machine/peripheral/virtio-disk1/virtio-backend", "stats": {"wr_bytes": -1, "rd_bytes": "x"}},
        {"device": "x".repeat(65), "stats": {}},
        {"stats": {}}, 7, null
    ]);
    stats(&odd, &mut disks);
    assert_eq!(disks.keys().collect::<Vec<_>>(), ["virtio-disk1"]);
    assert_eq!(disks["virtio-disk1"].stats, Some(Default::default()));
    for nonsense in [json!({}), json!(null), json!("x"), json!([[[]]])] {
        stats(&nonsense, &mut disks);
        blocks(&nonsense, &mut disks);
        assert_eq!(vcpus(&nonsense), []);
    }
    let status = json!([{"device": "disk0", "io-status": "strange\"", "inserted": {"image": {"virtual-size": 5}}},
        {"device": "empty0", "io-status": "ok"}]);
    blocks(&status, &mut disks);
    assert_eq!((disks["disk0"].size_bytes, &disks["disk0"].io_status), (Some(5), &None));
    assert!(!disks.contains_key("empty0"));
}
