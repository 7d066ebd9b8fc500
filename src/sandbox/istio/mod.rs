//! Istio as far as it shows: istiod's certificate authority and what it spreads, sidecar injection, and the stand-in for istioctl.

mod crds;
mod injection;
mod istioctl;
mod logs;
mod manifests;
mod proxy;
mod root;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub(super) use crds::definition;
pub(super) use injection::{inject, installed_version};
pub use istioctl::istioctl;
pub(super) use logs::{access_line, access_log_on};
pub(super) use manifests::installation;
pub(super) use proxy::{config_dump, discovery, expired};
use root::Root;

use super::controllers::{CONFIG_MAPS, MUTATING, NAMESPACES, PODS, SECRETS, VALIDATING};
use super::kubelet::{images_of, workload_of, write_log};
use super::sim::Sim;
use super::store::meta::{deleting, label, list, name, namespace, text, uid};
use super::world::RootAge;

/// Namespace of the control plane.
pub(super) const SYSTEM: &str = "istio-system";
const CA_SECRET: &str = "istio-ca-secret";
const ROOT_MAP: &str = "istio-ca-root-cert";

/// What only the running mesh knows.
#[derive(Default)]
pub(super) struct Mesh {
    roots: Vec<Root>,
    /// Which root each istiod pod has loaded.
    loaded: HashMap<String, usize>,
    /// When the next complaint of a pod with a stale certificate is due.
    complaints: HashMap<String, Instant>,
    pub requests: u64,
    /// The gateway's connections: made and failed, by cluster and address.
    pub connections: HashMap<(String, String), (u64, u64)>,
}

/// The pods of istiod that serve.
fn serving(sim: &Sim) -> Vec<std::sync::Arc<Value>> {
    let pods = sim.store.list(PODS, SYSTEM);
    let mut ready: Vec<_> =
        pods.into_iter().filter(|pod| label(pod, "app") == Some("istiod") && !deleting(pod) && super::controllers::pod_ready(pod)).collect();
    ready.sort_by_key(|pod| text(pod, "/metadata/creationTimestamp").to_owned());
    ready
}

/// The root that istiod signs with now; `None` while no istiod serves.
pub(super) fn current_root(sim: &Sim) -> Option<usize> {
    let pods = serving(sim);
    let mesh = sim.mesh();
    pods.iter().rev().find_map(|pod| mesh.loaded.get(uid(pod)).copied())
}

/// The root whose certificate a new pod's sidecar gets; `None` without a sidecar.
pub(super) fn root_for(sim: &Sim, pod: &Value) -> Option<usize> {
    let proxied = list(pod, "/spec/initContainers").iter().chain(list(pod, "/spec/containers")).any(|c| text(c, "/name") == "istio-proxy");
    let current = current_root(sim).filter(|_| proxied)?;
    let images = images_of(pod);
    let script = sim.world.certificates.iter().find(|script| script.r#match.matches(namespace(pod), workload_of(pod), &images));
    let restarted = || {
        let notes = pod.pointer("/metadata/annotations").and_then(Value::as_object);
        notes.is_some_and(|notes| notes.keys().any(|key| key.contains("restarted") || key.contains("redeployed")))
    };
    let former = match script.map(|script| script.root) {
        Some(RootAge::Former) => !restarted(),
        Some(RootAge::FormerForEver) => true,
        Some(RootAge::Current) | None => false,
    };
    if !former {
        return Some(current);
    }
    let mut mesh = sim.mesh();
    let other = (0..mesh.roots.len()).find(|index| *index != current);
    other.or_else(|| {
        mesh.roots.push(Root::generate(sim.now()).ok()?);
        Some(mesh.roots.len() - 1)
    })
}

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    load_roots(sim);
    let next = complain(sim);
    let current = current_root(sim)?;
    let pem = sim.mesh().roots.get(current).map(|root| root.pem.clone())?;
    for namespace in sim.store.list(NAMESPACES, "").iter().filter(|ns| !deleting(ns)) {
        spread(sim, name(namespace), &pem);
    }
    for kind in [MUTATING, VALIDATING] {
        for hooks in sim.store.list(kind, "").iter().filter(|hooks| label(hooks, "operator.istio.io/component").is_some()) {
            patch_hooks(sim, kind, hooks, &pem);
        }
    }
    next
}

/// Each istiod that begins to serve reads the CA secret, or makes a new root.
fn load_roots(sim: &Sim) {
    for pod in serving(sim) {
        if sim.mesh().loaded.contains_key(uid(&pod)) {
            continue;
        }
        let stored = sim.store.get(SECRETS, SYSTEM, CA_SECRET).and_then(|secret| {
            let pem = STANDARD.decode(text(&secret, "/data/ca-cert.pem")).ok()?;
            String::from_utf8(pem).ok()
        });
        let known = stored.as_ref().and_then(|pem| sim.mesh().roots.iter().position(|root| root.pem == *pem));
        let root = match (known, stored) {
            (Some(index), _) => Some(index),
            (None, Some(pem)) => {
                let mut mesh = sim.mesh();
                mesh.roots.push(Root { pem, key: String::new() });
                Some(mesh.roots.len() - 1)
            }
            (None, None) => new_root(sim),
        };
        if let Some(root) = root {
            sim.mesh().loaded.insert(uid(&pod).to_owned(), root);
        }
    }
}

fn new_root(sim: &Sim) -> Option<usize> {
    let root = Root::generate(sim.now()).ok()?;
    let empty = "";
    let data = json!({
        "ca-cert.pem": STANDARD.encode(&root.pem), "ca-key.pem": STANDARD.encode(&root.key), "cert-chain.pem": empty, "key.pem": empty, "root-cert.pem": empty,
    });
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "type": "istio.io/ca-root", "metadata": {"name": CA_SECRET, "namespace": SYSTEM}, "data": data});
    sim.store.create(SECRETS, secret).ok()?;
    let mut mesh = sim.mesh();
    mesh.roots.push(root);
    Some(mesh.roots.len() - 1)
}

/// The root as every namespace's ConfigMap.
fn spread(sim: &Sim, ns: &str, pem: &str) {
    match sim.store.get(CONFIG_MAPS, ns, ROOT_MAP) {
        Some(map) if text(&map, "/data/root-cert.pem") == pem => {}
        Some(_) if sim.world.istio.forgotten.iter().any(|forgotten| forgotten == ns) => {}
        // the next look tries again
        Some(_) => drop(sim.store.modify(CONFIG_MAPS, ns, ROOT_MAP, |map| map["data"] = json!({"root-cert.pem": pem}))),
        None => {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ROOT_MAP, "namespace": ns, "labels": {"istio.io/config": "true"}}, "data": {"root-cert.pem": pem}});
            drop(sim.store.create(CONFIG_MAPS, map));
        }
    }
}

/// Whether the API server cannot trust the injector now: its webhook has no certificate of istiod's.
fn untrusted(sim: &Sim, kind: &str) -> bool {
    kind == MUTATING && sim.world.istio.webhook_untrusted && sim.set_back_by() == 0
}

/// istiod puts its root into its webhooks, and makes the validating ones strict.
fn patch_hooks(sim: &Sim, kind: &str, hooks: &Value, pem: &str) {
    let bundle = if untrusted(sim, kind) { String::new() } else { STANDARD.encode(pem) };
    let strict = kind == VALIDATING;
    let right = |hook: &Value| text(hook, "/clientConfig/caBundle") == bundle && (!strict || text(hook, "/failurePolicy") == "Fail");
    if list(hooks, "/webhooks").iter().all(right) {
        return;
    }
    // the next look tries again
    drop(sim.store.modify(kind, "", name(hooks), |hooks| {
        for hook in hooks["webhooks"].as_array_mut().into_iter().flatten() {
            hook["clientConfig"]["caBundle"] = bundle.clone().into();
            if strict {
                hook["failurePolicy"] = "Fail".into();
            }
        }
    }));
}

/// Sidecars with a certificate of another root say so in their log, again and again.
fn complain(sim: &Sim) -> Option<Instant> {
    if sim.set_back_by() > 0 {
        return None;
    }
    let current = current_root(sim)?;
    let pods = sim.store.list(PODS, "");
    let mut next = None;
    for pod in &pods {
        let stale = sim.kubelet().root(uid(pod)).is_some_and(|root| root != current);
        if !stale || label(pod, "istio").is_some() {
            continue;
        }
        let now = Instant::now();
        let due = sim.mesh().complaints.get(uid(pod)).copied().unwrap_or(now);
        let due = if due <= now {
            let at = sim.now();
            let written = write_log(sim, uid(pod), "istio-proxy", at, logs::stale(at));
            let due = now + Duration::from_millis(if written { 5000 } else { 100 });
            sim.mesh().complaints.insert(uid(pod).to_owned(), due);
            due
        } else {
            due
        };
        next = super::sim::sooner(next, Some(due));
    }
    next
}
