//! Events as the real components write them: the same again raises the count.

use serde_json::{Value, json};

use super::EVENTS;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{name, namespace, suffix, text, uid};

/// Who reports, as `source` and `reportingComponent` name it.
pub(crate) const DEPLOYMENT: &str = "deployment-controller";
pub(crate) const REPLICA_SET: &str = "replicaset-controller";
pub(crate) const SCHEDULER: &str = "default-scheduler";
pub(crate) const KUBELET: &str = "kubelet";
pub(crate) const LOAD_BALANCER: &str = "ingress";
pub(crate) const BINDING: &str = "targetGroupBinding";

/// What an event says.
pub(crate) struct Note<'a> {
    pub source: &'a str,
    pub reason: &'a str,
    pub message: &'a str,
    /// `fieldPath` of the involved object, such as `spec.containers{app}`.
    pub field: &'a str,
    pub warning: bool,
}

impl<'a> Note<'a> {
    pub(crate) fn normal(source: &'a str, reason: &'a str, message: &'a str) -> Self {
        Self { source, reason, message, field: "", warning: false }
    }

    pub(crate) fn warning(source: &'a str, reason: &'a str, message: &'a str) -> Self {
        Self { warning: true, ..Self::normal(source, reason, message) }
    }
}

/// Writes an event about an object, or counts the one that is there.
pub(crate) fn emit(sim: &Sim, about: &Value, note: &Note<'_>) {
    let key = (uid(about).to_owned(), note.reason.to_owned(), format!("{}{}", note.message, note.field));
    let now = sim.stamp();
    let known = sim.memory().events.get(&key).cloned();
    if let Some((ns, own)) = known {
        let counted = sim.store.modify(EVENTS, &ns, &own, |event| {
            event["count"] = (event["count"].as_i64().unwrap_or(1) + 1).into();
            event["lastTimestamp"] = now.clone().into();
        });
        if counted.is_ok() {
            return;
        }
    }
    let ns = if namespace(about).is_empty() { "default" } else { namespace(about) };
    let own = format!("{}.{}", name(about), suffix(16));
    let mut involved = json!({
        "kind": text(about, "/kind"), "namespace": namespace(about), "name": name(about), "uid": uid(about),
        "apiVersion": text(about, "/apiVersion"), "resourceVersion": text(about, "/metadata/resourceVersion"),
    });
    if !note.field.is_empty() {
        involved["fieldPath"] = note.field.into();
    }
    let mut source = json!({"component": note.source});
    if note.source == KUBELET {
        source["host"] = text(about, "/spec/nodeName").into();
    }
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": own, "namespace": ns},
        "involvedObject": involved, "reason": note.reason, "message": note.message, "source": source,
        "firstTimestamp": now, "lastTimestamp": now, "count": 1, "type": if note.warning { "Warning" } else { "Normal" },
        "eventTime": null, "reportingComponent": note.source, "reportingInstance": text(&source, "/host"),
    });
    // an event about something in a vanishing namespace is lost, as in a real cluster
    if sim.store.create(EVENTS, event).is_ok() {
        sim.memory().events.insert(key, (ns.to_owned(), own));
    }
}
