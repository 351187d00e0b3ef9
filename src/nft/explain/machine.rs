//! One rule over one packet: its expressions run in order, until one says no or ends it.

use std::ops::Not;

use super::super::expr::{CmpOp, Data, Expr, Extension, Register, VERDICT, base as header};
use super::super::names::{Order, Type};
use super::super::syntax::field;
use super::super::{Family, Table, Verdict};
use super::Walk;
use super::bits::{Bits, Truth};
use super::effect::{Effect, End, Loaded, stuck};
use super::lookup::{self, Found};
use super::packet::TCP;
use super::registers::{Origin, Registers};
use super::words::{Place, Style, field_words, payload_words};
use super::world::Question;

/// What became of a rule.
#[derive(Debug)]
pub(super) struct Ruling {
    pub(super) outcome: Truth,
    /// Why not, or why it cannot be told.
    pub(super) why: Option<String>,
    pub(super) effects: Vec<String>,
    pub(super) end: Option<End>,
}

pub(super) struct Machine<'w, 'a> {
    pub(super) walk: &'w mut Walk<'a>,
    pub(super) table: &'a Table,
    pub(super) registers: Registers,
    /// Why the rule may not have matched up to here.
    doubt: Option<String>,
    said: Vec<String>,
}

impl<'w, 'a> Machine<'w, 'a> {
    pub(super) fn new(walk: &'w mut Walk<'a>, table: &'a Table) -> Self {
        Self { walk, table, registers: Registers::new(), doubt: None, said: Vec::new() }
    }

    pub(super) fn run(mut self, exprs: &[Expr]) -> Result<Ruling, Question> {
        let mut end = None;
        for expr in exprs {
            match self.step(expr)? {
                Effect::Next => {}
                Effect::Said(text) => self.said.push(text),
                Effect::Break(why) => {
                    return Ok(Ruling {
                        outcome: Truth::No,
                        why: Some(why),
                        effects: self.said,
                        end: None,
                    });
                }
                Effect::Doubt(why) => {
                    self.doubt.get_or_insert(why);
                }
                Effect::End(found) => {
                    end = Some(found);
                    break;
                }
            }
        }
        if let Some(End::Nat(said)) = &end {
            self.said.push(said.clone());
        }
        let why = match (&self.doubt, &end) {
            (None, Some(End::Stuck(why))) => Some(why.clone()),
            (doubt, _) => doubt.clone(),
        };
        let outcome = if why.is_some() { Truth::Maybe } else { Truth::Yes };
        Ok(Ruling { outcome, why, effects: self.said, end })
    }

    /// Whether the rule has matched for certain so far.
    pub(super) fn certain(&self) -> bool {
        self.doubt.is_none()
    }

    fn step(&mut self, expr: &Expr) -> Result<Effect, Question> {
        Ok(match expr {
            Expr::Meta { key, dreg } => {
                let (text, style) = field_words(field::meta(*key).as_ref(), "meta", *key);
                let loaded = self.walk.meta(*key);
                self.loaded(*dreg, loaded, text, style)
            }
            Expr::Ct { key, dreg, direction } => {
                let field = field::ct(*key, *direction, self.table.family == Family::IP6);
                let (text, style) = field_words(field.as_ref(), "ct", *key);
                let loaded = self.walk.ct(*key, *direction);
                self.loaded(*dreg, loaded, text, style)
            }
            Expr::Fib { dreg, result, flags } => {
                let (text, style) =
                    field_words(field::fib(*result, *flags).as_ref(), "fib", *result);
                let loaded = self.walk.fib(*result, *flags)?;
                self.loaded(*dreg, loaded, text, style)
            }
            Expr::Rt { dreg, key } => {
                let (text, style) = field_words(field::rt(*key).as_ref(), "rt", *key);
                let loaded =
                    Loaded::Bits(Bits::unknown(if style.kind == Type::Ipv6 { 16 } else { 4 }));
                self.loaded(*dreg, loaded, text, style)
            }
            Expr::Payload { base, offset, len, dreg } => self.payload(*base, *offset, *len, *dreg),
            Expr::Exthdr { field, dreg } => self.extension(field, *dreg),
            Expr::Immediate { dreg: VERDICT, data: Data::Verdict(verdict) } => {
                self.verdict(verdict)
            }
            Expr::Immediate { dreg, data: Data::Value(bytes) } => {
                self.loaded(*dreg, Loaded::Bits(Bits::known(bytes)), "value".into(), Style::RAW)
            }
            Expr::Bitwise { sreg, dreg, len, mask, xor } => {
                self.change(*sreg, *dreg, *len, |bits, origin| {
                    let masked = bits.masked(mask, xor);
                    origin.masked(mask, xor, &masked);
                    masked
                })
            }
            Expr::Byteorder { sreg, dreg, len, size, hton } => {
                self.change(*sreg, *dreg, *len, |bits, origin| {
                    origin.raw = origin.raw.swapped(usize_of(*size));
                    origin.style.order = if *hton { Order::Network } else { Order::Host };
                    bits.swapped(usize_of(*size))
                })
            }
            Expr::Shift { sreg, dreg, len, right, bits: by } => {
                self.change(*sreg, *dreg, *len, |bits, origin| {
                    origin.raw = bits.shifted(*right, *by);
                    origin.raw.clone()
                })
            }
            Expr::Cmp { sreg, op, data } => self.compare(*sreg, *op, data),
            Expr::Range { sreg, inverted, from, to } => self.range(*sreg, *inverted, from, to),
            Expr::Lookup { set, sreg, dreg, inverted } => self.lookup(set, *sreg, *dreg, *inverted),
            other => return self.act(other),
        })
    }

    pub(super) fn loaded(
        &mut self,
        dreg: Register,
        loaded: Loaded,
        text: String,
        style: Style,
    ) -> Effect {
        match loaded {
            Loaded::Bits(bits) => {
                self.registers.load(dreg, &bits, Origin::new(text, style, bits.clone()));
                Effect::Next
            }
            Loaded::Nothing(why) => Effect::Break(format!("{text}: {why}")),
        }
    }

    fn payload(&mut self, base: u32, offset: u32, len: u32, dreg: Register) -> Effect {
        let packet = &self.walk.packet;
        let place = Place::of(packet.ether_type(), packet.protocol, base, offset, len);
        let (text, style) = payload_words(place, packet.icmp_type(), (base, offset, len));
        let Some(layer) = packet.layer(base) else {
            return match base {
                header::LINK => Effect::Break(format!("{text}: the packet has no link header")),
                header::TRANSPORT => Effect::Break(format!("{text}: the packet is none of IP")),
                _ => {
                    self.registers.forget(&text);
                    Effect::Doubt(format!("{text} is not known of this packet"))
                }
            };
        };
        // Past the headers there may be more, or the end of the packet.
        let (offset, len) = (usize_of(offset), usize_of(len));
        let bits = layer.part(offset, len).unwrap_or_else(|| Bits::unknown(len));
        // Of a prefix only the first octets are read, but the whole address is told.
        let raw = if style.kind.is_address() {
            packet.address(text.contains("daddr"))
        } else {
            bits.clone()
        };
        self.registers.load(dreg, &bits, Origin { place, ..Origin::new(text, style, raw) });
        Effect::Next
    }

    /// No packet here has extension headers or IP options; a TCP header's options are nobody's knowledge.
    fn extension(&mut self, field: &Extension, dreg: Register) -> Effect {
        let (text, style) =
            field_words(Some(&field::extension(*field, None)), "exthdr", field.kind.into());
        let len = usize_of(field.len);
        match (field.space, field.flags & 1 != 0, self.walk.packet.protocol) {
            (1, _, TCP) | (3.., ..) => {
                self.loaded(dreg, Loaded::Bits(Bits::unknown(len)), text, style)
            }
            (_, true, _) => self.loaded(dreg, Loaded::Bits(Bits::known(&[0])), text, style),
            _ => Effect::Break(format!("the packet has no {text}")),
        }
    }

    /// Fills one register with what another holds, changed.
    fn change(
        &mut self,
        sreg: Register,
        dreg: Register,
        len: u32,
        how: impl FnOnce(&Bits, &mut Origin) -> Bits,
    ) -> Effect {
        let mut origin = self.registers.origin(sreg);
        let bits = how(&self.registers.get(sreg, usize_of(len)), &mut origin);
        self.registers.load(dreg, &bits, origin);
        Effect::Next
    }

    fn compare(&self, sreg: Register, op: CmpOp, data: &[u8]) -> Effect {
        let bits = self.registers.get(sreg, data.len());
        let (truth, word) = match op {
            CmpOp::Eq => (bits.equals(data), "not "),
            CmpOp::Neq => (bits.equals(data).not(), ""),
            CmpOp::Lt => (bits.below(data), "not below "),
            CmpOp::Lte => (bits.above(data).not(), "above "),
            CmpOp::Gt => (bits.above(data), "not above "),
            CmpOp::Gte => (bits.below(data).not(), "below "),
        };
        let origin = self.registers.origin(sreg);
        answer(truth, &origin, || mismatch(&origin, &bits, op, word, data))
    }

    fn range(&self, sreg: Register, inverted: bool, from: &[u8], to: &[u8]) -> Effect {
        let origin = self.registers.origin(sreg);
        let inside = self.registers.get(sreg, from.len()).within(from, to);
        let (truth, not) = if inverted { (inside.not(), "") } else { (inside, "not ") };
        let (from, to) = (origin.style.text(from), origin.style.text(to));
        answer(truth, &origin, || {
            format!("{} is {}, {not}in {from}-{to}", origin.text, origin.value())
        })
    }

    fn lookup(
        &mut self,
        name: &str,
        sreg: Register,
        dreg: Option<Register>,
        inverted: bool,
    ) -> Effect {
        let Some(set) = self.table.sets.iter().find(|set| set.name == name) else {
            return stuck(&format!("set {name} is not there"));
        };
        let len = usize_of(set.key_len);
        let key = self.registers.get(sreg, len);
        let origins = self.registers.origins(sreg, len);
        let texts: Vec<&str> = origins.iter().map(|origin| origin.text.as_str()).collect();
        let values: Vec<String> = origins.iter().map(Origin::value).collect();
        let shown = if set.is_anonymous() { "the set".to_owned() } else { format!("@{name}") };
        let is = format!("{} is {}", texts.join(" . "), values.join(" . "));
        let place = (self.table.family, self.table.name.clone(), name.to_owned());
        let changes = self.walk.changed.get(&place).map_or(&[][..], Vec::as_slice);
        let found = lookup::after(set, lookup::find(set, &key), &key, changes);
        let doubt = || {
            let unknown = origins.iter().find(|origin| origin.raw.bytes().is_none());
            unknown.map_or_else(|| format!("{shown} has changed on the way"), Origin::doubt)
        };
        let element = match (found, inverted) {
            (Found::Perhaps, _) => {
                if let Some(dreg) = dreg.filter(|dreg| *dreg != VERDICT) {
                    let bits = Bits::unknown(16);
                    let origin = Origin::new(
                        format!("{} map {shown}", texts.join(" . ")),
                        Style::RAW,
                        bits.clone(),
                    );
                    self.registers.load(dreg, &bits, origin);
                }
                return if dreg == Some(VERDICT) {
                    stuck(&doubt())
                } else {
                    Effect::Doubt(doubt())
                };
            }
            (Found::Nothing, true) | (Found::Added, false) => return Effect::Next,
            (Found::Nothing, false) => return Effect::Break(format!("{is}, not in {shown}")),
            (Found::Element(_) | Found::Added, true) => {
                return Effect::Break(format!("{is}, which is in {shown}"));
            }
            (Found::Element(element), false) => element,
        };
        if lookup::may_refuse(element) && !self.walk.world.within_limits {
            self.doubt
                .get_or_insert_with(|| format!("the element of {shown} has a limit of its own"));
        }
        match (dreg, &element.data) {
            (Some(VERDICT), Some(Data::Verdict(verdict))) => {
                self.said.push(format!("{is}: {verdict}"));
                self.verdict(verdict)
            }
            (Some(dreg), _) => {
                let bits = lookup::value(element).unwrap_or_else(|| Bits::unknown(16));
                let text = format!("{} map {shown}", texts.join(" . "));
                self.registers.load(dreg, &bits, Origin::new(text, Style::RAW, bits.clone()));
                Effect::Next
            }
            (None, _) => Effect::Next,
        }
    }

    pub(super) fn verdict(&self, verdict: &Verdict) -> Effect {
        match verdict {
            Verdict::Continue => Effect::Next,
            // NF_QUEUE with the queue's number above it.
            Verdict::Code(code) if code & 0xff == 3 => {
                stuck(&format!("a program in user space decides (queue {})", code >> 16))
            }
            Verdict::Code(code) => stuck(&format!("verdict {code}")),
            verdict => Effect::End(End::Verdict(verdict.clone())),
        }
    }

    pub(super) fn register(&self, register: Register, len: usize) -> Bits {
        self.registers.get(register, len)
    }

    /// Whether an expression that names a family is for this packet.
    pub(super) fn is_for(&self, family: u32) -> bool {
        self.table.family != Family::INET
            || family == u32::from(Family::INET.0)
            || family == u32::from(self.walk.packet.family.0)
    }
}

pub(super) fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn answer(truth: Truth, origin: &Origin, why: impl FnOnce() -> String) -> Effect {
    match truth {
        Truth::Yes => Effect::Next,
        Truth::No => Effect::Break(why()),
        Truth::Maybe => Effect::Doubt(origin.doubt()),
    }
}

/// Why a comparison failed, in words.
fn mismatch(origin: &Origin, bits: &Bits, op: CmpOp, word: &str, data: &[u8]) -> String {
    let Origin { text, style, mask, .. } = origin;
    let value = origin.value();
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    match (mask, op) {
        (None, CmpOp::Neq) => format!("{text} is {value}"),
        (None, ..) => format!("{text} is {value}, {word}{}", style.text(data)),
        (Some(mask), CmpOp::Neq) if style.kind.is_bitmask() && zero(data) => {
            format!("{text} is {value}, without {}", style.text(mask))
        }
        (Some(mask), CmpOp::Eq | CmpOp::Neq) if style.kind.is_address() => {
            let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
            let not = if op == CmpOp::Eq { "not " } else { "" };
            format!("{text} is {value}, {not}in {}/{ones}", style.text(data))
        }
        (Some(mask), ..) => {
            let masked = bits.bytes().map_or_else(|| "?".to_owned(), |bytes| style.text(&bytes));
            format!(
                "{text} is {value}; & {} it is {masked}, {word}{}",
                style.text(mask),
                style.text(data)
            )
        }
    }
}
