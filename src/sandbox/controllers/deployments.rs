//! Deployments: a ReplicaSet per pod template, moved from old to new as the strategy allows, and the status that tells how far it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::events::{self, DEPLOYMENT, Note};
use super::pods::{self, condition, controlled_by, counts, replicas};
use super::rollout::{Limits, Numbers, step};
use super::{DEPLOYMENTS, REPLICA_SETS};
use crate::sandbox::aws::state::digest;
use crate::sandbox::sim::{Sim, sooner};
use crate::sandbox::store::meta::{annotation, child, deleting, list, metadata, name, namespace, number, text};

const REVISION: &str = "deployment.kubernetes.io/revision";

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    sim.store.list(DEPLOYMENTS, "").iter().filter(|d| !deleting(d)).map(|d| one(sim, d)).fold(None, sooner)
}

fn one(sim: &Sim, deployment: &Value) -> Option<Instant> {
    let paused = deployment["spec"]["paused"] == json!(true);
    let mut sets = owned_sets(sim, deployment);
    let current = current_set(sim, deployment, &sets, paused);
    if let Some(current) = &current {
        sets.retain(|set| name(set) != name(current));
        if !paused {
            move_on(sim, deployment, current, &sets);
        }
    }
    prune(sim, deployment, &sets);
    status(sim, deployment, current.map(|set| name(&set).to_owned()))
}

fn owned_sets(sim: &Sim, deployment: &Value) -> Vec<Arc<Value>> {
    let uid = crate::sandbox::store::meta::uid(deployment);
    let mut sets: Vec<_> =
        sim.store.list(REPLICA_SETS, namespace(deployment)).into_iter().filter(|set| controlled_by(set, uid) && !deleting(set)).collect();
    sets.sort_by_key(|set| revision(set));
    sets
}

fn revision(object: &Value) -> i64 {
    annotation(object, REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// The pod template without what the Deployment itself adds.
fn template_of(object: &Value) -> Value {
    let mut template = object["spec"]["template"].clone();
    if let Some(meta) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|_, value| !value.is_null());
        if let Some(labels) = meta.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove("pod-template-hash");
        }
    }
    template
}

/// The ReplicaSet of the present template, made if there is none yet.
fn current_set(sim: &Sim, deployment: &Value, sets: &[Arc<Value>], paused: bool) -> Option<Arc<Value>> {
    let template = template_of(deployment);
    let highest = sets.iter().map(|set| revision(set)).max().unwrap_or(0);
    let found = sets.iter().rev().find(|set| template_of(set) == template).cloned();
    let set = match found {
        Some(set) if revision(&set) < highest => {
            let old = revision(&set).to_string();
            let reused = sim.store.modify(REPLICA_SETS, namespace(&set), name(&set), |set| {
                let history =
                    annotation(set, "deployment.kubernetes.io/revision-history").map_or_else(|| old.clone(), |known| format!("{known},{old}"));
                let annotations = annotations(set);
                annotations.insert(REVISION.into(), (highest + 1).to_string().into());
                annotations.insert("deployment.kubernetes.io/revision-history".into(), history.into());
            });
            reused.ok()?
        }
        Some(set) => set,
        None if paused => return None,
        None => create_set(sim, deployment, &template, highest + 1)?,
    };
    let wanted = revision(&set).to_string();
    if annotation(deployment, REVISION) != Some(&wanted) {
        // the next look tries again
        let _ = sim.store.modify(DEPLOYMENTS, namespace(deployment), name(deployment), |d| {
            annotations(d).insert(REVISION.into(), wanted.clone().into());
        });
    }
    Some(set)
}

fn annotations(object: &mut Value) -> &mut serde_json::Map<String, Value> {
    let meta = metadata(object).entry("annotations").or_insert_with(|| json!({}));
    if !meta.is_object() {
        *meta = json!({});
    }
    meta.as_object_mut().expect("just made a map")
}

fn create_set(sim: &Sim, deployment: &Value, template: &Value, revision: i64) -> Option<Arc<Value>> {
    let hash = digest(&template.to_string()).bytes().take(10).map(|b| char::from(b"bcdf456789ghjklmnpqrst"[usize::from(b % 22)])).collect::<String>();
    let mut template = template.clone();
    let labels = child(&mut template, "metadata").entry("labels").or_insert_with(|| json!({}));
    labels["pod-template-hash"] = hash.clone().into();
    let labels = labels.clone();
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"]["pod-template-hash"] = hash.clone().into();
    let mut notes = deployment.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({}));
    if let Some(notes) = notes.as_object_mut() {
        notes.shift_remove("kubectl.kubernetes.io/last-applied-configuration");
        notes.insert(REVISION.into(), revision.to_string().into());
        let limits = Limits::new(replicas(deployment), &deployment["spec"]["strategy"]["rollingUpdate"]);
        notes.insert("deployment.kubernetes.io/desired-replicas".into(), limits.replicas.to_string().into());
        notes.insert("deployment.kubernetes.io/max-replicas".into(), (limits.replicas + limits.surge).to_string().into());
    }
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": format!("{}-{hash}", name(deployment)), "namespace": namespace(deployment), "labels": labels, "annotations": notes, "ownerReferences": [pods::reference(deployment)]},
        "spec": {"replicas": 0, "minReadySeconds": number(deployment, "/spec/minReadySeconds").unwrap_or(0), "selector": selector, "template": template},
    });
    sim.store.create(REPLICA_SETS, set).ok()
}

fn numbers(set: &Value) -> Numbers {
    Numbers {
        spec: replicas(set),
        pods: number(set, "/status/replicas").unwrap_or(0),
        available: number(set, "/status/availableReplicas").unwrap_or(0),
    }
}

fn move_on(sim: &Sim, deployment: &Value, current: &Value, old: &[Arc<Value>]) {
    let want = replicas(deployment);
    let old_numbers: Vec<Numbers> = old.iter().map(|set| numbers(set)).collect();
    let (new, olds) = if text(deployment, "/spec/strategy/type") == "Recreate" {
        let gone = old_numbers.iter().all(|set| set.spec == 0) && old.iter().all(|set| pods::owned(sim, set).is_empty());
        (if gone { want } else { replicas(current) }, vec![0; old.len()])
    } else {
        step(Limits::new(want, &deployment["spec"]["strategy"]["rollingUpdate"]), numbers(current), &old_numbers)
    };
    scale(sim, deployment, current, new);
    for (set, count) in old.iter().zip(olds) {
        scale(sim, deployment, set, count);
    }
}

fn scale(sim: &Sim, deployment: &Value, set: &Value, to: i64) {
    let from = replicas(set);
    if from == to {
        return;
    }
    let scaled = sim.store.modify(REPLICA_SETS, namespace(set), name(set), |set| set["spec"]["replicas"] = to.into());
    if scaled.is_ok() {
        let way = if to > from { "up" } else { "down" };
        events::emit(
            sim,
            deployment,
            &Note::normal(DEPLOYMENT, "ScalingReplicaSet", &format!("Scaled {way} replica set {} from {from} to {to}", name(set))),
        );
    }
}

fn prune(sim: &Sim, deployment: &Value, old: &[Arc<Value>]) {
    let keep = usize::try_from(number(deployment, "/spec/revisionHistoryLimit").unwrap_or(10)).unwrap_or(0);
    for set in old.iter().take(old.len().saturating_sub(keep)).filter(|set| replicas(set) == 0 && numbers(set).pods == 0) {
        // gone already is as good
        let _ = sim.store.delete(REPLICA_SETS, namespace(set), name(set));
    }
}

fn status(sim: &Sim, deployment: &Value, current: Option<String>) -> Option<Instant> {
    let deployment = sim.store.get(DEPLOYMENTS, namespace(deployment), name(deployment))?;
    let sets = owned_sets(sim, &deployment);
    let total: i64 = sets.iter().map(|set| numbers(set).pods).sum();
    let available: i64 = sets.iter().map(|set| numbers(set).available).sum();
    let ready: i64 = sets.iter().map(|set| number(set, "/status/readyReplicas").unwrap_or(0)).sum();
    let new = sets.iter().find(|set| Some(name(set)) == current.as_deref());
    let updated = new.map_or(0, |set| numbers(set).pods);
    let want = replicas(&deployment);
    let mut status = json!({});
    counts(
        &mut status,
        &[
            ("observedGeneration", number(&deployment, "/metadata/generation").unwrap_or(0)),
            ("replicas", total),
            ("updatedReplicas", updated),
            ("readyReplicas", ready),
            ("availableReplicas", available),
            ("unavailableReplicas", total.max(want) - available),
        ],
    );
    let old = list(&deployment, "/status/conditions");
    let limits = Limits::new(want, &deployment["spec"]["strategy"]["rollingUpdate"]);
    let enough = available >= want - limits.unavailable;
    let mut conditions = vec![if enough {
        condition(sim, old, "Available", true, "MinimumReplicasAvailable", "Deployment has minimum availability.", true)
    } else {
        condition(sim, old, "Available", false, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", true)
    }];
    if let Some(failure) = sets.iter().flat_map(|set| list(set, "/status/conditions")).find(|c| text(c, "/type") == "ReplicaFailure") {
        conditions.push(condition(sim, old, "ReplicaFailure", true, "FailedCreate", text(failure, "/message"), true));
    }
    let mut wait = None;
    if let Some(set) = new {
        let complete = updated == want && total == want && available == want;
        let (progressing, deadline) = progress(sim, &deployment, name(set), complete, &status);
        wait = deadline;
        conditions.push(progressing);
    }
    status["conditions"] = conditions.into();
    pods::write_status(sim, DEPLOYMENTS, &deployment, status);
    wait
}

/// The condition `Progressing`, and when it would run out.
fn progress(sim: &Sim, deployment: &Value, set: &str, complete: bool, status: &Value) -> (Value, Option<Instant>) {
    let old = list(deployment, "/status/conditions");
    let before = old.iter().find(|c| text(c, "/type") == "Progressing");
    if complete {
        return (
            condition(sim, old, "Progressing", true, "NewReplicaSetAvailable", &format!("ReplicaSet \"{set}\" has successfully progressed."), true),
            None,
        );
    }
    let seconds = number(deployment, "/spec/progressDeadlineSeconds").unwrap_or(600);
    let moved = ["updatedReplicas", "readyReplicas", "availableReplicas", "replicas"].iter().any(|key| deployment["status"][*key] != status[*key]);
    let same_set = before.is_some_and(|c| text(c, "/message").contains(&format!("\"{set}\"")));
    if let Some(before) = before.filter(|c| same_set && text(c, "/reason") == "NewReplicaSetAvailable") {
        return (before.clone(), None);
    }
    if !moved && same_set {
        if let Some(before) = before.filter(|c| text(c, "/reason") == "ProgressDeadlineExceeded") {
            return (before.clone(), None);
        }
        let since = before.and_then(|c| text(c, "/lastUpdateTime").parse::<jiff::Timestamp>().ok());
        if let Some(since) = since {
            let left = seconds - sim.now().duration_since(since).as_secs();
            if left <= 0 {
                let message = format!("ReplicaSet \"{set}\" has timed out progressing.");
                return (condition(sim, old, "Progressing", false, "ProgressDeadlineExceeded", &message, true), None);
            }
            return (before.cloned().unwrap_or_default(), Some(Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0))));
        }
    }
    let (reason, message) = if same_set || before.is_some_and(|c| text(c, "/reason") == "NewReplicaSetCreated") {
        ("ReplicaSetUpdated", format!("ReplicaSet \"{set}\" is progressing."))
    } else {
        ("NewReplicaSetCreated", format!("Created new replica set \"{set}\""))
    };
    let mut new = condition(sim, old, "Progressing", true, reason, &message, true);
    new["lastUpdateTime"] = sim.stamp().into();
    (new, Some(Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}
