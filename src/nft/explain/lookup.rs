//! Whether a key is in a set, and what a map has for it (net/netfilter/nft_set_*.c).

use super::super::expr::{Data, Expr};
use super::super::{Element, Set, set};
use super::Change;
use super::bits::{Bits, Truth};

/// First value past an interval; there in case no other is.
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;

/// What a lookup finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Element(&'a Element),
    /// One that a rule has added on the way.
    Added,
    Nothing,
    /// One of these, or, when there may be none, perhaps nothing.
    Perhaps,
}

#[cfg(test)]
impl Found<'_> {
    fn truth(&self) -> Truth {
        match self {
            Self::Element(_) | Self::Added => Truth::Yes,
            Self::Nothing => Truth::No,
            Self::Perhaps => Truth::Maybe,
        }
    }
}

pub(super) fn find<'a>(set: &'a Set, key: &Bits) -> Found<'a> {
    let ordinary = || set.elements.iter().filter(|element| element.flags & CATCH_ALL == 0);
    let found = if set.flags & set::INTERVAL == 0 {
        choose(ordinary().map(|element| (element, key.equals(&element.key))))
    } else if set.flags & set::CONCAT != 0
        || set.fields.len() > 1
        || ordinary().any(|e| e.key_end.is_some())
    {
        choose(ordinary().map(|element| (element, in_fields(set, element, key))))
    } else {
        in_intervals(ordinary().collect(), key)
    };
    let catch_all = set.elements.iter().find(|element| element.flags & CATCH_ALL != 0);
    match (found, catch_all) {
        (Found::Nothing, Some(element)) => Found::Element(element),
        // Whatever it is, it is in the set.
        (Found::Perhaps, Some(element)) if set.data.is_none() => Found::Element(element),
        (found, _) => found,
    }
}

/// What is found after rules have changed the set.
pub(super) fn after<'a>(
    set: &'a Set,
    found: Found<'a>,
    key: &Bits,
    changes: &[Change],
) -> Found<'a> {
    changes.iter().fold(found, |found, change| {
        let same = match (key.bytes(), change.key.bytes()) {
            (Some(key), _) => change.key.equals(&key),
            (None, Some(other)) => key.equals(&other),
            (None, None) => Truth::Maybe,
        };
        match (same, change.removes, found) {
            (Truth::No, _, found)
            | (_, false, found @ Found::Element(_))
            | (_, true, found @ Found::Nothing) => found,
            (Truth::Yes, true, _) if change.certain => Found::Nothing,
            (Truth::Yes, false, _) if change.certain && set.data.is_none() => Found::Added,
            _ => Found::Perhaps,
        }
    })
}

fn choose<'a>(elements: impl Iterator<Item = (&'a Element, Truth)>) -> Found<'a> {
    let mut perhaps = false;
    for (element, truth) in elements {
        match truth {
            Truth::Yes if !perhaps => return Found::Element(element),
            Truth::Yes | Truth::Maybe => perhaps = true,
            Truth::No => {}
        }
    }
    if perhaps { Found::Perhaps } else { Found::Nothing }
}

/// Half-open intervals: an element begins one, and one that says so ends it.
fn in_intervals<'a>(mut elements: Vec<&'a Element>, key: &Bits) -> Found<'a> {
    // Where one interval ends and the next begins, the beginning counts.
    elements.sort_by_key(|element| (element.key.as_slice(), element.flags & INTERVAL_END == 0));
    let last = |value: &[u8]| {
        let at = elements.partition_point(|element| element.key.as_slice() <= value);
        (at, at.checked_sub(1).and_then(|at| elements.get(at)).copied())
    };
    let ((low_at, low), (high_at, _)) = (last(&key.min()), last(&key.max()));
    let begins = |element: &Element| element.flags & INTERVAL_END == 0;
    if low_at == high_at {
        return low.filter(|element| begins(element)).map_or(Found::Nothing, Found::Element);
    }
    let between = elements.get(low_at.saturating_sub(1)..high_at).unwrap_or(&[]);
    if between.iter().any(|element| begins(element)) { Found::Perhaps } else { Found::Nothing }
}

/// A concatenation: each field within its own ends.
fn in_fields(set: &Set, element: &Element, key: &Bits) -> Truth {
    let end = element.key_end.as_ref().unwrap_or(&element.key);
    let mut at = 0;
    let mut truth = Truth::Yes;
    let whole = [set.key_len];
    for len in if set.fields.is_empty() { &whole } else { set.fields.as_slice() } {
        let len = usize::try_from(*len).unwrap_or(0);
        let parts = (key.part(at, len), element.key.get(at..at + len), end.get(at..at + len));
        let (Some(key), Some(from), Some(to)) = parts else { return Truth::Maybe };
        truth = truth.and(key.within(from, to));
        at += len.next_multiple_of(4);
    }
    truth
}

/// Whether the element itself may say no: it has a rate or a quota of its own.
pub(super) fn may_refuse(element: &Element) -> bool {
    element.exprs.iter().any(|expr| !matches!(expr, Expr::Counter { .. }))
}

/// The value of a map's element, as octets.
pub(super) fn value(element: &Element) -> Option<Bits> {
    match &element.data {
        Some(Data::Value(bytes)) => Some(Bits::known(bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(key: &[u8]) -> Element {
        Element { key: key.to_vec(), ..Element::default() }
    }

    fn end(key: &[u8]) -> Element {
        Element { key: key.to_vec(), flags: INTERVAL_END, ..Element::default() }
    }

    fn answers(set: &Set, keys: &[&[u8]]) -> Vec<Truth> {
        keys.iter().map(|key| find(set, &Bits::known(key)).truth()).collect()
    }

    #[test]
    fn intervals_are_half_open_and_may_touch() {
        let elements = vec![
            end(&[0, 0]),
            start(&[0, 10]),
            end(&[0, 20]),
            start(&[0, 20]),
            end(&[0, 30]),
            start(&[0xff, 0]),
        ];
        let set = Set { flags: set::INTERVAL, key_len: 2, elements, ..Set::default() };
        let keys: [&[u8]; 7] =
            [&[0, 9], &[0, 10], &[0, 20], &[0, 29], &[0, 30], &[0xfe, 255], &[255, 255]];
        assert_eq!(
            answers(&set, &keys),
            [Truth::No, Truth::Yes, Truth::Yes, Truth::Yes, Truth::No, Truth::No, Truth::Yes]
        );
        assert_eq!(find(&set, &Bits::unknown(2)).truth(), Truth::Maybe);
        assert_eq!(find(&set, &Bits::partly(&[0xff, 0], &[0xff, 0])).truth(), Truth::Yes);
        assert_eq!(find(&set, &Bits::partly(&[0x01, 0], &[0xff, 0])).truth(), Truth::No);
    }

    #[test]
    fn a_concatenation_has_an_interval_for_each_field() {
        let element = Element {
            key: vec![10, 0, 0, 0, 0, 22, 0, 0],
            key_end: Some(vec![10, 255, 255, 255, 0, 80, 0, 0]),
            ..Element::default()
        };
        let flags = set::INTERVAL | set::CONCAT;
        let set = Set {
            flags,
            key_len: 8,
            fields: vec![4, 2],
            elements: vec![element],
            ..Set::default()
        };
        let keys: [&[u8]; 3] =
            [&[10, 1, 1, 1, 0, 80, 0, 0], &[10, 1, 1, 1, 0, 81, 0, 0], &[11, 1, 1, 1, 0, 22, 0, 0]];
        assert_eq!(answers(&set, &keys), [Truth::Yes, Truth::No, Truth::No]);
    }

    #[test]
    fn the_catch_all_is_for_what_is_in_no_other_element() {
        let all =
            Element { flags: CATCH_ALL, data: Some(Data::Value(vec![9])), ..Element::default() };
        let one = Element { data: Some(Data::Value(vec![1])), ..start(&[1]) };
        let set = Set { key_len: 1, elements: vec![all, one], ..Set::default() };
        let found = |key: u8| match find(&set, &Bits::known(&[key])) {
            Found::Element(element) => value(element).and_then(|bits| bits.bytes()),
            _ => None,
        };
        assert_eq!((found(1), found(2)), (Some(vec![1]), Some(vec![9])));
        assert_eq!(find(&set, &Bits::unknown(1)).truth(), Truth::Yes);
    }
}
