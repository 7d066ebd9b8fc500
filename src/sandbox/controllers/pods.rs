//! Pods as their owners see them: made from a template, counted, deleted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::PODS;
use super::events::{self, Note};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{deleting, list, metadata, name, namespace, number, text, uid};

/// The pods an object controls.
pub(super) fn owned(sim: &Sim, owner: &Value) -> Vec<Arc<Value>> {
    sim.store.list(PODS, namespace(owner)).into_iter().filter(|pod| controlled_by(pod, uid(owner))).collect()
}

pub(super) fn controlled_by(object: &Value, owner_uid: &str) -> bool {
    list(object, "/metadata/ownerReferences").iter().any(|r| text(r, "/uid") == owner_uid && r["controller"] == json!(true))
}

/// Whether a pod still counts for its owner.
pub(super) fn active(pod: &Value) -> bool {
    !deleting(pod) && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether the condition `Ready` holds.
pub(crate) fn ready(pod: &Value) -> bool {
    list(pod, "/status/conditions").iter().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
}

/// Whether it has been ready for `minReadySeconds`.
pub(super) fn available(sim: &Sim, pod: &Value, min_ready: i64) -> bool {
    let since = list(pod, "/status/conditions").iter().find(|c| text(c, "/type") == "Ready").map(|c| text(c, "/lastTransitionTime"));
    let old_enough = || since.and_then(|t| t.parse::<jiff::Timestamp>().ok()).is_some_and(|t| sim.now().duration_since(t).as_secs() >= min_ready);
    ready(pod) && (min_ready == 0 || old_enough())
}

/// The controlling reference to put into a dependent.
pub(super) fn reference(owner: &Value) -> Value {
    json!({"apiVersion": text(owner, "/apiVersion"), "kind": text(owner, "/kind"), "name": name(owner), "uid": uid(owner), "controller": true, "blockOwnerDeletion": true})
}

/// A pod from an owner's template.
pub(super) fn from_template(owner: &Value, name: Option<String>) -> Value {
    let template = &owner["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"].clone(), "spec": template["spec"].clone()});
    let meta = metadata(&mut pod);
    meta.insert("namespace".into(), namespace(owner).into());
    meta.insert("ownerReferences".into(), json!([reference(owner)]));
    meta.shift_remove("creationTimestamp");
    match name {
        Some(name) => meta.insert("name".into(), name.into()),
        None => meta.insert("generateName".into(), format!("{}-", self::name(owner)).into()),
    };
    pod
}

/// Creates a pod for its owner, with the events of success or failure. After a failure the owner must wait; tells until when.
///
/// # Errors
/// The moment of the next try.
pub(super) fn create(sim: &Sim, owner: &Value, pod: Value, source: &str) -> Result<(), Instant> {
    let key = uid(owner).to_owned();
    if let Some((at, _)) = sim.memory().retries.get(&key).copied().filter(|(at, _)| *at > Instant::now()) {
        return Err(at);
    }
    match sim.store.create(PODS, pod) {
        Ok(pod) => {
            sim.memory().retries.remove(&key);
            events::emit(sim, owner, &Note::normal(source, "SuccessfulCreate", &format!("Created pod: {}", name(&pod))));
            Ok(())
        }
        Err(status) => {
            events::emit(sim, owner, &Note::warning(source, "FailedCreate", &format!("Error creating: {}", status.message)));
            let mut memory = sim.memory();
            let failures = memory.retries.get(&key).map_or(0, |(_, failures)| failures + 1);
            let at = Instant::now() + Duration::from_millis(100 << failures.min(6));
            memory.retries.insert(key, (at, failures));
            Err(at)
        }
    }
}

/// The last failure to create pods of an owner, if the last try failed.
pub(super) fn create_failed(sim: &Sim, owner: &Value) -> Option<Instant> {
    sim.memory().retries.get(uid(owner)).map(|(at, _)| *at)
}

/// Deletes a pod for its owner.
pub(super) fn delete(sim: &Sim, owner: &Value, pod: &Value, source: &str) {
    if sim.store.delete(PODS, namespace(pod), name(pod)).is_ok() {
        events::emit(sim, owner, &Note::normal(source, "SuccessfulDelete", &format!("Deleted pod: {}", name(pod))));
    }
}

/// `spec.replicas`, 1 if it is absent.
pub(super) fn replicas(object: &Value) -> i64 {
    number(object, "/spec/replicas").unwrap_or(1)
}

/// Writes a new status unless it is the stored one.
pub(super) fn write_status(sim: &Sim, resource: &str, object: &Value, status: Value) {
    if object.get("status") != Some(&status) {
        // an object that is gone needs no status
        let _ = sim.store.modify(resource, namespace(object), name(object), |o| o["status"] = status.clone());
    }
}

/// Sets keys of a status whose zero is left out.
pub(super) fn counts(status: &mut Value, pairs: &[(&str, i64)]) {
    for (key, count) in pairs.iter().filter(|(_, count)| *count > 0) {
        status[*key] = (*count).into();
    }
}

/// A condition list with one condition set; times move only when something changed.
pub(super) fn condition(sim: &Sim, old: &[Value], kind: &str, status: bool, reason: &str, message: &str, with_update: bool) -> Value {
    let now = sim.stamp();
    let word = if status { "True" } else { "False" };
    let before = old.iter().find(|c| text(c, "/type") == kind);
    let same_status = before.is_some_and(|c| text(c, "/status") == word);
    let same = same_status && before.is_some_and(|c| text(c, "/reason") == reason && text(c, "/message") == message);
    let keep = |holds: bool, key: &str| before.filter(|_| holds).map(|c| text(c, key).to_owned()).unwrap_or_else(|| now.clone());
    let mut condition = json!({"type": kind, "status": word});
    if with_update {
        condition["lastUpdateTime"] = keep(same, "/lastUpdateTime").into();
    }
    condition["lastTransitionTime"] = keep(same_status, "/lastTransitionTime").into();
    condition["reason"] = reason.into();
    condition["message"] = message.into();
    condition
}
