//! What `istioctl install` applies: base, istiod and the ingress gateway, with the labels the real one sets.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::SYSTEM;

/// One component's objects, in the order they are applied.
pub(crate) struct Component {
    /// As the progress lines name it.
    pub title: &'static str,
    pub objects: Vec<Value>,
    /// The Deployment to wait for.
    pub deployment: Option<&'static str>,
}

/// The three components of the default profile. `set` holds the `--set` values.
pub(crate) fn installation(version: &str, set: &BTreeMap<String, String>) -> Vec<Component> {
    let components = [
        ("Istio core", "Base", base(), None),
        ("Istiod", "Pilot", pilot(version), Some("istiod")),
        ("Ingress gateways", "IngressGateways", gateway(version, set), Some("istio-ingressgateway")),
    ];
    components
        .into_iter()
        .map(|(title, component, mut objects, deployment)| {
            for object in &mut objects {
                label(object, component, version);
            }
            Component { title, objects, deployment }
        })
        .collect()
}

fn label(object: &mut Value, component: &str, version: &str) {
    let meta = &mut object["metadata"];
    if !meta["labels"].is_object() {
        meta["labels"] = json!({});
    }
    let labels = &mut meta["labels"];
    for (key, value) in [
        ("app.kubernetes.io/managed-by", "Helm"),
        ("app.kubernetes.io/part-of", "istio"),
        ("app.kubernetes.io/version", version),
        ("install.operator.istio.io/owning-resource", "unknown"),
        ("install.operator.istio.io/owning-resource-namespace", SYSTEM),
        ("operator.istio.io/component", component),
        ("operator.istio.io/managed", "Reconcile"),
        ("operator.istio.io/version", version),
        ("release", "istio"),
    ] {
        labels[key] = value.into();
    }
}

fn named(api: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": SYSTEM, "labels": {"istio.io/rev": "default"}}});
    merge(&mut object, rest);
    object
}

fn cluster_wide(api: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut object = named(api, kind, name, rest);
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.shift_remove("namespace");
    }
    object
}

/// Merges objects; anything else is replaced.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value)),
        (into, from) => *into = from,
    }
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn base() -> Vec<Value> {
    let mut objects = super::crds::istio();
    objects.push(named("v1", "ServiceAccount", "istio-reader-service-account", json!({"metadata": {"labels": {"app": "istio-reader"}}})));
    objects.push(cluster_wide(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "istiod-default-validator",
        validating("validation.istio.io"),
    ));
    objects
}

fn role(kind: &str, name: &str, group: &str) -> Value {
    cluster_or_not(kind, name, json!({"rules": [{"apiGroups": [group], "resources": ["*"], "verbs": ["get", "watch", "list"]}]}))
}

fn cluster_or_not(kind: &str, name: &str, rest: Value) -> Value {
    if kind.starts_with("Cluster") { cluster_wide(RBAC, kind, name, rest) } else { named(RBAC, kind, name, rest) }
}

fn binding(kind: &str, name: &str, role: &str, account: &str) -> Value {
    let role_kind = kind.trim_end_matches("Binding");
    let content = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}],
    });
    cluster_or_not(kind, name, content)
}

fn validating(hook: &str) -> Value {
    json!({"metadata": {"labels": {"app": "istiod", "istio": "istiod"}}, "webhooks": [{
        "name": hook, "failurePolicy": "Ignore", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "istiod", "namespace": SYSTEM, "path": "/validate", "port": 443}},
        "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["security.istio.io", "networking.istio.io", "telemetry.istio.io", "extensions.istio.io"], "apiVersions": ["*"], "resources": ["*"]}],
    }]})
}

fn injecting(prefix: &str) -> Value {
    let exists = |key: &str, op: &str, values: &[&str]| {
        if values.is_empty() { json!({"key": key, "operator": op}) } else { json!({"key": key, "operator": op, "values": values}) }
    };
    let hook = |name: &str, namespace: Vec<Value>, object: Vec<Value>| {
        json!({
            "name": format!("{name}.sidecar-injector.istio.io"), "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"], "reinvocationPolicy": "Never",
            "clientConfig": {"service": {"name": "istiod", "namespace": SYSTEM, "path": "/inject", "port": 443}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "namespaceSelector": {"matchExpressions": namespace}, "objectSelector": {"matchExpressions": object},
        })
    };
    let not_out = || vec![exists("sidecar.istio.io/inject", "NotIn", &["false"])];
    json!({"metadata": {"labels": {"app": "sidecar-injector", "istio.io/tag": prefix}}, "webhooks": [
        hook("rev.namespace", vec![exists("istio.io/rev", "In", &["default"]), exists("istio-injection", "DoesNotExist", &[])], not_out()),
        hook("rev.object", vec![exists("istio.io/rev", "DoesNotExist", &[]), exists("istio-injection", "DoesNotExist", &[])], vec![exists("sidecar.istio.io/inject", "NotIn", &["false"]), exists("istio.io/rev", "In", &["default"])]),
        hook("namespace", vec![exists("istio-injection", "In", &["enabled"])], not_out()),
        hook("object", vec![exists("istio-injection", "DoesNotExist", &[]), exists("istio.io/rev", "DoesNotExist", &[])], vec![exists("sidecar.istio.io/inject", "In", &["true"]), exists("istio.io/rev", "DoesNotExist", &[])]),
    ]})
}

fn deployment(name: &str, labels: Value, template_labels: Value, containers: Value, account: &str) -> Value {
    named(
        "apps/v1",
        "Deployment",
        name,
        json!({"metadata": {"labels": labels}, "spec": {
            "replicas": 1, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "25%"}},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": template_labels}, "spec": {"serviceAccountName": account, "containers": containers}},
        }}),
    )
}

fn pilot(version: &str) -> Vec<Value> {
    let labels = json!({"app": "istiod", "istio": "pilot"});
    let pod_labels = json!({"app": "istiod", "istio": "pilot", "istio.io/rev": "default", "operator.istio.io/component": "Pilot", "sidecar.istio.io/inject": "false"});
    let container = json!([{
        "name": "discovery", "image": format!("docker.io/istio/pilot:{version}"), "args": ["discovery", "--monitoringAddr=:15014", "--domain", "cluster.local"],
        "ports": [{"containerPort": 8080, "name": "http-debug"}, {"containerPort": 15010, "name": "grpc-xds"}, {"containerPort": 15012, "name": "tls-xds"}, {"containerPort": 15017, "name": "https-webhooks"}, {"containerPort": 15014, "name": "http-monitoring"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "initialDelaySeconds": 1, "periodSeconds": 3, "timeoutSeconds": 5},
    }]);
    let mesh = "accessLogFile: \"\"\ndefaultConfig:\n  discoveryAddress: istiod.istio-system.svc:15012\ndefaultProviders:\n  metrics:\n  - prometheus\nenablePrometheusMerge: true\nrootNamespace: istio-system\ntrustDomain: cluster.local\n";
    let ports = json!([
        {"name": "grpc-xds", "port": 15010, "protocol": "TCP"}, {"name": "https-dns", "port": 15012, "protocol": "TCP"},
        {"name": "https-webhook", "port": 443, "targetPort": 15017, "protocol": "TCP"}, {"name": "http-monitoring", "port": 15014, "protocol": "TCP"},
    ]);
    let scale = |name: &str| {
        named(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            name,
            json!({"spec": {"minReplicas": 1, "maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}}}),
        )
    };
    vec![
        scale("istiod"),
        named("v1", "ServiceAccount", "istiod", json!({"metadata": {"labels": {"app": "istiod"}}})),
        role("ClusterRole", "istiod-clusterrole-istio-system", ""),
        role("ClusterRole", "istiod-gateway-controller-istio-system", "apps"),
        role("ClusterRole", "istio-reader-clusterrole-istio-system", ""),
        binding("ClusterRoleBinding", "istiod-clusterrole-istio-system", "istiod-clusterrole-istio-system", "istiod"),
        binding("ClusterRoleBinding", "istiod-gateway-controller-istio-system", "istiod-gateway-controller-istio-system", "istiod"),
        binding(
            "ClusterRoleBinding",
            "istio-reader-clusterrole-istio-system",
            "istio-reader-clusterrole-istio-system",
            "istio-reader-service-account",
        ),
        role("Role", "istiod", "networking.istio.io"),
        binding("RoleBinding", "istiod", "istiod", "istiod"),
        named("v1", "ConfigMap", "values", json!({"data": {"original-values": "{}", "merged-values": "{}"}})),
        named("v1", "ConfigMap", "istio", json!({"data": {"mesh": mesh, "meshNetworks": "networks: {}"}})),
        named("v1", "ConfigMap", "istio-sidecar-injector", json!({"data": {"config": "", "values": "{}"}})),
        cluster_wide("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "istio-sidecar-injector", injecting("default")),
        cluster_wide(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            "istio-validator-istio-system",
            validating("rev.validation.istio.io"),
        ),
        named(
            "v1",
            "Service",
            "istiod",
            json!({"metadata": {"labels": {"app": "istiod", "istio": "pilot"}}, "spec": {"selector": {"app": "istiod", "istio": "pilot"}, "ports": ports}}),
        ),
        deployment("istiod", labels, pod_labels, container, "istiod"),
    ]
}

fn gateway(version: &str, set: &BTreeMap<String, String>) -> Vec<Value> {
    let kind = set.get("values.gateways.istio-ingressgateway.type").map_or("LoadBalancer", String::as_str);
    let name = "istio-ingressgateway";
    let labels = json!({"app": name, "istio": "ingressgateway"});
    let pod_labels = json!({"app": name, "istio": "ingressgateway", "istio.io/rev": "default", "service.istio.io/canonical-name": name, "service.istio.io/canonical-revision": "latest", "sidecar.istio.io/inject": "false"});
    let container = json!([{
        "name": "istio-proxy", "image": format!("docker.io/istio/proxyv2:{version}"), "args": ["proxy", "router", "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--proxyLogLevel=warning"],
        "ports": [{"containerPort": 15021, "protocol": "TCP"}, {"containerPort": 8080, "protocol": "TCP"}, {"containerPort": 8443, "protocol": "TCP"}, {"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}, "initialDelaySeconds": 1, "periodSeconds": 2, "timeoutSeconds": 1, "failureThreshold": 30},
        "volumeMounts": [{"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"}],
    }]);
    let ports = json!([
        {"name": "status-port", "port": 15021, "targetPort": 15021, "protocol": "TCP"}, {"name": "http2", "port": 80, "targetPort": 8080, "protocol": "TCP"}, {"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"},
    ]);
    let mut deployment = deployment(name, labels.clone(), pod_labels, container, "istio-ingressgateway-service-account");
    deployment["spec"]["template"]["spec"]["volumes"] = json!([{"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}}]);
    vec![
        named("v1", "ServiceAccount", "istio-ingressgateway-service-account", json!({"metadata": {"labels": {"app": name}}})),
        role("Role", "istio-ingressgateway-sds", ""),
        binding("RoleBinding", "istio-ingressgateway-sds", "istio-ingressgateway-sds", "istio-ingressgateway-service-account"),
        named(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            name,
            json!({"spec": {"minReplicas": 1, "maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}}}),
        ),
        named(
            "v1",
            "Service",
            name,
            json!({"metadata": {"labels": labels}, "spec": {"type": kind, "selector": {"app": name, "istio": "ingressgateway"}, "ports": ports}}),
        ),
        deployment,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_of_the_type_that_was_set() {
        let find = |set: &BTreeMap<String, String>| {
            let all = installation("1.31.0", set);
            let objects = all.iter().flat_map(|component| &component.objects);
            objects.filter(|o| o["kind"] == "Service" && o["metadata"]["name"] == "istio-ingressgateway").map(|o| o["spec"]["type"].clone()).next()
        };
        assert_eq!(find(&BTreeMap::new()), Some(json!("LoadBalancer")));
        let set = BTreeMap::from([("values.gateways.istio-ingressgateway.type".to_owned(), "NodePort".to_owned())]);
        assert_eq!(find(&set), Some(json!("NodePort")));
    }

    #[test]
    fn every_object_carries_its_component() {
        for component in installation("1.31.0", &BTreeMap::new()) {
            assert!(component.objects.iter().all(|o| o["metadata"]["labels"]["operator.istio.io/component"].is_string()), "{}", component.title);
        }
    }
}
