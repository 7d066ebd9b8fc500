//! StatefulSets: numbered pods, one after the other, and a rolling update from the last to the first.

use std::time::Instant;

use serde_json::{Value, json};

use super::STATEFUL_SETS;
use super::pods::{self, available, counts, ready, replicas};
use crate::sandbox::aws::state::digest;
use crate::sandbox::sim::{Sim, sooner};
use crate::sandbox::store::meta::{deleting, label, metadata, name, number, text};

const SOURCE: &str = "statefulset-controller";
const REVISION: &str = "controller-revision-hash";

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    sim.store.list(STATEFUL_SETS, "").iter().filter(|set| !deleting(set)).map(|set| one(sim, set)).fold(None, sooner)
}

fn one(sim: &Sim, set: &Value) -> Option<Instant> {
    let want = usize::try_from(replicas(set)).unwrap_or(0);
    let parallel = text(set, "/spec/podManagementPolicy") == "Parallel";
    let rolling = text(set, "/spec/updateStrategy/type") != "OnDelete";
    let revision = format!("{}-{}", name(set), &digest(&set["spec"]["template"].to_string())[..10]);
    let mine = pods::owned(sim, set);
    let find = |index: usize| mine.iter().find(|pod| name(pod) == format!("{}-{index}", name(set)));
    let mut wait = None;
    for index in 0..want {
        match find(index) {
            None => {
                let own = format!("{}-{index}", name(set));
                let mut pod = pods::from_template(set, Some(own.clone()));
                let labels = metadata(&mut pod).entry("labels").or_insert_with(|| json!({}));
                labels[REVISION] = revision.clone().into();
                labels["apps.kubernetes.io/pod-index"] = index.to_string().into();
                labels["statefulset.kubernetes.io/pod-name"] = own.into();
                wait = sooner(wait, pods::create(sim, set, pod, SOURCE).err());
                if !parallel {
                    break;
                }
            }
            Some(pod) if !parallel && !ready(pod) => break,
            Some(_) => {}
        }
    }
    if let Some(extra) =
        mine.iter().filter(|pod| index_of(set, pod).is_some_and(|i| i >= want) && !deleting(pod)).max_by_key(|pod| index_of(set, pod))
    {
        pods::delete(sim, set, extra, SOURCE);
    } else if rolling && mine.iter().all(|pod| !deleting(pod)) {
        let partition = usize::try_from(number(set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0)).unwrap_or(0);
        let outdated = (partition..want).rev().filter_map(find).find(|pod| label(pod, REVISION) != Some(&revision) || !ready(pod));
        if let Some(pod) = outdated.filter(|pod| label(pod, REVISION) != Some(&revision)) {
            pods::delete(sim, set, pod, SOURCE);
        }
    }
    let count = |holds: &dyn Fn(&Value) -> bool| i64::try_from(mine.iter().filter(|pod| holds(pod)).count()).unwrap_or(0);
    let updated = count(&|pod| label(pod, REVISION) == Some(&revision));
    let done = updated == i64::try_from(want).unwrap_or(0);
    let current =
        if done || text(set, "/status/currentRevision").is_empty() { revision.clone() } else { text(set, "/status/currentRevision").to_owned() };
    let mut status = json!({"replicas": mine.len(), "collisionCount": 0, "currentRevision": current, "updateRevision": revision});
    status["availableReplicas"] = count(&|pod| available(sim, pod, 0)).into();
    let in_current = count(&|pod| label(pod, REVISION) == Some(&current));
    counts(
        &mut status,
        &[
            ("observedGeneration", number(set, "/metadata/generation").unwrap_or(0)),
            ("readyReplicas", count(&|pod| ready(pod))),
            ("currentReplicas", in_current),
            ("updatedReplicas", updated),
        ],
    );
    pods::write_status(sim, STATEFUL_SETS, set, status);
    wait
}

fn index_of(set: &Value, pod: &Value) -> Option<usize> {
    name(pod).strip_prefix(name(set))?.strip_prefix('-')?.parse().ok()
}
