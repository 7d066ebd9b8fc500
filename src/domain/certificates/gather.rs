//! Collects the evidence about certificate trust. Reads only; what cannot be read is noted, never fatal.

mod mesh;
mod pod;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::ObjectName;
use crate::clients::kube::Cluster;
use crate::domain::certificates::access_log::AccessLog;
use crate::domain::certificates::evidence::{Evidence, PodEvidence, RuleTls};
use crate::domain::certificates::root::{self, Root};
use pod::{is_proxied, is_running, of_pod};

/// The mesh's root namespace.
pub const ROOT_NAMESPACE: &str = "istio-system";
/// Where istiod publishes the root of the mesh in each namespace.
pub const CONFIG_MAP: &str = "istio-ca-root-cert";
const GATEWAY_SELECTOR: &str = "istio=ingressgateway";
/// More pods of one Service say nothing new.
const PODS: usize = 20;
/// How many pods are asked at once.
const AT_ONCE: usize = 8;
/// A refused certificate in the gateway's log from before that is an older story.
const LOOK_BACK: SignedDuration = SignedDuration::from_mins(10);
/// Asking a proxy or istiod is a bonus: a cluster that forbids it must not cost the time of the cure.
const ASKING: Duration = Duration::from_secs(4);

/// All that is known about the trust between the gateway and the pods of a Service.
pub async fn evidence(cluster: &Cluster, namespace: &str, service: &str) -> Evidence {
    let (evidence, rule) = tokio::join!(around(cluster, namespace, pods_of(cluster, namespace, service)), rule(cluster, namespace, service));
    Evidence { service: service.to_owned(), rule, ..evidence }
}

/// The same for a workload's pods, whichever Service leads to them.
pub async fn of_workload(cluster: &Cluster, workload: &ObjectName) -> Evidence {
    around(cluster, &workload.namespace, pods_of_workload(cluster, workload)).await
}

async fn around(cluster: &Cluster, namespace: &str, pods: impl Future<Output = Vec<Pod>>) -> Evidence {
    let namespaces = BTreeSet::from([namespace.to_owned()]);
    let gateways = async { cluster.list::<Pod>(ROOT_NAMESPACE, GATEWAY_SELECTOR).await.unwrap_or_default() };
    let (mesh, pods, gateways) = tokio::join!(mesh::look(cluster, &namespaces), pods, gateways);
    let running = |pods: Vec<Pod>| pods.into_iter().filter(is_running).take(PODS).collect::<Vec<_>>();
    let (pods, gateways) = (running(pods), running(gateways));
    let evidence = Evidence { namespace: namespace.to_owned(), ..mesh };
    with_pods(cluster, evidence, &pods, &gateways).await
}

/// All that is known about the trust of every pod with a proxy in these namespaces, and of every gateway.
///
/// # Errors
/// When pods cannot be listed at all.
/// Namespaces that may not be looked into are left out, each with the refusal; one at least must be readable.
pub async fn survey(cluster: &Cluster, namespaces: &BTreeSet<String>) -> Result<(Evidence, Vec<Fault>)> {
    let system = cluster.list::<Pod>(ROOT_NAMESPACE, "").await?;
    let listed = join_all(namespaces.iter().map(|namespace| cluster.list::<Pod>(namespace, ""))).await;
    let (mut pods, mut closed) = (Vec::new(), Vec::new());
    for found in listed {
        match found {
            Ok(found) => pods.extend(found.into_iter().filter(|pod| is_running(pod) && is_proxied(pod))),
            Err(refused) if refused.code == Code::Forbidden && closed.len() + 1 < namespaces.len() => closed.push(refused),
            Err(fault) => return Err(fault),
        }
    }
    let gateways: Vec<Pod> = system.into_iter().filter(|pod| is_running(pod) && is_proxied(pod)).collect();
    let mesh = mesh::look(cluster, namespaces).await;
    Ok((with_pods(cluster, mesh, &pods, &gateways).await, closed))
}

/// What the pods of these namespaces hold that are older than the current root. Newer ones have it, or a restart would not help them.
pub async fn survey_older(cluster: &Cluster, namespaces: &BTreeSet<String>) -> Evidence {
    let (mesh, made, listed) =
        tokio::join!(mesh::look(cluster, namespaces), made(cluster), join_all(namespaces.iter().map(|namespace| cluster.list::<Pod>(namespace, ""))));
    let all = listed.into_iter().flat_map(|found| found.unwrap_or_default());
    let older = |pod: &Pod| is_running(pod) && is_proxied(pod) && pod::started(pod).zip(made).is_some_and(|(started, made)| started < made);
    let pods: Vec<Pod> = all.filter(older).collect();
    with_pods(cluster, mesh, &pods, &[]).await
}

/// When the current root was made.
async fn made(cluster: &Cluster) -> Option<Timestamp> {
    match mesh::made(cluster).await {
        Some(made) => Some(made),
        None => roots_in(cluster, ROOT_NAMESPACE).await.unwrap_or_default().iter().map(|root| root.not_before).max(),
    }
}

async fn with_pods(cluster: &Cluster, evidence: Evidence, pods: &[Pod], gateways: &[Pod]) -> Evidence {
    let at = Timestamp::now();
    let since = at.checked_sub(LOOK_BACK).ok();
    let look = |pod: Pod| async move { of_pod(cluster, &pod, since).await };
    let all: Vec<Pod> = gateways.iter().chain(pods).cloned().collect();
    let mut found: Vec<(PodEvidence, AccessLog)> = futures::stream::iter(all).map(look).buffered(AT_ONCE).collect().await;
    let of_pods = found.split_off(gateways.len());
    let mut logged = AccessLog::default();
    for (_, log) in &found {
        logged.on |= log.on;
        logged.failures.extend(log.failures.iter().cloned());
    }
    let kept = |found: Vec<(PodEvidence, AccessLog)>| found.into_iter().map(|(pod, _)| pod).collect();
    Evidence { at: Some(at), pods: kept(of_pods), gateways: kept(found), access_log: logged, ..evidence }
}

/// The namespaces of the cluster whose pods get a sidecar; none when they may not be listed.
pub async fn injected_namespaces(cluster: &Cluster) -> BTreeSet<String> {
    let found = cluster.list::<Namespace>("", "").await.unwrap_or_default();
    let injected = |namespace: &Namespace| {
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        labels.get("istio-injection").is_some_and(|word| word == "enabled") || labels.contains_key("istio.io/rev")
    };
    found.into_iter().filter(injected).filter_map(|namespace| namespace.metadata.name).filter(|name| name != ROOT_NAMESPACE).collect()
}

/// Which of these namespaces are there.
pub async fn existing(cluster: &Cluster, namespaces: BTreeSet<String>) -> BTreeSet<String> {
    let asked = join_all(namespaces.into_iter().map(|name| async move {
        let gone = matches!(cluster.get::<Namespace>("", &name).await, Ok(None));
        (!gone).then_some(name)
    }));
    asked.await.into_iter().flatten().collect()
}

/// The roots in a namespace's ConfigMap: public, no Secret is read.
///
/// # Errors
/// When it cannot be read.
pub async fn roots_in(cluster: &Cluster, namespace: &str) -> Result<Vec<Root>> {
    let map = cluster.get::<ConfigMap>(namespace, CONFIG_MAP).await?;
    let pem = map.and_then(|map| map.data?.get("root-cert.pem").cloned()).unwrap_or_default();
    Ok(root::bundle(&pem).unwrap_or_default())
}

/// Is any running pod of these namespaces, or of the mesh's own, older than the current root? A cheap look before a survey.
pub async fn any_older(cluster: &Cluster, namespaces: &BTreeSet<String>) -> bool {
    let made = made(cluster).await;
    let everywhere = namespaces.iter().map(String::as_str).chain([ROOT_NAMESPACE]);
    let listed = join_all(everywhere.map(|namespace| cluster.list::<Pod>(namespace, ""))).await;
    let mut pods = listed.into_iter().flat_map(|found| found.unwrap_or_default()).filter(|pod| is_running(pod) && is_proxied(pod));
    pods.any(|pod| pod::started(&pod).zip(made).is_some_and(|(started, made)| started < made))
}

/// The controllers of a Service's pods.
pub fn owners(pods: &[PodEvidence]) -> BTreeMap<ObjectName, Vec<&PodEvidence>> {
    let mut owners: BTreeMap<ObjectName, Vec<&PodEvidence>> = BTreeMap::new();
    for pod in pods {
        if let Some(owner) = &pod.owner {
            owners.entry(owner.clone()).or_default().push(pod);
        }
    }
    owners
}

async fn pods_of(cluster: &Cluster, namespace: &str, service: &str) -> Vec<Pod> {
    let Ok(Some(found)) = cluster.get::<Service>(namespace, service).await else { return Vec::new() };
    let selector = found.spec.and_then(|s| s.selector).unwrap_or_default();
    if selector.is_empty() {
        return Vec::new();
    }
    selected(cluster, namespace, selector).await
}

async fn pods_of_workload(cluster: &Cluster, workload: &ObjectName) -> Vec<Pod> {
    let found = cluster.get_object("apps/v1", &workload.kind, &workload.namespace, &workload.name).await;
    let Ok(Some(object)) = found else { return Vec::new() };
    let labels = object.data.pointer("/spec/selector/matchLabels").and_then(Value::as_object).cloned().unwrap_or_default();
    let selector = labels.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect();
    selected(cluster, &workload.namespace, selector).await
}

async fn selected(cluster: &Cluster, namespace: &str, selector: BTreeMap<String, String>) -> Vec<Pod> {
    let words = selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    cluster.list::<Pod>(namespace, &words).await.unwrap_or_default()
}

/// The DestinationRule of a Service that says how TLS is spoken to it.
async fn rule(cluster: &Cluster, namespace: &str, service: &str) -> Option<RuleTls> {
    for place in [namespace, ROOT_NAMESPACE] {
        let rules = cluster.list_objects("networking.istio.io/v1", "DestinationRule", place, "").await.unwrap_or_default();
        let found = rules.iter().find_map(|rule| rule_tls(&rule.data, place, namespace, service).map(|tls| (rule, tls)));
        if let Some((rule, tls)) = found {
            return Some(RuleTls { name: format!("{place}/{}", rule.metadata.name.clone().unwrap_or_default()), ..tls });
        }
    }
    None
}

/// A rule's TLS settings, if it is for this Service and has any.
fn rule_tls(rule: &Value, rule_namespace: &str, namespace: &str, service: &str) -> Option<RuleTls> {
    let host = rule.pointer("/spec/host").and_then(Value::as_str)?;
    let full = format!("{service}.{namespace}.svc.cluster.local");
    let short = host == service && rule_namespace == namespace;
    let wild = host.strip_prefix('*').is_some_and(|rest| full.ends_with(rest));
    let forms = [full.clone(), format!("{service}.{namespace}.svc"), format!("{service}.{namespace}")];
    if !short && !wild && !forms.iter().any(|form| form == host) {
        return None;
    }
    let policy = rule.pointer("/spec/trafficPolicy")?;
    let of_ports = policy.get("portLevelSettings").and_then(Value::as_array).into_iter().flatten();
    let tls = of_ports.chain([policy]).find_map(|settings| settings.get("tls"))?;
    let text = |key: &str| tls.get(key).and_then(Value::as_str).unwrap_or_default();
    Some(RuleTls {
        name: String::new(),
        mode: if text("mode").is_empty() { "DISABLE".to_owned() } else { text("mode").to_owned() },
        names_identities: tls.get("subjectAltNames").and_then(Value::as_array).is_some_and(|names| !names.is_empty()),
        own_ca: !text("caCertificates").is_empty() || !text("credentialName").is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_found_by_every_form_of_its_host() {
        let mode = |host: &str, place: &str| {
            let rule = json!({"spec": {"host": host, "trafficPolicy": {"tls": {"mode": "SIMPLE", "caCertificates": "/etc/ca.pem"}}}});
            rule_tls(&rule, place, "prod", "app1").map(|tls| (tls.mode, tls.own_ca))
        };
        let found = Some(("SIMPLE".to_owned(), true));
        for host in ["app1", "app1.prod", "app1.prod.svc", "app1.prod.svc.cluster.local", "*.prod.svc.cluster.local", "*"] {
            assert_eq!(mode(host, "prod"), found, "{host}");
        }
        assert_eq!(mode("app1", "istio-system"), None, "a short name means the rule's own namespace");
        assert_eq!(mode("app2.prod.svc.cluster.local", "prod"), None);
        assert_eq!(rule_tls(&json!({"spec": {"host": "app1", "trafficPolicy": {"loadBalancer": {}}}}), "prod", "prod", "app1"), None);
    }
}
