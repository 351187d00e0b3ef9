//! One rule: runs its instructions over registers that hold values in nft's words instead of bytes.
//!
//! nft adds matches by itself where a header field needs them (`ip daddr` in an inet table needs "is IPv4") and
//! leaves them out when it lists. So does this: such a match is remembered with the layer it tells about and
//! dropped when a field of that layer follows, unless a statement that is no match came between.

use super::super::expr::{Data, Expr, Register, VERDICT};
use super::super::names::header::{self, Header};
use super::super::names::{Order, Type, extension as options};
use super::super::{Family, Rule, Set, Table};
use super::elements::{Elements, Part, single};
use super::field::{self, Field, Source};
use super::{Constant, Statement, Value};

/// Layers a match may tell the protocol of: link, network, transport, and what is inside of ICMP.
const LAYERS: usize = 4;
pub(super) const INSIDE: u32 = 3;

pub(super) struct Rebuild<'a> {
    pub(super) table: &'a Table,
    /// How many chains without a name are around.
    pub(super) depth: usize,
    /// By four-octet slot.
    registers: [Option<Value<'a>>; 16],
    pub(super) statements: Vec<Option<Statement<'a>>>,
    /// Statement that only tells which protocol a layer has.
    pub(super) pending: [Option<usize>; LAYERS],
    /// What told the transport protocol and was left out since the last statement, and its place.
    pub(super) dropped: Option<(usize, Statement<'a>)>,
    /// Headers of the link layer, each with its first bit.
    pub(super) link: Vec<(&'static Header, u32)>,
    pub(super) network: Option<&'static Header>,
    pub(super) transport: Option<&'static Header>,
    /// The type of ICMP that a match has told.
    pub(super) icmp: Option<u8>,
}

pub(super) fn unknown<'a>(text: String) -> Value<'a> {
    Value::Field(Field {
        source: Source::Unknown(text),
        kind: Type::Hex,
        order: Order::Network,
        bits: 32,
    })
}

fn slot(register: Register) -> usize {
    let slot = if register >= 8 { register - 8 } else { register.saturating_sub(1) * 4 };
    usize::try_from(slot).unwrap_or(usize::MAX)
}

impl<'a> Rebuild<'a> {
    pub(super) fn of(table: &'a Table) -> Self {
        let (link, network) = match table.family {
            Family::IP => (vec![], Some(&header::IP)),
            Family::IP6 => (vec![], Some(&header::IP6)),
            Family::ARP => (vec![], Some(&header::ARP)),
            Family::BRIDGE => (vec![(&header::ETHER, 0)], None),
            _ => (vec![], None),
        };
        Self {
            table,
            depth: 0,
            registers: Default::default(),
            statements: Vec::new(),
            pending: [None; LAYERS],
            dropped: None,
            link,
            network,
            transport: None,
            icmp: None,
        }
    }

    /// For a rule of a chain that is written within another's.
    pub(super) fn within(table: &'a Table, depth: usize) -> Self {
        Self { depth, ..Self::of(table) }
    }

    pub(super) fn rule(mut self, rule: &'a Rule) -> Vec<Statement<'a>> {
        for expr in &rule.exprs {
            self.expression(expr);
        }
        self.statements.into_iter().flatten().collect()
    }

    pub(super) fn set(&self, name: &str) -> Option<&'a Set> {
        self.table.sets.iter().find(|set| set.name == name)
    }

    fn expression(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Bitwise { sreg, dreg, len, mask, xor } => {
                let value = self.masked(*sreg, *len, mask, xor);
                self.load(*dreg, value);
            }
            Expr::Shift { sreg, dreg, right, bits, .. } => {
                let value = self.word(*sreg);
                let by = Constant { number: u128::from(*bits), bits: 32, kind: Type::Integer };
                let sign = if *right { ">>" } else { "<<" };
                self.load(
                    *dreg,
                    Value::Binary(sign, Box::new(value), Box::new(Value::Constant(by))),
                );
            }
            Expr::Byteorder { sreg, dreg, hton, .. } => {
                let mut value = self.word(*sreg);
                turn(&mut value, if *hton { Order::Network } else { Order::Host });
                self.load(*dreg, value);
            }
            Expr::Immediate { dreg, data: Data::Value(bytes) } => {
                self.load(*dreg, Value::Long(bytes));
            }
            Expr::Hash { sreg, dreg, len, modulus, seed, offset } => {
                let key = sreg.map(|sreg| Box::new(self.words(sreg, *len)));
                let source = Source::Hash { key, modulus: *modulus, seed: *seed, offset: *offset };
                self.load(
                    *dreg,
                    Value::Field(Field {
                        source,
                        kind: Type::Integer,
                        order: Order::Host,
                        bits: 32,
                    }),
                );
            }
            Expr::Cmp { sreg, op, data } => self.compare(*sreg, *op, data),
            Expr::Range { sreg, inverted, from, to } => self.range(*sreg, *inverted, from, to),
            Expr::Lookup { set, sreg, dreg, inverted } => self.lookup(set, *sreg, *dreg, *inverted),
            Expr::Unknown { .. } => {
                // Which registers it fills is not known either.
                self.push(Statement::Plain(expr));
                self.registers = Default::default();
            }
            loads => match (self.loaded(loads), loads.loads_into()) {
                (Some(field), Some(dreg)) => self.load(dreg, Value::Field(field)),
                (None, Some(dreg)) if dreg != VERDICT => {
                    self.load(dreg, unknown(loads.raw()));
                }
                _ => self.action(loads),
            },
        }
    }

    /// The field that a load reads.
    fn loaded(&self, expr: &'a Expr) -> Option<Field<'a>> {
        match expr {
            Expr::Meta { key, .. } => field::meta(*key),
            Expr::Ct { key, direction, .. } => {
                field::ct(*key, *direction, self.table.family == Family::IP6)
            }
            Expr::Payload { base, offset, len, .. } => {
                Some(field::payload(*base, offset.saturating_mul(8), len.saturating_mul(8)))
            }
            Expr::Exthdr { field, .. } => Some(field::extension(*field, None)),
            Expr::Fib { result, flags, .. } => field::fib(*result, *flags),
            Expr::Rt { key, .. } => field::rt(*key),
            Expr::Socket { key, level, .. } => field::socket(*key, *level),
            Expr::Osf { ttl, flags, .. } => {
                let source = Source::Osf { ttl: *ttl, version: flags & 1 != 0 };
                Some(Field { source, kind: Type::Text, order: Order::Host, bits: 128 })
            }
            Expr::Numgen { modulus, random, offset, .. } => {
                let source = Source::Numgen { random: *random, modulus: *modulus, offset: *offset };
                Some(Field { source, kind: Type::Integer, order: Order::Host, bits: 32 })
            }
            Expr::Xfrm { key, direction, spnum, .. } => field::xfrm(*key, *direction, *spnum),
            Expr::Tunnel { key, .. } => field::tunnel(*key),
            _ => None,
        }
    }

    fn load(&mut self, register: Register, value: Value<'a>) {
        if let Some(register) = self.registers.get_mut(slot(register)) {
            *register = Some(value);
        }
    }

    pub(super) fn word(&self, register: Register) -> Value<'a> {
        let found = self.registers.get(slot(register)).cloned().flatten();
        found.unwrap_or_else(|| unknown(format!("<register {register}>")))
    }

    /// What so many octets from a register on hold: one value, or several side by side.
    pub(super) fn words(&self, register: Register, len: u32) -> Value<'a> {
        let mut values = Vec::new();
        let mut at = slot(register);
        let end = at.saturating_add(usize::try_from(len.div_ceil(4)).unwrap_or(0)).min(16);
        while at < end.max(slot(register) + 1) {
            let Some(Some(value)) = self.registers.get(at) else { break };
            at += usize::try_from(bits_of(value).div_ceil(32)).unwrap_or(1).max(1);
            values.push(value.clone());
        }
        match values.len() {
            0 => self.word(register),
            1 => values.swap_remove(0),
            _ => Value::Concat(values),
        }
    }

    /// `(value & mask) ^ xor` as nft wrote it: an and, an or, an exclusive or.
    fn masked(&self, sreg: Register, len: u32, mask: &[u8], xor: &[u8]) -> Value<'a> {
        let value = self.word(sreg);
        let (mut kind, mut order) = shape(&value);
        // Of a value that has more octets by now than it was read with, the first is the lowest.
        if len > bits_of(&value).div_ceil(8) {
            (kind, order) = (Type::Hex, Order::Host);
        }
        let read = |bytes: &[u8]| Constant::read(bytes, kind, order);
        let (Some(mask), Some(xor)) = (read(mask), read(xor)) else { return value };
        let all = super::ones(len.saturating_mul(8));
        let (mut and, mut exclusive, mut or) = (mask.number, xor.number, 0);
        if and != 0 && (and != all || exclusive != 0) {
            or = (and & exclusive) ^ exclusive;
            exclusive &= and;
            and |= or;
        } else if and == 0 {
            or = exclusive;
            exclusive = 0;
            and = or;
        }
        let mut value = value;
        for (sign, number, neutral) in [("&", and, all), ("^", exclusive, 0), ("|", or, 0)] {
            if number != neutral {
                let operand = Value::Constant(Constant { number, ..mask });
                value = Value::Binary(sign, Box::new(value), Box::new(operand));
            }
        }
        value
    }

    fn lookup(&mut self, name: &'a str, sreg: Register, dreg: Option<Register>, inverted: bool) {
        let found = self.set(name);
        let (key, set) = self.looked_up(name, found, sreg);
        match dreg {
            None => self.matched_set(key, inverted, set),
            Some(VERDICT) => self.push(Statement::VerdictMap(key, set)),
            Some(dreg) => self.load(dreg, Value::Map(Box::new(key), Box::new(set))),
        }
    }

    /// The key that is looked up, and the set.
    pub(super) fn looked_up(
        &mut self,
        name: &'a str,
        found: Option<&'a Set>,
        sreg: Register,
    ) -> (Value<'a>, Value<'a>) {
        let key = self.words(sreg, found.map_or(4, |set| set.key_len));
        let key = typed_as(key, &found.map(super::key_parts).unwrap_or_default());
        let (key, mut parts) = self.resolve_key(key);
        if found.is_some_and(|set| !set.is_map()) {
            // Whether an option is there is a number in sets.
            let fields = fields_of(&key).iter().zip(&mut parts);
            fields
                .filter(|(field, _)| is_presence(field))
                .for_each(|(_, part)| part.kind = Type::Integer);
        }
        let set = match found {
            Some(set) if set.is_anonymous() => Value::Elements(Elements::used_with(set, parts)),
            _ => Value::Named(name),
        };
        (key, set)
    }

    pub(super) fn push(&mut self, statement: Statement<'a>) {
        self.pending = [None; LAYERS];
        self.dropped = None;
        self.statements.push(Some(statement));
    }

    /// A constant that an immediate loaded, as a value of this type.
    pub(super) fn typed(&mut self, value: Value<'a>, kind: Type, order: Order) -> Value<'a> {
        match value {
            Value::Long(bytes) => match Constant::read(bytes, kind, order) {
                Some(constant) => single(constant),
                None => Value::Long(bytes),
            },
            value => self.resolve(value),
        }
    }
}

/// From here on the value is in this order.
fn turn(value: &mut Value<'_>, order: Order) {
    match value {
        Value::Field(field) => field.order = order,
        Value::Binary(_, left, _) => turn(left, order),
        _ => {}
    }
}

/// Type and order of the constants a value is compared with.
pub(super) fn shape(value: &Value<'_>) -> (Type, Order) {
    match value {
        Value::Field(field) => (field.kind, field.order),
        Value::Binary(_, left, _) => shape(left),
        Value::Map(_, set) => match set.as_ref() {
            Value::Elements(elements) => elements
                .data
                .first()
                .map_or((Type::Hex, Order::Network), |part| (part.kind, part.order)),
            _ => (Type::Hex, Order::Network),
        },
        Value::Constant(constant) => (constant.kind, constant.kind.order()),
        _ => (Type::Hex, Order::Network),
    }
}

/// Bits that a value takes in registers.
pub(super) fn bits_of(value: &Value<'_>) -> u32 {
    match value {
        Value::Field(field) => field.bits,
        Value::Binary(_, left, _) => bits_of(left),
        Value::Long(bytes) => u32::try_from(bytes.len()).unwrap_or(0).saturating_mul(8),
        Value::Constant(constant) => constant.bits,
        Value::Map(_, set) => match set.as_ref() {
            Value::Elements(elements) => {
                elements.data.iter().map(|part| part.bits.next_multiple_of(32)).sum()
            }
            _ => 32,
        },
        _ => 32,
    }
}

/// Constants among these values are of the types a set has at their places.
pub(super) fn typed_as<'a>(value: Value<'a>, parts: &[Part]) -> Value<'a> {
    let one = |value: Value<'a>, part: &Part| match value {
        Value::Long(bytes) => {
            Constant::read(bytes, part.kind, part.order).map_or(Value::Long(bytes), single)
        }
        value => value,
    };
    match (value, parts) {
        (Value::Concat(values), parts) if values.len() == parts.len() => Value::Concat(
            values.into_iter().zip(parts).map(|(value, part)| one(value, part)).collect(),
        ),
        (value @ Value::Long(_), [part]) => one(value, part),
        (value, _) => value,
    }
}

/// The parts of a key that is looked up; of each how far it is shifted, and the octets it was cut out of.
pub(super) fn parts_of(key: &Value<'_>, cut: &[(u32, u32)]) -> Vec<Part> {
    let part = |(at, value): (usize, &Value<'_>)| {
        let (kind, order) = shape(value);
        let (shift, width) = cut.get(at).copied().unwrap_or_default();
        Part { kind, order, bits: bits_of(value), shift, width }
    };
    fields_of(key).iter().enumerate().map(part).collect()
}

/// What a key is put together of.
fn fields_of<'v, 'a>(key: &'v Value<'a>) -> &'v [Value<'a>] {
    match key {
        Value::Concat(values) => values,
        single => std::slice::from_ref(single),
    }
}

fn is_presence(value: &Value<'_>) -> bool {
    matches!(value, Value::Field(Field { source: Source::Extension(found, _), .. })
        if options::is_presence(found))
}

pub(super) fn raw_payload<'a>(base: u32, offset: u32, bits: u32) -> Value<'a> {
    Value::Field(field::payload(base, offset, bits))
}
