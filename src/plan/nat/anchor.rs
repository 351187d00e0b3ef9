//! What keeps connections translated while our own table is gone.

use crate::nft::build::ct_state;
use crate::nft::{Chain, Expr, Hook, Policy, Rule, Ruleset, Table, Userdata, Verdict, hook, table};

use super::matches::INVALID;
use super::{FAMILY, PRIORITY_DSTNAT, PRIORITY_SRCNAT};

/// A second table, without rules that do anything: it belongs to the socket that made it, so nobody else's `flush
/// ruleset` takes it away, and as long as it is there the kernel goes on tracking and translating connections that
/// exist. Without it they meet the pod itself, and are reset, in the moment our own table is gone.
pub const ANCHOR: &str = "berth-anchor";

/// The table [`ANCHOR`]: chains of every NAT hook, and one rule that needs connection tracking.
pub fn anchor() -> Ruleset {
    let hooks = [
        ("prerouting", hook::PREROUTING, PRIORITY_DSTNAT),
        ("input", hook::INPUT, PRIORITY_SRCNAT),
        ("output", hook::OUTPUT, PRIORITY_DSTNAT),
        ("postrouting", hook::POSTROUTING, PRIORITY_SRCNAT),
    ];
    let chain = |(name, number, priority): (&str, u32, i32)| {
        let hook = Hook {
            kind: "nat".to_owned(),
            number,
            priority,
            devices: Vec::new(),
            policy: Policy::Accept,
        };
        Chain::new(name, Some(hook))
    };
    let mut chains: Vec<Chain> = hooks.into_iter().map(chain).collect();
    if let Some(first) = chains.first_mut() {
        let mut tracked = ct_state(INVALID).to_vec();
        tracked.push(Expr::verdict(Verdict::Continue));
        first
            .rules
            .push(Rule::new(tracked, "changes nothing; what it asks keeps connections tracked"));
    }
    let comment = "keeps connections that exist translated while table berth is restored";
    let table = Table {
        flags: table::OWNER,
        userdata: Userdata::comment(comment),
        chains,
        ..Table::new(FAMILY, ANCHOR)
    };
    Ruleset { tables: vec![table] }
}
