//! The mesh's side: the current root and who says so, the control planes, the injector's webhooks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use regex::RegexSet;
use tokio::time::timeout;

use super::pod::{is_running, started};
use super::{ASKING, LOOK_BACK, ROOT_NAMESPACE, roots_in};
use crate::clients::kube::Cluster;
use crate::domain::certificates::evidence::{Evidence, Plane};
use crate::domain::certificates::root::{self, KeyHash, Leaf};

const CA_SECRET: &str = "istio-ca-secret";
/// Where istiod serves its proxies over TLS.
const DISCOVERY: u16 = 15012;
const LOG_LINES: i64 = 2000;

/// What istiod writes when its CA cannot be used or will not sign. That proxies refuse its certificate is the incident, no fault of its own.
static COMPLAINTS: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new([
        "cannot verify the cert with the provided root chain",
        "failed to create (CA|an istiod CA|a self-signed istiod CA|discovery service)",
        r"CSR signing error|failed to sign CSR|CA_ERROR|CA certificate (has )?expired",
        r"(update|updating|creating|create|inserting).{0,40}configmap.{0,10}istio-ca-root-cert",
    ])
    .expect("the patterns are valid")
});

/// Evidence without pods.
pub(super) async fn look(cluster: &Cluster, namespaces: &BTreeSet<String>) -> Evidence {
    let of_namespaces = join_all(namespaces.iter().map(|namespace| async move { (namespace, roots_in(cluster, namespace).await) }));
    let (roots, of_namespaces, planes, injectors, made) =
        tokio::join!(roots_in(cluster, ROOT_NAMESPACE), of_namespaces, planes(cluster), injectors(cluster), made(cluster));
    let roots = roots.unwrap_or_default();
    let keys = |roots: Vec<root::Root>| roots.into_iter().map(|root| root.key).collect::<Vec<KeyHash>>();
    Evidence {
        root: roots.iter().max_by_key(|root| root.not_before).cloned(),
        trusted: roots.iter().map(|root| root.key.clone()).collect(),
        made,
        // A namespace whose ConfigMap may not be read says nothing.
        namespace_roots: of_namespaces
            .into_iter()
            .filter_map(|(namespace, roots)| Some((namespace.clone(), roots.ok()?)))
            .map(|(namespace, roots)| (namespace, (!roots.is_empty()).then(|| keys(roots))))
            .collect(),
        planes,
        injectors,
        ..Evidence::default()
    }
}

/// When the CA's Secret was made: its metadata alone, and only where that may be read.
pub(super) async fn made(cluster: &Cluster) -> Option<Timestamp> {
    let secret = cluster.api::<Secret>(ROOT_NAMESPACE).get_metadata(CA_SECRET).await.ok()?;
    Timestamp::from_second(secret.metadata.creation_timestamp?.0.as_second()).ok()
}

async fn planes(cluster: &Cluster) -> Vec<Plane> {
    let found = cluster.list::<Deployment>(ROOT_NAMESPACE, "app=istiod").await.unwrap_or_default();
    let pods: Vec<Pod> = cluster.list::<Pod>(ROOT_NAMESPACE, "app=istiod").await.unwrap_or_default().into_iter().filter(is_running).collect();
    join_all(found.iter().map(|deployment| plane(cluster, deployment, &pods))).await
}

async fn plane(cluster: &Cluster, deployment: &Deployment, pods: &[Pod]) -> Plane {
    let metadata = &deployment.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let labels = deployment.spec.selector.match_labels.clone().unwrap_or_default();
    let ours = pods.iter().filter(|pod| labels.iter().all(|(key, value)| pod.metadata.labels.as_ref().and_then(|l| l.get(key)) == Some(value)));
    let newest = ours.max_by_key(|pod| started(pod));
    let (leaf, complaints) = match newest.and_then(|pod| pod.metadata.name.as_deref()) {
        Some(pod) => tokio::join!(leaf(cluster, pod), complaints(cluster, pod)),
        None => (None, Vec::new()),
    };
    Plane {
        revision: metadata.labels.as_ref().and_then(|l| l.get("istio.io/rev")).cloned().unwrap_or_else(|| "default".to_owned()),
        available: deployment.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0) > 0,
        started: newest.and_then(started),
        name,
        leaf,
        complaints,
    }
}

/// The certificate that istiod shows to its proxies: it is of the CA that it signs with.
async fn leaf(cluster: &Cluster, pod: &str) -> Option<Leaf> {
    let shown = timeout(ASKING, cluster.shown_chain(ROOT_NAMESPACE, pod, DISCOVERY, "istiod.istio-system.svc")).await.ok()?.ok()?;
    root::chain(&shown.iter().map(Vec::as_slice).collect::<Vec<_>>()).ok()
}

async fn complaints(cluster: &Cluster, pod: &str) -> Vec<String> {
    let log = cluster.logs(ROOT_NAMESPACE, pod, "discovery", false, LOG_LINES).await.unwrap_or_default();
    complaining(&log, Timestamp::now().checked_sub(LOOK_BACK).ok())
}

/// The lines of istiod's log since then that tell of a CA that does not work.
fn complaining(log: &str, since: Option<Timestamp>) -> Vec<String> {
    let time = |line: &str| -> Option<Timestamp> {
        let json = line.trim_start().starts_with('{').then(|| serde_json::from_str::<serde_json::Value>(line).ok()).flatten();
        match json {
            Some(json) => json.get("time")?.as_str()?.parse().ok(),
            None => line.split_whitespace().next()?.parse().ok(),
        }
    };
    let recent = |line: &&str| time(line).zip(since).is_none_or(|(at, since)| at >= since);
    let trouble = |line: &&str| {
        let told = line.contains("error") || line.contains("warn") || line.contains("Error");
        told && COMPLAINTS.is_match(line) && !line.contains("TLS handshake error") && !line.contains("the object has been modified")
    };
    log.lines().filter(trouble).filter(recent).map(|line| line.trim_end().to_owned()).collect()
}

/// What the API server trusts when it calls the injectors.
async fn injectors(cluster: &Cluster) -> BTreeMap<String, Vec<KeyHash>> {
    let hooks = cluster.list::<MutatingWebhookConfiguration>("", "").await.unwrap_or_default();
    let mut found = BTreeMap::new();
    for config in hooks {
        // A revision and its tag have webhooks of the same names.
        let name = config.metadata.name.unwrap_or_default();
        for hook in config.webhooks.unwrap_or_default().into_iter().filter(|hook| hook.name.ends_with("sidecar-injector.istio.io")) {
            let pem = hook.client_config.ca_bundle.map(|bundle| String::from_utf8_lossy(&bundle.0).into_owned()).unwrap_or_default();
            found.insert(format!("{name}/{}", hook.name), root::bundle(&pem).unwrap_or_default().into_iter().map(|root| root.key).collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istiods_complaints_are_about_its_own_ca() {
        let chain = "2026-11-26T01:53:13.113287Z\terror\tfailed to create discovery service: failed to create CA: failed to create an istiod CA: failed to create CA KeyCertBundle (cannot verify the cert with the provided root chain and cert pool with error: x509: certificate signed by unknown authority)";
        let map = "2026-11-26T01:53:13.546276Z\terror\terror when inserting data to config map istio-ca-root-cert: error when updating configmap istio-ca-root-cert: forbidden";
        let json = r#"{"level":"error","time":"2026-11-26T01:53:13.113287Z","scope":"pkica","msg":"CSR signing error: CA certificate expired"}"#;
        for line in [chain, map, json] {
            assert_eq!(complaining(line, None), [line]);
            assert_eq!(complaining(line, "2026-11-26T02:00:00Z".parse().ok()).len(), 0, "an older story: {line}");
        }
        for line in [
            "2026-11-26T01:53:13Z\tinfo\thttp: TLS handshake error from 10.244.0.12:52226: remote error: tls: bad certificate",
            "2026-11-26T01:53:13Z\terror\terror when inserting data to config map istio-ca-root-cert: error when updating configmap istio-ca-root-cert: the object has been modified",
            "2026-11-26T01:53:13Z\tinfo\tads\tADS: new connection for node:app1.prod-1",
        ] {
            assert_eq!(complaining(line, None), Vec::<String>::new());
        }
    }
}
