//! BERTH_NFT_OWNER: our table belongs to our socket, and outlives it.

use crate::support::site::{block_on, firewall};
use crate::support::{Netns, sample, until};
use berth::nft::{Ruleset, table};
use berth::sys::netlink::Error;

fn plan(owner: bool) -> Ruleset {
    let (mut config, facts) = (sample::config(), sample::facts());
    config.network.nft_owner = owner;
    let link = berth::plan::link::plan(&config, &facts.net, 65534).unwrap();
    berth::plan::nat::plan(&config, &facts.net, &link)
}

fn refuses(netns: &Netns, words: &str) {
    let output = netns.command("nft").args(words.split_whitespace()).output().unwrap();
    assert!(!output.status.success(), "{words}: done");
}

fn rules(netns: &Netns) -> usize {
    netns.nft("list table inet berth").matches("counter packets").count()
}

/// Nobody but the owner can change it, and a flush of everything passes it by.
fn is_ours_alone(netns: &Netns) {
    let before = rules(netns);
    assert!(before > 5, "{}", netns.nft("list ruleset"));
    netns.nft("flush ruleset");
    assert_eq!(rules(netns), before);
    refuses(netns, "delete table inet berth");
    refuses(netns, "flush chain inet berth forward");
    refuses(netns, "add rule inet berth forward drop");
}

#[test]
fn nobody_else_changes_the_table_and_a_restarted_berth_adopts_it() {
    let pod = Netns::new("pod");
    let first = firewall(&pod);
    let generation = block_on(first.commit(plan(true))).unwrap();
    is_ours_alone(&pod);
    assert!(block_on(first.commit(plan(true))).unwrap() >= generation);
    // The thread ends, and its socket with it: as after SIGKILL.
    drop(first);
    until("the socket is closed", || !pod.nft("list table inet berth").contains("owner"));
    assert!(rules(&pod) > 5, "gone with its owner");
    let second = firewall(&pod);
    block_on(second.commit(plan(true))).unwrap();
    is_ours_alone(&pod);
    let again = block_on(second.commit(plan(true))).unwrap();
    assert_eq!(block_on(second.commit(plan(true))).unwrap(), again);
}

#[test]
fn without_the_option_a_flush_takes_the_table() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    block_on(firewall.commit(plan(false))).unwrap();
    pod.nft("flush ruleset");
    assert_eq!(pod.nft("list ruleset"), "");
}

#[test]
fn a_table_of_another_owner_is_told_as_such() {
    let pod = Netns::new("pod");
    let (first, second) = (firewall(&pod), firewall(&pod));
    block_on(first.commit(plan(true))).unwrap();
    let error = block_on(second.commit(plan(false))).unwrap_err();
    assert!(matches!(error, Error::Owned { .. }), "{error:?}");
    let text = error.to_string();
    assert_eq!(
        text,
        "table inet berth belongs to another process (table flag owner), which alone may change it"
    );
}

/// A flag that this kernel does not know stands for one that an older kernel does not.
#[test]
fn a_kernel_without_owners_that_persist_is_told_as_such() {
    let pod = Netns::new("pod");
    let mut wanted = plan(true);
    wanted.tables[0].flags = table::OWNER | table::PERSIST | 0x4000;
    let error = block_on(firewall(&pod).commit(wanted)).unwrap_err();
    assert!(matches!(error, Error::Owner { .. }), "{error:?}");
    assert!(error.to_string().contains("needs Linux 6.9"), "{error}");
    assert_eq!(pod.nft("list ruleset"), "");
}
