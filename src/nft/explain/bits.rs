//! Octets of which some bits may not be known, and answers that may be "maybe".

use std::ops::Not;

use serde::Serialize;

/// Three values, because not everything about a packet is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    /// For certain.
    Yes,
    /// For certain not.
    No,
    /// It depends on what is not known.
    Maybe,
}

impl Truth {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Maybe,
        }
    }

    fn of(certain: bool, possible: bool) -> Self {
        match (certain, possible) {
            (true, _) => Self::Yes,
            (false, true) => Self::Maybe,
            (false, false) => Self::No,
        }
    }
}

impl Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
        }
    }
}

/// An octet; bits of `value` that are not `known` are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Octet {
    value: u8,
    known: u8,
}

/// Octets in the order of the wire, or of a register.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits(Vec<Octet>);

impl Bits {
    /// All of these.
    pub fn known(bytes: &[u8]) -> Self {
        Self::partly(bytes, &vec![0xff; bytes.len()])
    }

    /// So many octets of which nothing is known.
    pub fn unknown(len: usize) -> Self {
        Self(vec![Octet::default(); len])
    }

    /// The bits of `value` where `known` is set.
    pub fn partly(value: &[u8], known: &[u8]) -> Self {
        let pairs = value.iter().zip(known);
        Self(pairs.map(|(value, known)| Octet { value: value & known, known: *known }).collect())
    }

    /// Any value from `low` to `high`: known is what all of them begin with.
    pub fn between(low: &[u8], high: &[u8]) -> Self {
        let mut same = true;
        let octet = |(low, high): (&u8, &u8)| {
            let known = match (same, (low ^ high).leading_zeros()) {
                (false, _) => 0,
                (true, 8) => 0xff,
                (true, equal) => {
                    same = false;
                    !(0xff_u8.checked_shr(equal).unwrap_or(0))
                }
            };
            Octet { value: low & known, known }
        };
        Self(low.iter().zip(high).map(octet).collect())
    }

    /// Octets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The octets, when all their bits are known.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let value = |octet: &Octet| (octet.known == 0xff).then_some(octet.value);
        self.0.iter().map(value).collect()
    }

    /// The smallest value it may have.
    pub fn min(&self) -> Vec<u8> {
        self.0.iter().map(|octet| octet.value).collect()
    }

    /// The largest value it may have.
    pub fn max(&self) -> Vec<u8> {
        self.0.iter().map(|octet| octet.value | !octet.known).collect()
    }

    /// Part of it; None when it is not that long.
    pub fn part(&self, offset: usize, len: usize) -> Option<Self> {
        self.0.get(offset..offset.checked_add(len)?).map(|octets| Self(octets.to_vec()))
    }

    /// Overwrites from `offset` on; what does not fit is left out.
    pub fn put(&mut self, offset: usize, bits: &Self) {
        for (octet, new) in self.0.iter_mut().skip(offset).zip(&bits.0) {
            *octet = *new;
        }
    }

    /// With others after these.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// `(self & mask) ^ xor`; a bit masked out is known to be 0.
    #[must_use]
    pub fn masked(&self, mask: &[u8], xor: &[u8]) -> Self {
        let octet = |((octet, mask), xor): ((&Octet, &u8), &u8)| {
            let known = octet.known | !mask;
            Octet { value: ((octet.value & mask) ^ xor) & known, known }
        };
        Self(self.0.iter().zip(mask).zip(xor).map(octet).collect())
    }

    /// Each group of `size` octets the other way round, as ntoh does on a little-endian machine.
    #[must_use]
    pub fn swapped(&self, size: usize) -> Self {
        if cfg!(target_endian = "big") {
            return self.clone();
        }
        Self(self.0.chunks(size.max(1)).flat_map(|group| group.iter().rev().copied()).collect())
    }

    /// As the kernel shifts a register: words of four octets in host order, the first the most significant.
    #[must_use]
    pub(crate) fn shifted(&self, right: bool, bits: u32) -> Self {
        let Some(bytes) = self.bytes() else { return Self::unknown(self.len()) };
        let word = |chunk: &[u8]| {
            let mut word = [0; 4];
            word.iter_mut().zip(chunk).for_each(|(octet, byte)| *octet = *byte);
            u32::from_ne_bytes(word)
        };
        let mut words: Vec<u32> = bytes.chunks(4).map(word).collect();
        let rest = 32_u32.saturating_sub(bits);
        let mut carry = 0;
        let mut shift = |word: &mut u32| {
            let (kept, out) = if right {
                (word.checked_shr(bits), word.checked_shl(rest))
            } else {
                (word.checked_shl(bits), word.checked_shr(rest))
            };
            *word = carry | kept.unwrap_or(0);
            carry = out.unwrap_or(0);
        };
        if right {
            words.iter_mut().for_each(&mut shift);
        } else {
            words.iter_mut().rev().for_each(&mut shift);
        }
        let mut shifted: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        shifted.truncate(self.len());
        Self::known(&shifted)
    }

    /// The same, or less known, so that it fits `other` too: for an assignment that may not have happened.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let octet = |(a, b): (&Octet, &Octet)| {
            let known = a.known & b.known & !(a.value ^ b.value);
            Octet { value: a.value & known, known }
        };
        Self(self.0.iter().zip(&other.0).map(octet).collect())
    }

    /// The bits that are set in either.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let octet = |(a, b): (&Octet, &Octet)| {
            let value = a.value | b.value;
            Octet { value, known: a.known & b.known | value }
        };
        Self(self.0.iter().zip(&other.0).map(octet).collect())
    }

    pub(crate) fn equals(&self, bytes: &[u8]) -> Truth {
        let differs =
            self.0.iter().zip(bytes).any(|(octet, byte)| (octet.value ^ byte) & octet.known != 0);
        Truth::of(self.min() == bytes && self.max() == bytes, !differs && self.len() == bytes.len())
    }

    /// As `memcmp` orders them.
    pub fn below(&self, bytes: &[u8]) -> Truth {
        Truth::of(self.max().as_slice() < bytes, self.min().as_slice() < bytes)
    }

    /// Whether they are more, as numbers in network order.
    pub fn above(&self, bytes: &[u8]) -> Truth {
        Truth::of(self.min().as_slice() > bytes, self.max().as_slice() > bytes)
    }

    /// `from` and `to` included.
    pub fn within(&self, from: &[u8], to: &[u8]) -> Truth {
        self.below(from).not().and(self.above(to).not())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_leaves_the_answer_open() {
        let port = Bits::partly(&[0x12, 0], &[0xff, 0]);
        assert_eq!(port.equals(&[0x12, 0x34]), Truth::Maybe);
        assert_eq!(port.equals(&[0x13, 0x34]), Truth::No);
        assert_eq!(port.within(&[0x12, 0], &[0x12, 0xff]), Truth::Yes);
        assert_eq!(port.within(&[0x12, 1], &[0x12, 0xff]), Truth::Maybe);
        assert_eq!(port.within(&[0x12, 0], &[0x12, 0xfe]), Truth::Maybe);
        assert_eq!(port.within(&[0x13, 0], &[0x14, 0]), Truth::No);
        assert_eq!(port.within(&[0x11, 0], &[0x12, 0]), Truth::Maybe);
        assert_eq!(port.below(&[0x13, 0]), Truth::Yes);
        assert_eq!(port.below(&[0x12, 0]), Truth::No);
        assert_eq!(Bits::known(&[5]).within(&[5], &[5]), Truth::Yes);
        assert_eq!(Bits::known(&[6]).within(&[5], &[5]), Truth::No);
    }

    #[test]
    fn a_masked_bit_is_known() {
        let status = Bits::partly(&[0x20, 0], &[0x30, 0]);
        assert_eq!(status.masked(&[0x20, 0], &[0, 0]).bytes(), Some(vec![0x20, 0]));
        assert_eq!(status.masked(&[0x60, 0], &[0, 0]).bytes(), None);
        assert_eq!(status.masked(&[0x60, 0], &[0, 0]).equals(&[0, 0]), Truth::No);
    }

    #[test]
    fn shifts_carry_from_word_to_word() {
        let words = |a: u32, b: u32| Bits::known(&[a.to_ne_bytes(), b.to_ne_bytes()].concat());
        assert_eq!(words(1, 0x8000_0001).shifted(false, 4), words(0x18, 0x10));
        assert_eq!(words(0x18, 0x10).shifted(true, 4), words(1, 0x8000_0001));
        assert_eq!(Bits::unknown(4).shifted(true, 4), Bits::unknown(4));
    }

    #[test]
    fn a_range_knows_what_its_ends_share() {
        assert_eq!(Bits::between(&[10, 0, 0, 1], &[10, 0, 0, 1]).bytes(), Some(vec![10, 0, 0, 1]));
        let some = Bits::between(&[10, 0, 0, 4], &[10, 0, 0, 7]);
        assert_eq!((some.min(), some.max()), (vec![10, 0, 0, 4], vec![10, 0, 0, 7]));
        let some = Bits::between(&[10, 1, 9, 9], &[10, 2, 0, 0]);
        assert_eq!((some.min(), some.max()), (vec![10, 0, 0, 0], vec![10, 3, 255, 255]));
    }

    #[test]
    fn an_assignment_that_may_not_have_happened_keeps_what_both_share() {
        let mark = Bits::known(&[1, 0]).or(&Bits::known(&[3, 0]));
        assert_eq!((mark.equals(&[1, 0]), mark.equals(&[2, 0])), (Truth::Maybe, Truth::No));
    }
}
