//! The arithmetic of a rolling update, free of any cluster.

use serde_json::Value;

/// One ReplicaSet's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub spec: i64,
    /// Pods that exist.
    pub pods: i64,
    pub available: i64,
}

/// What a Deployment allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub replicas: i64,
    pub surge: i64,
    pub unavailable: i64,
}

impl Limits {
    /// From `spec.strategy.rollingUpdate`: numbers or percentages, surge rounded up and unavailable down.
    pub(super) fn new(replicas: i64, rolling: &Value) -> Self {
        let surge = share(rolling.get("maxSurge"), replicas, true);
        let mut unavailable = share(rolling.get("maxUnavailable"), replicas, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self { replicas, surge, unavailable: unavailable.min(replicas) }
    }
}

fn share(value: Option<&Value>, of: i64, up: bool) -> i64 {
    match value {
        Some(Value::Number(number)) => number.as_i64().unwrap_or(0),
        Some(Value::String(text)) => {
            text.trim_end_matches('%').parse::<i64>().map_or(0, |percent| if up { (of * percent + 99) / 100 } else { of * percent / 100 })
        }
        _ => share(Some(&Value::String("25%".to_owned())), of, up),
    }
}

/// The next replica counts: of the new set, and of the old ones in the given order (oldest first).
pub(super) fn step(limits: Limits, new: Numbers, old: &[Numbers]) -> (i64, Vec<i64>) {
    let total: i64 = new.spec + old.iter().map(|set| set.spec).sum::<i64>();
    let room = limits.replicas + limits.surge - total;
    let mut next_new = new.spec;
    if new.spec > limits.replicas {
        next_new = limits.replicas;
    } else if new.spec < limits.replicas && room > 0 {
        next_new = (new.spec + room).min(limits.replicas);
    }
    let mut next_old: Vec<i64> = old.iter().map(|set| set.spec).collect();
    if next_new != new.spec {
        return (next_new, next_old);
    }
    let least = limits.replicas - limits.unavailable;
    let new_unavailable = (new.spec - new.available).max(0);
    let mut spare = (total - least - new_unavailable).max(0);
    // pods that serve nobody go first
    for (set, next) in old.iter().zip(&mut next_old) {
        let idle = (set.spec - set.available).max(0).min(spare);
        *next -= idle;
        spare -= idle;
    }
    let available: i64 = new.available + old.iter().map(|set| set.available).sum::<i64>();
    let mut may_go = (available - least).max(0);
    for next in &mut next_old {
        let gone = (*next).min(may_go);
        *next -= gone;
        may_go -= gone;
    }
    (next_new, next_old)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(spec: i64, available: i64) -> Numbers {
        Numbers { spec, pods: spec, available }
    }

    #[test]
    fn limits_round_as_kubernetes_does() {
        for (replicas, rolling, surge, unavailable) in [
            (4, json!({}), 1, 1),
            (1, json!({}), 1, 0),
            (2, json!({"maxSurge": 1, "maxUnavailable": 0}), 1, 0),
            (10, json!({"maxSurge": "15%", "maxUnavailable": "15%"}), 2, 1),
            (3, json!({"maxSurge": 0, "maxUnavailable": 0}), 0, 1),
        ] {
            assert_eq!(Limits::new(replicas, &rolling), Limits { replicas, surge, unavailable }, "{replicas} {rolling}");
        }
    }

    #[test]
    fn a_rolling_update_never_falls_below_what_must_be_available() {
        let limits = Limits { replicas: 2, surge: 1, unavailable: 0 };
        for (what, new, old, expected) in [
            ("the first step adds one", set(0, 0), vec![set(2, 2)], (1, vec![2])),
            ("nothing goes before the new one is available", set(1, 0), vec![set(2, 2)], (1, vec![2])),
            ("then one goes", set(1, 1), vec![set(2, 2)], (1, vec![1])),
            ("and the next comes", set(1, 1), vec![set(1, 1)], (2, vec![1])),
            ("until all are new", set(2, 2), vec![set(1, 1)], (2, vec![0])),
            ("broken old pods go at once", set(1, 0), vec![set(2, 0)], (1, vec![2])),
            ("scaled down", set(3, 3), vec![], (2, vec![])),
        ] {
            assert_eq!(step(limits, new, &old), expected, "{what}");
        }
    }
}
