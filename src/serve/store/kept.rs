//! What the lease file is told of: leases of one family, or of both.

use std::net::Ipv6Addr;

use crate::proto::Now;
use crate::proto::leases::{Address, Leases};

pub(in super::super) trait Kept {
    /// Lines to be appended before any reply made so far may leave.
    fn journal(&mut self) -> Vec<u8>;

    /// Some lines of a new file, and where to go on; see `Leases::snapshot`.
    fn snapshot(&self, now: Now, from: usize, some: usize) -> (Vec<u8>, Option<usize>);

    /// All lines of it.
    fn all(&self, now: Now) -> Vec<u8>;

    fn len(&self) -> usize;
}

impl<A: Address> Kept for Leases<A> {
    fn journal(&mut self) -> Vec<u8> {
        self.journal()
    }

    fn snapshot(&self, now: Now, from: usize, some: usize) -> (Vec<u8>, Option<usize>) {
        self.snapshot(now, from, some)
    }

    fn all(&self, now: Now) -> Vec<u8> {
        self.snapshot(now, 0, usize::MAX).0
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// Those of both families.
#[derive(Debug)]
pub(crate) struct Both<F = Leases, S = Leases<Ipv6Addr>> {
    pub four: F,
    pub six: S,
}

impl<F: Kept, S: Kept> Kept for Both<F, S> {
    fn journal(&mut self) -> Vec<u8> {
        let mut lines = self.four.journal();
        lines.extend(self.six.journal());
        lines
    }

    /// Even places are those of IPv4, and odd ones, behind them, those of IPv6.
    fn snapshot(&self, now: Now, from: usize, some: usize) -> (Vec<u8>, Option<usize>) {
        if from.is_multiple_of(2) {
            let (lines, next) = self.four.snapshot(now, from / 2, some);
            return (lines, Some(next.map_or(1, |next| next * 2)));
        }
        let (lines, next) = self.six.snapshot(now, from / 2, some);
        (lines, next.map(|next| next * 2 + 1))
    }

    fn all(&self, now: Now) -> Vec<u8> {
        [self.four.all(now), self.six.all(now)].concat()
    }

    fn len(&self) -> usize {
        self.four.len() + self.six.len()
    }
}

impl<K: Kept> Kept for &mut K {
    fn journal(&mut self) -> Vec<u8> {
        (**self).journal()
    }

    fn snapshot(&self, now: Now, from: usize, some: usize) -> (Vec<u8>, Option<usize>) {
        (**self).snapshot(now, from, some)
    }

    fn all(&self, now: Now) -> Vec<u8> {
        (**self).all(now)
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}
