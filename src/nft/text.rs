//! Rulesets in the syntax of nft(8), as `nft list table` of nft 1.0.6 prints them.
//!
//! Byte for byte the same for what berth itself writes; what is outside that vocabulary is shown in a raw form
//! (`@nh,64,8`, `<name hex>`) rather than left out.

mod action;
mod elements;
mod field;
mod rule;
mod value;

use std::fmt;

use super::expr::Verdict;
use super::{Chain, DataType, Family, Hook, Object, ObjectKind, Policy, Rule, Set, Table, hook, set};
use value::Kind;

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
        writeln!(f, "table {} {} {{", self.family, self.name)?;
        if let Some(comment) = self.userdata.as_comment() {
            writeln!(f, "\tcomment \"{comment}\"")?;
        }
        self.write_flags(f)?;
        let mut between = "";
        for object in &self.objects {
            write!(f, "{between}")?;
            write_object(f, object)?;
            between = "\n";
        }
        for set in self.sets.iter().filter(|set| !set.is_anonymous()) {
            write!(f, "{between}")?;
            write_set(f, set)?;
            between = "\n";
        }
        for chain in &self.chains {
            write!(f, "{between}")?;
            self.write_chain(f, chain)?;
            between = "\n";
        }
        writeln!(f, "}}")
    }
}

impl Table {
    /// One rule as a line of nft.
    pub fn rule_text(&self, rule: &Rule) -> String {
        let mut text = rule::text(self, rule);
        if let Some(comment) = rule.userdata.as_comment() {
            text.push_str(&format!(" comment \"{comment}\""));
        }
        text
    }

    fn write_flags(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(1, "dormant"), (2, "owner"), (4, "persist")];
        let set: Vec<&str> =
            names.iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, name)| *name).collect();
        if set.is_empty() { Ok(()) } else { writeln!(f, "\tflags {}", set.join(",")) }
    }

    fn write_chain(&self, f: &mut fmt::Formatter<'_>, chain: &Chain) -> fmt::Result {
        writeln!(f, "\tchain {} {{", chain.name)?;
        if let Some(comment) = chain.userdata.as_comment() {
            writeln!(f, "\t\tcomment \"{comment}\"")?;
        }
        if let Some(hook) = &chain.hook {
            writeln!(f, "\t\t{}", hook_text(self.family, hook))?;
        }
        for rule in &chain.rules {
            writeln!(f, "\t\t{}", self.rule_text(rule))?;
        }
        writeln!(f, "\t}}")
    }
}

fn hook_text(family: Family, hook: &Hook) -> String {
    let name = match (family, hook.number) {
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
    };
    let devices = match hook.devices.as_slice() {
        [] => String::new(),
        [device] => format!("device \"{device}\" "),
        devices => format!("devices = {{ {} }} ", devices.join(", ")),
    };
    let policy = match hook.policy {
        Policy::Accept => "accept",
        Policy::Drop => "drop",
    };
    let priority = priority_text(family, hook);
    format!("type {} hook {name} {devices}priority {priority}; policy {policy};", hook.kind)
}

/// The named priorities of nft(8), and ten on either side of them.
fn priority_text(family: Family, hook: &Hook) -> String {
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
    let near = names.iter().find(|(_, value, valid)| *valid && hook.priority.abs_diff(*value) <= 10);
    match near {
        Some((name, value, _)) => match hook.priority - value {
            0 => (*name).to_owned(),
            more if more > 0 => format!("{name} + {more}"),
            less => format!("{name} - {}", -less),
        },
        None => hook.priority.to_string(),
    }
}

fn write_object(f: &mut fmt::Formatter<'_>, object: &Object) -> fmt::Result {
    match &object.kind {
        ObjectKind::Counter { packets, bytes } => {
            writeln!(f, "\tcounter {} {{", object.name)?;
            if let Some(comment) = object.userdata.as_comment() {
                writeln!(f, "\t\tcomment \"{comment}\"")?;
            }
            writeln!(f, "\t\tpackets {packets} bytes {bytes}")?;
        }
        ObjectKind::Other { kind, bytes } => {
            writeln!(f, "\tobject {} {{", object.name)?;
            writeln!(f, "\t\t<kind {kind} {}>", value::hex(bytes))?;
        }
    }
    writeln!(f, "\t}}")
}

fn write_set(f: &mut fmt::Formatter<'_>, set: &Set) -> fmt::Result {
    let word = if set.flags & (set::MAP | set::OBJECT) == 0 { "set" } else { "map" };
    writeln!(f, "\t{word} {} {{", set.name)?;
    let kinds = Kind::of_set_type(set.key_type, set.key_len);
    let mut kind = kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" . ");
    match set.data {
        Some(DataType::Verdict) => kind.push_str(" : verdict"),
        Some(DataType::Value { kind: data, len }) => {
            let data =
                Kind::of_set_type(data, len).iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" . ");
            kind.push_str(&format!(" : {data}"));
        }
        None => {}
    }
    writeln!(f, "\t\ttype {kind}")?;
    if let Some(size) = set.size {
        writeln!(f, "\t\tsize {size}")?;
    }
    let names = [
        (set::CONSTANT, "constant"),
        (set::DYNAMIC, "dynamic"),
        (set::INTERVAL, "interval"),
        (set::TIMEOUT, "timeout"),
    ];
    let flags: Vec<&str> =
        names.iter().filter(|(bit, _)| set.flags & bit != 0).map(|(_, name)| *name).collect();
    if !flags.is_empty() {
        writeln!(f, "\t\tflags {}", flags.join(","))?;
    }
    if let Some(timeout) = set.timeout {
        writeln!(f, "\t\ttimeout {}", duration(timeout))?;
    }
    if !set.elements.is_empty() {
        writeln!(f, "\t\telements = {}", elements::elements_text(set, &kinds))?;
    }
    writeln!(f, "\t}}")
}

/// `1d2h3m4s5ms`, without the parts that are nothing.
fn duration(milliseconds: u64) -> String {
    let mut rest = milliseconds;
    let mut text = String::new();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
