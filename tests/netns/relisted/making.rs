//! Rulesets by chance as text for `nft -f`, a line for each thing, so that one that nft refuses can be left out.

use super::fields::{Field, Packet, TRANSPORTS, fields};
use super::values::{KINDS, Kind};
use crate::support::dice::Dice;

const FAMILIES: [&str; 6] = ["inet", "ip", "ip6", "bridge", "netdev", "arp"];
const COMMENTS: [&str; 4] = ["a b", "it's 5 * 2 = 10", "UTF-8: \u{e4}\u{20ac}", "back\\slash"];

/// A set or map that rules may use.
#[derive(Debug, Clone)]
struct Made {
    name: String,
    key: Vec<Kind>,
    data: Option<Data>,
    dynamic: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Data {
    Verdict,
    Values(Vec<Kind>),
    Object(&'static str),
}

pub struct Maker {
    dice: Dice,
    family: &'static str,
    /// All of the family, and those that what is being made may have.
    all: Vec<Field>,
    fields: Vec<Field>,
    made: Vec<Made>,
    pub lines: Vec<String>,
}

const SETS: usize = 24;
const RULES: usize = 60;

/// The lines of a table with sets, and rules that use them or not.
pub fn ruleset(seed: u64) -> Vec<String> {
    let mut dice = Dice::new(seed);
    let family = FAMILIES[usize::try_from(seed % 6).unwrap_or(0)];
    // Half of all rules are written for inet tables.
    let family = if dice.chance(25) { "inet" } else { family };
    let all = fields(family);
    let mut maker =
        Maker { dice, family, fields: all.clone(), all, made: Vec::new(), lines: Vec::new() };
    maker.frame();
    for number in 0..SETS {
        maker.one_packet();
        maker.set(number);
    }
    for _ in 0..RULES {
        maker.one_packet();
        maker.rule();
    }
    maker.lines
}

impl Maker {
    fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    fn frame(&mut self) {
        let family = self.family;
        self.say(format!("add table {family} t"));
        for chain in ["sub", "other"] {
            self.say(format!("add chain {family} t {chain}"));
        }
        let (hook, priority, device) = match family {
            "netdev" => ("ingress", "0", "device \"lo\" "),
            "arp" => ("input", "0", ""),
            _ => ("input", "filter", ""),
        };
        self.say(format!(
            "add chain {family} t c {{ type filter hook {hook} {device}priority {priority}; }}"
        ));
        if matches!(family, "ip" | "ip6" | "inet") {
            self.say(format!(
                "add chain {family} t pre {{ type nat hook prerouting priority dstnat; }}"
            ));
            self.say(format!(
                "add chain {family} t post {{ type nat hook postrouting priority srcnat; }}"
            ));
            self.say(format!(
                "add chain {family} t route {{ type route hook output priority mangle; }}"
            ));
            self.say(format!("add ct helper {family} t h1 {{ type \"ftp\" protocol tcp; }}"));
            self.say(format!("add ct timeout {family} t ct1 {{ protocol tcp; l3proto ip; policy = {{ established : 132, close : 14 }}; }}"));
            self.say(format!("add ct expectation {family} t ce1 {{ protocol tcp; dport 9876; timeout 1m; size 12; l3proto ip; }}"));
            self.say(format!(
                "add synproxy {family} t sp1 {{ mss 1460; wscale 2; timestamp sack-perm; }}"
            ));
        }
        self.say(format!("add counter {family} t cnt1 {{ packets 5 bytes 7; }}"));
        self.say(format!("add quota {family} t q1 {{ over 25 mbytes used 2 kbytes; }}"));
        self.say(format!(
            "add limit {family} t l1 {{ rate over 5 mbytes/second burst 3 kbytes; }}"
        ));
    }

    /// From here on the fields are those of one kind of packet; seldom of any.
    fn one_packet(&mut self) {
        let networks: &[&str] = match self.family {
            "ip" => &["ip"],
            "ip6" => &["ip6"],
            "arp" => &["arp"],
            "inet" => &["ip", "ip6", "ip", "ip6", "vlan"],
            _ => &["ip", "ip6", "arp", "vlan"],
        };
        let packet = Packet {
            network: self.dice.one::<&str>(networks),
            transport: self.dice.one::<&str>(&TRANSPORTS),
        };
        self.fields = self.all.iter().filter(|field| packet.has(field)).copied().collect();
    }

    fn kind(&mut self) -> Kind {
        self.dice.one(KINDS)
    }

    /// One kind, or several side by side.
    fn kinds(&mut self) -> Vec<Kind> {
        let count = if self.dice.chance(55) { 1 } else { 2 + self.dice.below(3) };
        (0..count).map(|_| self.kind()).collect()
    }

    fn set(&mut self, number: usize) {
        let by_expressions = self.dice.chance(45);
        let (words, key) = if by_expressions {
            let fields = if self.dice.chance(60) { vec![self.field()] } else { self.concat() };
            let words = fields.iter().map(|field| field.text).collect::<Vec<_>>().join(" . ");
            (format!("typeof {words}"), fields.iter().map(|field| field.kind).collect::<Vec<_>>())
        } else {
            let key = self.kinds();
            let words = key.iter().map(|kind| kind.name).collect::<Vec<_>>().join(" . ");
            (format!("type {words}"), key)
        };
        let data = self.dice.chance(45).then(|| self.data(by_expressions));
        let interval = self.dice.chance(45) && has_intervals(&key);
        let ranges_in_data = interval
            && matches!(&data, Some(Data::Values(kinds)) if kinds.len() == 1 && kinds[0].has_order())
            && !by_expressions
            && self.dice.chance(30);
        let words = match &data {
            None => words,
            Some(data) => {
                let data = match data {
                    Data::Verdict => "verdict".to_owned(),
                    Data::Object(word) => (*word).to_owned(),
                    Data::Values(kinds) if by_expressions => match self.expression_of(kinds) {
                        Some(text) => text,
                        None => return,
                    },
                    Data::Values(kinds) => {
                        kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(" . ")
                    }
                };
                format!("{words} : {}{data}", if ranges_in_data { "interval " } else { "" })
            }
        };
        let mut parts = vec![words];
        let mut flags = Vec::new();
        let timeout = self.dice.chance(20);
        let dynamic = !interval && self.dice.chance(20);
        let mut counter = !matches!(data, Some(Data::Object(_))) && self.dice.chance(15);
        if interval {
            flags.push("interval");
        }
        if timeout {
            flags.push("timeout");
        }
        if dynamic {
            flags.push("dynamic");
            parts.push("size 128".to_owned());
        }
        if !dynamic && !timeout && self.dice.chance(8) {
            flags.push("constant");
        }
        if !flags.is_empty() {
            parts.push(format!("flags {}", flags.join(",")));
        }
        if timeout && self.dice.chance(50) {
            parts.push("timeout 1d".to_owned());
        }
        if self.dice.chance(8) {
            parts.push("policy memory".to_owned());
        }
        if counter {
            parts.push("counter".to_owned());
        }
        if interval && self.dice.chance(10) && data.is_none() {
            parts.push("auto-merge".to_owned());
            counter = false;
        }
        if self.dice.chance(15) {
            parts.push(format!("comment \"{}\"", self.dice.one(&COMMENTS)));
        }
        let elements =
            self.elements(&key, interval, data.as_ref(), ranges_in_data, timeout, counter);
        parts.push(format!("elements = {{ {} }}", elements.join(", ")));
        let word = if data.is_some() { "map" } else { "set" };
        let name = format!("s{number}");
        self.say(format!("add {word} {} t {name} {{ {}; }}", self.family, parts.join("; ")));
        self.made.push(Made { name, key, data, dynamic });
    }

    /// An expression of those kinds, for `typeof`.
    fn expression_of(&mut self, kinds: &[Kind]) -> Option<String> {
        let texts = kinds.iter().map(|kind| {
            let known: Vec<Field> =
                self.fields.iter().filter(|field| field.kind == *kind).copied().collect();
            (!known.is_empty()).then(|| self.dice.one(&known).text)
        });
        Some(texts.collect::<Option<Vec<_>>>()?.join(" . "))
    }

    fn data(&mut self, by_expressions: bool) -> Data {
        match self.dice.below(10) {
            0..3 => Data::Verdict,
            3 if !by_expressions => {
                Data::Object(self.dice.one::<&str>(&["counter", "quota", "limit"]))
            }
            4..6 => Data::Values(vec![self.dice.one(&[KINDS[0], KINDS[1], KINDS[5]])]),
            _ => Data::Values(self.kinds()),
        }
    }

    fn elements(
        &mut self,
        key: &[Kind],
        interval: bool,
        data: Option<&Data>,
        ranges_in_data: bool,
        timeout: bool,
        counter: bool,
    ) -> Vec<String> {
        let interval = interval && has_intervals(key);
        let max = key.iter().map(|kind| kind.slots()).max().unwrap_or(1);
        // A set of one is no set to nft: it compares.
        let count = (2 + self.dice.below(max)).min(max);
        let mut elements = Vec::new();
        for slot in 0..count {
            let mut text = self.key(key, interval, slot);
            if data.is_some() && slot > 0 && slot + 1 == count && self.dice.chance(8) {
                "*".clone_into(&mut text);
            }
            if counter && self.dice.chance(60) {
                text += " counter packets 3 bytes 180";
            }
            if timeout && self.dice.chance(50) {
                text += self.dice.one(&[" timeout 5h", " timeout 30d", " timeout 1d1h1m1s"]);
            }
            if self.dice.chance(12) {
                text += &format!(" comment \"{}\"", self.dice.one(&COMMENTS));
            }
            if let Some(data) = data {
                text += " : ";
                text += &self.datum(data, ranges_in_data, slot);
            }
            elements.push(text);
        }
        elements
    }

    fn key(&mut self, key: &[Kind], interval: bool, slot: usize) -> String {
        let parts: Vec<String> = key
            .iter()
            .map(|kind| {
                if interval && self.dice.chance(50) {
                    kind.wide(&mut self.dice, slot)
                } else {
                    kind.value(&mut self.dice, slot)
                }
            })
            .collect();
        parts.join(" . ")
    }

    fn datum(&mut self, data: &Data, ranges: bool, slot: usize) -> String {
        match data {
            Data::Verdict => self.verdict(),
            Data::Object("counter") => "\"cnt1\"".to_owned(),
            Data::Object("quota") => "\"q1\"".to_owned(),
            Data::Object(_) => "\"l1\"".to_owned(),
            Data::Values(kinds) => self.key(kinds, ranges, slot),
        }
    }

    fn verdict(&mut self) -> String {
        (self.dice.one(&["accept", "drop", "continue", "return", "jump sub", "goto other"]))
            .to_owned()
    }

    fn rule(&mut self) {
        let chains: &[&str] = match self.family {
            "ip" | "ip6" | "inet" => &["c", "c", "c", "c", "sub", "pre", "post", "route"],
            _ => &["c", "c", "sub"],
        };
        let chain = self.dice.one(chains);
        let mut words = Vec::new();
        for _ in 0..self.dice.below(4) {
            let found = self.matched();
            words.push(found);
            if self.dice.chance(8) {
                let plain = self.plain();
                words.push(plain);
            }
        }
        for _ in 0..self.dice.below(3) {
            let plain = self.plain();
            words.push(plain);
        }
        if words.is_empty() || self.dice.chance(70) {
            let last = if chain == "sub" {
                self.dice.one(&["accept", "return", "goto other"]).to_string()
            } else {
                self.last(chain)
            };
            words.push(last);
        }
        if self.dice.chance(10) {
            words.push(format!("comment \"{}\"", self.dice.one(&COMMENTS)));
        }
        self.say(format!("add rule {} t {chain} {}", self.family, words.join(" ")));
    }

    fn field(&mut self) -> Field {
        self.dice.one(&self.fields)
    }

    fn constant(&mut self, field: Field) -> String {
        let slot = self.dice.below(8);
        field.kind.value(&mut self.dice, slot)
    }

    fn matched(&mut self) -> String {
        let field = self.field();
        let (text, kind) = (field.text, field.kind);
        let not = if self.dice.chance(25) { "!= " } else { "" };
        match self.dice.below(14) {
            0..3 => format!("{text} {not}{}", self.constant(field)),
            3 if kind.has_order() => {
                let sign = self.dice.one(&["<", "<=", ">", ">="]);
                format!("{text} {sign} {}", self.constant(field))
            }
            4 if kind.has_order() => {
                let slot = self.dice.below(8);
                format!("{text} {not}{}", kind.wide(&mut self.dice, slot))
            }
            5 => match kind.bits() {
                Some(bits) if bits >= 8 => {
                    let mask = (1u64 << self.dice.below(8)) | (1 << (bits - 1));
                    let sign = self.dice.one(&["==", "!="]);
                    format!(
                        "{text} & {mask:#x} {sign} {:#x}",
                        if self.dice.chance(50) { mask } else { 0 }
                    )
                }
                _ => self.flags(field),
            },
            6 if kind.name == "ifname" => format!("{text} {not}\"eth*\""),
            6 => self.flags(field),
            7 => match self.named(|made| made.key == [kind] && made.data.is_none()) {
                Some(made) => format!("{text} {not}@{}", made.name),
                None => format!("{text} {not}{}", self.constant(field)),
            },
            8..11 => {
                let key = self.concat();
                let kinds: Vec<Kind> = key.iter().map(|field| field.kind).collect();
                let interval = self.dice.chance(50);
                let elements = self.elements(&kinds, interval, None, false, false, false);
                format!("{} {not}{{ {} }}", texts(&key), elements.join(", "))
            }
            11 => match self
                .named(|made| made.data.is_none())
                .and_then(|made| Some((self.fields_of(&made.key)?, made)))
            {
                Some((key, made)) => format!("{key} {not}@{}", made.name),
                None => format!("{text} {not}{}", self.constant(field)),
            },
            _ => {
                let interval = self.dice.chance(40);
                let elements = self.elements(&[kind], interval, None, false, false, false);
                format!("{text} {not}{{ {} }}", elements.join(", "))
            }
        }
    }

    fn concat(&mut self) -> Vec<Field> {
        let count = 2 + self.dice.below(3);
        let fields = (0..count).map(|_| self.field());
        fields.filter(|field| !field.kind.is_text()).collect()
    }

    fn flags(&mut self, field: Field) -> String {
        let text = field.text;
        let words: &[&str] = match field.kind.name {
            "tcp_flag" => &["syn", "ack", "fin", "rst", "urg"],
            "ct_state" => &["new", "established", "related", "invalid"],
            "ct_status" => &["snat", "dnat", "assured"],
            _ => return format!("{text} {}", self.constant(field)),
        };
        let (one, two, three) = (self.dice.one(words), self.dice.one(words), self.dice.one(words));
        match self.dice.below(7) {
            0 => format!("{text} {one},{two}"),
            1 => format!("{text} ! {one},{two}"),
            2 => format!("{text} & ({one} | {two}) == {one}"),
            3 => format!("{text} & ({one} | {two} | {three}) != ({one} | {two})"),
            4 => format!("{text} {one} / {one},{two}"),
            5 => format!("{text} & ({one} | {two} | {three}) == {{ {one}, {two} }}"),
            _ => format!("{text} {{ {one}, {two} | {three} }}"),
        }
    }

    fn named(&mut self, wanted: impl Fn(&Made) -> bool) -> Option<Made> {
        let fitting: Vec<&Made> = self.made.iter().filter(|made| wanted(made)).collect();
        if fitting.is_empty() { None } else { Some((self.dice.one(&fitting)).clone()) }
    }

    /// Fields whose values a key of those kinds is made of.
    fn fields_of(&mut self, kinds: &[Kind]) -> Option<String> {
        self.expression_of(kinds)
    }

    /// Statements that may stand anywhere.
    fn plain(&mut self) -> String {
        let field = self.field();
        match self.dice.below(22) {
            0..4 => "counter".to_owned(),
            4 => "counter packets 12 bytes 1433".to_owned(),
            5 => (self.dice.one(&[
                "limit rate 5/second",
                "limit rate over 400/hour burst 7 packets",
                "limit rate 3 kbytes/second burst 2 mbytes",
                "limit rate over 10/week burst 5 packets",
            ]))
            .to_owned(),
            6 => (self.dice.one(&[
                "quota 500 mbytes",
                "quota over 25 kbytes used 3 kbytes",
                "quota name \"q1\"",
            ]))
            .to_owned(),
            7 => (self.dice.one(&[
                "ct count 5",
                "ct count over 20",
                "limit name \"l1\"",
                "counter name \"cnt1\"",
                "last",
                "notrack",
            ]))
            .to_owned(),
            8 => (self.dice.one(&[
                "log",
                "log prefix \"a: \"",
                "log level info flags all",
                "log group 5 snaplen 100 queue-threshold 3",
                "log flags tcp sequence,options flags ip options",
                "log level audit",
                "log prefix \"x\" flags skuid flags ether level debug",
            ]))
            .to_owned(),
            9..12 => {
                let settable: Vec<Field> =
                    self.fields.iter().filter(|field| field.settable).copied().collect();
                let target = self.dice.one(&settable);
                format!("{} set {}", target.text, self.constant(target))
            }
            12 => {
                let mark = if self.dice.chance(50) { "meta mark" } else { "ct mark" };
                let how = self.dice.one(&[
                    "& 0xff",
                    "| 0x10",
                    "^ 0x5",
                    "& 0xffffff0f | 0x20",
                    "<< 8",
                    ">> 2",
                    "and 0xff or 0x100 xor 0x1",
                ]);
                format!("{mark} set {mark} {how}")
            }
            13..16 => {
                let mark = self.dice.one(&["meta mark", "ct mark", "meta priority", "ct zone"]);
                let kind = match mark {
                    "meta priority" => super::values::kind_of("classid"),
                    "ct zone" => Kind { name: "", shape: super::values::Shape::Number(16, &[]) },
                    _ => KINDS[5],
                };
                let key = if self.dice.chance(50) { vec![field] } else { self.concat() };
                let kinds: Vec<Kind> = key.iter().map(|field| field.kind).collect();
                let interval = self.dice.chance(40);
                let elements = self.elements(
                    &kinds,
                    interval,
                    Some(&Data::Values(vec![kind])),
                    false,
                    false,
                    false,
                );
                format!("{mark} set {} map {{ {} }}", texts(&key), elements.join(", "))
            }
            16 => match self
                .named(|made| made.data == Some(Data::Values(vec![KINDS[5]])))
                .and_then(|made| Some((self.fields_of(&made.key)?, made)))
            {
                Some((key, made)) => format!("meta mark set {key} map @{}", made.name),
                None => "counter".to_owned(),
            },
            17..19 => match self
                .named(|made| made.dynamic && made.data.is_none())
                .and_then(|made| Some((self.fields_of(&made.key)?, made)))
            {
                Some((key, made)) => {
                    let more = self.dice.one(&[
                        "",
                        " timeout 30s",
                        " counter",
                        " timeout 1m30s limit rate 5/second",
                    ]);
                    format!(
                        "{} @{} {{ {key}{more} }}",
                        self.dice.one(&["add", "update", "delete"]),
                        made.name
                    )
                }
                None => "counter".to_owned(),
            },
            19 => match self
                .named(|made| made.dynamic && matches!(made.data, Some(Data::Values(_))))
                .and_then(|made| {
                    let Some(Data::Values(data)) = &made.data else { return None };
                    Some((self.fields_of(&made.key)?, self.fields_of(data)?, made))
                }) {
                Some((key, data, made)) => {
                    let word = self.dice.one(&["add", "update"]);
                    let more = self.dice.one(&["", " timeout 30s"]);
                    format!("{word} @{} {{ {key}{more} : {data} }}", made.name)
                }
                None => "counter".to_owned(),
            },
            20 => (self.dice.one(&[
                "ct helper set \"h1\"",
                "ct timeout set \"ct1\"",
                "ct expectation set \"ce1\"",
                "ct event set new,related",
                "ct zone set 5",
                "ct original zone set 7",
                "meta nftrace set 1",
                "tcp option maxseg size set rt mtu",
                "reset tcp option sack-perm",
                "meta mark set jhash ip saddr mod 2 seed 0xdeadbeef",
                "meta mark set numgen inc mod 2 offset 5",
                "meta mark set symhash mod 8",
                "meter m1 { ip saddr limit rate 5/second }",
                "meter m2 size 100 { ip saddr . tcp dport timeout 1m counter }",
            ]))
            .to_owned(),
            _ => {
                let word = self.dice.one(&["counter", "quota", "limit"]);
                let key = if self.dice.chance(70) { vec![field] } else { self.concat() };
                let kinds: Vec<Kind> = key.iter().map(|field| field.kind).collect();
                let elements =
                    self.elements(&kinds, false, Some(&Data::Object(word)), false, false, false);
                format!("{word} name {} map {{ {} }}", texts(&key), elements.join(", "))
            }
        }
    }

    /// A verdict, or what ends a rule.
    fn last(&mut self, chain: &str) -> String {
        if matches!(chain, "pre" | "post") && self.dice.chance(75) {
            return self.nat(chain == "pre");
        }
        let field = self.field();
        match self.dice.below(12) {
            0..4 => self.verdict(),
            4 => (self.dice.one(&[
                "reject",
                "reject with tcp reset",
                "reject with icmp host-unreachable",
                "reject with icmpv6 no-route",
                "reject with icmpx admin-prohibited",
            ]))
            .to_owned(),
            5..7 => {
                let key = if self.dice.chance(60) { vec![field] } else { self.concat() };
                let kinds: Vec<Kind> = key.iter().map(|field| field.kind).collect();
                let interval = self.dice.chance(40);
                let elements =
                    self.elements(&kinds, interval, Some(&Data::Verdict), false, false, false);
                format!("{} vmap {{ {} }}", texts(&key), elements.join(", "))
            }
            7..9 => match self
                .named(|made| made.data == Some(Data::Verdict))
                .and_then(|made| Some((self.fields_of(&made.key)?, made)))
            {
                Some((key, made)) => format!("{key} vmap @{}", made.name),
                None => self.verdict(),
            },
            9 => (self.dice.one(&[
                "queue",
                "queue to 5",
                "queue flags bypass,fanout to 1-3",
                "queue to numgen inc mod 4",
                "synproxy mss 1460 wscale 7 timestamp sack-perm",
                "synproxy name \"sp1\"",
                "fwd to \"lo\"",
                "dup to \"lo\"",
                "dup to 10.1.2.3",
                "dup to 10.1.2.3 device \"lo\"",
                "fwd ip to 10.1.2.3 device \"lo\"",
                "tproxy ip to 10.1.2.3:50080",
                "tproxy to :50080",
            ]))
            .to_owned(),
            10 => {
                let (one, two) = (self.matched(), self.verdict());
                let three = self.verdict();
                format!("{} {{ {one} {two}; {three}; }}", self.dice.one(&["jump", "goto"]))
            }
            _ => self.verdict(),
        }
    }

    fn nat(&mut self, pre: bool) -> String {
        let verb = if pre { "dnat" } else { "snat" };
        let six = self.family == "ip6" || self.family == "inet" && self.dice.chance(40);
        let word = match (self.family, six) {
            ("inet", true) => " ip6",
            ("inet", false) => " ip",
            _ => "",
        };
        let slot = self.dice.below(8);
        let kind = if six { KINDS[1] } else { KINDS[0] };
        let addr = kind.value(&mut self.dice, slot);
        let flags = self.dice.one(&["", "", " random", " persistent", " fully-random,persistent"]);
        match self.dice.below(9) {
            0 => format!("{verb}{word} to {addr}{flags}"),
            1 if six => format!("meta l4proto tcp {verb}{word} to [{addr}]:80{flags}"),
            1 => format!("meta l4proto tcp {verb}{word} to {addr}:80-90{flags}"),
            2 => format!("meta l4proto {{ tcp, udp }} {verb} to :443"),
            3 => format!("{verb}{word} to {}", kind.wide(&mut self.dice, slot)),
            4 => {
                format!("{verb}{word} prefix to {}", if six { "fd01::/64" } else { "10.9.0.0/16" })
            }
            5 if pre => format!(
                "{} redirect to :{}",
                self.dice.one(&["tcp dport 22", "ip protocol tcp", "meta l4proto udp"]),
                1 + self.dice.below(65000)
            ),
            5 => format!("masquerade{flags}"),
            6 if pre => {
                "ip protocol tcp redirect to :tcp dport map { 22 : 8000, 80 : 8080 }".to_owned()
            }
            6 => "meta l4proto tcp masquerade to :1024-2048".to_owned(),
            7 => {
                let keys =
                    ["ip saddr", "ip6 saddr", "tcp dport", "meta mark", "meta iifname", "ct mark"];
                let keys: Vec<Field> = self
                    .fields
                    .iter()
                    .filter(|field| keys.contains(&field.text))
                    .copied()
                    .collect();
                let key = self.dice.one(&keys);
                let elements = self.elements(
                    &[key.kind],
                    false,
                    Some(&Data::Values(vec![kind])),
                    false,
                    false,
                    false,
                );
                format!("{verb}{word} to {} map {{ {} }}", key.text, elements.join(", "))
            }
            _ => match self
                .named(|made| made.data == Some(Data::Values(vec![kind])))
                .and_then(|made| Some((self.fields_of(&made.key)?, made)))
            {
                Some((key, made)) => format!("{verb}{word} to {key} map @{}", made.name),
                None => format!("{verb}{word} to {addr}"),
            },
        }
    }
}

fn has_intervals(key: &[Kind]) -> bool {
    !key.iter().any(|kind| {
        kind.name == "boolean"
            || kind.is_bits()
            || kind.is_text()
            || key.len() > 1 && kind.is_narrow()
    })
}

fn texts(fields: &[Field]) -> String {
    fields.iter().map(|field| field.text).collect::<Vec<_>>().join(" . ")
}
