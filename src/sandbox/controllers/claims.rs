//! Volume claims: bound when their storage class is there, at once or with the first pod, else pending, with the volume controller's event.

use std::time::Instant;

use serde_json::{Value, json};

use super::events::{self, Note};
use super::{CLAIMS, PODS, STORAGE_CLASSES};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{annotation, deleting, list, name, namespace, text};

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    for claim in sim.store.list(CLAIMS, "").iter().filter(|claim| !deleting(claim) && !is_bound(claim)) {
        match problem(sim, claim) {
            Some((reason, message)) => {
                if text(claim, "/status/phase") != "Pending" {
                    write(sim, claim, &json!({"phase": "Pending"}));
                    let note = Note { warning: reason == "ProvisioningFailed", ..Note::normal("persistentvolume-controller", reason, &message) };
                    events::emit(sim, claim, &note);
                }
            }
            None => write(
                sim,
                claim,
                &json!({"phase": "Bound", "accessModes": claim["spec"]["accessModes"], "capacity": claim["spec"]["resources"]["requests"]}),
            ),
        }
    }
    None
}

fn write(sim: &Sim, claim: &Value, status: &Value) {
    // a claim that is gone needs no status
    drop(sim.store.modify(CLAIMS, namespace(claim), name(claim), |claim| claim["status"] = status.clone()));
}

fn is_bound(claim: &Value) -> bool {
    text(claim, "/status/phase") == "Bound"
}

/// Why nothing provides a volume: reason and message of the claim's event.
fn problem(sim: &Sim, claim: &Value) -> Option<(&'static str, String)> {
    match claim["spec"]["storageClassName"].as_str() {
        Some("") | None => {
            let classes = sim.store.list(STORAGE_CLASSES, "");
            let default = classes.iter().any(|class| annotation(class, "storageclass.kubernetes.io/is-default-class") == Some("true"));
            let none = claim["spec"]["storageClassName"].is_string() || !default;
            none.then(|| ("FailedBinding", "no persistent volumes available for this claim and no storage class is set".to_owned()))
        }
        Some(class) => {
            let missing = sim.store.get(STORAGE_CLASSES, "", class).is_none();
            if missing {
                return Some(("ProvisioningFailed", format!("storageclass.storage.k8s.io \"{class}\" not found")));
            }
            let waits = waits_for_consumer(sim, claim) && !is_consumed(sim, claim);
            waits.then(|| ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned()))
        }
    }
}

/// Whether the claim's class leaves the choice of the zone to the scheduler.
fn waits_for_consumer(sim: &Sim, claim: &Value) -> bool {
    let class = sim.store.get(STORAGE_CLASSES, "", text(claim, "/spec/storageClassName"));
    class.is_some_and(|class| text(&class, "/volumeBindingMode") == "WaitForFirstConsumer")
}

/// Whether a pod with this claim has a node.
fn is_consumed(sim: &Sim, claim: &Value) -> bool {
    let uses = |pod: &Value| list(pod, "/spec/volumes").iter().any(|volume| text(volume, "/persistentVolumeClaim/claimName") == name(claim));
    sim.store.list(PODS, namespace(claim)).iter().any(|pod| uses(pod) && !text(pod, "/spec/nodeName").is_empty())
}

/// What the scheduler says of a pod's claims.
pub(super) fn refusal(sim: &Sim, pod: &Value) -> Option<String> {
    let claims = list(pod, "/spec/volumes").iter().map(|volume| text(volume, "/persistentVolumeClaim/claimName")).filter(|claim| !claim.is_empty());
    claims.map(|claim| (claim, sim.store.get(CLAIMS, namespace(pod), claim))).find_map(|(wanted, claim)| match claim {
        None => Some(format!("persistentvolumeclaim \"{wanted}\" not found")),
        Some(claim) if !is_bound(&claim) && !waits_for_consumer(sim, &claim) => Some("pod has unbound immediate PersistentVolumeClaims".to_owned()),
        Some(_) => None,
    })
}
