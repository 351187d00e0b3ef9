//! Rulesets made up at random, of every type of key, kind of set and family, as text for nft: what `berth nft list` says of
//! them is what nft says, as text and as JSON; it can be loaded again, and lists the same then. With the system's nft, and
//! with the newer one of Debian 13.
//!
//! `RELISTED_SEEDS=FROM..TO` tries others than the usual ones.

mod compiled;
mod fields;
mod making;
mod nft;
mod rows;
mod values;

use crate::support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use compiled::Compiled;
use nft::{Form, Nft, Reloaded};

/// A run of nft waits for the kernel about as long as it computes.
const WORKERS: usize = 2;

#[derive(Debug, Default)]
struct Tally {
    lines: usize,
    refused: usize,
    /// What nft itself stops at with a fault.
    unlisted: usize,
    /// What nft cannot load again in its own words, for known reasons.
    excused: BTreeMap<&'static str, usize>,
    /// What a newer nft writes otherwise, with the same meaning.
    otherwise: usize,
    /// What nft lists otherwise than it would load it.
    nft_wrong: usize,
    sets: usize,
    rules: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn and(mut self, other: Self) -> Self {
        self.lines += other.lines;
        self.refused += other.refused;
        self.unlisted += other.unlisted;
        for (why, times) in other.excused {
            *self.excused.entry(why).or_default() += times;
        }
        self.otherwise += other.otherwise;
        self.nft_wrong += other.nft_wrong;
        self.sets += other.sets;
        self.rules += other.rules;
        self.wrong.extend(other.wrong);
        self
    }
}

fn seeds(usual: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(told) = std::env::var("RELISTED_SEEDS") else { return usual };
    let (from, to) = told.split_once("..").expect("RELISTED_SEEDS=FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

fn relisted(nft: &Nft, usual: std::ops::Range<u64>) {
    let seeds = seeds(usual);
    let next = AtomicU64::new(seeds.start);
    let some = || {
        let mut tally = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return tally;
            }
            one(nft, seed, &mut tally);
        }
    };
    let tally = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(some)).collect();
        let tallies = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        tallies.reduce(Tally::and).unwrap()
    });
    println!(
        "nft {}, seeds {seeds:?}: {} of {} lines refused by nft, {} crash it; {} sets and {} rules listed, {} wrong, {} where nft is, {:?} excused, {} written otherwise",
        nft.version,
        tally.refused,
        tally.lines,
        tally.unlisted,
        tally.sets,
        tally.rules,
        tally.wrong.len(),
        tally.nft_wrong,
        tally.excused,
        tally.otherwise
    );
    if let Ok(path) = std::env::var("RELISTED_REPORT") {
        std::fs::write(path, tally.wrong.join("\n")).unwrap();
    }
    assert!(tally.wrong.is_empty(), "{}", tally.wrong[..tally.wrong.len().min(40)].join("\n"));
    assert!(tally.refused * 2 < tally.lines, "nft refuses too much");
}

fn one(nft: &Nft, seed: u64, tally: &mut Tally) {
    let netns = support::Netns::new("relisted");
    let mut lines = making::ruleset(seed);
    tally.lines += lines.len();
    let refused = nft.load_what_it_takes(&netns, &mut lines);
    let (netns, unlisted) = nft.leave_out_what_it_cannot_list(netns, &mut lines);
    tally.refused += refused.len();
    tally.unlisted += unlisted.len();
    if let Ok(path) = std::env::var("RELISTED_SCRIPT") {
        std::fs::write(path, lines.join("\n")).unwrap();
    }
    tally.sets += lines
        .iter()
        .filter(|line| line.starts_with("add set") || line.starts_with("add map"))
        .count();
    tally.rules += lines.iter().filter(|line| line.starts_with("add rule")).count();
    let original = compiled::compiled(&netns);
    // The newer one's JSON is another than 1.0.6's, which is the one that we write.
    for form in
        [Form::Text, Form::Json].into_iter().filter(|form| *form == Form::Text || !nft.is_newer())
    {
        let (_again, ours) = nft.reloaded(form, &nft::ours(&netns, form.flag()));
        let theirs = nft.list(&netns, form.flag());
        let wrong = judged(nft, form, &original, &ours, &theirs, tally);
        tally.wrong.extend(wrong.into_iter().map(|found| format!("seed {seed} {form:?}: {found}")));
    }
}

/// What of ours is not as it should be: it does not make again what is there, or nft writes it otherwise and that makes
/// it again as well.
fn judged(
    nft: &Nft,
    form: Form,
    original: &Compiled,
    ours: &Reloaded,
    theirs: &str,
    tally: &mut Tally,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = Nft::lines(form, theirs);
    // In JSON nft has no form that loads for chains without a name; we list them as chains.
    let listed: Vec<usize> =
        (0..ours.lines.len()).filter(|at| !ours.is_of_unnamed_chain(*at)).collect();
    if lines.len() != listed.len()
        && theirs.chars().any(|char| char.is_control() && !matches!(char, '\n' | '\t'))
    {
        // Octets of numbers as names, with ends of lines among them.
        tally.nft_wrong += 1;
        return wrong;
    }
    if lines.len() != listed.len() {
        let only = |name: &str, some: &[String], others: &[String]| -> Vec<String> {
            let missing = some.iter().filter(|line| !others.contains(line));
            missing.map(|line| format!("only {name}: {line}")).collect()
        };
        wrong.extend(only("nft", &lines, &ours.lines));
        wrong.extend(only("berth", &ours.lines, &lines));
        return wrong;
    }
    let differs = listed.iter().zip(&lines).any(|(at, line)| ours.lines[*at] != *line);
    let reloaded = differs.then(|| nft.reloaded(form, theirs).1);
    for (number, at) in listed.into_iter().enumerate() {
        let line = &ours.lines[at];
        let wanted = match &ours.places[at] {
            Some(place) => original.get(place).cloned(),
            None => Some(String::new()),
        };
        let same = lines[number] == *line;
        let right = ours.made[at] == wanted || bag(&ours.made[at]) == bag(&wanted);
        let nft_right = reloaded.as_ref().is_some_and(|theirs| theirs.made[number] == wanted);
        let excuse = nft::excuse(form, line, &ours.refused);
        let how = if ours.made[at].is_none() { "refused" } else { "changed" };
        match (right, same) {
            (true, true) => {}
            (true, false) if !nft_right => tally.nft_wrong += 1,
            (true, false) if excuse.is_some() => {
                *tally.excused.entry(excuse.unwrap_or_default()).or_default() += 1;
            }
            (true, false)
                if line.contains(" . ")
                    && nft::in_decimal(line) == nft::in_decimal(&lines[number]) =>
            {
                *tally.excused.entry("numbers of concatenations in hexadecimal").or_default() += 1;
            }
            // We write as nft 1.0.6 does.
            (true, false) if nft.is_newer() => tally.otherwise += 1,
            (true, false) => {
                wrong.push(format!("FORMAT\n  nft:   {}\n  berth: {line}", lines[number]));
            }
            // It is what nft says, and nft has no words that it would load again itself.
            (false, _) if !nft_right && excuse.is_some() => {
                *tally.excused.entry(excuse.unwrap_or_default()).or_default() += 1;
            }
            (false, true) => {
                wrong.push(format!("BOTH {how} {line}{}", parted(&wanted, &ours.made[at])));
            }
            (false, false) => wrong.push(format!(
                "WRONG {how}, nft's right: {nft_right}\n  nft:   {}\n  berth: {line}{}",
                lines[number],
                parted(&wanted, &ours.made[at])
            )),
        }
    }
    wrong
}

/// The first parts that differ, from where they do.
fn parted(wanted: &Option<String>, made: &Option<String>) -> String {
    let (Some(wanted), Some(made)) = (wanted, made) else { return String::new() };
    let same = wanted.chars().zip(made.chars()).take_while(|(one, other)| one == other).count();
    let from =
        |text: &str| text.chars().skip(same.saturating_sub(60)).take(160).collect::<String>();
    format!("\n    wanted …{:?}\n    made   …{:?}", from(wanted), from(made))
}

/// The parts, whatever their order: nft puts a match that it adds by itself in another place than the one that was written.
fn bag(made: &Option<String>) -> Option<Vec<&str>> {
    let mut parts: Vec<&str> = made.as_ref()?.split('\u{1}').collect();
    parts.sort_unstable();
    Some(parts)
}

#[test]
fn what_the_systems_nft_makes_lists_as_it_says_and_loads_again() {
    relisted(&Nft::of_the_system(), 0..28);
}

#[test]
fn what_a_newer_nft_makes_lists_as_it_says_and_loads_again() {
    relisted(&Nft::of_debian_13(), 100..132);
}
