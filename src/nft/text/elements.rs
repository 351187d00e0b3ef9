//! The elements of sets and maps.

use super::super::expr::Data;
use super::super::{DataType, Element, Set, set};
use super::value::{Kind, hex, prefix_len};

/// NFT_SET_ELEM_INTERVAL_END, _CATCHALL.
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;

/// `{ a, b }` with the elements in nft's order; `kinds` are the parts of a key.
pub fn elements_text(found: &Set, kinds: &[Kind]) -> String {
    let big_endian = matches!(kinds, [kind] if kind.big_endian());
    let mut elements: Vec<&Element> = found.elements.iter().collect();
    elements.sort_by(
        |a, b| {
            if big_endian { a.key.cmp(&b.key) } else { a.key.iter().rev().cmp(b.key.iter().rev()) }
        },
    );
    let half_open = found.flags & set::INTERVAL != 0 && found.flags & set::CONCAT == 0;
    let mut texts = Vec::new();
    let mut rest = elements.as_slice();
    while let [element, tail @ ..] = rest {
        rest = tail;
        if element.flags & INTERVAL_END != 0 {
            continue;
        }
        let last = match (half_open, &element.key_end, tail) {
            (true, _, [end, ..]) => minus_one(&end.key),
            (true, _, []) => vec![0xff; element.key.len()],
            (false, Some(end), _) => end.clone(),
            (false, None, _) => element.key.clone(),
        };
        texts.push(element_text(found, element, kinds, &last));
    }
    format!("{{ {} }}", texts.join(", "))
}

fn element_text(found: &Set, element: &Element, kinds: &[Kind], last: &[u8]) -> String {
    let key =
        if element.flags & CATCH_ALL != 0 { "*".to_owned() } else { key_text(&element.key, last, kinds) };
    match (&element.data, &element.object, found.data) {
        (Some(Data::Verdict(verdict)), ..) => format!("{key} : {verdict}"),
        (Some(Data::Value(bytes)), _, Some(DataType::Value { kind, len })) => {
            format!("{key} : {}", key_text(bytes, bytes, &Kind::of_set_type(kind, len)))
        }
        (Some(Data::Value(bytes)), ..) => format!("{key} : {}", hex(bytes)),
        (None, Some(object), _) => format!("{key} : \"{object}\""),
        (None, None, _) => key,
    }
}

/// The parts of a key, each from its first value to its last.
fn key_text(first: &[u8], last: &[u8], kinds: &[Kind]) -> String {
    if let [kind] = kinds {
        return part_text(*kind, first, last);
    }
    let (mut first_rest, mut last_rest) = (first, last);
    let mut texts = Vec::new();
    for kind in kinds {
        let len = kind.len().unwrap_or(4);
        let (Some((first_part, first_tail)), Some((last_part, last_tail))) =
            (split_part(first_rest, len), split_part(last_rest, len))
        else {
            return hex(first);
        };
        texts.push(part_text(*kind, first_part, last_part));
        (first_rest, last_rest) = (first_tail, last_tail);
    }
    texts.join(" . ")
}

/// A part, and what follows its padding.
fn split_part(key: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    Some((key.get(..len)?, key.get(len.next_multiple_of(4)..)?))
}

fn part_text(kind: Kind, first: &[u8], last: &[u8]) -> String {
    let text = kind.text(first);
    match prefix_of(first, last) {
        _ if first == last => text,
        Some(length) if matches!(kind, Kind::Ipv4 | Kind::Ipv6) => format!("{text}/{length}"),
        _ => format!("{text}-{}", kind.text(last)),
    }
}

fn minus_one(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            break;
        }
    }
    key
}

fn prefix_of(first: &[u8], last: &[u8]) -> Option<usize> {
    let differing: Vec<u8> = first.iter().zip(last).map(|(first, last)| !(first ^ last)).collect();
    let length = prefix_len(&differing)?;
    let starts = first.iter().zip(&differing).all(|(byte, mask)| byte & !mask == 0);
    let ends = last.iter().zip(&differing).all(|(byte, mask)| byte | mask == 0xff);
    (starts && ends).then_some(length)
}
