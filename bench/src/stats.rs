//! Medians and spreads of a handful of durations.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What is reported of one series. Milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub runs: usize,
    pub median_ms: f64,
    pub min_ms: f64,
    pub max_ms: f64,
}

impl Summary {
    /// None when there is nothing to summarise.
    pub fn of(samples: &[Duration]) -> Option<Self> {
        let mut millis: Vec<f64> =
            samples.iter().map(|sample| sample.as_secs_f64() * 1e3).collect();
        millis.sort_by(f64::total_cmp);
        let middle = millis.len() / 2;
        let upper = *millis.get(middle)?;
        let lower = if millis.len().is_multiple_of(2) {
            *millis.get(middle.checked_sub(1)?)?
        } else {
            upper
        };
        Some(Self {
            runs: millis.len(),
            median_ms: f64::midpoint(lower, upper),
            min_ms: *millis.first()?,
            max_ms: *millis.last()?,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, median_ms, min_ms, max_ms } = self;
        write!(f, "{median_ms:>9.2} ms  (min {min_ms:.2}, max {max_ms:.2}, n={runs})")
    }
}

/// The middle one, the least and the most.
pub fn median(values: impl Iterator<Item = f64>) -> Option<(f64, f64, f64)> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let lower =
        if sorted.len().is_multiple_of(2) { *sorted.get(middle.checked_sub(1)?)? } else { upper };
    Some((f64::midpoint(lower, upper), *sorted.first()?, *sorted.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(values: &[u64]) -> Vec<Duration> {
        values.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_middles() {
        let median = |values: &[u64]| Summary::of(&ms(values)).map(|summary| summary.median_ms);
        assert_eq!(median(&[9, 1, 5]), Some(5.0));
        assert_eq!(median(&[1, 2, 4, 100]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_spread_is_kept() {
        let summary = Summary::of(&ms(&[3, 1, 2])).expect("three samples");
        assert_eq!((summary.min_ms, summary.max_ms, summary.runs), (1.0, 3.0, 3));
    }
}
