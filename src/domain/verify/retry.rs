//! When to ask again, and when asking again is pointless.

use std::time::Duration;

use crate::base::codes::Code;

/// The pause before attempt `n + 1` (from 1): 0.5, 1, 2, 4, then 5 s, each shortened by up to a quarter. `random` is from 0 to 1.
pub fn pause(n: u32, random: f64) -> Duration {
    let full = 0.5 * f64::from(2_u32.saturating_pow(n.saturating_sub(1).min(4)));
    Duration::from_secs_f64(full.min(5.0) * (1.0 - 0.25 * random.clamp(0.0, 1.0)))
}

/// How long a request without any answer may go on failing in this way before waiting is pointless.
/// Listeners and certificates of a load balancer take some seconds to spread; a wrong name stays wrong.
pub fn net_patience(code: Code) -> Duration {
    match code {
        Code::TlsName | Code::TlsUntrusted | Code::TlsExpired => Duration::from_secs(5),
        Code::TlsProtocol | Code::Refused => Duration::from_secs(20),
        Code::Defect => Duration::ZERO,
        _ => Duration::MAX,
    }
}

/// In which way it goes wrong, and since when. A patience counts from there, and not from the first question: what went wrong before in another
/// way says nothing about this one.
#[derive(Clone, Debug)]
pub struct Cause<K>(Option<(K, Duration)>);

impl<K> Default for Cause<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: PartialEq> Cause<K> {
    /// For how long it goes wrong in this way. `begun` and `now`: when the newest attempt began and ended, on the clock of who asks.
    pub fn lasts(&mut self, way: K, begun: Duration, now: Duration) -> Duration {
        let since = match &self.0 {
            Some((known, since)) if *known == way => *since,
            _ => begun,
        };
        self.0 = Some((way, since));
        now.saturating_sub(since)
    }
}

/// A number from 0 to 1 that differs between runs and calls, for jitter.
pub fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_and_never_fall_together() {
        let ms: Vec<u128> = (1..=6).map(|n| pause(n, 0.0).as_millis()).collect();
        assert_eq!(ms, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(pause(1, 1.0).as_millis(), 375);
        assert!((0.0..=1.0).contains(&jitter()));
    }

    #[test]
    fn a_cause_lasts_from_the_attempt_that_first_showed_it() {
        let mut cause = Cause::default();
        let found: Vec<u64> = [
            (Code::NoHealthyUpstream, 0, 1),
            (Code::NoHealthyUpstream, 24, 25),
            (Code::NoRoute, 26, 27),
            (Code::NoRoute, 45, 46),
            (Code::NoHealthyUpstream, 47, 48),
            // A silent address is silent for as long as it was listened to.
            (Code::NoAnswer, 50, 60),
        ]
        .into_iter()
        .map(|(code, begun, now)| cause.lasts(code, Duration::from_secs(begun), Duration::from_secs(now)).as_secs())
        .collect();
        assert_eq!(found, [1, 25, 1, 20, 1, 10]);
    }
}
