//! Counters of things that are made anew: a link, or a table of rules. What they count begins at 0 then; what is told
//! goes on.

use std::collections::BTreeMap;

/// Last values by name, and what was counted before the last fall.
#[derive(Debug, Default)]
pub(super) struct Steady<K>(BTreeMap<K, (u64, u64)>);

/// Names that are kept.
const MAX_NAMES: usize = 1024;

impl<K: Ord> Steady<K> {
    /// The value that never falls.
    pub fn of(&mut self, name: K, now: u64) -> u64 {
        if self.0.len() >= MAX_NAMES && !self.0.contains_key(&name) {
            return now;
        }
        let (last, before) = self.0.entry(name).or_default();
        if now < *last {
            *before = before.saturating_add(*last);
        }
        *last = now;
        before.saturating_add(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_begins_anew_goes_on() {
        let mut steady = Steady::default();
        let told: Vec<u64> = [3, 5, 1, 2, 0, 4].map(|now| steady.of("a", now)).to_vec();
        assert_eq!(told, [3, 5, 6, 7, 7, 11]);
        assert_eq!(steady.of("b", 2), 2);
    }
}
