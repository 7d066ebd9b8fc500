//! DaemonSets: one pod on each node, replaced one by one.

use std::time::Instant;

use serde_json::{Value, json};

use super::pods::{self, active, controlled_by, ready};
use super::{DAEMON_SETS, NODES};
use crate::sandbox::aws::state::digest;
use crate::sandbox::sim::{Sim, sooner};
use crate::sandbox::store::meta::{deleting, label, metadata, name, namespace, number, text, uid};

const SOURCE: &str = "daemonset-controller";
const REVISIONS: &str = "controllerrevisions.apps";
const REVISION: &str = "controller-revision-hash";

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    sim.store.list(DAEMON_SETS, "").iter().filter(|set| !deleting(set)).map(|set| one(sim, set)).fold(None, sooner)
}

fn one(sim: &Sim, set: &Value) -> Option<Instant> {
    let revision = digest(&set["spec"]["template"].to_string())[..10].to_owned();
    keep_revision(sim, set, &revision);
    let mine: Vec<_> = pods::owned(sim, set).into_iter().filter(|pod| active(pod)).collect();
    let nodes = sim.store.list(NODES, "");
    let mut wait = None;
    for node in nodes.iter().filter(|node| !mine.iter().any(|pod| text(pod, "/spec/nodeName") == name(node))) {
        let mut pod = pods::from_template(set, None);
        metadata(&mut pod).entry("labels").or_insert_with(|| json!({}))[REVISION] = revision.clone().into();
        pod["spec"]["nodeName"] = name(node).into();
        wait = sooner(wait, pods::create(sim, set, pod, SOURCE).err());
    }
    let outdated = mine.iter().find(|pod| label(pod, REVISION) != Some(&revision));
    if let Some(pod) = outdated.filter(|_| {
        text(set, "/spec/updateStrategy/type") != "OnDelete" && mine.iter().all(|pod| ready(pod) || label(pod, REVISION) != Some(&revision))
    }) {
        pods::delete(sim, set, pod, SOURCE);
    }
    let count = |holds: &dyn Fn(&Value) -> bool| mine.iter().filter(|pod| holds(pod)).count();
    let good = count(&|pod| ready(pod));
    let mut status = json!({
        "currentNumberScheduled": mine.len(), "numberMisscheduled": 0, "desiredNumberScheduled": nodes.len(), "numberReady": good,
        "observedGeneration": number(set, "/metadata/generation").unwrap_or(0), "updatedNumberScheduled": count(&|pod| label(pod, REVISION) == Some(&revision)),
    });
    pods::counts(
        &mut status,
        &[("numberAvailable", i64::try_from(good).unwrap_or(0)), ("numberUnavailable", i64::try_from(nodes.len().saturating_sub(good)).unwrap_or(0))],
    );
    pods::write_status(sim, DAEMON_SETS, set, status);
    wait
}

/// The record of this template, by which others tell new pods from old.
fn keep_revision(sim: &Sim, set: &Value, revision: &str) {
    let own = format!("{}-{revision}", name(set));
    let known: Vec<_> = sim.store.list(REVISIONS, namespace(set)).into_iter().filter(|r| controlled_by(r, uid(set))).collect();
    if known.iter().any(|record| name(record) == own) {
        return;
    }
    let mut labels = set.pointer("/spec/template/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    labels[REVISION] = revision.into();
    let number = known.iter().filter_map(|record| number(record, "/revision")).max().unwrap_or(0) + 1;
    let record = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": number, "data": {"spec": {"template": set["spec"]["template"]}},
        "metadata": {"name": own, "namespace": namespace(set), "labels": labels, "ownerReferences": [pods::reference(set)]},
    });
    // the next look tries again
    drop(sim.store.create(REVISIONS, record));
}
