//! Rulesets of bridges, ARP, IPv6 and devices as people have them: anti-spoofing of hypervisors, guards of networks, host
//! firewalls. Each lists as nft lists it, text and JSON, and frames meet what is told of them.

use berth::nft::Family;
use berth::nft::explain::{Outcome, Paint, Point};

use crate::explain::feed;
use crate::explain::frames::{Place, Yard, any_frame};
use crate::support::dice::Dice;
use crate::support::{Netns, without_devices};

const FRAMES: u16 = 48;

/// `= FAMILY HOOK: name`, and what is in the table; `HOOK` stands for the type and hook of its chains.
const RULESETS: &str = include_str!("people.rules");

struct Ruleset {
    name: &'static str,
    place: Place,
    rules: &'static str,
}

fn rulesets() -> Vec<Ruleset> {
    let found: Vec<Ruleset> = RULESETS.split("\n= ").map(ruleset).collect();
    assert!(found.len() >= 40);
    found
}

fn ruleset(text: &'static str) -> Ruleset {
    let (head, rules) = text.split_once('\n').unwrap();
    let (place, name) = head.split_once(": ").unwrap();
    let (family, point) = place.trim_start_matches("= ").split_once(' ').unwrap();
    let families = [Family::INET, Family::IP6, Family::BRIDGE, Family::ARP, Family::NETDEV];
    let family = families.into_iter().find(|found| found.to_string() == family).unwrap();
    let point = Point::ALL.into_iter().find(|found| found.to_string() == point).unwrap();
    Ruleset { name, place: Place::new(family, point), rules }
}

impl Ruleset {
    fn text(&self) -> String {
        let rules = self.rules.replace("HOOK", self.place.hook("").trim_end());
        format!("table {} people {{\n{rules}\n}}\n", self.place.family)
    }
}

fn berth(netns: &Netns, words: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_berth"));
    command.args(["nft", "list", "--netns", &netns.path()]).args(words.split_whitespace());
    crate::support::checked(&mut command)
}

#[test]
fn rulesets_as_people_have_them_list_as_nft_lists_them() {
    // Where nobody says anything.
    let netns = Netns::new("people");
    netns.ip("link add eth0 type veth peer name eth1");
    for ruleset in &rulesets() {
        netns.nft("flush ruleset");
        feed(&netns, "nft -f -", &ruleset.text())
            .unwrap_or_else(|error| panic!("{}: {error}", ruleset.name));
        for words in ["", "-a", "-n", "-s", "-y", "-t"] {
            let nft = netns.nft(&format!("{words} list ruleset"));
            assert_eq!(berth(&netns, words), nft, "{} {words}", ruleset.name);
        }
        assert_eq!(
            without_devices(&berth(&netns, "-j")),
            netns.nft("-j list ruleset"),
            "{}",
            ruleset.name
        );
    }
}

#[test]
fn rulesets_as_people_have_them_do_what_is_told() {
    let yard = Yard::new();
    let seed = std::env::var("EXPLAIN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut dice = Dice::new(seed);
    let (mut frames_in_all, mut wrong, mut one_sided) = (0, Vec::new(), Vec::new());
    for ruleset in &rulesets() {
        let place = ruleset.place;
        yard.pod.nft("flush ruleset");
        let text = ruleset.text() + &place.witness();
        feed(&yard.pod, "nft -f -", &text)
            .unwrap_or_else(|error| panic!("{}: {error}", ruleset.name));
        let frames: Vec<_> =
            (1..=FRAMES).map(|number| any_frame(&mut dice, place, number)).collect();
        let (_, told, seen) = yard.told_and_seen(place, &frames);
        frames_in_all += frames.len();
        for (frame, told) in frames.iter().zip(&told) {
            let passed = seen.contains(&frame.number);
            if (told.outcome == Outcome::Accepted) != passed || told.outcome == Outcome::CannotTell
            {
                let paint = Paint { explanation: told, colours: false };
                wrong.push(format!("{}: {frame:?}\nseen to pass: {passed}\n{paint}", ruleset.name));
            }
        }
        if seen.is_empty() || seen.len() == frames.len() {
            one_sided.push(format!("{}: {} of {} pass", ruleset.name, seen.len(), frames.len()));
        }
    }
    println!("{} rulesets, {frames_in_all} frames", rulesets().len());
    for error_chain in &wrong {
        println!("{}", error_chain.lines().take(2).collect::<Vec<_>>().join("\n"));
    }
    assert!(wrong.is_empty(), "{} wrong; the first:\n{}", wrong.len(), wrong[0]);
    assert!(
        one_sided.is_empty(),
        "the frames of this test do not try them:\n{}",
        one_sided.join("\n")
    );
}
