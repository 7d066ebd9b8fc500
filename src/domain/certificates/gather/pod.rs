//! One pod: its proxy's log, what its proxy holds, and what controls it.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::timeout;

use super::ASKING;
use crate::base::names::ObjectName;
use crate::clients::kube::Cluster;
use crate::domain::certificates::access_log::{self, AccessLog};
use crate::domain::certificates::agent_log;
use crate::domain::certificates::evidence::PodEvidence;
use crate::domain::certificates::root::{self, Held};

const PROXY: &str = "istio-proxy";
const LOG_LINES: i64 = 4000;
/// Envoy's admin interface inside the pod.
const ADMIN: u16 = 15000;
const SECRETS: &str = "/config_dump?resource=dynamic_active_secrets";

pub(super) fn is_running(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
}

pub(super) fn is_proxied(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let mut containers = spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    containers.any(|container| container.name == PROXY)
}

pub(super) fn started(pod: &Pod) -> Option<Timestamp> {
    let time = pod.status.as_ref()?.start_time.as_ref()?;
    Timestamp::from_second(time.0.as_second()).ok()
}

pub(super) async fn of_pod(cluster: &Cluster, pod: &Pod, since: Option<Timestamp>) -> (PodEvidence, AccessLog) {
    let (namespace, name) = (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
    let proxied = is_proxied(pod);
    let owner = owner(cluster, pod);
    let status = pod.status.clone().unwrap_or_default();
    let known = PodEvidence {
        started: started(pod),
        ready: status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True"),
        revision: revision(pod),
        proxied,
        ..PodEvidence::default()
    };
    if !proxied {
        return (PodEvidence { owner: owner.await, namespace, name, ..known }, AccessLog::default());
    }
    let (log, held, owner) = tokio::join!(cluster.logs(&namespace, &name, PROXY, false, LOG_LINES), held(cluster, &namespace, &name), owner);
    let mut unread = Vec::new();
    let log = log.unwrap_or_else(|fault| {
        unread.push(format!("log of {PROXY}: {fault}"));
        String::new()
    });
    let held = held.map_err(|why| unread.push(format!("root of {PROXY}: {why}"))).ok();
    let access = access_log::read(&log, since);
    let (roots, leaf) = held.map_or((None, None), |held| (Some(held.roots), held.leaf));
    let calls = access.calls.iter().cloned().collect();
    (PodEvidence { namespace, name, owner, log: agent_log::read(&log), roots, leaf, calls, unread, ..known }, access)
}

fn revision(pod: &Pod) -> String {
    let metadata = &pod.metadata;
    let of = |map: &Option<std::collections::BTreeMap<String, String>>| map.as_ref()?.get("istio.io/rev").cloned();
    of(&metadata.labels).or_else(|| of(&metadata.annotations)).unwrap_or_else(|| "default".to_owned())
}

/// What the pod's Envoy holds, from its own admin port; where no tunnel is allowed, from its agent.
async fn held(cluster: &Cluster, namespace: &str, pod: &str) -> Result<Held, String> {
    let late = |_| "no answer in time".to_owned();
    let read = |json: &str| root::of_config_dump(json).ok_or_else(|| "its configuration names no root".to_owned());
    let tunnel = timeout(ASKING, cluster.port_forward_get(namespace, pod, ADMIN, "localhost", SECRETS)).await;
    let why = match tunnel.map_err(late).and_then(|answer| answer.map_err(|fault| fault.message)).and_then(|answer| read(&answer.text())) {
        Ok(held) => return Ok(held),
        Err(why) => why,
    };
    let argv = ["pilot-agent", "request", "GET", SECRETS.trim_start_matches('/')];
    let asked = timeout(ASKING, cluster.exec(namespace, pod, PROXY, &argv)).await;
    let said = asked.map_err(late).and_then(|said| said.map_err(|fault| fault.message)).and_then(|json| read(&json));
    said.map_err(|other| format!("{why}; {other}"))
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
