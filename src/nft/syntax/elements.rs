//! The elements of sets and maps, as values in nft's order.

use super::super::expr::Data;
use super::super::names::{Order, Type};
use super::super::{DataType, Element, Set, set};
use super::{Constant, Join, Value, prefix_len};

/// NFT_SET_ELEM_INTERVAL_END, _CATCHALL.
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;
/// libnftnl's types of userdata of a set.
const UDATA_KEY_ORDER: u8 = 0;
const UDATA_DATA_ORDER: u8 = 1;
const UDATA_DATA_INTERVAL: u8 = 6;

/// One part of a key or of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub kind: Type,
    pub order: Order,
    /// Bits it takes, before it is filled up to a multiple of 32 in a concatenation.
    pub bits: u32,
    /// Bits to the right of the value that a mask cut off.
    pub shift: u32,
    /// Octets of what it was cut out of; 0 when they follow from the bits.
    pub width: u32,
}

impl Part {
    pub fn of(kind: Type, bits: u32) -> Self {
        Self { kind, order: kind.order(), bits, shift: 0, width: 0 }
    }

    fn octets(self) -> usize {
        usize::try_from(self.bits.saturating_add(self.shift).div_ceil(8).max(self.width))
            .unwrap_or(0)
    }

    fn read(self, bytes: &[u8]) -> Option<Constant> {
        let order = if self.kind.is_text() { Order::Host } else { self.order };
        let mut constant = Constant::read(bytes, self.kind, order)?;
        // Of a field within two octets nft 1.1 stores values in as many as they need, from the first one on.
        let needed = usize::try_from(self.bits.saturating_add(self.shift).div_ceil(8)).unwrap_or(0);
        if needed < bytes.len()
            && constant.number > super::ones(self.bits.saturating_add(self.shift))
        {
            constant = Constant::read(bytes.get(..needed)?, self.kind, order)?;
        }
        constant.number >>= self.shift;
        constant.bits = if self.shift == 0 { constant.bits } else { self.bits };
        Some(constant)
    }
}

/// A set or map with the types of its keys and data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements<'a> {
    pub set: &'a Set,
    pub key: Vec<Part>,
    pub data: Vec<Part>,
}

/// An element as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    pub key: Value<'a>,
    pub data: Option<Value<'a>>,
    pub element: &'a Element,
}

/// The parts of a set's key by its declared type.
pub(crate) fn key_parts(set: &Set) -> Vec<Part> {
    let order = order_of(set, UDATA_KEY_ORDER);
    let parts = match super::declared::key(set) {
        Some(fields) => declared_parts(&fields, order),
        None => parts(set.key_type, set.key_len, order),
    };
    stored(set, parts)
}

/// As the kernel has them: intervals compare octet by octet, so whatever the order of a type (or what nft noted with the
/// set) is, their keys are in network order, each part of a concatenation too.
fn stored(set: &Set, mut parts: Vec<Part>) -> Vec<Part> {
    if set.flags & set::INTERVAL != 0 {
        parts.iter_mut().for_each(|part| part.order = Order::Network);
    }
    parts
}

/// Parts of the types and lengths that expressions have.
fn declared_parts(fields: &[super::Field<'_>], order: Option<Order>) -> Vec<Part> {
    let one = fields.len() == 1;
    let part = |field: &super::Field<'_>| {
        let order = order.filter(|_| one).unwrap_or(field.order);
        Part { kind: field.kind, order, bits: field.bits.next_multiple_of(8), shift: 0, width: 0 }
    };
    fields.iter().map(part).collect()
}

fn data_parts(set: &Set) -> Vec<Part> {
    if let Some(fields) = super::declared::data(set) {
        return declared_parts(&fields, order_of(set, UDATA_DATA_ORDER));
    }
    match set.data {
        Some(DataType::Value { kind, len }) => {
            let order = if has_data_intervals(set) { Some(Order::Network) } else { None };
            parts(
                kind,
                if has_data_intervals(set) { len / 2 } else { len },
                order_of(set, UDATA_DATA_ORDER).or(order),
            )
        }
        _ => Vec::new(),
    }
}

fn has_data_intervals(set: &Set) -> bool {
    set.userdata.value(UDATA_DATA_INTERVAL).is_some_and(|bytes| bytes.first() == Some(&1))
}

fn order_of(set: &Set, kind: u8) -> Option<Order> {
    match set.userdata.value(kind)?.first()? {
        1 => Some(Order::Host),
        2 => Some(Order::Network),
        _ => None,
    }
}

fn parts(number: u32, len: u32, order: Option<Order>) -> Vec<Part> {
    let types = Type::parts(number);
    match types.as_slice() {
        [] => vec![Part {
            kind: Type::Hex,
            order: Order::Network,
            bits: len.saturating_mul(8),
            shift: 0,
            width: 0,
        }],
        [kind] => {
            let order = order.unwrap_or(kind.order());
            vec![Part { kind: *kind, order, bits: len.saturating_mul(8), shift: 0, width: 0 }]
        }
        types => {
            let known = types.iter().filter(|kind| kind.bits() > 0);
            let known: u32 = known.map(|kind| kind.bits().next_multiple_of(32)).sum();
            // What is left is shared by those of no certain length.
            let others =
                u32::try_from(types.iter().filter(|kind| kind.bits() == 0).count()).unwrap_or(1);
            let rest = len.saturating_mul(8).saturating_sub(known) / others.max(1);
            let bits = |kind: Type| if kind.bits() == 0 { rest } else { kind.bits() };
            types.iter().map(|kind| Part::of(*kind, bits(*kind).max(8))).collect()
        }
    }
}

impl<'a> Elements<'a> {
    /// A set whose keys are of the types it was declared with.
    pub(crate) fn of_named(set: &'a Set) -> Self {
        Self { set, key: key_parts(set), data: data_parts(set) }
    }

    /// A set that is looked up with a key of these parts.
    pub(crate) fn used_with(set: &'a Set, key: Vec<Part>) -> Self {
        let mut key = stored(set, key);
        if set.is_map() {
            // Raw payload is told in decimal there.
            key.iter_mut()
                .filter(|part| part.kind == Type::Hex && part.bits <= 64)
                .for_each(|part| part.kind = Type::Integer);
        }
        Self { set, key, data: data_parts(set) }
    }

    pub(crate) fn has_data_intervals(&self) -> bool {
        has_data_intervals(self.set)
    }

    pub fn entries(&self) -> Vec<Entry<'a>> {
        let concat = self.key.len() > 1;
        let interval = self.set.flags & set::INTERVAL != 0;
        let mut elements: Vec<&'a Element> = self.set.elements.iter().collect();
        if !(concat && interval) {
            // What ranks alike comes in nft's order, which is not the kernel's but its reverse.
            elements.reverse();
            elements.sort_by_cached_key(|element| self.rank(element));
        }
        let mut entries = Vec::with_capacity(elements.len());
        let mut rest = elements.as_slice();
        while let [element, tail @ ..] = rest {
            rest = tail;
            if element.flags & INTERVAL_END != 0 {
                continue;
            }
            let key = match (interval && !concat, tail) {
                _ if element.flags & CATCH_ALL != 0 => Value::Any,
                (true, [next, ..]) => self.interval(element, Some(next)),
                (true, []) => self.interval(element, None),
                (false, _) => key_of(&self.key, &element.key, element.key_end.as_deref()),
            };
            entries.push(Entry { key, data: self.data(element), element });
        }
        entries
    }

    /// Numbers sort as numbers; names and concatenations as numbers whose first octet is the lowest. A catch-all
    /// comes last.
    fn rank(&self, element: &Element) -> (bool, Vec<u8>, u8) {
        let last = element.flags & CATCH_ALL != 0;
        let mut bytes = element.key.clone();
        // Bits with names sort by the lowest.
        if let [part] = self.key.as_slice()
            && part.kind.is_bitmask()
            && let Some(value) = part.read(&element.key)
        {
            return (last, vec![u8::try_from(value.number.trailing_zeros()).unwrap_or(u8::MAX)], 0);
        }
        let network = matches!(self.key.as_slice(), [part] if part.order == Order::Network);
        if !network {
            bytes.reverse();
        }
        // An interval's end comes before the next one's beginning.
        let begins = u8::from(element.flags & INTERVAL_END == 0);
        (last, bytes, begins)
    }

    /// From the element's key up to what comes before the next one's.
    fn interval(&self, element: &'a Element, next: Option<&'a Element>) -> Value<'a> {
        let Some(part) = self.key.first() else { return Value::Long(&element.key) };
        // As numbers, those of names too.
        let read = |bytes: &[u8]| Constant::read(bytes, part.kind, part.order);
        let Some(first) = read(&element.key) else { return Value::Long(&element.key) };
        let last = match next.and_then(|next| read(&next.key)) {
            Some(end) => end.number.wrapping_sub(1) & super::ones(first.bits),
            None => super::ones(first.bits),
        };
        if part.kind.is_text() {
            return names(first, last);
        }
        // A range to the end of the octets is one to the last of the values.
        let most = part.kind.bits();
        let last = if most > 0 && most < 8 && part.shift == 0 {
            last.min(super::ones(most))
        } else {
            last
        };
        let bits = if part.shift == 0 { first.bits } else { part.bits };
        let shifted = |number: u128| Constant { number: number >> part.shift, bits, ..first };
        between(shifted(first.number), shifted(last))
    }

    fn data(&self, element: &'a Element) -> Option<Value<'a>> {
        match (&element.data, &element.object) {
            (Some(Data::Verdict(verdict)), _) => Some(Value::Verdict(verdict)),
            (Some(Data::Value(bytes)), _) if has_data_intervals(self.set) => {
                let (first, last) = bytes.split_at_checked(bytes.len() / 2)?;
                Some(key_of(&self.data, first, Some(last)))
            }
            (Some(Data::Value(bytes)), _) => Some(key_of(&self.data, bytes, None)),
            (None, Some(object)) => Some(Value::Object(object)),
            (None, None) => None,
        }
    }
}

/// A key of these parts, each from its first value to its last.
fn key_of<'a>(parts: &[Part], first: &'a [u8], last: Option<&'a [u8]>) -> Value<'a> {
    if let [part] = parts {
        return part_of(*part, first, last);
    }
    let mut values = Vec::new();
    let (mut first_rest, mut last_rest) = (first, last);
    for part in parts {
        let octets = part.octets();
        let padded = octets.next_multiple_of(4);
        let Some((value, rest)) = split(first_rest, octets, padded) else {
            return Value::Long(first);
        };
        let end = last_rest.and_then(|last| split(last, octets, padded));
        values.push(part_of(*part, value, end.map(|(value, _)| value)));
        first_rest = rest;
        last_rest = end.map(|(_, rest)| rest);
    }
    Value::Concat(values)
}

/// A part, and what follows its padding. The last part may come without.
fn split(bytes: &[u8], octets: usize, padded: usize) -> Option<(&[u8], &[u8])> {
    Some((bytes.get(..octets)?, bytes.get(padded..).unwrap_or(&[])))
}

fn part_of<'a>(part: Part, first: &'a [u8], last: Option<&'a [u8]>) -> Value<'a> {
    let Some(first_value) = part.read(first) else { return Value::Long(first) };
    match last.and_then(|last| part.read(last)) {
        Some(last) if last == first_value => single(first_value),
        Some(last) if part.kind.is_text() => names(turned(first_value), turned(last).number),
        // As a prefix nft takes only addresses there; of other types it turns the octets round when it loads one.
        Some(last) if !part.kind.is_address() => Value::Range(first_value, last),
        Some(last) => between(first_value, last),
        None => single(first_value),
    }
}

/// A name whose first octet is the highest of the number instead of the lowest, or the other way round.
fn turned(name: Constant) -> Constant {
    let unused = 128 - name.bits.min(128);
    Constant { number: name.number.swap_bytes().checked_shr(unused).unwrap_or(0), ..name }
}

/// One name, or all that begin alike; the first octet is the highest of the numbers.
fn names<'a>(first: Constant, last: u128) -> Value<'a> {
    let last = Constant { number: last, ..first };
    if first == last {
        return Value::Constant(turned(first));
    }
    let free = (128 - (first.number ^ last.number).leading_zeros()).next_multiple_of(8);
    let any = super::ones(free);
    if first.number & any != 0 || last.number & any != any {
        return Value::Range(turned(first), turned(last));
    }
    let number = first.number.checked_shr(free).unwrap_or(0);
    let bits = first.bits.saturating_sub(free);
    Value::Beginning(turned(Constant { number, bits, ..first }))
}

/// One value; bits with names by their names.
pub fn single<'a>(constant: Constant) -> Value<'a> {
    if constant.kind.is_bitmask() && constant.kind != Type::CtLabel {
        Value::Flags(constant, Join::Or)
    } else {
        Value::Constant(constant)
    }
}

/// All from first to last.
pub fn between<'a>(first: Constant, last: Constant) -> Value<'a> {
    if first.number == last.number {
        return single(first);
    }
    let differing = first.number ^ last.number;
    let bits = first.bits;
    let host = 128 - differing.leading_zeros();
    let whole = super::ones(host);
    let aligned = first.number & whole == 0 && last.number & whole == whole;
    if aligned
        && first.kind.has_prefixes()
        && prefix_len(super::ones(bits) & !whole, bits).is_some()
    {
        return Value::Prefix(first, bits - host);
    }
    Value::Range(first, last)
}
