//! What is proven after a rollout: the image, the sidecars, the Service's endpoints, and an answer from inside.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::text;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::Cluster;
use crate::domain::services::rollout::seen;
use crate::domain::services::sidecar::{self, Due, Facts, Presence};
use crate::domain::services::watch::Target;

/// EndpointSlices follow the pods within moments.
const ENDPOINTS_WITHIN: Duration = Duration::from_secs(30);

/// What the sidecars of a workload's pods prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sidecars {
    Proven(String),
    NotDue(String),
}

/// Is there a ready sidecar in each pod where injection is due?
///
/// # Errors
/// `sidecar_missing`, naming the pods and the label that asks for it.
pub async fn sidecars(cluster: &Cluster, target: &Target, pods: &[&seen::Pod]) -> Result<Sidecars> {
    let namespace: Option<Namespace> = cluster.get("", &target.namespace).await?;
    let namespace_labels = namespace.and_then(|n| n.metadata.labels).unwrap_or_default();
    let revisions = revisions(cluster).await;
    let (mut ready, mut native, mut reason) = (0, 0, None);
    let mut missing = Vec::new();
    for pod in pods {
        let live: Option<Pod> = cluster.get(&target.namespace, &pod.name).await?;
        let Some(live) = live else { continue };
        let (labels, annotations) = (live.metadata.labels.unwrap_or_default(), live.metadata.annotations.unwrap_or_default());
        let facts = Facts {
            namespace: &target.namespace,
            namespace_labels: &namespace_labels,
            pod_labels: &labels,
            pod_annotations: &annotations,
            host_network: live.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false),
            revisions: revisions.as_deref(),
        };
        match (sidecar::due(&facts), sidecar::presence(pod)) {
            (Due::Yes(_) | Due::NoInjector(_), Presence::Ready { native: is_native }) => {
                ready += 1;
                native += usize::from(is_native);
            }
            // Ready pods have ready containers; a pod that has come to its end had one.
            (Due::Yes(_) | Due::NoInjector(_), Presence::NotReady) => ready += 1,
            (Due::Yes(why) | Due::NoInjector(why), Presence::Missing) => missing.push((pod.name.clone(), why)),
            (Due::No(why), _) => reason = Some(why),
        }
    }
    if let Some((_, why)) = missing.first() {
        let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!("{}: {} without a sidecar: {}", target.title(), text::count(missing.len(), "pod"), names.join(", "));
        return Err(Fault::new(Code::SidecarMissing, message)
            .at(target.place.as_ref())
            .evidence("why a sidecar is due", why.clone())
            .next("pods get their sidecar when they are created: see whether the injector's webhook answers, then restart the workload")
            .next(format!("`kubectl -n {} rollout restart {}/{}`", target.namespace, target.kind.word(), target.name)));
    }
    Ok(match reason {
        Some(reason) if ready == 0 => Sidecars::NotDue(reason),
        _ => {
            let native = if native > 0 { " (native)" } else { "" };
            Sidecars::Proven(format!("{} with a ready sidecar{native}", text::count(ready, "pod")))
        }
    })
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

/// Waits until each port of the Service has one of these pods as a ready endpoint.
///
/// # Errors
/// `service_no_endpoints`, with what the EndpointSlices say.
pub async fn endpoints(cluster: &Cluster, service: &Service, pods: &[&str], tell: impl FnMut(&str)) -> Result<String> {
    let (namespace, name) = (service.metadata.namespace.clone().unwrap_or_default(), service.metadata.name.clone().unwrap_or_default());
    let nudge = cluster.watch::<EndpointSlice>(&namespace, &format!("kubernetes.io/service-name={name}"));
    let look = || async {
        let slices: Vec<EndpointSlice> = cluster.list(&namespace, &format!("kubernetes.io/service-name={name}")).await?;
        Ok(match endpoints_lack(service, &slices, pods) {
            None => Poll::Ready(()),
            Some(lack) => Poll::NotYet(lack),
        })
    };
    wait::until(Patience::new(ENDPOINTS_WITHIN, Duration::from_secs(5)), tell, || nudge.next(), look).await.map_err(|error| {
        error.into_fault(|timed_out| {
            Fault::new(Code::ServiceNoEndpoints, format!("service {name} in {namespace}: {}", timed_out.last_reason))
                .next("check the Service's selector and `targetPort` against the pods' labels and container ports")
                .next(format!("`kubectl -n {namespace} describe endpointslices -l kubernetes.io/service-name={name}`"))
        })
    })?;
    let ports: Vec<String> = service.spec.iter().flat_map(|s| s.ports.iter().flatten()).map(|p| p.port.to_string()).collect();
    Ok(format!("{name}:{} has {}", ports.join(","), text::count(pods.len(), "pod")))
}

/// What the slices lack: every port needs every pod as a ready endpoint.
fn endpoints_lack(service: &Service, slices: &[EndpointSlice], pods: &[&str]) -> Option<String> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref()).map(Vec::as_slice).unwrap_or_default();
    if ports.is_empty() {
        return Some("it has no ports".to_owned());
    }
    for port in ports {
        let name = port.name.clone().unwrap_or_default();
        let with_port = |s: &&EndpointSlice| s.ports.iter().flatten().any(|p| p.name.clone().unwrap_or_default() == name && p.port.is_some());
        let ready: Vec<&str> = slices
            .iter()
            .filter(with_port)
            .flat_map(|s| s.endpoints.iter().flatten())
            .filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))
            .filter_map(|e| e.target_ref.as_ref()?.name.as_deref())
            .collect();
        if let Some(missing) = pods.iter().find(|pod| !ready.contains(*pod)) {
            let of = if name.is_empty() { port.port.to_string() } else { format!("{} ({name})", port.port) };
            return Some(format!(
                "{} of {} behind port {of}, {missing} is missing",
                pods.iter().filter(|p| ready.contains(*p)).count(),
                text::count(pods.len(), "pod")
            ));
        }
    }
    None
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
    fn every_port_needs_every_pod() {
        let service: Service = of(json!({"metadata": {"name": "app1"}, "spec": {"ports": [{"name": "http", "port": 8000}]}}));
        let slice = |port: &str, endpoints: Value| -> EndpointSlice {
            of(json!({"metadata": {}, "addressType": "IPv4", "ports": [{"name": port, "port": 8000}], "endpoints": endpoints}))
        };
        let endpoint =
            |pod: &str, ready: bool| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}});
        let both = slice("http", json!([endpoint("a", true), endpoint("b", true)]));
        assert_eq!(endpoints_lack(&service, std::slice::from_ref(&both), &["a", "b"]), None);
        for slices in [
            vec![],
            vec![slice("http", json!([endpoint("a", true)]))],
            vec![slice("http", json!([endpoint("a", true), endpoint("b", false)]))],
            vec![slice("grpc", json!([endpoint("a", true), endpoint("b", true)]))],
        ] {
            assert!(endpoints_lack(&service, &slices, &["a", "b"]).is_some());
        }
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
