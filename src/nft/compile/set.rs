//! Sets and maps: named ones as the document defines them, and what all have in common: types and elements.

use nftables::expr::{Expression, NamedExpression, Verdict as Word};
use nftables::schema::{self, SetFlag, SetPolicy, SetType, SetTypeValue};
use serde_json::Value;

use super::Why;
use super::kind::{Kind, Span, what};
use crate::nft::expr::{Data, Verdict};
use crate::nft::names::Type;
use crate::nft::{DataType, Element, Set, Userdata, set};

/// NFT_SET_ELEM_INTERVAL_END, _CATCHALL.
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;
/// Types of user data of sets (libnftnl): byte order of the key and of the values, comment.
const KEY_BYTE_ORDER: u8 = 0;
const DATA_BYTE_ORDER: u8 = 1;
/// User data of elements: flags; the interval that has no end is one.
const ELEMENT_FLAGS: u8 = 1;
const INTERVAL_OPEN: u32 = 1;
const HOST_ORDER: u32 = 1;
const NETWORK_ORDER: u32 = 2;
const COMMENT: u8 = 7;

/// What a map maps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    Verdicts,
    Of(Kind),
}

impl Values {
    pub(crate) fn data_type(self) -> Result<DataType, Why> {
        Ok(match self {
            Self::Verdicts => DataType::Verdict,
            Self::Of(kind) => DataType::Value {
                kind: kind.number().ok_or("a map to values of this type")?,
                len: u32::try_from(kind.octets()).unwrap_or(0),
            },
        })
    }
}

/// One element before it is bytes.
#[derive(Debug, Clone)]
pub struct Entry {
    /// One for each part of the key; none for the catch-all element.
    spans: Vec<Span>,
    data: Option<Data>,
    timeout: Option<u64>,
    userdata: Userdata,
}

pub(crate) fn named_set(wanted: &schema::Set<'_>) -> Result<(Set, Vec<Entry>), Why> {
    let shape = Shape {
        name: &wanted.name,
        kinds: kinds(&wanted.set_type),
        values: None,
        flags: wanted.flags.iter().flatten().copied().collect(),
        policy: wanted.policy,
        timeout: wanted.timeout,
        gc_interval: wanted.gc_interval,
        size: wanted.size,
        comment: wanted.comment.as_deref(),
    };
    let made = shape.set()?;
    let entries = entries(&made, wanted.elem.as_deref().unwrap_or(&[]))?;
    Ok((made, entries))
}

pub(crate) fn named_map(
    wanted: &schema::Map<'_>,
    verdicts: bool,
) -> Result<(Set, Vec<Entry>), Why> {
    let values = match (verdicts, kinds(&wanted.map).as_slice()) {
        (true, _) => Values::Verdicts,
        (false, [kind]) => Values::Of(*kind),
        (false, _) => return Err("a map to a concatenation".into()),
    };
    let shape = Shape {
        name: &wanted.name,
        kinds: kinds(&wanted.set_type),
        values: Some(values),
        flags: wanted.flags.iter().flatten().copied().collect(),
        policy: wanted.policy,
        timeout: wanted.timeout,
        gc_interval: wanted.gc_interval,
        size: wanted.size,
        comment: wanted.comment.as_deref(),
    };
    let made = shape.set()?;
    let entries = entries(&made, wanted.elem.as_deref().unwrap_or(&[]))?;
    Ok((made, entries))
}

/// The crate's type has no maps to verdicts: such a one is read as one to marks, and remembered.
pub(crate) fn without_verdict(body: &Value) -> (Value, bool) {
    let mut body = body.clone();
    let verdicts = body.get("map").and_then(Value::as_str) == Some("verdict");
    if let Some(map) = body.get_mut("map").filter(|_| verdicts) {
        *map = "mark".into();
    }
    (body, verdicts)
}

struct Shape<'a> {
    name: &'a str,
    kinds: Vec<Kind>,
    values: Option<Values>,
    flags: Vec<SetFlag>,
    policy: Option<SetPolicy>,
    timeout: Option<u32>,
    gc_interval: Option<u32>,
    size: Option<u32>,
    comment: Option<&'a str>,
}

impl Shape<'_> {
    fn set(&self) -> Result<Set, Why> {
        let mut made = empty(self.name, &self.kinds)?;
        for flag in &self.flags {
            made.flags |= match flag {
                SetFlag::Constant => set::CONSTANT,
                SetFlag::Interval => set::INTERVAL,
                SetFlag::Timeout => set::TIMEOUT,
                SetFlag::Dynamic => set::DYNAMIC,
            };
        }
        if let Some(values) = self.values {
            made.flags |= set::MAP;
            made.data = Some(values.data_type()?);
        }
        if self.timeout.is_some() {
            made.flags |= set::TIMEOUT;
        }
        made.policy = u32::from(self.policy == Some(SetPolicy::Memory));
        made.timeout = self.timeout.map(|seconds| u64::from(seconds) * 1000);
        made.gc_interval = self.gc_interval.map(|seconds| seconds.saturating_mul(1000));
        made.size = self.size;
        finish(&mut made, &self.kinds, self.values)?;
        if let Some(comment) = self.comment {
            let text = Userdata::comment(comment).0;
            // The same bytes under another number.
            made.userdata.0.push(COMMENT);
            made.userdata.0.extend(text.into_iter().skip(1));
        }
        Ok(made)
    }
}

/// A set without flags.
pub fn empty(name: &str, kinds: &[Kind]) -> Result<Set, Why> {
    let mut key_type = 0;
    let mut key_len = 0;
    for kind in kinds {
        key_type = key_type << 6 | kind.number().ok_or("a set of values of this type")?;
        key_len += padded(kind.octets(), kinds.len());
    }
    if kinds.is_empty() || kinds.len() > 5 || key_len > 64 {
        return Err("a key of no parts, or of more than fit".into());
    }
    let key_len = u32::try_from(key_len).unwrap_or(0);
    Ok(Set { name: name.to_owned(), key_type, key_len, ..Set::default() })
}

/// What follows from the flags: the lengths of the parts, the byte order of the key.
pub fn finish(made: &mut Set, kinds: &[Kind], values: Option<Values>) -> Result<(), Why> {
    let interval = made.flags & set::INTERVAL != 0;
    if let [kind] = kinds {
        // nft takes names of interfaces for text in the host's order.
        if kind.is_host() || kind.kind == Type::IfName {
            byte_order(made, KEY_BYTE_ORDER, if interval { NETWORK_ORDER } else { HOST_ORDER });
        }
    } else if interval {
        if kinds.iter().any(|kind| kind.is_host()) {
            return Err("intervals of a concatenation with numbers in the host's byte order".into());
        }
        made.flags |= set::CONCAT;
        made.fields = kinds.iter().map(|kind| u32::try_from(kind.octets()).unwrap_or(0)).collect();
    }
    if let Some(Values::Of(kind)) = values
        && kind.is_host()
    {
        byte_order(made, DATA_BYTE_ORDER, HOST_ORDER);
    }
    Ok(())
}

fn byte_order(made: &mut Set, of: u8, order: u32) {
    made.userdata.0.extend([of, 4]);
    made.userdata.0.extend(order.to_ne_bytes());
}

fn padded(octets: usize, parts: usize) -> usize {
    if parts > 1 { octets.next_multiple_of(4) } else { octets }
}

fn kinds(wanted: &SetTypeValue<'_>) -> Vec<Kind> {
    let kind = |kind: &SetType| {
        Kind::from(match kind {
            SetType::Ipv4Addr => Type::Ipv4,
            SetType::Ipv6Addr => Type::Ipv6,
            SetType::EtherAddr => Type::Ether,
            SetType::InetProto => Type::InetProto,
            SetType::InetService => Type::InetService,
            SetType::Mark => Type::Mark,
            SetType::Ifname => Type::IfName,
        })
    };
    match wanted {
        SetTypeValue::Single(single) => vec![kind(single)],
        SetTypeValue::Concatenated(parts) => parts.iter().map(kind).collect(),
    }
}

/// The kinds of a named set, from its number.
pub(crate) fn kinds_of(key_type: u32) -> Vec<Kind> {
    Type::parts(key_type).into_iter().map(Kind::from).collect()
}

/// Elements for a named set or map.
pub fn entries(of: &Set, elements: &[Expression<'_>]) -> Result<Vec<Entry>, Why> {
    let kinds = kinds_of(of.key_type);
    let values = match of.data {
        None => None,
        Some(DataType::Verdict) => Some(Values::Verdicts),
        Some(DataType::Value { kind, .. }) => kinds_of(kind).first().copied().map(Values::Of),
    };
    elements.iter().map(|element| pair_or_key(&kinds, values, element)).collect()
}

pub(crate) fn pair_or_key(
    kinds: &[Kind],
    values: Option<Values>,
    element: &Expression<'_>,
) -> Result<Entry, Why> {
    match (values, element) {
        (None, key) => entry(kinds, key, None),
        (Some(values), Expression::List(pair)) => match pair.as_slice() {
            [key, value] => entry(kinds, key, Some((values, value))),
            _ => Err("an element of a map that is not a pair".into()),
        },
        (Some(_), other) => Err(format!("{} where a pair of key and value is wanted", what(other))),
    }
}

/// One element; `value` with the type it is to have.
pub fn entry(
    kinds: &[Kind],
    key: &Expression<'_>,
    value: Option<(Values, &Expression<'_>)>,
) -> Result<Entry, Why> {
    let (mut timeout, mut userdata, mut key) = (None, Userdata::default(), key);
    if let Expression::Named(NamedExpression::Elem(elem)) = key {
        if elem.counter.is_some() || elem.expires.is_some() {
            return Err("an element with a counter or expires".into());
        }
        timeout = elem.timeout.map(|seconds| u64::from(seconds) * 1000);
        userdata = elem.comment.as_deref().map(Userdata::comment).unwrap_or_default();
        key = &elem.val;
    }
    let spans = match (key, kinds) {
        (Expression::String(word), _) if word == "*" => Vec::new(),
        (Expression::Named(NamedExpression::Concat(parts)), [_, _, ..])
            if parts.len() == kinds.len() =>
        {
            kinds.iter().zip(parts).map(|(kind, part)| kind.span(part)).collect::<Result<_, _>>()?
        }
        (key, [kind]) => vec![kind.span(key)?],
        (key, _) => {
            return Err(format!(
                "{} where a concatenation of {} is wanted",
                what(key),
                kinds.len()
            ));
        }
    };
    let data = match value {
        None => None,
        Some((Values::Verdicts, value)) => Some(Data::Verdict(verdict(value)?)),
        Some((Values::Of(kind), value)) => Some(Data::Value(kind.stored(kind.value(value)?))),
    };
    Ok(Entry { spans, data, timeout, userdata })
}

impl Entry {
    pub(crate) fn is_interval(&self) -> bool {
        self.spans.iter().any(|span| !span.is_one())
    }
}

pub fn verdict(value: &Expression<'_>) -> Result<Verdict, Why> {
    let Expression::Verdict(word) = value else {
        return Err(format!("{} where a verdict is wanted", what(value)));
    };
    Ok(match word {
        Word::Accept => Verdict::Accept,
        Word::Drop => Verdict::Drop,
        Word::Continue => Verdict::Continue,
        Word::Return => Verdict::Return,
        Word::Jump(to) => Verdict::Jump(to.target.to_string()),
        Word::Goto(to) => Verdict::Goto(to.target.to_string()),
    })
}

/// Turns entries into elements. `merge`: intervals that touch become one, as nft has them in a rule's own sets.
pub fn fill(made: &mut Set, kinds: &[Kind], entries: Vec<Entry>, merge: bool) -> Result<(), Why> {
    let interval = made.flags & set::INTERVAL != 0;
    let mut single = Vec::new();
    for entry in entries {
        let Entry { spans, data, timeout, userdata } = entry;
        let element = Element { data, timeout, userdata, ..Element::default() };
        match spans.as_slice() {
            [] => made.elements.push(Element { flags: CATCH_ALL, ..element }),
            [span] if interval => single.push((span.clone(), element)),
            spans => {
                let whole = spans.iter().all(Span::is_one);
                if !whole && !interval {
                    return Err("a range or prefix in a set without the flag interval".into());
                }
                let end = interval.then(|| joined(kinds, spans, |span| &span.high));
                made.elements.push(Element {
                    key: joined(kinds, spans, |span| &span.low),
                    key_end: end,
                    ..element
                });
            }
        }
    }
    if single.is_empty() { Ok(()) } else { intervals(made, single, merge) }
}

/// The parts of a key one after another, each in its register's order.
fn joined(kinds: &[Kind], spans: &[Span], end: impl Fn(&Span) -> &Vec<u8>) -> Vec<u8> {
    let mut key = Vec::new();
    for (kind, span) in kinds.iter().zip(spans) {
        key.extend(kind.stored(end(span).clone()));
        if kinds.len() > 1 {
            key.resize(key.len().next_multiple_of(4), 0);
        }
    }
    key
}

/// Half-open intervals: an element where one begins, and one past its end unless the space ends there.
fn intervals(made: &mut Set, mut wanted: Vec<(Span, Element)>, merge: bool) -> Result<(), Why> {
    wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut disjoint: Vec<(Span, Element)> = Vec::new();
    for (span, element) in wanted {
        let touches = disjoint.last_mut().filter(|(last, _)| {
            next(&last.high)
                .is_none_or(|next| if merge { span.low <= next } else { span.low < next })
        });
        match touches {
            Some((last, _)) if merge => last.high = span.high.max(last.high.clone()),
            Some(_) => return Err("intervals that overlap".into()),
            None => disjoint.push((span, element)),
        }
    }
    let end = |key| Element { key, flags: INTERVAL_END, ..Element::default() };
    if let Some((first, _)) = disjoint.first()
        && first.low.iter().any(|octet| *octet != 0)
    {
        made.elements.push(end(vec![0; first.low.len()]));
    }
    for (span, mut element) in disjoint {
        let past = next(&span.high);
        if past.is_none() {
            element.userdata.0.extend([ELEMENT_FLAGS, 4]);
            element.userdata.0.extend(INTERVAL_OPEN.to_ne_bytes());
        }
        made.elements.push(Element { key: span.low, ..element });
        made.elements.extend(past.map(end));
    }
    Ok(())
}

/// The number after; None past the last.
fn next(number: &[u8]) -> Option<Vec<u8>> {
    let mut next = number.to_vec();
    for octet in next.iter_mut().rev() {
        let (sum, carry) = octet.overflowing_add(1);
        *octet = sum;
        if !carry {
            return Some(next);
        }
    }
    None
}
