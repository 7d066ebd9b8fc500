//! Collects the evidence about a Service's certificate trust. Reads only; what cannot be read is noted, never fatal.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use serde_json::Value;
use tokio::time::timeout;

use crate::base::names::ObjectName;
use crate::clients::kube::Cluster;
use crate::domain::certificates::judge::{Evidence, PodEvidence};
use crate::domain::certificates::root::{self, KeyHash, Root};
use crate::domain::certificates::{access_log, agent_log};

/// The mesh's root namespace.
pub const ROOT_NAMESPACE: &str = "istio-system";
/// Where istiod publishes the root of the mesh in each namespace.
pub const CONFIG_MAP: &str = "istio-ca-root-cert";
const PROXY: &str = "istio-proxy";
const GATEWAY_SELECTOR: &str = "istio=ingressgateway";
const LOG_LINES: i64 = 4000;
/// More pods of one Service say nothing new.
const PODS: usize = 20;
/// Asking a proxy for its root is a bonus: a cluster that forbids it must not cost the time of the cure.
const ASKING: Duration = Duration::from_secs(4);

/// All that is known about the trust between the gateway and the pods of a Service.
pub async fn evidence(cluster: &Cluster, namespace: &str, service: &str) -> Evidence {
    let gateways = async { cluster.list::<Pod>(ROOT_NAMESPACE, GATEWAY_SELECTOR).await.unwrap_or_default() };
    let (root, namespace_root, pods, gateways) =
        tokio::join!(current_root(cluster, ROOT_NAMESPACE), current_root(cluster, namespace), pods_of(cluster, namespace, service), gateways);
    let running = |pods: Vec<Pod>| pods.into_iter().filter(is_running).take(PODS).collect::<Vec<_>>();
    let (pods, gateways) = (running(pods), running(gateways));
    let (pods, gateways) =
        tokio::join!(join_all(pods.iter().map(|pod| of_pod(cluster, pod))), join_all(gateways.iter().map(|pod| of_pod(cluster, pod))),);
    let mut logged = access_log::AccessLog::default();
    for (_, log) in &gateways {
        let log = access_log::read(log);
        logged.on |= log.on;
        logged.failures.extend(log.failures);
    }
    let kept = |found: Vec<(PodEvidence, String)>| found.into_iter().map(|(pod, _)| pod).collect();
    Evidence {
        namespace: namespace.to_owned(),
        service: service.to_owned(),
        pods: kept(pods),
        gateways: kept(gateways),
        root,
        namespace_root,
        access_log: logged,
    }
}

/// The root in a namespace's ConfigMap: public, no Secret is read.
pub async fn current_root(cluster: &Cluster, namespace: &str) -> Option<Root> {
    let map = cluster.get::<ConfigMap>(namespace, CONFIG_MAP).await.ok()??;
    root::bundle(map.data?.get("root-cert.pem")?).ok()?.into_iter().next()
}

async fn pods_of(cluster: &Cluster, namespace: &str, service: &str) -> Vec<Pod> {
    let Ok(Some(found)) = cluster.get::<Service>(namespace, service).await else { return Vec::new() };
    let selector = found.spec.and_then(|s| s.selector).unwrap_or_default();
    if selector.is_empty() {
        return Vec::new();
    }
    cluster.list::<Pod>(namespace, &selector_text(&selector)).await.unwrap_or_default()
}

fn selector_text(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn is_running(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
}

/// A pod's evidence with the text of its proxy's log.
async fn of_pod(cluster: &Cluster, pod: &Pod) -> (PodEvidence, String) {
    let (namespace, name) = (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
    let (log, roots, owner) =
        tokio::join!(cluster.logs(&namespace, &name, PROXY, false, LOG_LINES), roots_of(cluster, &namespace, &name), owner(cluster, pod));
    let mut unread = Vec::new();
    let log = log.unwrap_or_else(|fault| {
        unread.push(format!("log of {PROXY}: {fault}"));
        String::new()
    });
    let roots = roots.map_err(|why| unread.push(format!("root of {PROXY}: {why}"))).ok();
    let value = serde_json::to_value(pod).unwrap_or_default();
    let started = value.pointer("/status/startTime").and_then(Value::as_str).and_then(|t| t.parse::<Timestamp>().ok());
    (PodEvidence { name, owner, started, log: agent_log::read(&log), roots, unread }, log)
}

/// The roots that the pod's Envoy trusts, from its own admin port.
async fn roots_of(cluster: &Cluster, namespace: &str, pod: &str) -> Result<Vec<KeyHash>, String> {
    let asked = cluster.port_forward_get(namespace, pod, 15000, "localhost", "/config_dump?resource=dynamic_active_secrets");
    let answer = timeout(ASKING, asked).await.map_err(|_| "no answer in time".to_owned())?.map_err(|fault| fault.message)?;
    root::of_config_dump(&answer.text()).ok_or_else(|| "its configuration names no root".to_owned())
}

/// The controller that a restart would go to.
async fn owner(cluster: &Cluster, pod: &Pod) -> Option<ObjectName> {
    let namespace = pod.metadata.namespace.clone()?;
    let owner = pod.metadata.owner_references.as_ref()?.iter().find(|o| o.controller == Some(true))?;
    if owner.kind != "ReplicaSet" {
        return Some(ObjectName::new(&owner.kind, namespace, &owner.name));
    }
    let set = cluster.get::<ReplicaSet>(&namespace, &owner.name).await.ok()??;
    let above = set.metadata.owner_references.unwrap_or_default().into_iter().find(|o| o.controller == Some(true))?;
    Some(ObjectName::new(above.kind, namespace, above.name))
}
