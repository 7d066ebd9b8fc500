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
}
