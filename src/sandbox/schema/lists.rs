//! How the lists and maps of the built-in types merge: `x-kubernetes-list-type`, its keys, and the patch strategies.
//! Taken from the published OpenAPI document of Kubernetes 1.37; lists that are not named here are atomic.

use serde_json::{Value, json};

/// Type, field, list type, list map keys, patch strategy, patch merge key.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const WEBHOOKS: &str = "io.k8s.api.admissionregistration.v1.";
const APPS: &str = "io.k8s.api.apps.v1.";
const CORE: &str = "io.k8s.api.core.v1.";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

const FIELDS: &[(&str, Row)] = &[
    (WEBHOOKS, ("MutatingWebhook", "matchConditions", "map", "name", "merge", "name")),
    (WEBHOOKS, ("MutatingWebhookConfiguration", "webhooks", "map", "name", "merge", "name")),
    (WEBHOOKS, ("ValidatingWebhook", "matchConditions", "map", "name", "merge", "name")),
    (WEBHOOKS, ("ValidatingWebhookConfiguration", "webhooks", "map", "name", "merge", "name")),
    (WEBHOOKS, ("ValidatingAdmissionPolicySpec", "matchConditions", "map", "name", "merge", "name")),
    (WEBHOOKS, ("ValidatingAdmissionPolicySpec", "variables", "map", "name", "merge", "name")),
    (APPS, ("DaemonSetStatus", "conditions", "map", "type", "merge", "type")),
    (APPS, ("DeploymentSpec", "strategy", "", "", "retainKeys", "")),
    (APPS, ("DeploymentStatus", "conditions", "map", "type", "merge", "type")),
    (APPS, ("ReplicaSetStatus", "conditions", "map", "type", "merge", "type")),
    (APPS, ("StatefulSetStatus", "conditions", "map", "type", "merge", "type")),
    ("io.k8s.api.autoscaling.v2.", ("HorizontalPodAutoscalerStatus", "conditions", "map", "type", "merge", "type")),
    ("io.k8s.api.batch.v1.", ("JobStatus", "conditions", "atomic", "", "merge", "type")),
    ("io.k8s.api.certificates.v1.", ("CertificateSigningRequestStatus", "conditions", "map", "type", "", "")),
    (CORE, ("Container", "env", "map", "name", "merge", "name")),
    (CORE, ("Container", "ports", "map", "containerPort,protocol", "merge", "containerPort")),
    (CORE, ("Container", "volumeDevices", "map", "devicePath", "merge", "devicePath")),
    (CORE, ("Container", "volumeMounts", "map", "mountPath", "merge", "mountPath")),
    (CORE, ("EphemeralContainer", "env", "map", "name", "merge", "name")),
    (CORE, ("EphemeralContainer", "ports", "map", "containerPort,protocol", "merge", "containerPort")),
    (CORE, ("EphemeralContainer", "volumeMounts", "map", "mountPath", "merge", "mountPath")),
    (CORE, ("ContainerStatus", "volumeMounts", "map", "mountPath", "merge", "mountPath")),
    (CORE, ("NamespaceStatus", "conditions", "map", "type", "merge", "type")),
    (CORE, ("NodeSpec", "podCIDRs", "set", "", "merge", "")),
    (CORE, ("NodeStatus", "addresses", "map", "type", "merge", "type")),
    (CORE, ("NodeStatus", "conditions", "map", "type", "merge", "type")),
    (CORE, ("PersistentVolumeClaimStatus", "conditions", "map", "type", "merge", "type")),
    (CORE, ("PodSpec", "containers", "map", "name", "merge", "name")),
    (CORE, ("PodSpec", "ephemeralContainers", "map", "name", "merge", "name")),
    (CORE, ("PodSpec", "hostAliases", "map", "ip", "merge", "ip")),
    (CORE, ("PodSpec", "imagePullSecrets", "map", "name", "merge", "name")),
    (CORE, ("PodSpec", "initContainers", "map", "name", "merge", "name")),
    (CORE, ("PodSpec", "resourceClaims", "map", "name", "merge,retainKeys", "name")),
    (CORE, ("PodSpec", "schedulingGates", "map", "name", "merge", "name")),
    (CORE, ("PodSpec", "topologySpreadConstraints", "map", "topologyKey,whenUnsatisfiable", "merge", "topologyKey")),
    (CORE, ("PodSpec", "volumes", "map", "name", "merge,retainKeys", "name")),
    (CORE, ("PodStatus", "conditions", "map", "type", "merge", "type")),
    (CORE, ("PodStatus", "hostIPs", "atomic", "", "merge", "ip")),
    (CORE, ("PodStatus", "podIPs", "map", "ip", "merge", "ip")),
    (CORE, ("ReplicationControllerStatus", "conditions", "map", "type", "merge", "type")),
    (CORE, ("ResourceRequirements", "claims", "map", "name", "", "")),
    (CORE, ("ServiceAccount", "secrets", "map", "name", "merge", "name")),
    (CORE, ("ServiceSpec", "ports", "map", "port,protocol", "merge", "port")),
    (CORE, ("ServiceStatus", "conditions", "map", "type", "merge", "type")),
    ("io.k8s.api.discovery.v1.", ("Endpoint", "addresses", "set", "", "", "")),
    ("io.k8s.api.policy.v1.", ("PodDisruptionBudgetSpec", "selector", "", "", "replace", "")),
    ("io.k8s.api.policy.v1.", ("PodDisruptionBudgetStatus", "conditions", "map", "type", "merge", "type")),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.", ("CustomResourceDefinitionStatus", "conditions", "map", "type", "", "")),
    (META, ("ObjectMeta", "finalizers", "set", "", "merge", "")),
    (META, ("ObjectMeta", "ownerReferences", "map", "uid", "merge", "uid")),
    ("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.", ("APIServiceStatus", "conditions", "map", "type", "merge", "type")),
];

/// Types whose maps are owned as a whole.
const ATOMIC_TYPES: &[&str] = &[
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.ScopeSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretReference",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.discovery.v1.EndpointPort",
    "io.k8s.api.networking.v1.ServiceBackendPort",
    "io.k8s.api.rbac.v1.RoleRef",
    "io.k8s.api.rbac.v1.Subject",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// Fields that are atomic maps although their type is not.
const ATOMIC_FIELDS: &[(&str, &str)] = &[
    ("io.k8s.api.core.v1.PodSpec", "nodeSelector"),
    ("io.k8s.api.core.v1.ReplicationControllerSpec", "selector"),
    ("io.k8s.api.core.v1.ServiceSpec", "selector"),
];

/// Writes the table into the definitions as the extensions that the real document carries.
pub(super) fn annotate(definitions: &mut serde_json::Map<String, Value>) {
    for (package, (kind, field, list_type, keys, strategy, merge_key)) in FIELDS {
        let Some(property) = definitions.get_mut(&format!("{package}{kind}")).and_then(|d| d.pointer_mut(&format!("/properties/{field}"))) else {
            continue;
        };
        if !list_type.is_empty() {
            property["x-kubernetes-list-type"] = json!(list_type);
        }
        if !keys.is_empty() {
            property["x-kubernetes-list-map-keys"] = keys.split(',').collect();
        }
        if !strategy.is_empty() {
            property["x-kubernetes-patch-strategy"] = json!(strategy);
        }
        if !merge_key.is_empty() {
            property["x-kubernetes-patch-merge-key"] = json!(merge_key);
        }
    }
    for (kind, field) in ATOMIC_FIELDS {
        if let Some(property) = definitions.get_mut(*kind).and_then(|d| d.pointer_mut(&format!("/properties/{field}"))) {
            property["x-kubernetes-map-type"] = "atomic".into();
        }
    }
    for kind in ATOMIC_TYPES {
        if let Some(definition) = definitions.get_mut(*kind) {
            definition["x-kubernetes-map-type"] = "atomic".into();
        }
    }
}
