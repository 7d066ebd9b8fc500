//! What istioctl does not wait for: available Deployments, webhooks with their caBundle, the gateway's node ports, root certificates.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};

pub const GATEWAY: &str = "istio-ingressgateway";
pub const SYSTEM: &str = "istio-system";

/// What a Deployment lacks to be available in its newest generation.
pub fn deployment_lacks(name: &str, found: Option<&Deployment>) -> Option<String> {
    let Some(deployment) = found else { return Some(format!("deployment {name} is not there yet")) };
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.replicas.unwrap_or(1);
    if status.observed_generation.unwrap_or(0) < deployment.metadata.generation.unwrap_or(0) {
        return Some(format!("deployment {name}: its controller has not seen the change yet"));
    }
    let (updated, available) = (status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    (updated < wanted || available < wanted).then(|| format!("deployment {name}: {available}/{wanted} available"))
}

/// The injector's webhooks work only once istiod has written its CA into them; until then pods cannot be created in injected namespaces.
pub fn injector_lacks(hooks: &[MutatingWebhookConfiguration]) -> Option<String> {
    let injectors = hooks.iter().flat_map(|config| config.webhooks.iter().flatten()).filter(|hook| hook.name.ends_with("sidecar-injector.istio.io"));
    let mut any = false;
    for hook in injectors {
        any = true;
        if hook.client_config.ca_bundle.as_ref().is_none_or(|bundle| bundle.0.is_empty()) {
            return Some(format!("webhook {} has no caBundle yet", hook.name));
        }
    }
    (!any).then(|| "the injector's webhook is not there yet".to_owned())
}

/// What the gateway's Service lacks for targets of type `instance`: its type, and node ports for traffic and health.
pub fn gateway_lacks(wanted_type: &str, found: Option<&Service>) -> Option<String> {
    let Some(spec) = found.and_then(|s| s.spec.as_ref()) else { return Some(format!("service {GATEWAY} is not there yet")) };
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    if kind != wanted_type {
        return Some(format!("service {GATEWAY} is of type {kind}, not {wanted_type}"));
    }
    if kind == "ClusterIP" {
        return None;
    }
    let port = |number: i32| spec.ports.iter().flatten().find(|p| p.port == number);
    [(15021, "status-port"), (80, "http2")].into_iter().find_map(|(number, name)| match port(number) {
        None => Some(format!("service {GATEWAY} has no port {number} ({name})")),
        Some(p) if p.node_port.unwrap_or(0) == 0 => Some(format!("port {number} ({name}) of service {GATEWAY} has no node port yet")),
        Some(_) => None,
    })
}

/// The gateway's node ports in words: `80→31234 443→31235 15021→30123`.
pub fn node_ports(service: &Service) -> String {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports.filter_map(|p| p.node_port.map(|node| format!("{}→{node}", p.port))).collect::<Vec<_>>().join(" ")
}

/// What a namespace lacks to trust the mesh: istiod writes its root there, and an old one is left over from another installation.
pub fn root_lacks(of_mesh: Option<&ConfigMap>, here: Option<&ConfigMap>) -> Option<String> {
    let root = |map: Option<&ConfigMap>| {
        map.and_then(|m| m.data.as_ref()).and_then(|d| d.get("root-cert.pem")).filter(|pem| !pem.trim().is_empty()).cloned()
    };
    match (root(of_mesh), root(here)) {
        (_, None) => Some("ConfigMap istio-ca-root-cert is not there yet".to_owned()),
        (Some(mesh), Some(here)) if mesh.trim() != here.trim() => Some("its root certificate is not the mesh's".to_owned()),
        _ => None,
    }
}

/// A webhook that must answer before any Service can be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHook {
    pub name: String,
    pub namespace: String,
    pub service: String,
}

/// The load balancer controller's webhook on Services, when it is in force: while its pods are down, no Service can be created.
pub fn service_hook(hooks: &[MutatingWebhookConfiguration]) -> Option<ServiceHook> {
    hooks.iter().flat_map(|config| config.webhooks.iter().flatten()).find_map(|hook| {
        let fails = hook.failure_policy.as_deref().unwrap_or("Fail") == "Fail";
        let on_services = hook.rules.iter().flatten().any(|r| r.resources.iter().flatten().any(|resource| resource == "services"));
        let service = hook.client_config.service.as_ref()?;
        let ours = hook.name == "mservice.elbv2.k8s.aws" && fails && on_services;
        ours.then(|| ServiceHook { name: hook.name.clone(), namespace: service.namespace.clone(), service: service.name.clone() })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn a_deployment_is_available_in_its_newest_generation() {
        let deployment = |generation: i64, observed: i64, updated: i32, available: i32| -> Deployment {
            of(json!({
                "metadata": {"name": "istiod", "generation": generation},
                "spec": {"replicas": 1, "selector": {}, "template": {}},
                "status": {"observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available},
            }))
        };
        assert_eq!(deployment_lacks("istiod", Some(&deployment(2, 2, 1, 1))), None);
        for lacking in [None, Some(deployment(2, 1, 1, 1)), Some(deployment(2, 2, 0, 1)), Some(deployment(2, 2, 1, 0))] {
            assert!(deployment_lacks("istiod", lacking.as_ref()).is_some(), "{lacking:?}");
        }
    }

    #[test]
    fn the_injector_needs_its_ca() {
        let config = |bundle: &str| -> MutatingWebhookConfiguration {
            of(json!({"metadata": {"name": "istio-sidecar-injector"}, "webhooks": [{
                "name": "namespace.sidecar-injector.istio.io", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"caBundle": bundle, "service": {"name": "istiod", "namespace": "istio-system"}},
            }]}))
        };
        assert_eq!(injector_lacks(&[config("Y2E=")]), None);
        assert!(injector_lacks(&[config("")]).is_some());
        assert!(injector_lacks(&[]).is_some());
    }

    #[test]
    fn the_gateway_needs_node_ports() {
        let service = |kind: &str, ports: Value| -> Service { of(json!({"metadata": {"name": GATEWAY}, "spec": {"type": kind, "ports": ports}})) };
        let good = json!([{"name": "status-port", "port": 15021, "nodePort": 30021}, {"name": "http2", "port": 80, "nodePort": 30080}]);
        assert_eq!(gateway_lacks("NodePort", Some(&service("NodePort", good.clone()))), None);
        assert_eq!(node_ports(&service("NodePort", good.clone())), "15021→30021 80→30080");
        assert!(gateway_lacks("NodePort", Some(&service("LoadBalancer", good.clone()))).is_some());
        assert!(gateway_lacks("NodePort", Some(&service("NodePort", json!([{"port": 15021, "nodePort": 30021}])))).is_some());
        assert!(gateway_lacks("NodePort", Some(&service("NodePort", json!([{"port": 15021}, {"port": 80}])))).is_some());
        assert!(gateway_lacks("NodePort", None).is_some());
    }

    #[test]
    fn a_root_left_over_from_another_installation_is_not_the_meshs() {
        let map = |pem: &str| -> ConfigMap { of(json!({"data": {"root-cert.pem": pem}})) };
        assert_eq!(root_lacks(Some(&map("a\n")), Some(&map("a"))), None);
        assert_eq!(root_lacks(None, Some(&map("a"))), None);
        assert!(root_lacks(Some(&map("a")), Some(&map("b"))).is_some());
        assert!(root_lacks(Some(&map("a")), None).is_some());
        assert!(root_lacks(Some(&map("a")), Some(&map(" "))).is_some());
    }

    #[test]
    fn the_load_balancer_controllers_webhook_on_services() {
        let config = |name: &str, policy: &str| -> MutatingWebhookConfiguration {
            of(json!({"metadata": {"name": "aws-load-balancer-webhook"}, "webhooks": [{
                "name": name, "failurePolicy": policy, "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}],
                "clientConfig": {"service": {"name": "aws-load-balancer-webhook-service", "namespace": "kube-system"}},
            }]}))
        };
        let hook = service_hook(&[config("mservice.elbv2.k8s.aws", "Fail")]).expect("in force");
        assert_eq!((hook.namespace.as_str(), hook.service.as_str()), ("kube-system", "aws-load-balancer-webhook-service"));
        assert_eq!(service_hook(&[config("mservice.elbv2.k8s.aws", "Ignore")]), None);
        assert_eq!(service_hook(&[config("other.example", "Fail")]), None);
    }
}
