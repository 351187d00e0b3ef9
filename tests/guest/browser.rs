//! The page in a real browser (Debian's Chromium, headless), at a real guest. What it does there is in
//! `tests/support/browser/drive.mjs`.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::world::World;

const TOKEN: &str = "fedcba9876543210fedcba9876543210";

/// What the driver saw; its pictures are in the world's directory, or where BERTH_PICTURES says: those of docs/ are made so.
fn drive(world: &World, words: &[&str]) -> Value {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/browser/drive.mjs");
    let mut node = world.pod.command("node");
    node.arg(driver).arg("http://127.0.0.1:6080/").args(words);
    let pictures = std::env::var_os("BERTH_PICTURES");
    node.arg("--pictures").arg(pictures.unwrap_or_else(|| world.dir.path().into()));
    let output = node.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let seen: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {said}\n{}", world.log()));
    assert!(output.status.success(), "{seen:#}\n{said}\n{}", world.log());
    for (what, none) in
        [("consoleErrors", json!([])), ("violations", json!([])), ("foreignRequests", json!([]))]
    {
        assert_eq!(seen[what], none, "{seen:#}");
    }
    seen
}

#[test]
fn the_page_shows_the_screen_and_the_serial_line_to_all_who_look() {
    let mut world = World::new();
    world.set("BERTH_WEB", "loopback").set("BERTH_VNC", "off").start().ready();
    let seen = drive(&world, &[]);
    // Cumulative layout shift: good below 0.1 (web.dev/articles/cls).
    assert!(seen["frame"]["jumped"].as_f64().unwrap() < 0.1, "{seen:#}");
    assert_eq!(seen["two"]["closed"], 0, "{seen:#}");
    assert_eq!(seen["two"]["bannersHidden"], true, "{seen:#}");
    assert_eq!(seen["proxy"]["outside"], json!([]), "{seen:#}");
    assert_eq!((&seen["proxy"]["before"], &seen["proxy"]["after"]), (&json!(1), &json!(1)));
    // a, shift and B, minus, shift and question mark (linux/input-event-codes.h).
    assert_eq!(seen["keys"]["downs"], json!([30, 42, 48, 12, 42, 53]), "{seen:#}");
    assert_eq!(seen["focus"]["askedWhileHidden"], 0, "{seen:#}");
    assert_eq!(seen["look"]["nameless"], json!([]), "{seen:#}");
    assert!(seen["look"]["title"].as_str().unwrap().contains("demo"), "{seen:#}");
    let size = |step: &str| (seen[step]["width"].clone(), seen[step]["height"].clone());
    assert_eq!(size("screenshot"), size("frame"));

    let again = drive(&world, &["--steps", "frame,reset,serial,power"]);
    assert!(again["serial"]["ms"].is_number(), "{again:#}");
    assert_eq!(world.wait(std::time::Duration::from_secs(60)).code(), Some(0), "{}", world.log());
}

#[test]
fn a_page_that_may_only_be_looked_at_asks_for_its_token_and_has_no_buttons() {
    let mut world = World::new();
    std::fs::write(world.path("token"), format!("{TOKEN}\n")).unwrap();
    let token = world.path("token").display().to_string();
    world.set("BERTH_WEB", "loopback").set("BERTH_WEB_TOKEN_FILE", &token);
    world.set("BERTH_WEB_READONLY", "on").start().ready();
    let seen = drive(&world, &["--token", TOKEN, "--steps", "frame,look,screenshot"]);
    assert!(!seen["login"]["refused"].as_str().unwrap().is_empty(), "{seen:#}");
    let off = seen["look"]["buttonsOff"].as_array().unwrap();
    for button in ["cad", "power", "reset", "suspend", "backup", "resize"] {
        assert!(off.iter().any(|name| name == button), "{button}: {seen:#}");
    }
    assert_eq!(seen["look"]["viewOnly"], json!({"checked": true, "disabled": true}), "{seen:#}");
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}
