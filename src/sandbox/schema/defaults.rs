//! What the server fills in: defaults of the built-in kinds, allocated addresses and ports, and defaults of custom schemas.

use std::collections::HashSet;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::Schema;
use crate::sandbox::store::meta::{child, list, now, text};
use crate::sandbox::store::{Resource, Store};

/// Sets a field that is missing or null.
fn unset(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value.into());
    }
}

fn each<'a>(parent: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

fn at<'a>(parent: &'a mut Value, pointer: &str) -> Option<&'a mut Map<String, Value>> {
    parent.pointer_mut(pointer).and_then(Value::as_object_mut)
}

/// Fills in a created or changed object; `old` is the stored one.
pub(in crate::sandbox) fn apply(store: &Store, kind: &Resource, object: &mut Value, old: Option<&Value>) {
    if kind.custom() {
        custom(kind, object);
        return;
    }
    match kind.id().as_str() {
        "namespaces" => namespace(object),
        "secrets" => secret(object),
        "services" => {
            service(store, object, old);
            unset(child(object, "status"), "loadBalancer", json!({}));
        }
        "ingresses.networking.k8s.io" => unset(child(object, "status"), "loadBalancer", json!({})),
        "pods" => {
            pod_spec(child_value(object, "spec"));
            pod(object);
        }
        "deployments.apps" => {
            child(object, "status");
            let spec = child(object, "spec");
            unset(spec, "replicas", 1);
            unset(spec, "revisionHistoryLimit", 10);
            unset(spec, "progressDeadlineSeconds", 600);
            let strategy = child_value(child_value(object, "spec"), "strategy");
            unset(child_map(strategy), "type", "RollingUpdate");
            if text(strategy, "/type") == "RollingUpdate" {
                let rolling = child(strategy, "rollingUpdate");
                unset(rolling, "maxUnavailable", "25%");
                unset(rolling, "maxSurge", "25%");
            }
            template(object);
        }
        "replicasets.apps" => {
            unset(child(object, "spec"), "replicas", 1);
            template(object);
        }
        "statefulsets.apps" => {
            let spec = child(object, "spec");
            unset(spec, "replicas", 1);
            unset(spec, "revisionHistoryLimit", 10);
            unset(spec, "podManagementPolicy", "OrderedReady");
            unset(spec, "updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
            unset(spec, "persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
            template(object);
        }
        "daemonsets.apps" => {
            let spec = child(object, "spec");
            unset(spec, "revisionHistoryLimit", 10);
            unset(spec, "updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}));
            template(object);
        }
        "jobs.batch" => job(object),
        "cronjobs.batch" => {
            let spec = child(object, "spec");
            unset(spec, "concurrencyPolicy", "Allow");
            unset(spec, "suspend", false);
            unset(spec, "successfulJobsHistoryLimit", 3);
            unset(spec, "failedJobsHistoryLimit", 1);
            if let Some(spec) = object.pointer_mut("/spec/jobTemplate/spec/template/spec") {
                pod_spec(spec);
            }
        }
        "horizontalpodautoscalers.autoscaling" => unset(child(object, "spec"), "minReplicas", 1),
        "mutatingwebhookconfigurations.admissionregistration.k8s.io" => webhooks(object, true),
        "validatingwebhookconfigurations.admissionregistration.k8s.io" => webhooks(object, false),
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io" => {
            unset(child(object, "roleRef"), "apiGroup", "rbac.authorization.k8s.io");
            for subject in each(object, "/subjects") {
                if text(subject, "/kind") != "ServiceAccount" {
                    unset(child_map(subject), "apiGroup", "rbac.authorization.k8s.io");
                }
            }
        }
        "customresourcedefinitions.apiextensions.k8s.io" => definition(object),
        "endpointslices.discovery.k8s.io" => {
            for port in each(object, "/ports") {
                unset(child_map(port), "name", "");
                unset(child_map(port), "protocol", "TCP");
            }
        }
        "persistentvolumeclaims" => unset(child(object, "spec"), "volumeMode", "Filesystem"),
        _ => {}
    }
}

fn child_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("just made a map")
}

fn child_value<'a>(parent: &'a mut Value, key: &str) -> &'a mut Value {
    child(parent, key);
    &mut parent[key]
}

fn template(object: &mut Value) {
    let spec = child_value(child_value(child_value(object, "spec"), "template"), "spec");
    pod_spec(spec);
}

fn namespace(object: &mut Value) {
    let name = crate::sandbox::store::meta::name(object).to_owned();
    child(child_value(object, "metadata"), "labels").insert("kubernetes.io/metadata.name".into(), name.into());
    unset(child(object, "spec"), "finalizers", json!(["kubernetes"]));
    unset(child(object, "status"), "phase", "Active");
}

fn secret(object: &mut Value) {
    unset(child_map(object), "type", "Opaque");
    if let Some(Value::Object(texts)) = child_map(object).shift_remove("stringData") {
        let data = child(object, "data");
        for (key, value) in texts {
            data.insert(key, base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default()).into());
        }
    }
}

fn job(object: &mut Value) {
    let uid = crate::sandbox::store::meta::uid(object).to_owned();
    let name = crate::sandbox::store::meta::name(object).to_owned();
    let spec = child(object, "spec");
    unset(spec, "parallelism", 1);
    unset(spec, "completions", 1);
    unset(spec, "backoffLimit", 6);
    unset(spec, "completionMode", "NonIndexed");
    unset(spec, "suspend", false);
    unset(spec, "manualSelector", false);
    unset(spec, "podReplacementPolicy", "TerminatingOrFailed");
    let generated = json!({"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name, "controller-uid": uid, "job-name": name});
    if !spec.contains_key("selector") {
        spec.insert("selector".into(), json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
        let labels = child(child_value(child_value(child_value(object, "spec"), "template"), "metadata"), "labels");
        for (key, value) in generated.as_object().into_iter().flatten() {
            unset(labels, key, value.clone());
        }
    }
    template(object);
}

fn webhooks(object: &mut Value, mutating: bool) {
    for hook in each(object, "/webhooks") {
        for rule in each(hook, "/rules") {
            unset(child_map(rule), "scope", "*");
        }
        if let Some(service) = at(hook, "/clientConfig/service") {
            unset(service, "port", 443);
        }
        let hook = child_map(hook);
        unset(hook, "failurePolicy", "Fail");
        unset(hook, "matchPolicy", "Equivalent");
        unset(hook, "namespaceSelector", json!({}));
        unset(hook, "objectSelector", json!({}));
        unset(hook, "timeoutSeconds", 10);
        if mutating {
            unset(hook, "reinvocationPolicy", "Never");
        }
    }
}

fn definition(object: &mut Value) {
    let kind = text(object, "/spec/names/kind").to_owned();
    let spec = child_value(object, "spec");
    let names = child(spec, "names");
    unset(names, "singular", kind.to_lowercase());
    unset(names, "listKind", format!("{kind}List"));
    let names = spec["names"].clone();
    unset(child_map(spec), "conversion", json!({"strategy": "None"}));
    let stored: Vec<Value> = list(spec, "/versions").iter().filter(|v| v["storage"] == true).map(|v| v["name"].clone()).collect();
    let status = child(object, "status");
    status.insert("acceptedNames".into(), names);
    unset(status, "storedVersions", stored);
    let at = now();
    unset(
        status,
        "conditions",
        json!([
            {"type": "NamesAccepted", "status": "True", "lastTransitionTime": at, "reason": "NoConflicts", "message": "no conflicts found"},
            {"type": "Established", "status": "True", "lastTransitionTime": at, "reason": "InitialNamesAccepted", "message": "the initial names have been accepted"},
        ]),
    );
}

fn custom(kind: &Resource, object: &mut Value) {
    let Some(schema) = Schema::of(kind, &kind.versions[0]) else { return };
    fill(schema, object);
}

fn fill(schema: Schema<'_>, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, property) in schema.properties() {
                if let (false, Some(default)) = (map.contains_key(name), property.default()) {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(field) = schema.field(name) {
                    fill(field, value);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                fill(schema.items(), item);
            }
        }
        _ => {}
    }
}

/// What every pod spec gets, in a pod or in a template.
fn pod_spec(spec: &mut Value) {
    let fields = child_map(spec);
    unset(fields, "restartPolicy", "Always");
    unset(fields, "terminationGracePeriodSeconds", 30);
    unset(fields, "dnsPolicy", "ClusterFirst");
    unset(fields, "securityContext", json!({}));
    unset(fields, "schedulerName", "default-scheduler");
    match (fields.get("serviceAccountName").cloned(), fields.get("serviceAccount").cloned()) {
        (Some(name), _) => fields.insert("serviceAccount".into(), name),
        (None, Some(name)) => fields.insert("serviceAccountName".into(), name),
        (None, None) => None,
    };
    for pointer in ["/initContainers", "/containers"] {
        for one in each(spec, pointer) {
            container(one);
        }
    }
    for volume in each(spec, "/volumes") {
        for (kind, key, value) in [("secret", "defaultMode", json!(420)), ("configMap", "defaultMode", json!(420)), ("hostPath", "type", json!(""))] {
            if let Some(source) = at(volume, &format!("/{kind}")) {
                unset(source, key, value);
            }
        }
        for kind in ["downwardAPI", "projected"] {
            if let Some(source) = at(volume, &format!("/{kind}")) {
                unset(source, "defaultMode", 420);
            }
        }
        for source in each(volume, "/projected/sources") {
            if let Some(token) = at(source, "/serviceAccountToken") {
                unset(token, "expirationSeconds", 3600);
            }
            for item in each(source, "/downwardAPI/items") {
                field_ref(item, "/fieldRef");
            }
        }
        for item in each(volume, "/downwardAPI/items") {
            field_ref(item, "/fieldRef");
        }
        let volume = child_map(volume);
        if volume.len() == 1 {
            volume.insert("emptyDir".into(), json!({}));
        }
    }
}

fn field_ref(parent: &mut Value, pointer: &str) {
    if let Some(reference) = at(parent, pointer) {
        unset(reference, "apiVersion", "v1");
    }
}

fn container(one: &mut Value) {
    let image = text(one, "/image");
    let tag = image.rsplit('/').next().unwrap_or_default().split_once(':').map_or("", |(_, tag)| tag);
    let latest = !image.contains('@') && (tag.is_empty() || tag == "latest");
    let fields = child_map(one);
    unset(fields, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
    unset(fields, "resources", json!({}));
    unset(fields, "terminationMessagePath", "/dev/termination-log");
    unset(fields, "terminationMessagePolicy", "File");
    for port in each(one, "/ports") {
        unset(child_map(port), "protocol", "TCP");
    }
    for env in each(one, "/env") {
        field_ref(env, "/valueFrom/fieldRef");
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(fields) = at(one, &format!("/{probe}")) {
            unset(fields, "timeoutSeconds", 1);
            unset(fields, "periodSeconds", 10);
            unset(fields, "successThreshold", 1);
            unset(fields, "failureThreshold", 3);
        }
        get_action(one, &format!("/{probe}/httpGet"));
    }
    get_action(one, "/lifecycle/preStop/httpGet");
    get_action(one, "/lifecycle/postStart/httpGet");
}

fn get_action(one: &mut Value, pointer: &str) {
    if let Some(get) = at(one, pointer) {
        unset(get, "path", "/");
        unset(get, "scheme", "HTTP");
    }
}

/// What only a pod gets, not a template.
fn pod(object: &mut Value) {
    let spec = child_value(object, "spec");
    for pointer in ["/initContainers", "/containers"] {
        for one in each(spec, pointer) {
            let limits = one.pointer("/resources/limits").and_then(Value::as_object).cloned().unwrap_or_default();
            for (resource, limit) in limits {
                unset(child(child_value(one, "resources"), "requests"), &resource, limit);
            }
        }
    }
    let fields = child_map(spec);
    unset(fields, "enableServiceLinks", true);
    unset(fields, "serviceAccountName", "default");
    let account = fields["serviceAccountName"].clone();
    unset(fields, "serviceAccount", account);
    unset(fields, "preemptionPolicy", "PreemptLowerPriority");
    unset(fields, "priority", 0);
    let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    unset(fields, "tolerations", json!([toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")]));
    let status = child(object, "status");
    unset(status, "phase", "Pending");
    unset(status, "qosClass", "BestEffort");
}

fn service(store: &Store, object: &mut Value, old: Option<&Value>) {
    let spec = child(object, "spec");
    unset(spec, "type", "ClusterIP");
    unset(spec, "sessionAffinity", "None");
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    for port in each(object, "/spec/ports") {
        let number = port["port"].clone();
        unset(child_map(port), "protocol", "TCP");
        if port.get("targetPort").is_none_or(|t| t.is_null() || *t == 0 || *t == "") {
            port["targetPort"] = number;
        }
    }
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    let others: Vec<std::sync::Arc<Value>> = store.list("services", "");
    let me = crate::sandbox::store::meta::uid(object).to_owned();
    let others: Vec<&Value> = others.iter().map(|o| &**o).filter(|o| crate::sandbox::store::meta::uid(o) != me).collect();
    if kind != "ExternalName" {
        let before = old.map_or("", |o| text(o, "/spec/clusterIP")).to_owned();
        let taken: HashSet<&str> = others.iter().map(|o| text(o, "/spec/clusterIP")).collect();
        let spec = child(object, "spec");
        unset(spec, "internalTrafficPolicy", "Cluster");
        if spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().is_empty() {
            let ip = if before.is_empty() { free_address(&taken) } else { before };
            spec.insert("clusterIP".into(), ip.into());
        }
        let ip = spec["clusterIP"].clone();
        unset(spec, "clusterIPs", json!([ip]));
        unset(spec, "ipFamilies", json!(["IPv4"]));
        unset(spec, "ipFamilyPolicy", "SingleStack");
    }
    let spec = child(object, "spec");
    if external {
        unset(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        unset(spec, "allocateLoadBalancerNodePorts", true);
    }
    if external && spec.get("allocateLoadBalancerNodePorts") != Some(&json!(false)) {
        node_ports(object, old, &others);
    }
}

fn free_address(taken: &HashSet<&str>) -> String {
    let mut free = (1..=250_u8).flat_map(|b| (1..=250_u8).map(move |c| format!("10.100.{b}.{c}"))).filter(|ip| !taken.contains(ip.as_str()));
    free.next().unwrap_or_default()
}

fn node_ports(object: &mut Value, old: Option<&Value>, others: &[&Value]) {
    let of = |service: &Value| -> Vec<i64> { list(service, "/spec/ports").iter().filter_map(|p| p["nodePort"].as_i64()).collect() };
    let mut taken: HashSet<i64> = others.iter().flat_map(|o| of(o)).collect();
    taken.extend(of(object));
    for port in each(object, "/spec/ports") {
        if port["nodePort"].as_i64().unwrap_or(0) != 0 {
            continue;
        }
        let same = |p: &&Value| p["port"] == port["port"] && p["protocol"] == port["protocol"];
        let before = old.map_or(&[][..], |o| list(o, "/spec/ports")).iter().find(same).and_then(|p| p["nodePort"].as_i64());
        let free = before.filter(|p| !taken.contains(p)).or_else(|| (30_080..=32_767).find(|p| !taken.contains(p)));
        if let Some(free) = free {
            taken.insert(free);
            port["nodePort"] = free.into();
        }
    }
}
