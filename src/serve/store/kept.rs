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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant, SystemTime};

    use super::*;
    use crate::net::MacAddr;
    use crate::proto::leases::{ClientId, Hardware};

    /// However many lines are written at a time, each lease has one, and the end is found.
    #[test]
    fn a_new_file_has_all_leases_of_both_families_whatever_its_steps() {
        let now = Now { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        let hardware = Hardware { kind: 1, address: MacAddr([2; 6]) };
        let hour = Some(Duration::from_secs(3600));
        for (four, six) in [(0, 0), (3, 0), (0, 3), (5, 4)] {
            let mut both = Both { four: Leases::new(100), six: Leases::new(100) };
            for number in 0..four {
                let address = Ipv4Addr::new(10, 0, 0, number);
                assert!(both.four.bind(
                    now,
                    address,
                    &ClientId::new(&[number]),
                    hardware,
                    None,
                    hour
                ));
            }
            for number in 0..six {
                let address = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into());
                let client = ClientId::new(&[0, 4, number, 0, 0, 0, 1]);
                assert!(both.six.bind(now, address, &client, hardware, None, hour));
            }
            assert_eq!(both.len(), usize::from(four + six));
            let journal = both.journal();
            for some in [1, 2, 100] {
                let (mut lines, mut from) = (Vec::new(), Some(0));
                while let Some(place) = from {
                    let (more, next) = both.snapshot(now, place, some);
                    lines.extend(more);
                    from = next;
                }
                assert_eq!(lines, both.all(now), "{four} {six} {some}");
                assert_eq!(lines.len(), journal.len());
            }
        }
    }
}
