//! The chart's alerts, as Prometheus' own tool judges them.

use std::path::Path;

use super::promtool;

#[test]
fn alerts_are_valid_and_fire_when_they_should_and_not_before() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = root.join("chart/files/rules.yaml").display().to_string();
    promtool(&["check", "rules", &rules], "");
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(&rules, dir.path().join("rules.yaml")).unwrap();
    std::fs::write(dir.path().join("tests.yaml"), include_str!("alerts.yaml")).unwrap();
    promtool(&["test", "rules", &dir.path().join("tests.yaml").display().to_string()], "");
    // Each has a case in which it fires.
    let text = std::fs::read_to_string(&rules).unwrap();
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(names.len(), 12);
    for name in names {
        let fires = include_str!("alerts.yaml").split("\n      - ").any(|case| {
            case.contains(&format!("alertname: {name}\n")) && case.contains("exp_labels")
        });
        assert!(fires, "no case in which {name} fires");
    }
}
