//! What every namespace has: a phase, the ServiceAccount `default` and the ConfigMap with the cluster's root certificate.

use std::time::Instant;

use serde_json::json;

use super::{CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{deleting, name, text};

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    let ca = sim.aws.cluster.get().map(|endpoint| endpoint.ca.clone()).unwrap_or_default();
    for namespace in sim.store.list(NAMESPACES, "") {
        let ns = name(&namespace);
        if deleting(&namespace) {
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
