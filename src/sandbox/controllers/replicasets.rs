//! ReplicaSets keep their number of pods.

use std::time::Instant;

use serde_json::{Value, json};

use super::REPLICA_SETS;
use super::events::REPLICA_SET;
use super::pods::{self, active, available, counts, ready, replicas};
use crate::sandbox::sim::{Sim, sooner};
use crate::sandbox::store::meta::{deleting, label, list, number, text};

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    sim.store.list(REPLICA_SETS, "").iter().filter(|set| !deleting(set)).map(|set| one(sim, set)).fold(None, sooner)
}

fn one(sim: &Sim, set: &Value) -> Option<Instant> {
    let mut mine: Vec<_> = pods::owned(sim, set).into_iter().filter(|pod| active(pod)).collect();
    let want = usize::try_from(replicas(set)).unwrap_or(0);
    let mut wait = None;
    if mine.len() > want {
        // not ready before ready, younger before older: as the real one ranks them
        mine.sort_by_key(|pod| (ready(pod), std::cmp::Reverse(text(pod, "/metadata/creationTimestamp").to_owned())));
        for pod in mine.drain(..mine.len() - want) {
            pods::delete(sim, set, &pod, REPLICA_SET);
        }
    } else {
        for _ in mine.len()..want {
            if let Err(at) = pods::create(sim, set, pods::from_template(set, None), REPLICA_SET) {
                wait = Some(at);
                break;
            }
        }
    }
    let mine: Vec<_> = pods::owned(sim, set).into_iter().filter(|pod| active(pod)).collect();
    let min_ready = number(set, "/spec/minReadySeconds").unwrap_or(0);
    let hash = label(set, "pod-template-hash");
    let count = |holds: &dyn Fn(&Value) -> bool| i64::try_from(mine.iter().filter(|pod| holds(pod)).count()).unwrap_or(0);
    let mut status = json!({"replicas": mine.len()});
    counts(
        &mut status,
        &[
            ("fullyLabeledReplicas", count(&|pod| label(pod, "pod-template-hash") == hash)),
            ("readyReplicas", count(&|pod| ready(pod))),
            ("availableReplicas", count(&|pod| available(sim, pod, min_ready))),
            ("observedGeneration", number(set, "/metadata/generation").unwrap_or(0)),
        ],
    );
    if pods::create_failed(sim, set).is_some() {
        let message = last_failure(sim, set);
        let mut condition = pods::condition(sim, list(set, "/status/conditions"), "ReplicaFailure", true, "FailedCreate", &message, false);
        condition["reason"] = "FailedCreate".into();
        status["conditions"] = json!([condition]);
    }
    pods::write_status(sim, REPLICA_SETS, set, status);
    let soon = mine.iter().any(|pod| ready(pod) && !available(sim, pod, min_ready)).then(|| Instant::now() + std::time::Duration::from_millis(500));
    sooner(wait, soon)
}

fn last_failure(sim: &Sim, set: &Value) -> String {
    let uid = crate::sandbox::store::meta::uid(set);
    let memory = sim.memory();
    let found = memory.events.keys().filter(|(about, reason, _)| about == uid && reason == "FailedCreate").map(|(_, _, message)| message).last();
    found.map(|message| message.trim_start_matches("Error creating: ").to_owned()).unwrap_or_default()
}
