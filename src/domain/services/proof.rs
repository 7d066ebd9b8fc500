//! What is proven after a rollout: the image, the sidecars, the Service's endpoints, and an answer from inside.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::text;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::Cluster;
use crate::domain::services::endpoints::Seen;
use crate::domain::services::rollout::seen;
use crate::domain::services::sidecar::{self, SeenPod, SeenWorkload};
use crate::domain::services::watch::Target;

/// EndpointSlices follow the pods within moments.
const ENDPOINTS_WITHIN: Duration = Duration::from_secs(30);

/// What the sidecars of these workloads' pods are judged by.
pub async fn sidecars(cluster: &Cluster, workloads: &[(&Target, &[seen::Pod])], in_file: bool) -> Result<sidecar::Seen> {
    let mut found = sidecar::Seen { in_file, revisions: revisions(cluster).await, workloads: Vec::new() };
    for (target, pods) in workloads {
        let namespace: Option<Namespace> = cluster.get("", &target.namespace).await?;
        let namespace_labels = sidecar::decisive(namespace.and_then(|n| n.metadata.labels));
        let mut workload = SeenWorkload { title: target.title(), namespace: target.namespace.clone(), namespace_labels, pods: Vec::new() };
        for pod in *pods {
            let live: Option<Pod> = cluster.get(&target.namespace, &pod.name).await?;
            workload.pods.extend(live.map(|live| SeenPod {
                name: pod.name.clone(),
                labels: sidecar::decisive(live.metadata.labels),
                annotations: sidecar::decisive(live.metadata.annotations),
                host_network: live.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false),
                presence: sidecar::presence(pod),
            }));
        }
        found.workloads.push(workload);
    }
    Ok(found)
}

/// The fault of pods that lack a sidecar which is due.
pub fn without_sidecar(target: &Target, pods: &[String], why: &str) -> Fault {
    let message = format!("{}: {} without a sidecar: {}", target.title(), text::count(pods.len(), "pod"), pods.join(", "));
    Fault::new(Code::SidecarMissing, message)
        .at(target.place.as_ref())
        .evidence("why a sidecar is due", why)
        .next("pods get their sidecar when they are created: see whether the injector's webhook answers, then restart the workload")
        .next(format!("`kubectl -n {} rollout restart {}/{}`", target.namespace, target.kind.word(), target.name))
}

/// Revisions and tags that have an injector; `None` where it may not be read.
async fn revisions(cluster: &Cluster) -> Option<Vec<String>> {
    let hooks: Vec<MutatingWebhookConfiguration> = cluster.list("", "").await.ok()?;
    let injectors = hooks.iter().filter(|c| c.webhooks.iter().flatten().any(|w| w.name.ends_with("sidecar-injector.istio.io")));
    let mut found: Vec<String> = injectors
        .flat_map(|c| {
            let labels = c.metadata.labels.clone().unwrap_or_default();
            ["istio.io/rev", "istio.io/tag"].into_iter().filter_map(move |key| labels.get(key).cloned())
        })
        .collect();
    found.sort();
    found.dedup();
    Some(found)
}

/// The Services of the namespace, among those named, that select these pods' labels.
pub async fn services(cluster: &Cluster, namespace: &str, names: &[String], template_labels: &BTreeMap<String, String>) -> Result<Vec<Service>> {
    let mut found = Vec::new();
    for name in names {
        let service: Option<Service> = cluster.get(namespace, name).await?;
        let selects = |s: &Service| {
            let selector = s.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            selector.is_some_and(|sel| !sel.is_empty() && sel.iter().all(|(key, value)| template_labels.get(key) == Some(value)))
        };
        found.extend(service.filter(selects));
    }
    Ok(found)
}

/// Waits until each port of the Service has each of these pods as a ready endpoint. `hear` gets what that was judged by.
///
/// # Errors
/// `service_no_endpoints`, with what the EndpointSlices say.
pub async fn endpoints(cluster: &Cluster, service: &Service, pods: &[&str], tell: impl FnMut(&str), hear: impl FnOnce(&Seen)) -> Result<String> {
    let (namespace, name) = (service.metadata.namespace.clone().unwrap_or_default(), service.metadata.name.clone().unwrap_or_default());
    let nudge = cluster.watch::<EndpointSlice>(&namespace, &format!("kubernetes.io/service-name={name}"));
    let last = Mutex::new(Seen::of(service, &[], pods));
    let look = || async {
        let slices: Vec<EndpointSlice> = cluster.list(&namespace, &format!("kubernetes.io/service-name={name}")).await?;
        let seen = Seen::of(service, &slices, pods);
        let lack = seen.lack();
        *lock(&last) = seen;
        Ok(lack.map_or(Poll::Ready(()), Poll::NotYet))
    };
    let ended = wait::until(Patience::new(ENDPOINTS_WITHIN, Duration::from_secs(5)), tell, || nudge.next(), look).await;
    let seen = last.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    hear(&seen);
    ended.map_err(|error| {
        error.into_fault(|timed_out| {
            Fault::new(Code::ServiceNoEndpoints, format!("service {name} in {namespace}: {}", timed_out.last_reason))
                .next("check the Service's selector and `targetPort` against the pods' labels and container ports")
                .next(format!("`kubectl -n {namespace} describe endpointslices -l kubernetes.io/service-name={name}`"))
        })
    })?;
    Ok(seen.words())
}

/// The port inside the pod behind a Service's port that speaks HTTP, by what its name or `appProtocol` says.
pub fn http_port(service: &Service, pod: &Pod) -> Option<(i32, u16)> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let speaks_http = |p: &&k8s_openapi::api::core::v1::ServicePort| {
        let said = p.app_protocol.as_deref().or(p.name.as_deref()).unwrap_or_default();
        let said = said.strip_prefix("kubernetes.io/").unwrap_or(said);
        said == "http" || said.starts_with("http-")
    };
    let port = ports.iter().find(speaks_http)?;
    let inside = match port.target_port.as_ref() {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let all = spec.init_containers.iter().flatten().chain(&spec.containers).flat_map(|c| c.ports.iter().flatten());
            all.filter(|p| p.name.as_deref() == Some(name)).map(|p| p.container_port).next()?
        }
    };
    Some((port.port, u16::try_from(inside).ok()?))
}

/// Asks the service in one of its pods. `Err`: why it could not be asked; that is no verdict on the service.
pub async fn answer(cluster: &Cluster, service: &Service, pod: &str) -> std::result::Result<String, String> {
    let (namespace, name) = (service.metadata.namespace.clone().unwrap_or_default(), service.metadata.name.clone().unwrap_or_default());
    let live: Option<Pod> = cluster.get(&namespace, pod).await.map_err(|fault| fault.message)?;
    let live = live.ok_or_else(|| format!("pod {pod} is gone"))?;
    let (port, inside) = http_port(service, &live).ok_or("no port of the Service is named http: the protocol is not known")?;
    let host = format!("{name}.{namespace}.svc.cluster.local:{port}");
    match cluster.port_forward_get(&namespace, pod, inside, &host, "/").await {
        Ok(answer) => Ok(format!("HTTP {} from port {inside} of {pod}", answer.status)),
        Err(fault) if fault.code == Code::Forbidden => Err("port-forward is not allowed for this identity".to_owned()),
        // It may listen on the pod's own address alone, or answer only to its own hosts.
        Err(fault) => Err(fault.message),
    }
}

/// Labels of a workload's pods as its template says them.
pub async fn template_labels(cluster: &Cluster, target: &Target) -> Result<BTreeMap<String, String>> {
    let (api_version, pointer) = match target.kind {
        seen::Kind::Pod => ("v1", "/metadata/labels"),
        seen::Kind::Job => ("batch/v1", "/spec/template/metadata/labels"),
        _ => ("apps/v1", "/spec/template/metadata/labels"),
    };
    let object = cluster.get_object(api_version, &format!("{:?}", target.kind), &target.namespace, &target.name).await?;
    let value = object.and_then(|o| serde_json::to_value(&o).ok()).unwrap_or_default();
    let labels = value.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
    Ok(labels.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn the_http_port_inside_the_pod() {
        let pod: Pod = of(json!({"spec": {"containers": [{"name": "app", "ports": [{"name": "web", "containerPort": 8080}]}]}}));
        let service = |port: Value| -> Service { of(json!({"spec": {"ports": [port]}})) };
        for (port, expected) in [
            (json!({"name": "http", "port": 80, "targetPort": "web"}), Some((80, 8080))),
            (json!({"name": "http-api", "port": 80, "targetPort": 9000}), Some((80, 9000))),
            (json!({"name": "web", "appProtocol": "http", "port": 80}), Some((80, 80))),
            (json!({"name": "tcp", "port": 5432}), None),
            (json!({"name": "https", "port": 443}), None),
            (json!({"port": 80}), None),
            (json!({"name": "http", "port": 80, "targetPort": "other"}), None),
        ] {
            assert_eq!(http_port(&service(port.clone()), &pod), expected, "{port}");
        }
    }
}
