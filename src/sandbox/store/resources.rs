//! What kinds the cluster serves: the built-in ones as a table, the others read from stored CustomResourceDefinitions.

use serde_json::Value;

use super::meta::text;

/// One served kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: String,
    /// Served versions, the preferred one first; objects are stored under the first.
    pub versions: Vec<String>,
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// Such as `status`, `scale`, `log`.
    pub subresources: Vec<String>,
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// Whether objects are kept: the review kinds only answer.
    pub stored: bool,
    /// `spec` of the CustomResourceDefinition, null for built-in kinds.
    pub definition: Value,
}

impl Resource {
    /// `plural.group`, or the plural alone in the core group: how the store and kubectl name it.
    pub fn id(&self) -> String {
        id(&self.group, &self.plural)
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// The API version objects are stored under.
    pub fn storage_version(&self) -> String {
        self.api_version(&self.versions[0])
    }

    /// Whether a CustomResourceDefinition made it.
    pub fn custom(&self) -> bool {
        !self.definition.is_null()
    }

    /// Whether the subresource is served.
    pub fn has(&self, subresource: &str) -> bool {
        self.subresources.iter().any(|s| s == subresource)
    }
}

/// `plural.group`, or the plural alone in the core group.
pub fn id(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// group, versions, kind, plural, short names, flags, subresources, categories.
/// Flags: `n` namespaced, `g` counts generations, `r` a review that only answers.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const BUILTIN: &[Row] = &[
    ("", "v1", "ConfigMap", "configmaps", "cm", "n", "", ""),
    ("", "v1", "Endpoints", "endpoints", "ep", "n", "", ""),
    ("", "v1", "Event", "events", "ev", "n", "", ""),
    ("", "v1", "LimitRange", "limitranges", "limits", "n", "", ""),
    ("", "v1", "Namespace", "namespaces", "ns", "", "status finalize", ""),
    ("", "v1", "Node", "nodes", "no", "", "status", ""),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", "n", "status", ""),
    ("", "v1", "PersistentVolume", "persistentvolumes", "pv", "", "status", ""),
    ("", "v1", "Pod", "pods", "po", "ng", "status log portforward eviction ephemeralcontainers binding", "all"),
    ("", "v1", "PodTemplate", "podtemplates", "", "n", "", ""),
    ("", "v1", "ReplicationController", "replicationcontrollers", "rc", "ng", "status scale", "all"),
    ("", "v1", "ResourceQuota", "resourcequotas", "quota", "n", "status", ""),
    ("", "v1", "Secret", "secrets", "", "n", "", ""),
    ("", "v1", "ServiceAccount", "serviceaccounts", "sa", "n", "token", ""),
    ("", "v1", "Service", "services", "svc", "n", "status", "all"),
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "", "g", "", "api-extensions"),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "", "g", "", "api-extensions"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", "", "g", "status", "api-extensions"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", "", "g", "", "api-extensions"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", "crd crds", "g", "status", "api-extensions"),
    ("apiregistration.k8s.io", "v1", "APIService", "apiservices", "", "", "status", "api-extensions"),
    ("apps", "v1", "ControllerRevision", "controllerrevisions", "", "n", "", ""),
    ("apps", "v1", "DaemonSet", "daemonsets", "ds", "ng", "status", "all"),
    ("apps", "v1", "Deployment", "deployments", "deploy", "ng", "status scale", "all"),
    ("apps", "v1", "ReplicaSet", "replicasets", "rs", "ng", "status scale", "all"),
    ("apps", "v1", "StatefulSet", "statefulsets", "sts", "ng", "status scale", "all"),
    ("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", "", "r", "", ""),
    ("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", "", "r", "", ""),
    ("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", "", "nr", "", ""),
    ("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "", "r", "", ""),
    ("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "", "r", "", ""),
    ("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", "", "r", "", ""),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", "n", "status", "all"),
    ("batch", "v1", "CronJob", "cronjobs", "cj", "ng", "status", "all"),
    ("batch", "v1", "Job", "jobs", "", "ng", "status", "all"),
    ("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", "csr", "", "status approval", ""),
    ("coordination.k8s.io", "v1", "Lease", "leases", "", "n", "", ""),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "", "ng", "", ""),
    ("networking.k8s.io", "v1", "IngressClass", "ingressclasses", "", "g", "", ""),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", "ing", "ng", "status", ""),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "netpol", "ng", "", ""),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", "ng", "status", ""),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "", "", "", ""),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "", "", "", ""),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "", "n", "", ""),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", "", "n", "", ""),
    ("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "pc", "g", "", ""),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", "sc", "", "", ""),
];

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The built-in kinds, sorted by group and plural.
pub fn builtin() -> Vec<Resource> {
    BUILTIN
        .iter()
        .map(|&(group, versions, kind, plural, short_names, flags, subresources, categories)| Resource {
            group: group.to_owned(),
            versions: words(versions),
            kind: kind.to_owned(),
            list_kind: format!("{kind}List"),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            short_names: words(short_names),
            categories: words(categories),
            namespaced: flags.contains('n'),
            subresources: words(subresources),
            generation: flags.contains('g'),
            stored: !flags.contains('r'),
            definition: Value::Null,
        })
        .collect()
}

/// The kind that a CustomResourceDefinition asks for; `None` if it is too broken to be served.
pub fn from_definition(crd: &Value) -> Option<Resource> {
    let spec = crd.get("spec")?;
    let names = spec.get("names")?;
    let listed = |key: &str| -> Vec<String> {
        let items = names.get(key).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut versions: Vec<&Value> =
        spec.get("versions")?.as_array()?.iter().filter(|v| v.get("served").and_then(Value::as_bool).unwrap_or(false)).collect();
    versions.sort_by_key(|v| std::cmp::Reverse(priority(text(v, "/name"))));
    let mut subresources: Vec<String> = Vec::new();
    for key in ["status", "scale"] {
        if versions.iter().any(|v| v.pointer(&format!("/subresources/{key}")).is_some()) {
            subresources.push(key.to_owned());
        }
    }
    let (kind, plural) = (text(names, "/kind").to_owned(), text(names, "/plural").to_owned());
    if versions.is_empty() || kind.is_empty() || plural.is_empty() {
        return None;
    }
    let or = |pointer: &str, other: String| match text(names, pointer) {
        "" => other,
        given => given.to_owned(),
    };
    Some(Resource {
        group: text(spec, "/group").to_owned(),
        versions: versions.iter().map(|v| text(v, "/name").to_owned()).collect(),
        list_kind: or("/listKind", format!("{kind}List")),
        singular: or("/singular", kind.to_lowercase()),
        kind,
        plural,
        short_names: listed("shortNames"),
        categories: listed("categories"),
        namespaced: text(spec, "/scope") == "Namespaced",
        subresources,
        generation: true,
        stored: true,
        definition: spec.clone(),
    })
}

/// Kubernetes' order of versions: v2 before v1 before v1beta2 before v1alpha1 before anything else.
pub fn priority(version: &str) -> (u8, u32, u32) {
    let parse = || -> Option<(u8, u32, u32)> {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        if tail.is_empty() {
            return Some((3, major, 0));
        }
        if let Some(minor) = tail.strip_prefix("beta") {
            return Some((2, major, minor.parse().ok()?));
        }
        Some((1, major, tail.strip_prefix("alpha")?.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}
