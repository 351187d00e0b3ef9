//! Rulesets that a kernel takes, made up at random.

use berth::nft::expr::{CmpOp, Extension, NatKind, meta};
use berth::nft::{
    Chain, Data, DataType, Element, Expr, Family, Handle, Hook, Object, ObjectKind, Policy, Rule,
    Ruleset, Set, Table, Userdata, Verdict, hook, set,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

/// What a rule is put together from; what does not fit its family or chain is left out.
#[derive(Debug, Clone)]
enum Piece {
    Interface { out: bool, number: u8 },
    Mark { value: u32, mask: u32 },
    SetMark(u32),
    CtState(u32),
    SetCtMark(u32),
    CtAddress(bool),
    Address { prefix: u32, value: u64 },
    AddressIn { inverted: bool },
    Pair { ranges: bool },
    Ports { tcp: bool, from: u16, more: u16, inverted: bool },
    PortsIn(Vec<u16>),
    Compare { op: CmpOp, port: u16 },
    Verdicts,
    SetDscp(u8),
    Fib,
    NextHop,
    TcpOption(u8),
    SetMss(u16),
    Numgen { modulus: u32, random: bool },
    Hash { modulus: u32, seed: Option<u32> },
    Counter(u64, u64),
    Limit { rate: u64, unit_secs: u64, burst: u32, by_bytes: bool, over: bool },
    Quota { bytes: u64, over: bool },
    Connlimit { count: u32, over: bool },
    Last,
    Log { prefix: Option<String>, group: Option<u16>, level: Option<u32> },
    Named(usize),
    NamedByPort,
    Remember { update: bool },
    Notrack,
}

#[derive(Debug, Clone)]
enum End {
    Nothing,
    Verdict(Verdict),
    Jump { to: usize, goto: bool },
    Reject(u8),
    Nat { max: bool, ports: Option<(u16, u16)>, flags: u32 },
    Masquerade { flags: u32 },
    Redirect { port: u16 },
}

#[derive(Debug, Clone)]
struct Shape {
    kind: &'static str,
    number: u32,
    priority: i32,
    policy: Policy,
}

pub fn rulesets() -> impl Strategy<Value = Ruleset> {
    vec(table(), 1..3).prop_map(|mut tables| {
        tables.dedup_by_key(|table| (table.family, table.name.clone()));
        Ruleset { tables }
    })
}

fn table() -> impl Strategy<Value = Table> {
    let family = prop_oneof![Just(Family::IP), Just(Family::IP6), Just(Family::INET)];
    let rule = (vec(piece(), 0..6), end(), "[a-z ]{0,30}");
    let chain = (proptest::option::weighted(0.6, shape()), vec(rule, 0..6));
    let parts =
        (family, any::<bool>(), vec(chain, 1..5), sets(), vec(any::<u64>(), 0..4), "[a-z]{0,9}");
    parts.prop_map(|(family, name, chains, sets, counters, comment)| {
        let mut build = Build::new(family, name, sets, &counters, &comment, chains.len());
        // Of the family: chains that may be jumped to come last.
        let (base, sub): (Vec<_>, Vec<_>) =
            chains.into_iter().partition(|(shape, _)| shape.is_some());
        let first_sub = base.len();
        build.subs = (first_sub..first_sub + sub.len()).collect();
        for (at, (shape, rules)) in base.into_iter().chain(sub).enumerate() {
            build.chain(at, shape, rules);
        }
        build.finish()
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let kinds = prop_oneof![
        4 => (0u32..5).prop_map(|number| ("filter", number)),
        3 => prop_oneof![Just(hook::PREROUTING), Just(hook::INPUT), Just(hook::OUTPUT), Just(hook::POSTROUTING)]
            .prop_map(|number| ("nat", number)),
        1 => Just(("route", hook::OUTPUT)),
    ];
    (kinds, -199i32..400, any::<bool>()).prop_map(|((kind, number), priority, drop)| {
        let policy = if drop && kind != "nat" { Policy::Drop } else { Policy::Accept };
        Shape { kind, number, priority, policy }
    })
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![matching(), changing(), counting()]
}

fn matching() -> impl Strategy<Value = Piece> {
    let op = prop_oneof![
        Just(CmpOp::Neq),
        Just(CmpOp::Lt),
        Just(CmpOp::Lte),
        Just(CmpOp::Gt),
        Just(CmpOp::Gte)
    ];
    prop_oneof![
        (any::<bool>(), any::<u8>()).prop_map(|(out, number)| Piece::Interface { out, number }),
        any::<(u32, u32)>().prop_map(|(value, mask)| Piece::Mark { value, mask }),
        (1u32..32).prop_map(Piece::CtState),
        any::<bool>().prop_map(Piece::CtAddress),
        (1u32..33, any::<u64>()).prop_map(|(prefix, value)| Piece::Address { prefix, value }),
        any::<bool>().prop_map(|inverted| Piece::AddressIn { inverted }),
        any::<bool>().prop_map(|ranges| Piece::Pair { ranges }),
        any::<(bool, u16, u16, bool)>().prop_map(|(tcp, from, more, inverted)| Piece::Ports {
            tcp,
            from,
            more,
            inverted
        }),
        vec(any::<u16>(), 1..20).prop_map(Piece::PortsIn),
        (op, any::<u16>()).prop_map(|(op, port)| Piece::Compare { op, port }),
        Just(Piece::Verdicts),
        Just(Piece::Fib),
        Just(Piece::NextHop),
        any::<u8>().prop_map(Piece::TcpOption),
        (1u32..99, any::<bool>()).prop_map(|(modulus, random)| Piece::Numgen { modulus, random }),
        (2u32..99, any::<Option<u32>>()).prop_map(|(modulus, seed)| Piece::Hash { modulus, seed }),
    ]
}

fn changing() -> impl Strategy<Value = Piece> {
    prop_oneof![
        any::<u32>().prop_map(Piece::SetMark),
        any::<u32>().prop_map(Piece::SetCtMark),
        any::<u8>().prop_map(Piece::SetDscp),
        any::<u16>().prop_map(Piece::SetMss),
        any::<bool>().prop_map(|update| Piece::Remember { update }),
        Just(Piece::Notrack),
    ]
}

fn counting() -> impl Strategy<Value = Piece> {
    let unit = prop_oneof![Just(1u64), Just(60), Just(3600)];
    prop_oneof![
        any::<(u32, u32)>()
            .prop_map(|(packets, bytes)| Piece::Counter(packets.into(), bytes.into())),
        (1u64..1000, unit, 1u32..500, any::<bool>(), any::<bool>()).prop_map(
            |(rate, unit_secs, burst, by_bytes, over)| Piece::Limit {
                rate,
                unit_secs,
                burst,
                by_bytes,
                over
            }
        ),
        (1u64..1 << 40, any::<bool>()).prop_map(|(bytes, over)| Piece::Quota { bytes, over }),
        (1u32..1000, any::<bool>()).prop_map(|(count, over)| Piece::Connlimit { count, over }),
        Just(Piece::Last),
        (proptest::option::of("[a-z ]{1,60}"), any::<Option<u16>>(), proptest::option::of(0u32..8))
            .prop_map(|(prefix, group, level)| Piece::Log { prefix, group, level }),
        any::<usize>().prop_map(Piece::Named),
        Just(Piece::NamedByPort),
    ]
}

fn end() -> impl Strategy<Value = End> {
    let verdict = prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        Just(Verdict::Continue)
    ];
    let flags = prop_oneof![Just(0u32), Just(4), Just(8), Just(16), Just(12)];
    prop_oneof![
        Just(End::Nothing),
        verdict.prop_map(End::Verdict),
        any::<(usize, bool)>().prop_map(|(to, goto)| End::Jump { to, goto }),
        (0u8..4).prop_map(End::Reject),
        (any::<bool>(), any::<Option<(u16, u16)>>(), flags.clone())
            .prop_map(|(max, ports, flags)| End::Nat { max, ports, flags }),
        flags.prop_map(|flags| End::Masquerade { flags }),
        any::<u16>().prop_map(|port| End::Redirect { port }),
    ]
}

/// What the named sets hold, each there or not.
#[derive(Debug, Clone)]
struct Contents {
    hosts: Option<Vec<u32>>,
    networks: Option<Vec<u32>>,
    pairs: Option<Vec<(u32, u16)>>,
    ranges: Option<Vec<(u32, u16, u16)>>,
    verdicts: Option<Vec<(u16, usize)>>,
    names: Option<Vec<(u16, u32)>>,
    counted: Option<Vec<u16>>,
    seen: Option<(u64, u32)>,
}

fn sets() -> impl Strategy<Value = Contents> {
    let some = |length| {
        btree_set(any::<u32>(), length).prop_map(|keys| keys.into_iter().collect::<Vec<_>>())
    };
    let ports =
        || btree_set(any::<u16>(), 0..20).prop_map(|keys| keys.into_iter().collect::<Vec<_>>());
    let keyed = |keys: Vec<u16>| keys.into_iter().map(|port| (port, u32::from(port) * 77));
    (
        proptest::option::of(some(0..20)),
        proptest::option::of(some(0..20)),
        proptest::option::of((some(0..20), any::<u16>())),
        proptest::option::of((some(0..20), any::<u16>(), any::<u16>())),
        proptest::option::of((ports(), any::<usize>())),
        proptest::option::of(ports()),
        proptest::option::of(ports()),
        // The kernel's clock ticks in milliseconds or a few.
        proptest::option::of(((1u64..10_000).prop_map(|seconds| seconds * 1000), 1u32..65_535)),
    )
        .prop_map(move |(hosts, networks, pairs, ranges, verdicts, names, counted, seen)| {
            Contents {
                hosts,
                networks,
                pairs: pairs.map(|(keys, port)| keys.into_iter().map(|key| (key, port)).collect()),
                ranges: ranges.map(|(keys, a, b)| {
                    keys.into_iter().map(|key| (key, a.min(b), a.max(b))).collect()
                }),
                verdicts: verdicts.map(|(ports, to)| {
                    let number = |port: u16| to.wrapping_add(usize::from(port));
                    ports.into_iter().map(|port| (port, number(port))).collect()
                }),
                names: names.map(|ports| keyed(ports).collect()),
                counted,
                seen,
            }
        })
}

struct Build {
    table: Table,
    /// Octets of an address.
    address_len: u32,
    contents: Contents,
    counters: usize,
    /// Numbers of the chains that may be jumped to.
    subs: Vec<usize>,
}

fn chain_name(at: usize) -> String {
    format!("chain{at}")
}

fn key(key: Vec<u8>) -> Element {
    Element { key, ..Element::default() }
}

impl Build {
    fn new(
        family: Family,
        name: bool,
        contents: Contents,
        counters: &[u64],
        comment: &str,
        _chains: usize,
    ) -> Self {
        let userdata =
            if comment.is_empty() { Userdata::default() } else { Userdata::comment(comment) };
        let objects = counters.iter().enumerate().map(|(at, value)| Object {
            name: format!("counter{at}"),
            handle: Handle::default(),
            kind: ObjectKind::Counter { packets: *value >> 32, bytes: *value },
            userdata: Userdata::default(),
        });
        let table = Table {
            family,
            name: if name { "one" } else { "two" }.to_owned(),
            handle: Handle::default(),
            flags: 0,
            userdata,
            sets: Vec::new(),
            flowtables: Vec::new(),
            objects: objects.collect(),
            chains: Vec::new(),
        };
        let address_len = if family == Family::IP6 { 16 } else { 4 };
        Self { table, address_len, contents, counters: counters.len(), subs: Vec::new() }
    }

    fn address(&self, value: u32) -> Vec<u8> {
        let mut bytes = value.to_be_bytes().to_vec();
        bytes.resize(self.address_len as usize, 0);
        bytes
    }

    fn address_type(&self) -> u32 {
        if self.address_len == 16 { set::IPV6_ADDR } else { set::IPV4_ADDR }
    }

    fn finish(mut self) -> Table {
        let contents = self.contents.clone();
        let pair_type = self.address_type() << 6 | set::INET_SERVICE;
        let plain = |name: &str, key_type, key_len, elements| Set {
            name: name.to_owned(),
            key_type,
            key_len,
            elements,
            ..Set::default()
        };
        let (kind, len) = (self.address_type(), self.address_len);
        if let Some(hosts) = contents.hosts {
            let host = |value: u32| Element {
                exprs: vec![Expr::counter()],
                userdata: if value & 1 == 0 {
                    Userdata::default()
                } else {
                    Userdata::comment("odd")
                },
                ..key(self.address(value))
            };
            let set = plain("hosts", kind, len, hosts.into_iter().map(host).collect());
            self.table.sets.push(Set { exprs: vec![Expr::counter()], size: Some(99), ..set });
        }
        if let Some(bounds) = contents.networks {
            let elements = (0..)
                .zip(bounds)
                .map(|(at, value)| Element { flags: at & 1, ..key(self.address(value)) });
            let set = plain("networks", kind, len, elements.collect());
            self.table.sets.push(Set { flags: set::INTERVAL, ..set });
        }
        let pair = |address: Vec<u8>, port: u16| {
            [address, port.to_be_bytes().to_vec(), vec![0; 2]].concat()
        };
        if let Some(pairs) = contents.pairs {
            let elements =
                pairs.into_iter().map(|(value, port)| key(pair(self.address(value), port)));
            let set = plain("pairs", pair_type, len + 4, elements.collect());
            self.table.sets.push(Set { policy: 1, ..set });
        }
        if let Some(ranges) = contents.ranges {
            let ranges: Vec<_> = ranges
                .chunks_exact(2)
                .map(|two| (two[0].0, two[1].0, two[0].1, two[0].2))
                .collect();
            let elements = ranges.into_iter().map(|(from, to, low, high)| Element {
                key_end: Some(pair(self.address(to), high)),
                ..key(pair(self.address(from), low))
            });
            let set = plain("ranges", pair_type, len + 4, elements.collect());
            self.table.sets.push(Set {
                flags: set::INTERVAL | set::CONCAT,
                fields: vec![len, 2],
                ..set
            });
        }
        if let Some(verdicts) = contents.verdicts {
            let elements = verdicts.into_iter().map(|(port, number)| Element {
                data: Some(Data::Verdict(self.any_verdict(number))),
                ..key(port.to_be_bytes().to_vec())
            });
            let set = plain("verdicts", set::INET_SERVICE, 2, elements.collect());
            self.table.sets.push(Set { flags: set::MAP, data: Some(DataType::Verdict), ..set });
        }
        if let Some(names) = contents.names {
            let elements = names.into_iter().map(|(port, value)| Element {
                data: Some(Data::Value(self.address(value))),
                ..key(port.to_be_bytes().to_vec())
            });
            let set = plain("names", set::INET_SERVICE, 2, elements.collect());
            self.table.sets.push(Set {
                flags: set::MAP,
                data: Some(DataType::Value { kind, len }),
                ..set
            });
        }
        if let Some(ports) = contents.counted.filter(|_| self.counters > 0) {
            let elements = ports.into_iter().map(|port| Element {
                object: Some(format!("counter{}", usize::from(port) % self.counters)),
                ..key(port.to_be_bytes().to_vec())
            });
            let set = plain("counted", set::INET_SERVICE, 2, elements.collect());
            self.table.sets.push(Set { flags: set::OBJECT, object: Some(1), ..set });
        }
        if let Some((timeout, size)) = contents.seen {
            let set = plain("seen", kind, len, Vec::new());
            let flags = set::DYNAMIC | set::TIMEOUT;
            self.table.sets.push(Set {
                flags,
                timeout: Some(timeout),
                size: Some(size),
                gc_interval: Some(9),
                ..set
            });
        }
        self.table
    }

    /// Any of the verdicts, or a jump to one of the chains for it.
    fn any_verdict(&self, number: usize) -> Verdict {
        match (number % 4, self.subs.is_empty()) {
            (0, _) => Verdict::Accept,
            (1, _) => Verdict::Drop,
            (2, false) => Verdict::Jump(chain_name(self.subs[self.subs.len() - 1])),
            (3, false) => Verdict::Goto(chain_name(self.subs[self.subs.len() - 1])),
            _ => Verdict::Return,
        }
    }

    fn chain(&mut self, at: usize, shape: Option<Shape>, rules: Vec<(Vec<Piece>, End, String)>) {
        let rules = rules.into_iter().map(|(pieces, end, comment)| {
            let mut exprs: Vec<Expr> =
                pieces.into_iter().flat_map(|piece| self.piece(at, piece)).collect();
            exprs.extend(self.end(at, shape.as_ref(), end));
            let userdata =
                if comment.is_empty() { Userdata::default() } else { Userdata::comment(&comment) };
            Rule { exprs, userdata, ..Rule::default() }
        });
        let rules = rules.collect();
        self.table.chains.push(Chain {
            name: chain_name(at),
            handle: Handle::default(),
            hook: shape.map(|shape| Hook {
                kind: shape.kind.to_owned(),
                number: shape.number,
                priority: shape.priority,
                devices: Vec::new(),
                policy: shape.policy,
            }),
            flags: 0,
            userdata: Userdata::default(),
            rules,
        });
    }

    fn load_address(&self, dreg: u32) -> Vec<Expr> {
        let (protocol, offset) = if self.address_len == 16 { (10, 8) } else { (2, 12) };
        let mut exprs = vec![Expr::Meta { key: meta::NFPROTO, dreg: 1 }, equal(vec![protocol])];
        exprs.push(Expr::Payload { base: 1, offset, len: self.address_len, dreg });
        exprs
    }

    fn lookup(
        &self,
        set: &str,
        there: bool,
        dreg: Option<u32>,
        inverted: bool,
        mut load: Vec<Expr>,
    ) -> Vec<Expr> {
        if !there {
            return Vec::new();
        }
        load.push(Expr::Lookup { set: set.to_owned(), sreg: 1, dreg, inverted });
        load
    }

    fn piece(&mut self, at: usize, piece: Piece) -> Vec<Expr> {
        let contents = self.contents.clone();
        match piece {
            Piece::Address { prefix, value } => {
                let mask: Vec<u8> =
                    (0..self.address_len).map(|at| prefix_octet(prefix, at)).collect();
                let data = value
                    .to_be_bytes()
                    .iter()
                    .cycle()
                    .zip(&mask)
                    .map(|(byte, mask)| byte & mask)
                    .collect();
                let mut exprs = self.load_address(1);
                let (len, xor) = (self.address_len, vec![0; mask.len()]);
                exprs.extend([Expr::Bitwise { sreg: 1, dreg: 1, len, mask, xor }, equal(data)]);
                exprs
            }
            Piece::AddressIn { inverted } if contents.hosts.is_some() => {
                self.lookup("hosts", true, None, inverted, self.load_address(1))
            }
            Piece::AddressIn { inverted } => self.lookup(
                "networks",
                contents.networks.is_some(),
                None,
                inverted,
                self.load_address(1),
            ),
            Piece::Pair { ranges } => {
                let (name, there) = if ranges {
                    ("ranges", contents.ranges.is_some())
                } else {
                    ("pairs", contents.pairs.is_some())
                };
                let mut exprs = self.load_address(1);
                let dreg = if self.address_len == 16 { 2 } else { 9 };
                exprs.push(Expr::Payload { base: 2, offset: 2, len: 2, dreg });
                self.lookup(name, there, None, false, exprs)
            }
            Piece::PortsIn(mut ports) => {
                ports.sort_unstable();
                ports.dedup();
                let name = format!("__set{}", self.table.sets.len());
                let keys = ports.into_iter().map(|port| port.to_be_bytes().to_vec()).collect();
                self.table.sets.push(Set::anonymous(&name, set::INET_SERVICE, keys));
                vec![port(2), Expr::Lookup { set: name, sreg: 1, dreg: None, inverted: false }]
            }
            Piece::Verdicts => {
                // Nothing may come back to where it was: only from a chain before the last.
                let safe = self.subs.last().is_none_or(|last| at < *last);
                self.lookup(
                    "verdicts",
                    contents.verdicts.is_some() && safe,
                    Some(0),
                    false,
                    vec![port(2)],
                )
            }
            Piece::Named(number) if self.counters > 0 => {
                vec![Expr::Objref { kind: 1, name: format!("counter{}", number % self.counters) }]
            }
            Piece::NamedByPort if self.counters > 0 && contents.counted.is_some() => {
                vec![port(2), Expr::ObjrefMap { set: "counted".to_owned(), sreg: 1 }]
            }
            Piece::Remember { update } if contents.seen.is_some() => {
                let mut exprs = self.load_address(1);
                exprs.push(Expr::Dynset {
                    set: "seen".to_owned(),
                    operation: u32::from(update),
                    key: 1,
                    data: None,
                    timeout: update.then_some(9000),
                    exprs: Vec::new(),
                    flags: 0,
                });
                exprs
            }
            Piece::CtAddress(source) if self.address_len == 4 => {
                let key = if source { 19 } else { 20 };
                vec![Expr::Ct { key, dreg: 1, direction: Some(1) }, equal(vec![10, 0, 0, 1])]
            }
            Piece::NextHop if self.address_len == 4 => {
                vec![Expr::Rt { key: 1, dreg: 1 }, equal(vec![10, 0, 0, 1])]
            }
            Piece::Hash { modulus, seed } => {
                let mut exprs = self.load_address(1);
                let len = self.address_len;
                exprs.push(Expr::Hash {
                    sreg: Some(1),
                    dreg: 1,
                    len,
                    modulus,
                    seed: Some(seed.unwrap_or(1)),
                    offset: 3,
                });
                exprs.push(equal(5u32.to_ne_bytes().to_vec()));
                exprs
            }
            other => simple(other),
        }
    }

    /// What may stand at the end, and only there in this kind of chain.
    fn end(&self, at: usize, shape: Option<&Shape>, end: End) -> Vec<Expr> {
        let nat = shape.filter(|shape| shape.kind == "nat");
        let destination =
            nat.is_some_and(|shape| matches!(shape.number, hook::PREROUTING | hook::OUTPUT));
        let filter =
            shape.is_some_and(|shape| shape.kind == "filter" && (1..4).contains(&shape.number));
        match end {
            End::Verdict(verdict) => vec![Expr::verdict(verdict)],
            End::Jump { to, goto } => {
                let later: Vec<_> = self.subs.iter().filter(|sub| **sub > at).collect();
                let Some(sub) = later.get(to % later.len().max(1)) else { return Vec::new() };
                let name = chain_name(**sub);
                vec![Expr::verdict(if goto { Verdict::Goto(name) } else { Verdict::Jump(name) })]
            }
            End::Reject(code) if filter => {
                let kind = if self.table.family == Family::INET { 2 } else { 0 };
                vec![Expr::Reject { kind, code: Some(code) }]
            }
            End::Nat { max, ports, flags } if nat.is_some() => {
                let load = |dreg, bytes| Expr::Immediate { dreg, data: Data::Value(bytes) };
                let mut exprs = vec![load(1, self.address(0x0a00_0001))];
                if max {
                    exprs.push(load(2, self.address(0x0a00_0009)));
                }
                if let Some((low, high)) = ports {
                    exprs.push(load(3, low.min(high).to_be_bytes().to_vec()));
                    exprs.push(load(4, low.max(high).to_be_bytes().to_vec()));
                }
                exprs.push(Expr::Nat {
                    kind: if destination { NatKind::Dnat } else { NatKind::Snat },
                    family: if self.address_len == 16 { 10 } else { 2 },
                    addr: Some(1),
                    addr_max: max.then_some(2),
                    port: ports.map(|_| 3),
                    port_max: ports.map(|_| 4),
                    flags,
                });
                exprs
            }
            End::Masquerade { flags }
                if nat.is_some_and(|shape| shape.number == hook::POSTROUTING) =>
            {
                vec![Expr::Masquerade { port: None, port_max: None, flags }]
            }
            End::Redirect { port } if destination => vec![
                Expr::Immediate { dreg: 1, data: Data::Value(port.to_be_bytes().to_vec()) },
                Expr::Redirect { port: Some(1), port_max: None, flags: 0 },
            ],
            _ => Vec::new(),
        }
    }
}

fn prefix_octet(prefix: u32, at: u32) -> u8 {
    let bits = prefix.saturating_sub(at * 8).min(8);
    (0xff00u32 >> bits).to_be_bytes()[3]
}

fn equal(data: Vec<u8>) -> Expr {
    Expr::Cmp { sreg: 1, op: CmpOp::Eq, data }
}

/// A port of whatever transport there is.
fn port(offset: u32) -> Expr {
    Expr::Payload { base: 2, offset, len: 2, dreg: 1 }
}

fn immediate(bytes: Vec<u8>) -> Expr {
    Expr::Immediate { dreg: 1, data: Data::Value(bytes) }
}

/// What needs nothing of the table.
fn simple(piece: Piece) -> Vec<Expr> {
    match piece {
        Piece::Interface { out, number } => {
            let mut name = format!("eth{number}").into_bytes();
            name.resize(16, 0);
            vec![
                Expr::Meta { key: if out { meta::OIFNAME } else { meta::IIFNAME }, dreg: 1 },
                equal(name),
            ]
        }
        Piece::Mark { value, mask } => {
            let (mask, xor) = (mask.to_ne_bytes().to_vec(), vec![0; 4]);
            let load = Expr::Meta { key: meta::MARK, dreg: 1 };
            vec![
                load,
                Expr::Bitwise { sreg: 1, dreg: 1, len: 4, mask, xor },
                equal(value.to_ne_bytes().to_vec()),
            ]
        }
        Piece::SetMark(value) => {
            vec![
                immediate(value.to_ne_bytes().to_vec()),
                Expr::MetaSet { key: meta::MARK, sreg: 1 },
            ]
        }
        Piece::CtState(state) => {
            let (mask, xor) = (state.to_ne_bytes().to_vec(), vec![0; 4]);
            vec![
                Expr::Ct { key: 0, dreg: 1, direction: None },
                Expr::Bitwise { sreg: 1, dreg: 1, len: 4, mask, xor },
                Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: vec![0; 4] },
            ]
        }
        Piece::SetCtMark(value) => {
            vec![
                immediate(value.to_ne_bytes().to_vec()),
                Expr::CtSet { key: 3, sreg: 1, direction: None },
            ]
        }
        Piece::Ports { tcp, from, more, inverted } => {
            let (from, to) =
                (from.to_be_bytes().to_vec(), from.saturating_add(more).to_be_bytes().to_vec());
            let protocol =
                [Expr::Meta { key: meta::L4PROTO, dreg: 1 }, equal(vec![if tcp { 6 } else { 17 }])];
            protocol
                .into_iter()
                .chain([port(0), Expr::Range { sreg: 1, inverted, from, to }])
                .collect()
        }
        Piece::Compare { op, port: number } => {
            vec![port(2), Expr::Cmp { sreg: 1, op, data: number.to_be_bytes().to_vec() }]
        }
        Piece::SetDscp(value) => vec![
            Expr::Payload { base: 1, offset: 0, len: 2, dreg: 1 },
            Expr::Bitwise {
                sreg: 1,
                dreg: 1,
                len: 2,
                mask: vec![0xff, 3],
                xor: vec![0, value & 0xfc],
            },
            Expr::PayloadSet {
                base: 1,
                offset: 0,
                len: 2,
                sreg: 1,
                csum_type: 1,
                csum_offset: 10,
                csum_flags: 0,
            },
        ],
        Piece::Fib => {
            vec![Expr::Fib { dreg: 1, result: 3, flags: 2 }, equal(2u32.to_ne_bytes().to_vec())]
        }
        Piece::TcpOption(kind) => {
            let field = Extension { space: 1, kind, offset: 0, len: 1, flags: 1 };
            vec![Expr::Exthdr { field, dreg: 1 }, equal(vec![1])]
        }
        Piece::SetMss(value) => vec![
            immediate(value.to_ne_bytes().to_vec()),
            Expr::Byteorder { sreg: 1, dreg: 1, hton: true, len: 2, size: 2 },
            Expr::ExthdrSet {
                field: Extension { space: 1, kind: 2, offset: 2, len: 2, flags: 0 },
                sreg: 1,
            },
        ],
        Piece::Numgen { modulus, random } => {
            vec![
                Expr::Numgen { dreg: 1, modulus, random, offset: 7 },
                equal(0u32.to_ne_bytes().to_vec()),
            ]
        }
        Piece::Counter(packets, bytes) => vec![Expr::Counter { packets, bytes }],
        Piece::Limit { rate, unit_secs, burst, by_bytes, over } => {
            vec![Expr::Limit { rate, unit_secs, burst, by_bytes, over }]
        }
        Piece::Quota { bytes, over } => {
            vec![Expr::Quota { bytes, flags: over.into(), consumed: 0 }]
        }
        Piece::Connlimit { count, over } => vec![Expr::Connlimit { count, flags: over.into() }],
        Piece::Last => vec![Expr::Last { set: false, milliseconds: 0 }],
        Piece::Log { prefix, group: Some(group), level } => {
            let threshold = level.map(|level| level as u16 + 1);
            vec![Expr::Log {
                prefix,
                group: Some(group),
                snaplen: level,
                threshold,
                level: None,
                flags: None,
            }]
        }
        Piece::Log { prefix, group: None, level } => {
            let flags = level.filter(|level| level % 2 == 1);
            vec![Expr::Log { prefix, group: None, snaplen: None, threshold: None, level, flags }]
        }
        Piece::Notrack => vec![Expr::Notrack],
        _ => Vec::new(),
    }
}
