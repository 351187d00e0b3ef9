//! The elements of sets and maps.

use super::super::expr::Data;
use super::super::{Element, Set, set};
use super::value::{Kind, hex, prefix_len};

/// `{ a, b }` with the elements in nft's order.
pub fn elements_text(found: &Set, kinds: &[Kind]) -> String {
    let big_endian = matches!(kinds, [kind] if kind.big_endian());
    let mut elements: Vec<&Element> = found.elements.iter().collect();
    elements.sort_by(|a, b| {
        if big_endian {
            a.key.cmp(&b.key)
        } else {
            a.key.iter().rev().cmp(b.key.iter().rev())
        }
    });
    let half_open = found.flags & set::INTERVAL != 0 && found.flags & set::CONCAT == 0;
    let texts = if half_open {
        intervals(&elements, kinds)
    } else {
        singles(&elements, kinds)
    };
    format!("{{ {} }}", texts.join(", "))
}

fn singles(elements: &[&Element], kinds: &[Kind]) -> Vec<String> {
    let text = |element: &&Element| match &element.key_end {
        Some(end) if *end != element.key => element_text(
            element,
            format!("{}-{}", key_text(&element.key, kinds), key_text(end, kinds)),
        ),
        _ => element_text(element, key_text(&element.key, kinds)),
    };
    elements.iter().map(text).collect()
}

/// Pairs of a first value and one past the last.
fn intervals(elements: &[&Element], kinds: &[Kind]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = elements;
    while let [element, tail @ ..] = rest {
        rest = tail;
        if element.flags & 1 != 0 {
            continue;
        }
        let last = match tail {
            [end, ..] => minus_one(&end.key),
            [] => vec![0xff; element.key.len()],
        };
        let first = key_text(&element.key, kinds);
        let key = if last == element.key {
            first
        } else if let Some(length) =
            prefix_of(&element.key, &last).filter(|_| matches!(kinds, [Kind::Ipv4 | Kind::Ipv6]))
        {
            format!("{first}/{length}")
        } else {
            format!("{first}-{}", key_text(&last, kinds))
        };
        texts.push(element_text(element, key));
    }
    texts
}

fn element_text(element: &Element, key: String) -> String {
    let key = if element.flags & 2 != 0 {
        "*".to_owned()
    } else {
        key
    };
    match (&element.data, &element.object) {
        (Some(Data::Verdict(verdict)), _) => format!("{key} : {verdict}"),
        (Some(Data::Value(bytes)), _) => format!("{key} : {}", hex(bytes)),
        (None, Some(object)) => format!("{key} : \"{object}\""),
        (None, None) => key,
    }
}

fn key_text(key: &[u8], kinds: &[Kind]) -> String {
    if let [kind] = kinds {
        return kind.text(key);
    }
    let mut rest = key;
    let mut texts = Vec::new();
    for kind in kinds {
        let len = kind.len().unwrap_or(4);
        let (Some(part), Some(tail)) = (rest.get(..len), rest.get(len.next_multiple_of(4)..)) else {
            return hex(key);
        };
        texts.push(kind.text(part));
        rest = tail;
    }
    texts.join(" . ")
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
    let differing: Vec<u8> = first
        .iter()
        .zip(last)
        .map(|(first, last)| !(first ^ last))
        .collect();
    let length = prefix_len(&differing)?;
    let starts = first.iter().zip(&differing).all(|(byte, mask)| byte & !mask == 0);
    let ends = last
        .iter()
        .zip(&differing)
        .all(|(byte, mask)| byte | mask == 0xff);
    (starts && ends).then_some(length)
}
