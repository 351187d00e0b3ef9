//! Statements as nft writes them.

use std::fmt::Write;

use super::super::expr::{Expr, Verdict};
use super::super::names::Type;
use super::super::names::words::{
    NAT_FLAGS, NETMAP, OBJECTS, OPERATIONS, QUEUE_FLAGS, bit_words, word,
};
use super::super::syntax::{InPlace, Join, Nat, Relation, Statement, Update, Value};
use super::Style;
use super::plain::{object_verb, plain};
use super::time::duration;
use super::value::verdict_text;

const AF_INET: u8 = 2;

impl Style {
    /// One statement of a rule.
    pub fn statement(&self, out: &mut String, statement: &Statement<'_>) {
        match statement {
            Statement::Match { left, relation, right } => {
                self.relation(out, left, *relation, right);
            }
            Statement::Masked { left, not, value, mask } => {
                self.value(out, left);
                out.push_str(if *not { " != " } else { " " });
                self.value(out, &Value::Flags(*value, Join::List));
                out.push_str(" / ");
                self.value(out, &Value::Flags(*mask, Join::List));
            }
            Statement::VerdictMap(key, set) => {
                self.value(out, key);
                out.push_str(" vmap ");
                self.value(out, set);
            }
            Statement::Verdict(verdict) => verdict_text(out, verdict),
            Statement::InPlace { verdict, rules } => self.in_place(out, verdict, rules),
            Statement::Mangle(field, value) => {
                self.value(out, field);
                out.push_str(" set ");
                self.value(out, value);
            }
            Statement::Nat(nat) => self.nat(out, nat),
            Statement::Reject { expr, family } => self.reject(out, expr, *family),
            Statement::Tproxy { family, addr, port } => {
                out.push_str("tproxy");
                out.push_str(family.map_or("", family_word));
                out.push_str(" to ");
                self.endpoint(out, addr.as_ref(), port.as_ref(), true);
            }
            Statement::Queue { to, flags } => self.queue(out, to.as_ref(), *flags),
            Statement::Dup { addr, device } => {
                out.push_str("dup to ");
                self.by_device(out, addr.as_ref(), device.as_ref());
            }
            Statement::Fwd { family, addr, device } => {
                out.push_str("fwd");
                out.push_str(addr.as_ref().and(*family).map_or("", family_word));
                out.push_str(" to ");
                self.by_device(out, addr.as_ref(), Some(device));
            }
            Statement::Update(update) => self.update(out, update),
            Statement::ObjectMap(kind, map) => {
                let _ = write!(
                    out,
                    "{} {} ",
                    word(OBJECTS, *kind).unwrap_or("object"),
                    object_verb(*kind)
                );
                self.value(out, map);
            }
            Statement::Reset(field) => {
                out.push_str("reset ");
                self.field(out, field);
            }
            Statement::Xt { expr, transport } => {
                super::xt::statement(out, expr, self.family, *transport);
            }
            Statement::Plain(expr) => plain(out, expr, self.stateless),
        }
    }

    /// A chain without a name: a rule a line in a listing, else all on one.
    fn in_place(&self, out: &mut String, verdict: &Verdict, rules: &[InPlace<'_>]) {
        out.push_str(if matches!(verdict, Verdict::Goto(_)) { "goto {" } else { "jump {" });
        let depth = self.depth.map(|depth| depth + 1);
        let inner = Self { depth, ..self.clone() };
        for (at, InPlace { rule, statements }) in rules.iter().enumerate() {
            match depth {
                Some(depth) => line(out, depth),
                None => out.push_str(if at == 0 { " " } else { "; " }),
            }
            inner.statements(out, statements, rule);
        }
        match self.depth {
            Some(depth) => line(out, depth),
            None => out.push_str(if rules.is_empty() { " " } else { "; " }),
        }
        out.push('}');
    }

    fn relation(&self, out: &mut String, left: &Value<'_>, relation: Relation, right: &Value<'_>) {
        self.operand(out, "==", left);
        // What looks like a list of flags is told from one value of flags.
        let said =
            matches!(left, Value::Binary(..)) || matches!(right, Value::Flags(_, Join::Whole));
        out.push_str(match relation {
            Relation::Equal if said => " == ",
            Relation::Equal | Relation::Any => " ",
            Relation::NotEqual => " != ",
            Relation::Less => " < ",
            Relation::LessEqual => " <= ",
            Relation::Greater => " > ",
            Relation::GreaterEqual => " >= ",
            Relation::None => " ! ",
        });
        self.value(out, right);
    }

    fn nat(&self, out: &mut String, nat: &Nat<'_>) {
        out.push_str(nat.verb);
        if nat.addr.is_some() || nat.port.is_some() {
            out.push_str(nat.family.map_or("", family_word));
            if nat.flags & NETMAP != 0 {
                out.push_str(" prefix");
            }
            out.push_str(" to ");
            self.endpoint(out, nat.addr.as_ref(), nat.port.as_ref(), false);
        }
        let flags = bit_words(NAT_FLAGS, nat.flags);
        if !flags.is_empty() {
            let _ = write!(out, " {}", flags.join(","));
        }
    }

    /// `ADDRESS:PORT`; IPv6 in brackets when a port follows, or `always`.
    fn endpoint(
        &self,
        out: &mut String,
        addr: Option<&Value<'_>>,
        port: Option<&Value<'_>>,
        always: bool,
    ) {
        let brackets = port.is_some() || always;
        match addr {
            Some(Value::Range(first, last)) if brackets && first.kind == Type::Ipv6 => {
                for (at, end) in [first, last].into_iter().enumerate() {
                    out.push_str(if at == 0 { "[" } else { "-[" });
                    self.constant(out, *end, false);
                    out.push(']');
                }
            }
            Some(Value::Constant(one)) if brackets && one.kind == Type::Ipv6 => {
                out.push('[');
                self.constant(out, *one, false);
                out.push(']');
            }
            Some(addr) => self.value(out, addr),
            None => {}
        }
        if let Some(port) = port {
            out.push(':');
            self.value(out, port);
        }
    }

    /// `ADDRESS device DEVICE`, or the one that is there.
    fn by_device(&self, out: &mut String, addr: Option<&Value<'_>>, device: Option<&Value<'_>>) {
        addr.into_iter().for_each(|addr| self.value(out, addr));
        out.push_str(if addr.is_some() && device.is_some() { " device " } else { "" });
        device.into_iter().for_each(|device| self.value(out, device));
    }

    fn reject(&self, out: &mut String, expr: &Expr, family: Option<u8>) {
        out.push_str("reject");
        let Some((with, code, usual)) = reject_words(expr, family) else { return };
        let known =
            matches!(self.family, Some(super::super::Family::IP | super::super::Family::IP6));
        match code {
            None => drop(write!(out, " with {with}")),
            Some(_) if usual && (with == "icmpx" || known) => {}
            Some(code) => {
                let _ = write!(out, " with {with} ");
                self.constant(out, code, false);
            }
        }
    }

    fn queue(&self, out: &mut String, to: Option<&Value<'_>>, flags: u16) {
        out.push_str("queue");
        let names = bit_words(QUEUE_FLAGS, u32::from(flags));
        if !names.is_empty() {
            let _ = write!(out, " flags {}", names.join(","));
        }
        if let Some(to) = to {
            out.push_str(" to ");
            self.value(out, to);
        }
    }

    fn update(&self, out: &mut String, update: &Update<'_>) {
        match update.meter {
            Some(size) => {
                let _ = write!(out, "meter {} ", update.name);
                if let Some(size) = size {
                    let _ = write!(out, "size {size} ");
                }
                out.push_str("{ ");
            }
            None => drop(write!(
                out,
                "{} @{} {{ ",
                word(OPERATIONS, update.operation).unwrap_or("unknown"),
                update.name
            )),
        }
        self.value(out, &update.key);
        if let Some(timeout) = update.timeout {
            let _ = write!(out, " timeout {}", duration(timeout, self.numeric_time()));
        }
        for expr in update.exprs {
            out.push(' ');
            plain(out, expr, true);
        }
        if let Some(data) = &update.data {
            out.push_str(" : ");
            self.value(out, data);
        }
        out.push_str(" }");
    }
}

/// Begins a line so deep inside.
fn line(out: &mut String, depth: usize) {
    out.push('\n');
    (0..depth).for_each(|_| out.push('\t'));
}

pub fn family_word(family: u8) -> &'static str {
    if family == AF_INET { " ip" } else { " ip6" }
}

/// What a reject answers with: the words, the code, and whether it is the usual one.
pub fn reject_words(
    expr: &Expr,
    family: Option<u8>,
) -> Option<(&'static str, Option<super::super::syntax::Constant>, bool)> {
    let Expr::Reject { kind, code } = expr else { return None };
    let code = code.unwrap_or(0);
    let of =
        |kind| Some(super::super::syntax::Constant { number: u128::from(code), bits: 8, kind });
    Some(match (kind, family) {
        (1, _) => ("tcp reset", None, false),
        (2, _) => ("icmpx", of(Type::IcmpxCode), code == 1),
        (_, Some(AF_INET)) => ("icmp", of(Type::IcmpCode), code == 3),
        (_, Some(_)) => ("icmpv6", of(Type::Icmpv6Code), code == 4),
        (_, None) => return None,
    })
}
