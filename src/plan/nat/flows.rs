//! The pod's own flows of TCP and UDP: a set that its packets fill as they leave, and those that come keep.

use crate::nft::build::{and, any_bit, cmp, load_transport, meta_l4proto};
use crate::nft::expr::{CmpOp, base, meta};
use crate::nft::{Expr, Rule, Set, Verdict, set};

use super::matches::{TCP, UDP};
use super::version::Version;

const TCP_FIN_OR_RST: u8 = 0x05;
const TCP_SYN_OR_PSH: u8 = 0x0a;
const TCP_PSH: u8 = 0x08;
/// The pod's own flows: address and port of the other end, protocol, own port.
pub(super) const FLOWS: &str = "flows";
/// Flows at once: some 150 octets of the kernel's memory for each.
const MAX_FLOWS: u32 = 65_536;
/// How long a flow is remembered that is heard nothing of: one of TCP that stands, one that ends or begins, one of UDP
/// (nf_conntrack_udp_timeout_stream is 120 s).
const STANDING: u64 = 24 * 3600 * 1000;
const ENDING: u64 = 120 * 1000;
const BEGINNING: u64 = 600 * 1000;
const DATAGRAMS: u64 = 180 * 1000;
/// NFT_DYNSET_OP_ADD and _UPDATE.
const ADD: u32 = 0;
pub(super) const UPDATE: u32 = 1;

/// The other end's address and port, the protocol and the own port, in a row from register 1 on.
pub(super) fn flow(version: Version, address: u32, own_port: u32, other_port: u32) -> Vec<Expr> {
    let load = |base, offset, len, dreg| Expr::Payload { base, offset, len, dreg };
    // Registers of four octets behind those of the address (NFT_REG32_00 is 8, linux/netfilter/nf_tables.h).
    let (protocol, ports) = match version {
        Version::Four => (9, 10),
        Version::Six => (2, 13),
    };
    vec![
        load(base::NETWORK, address, version.octets(), 1),
        Expr::Meta { key: meta::L4PROTO, dreg: protocol },
        load(base::TRANSPORT, own_port, 2, ports),
        load(base::TRANSPORT, other_port, 2, ports + 1),
    ]
}

/// Remembers the pod's flow of a packet that it sends, for as long as the packet says.
pub(super) fn updates(version: Version) -> Vec<Rule> {
    let (address, own_port, other_port) = (version.daddr(), 0, 2);
    let remember = |operation, first: Vec<Expr>, timeout, words: &str| {
        remember(version, first, (address, own_port, other_port), (operation, timeout), words)
    };
    let tcp = |bits: u8| {
        let mut exprs = meta_l4proto(TCP).to_vec();
        exprs.extend(any_bit(load_transport(13, 1), vec![bits]));
        exprs
    };
    let mut begins = meta_l4proto(TCP).to_vec();
    begins.extend([load_transport(13, 1), and(vec![0x17]), cmp(CmpOp::Eq, vec![0x02])]);
    vec![
        remember(UPDATE, tcp(TCP_FIN_OR_RST), ENDING, "a flow of the pod's own ends"),
        remember(UPDATE, begins, BEGINNING, "a flow of the pod's own begins"),
        remember(UPDATE, tcp(TCP_SYN_OR_PSH), STANDING, "a flow of the pod's own"),
        // An acknowledgement alone may be the last one: what is known stays as it is.
        remember(ADD, meta_l4proto(TCP).to_vec(), BEGINNING, "a flow that is not known yet"),
        remember(UPDATE, meta_l4proto(UDP).to_vec(), DATAGRAMS, "datagrams of the pod's own"),
    ]
}

/// Remembers the flow of a packet that comes for longer, where it has content.
pub(super) fn heard(version: Version) -> Vec<Rule> {
    let mut data = meta_l4proto(TCP).to_vec();
    data.extend([load_transport(13, 1), and(vec![TCP_FIN_OR_RST | TCP_PSH])]);
    data.push(cmp(CmpOp::Eq, vec![TCP_PSH]));
    [
        (data, STANDING, "content of a flow of the pod's own"),
        (meta_l4proto(UDP).to_vec(), DATAGRAMS, "datagrams of the pod's own"),
    ]
    .map(|(first, timeout, words)| {
        remember(version, first, (version.saddr(), 2, 0), (UPDATE, timeout), words)
    })
    .to_vec()
}

/// Keeps the flow of such a packet for so long.
fn remember(
    version: Version,
    first: Vec<Expr>,
    (address, own_port, other_port): (u32, u32, u32),
    (operation, timeout): (u32, u64),
    words: &str,
) -> Rule {
    let mut exprs = first;
    exprs.extend(version.protocol());
    exprs.extend(flow(version, address, own_port, other_port));
    exprs.push(Expr::Dynset {
        set: version.named(FLOWS),
        operation,
        key: 1,
        data: None,
        timeout: Some(timeout),
        exprs: Vec::new(),
        flags: 0,
    });
    exprs.push(Expr::verdict(Verdict::Accept));
    Rule::new(exprs, words)
}

/// `type ipv6_addr . inet_proto . inet_service . inet_service`, filled by packets.
pub(super) fn flows(version: Version) -> Set {
    let kinds = [version.set_type(), set::INET_PROTO, set::INET_SERVICE, set::INET_SERVICE];
    Set {
        name: version.named(FLOWS),
        flags: set::DYNAMIC | set::TIMEOUT,
        key_type: kinds.into_iter().fold(0, |all, kind| all << 6 | kind),
        key_len: version.octets() + 12,
        size: Some(MAX_FLOWS),
        timeout: Some(STANDING),
        ..Set::default()
    }
}
