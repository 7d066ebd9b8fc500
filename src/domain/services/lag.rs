//! Does a copy lag behind the others? Its watch may have fallen silent: then it is listed without waiting for its turn.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::services::rollout::seen::{Kind, Snapshot};

/// How long one copy may lag behind another before it is listed.
const FIRST: Duration = Duration::from_secs(1);
/// Where that was for nothing, the next time is this much later, up to a minute: controllers may be slow.
const SLOWER: u32 = 4;
const SLOWEST: Duration = Duration::from_secs(60);

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    Pods,
    Workload,
    Revisions,
    Events,
}

const KINDS: [Listed; 4] = [Listed::Pods, Listed::Workload, Listed::Revisions, Listed::Events];

/// What seems to lag. `strangers`: a pod belongs to a revision that is not known.
pub fn behind(before: &Snapshot, now: &Snapshot, strangers: bool) -> [(Listed, bool); 4] {
    let Some(workload) = &now.workload else { return KINDS.map(|kind| (kind, false)) };
    let runs = || now.pods.iter().filter(|pod| !pod.deleting && !pod.is_finished());
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let counted = matches!(workload.kind, Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet);
    // Either may be the older one.
    let uncounted = counted && number(runs().filter(|pod| pod.ready).count()) != workload.ready;
    let unseen = counted && !strangers && number(runs().count()) < workload.total;
    let ended = workload.kind == Kind::Job && !now.pods.is_empty() && now.pods.iter().all(|pod| pod.is_finished());
    let unnamed = matches!(workload.kind, Kind::Deployment | Kind::DaemonSet) && workload.revision.is_empty();
    // Whatever makes pods, or fails to, tells it.
    let comes = now.pods.iter().any(|pod| before.pods.iter().all(|old| old.uid != pod.uid)) || workload.total < workload.wanted;
    let untold = comes && now.events.iter().all(|event| before.events.contains(event));
    let of_workload = workload.observed < workload.generation || uncounted || ended;
    let lags = [uncounted || unseen, of_workload, strangers || unnamed, untold];
    std::array::from_fn(|index| (KINDS[index], lags[index]))
}

/// How patient we are with each kind of copy.
#[derive(Debug)]
pub struct Suspicions([(Option<Instant>, Duration); 4]);

impl Default for Suspicions {
    fn default() -> Self {
        Self([(None, FIRST); 4])
    }
}

impl Suspicions {
    /// What is to be listed now.
    pub fn due(&mut self, behind: [(Listed, bool); 4], now: Instant) -> Vec<Listed> {
        let each = self.0.iter_mut().zip(behind);
        each.filter_map(|((since, patience), (kind, lags))| {
            if !lags {
                *since = None;
                return None;
            }
            if now.duration_since(*since.get_or_insert(now)) < *patience {
                return None;
            }
            *since = Some(now);
            *patience = (*patience * SLOWER).min(SLOWEST);
            Some(kind)
        })
        .collect()
    }

    /// It did lag.
    pub fn right(&mut self, kind: Listed) {
        self.0[kind as usize].1 = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn snapshot(workload: Value, pods: &[(&str, bool)], events: &[&str]) -> Snapshot {
        let mut all = json!({
            "kind": "Deployment", "namespace": "prod", "name": "app1", "generation": 1, "observed": 1, "wanted": 1, "total": 1, "updated": 1,
            "ready": 0, "available": 0, "revision": "app1-1",
        });
        for (key, value) in workload.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let pods: Vec<Value> = pods
            .iter()
            .map(|(uid, ready)| json!({"uid": uid, "name": uid, "newest": true, "phase": "Running", "ready": ready, "containers": []}))
            .collect();
        let event = |uid: &&str| json!({"uid": uid, "kind": "Pod", "name": "a", "warning": false, "reason": "Pulled", "message": "", "count": 1});
        let events: Vec<Value> = events.iter().map(event).collect();
        serde_json::from_value(json!({"at": "2026-11-26T00:00:00Z", "workload": all, "pods": pods, "events": events})).expect("a snapshot")
    }

    #[test]
    fn a_copy_that_others_are_ahead_of_is_behind() {
        let before = snapshot(json!({}), &[("old", true)], &["old"]);
        for (now, strangers, expected) in [
            (snapshot(json!({}), &[("new", false)], &["old", "new"]), false, vec![]),
            (snapshot(json!({}), &[("new", true)], &["new"]), false, vec![Listed::Pods, Listed::Workload]),
            (snapshot(json!({"ready": 1}), &[], &["new"]), false, vec![Listed::Pods, Listed::Workload]),
            (snapshot(json!({}), &[], &["new"]), false, vec![Listed::Pods]),
            (snapshot(json!({"ready": 1}), &[("new", true)], &["new"]), false, vec![]),
            (snapshot(json!({"generation": 2}), &[("new", false)], &["new"]), false, vec![Listed::Workload]),
            (snapshot(json!({"kind": "Job", "ready": 1}), &[("new", false)], &["new"]), false, vec![]),
            (snapshot(json!({}), &[("new", false)], &["new"]), true, vec![Listed::Revisions]),
            (snapshot(json!({"revision": ""}), &[("new", false)], &["new"]), false, vec![Listed::Revisions]),
            (snapshot(json!({"kind": "StatefulSet", "revision": ""}), &[("new", false)], &["new"]), false, vec![]),
            (snapshot(json!({}), &[("new", false)], &["old"]), false, vec![Listed::Events]),
            (snapshot(json!({"total": 0}), &[], &["old"]), false, vec![Listed::Events]),
            (snapshot(json!({"ready": 1}), &[("old", true)], &["old"]), false, vec![]),
        ] {
            let found: Vec<Listed> = behind(&before, &now, strangers).into_iter().filter(|(_, lags)| *lags).map(|(kind, _)| kind).collect();
            assert_eq!(found, expected, "{now:?}");
        }
    }

    #[test]
    fn false_alarms_make_it_patient_and_a_right_one_impatient() {
        let mut suspicions = Suspicions::default();
        let start = Instant::now();
        let alarm = KINDS.map(|kind| (kind, kind == Listed::Workload));
        let listed = |suspicions: &mut Suspicions, seconds: std::ops::RangeInclusive<u64>| -> Vec<u64> {
            seconds.filter(|second| !suspicions.due(alarm, start + Duration::from_secs(*second)).is_empty()).collect()
        };
        assert_eq!(listed(&mut suspicions, 0..=60), [1, 5, 21], "three calls in a minute at most");
        suspicions.right(Listed::Workload);
        assert_eq!(listed(&mut suspicions, 61..=62), [61]);
        // What is over before it is listed costs nothing.
        let mut suspicions = Suspicions::default();
        for second in 0..60 {
            assert!(suspicions.due([(Listed::Workload, false); 4], start + Duration::from_secs(second)).is_empty());
            assert!(suspicions.due(alarm, start + Duration::from_secs(second)).is_empty());
        }
    }
}
