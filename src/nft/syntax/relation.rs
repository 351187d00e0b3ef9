//! Matches: finding the header fields that were compared, and leaving out what only made them findable.

use super::super::expr::{CmpOp, Register, base};
use super::super::names::header::{self, Header};
use super::super::names::{Order, Type, extension};
use super::dependency;
use super::elements::{Part, between, single};
use super::field::{self, Field, Source, header_field};
use super::rebuild::{INSIDE, Rebuild, parts_of, shape};
use super::{Constant, Join, Relation, Statement, Value, ones, prefix_len};

impl<'a> Rebuild<'a> {
    pub(super) fn compare(&mut self, sreg: Register, op: CmpOp, data: &'a [u8]) {
        let left = self.words(sreg, u32::try_from(data.len()).unwrap_or(0));
        let relation = match op {
            CmpOp::Eq => Relation::Equal,
            CmpOp::Neq => Relation::NotEqual,
            CmpOp::Lt => Relation::Less,
            CmpOp::Lte => Relation::LessEqual,
            CmpOp::Gt => Relation::Greater,
            CmpOp::Gte => Relation::GreaterEqual,
        };
        match left {
            Value::Field(Field { source: Source::Payload(base, offset, bits), .. })
                if matches!(relation, Relation::Equal | Relation::NotEqual) =>
            {
                match Constant::read(data, Type::Hex, Order::Network) {
                    Some(value) => self.expand(base, offset, bits, relation, value),
                    None => self.matched(
                        super::rebuild::raw_payload(base, offset, bits),
                        relation,
                        Value::Long(data),
                    ),
                }
            }
            Value::Binary("&", left, mask) => self.compare_masked(*left, *mask, relation, data),
            left => {
                if let Some((offset, bits)) = self.ports(&left)
                    && let Some(value) = Constant::read(data, Type::Hex, Order::Network)
                    && matches!(relation, Relation::Equal | Relation::NotEqual)
                {
                    return self.expand(base::TRANSPORT, offset, bits, relation, value);
                }
                let left = self.resolve(left);
                let (kind, order) = shape(&left);
                let Some(right) = Constant::read(data, kind, order) else {
                    return self.matched(left, relation, Value::Long(data));
                };
                // The first octets of an address: a prefix.
                let missing = super::rebuild::bits_of(&left).saturating_sub(right.bits);
                if kind.has_prefixes() && missing > 0 {
                    let whole = Constant {
                        number: right.number << missing,
                        bits: right.bits + missing,
                        kind,
                    };
                    return self.matched(left, relation, Value::Prefix(whole, right.bits));
                }
                // A name that is compared with its end is whole.
                let open = data.last() != Some(&0) && right.bits < super::rebuild::bits_of(&left);
                if kind.is_text() && open {
                    return self.matched(left, relation, Value::Beginning(right));
                }
                self.merge(left, relation, right);
            }
        }
    }

    /// What was taken for a port may be another field, of a transport that is known.
    fn ports(&self, value: &Value<'a>) -> Option<(u32, u32)> {
        match value {
            Value::Field(Field { source: Source::Header { header, field }, .. })
                if header.name == "th" && self.transport.is_some() =>
            {
                Some((field.offset, field.bits))
            }
            _ => None,
        }
    }

    pub(super) fn range(&mut self, sreg: Register, inverted: bool, from: &'a [u8], to: &'a [u8]) {
        let left = self.word(sreg);
        let (left, shift) = self.trimmed(left);
        let left = self.resolve(left);
        let (kind, order) = shape(&left);
        let relation = if inverted { Relation::NotEqual } else { Relation::Equal };
        let read = |bytes| Constant::read(bytes, kind, order);
        let right = match (read(from), read(to)) {
            (Some(from), Some(to)) => {
                let kind = if kind == Type::IfType { Type::Integer } else { kind };
                let shifted =
                    |value: Constant| Constant { number: value.number >> shift, kind, ..value };
                Value::Range(shifted(from), shifted(to))
            }
            _ => Value::Long(from),
        };
        self.matched(left, relation, right);
    }

    pub(super) fn matched_set(&mut self, left: Value<'a>, inverted: bool, set: Value<'a>) {
        let relation = if inverted { Relation::NotEqual } else { Relation::Equal };
        if let (Value::Field(field), Value::Elements(elements), false) = (&left, &set, inverted) {
            self.told_echo(field, elements.set);
        }
        self.matched(left, relation, set);
    }

    fn matched(&mut self, left: Value<'a>, relation: Relation, right: Value<'a>) {
        self.dropped = None;
        self.statements.push(Some(Statement::Match { left, relation, right }));
    }

    /// `>= a` and `<= b` on the same field are a range.
    fn merge(&mut self, left: Value<'a>, relation: Relation, right: Constant) {
        if relation == Relation::LessEqual
            && let Some(Some(Statement::Match { left: same, relation: lower, right: range })) =
                self.statements.last_mut()
            && *lower == Relation::GreaterEqual
            && *same == left
            && let Value::Constant(from) = range
        {
            *lower = Relation::Equal;
            *range = Value::Range(*from, right);
            return;
        }
        let ordered = !matches!(relation, Relation::Equal | Relation::NotEqual);
        // Of link types nft has the words in the host's order only.
        let right =
            if ordered && right.kind == Type::IfType { right.of(Type::Integer) } else { right };
        let value = match single(right) {
            Value::Flags(flags, _) if flags.number.count_ones() <= 1 => {
                Value::Flags(flags, Join::Whole)
            }
            value => value,
        };
        let tells = match (&left, relation) {
            (Value::Field(field), Relation::Equal) => {
                dependency::protocol_of(field, self.table.family)
            }
            _ => None,
        };
        self.matched(left, relation, value);
        if let Some(layer) = tells {
            self.told(layer, right.number);
        }
    }

    /// A comparison of masked bits: flags, a prefix, a field narrower than an octet, or the arithmetic.
    fn compare_masked(
        &mut self,
        left: Value<'a>,
        mask: Value<'a>,
        relation: Relation,
        data: &'a [u8],
    ) {
        let whole = Value::Binary("&", Box::new(left), Box::new(mask));
        let (left, shift) = self.trimmed(whole);
        let left = self.resolve(left);
        let (kind, order) = shape(&left);
        let Some(mut right) = Constant::read(data, kind, order) else {
            return self.matched(left, relation, Value::Long(data));
        };
        let Value::Binary("&", inner, mask) = left else {
            right.number >>= shift;
            return self.merge(left, relation, right);
        };
        let mask = match *mask {
            Value::Constant(mask) | Value::Flags(mask, _) => mask.of(kind),
            other => {
                let left = Value::Binary("&", inner, Box::new(other));
                return self.matched(left, relation, single(right));
            }
        };
        let equality = matches!(relation, Relation::Equal | Relation::NotEqual);
        let named = kind.is_bitmask();
        let inner = *inner;
        match relation {
            Relation::NotEqual if named && right.number == 0 => {
                self.matched(inner, Relation::Any, listed(mask));
            }
            Relation::Equal if named && right.number == 0 => {
                self.matched(inner, Relation::None, listed(mask));
            }
            _ if named
                && equality
                && (right.number != mask.number || mask.number.count_ones() > 1) =>
            {
                let not = relation == Relation::NotEqual;
                self.dropped = None;
                self.statements.push(Some(Statement::Masked {
                    left: inner,
                    not,
                    value: right,
                    mask,
                }));
            }
            _ if equality
                && kind.has_prefixes()
                && prefix_len(mask.number, mask.bits).is_some() =>
            {
                let len = prefix_len(mask.number, mask.bits).unwrap_or(0);
                self.matched(inner, relation, Value::Prefix(right, len));
            }
            _ => {
                let left = Value::Binary("&", Box::new(inner), Box::new(listed(mask)));
                if equality {
                    self.matched(left, relation, single(right));
                } else {
                    self.merge(left, relation, right);
                }
            }
        }
    }

    /// Equality with octets of a header: a match for each field they cover.
    fn expand(&mut self, base: u32, offset: u32, bits: u32, relation: Relation, value: Constant) {
        let (mut at, mut left) = (offset, bits.min(value.bits));
        while left > 0 {
            let Some((header, field)) = self.field_at(base, at, left) else {
                let raw = super::rebuild::raw_payload(base, at, left);
                let (kind, _) = shape(&raw);
                let right = Constant { number: value.number & ones(left), bits: left, kind };
                self.one_field(base, raw, relation, single(right), None);
                return;
            };
            let name = Value::Field(header_field(header, field));
            if field.bits > left {
                // The first octets of an address: a prefix.
                let number = (value.number & ones(left)) << (field.bits - left);
                let whole = Constant { number, bits: field.bits, kind: field.kind };
                self.one_field(base, name, relation, Value::Prefix(whole, left), None);
                return;
            }
            left -= field.bits;
            at += field.bits;
            let number = value.number >> left & ones(field.bits);
            let right = match listed(Constant { number, bits: field.bits, kind: field.kind }) {
                Value::Flags(flags, _) => Value::Flags(flags, Join::Whole),
                value => value,
            };
            let tells = (relation == Relation::Equal).then_some((header, field, number));
            self.one_field(base, name, relation, right, tells);
        }
    }

    fn one_field(
        &mut self,
        base: u32,
        left: Value<'a>,
        relation: Relation,
        right: Value<'a>,
        tells: Option<(&'static Header, header::Field, u128)>,
    ) {
        // What is not a field of the protocol may lie anywhere: that the protocol is said stays.
        if !matches!(&left, Value::Field(Field { source: Source::Payload(..), .. })) {
            self.used(base, &left);
        }
        self.matched(left, relation, right);
        let Some((header, field, number)) = tells else { return };
        if header.name.starts_with("icmp") && field.name == "type" {
            self.icmp = u8::try_from(number).ok();
            self.remember(INSIDE);
        }
        if header.upper == Some(field.name) {
            self.told(base, number);
        }
    }

    /// The field that begins there, all of it or, if there is none so short, one of which only the beginning is
    /// compared.
    fn field_at(
        &self,
        base: u32,
        offset: u32,
        bits: u32,
    ) -> Option<(&'static Header, header::Field)> {
        let (header, start) = self.header_at(base, offset)?;
        let offset = offset.checked_sub(start)?;
        let mut fits = header.fields_at(offset, self.icmp).filter(|field| field.bits <= bits);
        let field = fits.next().or_else(|| header.fields_at(offset, self.icmp).next())?;
        Some((header, *field))
    }

    /// Finds the header fields in a value, and marks their layers as used.
    pub(super) fn resolve(&mut self, value: Value<'a>) -> Value<'a> {
        match value {
            Value::Field(field) => self.resolve_field(field),
            Value::Binary(">>", left, right) => {
                match self.moved(Value::Binary(">>", left, right)).0 {
                    Value::Binary(sign, left, right) => {
                        Value::Binary(sign, Box::new(self.resolve(*left)), right)
                    }
                    field => field,
                }
            }
            Value::Binary(sign, left, right) => {
                let left = self.resolve(*left);
                let (kind, order) = shape(&left);
                let right = match *right {
                    Value::Constant(wide)
                        if wide.bits.div_ceil(8) > super::rebuild::bits_of(&left).div_ceil(8) =>
                    {
                        Value::Constant(wide)
                    }
                    Value::Constant(constant) if sign != "<<" => single(constant.of(kind)),
                    Value::Long(bytes) => match Constant::read(bytes, kind, order) {
                        Some(constant) => Value::Constant(constant),
                        None => Value::Long(bytes),
                    },
                    other => other,
                };
                Value::Binary(sign, Box::new(left), Box::new(right))
            }
            Value::Concat(values) => {
                Value::Concat(values.into_iter().map(|value| self.resolve(value)).collect())
            }
            other => other,
        }
    }

    fn resolve_field(&mut self, mut field: Field<'a>) -> Value<'a> {
        match &mut field.source {
            Source::Payload(base, offset, bits) => {
                let (base, offset, bits) = (*base, *offset, *bits);
                let order = field.order;
                let Some(found) = self.header_field_of(base, offset, bits) else {
                    return Value::Field(Field { order, ..field::payload(base, offset, bits) });
                };
                let value = Value::Field(Field { order, ..found });
                self.used(base, &value);
                return value;
            }
            Source::Header { header, field } if header.name == "th" => {
                let named = self.transport.and_then(|header| {
                    let same = |found: &&header::Field| {
                        (found.offset, found.bits) == (field.offset, field.bits)
                    };
                    header.fields.iter().find(same).map(|field| header_field(header, *field))
                });
                if let Some(named) = named {
                    let value = Value::Field(named);
                    self.used(base::TRANSPORT, &value);
                    return value;
                }
                // Ports of a transport that has none by that name: what told it stays.
            }
            Source::Extension(found, _) => self.used_option(found.space),
            Source::Hash { key: Some(key), .. } => {
                let inner = std::mem::replace(key.as_mut(), Value::Any);
                **key = self.resolve(inner);
            }
            _ => {}
        }
        Value::Field(field)
    }

    /// The field of a known header that is exactly these bits.
    fn header_field_of(&self, base: u32, offset: u32, bits: u32) -> Option<Field<'a>> {
        let (header, start) = self.header_at(base, offset)?;
        let offset = offset.checked_sub(start)?;
        let field = header.fields_at(offset, self.icmp).find(|field| field.bits == bits)?;
        Some(header_field(header, *field))
    }

    /// An option tells the protocol it belongs to; a match that told another stays.
    fn used_option(&mut self, space: u32) {
        let (layer, told, name) = match space {
            extension::IPV6 => (base::NETWORK, self.network, "ip6"),
            extension::IPV4 => (base::NETWORK, self.network, "ip"),
            extension::TCP => (base::TRANSPORT, self.transport, "tcp"),
            extension::SCTP => (base::TRANSPORT, self.transport, "sctp"),
            _ => return,
        };
        if told.is_some_and(|header| header.name == name) {
            self.used(layer, &Value::Any);
        }
    }

    /// A key that is looked up: its fields found, and the parts its elements are made of.
    pub(super) fn resolve_key(&mut self, key: Value<'a>) -> (Value<'a>, Vec<Part>) {
        let values = match key {
            Value::Concat(values) => values,
            single => vec![single],
        };
        let mut cut = Vec::new();
        let mut resolved = Vec::new();
        for value in values {
            let octets = super::rebuild::bits_of(&value).div_ceil(8);
            let (value, shift) = self.moved(value);
            resolved.push(self.resolve(value));
            cut.push((shift, octets));
        }
        let key =
            if resolved.len() == 1 { resolved.swap_remove(0) } else { Value::Concat(resolved) };
        let parts = parts_of(&key, &cut);
        (key, parts)
    }

    /// Before it looks one up, or in a concatenation, nft moves a field narrower than an octet to the right by itself: the
    /// values are not shifted then.
    fn moved(&mut self, value: Value<'a>) -> (Value<'a>, u32) {
        let Value::Binary(">>", left, right) = value else { return self.trimmed(value) };
        let (left, shift) = self.trimmed(*left);
        match *right {
            Value::Constant(by) if shift > 0 && by.number == u128::from(shift) => (left, 0),
            right => (Value::Binary(">>", Box::new(left), Box::new(right)), 0),
        }
    }

    /// Payload masked to a field narrower than an octet is that field; the second is how far its values are
    /// shifted.
    pub(super) fn trimmed(&mut self, value: Value<'a>) -> (Value<'a>, u32) {
        let Value::Binary("&", left, mask) = &value else { return (value, 0) };
        let (Value::Field(field), Value::Constant(mask)) = (left.as_ref(), mask.as_ref()) else {
            return (value, 0);
        };
        match self.narrow(field, mask.number) {
            Some((field, layer, shift)) => {
                let value = Value::Field(field);
                self.used(layer, &value);
                (value, shift)
            }
            None => (value, 0),
        }
    }

    pub(super) fn narrow(&self, field: &Field<'a>, mask: u128) -> Option<(Field<'a>, u32, u32)> {
        let shift = mask.trailing_zeros();
        let bits = mask.count_ones();
        if mask == 0 || mask >> shift != ones(bits) || bits == field.bits {
            return None;
        }
        let skipped = field.bits.checked_sub(shift + bits)?;
        match &field.source {
            Source::Payload(layer, offset, _) => {
                let (header, start) = self.header_at(*layer, *offset)?;
                let at = offset.checked_add(skipped)?.checked_sub(start)?;
                let found = header.fields_at(at, self.icmp).find(|found| found.bits == bits)?;
                Some((header_field(header, *found), *layer, shift))
            }
            Source::Extension(found, None) => {
                let at = found.offset.saturating_mul(8).saturating_add(skipped);
                extension::named(found, Some((at, bits)))?;
                let layer =
                    if found.space == extension::IPV6 { base::NETWORK } else { base::TRANSPORT };
                Some((field::extension(*found, Some((at, bits))), layer, shift))
            }
            _ => None,
        }
    }
}

/// Flags side by side, where they are compared.
fn listed<'a>(constant: Constant) -> Value<'a> {
    if constant.kind.is_bitmask() && constant.kind != Type::CtLabel {
        Value::Flags(constant, Join::List)
    } else {
        Value::Constant(constant)
    }
}

/// The values between two, for those who have them as octets.
pub(super) fn octets_between<'a>(part: (Type, Order), first: &'a [u8], last: &[u8]) -> Value<'a> {
    let read = |bytes| Constant::read(bytes, part.0, part.1);
    match (read(first), read(last)) {
        (Some(first), Some(last)) => between(first, last),
        _ => Value::Long(first),
    }
}
