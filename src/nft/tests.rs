use proptest::prelude::*;

use super::attr::{Attributes, Header, Messages, Writer};
use super::dump::Filter;
use super::expr::{CmpOp, Extension, NatKind, SetIds, VERDICT, base, meta};
use super::*;

#[test]
fn comments_are_cut_where_the_kernel_would_refuse_them() {
    assert_eq!(Userdata::comment("reserved v4").0, b"\x00\x0creserved v4\x00");
    let userdata = Userdata::comment(&"é".repeat(200));
    assert!(userdata.0.len() <= 256, "{}", userdata.0.len());
    assert_eq!(userdata.as_comment().unwrap(), "é".repeat(126));
}

/// What claims to read or write more octets than the registers hold is kept, not believed.
#[test]
fn lengths_are_no_longer_than_the_registers() {
    let field = |len| Extension { space: 0, kind: 43, offset: 0, len, flags: 0 };
    let payload_set = |len| Expr::PayloadSet {
        base: base::NETWORK,
        offset: 0,
        len,
        sreg: 1,
        csum_type: 0,
        csum_offset: 0,
        csum_flags: 0,
    };
    let of_length: [&dyn Fn(u32) -> Expr; 8] = [
        &|len| Expr::Payload { base: base::NETWORK, offset: 0, len, dreg: 1 },
        &payload_set,
        &|len| Expr::Bitwise { sreg: 1, dreg: 1, len, mask: vec![0; 4], xor: vec![0; 4] },
        &|len| Expr::Shift { sreg: 1, dreg: 1, len, right: true, bits: 1 },
        &|len| Expr::Byteorder { sreg: 1, dreg: 1, hton: true, len, size: 2 },
        &|len| Expr::Hash { sreg: Some(1), dreg: 1, len, modulus: 2, seed: None, offset: 0 },
        &|len| Expr::Exthdr { field: field(len), dreg: 1 },
        &|len| Expr::ExthdrSet { field: field(len), sreg: 1 },
    ];
    let decoded = |expr: &Expr| {
        let mut w = Writer::new();
        expr.encode_bare(&SetIds::new(), &mut w);
        Expr::decode(Attributes(&w.into_bytes()))
    };
    for expr in of_length {
        assert_eq!(decoded(&expr(64)), expr(64));
        for len in [65, 0xffff, u32::MAX] {
            let found = decoded(&expr(len));
            assert!(matches!(found, Expr::Unknown { .. }), "{found:?}");
            assert_eq!(decoded(&found), found);
        }
    }
}

fn load_and_compare(load: Expr, data: &[u8]) -> [Expr; 2] {
    [load, Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: data.to_vec() }]
}

/// `iifname "eth0" ip daddr 10.1.1.2 counter dnat ip to 10.99.0.2`
fn dnat_rule() -> Rule {
    let mut exprs = Vec::new();
    exprs.extend(load_and_compare(
        Expr::Meta { key: meta::IIFNAME, dreg: 1 },
        b"eth0\0\0\0\0\0\0\0\0\0\0\0\0",
    ));
    exprs.extend(load_and_compare(Expr::Meta { key: meta::NFPROTO, dreg: 1 }, &[2]));
    let daddr = Expr::Payload { base: base::NETWORK, offset: 16, len: 4, dreg: 1 };
    exprs.extend(load_and_compare(daddr, &[10, 1, 1, 2]));
    exprs.push(Expr::counter());
    exprs.push(Expr::Immediate { dreg: 1, data: Data::Value(vec![10, 99, 0, 2]) });
    exprs.push(Expr::Nat {
        kind: NatKind::Dnat,
        family: 2,
        addr: Some(1),
        addr_max: None,
        port: None,
        port_max: None,
        flags: 0,
    });
    Rule { exprs, ..Rule::default() }
}

fn one_rule(rule: Rule) -> Ruleset {
    let chain = Chain {
        name: "prerouting".to_owned(),
        handle: Handle::default(),
        hook: None,
        flags: 0,
        userdata: Userdata::default(),
        rules: vec![rule],
    };
    Ruleset { tables: vec![table(vec![chain], Vec::new())] }
}

fn table(chains: Vec<Chain>, sets: Vec<Set>) -> Table {
    Table {
        family: Family::INET,
        name: "berth".to_owned(),
        handle: Handle::default(),
        flags: 0,
        userdata: Userdata::default(),
        flowtables: Vec::new(),
        sets,
        objects: Vec::new(),
        chains,
    }
}

/// The bytes nft itself sends for this rule on a little-endian machine.
#[test]
#[cfg(target_endian = "little")]
fn a_dnat_rule_has_the_bytes_nft_sends() {
    let wanted = "
        c0010000 060a 010c 05000000 00000000  01000000
        0a000100 6265727468000000  0f000200 7072 65726f7574696e670000
        90010480
        24000180 09000100 6d65746100000000 14000280 0800020000000006 0800010000000001
        38000180 08000100 636d7000 2c000280 0800010000000001 0800020000000000
                 18000380 14000100 65746830 000000000000000000000000
        24000180 09000100 6d65746100000000 14000280 080002000000000f 0800010000000001
        2c000180 08000100 636d7000 20000280 0800010000000001 0800020000000000 0c000380 0500010002000000
        34000180 0c000100 7061796c6f616400 24000280 0800010000000001 0800020000000001
                 0800030000000010 0800040000000004
        2c000180 08000100 636d7000 20000280 0800010000000001 0800020000000000 0c000380 080001000a010102
        2c000180 0c000100 636f756e74657200 1c000280 0c0001000000000000000000 0c0002000000000000000000
        2c000180 0e000100 696d6d6564696174 65000000 18000280 0800010000000001 0c000280 080001000a630002
        28000180 08000100 6e617400 1c000280 0800010000000001 0800020000000002 0800030000000001";
    let mut ruleset = one_rule(dnat_rule());
    // The last message asks for an answer; nft's did not.
    ruleset.tables[0].chains[0].rules.push(Rule::default());
    let batch = Batch::replace(&ruleset, &Ruleset::default(), None, 0).unwrap();
    let sent: String = batch.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let wanted: String = wanted.split_whitespace().collect();
    assert!(sent.contains(&wanted), "{sent}\nhas no\n{wanted}");
}

#[test]
fn a_transaction_begins_ends_and_asks_for_one_answer() {
    let batch = Batch::replace(&one_rule(dnat_rule()), &Ruleset::default(), Some(7), 100).unwrap();
    let messages: Vec<_> = Messages(batch.bytes()).collect();
    let kinds: Vec<u16> = messages.iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [0x10, 0xa00, 0xa02, 0xa00, 0xa03, 0xa06, 0x11]);
    assert_eq!(
        messages.iter().map(|message| message.sequence).collect::<Vec<_>>(),
        (100..107).collect::<Vec<_>>()
    );
    let acknowledged: Vec<u16> =
        messages.iter().filter(|message| message.flags & 4 != 0).map(|m| m.kind).collect();
    assert_eq!(acknowledged, [0xa06]);
    assert_eq!(messages[0].attributes().u32(1), Some(7));
}

#[test]
fn an_answer_names_what_it_is_about() {
    let ruleset = one_rule(dnat_rule());
    let batch = Batch::replace(&ruleset, &Ruleset::default(), None, 100).unwrap();
    let rule = "rule `iifname \"eth0\" ip daddr 10.1.1.2 counter packets 0 bytes 0 dnat ip to 10.99.0.2` \
                in chain inet berth prerouting";
    assert_eq!(batch.describe(&ruleset, 100, None), "the transaction");
    assert_eq!(batch.describe(&ruleset, 103, None), "table inet berth");
    assert_eq!(batch.describe(&ruleset, 104, None), "chain inet berth prerouting");
    assert_eq!(batch.describe(&ruleset, 105, None), rule);
    assert_eq!(batch.describe(&ruleset, 105, Some(52)), format!("{rule}: at expression 1, meta"));
    assert_eq!(batch.describe(&ruleset, 105, Some(440)), format!("{rule}: at expression 9, nat"));
    assert_eq!(batch.describe(&ruleset, 105, Some(u32::MAX)), rule);
    assert_eq!(batch.describe(&ruleset, 99, None), "the transaction");
}

#[test]
fn a_rule_too_long_for_a_message_is_told_before_it_is_sent() {
    let rule = Rule::new(vec![Expr::counter(); 2000], "endless");
    let error = Batch::replace(&one_rule(rule), &Ruleset::default(), None, 1).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("comment \"endless\"` in chain inet berth prerouting does not fit"),
        "{error}"
    );
}

#[test]
fn counters_handles_and_names_of_anonymous_sets_make_no_difference() {
    let ruleset = |name: &str, packets: u64, handle: u64, reverse: bool| {
        let lookup = Expr::Lookup { set: name.to_owned(), sreg: 1, dreg: None, inverted: false };
        let rule = Rule {
            handle: Handle(Some(handle)),
            exprs: vec![lookup, Expr::Counter { packets, bytes: packets }],
            userdata: Userdata::default(),
        };
        let mut keys = vec![vec![0, 22], vec![0, 80]];
        if reverse {
            keys.reverse();
        }
        let mut ruleset = one_rule(rule);
        ruleset.tables[0].sets.push(Set::anonymous(name, set::INET_SERVICE, keys));
        ruleset
    };
    let wanted = ruleset("ports", 0, 1, false);
    assert_eq!(wanted.canonical(), ruleset("__set7", 9, 2, true).canonical());
    let mut other = ruleset("ports", 0, 1, false);
    other.tables[0].sets[0].elements[0].key = vec![0, 23];
    assert_ne!(wanted.canonical(), other.canonical());
}

#[test]
fn a_long_set_is_sent_in_several_messages_and_read_back_whole() {
    let keys = (0..5000u32).map(|number| number.to_be_bytes().to_vec()).collect();
    let mut long = Set::anonymous("long", set::IPV4_ADDR, keys);
    long.flags = 0;
    let ruleset = Ruleset { tables: vec![table(Vec::new(), vec![long])] };
    let batch = Batch::replace(&ruleset, &Ruleset::default(), None, 1).unwrap();
    assert!(Messages(batch.bytes()).filter(|message| message.kind == 0xa0c).count() > 1);
    assert_eq!(read_back(&batch), ruleset);
}

/// What a dump would say after this transaction, as far as it says the same as the transaction.
fn read_back(batch: &Batch) -> Ruleset {
    let mut dump = Dump::new(Filter::default());
    Messages(batch.bytes()).for_each(|message| dump.add(&message));
    dump.finish()
}

fn bytes(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), length)
}

fn max(register: Option<u32>, max: Option<u32>) -> Option<u32> {
    max.filter(|_| max != register)
}

fn loads() -> impl Strategy<Value = Expr> {
    let n = any::<u32>;
    prop_oneof![
        (n(), n()).prop_map(|(key, dreg)| Expr::Meta { key, dreg }),
        (n(), n()).prop_map(|(key, sreg)| Expr::MetaSet { key, sreg }),
        (n(), n(), length(), n()).prop_map(|(base, offset, len, dreg)| Expr::Payload {
            base,
            offset,
            len,
            dreg
        }),
        (n(), n(), length(), n(), n(), n(), n()).prop_map(
            |(base, offset, len, sreg, csum_type, csum_offset, csum_flags)| {
                Expr::PayloadSet { base, offset, len, sreg, csum_type, csum_offset, csum_flags }
            }
        ),
        (n(), n(), any::<Option<u8>>()).prop_map(|(key, dreg, direction)| Expr::Ct {
            key,
            dreg,
            direction
        }),
        (n(), n(), any::<Option<u8>>()).prop_map(|(key, sreg, direction)| Expr::CtSet {
            key,
            sreg,
            direction
        }),
        (n(), n(), n()).prop_map(|(dreg, result, flags)| Expr::Fib { dreg, result, flags }),
        (n(), n()).prop_map(|(key, dreg)| Expr::Rt { key, dreg }),
        (extension(), n()).prop_map(|(field, dreg)| Expr::Exthdr { field, dreg }),
        (extension(), n()).prop_map(|(field, sreg)| Expr::ExthdrSet { field, sreg }),
        any::<u8>().prop_map(|kind| Expr::ExthdrReset {
            field: Extension { space: 1, kind, offset: 0, len: 0, flags: 0 }
        }),
        (n(), data()).prop_map(|(dreg, data)| Expr::Immediate { dreg, data }),
    ]
}

/// Octets of a value.
fn length() -> impl Strategy<Value = u32> {
    0..=64_u32
}

fn extension() -> impl Strategy<Value = Extension> {
    (any::<u32>(), any::<u8>(), any::<u32>(), length(), any::<u32>())
        .prop_map(|(space, kind, offset, len, flags)| Extension { space, kind, offset, len, flags })
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![
        bytes(0..20).prop_map(Data::Value),
        prop_oneof![
            Just(Verdict::Drop),
            Just(Verdict::Accept),
            Just(Verdict::Continue),
            Just(Verdict::Return),
            "[a-z]{0,8}".prop_map(Verdict::Jump),
            "[a-z]{0,8}".prop_map(Verdict::Goto),
            (2..i32::MAX).prop_map(Verdict::Code),
        ]
        .prop_map(Data::Verdict),
    ]
}

fn matches() -> impl Strategy<Value = Expr> {
    let n = any::<u32>;
    let op = prop_oneof![
        Just(CmpOp::Eq),
        Just(CmpOp::Neq),
        Just(CmpOp::Lt),
        Just(CmpOp::Lte),
        Just(CmpOp::Gt),
        Just(CmpOp::Gte)
    ];
    prop_oneof![
        (n(), op, bytes(0..20)).prop_map(|(sreg, op, data)| Expr::Cmp { sreg, op, data }),
        (n(), any::<bool>(), bytes(0..9), bytes(0..9))
            .prop_map(|(sreg, inverted, from, to)| Expr::Range { sreg, inverted, from, to }),
        (n(), n(), length(), bytes(0..9), bytes(0..9))
            .prop_map(|(sreg, dreg, len, mask, xor)| Expr::Bitwise { sreg, dreg, len, mask, xor }),
        (n(), n(), any::<bool>(), length(), n()).prop_map(|(sreg, dreg, hton, len, size)| {
            Expr::Byteorder { sreg, dreg, hton, len, size }
        }),
        ("[a-z]{1,9}", n(), any::<Option<u32>>(), any::<bool>())
            .prop_map(|(set, sreg, dreg, inverted)| { Expr::Lookup { set, sreg, dreg, inverted } }),
    ]
}

fn actions() -> impl Strategy<Value = Expr> {
    let n = any::<u32>;
    let some = any::<Option<u32>>;
    let flags = || any::<u32>().prop_map(|flags| flags & !3);
    prop_oneof![
        (any::<u64>(), any::<u64>()).prop_map(|(packets, bytes)| Expr::Counter { packets, bytes }),
        (any::<bool>(), n(), some(), some(), some(), some(), flags()).prop_map(
            |(dnat, family, addr, a, port, p, flags)| {
                let kind = if dnat { NatKind::Dnat } else { NatKind::Snat };
                Expr::Nat {
                    kind,
                    family,
                    addr,
                    addr_max: max(addr, a),
                    port,
                    port_max: max(port, p),
                    flags,
                }
            }
        ),
        (some(), some(), flags()).prop_map(|(port, to, flags)| Expr::Masquerade {
            port,
            port_max: max(port, to),
            flags
        }),
        (some(), some(), flags()).prop_map(|(port, to, flags)| Expr::Redirect {
            port,
            port_max: max(port, to),
            flags
        }),
        (any::<u64>(), any::<u64>(), n(), any::<bool>(), any::<bool>()).prop_map(
            |(rate, unit_secs, burst, by_bytes, over)| Expr::Limit {
                rate,
                unit_secs,
                burst,
                by_bytes,
                over
            }
        ),
        (
            proptest::option::of("[a-z]{0,9}"),
            any::<Option<u16>>(),
            some(),
            any::<Option<u16>>(),
            some(),
            some()
        )
            .prop_map(|(prefix, group, snaplen, threshold, level, flags)| {
                Expr::Log { prefix, group, snaplen, threshold, level, flags }
            }),
        (n(), any::<Option<u8>>()).prop_map(|(kind, code)| Expr::Reject { kind, code }),
        Just(Expr::Notrack),
        (n(), "[a-z]{0,9}").prop_map(|(kind, name)| Expr::Objref { kind, name }),
        ("x[a-z]{0,9}", bytes(0..40)).prop_map(|(name, bytes)| Expr::Unknown { name, bytes }),
    ]
}

fn rules() -> impl Strategy<Value = Rule> {
    let expr = prop_oneof![loads(), matches(), actions()];
    (proptest::collection::vec(expr, 0..12), "[a-z ]{0,20}")
        .prop_map(|(exprs, comment)| Rule::new(exprs, &comment))
}

/// They are the kernel's to give, and never sent.
fn without_handles(mut ruleset: Ruleset) -> Ruleset {
    for table in &mut ruleset.tables {
        table.handle = Handle::default();
        table.sets.iter_mut().for_each(|set| set.handle = Handle::default());
        table.objects.iter_mut().for_each(|object| object.handle = Handle::default());
        table.flowtables.iter_mut().for_each(|flowtable| flowtable.handle = Handle::default());
        for chain in &mut table.chains {
            chain.handle = Handle::default();
            chain.rules.iter_mut().for_each(|rule| rule.handle = Handle::default());
        }
    }
    ruleset
}

proptest! {
    #[test]
    fn what_is_sent_is_what_is_read(rule in rules()) {
        let ruleset = one_rule(rule);
        let batch = Batch::replace(&ruleset, &Ruleset::default(), Some(1), 1).unwrap();
        prop_assert_eq!(read_back(&batch), ruleset);
    }

    #[test]
    fn spoiled_bytes_are_read_rendered_and_sent_again_the_same(
        rule in rules(),
        spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut writer = Writer::new();
        writer.message(Header { kind: 0xa06, family: 1, ..Header::default() }, |w| {
            w.text(1, "berth");
            w.text(2, "prerouting");
            w.nest(4, |w| rule.exprs.iter().for_each(|expr| expr.encode(&SetIds::new(), w)));
            w.bytes(7, &rule.userdata.0);
        });
        let mut message = writer.into_bytes();
        for (at, byte) in spoils {
            let at = at.index(message.len());
            message[at] = byte;
        }
        let skeleton = one_rule(Rule::default());
        let batch = Batch::replace(&skeleton, &Ruleset::default(), None, 1).unwrap();
        let mut dump = Dump::new(Filter::default());
        Messages(batch.bytes()).chain(Messages(&message)).for_each(|message| dump.add(&message));
        let mut found = without_handles(dump.finish());
        let _ = (found.to_string(), found.canonical());
        // A spoiled kind of message can be that of a flow table, which is told, not made.
        found.tables.iter_mut().for_each(|table| table.flowtables.clear());
        let again = Batch::replace(&found, &Ruleset::default(), None, 1).unwrap();
        prop_assert_eq!(read_back(&again), found);
    }

    #[test]
    fn any_attributes_can_be_read_as_any_object(kind in 0u8..32, attributes in bytes(0..300)) {
        let batch = Batch::replace(&one_rule(dnat_rule()), &Ruleset::default(), None, 1).unwrap();
        let mut writer = Writer::new();
        let header = Header { kind: 0xa00 | u16::from(kind), family: 1, ..Header::default() };
        writer.message(header, |w| {
            w.text(1, "berth");
            w.raw(&attributes);
        });
        let message = writer.into_bytes();
        let mut dump = Dump::new(Filter::default());
        Messages(batch.bytes()).chain(Messages(&message)).for_each(|message| dump.add(&message));
        let _ = dump.set_requests(1);
        let found = dump.finish();
        let _ = (found.to_string(), found.canonical(), Batch::replace(&found, &Ruleset::default(), None, 1));
        let _ = Expr::decode(Attributes(&attributes)) == Expr::verdict(Verdict::Drop);
        let _ = Userdata(attributes).as_comment();
        prop_assert!(VERDICT == 0);
    }
}
