//! Rulesets made up at random, loaded into a real kernel by us: what is found is what was wanted, whatever was there
//! before, and a second commit finds nothing to do.

pub mod rulesets;

use std::collections::BTreeMap;
use std::error::Error;

use crate::support::Netns;
use crate::support::site::{block_on, firewall};
use berth::nft::Ruleset;
use berth::nft::dump::Filter;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

const CASES: u32 = 192;

#[test]
fn what_is_committed_is_what_is_dumped() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let seen = std::cell::RefCell::new(BTreeMap::new());
    let outcome = TestRunner::new(config).run(&rulesets::rulesets(), |wanted| {
        count(&mut seen.borrow_mut(), &wanted);
        let committed = block_on(firewall.commit(wanted.clone())).map_err(|error| {
            TestCaseError::fail(format!("{error}: {:?}\n{wanted}", error.source()))
        })?;
        let (generation, found) = block_on(firewall.dump(Filter::default())).unwrap();
        let found = only(found, &wanted);
        let (found, expected) = (found.canonical(), wanted.canonical());
        if found != expected {
            let texts = differing(&expected.to_string(), &found.to_string());
            let rules = found.tables.iter().zip(&expected.tables).map(|(found, expected)| {
                differing(&format!("{:#?}", expected.chains), &format!("{:#?}", found.chains))
            });
            return Err(TestCaseError::fail(format!("{texts}\n{}", rules.collect::<String>())));
        }
        if generation != committed
            || block_on(firewall.commit(wanted.clone())).unwrap() != committed
        {
            return Err(TestCaseError::fail("the second commit found something to do".to_owned()));
        }
        // The same chains with other rules: replaced in place, and back.
        for other in [
            reversed(&wanted),
            thinned(&wanted),
            wanted.clone(),
            thinned(&reversed(&wanted)),
            wanted,
        ] {
            block_on(firewall.commit(other.clone()))
                .map_err(|error| TestCaseError::fail(format!("{error}")))?;
            let found = block_on(firewall.dump(Filter::default())).unwrap().1;
            let found = only(found, &other);
            if found.canonical() != other.canonical() {
                let texts =
                    differing(&other.canonical().to_string(), &found.canonical().to_string());
                return Err(TestCaseError::fail(format!("in place:\n{texts}")));
            }
        }
        Ok(())
    });
    match outcome {
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(error) => panic!("{error}"),
        Ok(()) => {}
    }
    let seen = seen.into_inner();
    println!("{CASES} rulesets: {seen:?}");
    let missing: Vec<_> = EXPECTED.iter().filter(|thing| !seen.contains_key(**thing)).collect();
    assert!(missing.is_empty(), "never made: {missing:?}");
}

/// What must have been among them.
const EXPECTED: [&str; 36] = [
    "table ip",
    "table ip6",
    "table inet",
    "anonymous set",
    "hosts",
    "networks",
    "pairs",
    "ranges",
    "verdicts",
    "names",
    "counted",
    "seen",
    "objects",
    "expr bitwise",
    "expr byteorder",
    "expr cmp",
    "expr connlimit",
    "expr counter",
    "expr ct",
    "expr dynset",
    "expr exthdr",
    "expr fib",
    "expr hash",
    "expr immediate",
    "expr limit",
    "expr log",
    "expr lookup",
    "expr meta",
    "expr nat",
    "expr numgen",
    "expr objref",
    "expr payload",
    "expr quota",
    "expr range",
    "expr redir",
    "expr reject",
];

/// The tables of `found` that `wanted` names.
fn only(mut found: Ruleset, wanted: &Ruleset) -> Ruleset {
    found.tables.retain(|table| wanted.table(table.family, &table.name).is_some());
    found
}

fn reversed(ruleset: &Ruleset) -> Ruleset {
    let mut ruleset = ruleset.clone();
    ruleset
        .tables
        .iter_mut()
        .flat_map(|table| &mut table.chains)
        .for_each(|chain| chain.rules.reverse());
    ruleset
}

/// Without the rule in the middle of each chain, and its anonymous sets.
fn thinned(ruleset: &Ruleset) -> Ruleset {
    let mut ruleset = ruleset.clone();
    for table in &mut ruleset.tables {
        for chain in table.chains.iter_mut().filter(|chain| !chain.rules.is_empty()) {
            let gone = chain.rules.remove(chain.rules.len() / 2);
            let used = |name: &String| gone.exprs.iter().any(|expr| expr.set_name() == Some(name));
            table.sets.retain(|set| !set.is_anonymous() || !used(&set.name));
        }
    }
    ruleset
}

/// The first lines that differ.
fn differing(wanted: &str, found: &str) -> String {
    let lines: Vec<_> = wanted.lines().zip(found.lines()).enumerate().collect();
    let Some(at) = lines.iter().position(|(_, (wanted, found))| wanted != found) else {
        return format!("{} lines wanted, {} found", wanted.lines().count(), found.lines().count());
    };
    let around = &lines[at.saturating_sub(25)..(at + 5).min(lines.len())];
    around
        .iter()
        .map(|(number, (wanted, found))| format!("{number}: wanted {wanted} | found {found}\n"))
        .collect()
}

/// How often each kind of thing was made, so that a generator that makes nothing is seen.
fn count(seen: &mut BTreeMap<String, usize>, ruleset: &Ruleset) {
    for table in &ruleset.tables {
        *seen.entry(format!("table {}", table.family)).or_default() += 1;
        for set in &table.sets {
            let name = if set.is_anonymous() { "anonymous set" } else { set.name.as_str() };
            *seen.entry(name.to_owned()).or_default() += 1;
        }
        for expr in table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.exprs)
        {
            *seen.entry(format!("expr {}", expr.name())).or_default() += 1;
        }
        *seen.entry("objects".to_owned()).or_default() += table.objects.len();
    }
}
