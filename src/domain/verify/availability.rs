//! How well a host answered while something was changed behind it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::text;

/// The probes of one host, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub total: u32,
    pub failed: u32,
    /// The longest time from an answer to the next one with a failure between them.
    pub longest_gap_ms: u64,
    /// The first failure, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
    #[serde(skip)]
    last_answer_ms: u64,
    #[serde(skip)]
    in_gap: bool,
}

/// When a probe was sent after the beginning, and why it counts as none if it does.
pub type Probe = (Duration, Option<String>);

/// What is allowed; nothing set is only told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Of a hundred probes so many must be answered.
    pub percent: Option<f64>,
    pub longest_gap: Option<Duration>,
}

impl Tally {
    /// Probes by when they were sent after the beginning, each with why it counts as none; and when the change was over: a gap that is
    /// open then lasts until then.
    pub fn of(mut probes: Vec<Probe>, end: Duration) -> Self {
        probes.sort_by_key(|(at, _)| *at);
        let mut tally = Self::default();
        for (at, failure) in probes {
            tally.count(at, failure);
        }
        tally.close(u64::try_from(end.as_millis()).unwrap_or(u64::MAX));
        tally
    }

    fn count(&mut self, at: Duration, failure: Option<String>) {
        let ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.total += 1;
        if let Some(failure) = failure {
            self.failed += 1;
            self.in_gap = true;
            self.first_failure.get_or_insert(failure);
        } else {
            self.close(ms);
            self.last_answer_ms = ms;
        }
    }

    fn close(&mut self, ms: u64) {
        if std::mem::take(&mut self.in_gap) {
            self.longest_gap_ms = self.longest_gap_ms.max(ms.saturating_sub(self.last_answer_ms));
        }
    }

    /// `2 of 61 failed, longest gap 3.0 s`
    pub fn words(&self) -> String {
        if self.failed == 0 {
            return format!("0 of {} failed", self.total);
        }
        format!("{} of {} failed, longest gap {}", self.failed, self.total, text::seconds(Duration::from_millis(self.longest_gap_ms)))
    }

    /// What is broken of the limit.
    pub fn over(&self, limit: Limit) -> Option<String> {
        let answered = if self.total == 0 { 100.0 } else { f64::from(self.total - self.failed) * 100.0 / f64::from(self.total) };
        if let Some(percent) = limit.percent.filter(|percent| answered < *percent) {
            return Some(format!("{answered:.1} % were answered, less than {percent} %"));
        }
        let gap = Duration::from_millis(self.longest_gap_ms);
        limit.longest_gap.filter(|most| gap > *most).map(|most| format!("the longest gap is longer than {}", text::seconds(most)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(probes: &[bool]) -> Tally {
        let seconds = (0_u64..).zip(probes).map(|(second, ok)| (Duration::from_secs(second), (!ok).then(|| format!("503 at {second}"))));
        // They come in the order in which they are answered.
        Tally::of(seconds.collect::<Vec<_>>().into_iter().rev().collect(), Duration::from_secs(probes.len() as u64))
    }

    #[test]
    fn gaps_last_from_answer_to_answer() {
        for (probes, words) in [
            (&[true, true, true][..], "0 of 3 failed"),
            (&[true, false, true, true, false, false, true], "3 of 7 failed, longest gap 3.0 s"),
            (&[true, false, false], "2 of 3 failed, longest gap 3.0 s"),
        ] {
            assert_eq!(tally(probes).words(), words);
        }
        assert_eq!(tally(&[true, false, false]).first_failure.as_deref(), Some("503 at 1"));
    }

    #[test]
    fn a_limit_is_broken_only_beyond_it() {
        let seen = tally(&[true, false, true, true]);
        let percent = |percent| Limit { percent: Some(percent), longest_gap: None };
        let gap = |seconds| Limit { percent: None, longest_gap: Some(Duration::from_secs(seconds)) };
        assert_eq!(seen.over(Limit::default()), None);
        assert_eq!((seen.over(percent(75.0)), seen.over(gap(2))), (None, None));
        assert_eq!(seen.over(percent(75.1)).as_deref(), Some("75.0 % were answered, less than 75.1 %"));
        assert_eq!(seen.over(gap(1)).as_deref(), Some("the longest gap is longer than 1.0 s"));
    }
}
