//! Rulesets in the syntax of nft(8), as `nft list` of nft 1.0.6 prints them.
//!
//! Byte for byte the same for what nft has words for; what it has none for is shown raw (`@nh,64,8`,
//! `<name 0x…>`) rather than left out.

mod object;
mod plain;
mod statement;
mod time;
mod value;
mod xt;

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::expr::Verdict;
use super::names::Type;
use super::names::words::{OBJECTS, SET_FLAGS, TABLE_FLAGS, Words, bit_words, word};
use super::syntax::{Field, Statement, declared, elements_of, key_parts, statements};
use super::{
    Chain, DataType, Family, Flowtable, Hook, Policy, Rule, Ruleset, Set, Table, hook, set,
};

use plain::plain;
use time::duration;

pub use object::{ct_timeout_states, family_word, protocol_word};
pub use statement::reject_words;
pub use time::date;
pub use value::{Names, Numbers, words};

/// How a listing is written.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// With handles (`-a`).
    pub handles: bool,
    /// Numbers instead of words (`-n`).
    pub numeric: bool,
    /// … of some kinds only.
    pub numbers: Numbers,
    /// Words where there are numbers else.
    pub names: Names,
    /// Without what counts (`-s`).
    pub stateless: bool,
    /// Without the elements of sets that have a name (`-t`).
    pub terse: bool,
    /// Names of interfaces by index; one that is not here is a number.
    pub interfaces: BTreeMap<u32, String>,
    /// Of the table that is being written.
    pub family: Option<Family>,
    /// Tabs before what is being written, where rules stand on lines of their own.
    pub depth: Option<usize>,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::INET => "inet",
            Self::IP => "ip",
            Self::ARP => "arp",
            Self::NETDEV => "netdev",
            Self::BRIDGE => "bridge",
            Self::IP6 => "ip6",
            Self(number) => return write!(f, "family{number}"),
        };
        f.write_str(name)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("drop"),
            Self::Accept => f.write_str("accept"),
            Self::Continue => f.write_str("continue"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Code(code) => write!(f, "<verdict {code}>"),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Style::default().table(self))
    }
}

impl Ruleset {
    /// All tables, as `nft list ruleset` prints them.
    pub fn text(&self, style: &Style) -> String {
        self.tables.iter().map(|table| style.table(table)).collect()
    }
}

impl Table {
    /// One rule as a line of nft.
    pub fn rule_text(&self, rule: &Rule) -> String {
        Style::default().rule(self, rule)
    }
}

impl Style {
    fn numeric_priority(&self) -> bool {
        self.numeric || self.numbers.priority
    }

    fn numeric_time(&self) -> bool {
        self.numeric || self.numbers.time
    }

    pub(super) fn hides_elements(&self, found: &Set) -> bool {
        self.terse || self.stateless && found.flags & set::DYNAMIC != 0
    }

    /// For what is in a table.
    pub(crate) fn in_table(&self, table: &Table) -> Self {
        Self { family: Some(table.family), ..self.clone() }
    }

    /// The same where rules stand on lines of their own, in their chain.
    fn in_listing(&self, table: &Table) -> Self {
        Self { depth: Some(2), ..self.in_table(table) }
    }

    /// One rule as a line, without its handle.
    pub fn rule(&self, table: &Table, rule: &Rule) -> String {
        let mut out = String::new();
        self.in_table(table).rule_into(&mut out, table, rule);
        out
    }

    fn rule_into(&self, out: &mut String, table: &Table, rule: &Rule) {
        self.statements(out, &statements(table, rule), rule);
    }

    /// What a rule is made of, and its comment.
    fn statements(&self, out: &mut String, statements: &[Statement<'_>], rule: &Rule) {
        for (at, statement) in statements.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { " " });
            self.statement(out, statement);
        }
        if let Some(comment) = rule.userdata.as_comment() {
            let _ = write!(out, " comment \"{comment}\"");
        }
    }

    fn handle(&self, out: &mut String, handle: super::Handle) {
        if let Some(handle) = handle.0.filter(|_| self.handles) {
            let _ = write!(out, " # handle {handle}");
        }
        out.push('\n');
    }

    /// A whole table.
    pub fn table(&self, table: &Table) -> String {
        let style = self.in_listing(table);
        let mut out = String::new();
        style.open(&mut out, table);
        let start = out.len();
        flag_line(&mut out, "\tflags", table.flags, TABLE_FLAGS);
        let mut between = if out.len() > start { "\n" } else { "" };
        if let Some(comment) = table.userdata.as_comment() {
            let _ = writeln!(out, "\tcomment \"{comment}\"");
        }
        let mut separate = |out: &mut String| {
            out.push_str(between);
            between = "\n";
        };
        for found in &table.objects {
            separate(&mut out);
            style.object(&mut out, found);
        }
        for found in table.sets.iter().filter(|set| !set.is_anonymous()) {
            separate(&mut out);
            style.set(&mut out, found, true);
        }
        for found in &table.flowtables {
            separate(&mut out);
            style.flowtable(&mut out, found);
        }
        for found in table.chains.iter().filter(|chain| !chain.is_bound()) {
            separate(&mut out);
            style.chain(&mut out, table, found);
        }
        out.push_str("}\n");
        out
    }

    pub(super) fn open(&self, out: &mut String, table: &Table) {
        let _ = write!(out, "table {} {} {{", table.family, table.name);
        self.handle(out, table.handle);
    }

    /// A table with one chain, as `nft list chain` prints it.
    pub(crate) fn one_chain(&self, table: &Table, chain: &Chain) -> String {
        self.one(table, |style, out| style.chain(out, table, chain))
    }

    /// A table with some of what is in it.
    pub fn one(&self, table: &Table, fill: impl FnOnce(&Self, &mut String)) -> String {
        let style = self.in_listing(table);
        let mut out = String::new();
        let quiet = Self { handles: false, ..style.clone() };
        quiet.open(&mut out, table);
        fill(&style, &mut out);
        out.push_str("}\n");
        out
    }

    pub(super) fn chain(&self, out: &mut String, table: &Table, chain: &Chain) {
        let _ = write!(out, "\tchain {} {{", chain.name);
        self.handle(out, chain.handle);
        if let Some(comment) = chain.userdata.as_comment() {
            let _ = writeln!(out, "\t\tcomment \"{comment}\"");
        }
        if let Some(hook) = &chain.hook {
            let _ = writeln!(
                out,
                "\t\t{}",
                hook_text(table.family, hook, chain.flags, self.numeric_priority())
            );
        }
        for rule in &chain.rules {
            out.push_str("\t\t");
            self.rule_into(out, table, rule);
            self.handle(out, rule.handle);
        }
        out.push_str("\t}\n");
    }

    /// The chains without their rules, as `nft list chains` prints them.
    pub(crate) fn chain_heads(&self, out: &mut String, table: &Table) {
        for chain in table.chains.iter().filter(|chain| !chain.is_bound()) {
            let head = Chain { rules: Vec::new(), ..chain.clone() };
            self.chain(out, table, &head);
        }
    }

    pub(crate) fn flowtable(&self, out: &mut String, flowtable: &Flowtable) {
        let _ = write!(out, "\tflowtable {} {{", flowtable.name);
        self.handle(out, flowtable.handle);
        let hook = Hook {
            kind: String::new(),
            number: flowtable.hook,
            priority: flowtable.priority,
            devices: Vec::new(),
            policy: Policy::Accept,
        };
        let priority = priority_text(Family::NETDEV, &hook, self.numeric_priority());
        let _ = writeln!(out, "\t\thook ingress priority {priority}");
        if !flowtable.devices.is_empty() {
            let _ = writeln!(out, "\t\tdevices = {{ {} }}", sorted(&flowtable.devices).join(", "));
        }
        if flowtable.flags & 1 != 0 {
            out.push_str("\t\tflags offload\n");
        }
        if flowtable.flags & 2 != 0 {
            out.push_str("\t\tcounter\n");
        }
        out.push_str("\t}\n");
    }

    /// A set or map; `whole`: with its elements.
    pub fn set(&self, out: &mut String, found: &Set, whole: bool) {
        let _ = write!(out, "\t{} {} {{", set_word(found), found.name);
        self.handle(out, found.handle);
        self.types(out, found);
        if found.policy == 1 {
            out.push_str("\t\tpolicy memory\n");
        }
        // Of a constant set it is the number of its elements.
        if let Some(size) = found.size.filter(|_| found.flags & set::CONSTANT == 0) {
            let _ = writeln!(out, "\t\tsize {size}");
        }
        // That elements time out follows from how long they stay.
        let implied = found.timeout.is_some() && found.flags & (set::DYNAMIC | set::INTERVAL) == 0;
        let flags = if implied { found.flags & !set::TIMEOUT } else { found.flags };
        flag_line(out, "\t\tflags", flags, SET_FLAGS);
        for (at, expr) in found.exprs.iter().enumerate() {
            out.push_str(if at == 0 { "\t\t" } else { " " });
            plain(out, expr, true);
        }
        if !found.exprs.is_empty() {
            out.push('\n');
        }
        if found.merges() {
            out.push_str("\t\tauto-merge\n");
        }
        if let Some(timeout) = found.timeout {
            let _ = writeln!(out, "\t\ttimeout {}", duration(timeout, self.numeric_time()));
        }
        if let Some(interval) = found.gc_interval {
            let _ = writeln!(
                out,
                "\t\tgc-interval {}",
                duration(u64::from(interval), self.numeric_time())
            );
        }
        if let Some(comment) = found.userdata.comment_at(SET_COMMENT) {
            let _ = writeln!(out, "\t\tcomment \"{comment}\"");
        }
        let hidden = !whole || self.hides_elements(found);
        if !found.elements.is_empty() && !hidden {
            self.elements(out, found);
        }
        out.push_str("\t}\n");
    }

    /// `type …`, or `typeof …` where that is what was said.
    fn types(&self, out: &mut String, found: &Set) {
        let (key, data) = declared(found);
        let names = type_names(found);
        let join = |fields: Vec<Field<'_>>| {
            fields.iter().map(|field| self.field_text(field)).collect::<Vec<_>>().join(" . ")
        };
        // Data by an expression stands beside a key by one only.
        let data = data.filter(|_| key.is_some());
        let word = if key.is_some() { "typeof" } else { "type" };
        let key = key.map_or(names.0, join);
        let data = match (data.map(join), names.1) {
            (Some(fields), _) if elements_of(found).has_data_intervals() => {
                format!(" : interval {fields}")
            }
            (Some(text), _) | (None, Some(text)) => format!(" : {text}"),
            (None, None) => String::new(),
        };
        let _ = writeln!(out, "\t\t{word} {key}{data}");
    }

    fn elements(&self, out: &mut String, found: &Set) {
        out.push_str("\t\telements = { ");
        let per_line = per_line(found);
        for (at, entry) in elements_of(found).entries().iter().enumerate() {
            if at > 0 {
                out.push_str(if at % per_line == 0 { ",\n\t\t\t     " } else { ", " });
            }
            self.entry(out, entry);
        }
        out.push_str(" }\n");
    }
}

/// Type of a set's userdata that is its comment.
const SET_COMMENT: u8 = 7;

pub(crate) fn set_word(found: &Set) -> &'static str {
    match (found.is_meter(), found.is_map()) {
        (true, _) => "meter",
        (false, true) => "map",
        (false, false) => "set",
    }
}

/// Names of the types of keys, and of data, by nft's numbers.
pub(crate) fn type_names(found: &Set) -> (String, Option<String>) {
    let names = |number: u32| match Type::parts(number).as_slice() {
        [] => Type::Integer.name().to_owned(),
        parts => parts.iter().map(|part| part.name()).collect::<Vec<_>>().join(" . "),
    };
    let data = match (found.data, found.object) {
        (Some(DataType::Verdict), _) => Some("verdict".to_owned()),
        (Some(DataType::Value { kind, .. }), _) => {
            let intervals = elements_of(found).has_data_intervals();
            Some(format!("{}{}", if intervals { "interval " } else { "" }, names(kind)))
        }
        (None, Some(object)) => Some(word(OBJECTS, object).unwrap_or("object").to_owned()),
        (None, None) => None,
    };
    (names(found.key_type), data)
}

/// How many elements nft writes before it begins a line.
fn per_line(found: &Set) -> usize {
    use super::names::Type as T;
    match key_parts(found).as_slice() {
        [part] => match part.kind {
            T::NfProto
            | T::Integer
            | T::ArpOp
            | T::InetProto
            | T::InetService
            | T::TcpFlag
            | T::DccpType
            | T::Mark
            | T::IfIndex
            | T::ClassId
            | T::Uid
            | T::Gid
            | T::CtDir => 5,
            T::Ipv4 | T::CtState | T::CtStatus | T::PktType => 2,
            _ => 1,
        },
        _ => 1,
    }
}

fn flag_line(out: &mut String, word: &str, flags: u32, names: Words) {
    let set = bit_words(names, flags);
    if !set.is_empty() {
        let _ = writeln!(out, "{word} {}", set.join(","));
    }
}

pub(crate) fn hook_name(family: Family, number: u32) -> &'static str {
    match (family, number) {
        (Family::NETDEV, 0) | (Family::INET, 5) => "ingress",
        (Family::NETDEV, 1) => "egress",
        (Family::ARP, 0) => "input",
        (Family::ARP, 1) => "output",
        (_, hook::PREROUTING) => "prerouting",
        (_, hook::INPUT) => "input",
        (_, hook::FORWARD) => "forward",
        (_, hook::OUTPUT) => "output",
        (_, hook::POSTROUTING) => "postrouting",
        _ => "unknown",
    }
}

pub(crate) fn policy_word(policy: Policy) -> &'static str {
    match policy {
        Policy::Accept => "accept",
        Policy::Drop => "drop",
    }
}

/// NFT_CHAIN_HW_OFFLOAD.
pub(crate) const CHAIN_OFFLOAD: u32 = 2;

fn hook_text(family: Family, hook: &Hook, flags: u32, numeric: bool) -> String {
    let name = hook_name(family, hook.number);
    let devices = match hook.devices.as_slice() {
        [] => String::new(),
        [device] => format!("device \"{device}\" "),
        devices => format!("devices = {{ {} }} ", sorted(devices).join(", ")),
    };
    let policy = policy_word(hook.policy);
    let priority = priority_text(family, hook, numeric);
    let offload = if flags & CHAIN_OFFLOAD == 0 { "" } else { " flags offload;" };
    format!(
        "type {} hook {name} {devices}priority {priority};{offload} policy {policy};",
        hook.kind
    )
}

/// Devices by name, as nft lists them.
pub fn sorted(devices: &[String]) -> Vec<&str> {
    let mut names: Vec<&str> = devices.iter().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The named priorities of nft(8), and ten on either side of them.
fn priority_text(family: Family, hook: &Hook, numeric: bool) -> String {
    let ip = [
        ("raw", -300, true),
        ("mangle", -150, true),
        ("dstnat", -100, hook.number == hook::PREROUTING),
        ("filter", 0, true),
        ("security", 50, true),
        ("srcnat", 100, hook.number == hook::POSTROUTING),
    ];
    let bridge = [
        ("dstnat", -300, hook.number == hook::PREROUTING),
        ("filter", -200, true),
        ("out", 100, hook.number == hook::OUTPUT),
        ("srcnat", 300, hook.number == hook::POSTROUTING),
    ];
    let names = match family {
        Family::BRIDGE => bridge.as_slice(),
        Family::IP | Family::IP6 | Family::INET => ip.as_slice(),
        _ => &[("filter", 0, true)],
    };
    let near =
        names.iter().find(|(_, value, valid)| *valid && hook.priority.abs_diff(*value) <= 10);
    match near.filter(|_| !numeric) {
        Some((name, value, _)) => match hook.priority - value {
            0 => (*name).to_owned(),
            more if more > 0 => format!("{name} + {more}"),
            less => format!("{name} - {}", -less),
        },
        None => hook.priority.to_string(),
    }
}
