//! The page of metrics: what is written of a snapshot, and that nobody speaks of a metric that is not there.

#[path = "../support/snapshot.rs"]
mod snapshot;

use std::collections::BTreeSet;
use std::path::Path;

use berth::metrics::{FAMILIES, Format, Kind, Snapshot, samples};
use snapshot::whole;

#[test]
fn a_page_is_written_in_either_format() {
    let page = samples(&whole());
    insta::with_settings!({snapshot_path => "metrics", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("text", page.write(Format::Text));
        insta::assert_snapshot!("openmetrics", page.write(Format::OpenMetrics));
    });
}

#[test]
fn every_family_of_the_table_can_be_written() {
    let text = samples(&whole()).write(Format::OpenMetrics);
    for id in FAMILIES {
        let line = format!("# TYPE {} ", id.family().name);
        assert_eq!(text.matches(&line).count(), 1, "{line}");
    }
}

#[test]
fn what_no_source_told_is_on_no_page() {
    let page = samples(&Snapshot { verb: "net".to_owned(), ..Snapshot::default() });
    let text = page.write(Format::OpenMetrics);
    let named: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE berth_")?.split(' ').next())
        .collect();
    assert_eq!(named, ["info", "start_time_seconds", "ready", "scrape_duration_seconds"]);
}

/// Names of samples as a page has them, and of histograms.
fn known() -> BTreeSet<String> {
    let names = |id: &berth::metrics::Id| {
        let family = id.family();
        let of = |ends: &[&str]| ends.iter().map(|end| format!("{}{end}", family.name)).collect();
        let names: Vec<String> = match family.kind {
            Kind::Counter => of(&["_total"]),
            Kind::Gauge => of(&[""]),
            Kind::Histogram => of(&["", "_bucket", "_sum", "_count"]),
        };
        names
    };
    FAMILIES.iter().flat_map(names).collect()
}

/// Words of a text that look like metrics of ours: those of a table, a rule or a panel.
fn spoken_of(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with("berth_") && word.len() > 6).map(str::to_owned).collect()
}

#[test]
fn rules_dashboard_and_documents_speak_of_metrics_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let known = known();
    for (path, at_least) in [
        ("chart/files/rules.yaml", 15),
        ("chart/files/dashboard.json", 30),
        ("docs/metrics.md", 70),
    ] {
        let text = std::fs::read_to_string(root.join(path)).unwrap();
        let found = spoken_of(&text);
        assert!(found.len() >= at_least, "{path}: {found:?}");
        let unknown: Vec<_> = found.difference(&known).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
}

#[test]
fn the_document_has_every_family() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    for id in FAMILIES {
        let family = id.family();
        let name = match family.kind {
            Kind::Counter => format!("{}_total", family.name),
            _ => family.name.to_owned(),
        };
        let row = format!("| `{name}` | {} | {} |", family.kind.as_str(), family.help);
        assert!(text.contains(&row), "docs/metrics.md needs the row\n{row}");
    }
}
