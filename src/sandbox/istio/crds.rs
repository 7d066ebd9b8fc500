//! The custom resource definitions of Istio and of the load balancer controller, with open schemas.

use serde_json::{Value, json};

/// Group, plural, kind, short names, versions (the stored one first), component label wanted.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str);

const ISTIO: &[Row] = &[
    ("extensions.istio.io", "trafficextensions", "TrafficExtension", "", "v1alpha1"),
    ("extensions.istio.io", "wasmplugins", "WasmPlugin", "", "v1alpha1"),
    ("networking.istio.io", "destinationrules", "DestinationRule", "dr", "v1 v1beta1 v1alpha3"),
    ("networking.istio.io", "envoyfilters", "EnvoyFilter", "", "v1alpha3"),
    ("networking.istio.io", "gateways", "Gateway", "gw", "v1 v1beta1 v1alpha3"),
    ("networking.istio.io", "proxyconfigs", "ProxyConfig", "", "v1beta1"),
    ("networking.istio.io", "serviceentries", "ServiceEntry", "se", "v1 v1beta1 v1alpha3"),
    ("networking.istio.io", "sidecars", "Sidecar", "", "v1 v1beta1 v1alpha3"),
    ("networking.istio.io", "virtualservices", "VirtualService", "vs", "v1 v1beta1 v1alpha3"),
    ("networking.istio.io", "workloadentries", "WorkloadEntry", "we", "v1 v1beta1 v1alpha3"),
    ("networking.istio.io", "workloadgroups", "WorkloadGroup", "wg", "v1 v1beta1 v1alpha3"),
    ("security.istio.io", "authorizationpolicies", "AuthorizationPolicy", "ap", "v1 v1beta1"),
    ("security.istio.io", "peerauthentications", "PeerAuthentication", "pa", "v1 v1beta1"),
    ("security.istio.io", "requestauthentications", "RequestAuthentication", "ra", "v1 v1beta1"),
    ("telemetry.istio.io", "telemetries", "Telemetry", "telemetry", "v1 v1alpha1"),
];

/// Istio's definitions, without labels.
pub(super) fn istio() -> Vec<Value> {
    ISTIO.iter().map(|(group, plural, kind, short, versions)| definition(group, plural, kind, short, versions, true)).collect()
}

/// One definition with an open schema.
pub(crate) fn definition(group: &str, plural: &str, kind: &str, short: &str, versions: &str, namespaced: bool) -> Value {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema =
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}, "x-kubernetes-preserve-unknown-fields": true}});
    let versions: Vec<Value> = versions
        .split(' ')
        .enumerate()
        .map(|(index, version)| json!({"name": version, "served": true, "storage": index == 0, "schema": schema, "subresources": {"status": {}}}))
        .collect();
    let mut names = json!({"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()});
    if !short.is_empty() {
        names["shortNames"] = json!([short]);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "names": names, "scope": if namespaced { "Namespaced" } else { "Cluster" }, "versions": versions},
    })
}
