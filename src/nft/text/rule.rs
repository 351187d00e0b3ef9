//! One rule: runs its instructions over registers that hold words instead of values.
//!
//! nft adds matches by itself where a header field needs them (`ip daddr` in an inet table needs "is IPv4") and
//! leaves them out when it lists. So does this: such a match is remembered per layer and dropped when a field of
//! that layer follows, unless something with a side effect came between.

use std::collections::BTreeMap;

use super::super::expr::{CmpOp, Data, Expr, Register, VERDICT, base};
use super::super::{Family, Rule, Table};
use super::elements::elements_text;
use super::field::{
    Role, ct_field, extension_text, fib_field, ipv4_field, ipv6_field, link_field, meta_field,
    transport_field,
};
use super::value::{Kind, hex, prefix_len};

/// What a register holds.
#[derive(Debug, Clone)]
pub(super) enum Word {
    Field { text: String, kind: Kind, layer: Option<Layer>, role: Role },
    Masked { text: String, kind: Kind, mask: Vec<u8>, xor: Vec<u8> },
    Value(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Link,
    Network,
    Transport,
}

pub(super) struct Rendering<'a> {
    pub(super) table: &'a Table,
    /// By four-octet slot.
    registers: BTreeMap<u32, Word>,
    statements: Vec<Option<String>>,
    /// Statement that only says which protocol a layer has.
    pending: BTreeMap<Layer, usize>,
    /// nfproto, when a match said so.
    network: Option<u8>,
    transport: Option<u8>,
    /// The field of a `>=`, and how many statements there were after it: `<=` on the same makes it a range.
    lower: Option<(usize, String)>,
}

/// The rule without its comment.
pub fn text(table: &Table, rule: &Rule) -> String {
    let mut rendering = Rendering {
        table,
        registers: BTreeMap::new(),
        statements: Vec::new(),
        pending: BTreeMap::new(),
        network: match table.family {
            Family::IP => Some(2),
            Family::IP6 => Some(10),
            _ => None,
        },
        transport: None,
        lower: None,
    };
    for expr in &rule.exprs {
        rendering.expression(expr);
    }
    rendering.statements.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn slot(register: Register) -> u32 {
    if register >= 8 { register - 8 } else { register.saturating_sub(1) * 4 }
}

impl Rendering<'_> {
    fn expression(&mut self, expr: &Expr) {
        match expr {
            Expr::Meta { key, dreg } => {
                let (text, kind, role) = meta_field(*key);
                self.load(*dreg, Word::Field { text, kind, layer: None, role });
            }
            Expr::Payload { base, offset, len, dreg } => {
                let word = self.payload(*base, *offset, *len);
                self.load(*dreg, word);
            }
            Expr::Ct { key, dreg, direction } => {
                let (name, kind) = ct_field(*key);
                let direction = match direction {
                    Some(0) => "original ",
                    Some(1) => "reply ",
                    _ => "",
                };
                self.load(*dreg, field(format!("ct {direction}{name}"), kind));
            }
            Expr::Fib { dreg, result, flags } => {
                let (text, kind) = fib_field(*result, *flags);
                self.load(*dreg, field(text, kind));
            }
            Expr::Rt { key, dreg } => {
                let name = match key {
                    0 => "classid".to_owned(),
                    1 => "ip nexthop".to_owned(),
                    2 => "ip6 nexthop".to_owned(),
                    3 => "mtu".to_owned(),
                    4 => "ipsec".to_owned(),
                    other => format!("<{other}>"),
                };
                self.load(*dreg, field(format!("rt {name}"), Kind::Port));
            }
            Expr::Exthdr { field: extension, dreg } => {
                self.load(*dreg, field(extension_text(extension), Kind::Port));
            }
            Expr::Byteorder { sreg, dreg, .. } => {
                // A number of the host's is compared in network order from here on.
                let word = match self.word(*sreg) {
                    Word::Field { text, kind: Kind::Host, layer, role } => {
                        Word::Field { text, kind: Kind::Network, layer, role }
                    }
                    word => word,
                };
                self.load(*dreg, word);
            }
            Expr::Bitwise { sreg, dreg, mask, xor, .. } => {
                let word = self.word(*sreg);
                self.use_layer(&word);
                let (text, kind) = described(&word);
                self.load(*dreg, Word::Masked { text, kind, mask: mask.clone(), xor: xor.clone() });
            }
            Expr::Immediate { dreg, data: Data::Value(bytes) } => {
                self.load(*dreg, Word::Value(bytes.clone()));
            }
            Expr::Cmp { sreg, op, data } => self.compare(*sreg, *op, data),
            Expr::Range { sreg, inverted, from, to } => {
                let word = self.word(*sreg);
                self.use_layer(&word);
                let (text, kind) = described(&word);
                let not = if *inverted { "!= " } else { "" };
                self.statement(format!("{text} {not}{}-{}", kind.text(from), kind.text(to)));
            }
            Expr::Lookup { set, sreg, dreg, inverted } => self.lookup(set, *sreg, *dreg, *inverted),
            other => {
                let text = self.action(other);
                self.pending.clear();
                self.statement(text);
            }
        }
    }

    fn load(&mut self, register: Register, word: Word) {
        self.registers.insert(slot(register), word);
    }

    pub(super) fn word(&self, register: Register) -> Word {
        let unknown = || field(format!("<register {register}>"), Kind::Raw);
        self.registers.get(&slot(register)).cloned().unwrap_or_else(unknown)
    }

    fn statement(&mut self, text: String) {
        self.statements.push(Some(text));
    }

    /// A field of a layer was used: a match that only named the layer's protocol is no longer worth telling.
    fn use_layer(&mut self, word: &Word) {
        if let Word::Field { layer: Some(layer), .. } = word
            && let Some(at) = self.pending.remove(layer)
            && let Some(statement) = self.statements.get_mut(at)
        {
            *statement = None;
        }
    }

    fn compare(&mut self, sreg: Register, op: CmpOp, data: &[u8]) {
        let word = self.word(sreg);
        self.use_layer(&word);
        let sign = match op {
            CmpOp::Eq => "",
            CmpOp::Neq => "!= ",
            CmpOp::Lt => "< ",
            CmpOp::Lte => "<= ",
            CmpOp::Gt => "> ",
            CmpOp::Gte => ">= ",
        };
        match &word {
            Word::Masked { text, kind, mask, xor } => {
                self.statement(masked(text, *kind, mask, xor, op, sign, data));
            }
            Word::Field { text, kind, role, .. } => {
                let value = kind.text(data);
                if op == CmpOp::Lte
                    && self
                        .lower
                        .as_ref()
                        .is_some_and(|(at, lower)| (*at, lower) == (self.statements.len(), text))
                {
                    if let Some(Some(statement)) = self.statements.last_mut() {
                        *statement = format!("{}-{value}", statement.replacen(" >= ", " ", 1));
                    }
                    return;
                }
                self.statement(format!("{text} {sign}{value}"));
                if op == CmpOp::Gte {
                    self.lower = Some((self.statements.len(), text.clone()));
                }
                if op == CmpOp::Eq {
                    self.remember(*role, data);
                }
            }
            Word::Value(bytes) => self.statement(format!("{} {sign}{}", hex(bytes), hex(data))),
        }
    }

    fn remember(&mut self, role: Role, data: &[u8]) {
        let at = self.statements.len() - 1;
        match role {
            Role::NetworkProtocol => {
                self.network = data.first().copied();
                self.pending.insert(Layer::Network, at);
            }
            Role::TransportProtocol => {
                self.transport = data.first().copied();
                self.pending.insert(Layer::Transport, at);
            }
            Role::None => {}
        }
    }

    fn lookup(&mut self, name: &str, sreg: Register, dreg: Option<Register>, inverted: bool) {
        let found = self.table.sets.iter().find(|set| set.name == name);
        let end = slot(sreg) + found.map_or(4, |set| set.key_len).div_ceil(4);
        let words: Vec<Word> = self.registers.range(slot(sreg)..end).map(|(_, word)| word.clone()).collect();
        words.iter().for_each(|word| self.use_layer(word));
        let (texts, kinds): (Vec<String>, Vec<Kind>) = words.iter().map(described).unzip();
        let key = texts.join(" . ");
        let set = match found {
            Some(set) if set.is_anonymous() => elements_text(set, &kinds),
            _ => format!("@{name}"),
        };
        match dreg {
            None => {
                let not = if inverted { "!= " } else { "" };
                self.statement(format!("{key} {not}{set}"));
            }
            Some(VERDICT) => {
                self.pending.clear();
                self.statement(format!("{key} vmap {set}"));
            }
            Some(dreg) => self.load(dreg, field(format!("{key} map {set}"), Kind::Raw)),
        }
    }

    pub(super) fn payload(&self, from: u32, offset: u32, len: u32) -> Word {
        let known = match (from, self.network, self.transport) {
            (base::LINK, ..) => link_field(offset, len),
            (base::NETWORK, Some(2), _) => ipv4_field(offset, len),
            (base::NETWORK, Some(10), _) => ipv6_field(offset, len),
            (base::TRANSPORT, _, Some(protocol)) => transport_field(protocol, offset, len),
            _ => None,
        };
        let layer = match from {
            base::LINK => Layer::Link,
            base::NETWORK => Layer::Network,
            _ => Layer::Transport,
        };
        if let Some((text, kind)) = known {
            return Word::Field { text: text.to_owned(), kind, layer: Some(layer), role: Role::None };
        }
        match (from, offset, len) {
            (base::TRANSPORT, 0, 2) => field("th sport".to_owned(), Kind::Port),
            (base::TRANSPORT, 2, 2) => field("th dport".to_owned(), Kind::Port),
            _ => {
                let base = ["ll", "nh", "th", "ih"].get(from as usize).copied().unwrap_or("?");
                field(format!("@{base},{},{}", offset.saturating_mul(8), len.saturating_mul(8)), Kind::Raw)
            }
        }
    }
}

fn field(text: String, kind: Kind) -> Word {
    Word::Field { text, kind, layer: None, role: Role::None }
}

pub(super) fn described(word: &Word) -> (String, Kind) {
    match word {
        Word::Field { text, kind, .. } => (text.clone(), *kind),
        Word::Masked { text, kind, mask, xor } => {
            let xor =
                if xor.iter().all(|byte| *byte == 0) { String::new() } else { format!(" ^ {}", hex(xor)) };
            (format!("{text} & {}{xor}", kind.text(mask)), *kind)
        }
        Word::Value(bytes) => (hex(bytes), Kind::Raw),
    }
}

/// A comparison of masked bits: a list of flags, a prefix, or the arithmetic as it stands.
fn masked(text: &str, kind: Kind, mask: &[u8], xor: &[u8], op: CmpOp, sign: &str, data: &[u8]) -> String {
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let value = kind.text(data);
    match kind {
        Kind::Bits { .. } if zero(xor) && zero(data) && op == CmpOp::Neq => {
            format!("{text} {}", kind.text(mask))
        }
        Kind::Bits { .. } if zero(xor) && zero(data) && op == CmpOp::Eq => {
            format!("{text} ! {}", kind.text(mask))
        }
        Kind::Bits { .. } if zero(xor) && op == CmpOp::Eq => format!("{text} {value} / {}", kind.text(mask)),
        Kind::Ipv4 | Kind::Ipv6 if zero(xor) && prefix_len(mask).is_some() => {
            format!("{text} {sign}{value}/{}", prefix_len(mask).unwrap_or(0))
        }
        _ => {
            let xor = if zero(xor) { String::new() } else { format!(" ^ {}", kind.text(xor)) };
            let sign = if op == CmpOp::Eq { "== " } else { sign };
            format!("{text} & {}{xor} {sign}{value}", kind.text(mask))
        }
    }
}
