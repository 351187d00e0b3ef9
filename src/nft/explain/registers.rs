//! The registers an expression reads and writes: sixty-four octets, and where each value came from.

use std::collections::BTreeMap;

use super::super::expr::Register;
use super::super::text;
use super::bits::Bits;
use super::words::{self, Place, Style};

/// Where a value came from, for telling about it.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) text: String,
    pub(super) style: Style,
    /// Before it was masked.
    pub(super) raw: Bits,
    pub(super) mask: Option<Vec<u8>>,
    /// Where in a header it was read.
    pub(super) place: Option<Place>,
}

impl Origin {
    pub(super) fn new(text: String, style: Style, raw: Bits) -> Self {
        Self { text, style, raw, mask: None, place: None }
    }

    /// A mask leaves `bits` of it: a field of its own where the mask is one's, else the value that is compared under it.
    pub(super) fn masked(&mut self, mask: &[u8], xor: &[u8], bits: &Bits) {
        let plain =
            self.mask.is_none() && self.style == Style::RAW && xor.iter().all(|byte| *byte == 0);
        match self.place.filter(|_| plain).and_then(|place| place.masked(mask)) {
            Some((field, style)) => {
                let text = text::Style::default().field_text(&field);
                *self = Self::new(text, style, bits.clone());
            }
            None => self.mask = Some(mask.to_vec()),
        }
    }

    /// `tcp dport is not known (tell with --to …)`
    pub(super) fn doubt(&self) -> String {
        let hint =
            words::hint(&self.text).map_or_else(String::new, |flag| format!(" (tell with {flag})"));
        format!("{} is not known{hint}", self.text)
    }

    /// `22`
    pub(super) fn value(&self) -> String {
        self.raw.bytes().map_or_else(|| "?".to_owned(), |bytes| self.style.text(&bytes))
    }
}

#[derive(Debug)]
pub(super) struct Registers {
    bits: Bits,
    /// By octet at which the value begins.
    origins: BTreeMap<usize, Origin>,
}

const SIZE: usize = 64;

impl Registers {
    pub(super) fn new() -> Self {
        Self { bits: Bits::unknown(SIZE), origins: BTreeMap::new() }
    }

    pub(super) fn load(&mut self, register: Register, bits: &Bits, origin: Origin) {
        let at = start(register);
        let end = at + bits.len().next_multiple_of(4);
        let covered: Vec<usize> = self.origins.range(at..end).map(|(at, _)| *at).collect();
        for at in covered {
            self.origins.remove(&at);
        }
        self.bits.put(at, &Bits::known(&vec![0; end - at]));
        self.bits.put(at, bits);
        self.origins.insert(at, origin);
    }

    /// Nothing is known any more: an expression wrote who knows what.
    pub(super) fn forget(&mut self, why: &str) {
        *self = Self::new();
        for at in (0..SIZE).step_by(4) {
            self.origins.insert(at, Origin::new(why.to_owned(), Style::RAW, Bits::unknown(4)));
        }
    }

    pub(super) fn get(&self, register: Register, len: usize) -> Bits {
        self.bits.part(start(register), len).unwrap_or_else(|| Bits::unknown(len))
    }

    pub(super) fn origin(&self, register: Register) -> Origin {
        let unknown = || Origin::new(format!("register {register}"), Style::RAW, Bits::unknown(0));
        self.origins.get(&start(register)).cloned().unwrap_or_else(unknown)
    }

    /// The origins of a key: several when it is a concatenation.
    pub(super) fn origins(&self, register: Register, len: usize) -> Vec<Origin> {
        let at = start(register);
        self.origins.range(at..at + len.max(1)).map(|(_, origin)| origin.clone()).collect()
    }
}

/// Registers 1 to 4 are sixteen octets each, 8 to 23 are the same space in fours.
fn start(register: Register) -> usize {
    let slot = if register >= 8 { register - 8 } else { register.saturating_sub(1) * 4 };
    usize::try_from(slot).unwrap_or(0).min(SIZE / 4) * 4
}
