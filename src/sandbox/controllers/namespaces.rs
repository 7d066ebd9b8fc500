//! What every namespace has: a phase, the ServiceAccount `default` and the ConfigMap with the cluster's root certificate.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::{CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{deleting, finalizers, name, namespace as home, text};

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    let ca = sim.aws.cluster.get().map(|endpoint| endpoint.ca.clone()).unwrap_or_default();
    for namespace in sim.store.list(NAMESPACES, "") {
        let ns = name(&namespace);
        if deleting(&namespace) {
            terminating(sim, &namespace);
            continue;
        }
        // a failing create is tried again at the next look
        if text(&namespace, "/status/phase").is_empty() {
            let _ = sim.store.modify(NAMESPACES, "", ns, |n| n["status"] = json!({"phase": "Active"}));
        }
        if sim.store.get(SERVICE_ACCOUNTS, ns, "default").is_none() {
            let _ = sim
                .store
                .create(SERVICE_ACCOUNTS, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": ns}}));
        }
        if sim.store.get(CONFIG_MAPS, ns, "kube-root-ca.crt").is_none() {
            let about = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": ns, "annotations": {"kubernetes.io/description": about}}, "data": {"ca.crt": ca}});
            let _ = sim.store.create(CONFIG_MAPS, map);
        }
    }
    None
}

/// A namespace that cannot go yet says what is left in it and which finalizers hold that.
fn terminating(sim: &Sim, namespace: &Value) {
    let (mut kinds, mut held): (BTreeMap<String, usize>, BTreeMap<String, usize>) = (BTreeMap::new(), BTreeMap::new());
    for resource in sim.store.resources().iter().filter(|resource| resource.namespaced && resource.stored) {
        for object in sim.store.list(&resource.id(), name(namespace)).iter().filter(|object| home(object) == name(namespace)) {
            *kinds.entry(format!("{}.{}", resource.plural, resource.group)).or_default() += 1;
            for finalizer in finalizers(object) {
                *held.entry(finalizer.to_owned()).or_default() += 1;
            }
        }
    }
    let told = |what: &BTreeMap<String, usize>, words: &str| {
        what.iter().map(|(what, n)| format!("{what} {words} {n} resource instances")).collect::<Vec<_>>()
    };
    let condition = |kind: &str, reason: &str, message: String| {
        let holds = if message.is_empty() { "False" } else { "True" };
        json!({"type": kind, "status": holds, "reason": reason, "message": message})
    };
    let (left, held) = (told(&kinds, "has").join(", "), told(&held, "in").join(", "));
    let or_empty = |words: &str, what: &str| if what.is_empty() { String::new() } else { format!("{words}{what}") };
    let status = json!({"phase": "Terminating", "conditions": [
        condition("NamespaceContentRemaining", "SomeResourcesRemain", or_empty("Some resources are remaining: ", &left)),
        condition("NamespaceFinalizersRemaining", "SomeFinalizersRemain", or_empty("Some content in the namespace has finalizers remaining: ", &held)),
    ]});
    if namespace["status"] != status {
        // gone already is as good
        let _ = sim.store.modify(NAMESPACES, "", name(namespace), |n| n["status"] = status.clone());
    }
}
