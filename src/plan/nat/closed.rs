//! What holds back a guest whose address the pod has no more: somebody else may have it by now.

use std::net::IpAddr;

use crate::net::IfName;
use crate::nft::build::cmp;
use crate::nft::expr::CmpOp;
use crate::nft::{Chain, Family, Hook, Policy, Rule, Ruleset, Table, Userdata};

use super::matches::dropped;
use super::own::INGRESS;
use super::version::Version;

/// A table beside ours, whose rules stay as they were: the pod may have its address again in a moment.
pub const CLOSED: &str = "berth-closed";

/// Before the chains of our own table.
const PRIORITY: i32 = -10;

/// What the guest sends from these addresses is dropped.
pub fn closed(tap: &IfName, lost: &[IpAddr]) -> Ruleset {
    let rule = |address: &IpAddr| {
        let (version, octets) = match address {
            IpAddr::V4(address) => (Version::Four, address.octets().to_vec()),
            IpAddr::V6(address) => (Version::Six, address.octets().to_vec()),
        };
        let mut exprs = version.protocol().to_vec();
        exprs.extend([version.load(version.saddr()), cmp(CmpOp::Eq, octets)]);
        exprs.extend(dropped());
        Rule::new(exprs, "from the guest, with an address that the pod has no more")
    };
    let hook = Hook {
        kind: "filter".to_owned(),
        number: INGRESS,
        priority: PRIORITY,
        devices: vec![tap.to_string()],
        policy: Policy::Accept,
    };
    let chain = Chain { rules: lost.iter().map(rule).collect(), ..Chain::new("guest", Some(hook)) };
    let table = Table {
        userdata: Userdata::comment(
            "the pod has lost the guest's address; made and removed by berth",
        ),
        chains: vec![chain],
        ..Table::new(Family::NETDEV, CLOSED)
    };
    Ruleset { tables: vec![table] }
}
