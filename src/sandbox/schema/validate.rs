//! What makes an object invalid: the rules that a person breaks, with the real server's words.

use std::collections::HashSet;

use regex::Regex;
use serde_json::{Value, json};

use super::Schema;
use crate::sandbox::store::meta::{list, name, text};
use crate::sandbox::store::{Cause, Resource, Status};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an \
     alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric \
     character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an \
     alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const KEY: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
     'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn subdomain(value: &str) -> bool {
    value.len() <= 253 && !value.is_empty() && value.split('.').all(lower)
}

fn lower(part: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
}

fn label_name(value: &str) -> bool {
    value.len() <= 63 && lower(value)
}

fn qualified(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    value.len() <= 63 && value.chars().all(inner) && edge(value.chars().next()) && edge(value.chars().next_back())
}

/// Checks an object that is about to be stored; `old` is the stored one.
///
/// # Errors
/// 422 with one cause per broken field.
pub(in crate::sandbox) fn check(kind: &Resource, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let mut causes = Vec::new();
    metadata(kind, object, &mut causes);
    if kind.custom() {
        if let Some(schema) = Schema::of(kind, &kind.versions[0]) {
            custom(schema, object, "", &mut causes);
        }
    } else {
        builtin(kind, object, old, &mut causes);
    }
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid(kind, name(object), &causes)) }
}

fn metadata(kind: &Resource, object: &Value, causes: &mut Vec<Cause>) {
    let own = name(object);
    let (good, why) = match kind.id().as_str() {
        _ if kind.group == "rbac.authorization.k8s.io" => (!own.contains(['/', '%']) && own != "." && own != "..", "may not contain '/' or '%'"),
        "namespaces" => (label_name(own), LABEL),
        "services" => (label_name(own) && own.starts_with(|c: char| c.is_ascii_lowercase()), LABEL_1035),
        _ => (subdomain(own), SUBDOMAIN),
    };
    if own.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if !good {
        causes.push(Cause::invalid("metadata.name", &json!(own), why));
    }
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    label_map(labels, "metadata.labels", causes);
    for (key, _) in object.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten() {
        let (prefix, last) = key.rsplit_once('/').unwrap_or(("", key));
        if !qualified(last) || !prefix.is_empty() && !subdomain(&prefix.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &json!(key), KEY));
        }
    }
}

fn label_map(labels: Option<&serde_json::Map<String, Value>>, field: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.into_iter().flatten() {
        let (prefix, last) = key.rsplit_once('/').unwrap_or(("", key));
        if !qualified(last) || !prefix.is_empty() && !subdomain(prefix) {
            causes.push(Cause::invalid(field, &json!(key), KEY));
        }
        let value = value.as_str().unwrap_or_default();
        if value.len() > 63 {
            causes.push(Cause::invalid(field, &json!(value), "must be no more than 63 bytes"));
        } else if !value.is_empty() && !qualified(value) {
            causes.push(Cause::invalid(field, &json!(value), LABEL_VALUE));
        }
    }
}

fn builtin(kind: &Resource, object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let immutable = |pointer: &str, causes: &mut Vec<Cause>| {
        if let (Some(old), new) = (old.and_then(|o| o.pointer(pointer)), object.pointer(pointer).unwrap_or(&Value::Null))
            && old != new
        {
            causes.push(Cause::invalid(pointer[1..].replace('/', "."), new, "field is immutable"));
        }
    };
    match kind.id().as_str() {
        "pods" => {
            pod_spec(&object["spec"], "spec", causes);
            if let Some(old) = old {
                pod_change(old, object, causes);
            }
        }
        "deployments.apps" | "replicasets.apps" | "statefulsets.apps" | "daemonsets.apps" => {
            workload(object, causes);
            immutable("/spec/selector", causes);
        }
        "jobs.batch" => {
            pod_spec(&object["spec"]["template"]["spec"], "spec.template.spec", causes);
            let policy = text(object, "/spec/template/spec/restartPolicy");
            if policy == "Always" {
                causes.push(Cause {
                    reason: "FieldValueRequired",
                    field: "spec.template.spec.restartPolicy".into(),
                    message: "Required value: valid values: \"OnFailure\", \"Never\"".into(),
                });
            }
            immutable("/spec/selector", causes);
            immutable("/spec/template", causes);
        }
        "services" => service(object, old, causes),
        "ingresses.networking.k8s.io" => ingress(object, causes),
        "secrets" => immutable("/type", causes),
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io"
            if old.is_some_and(|o| o["roleRef"] != object["roleRef"]) =>
        {
            causes.push(Cause::invalid("roleRef", &object["roleRef"], "cannot change roleRef"));
        }
        "customresourcedefinitions.apiextensions.k8s.io" => {
            let wanted = format!("{}.{}", text(object, "/spec/names/plural"), text(object, "/spec/group"));
            if name(object) != wanted {
                causes.push(Cause::invalid("metadata.name", &json!(name(object)), "must be spec.names.plural+\".\"+spec.group"));
            }
        }
        _ => {}
    }
}

fn workload(object: &Value, causes: &mut Vec<Cause>) {
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let expressions = list(object, "/spec/selector/matchExpressions");
    if object.pointer("/spec/selector").is_none() {
        causes.push(Cause::required("spec.selector", ""));
    } else if labels.is_none_or(serde_json::Map::is_empty) && expressions.is_empty() {
        causes.push(Cause::invalid("spec.selector", &json!({}), "empty selector is invalid for deployment"));
    }
    let template = object.pointer("/spec/template/metadata/labels");
    if labels.into_iter().flatten().any(|(key, value)| template.and_then(|t| t.get(key)) != Some(value)) {
        let shown = template.cloned().unwrap_or(Value::Null);
        causes.push(Cause::invalid("spec.template.metadata.labels", &shown, "`selector` does not match template `labels`"));
    }
    label_map(template.and_then(Value::as_object), "spec.template.labels", causes);
    if let Some(replicas) = object.pointer("/spec/replicas").and_then(Value::as_i64).filter(|r| *r < 0) {
        causes.push(Cause::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0"));
    }
    let spec = &object["spec"]["template"]["spec"];
    pod_spec(spec, "spec.template.spec", causes);
    let policy = text(spec, "/restartPolicy");
    if !matches!(policy, "" | "Always") {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", &json!(policy), &["Always"]));
    }
}

fn pod_spec(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    let containers = list(spec, "/containers");
    if containers.is_empty() {
        causes.push(Cause::required(format!("{at}.containers"), ""));
    }
    let volumes: HashSet<&str> = list(spec, "/volumes").iter().map(|v| text(v, "/name")).collect();
    let mut seen = HashSet::new();
    for (key, items) in [("initContainers", list(spec, "/initContainers")), ("containers", containers)] {
        for (i, one) in items.iter().enumerate() {
            let at = format!("{at}.{key}[{i}]");
            let own = text(one, "/name");
            if own.is_empty() {
                causes.push(Cause::required(format!("{at}.name"), ""));
            } else if !label_name(own) {
                causes.push(Cause::invalid(format!("{at}.name"), &json!(own), LABEL));
            } else if !seen.insert(own) {
                causes.push(Cause::duplicate(format!("{at}.name"), &json!(own)));
            }
            if text(one, "/image").is_empty() {
                causes.push(Cause::required(format!("{at}.image"), ""));
            } else if text(one, "/image").trim() != text(one, "/image") {
                causes.push(Cause::invalid(format!("{at}.image"), &one["image"], "must not have leading or trailing whitespace"));
            }
            for (p, port) in list(one, "/ports").iter().enumerate() {
                port_number(port.get("containerPort"), &format!("{at}.ports[{p}].containerPort"), causes);
            }
            for (m, mount) in list(one, "/volumeMounts").iter().enumerate() {
                if !volumes.contains(text(mount, "/name")) {
                    let field = format!("{at}.volumeMounts[{m}].name");
                    causes.push(Cause { reason: "FieldValueNotFound", field, message: format!("Not found: {}", mount["name"]) });
                }
            }
            let policy = text(one, "/imagePullPolicy");
            if !matches!(policy, "" | "Always" | "IfNotPresent" | "Never") {
                causes.push(Cause::unsupported(format!("{at}.imagePullPolicy"), &json!(policy), &["Always", "IfNotPresent", "Never"]));
            }
        }
    }
}

fn port_number(value: Option<&Value>, field: &str, causes: &mut Vec<Cause>) {
    match value.and_then(Value::as_i64) {
        None => causes.push(Cause::required(field, "")),
        Some(port) if !(1..=65535).contains(&port) => causes.push(Cause::invalid(field, &json!(port), "must be between 1 and 65535, inclusive")),
        Some(_) => {}
    }
}

/// A pod's spec may change in its images, deadlines and added tolerations only, and once to be bound to a node.
fn pod_change(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let rest = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for key in ["initContainers", "containers"] {
            for one in spec.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                one["image"] = Value::Null;
                one["resources"] = Value::Null;
            }
        }
        if let Some(map) = spec.as_object_mut() {
            map.retain(|key, _| {
                !matches!(
                    key.as_str(),
                    "activeDeadlineSeconds" | "tolerations" | "terminationGracePeriodSeconds" | "schedulingGates" | "ephemeralContainers"
                )
            });
            if text(old, "/spec/nodeName").is_empty() {
                map.shift_remove("nodeName");
            }
        }
        spec
    };
    if rest(old) != rest(new) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                   `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
                   (allow it to be set to 1 if it was previously negative)";
        causes.push(Cause::forbidden("spec", why));
    }
}

fn service(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let ports = list(object, "/spec/ports");
    let kind = text(object, "/spec/type");
    if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
        causes.push(Cause::unsupported("spec.type", &json!(kind), &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]));
    }
    if ports.is_empty() && kind != "ExternalName" && text(object, "/spec/clusterIP") != "None" {
        causes.push(Cause::required("spec.ports", ""));
    }
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (i, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{i}]");
        port_number(port.get("port"), &format!("{at}.port"), causes);
        if port["targetPort"].is_number() {
            port_number(port.get("targetPort"), &format!("{at}.targetPort"), causes);
        }
        let own = text(port, "/name");
        if own.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if !own.is_empty() && !label_name(own) {
            causes.push(Cause::invalid(format!("{at}.name"), &json!(own), LABEL));
        } else if !own.is_empty() && !names.insert(own) {
            causes.push(Cause::duplicate(format!("{at}.name"), &json!(own)));
        }
        if !numbers.insert((port["port"].to_string(), text(port, "/protocol"))) {
            let what = json!({"port": port["port"], "protocol": port["protocol"]});
            causes.push(Cause::duplicate(at.clone(), &what));
        }
        if let Some(node) = port["nodePort"].as_i64().filter(|n| *n != 0) {
            if !matches!(kind, "NodePort" | "LoadBalancer") {
                causes.push(Cause::forbidden(format!("{at}.nodePort"), "may not be used when `type` is 'ClusterIP'"));
            } else if !(30_000..=32_767).contains(&node) {
                let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                causes.push(Cause::invalid(format!("{at}.nodePort"), &json!(node), why));
            }
        }
    }
    let before = old.map_or("", |o| text(o, "/spec/clusterIP"));
    let now = text(object, "/spec/clusterIP");
    if !before.is_empty() && before != now && kind != "ExternalName" {
        causes.push(Cause::invalid("spec.clusterIPs[0]", &json!([now]), "may not change once set"));
    }
}

fn ingress(object: &Value, causes: &mut Vec<Cause>) {
    let backend = |backend: &Value, at: &str, causes: &mut Vec<Cause>| {
        if backend.get("resource").is_some() {
            return;
        }
        if text(backend, "/service/name").is_empty() {
            causes.push(Cause::required(format!("{at}.service.name"), ""));
        }
        let port = &backend["service"]["port"];
        if port["number"].is_null() && port["name"].is_null() {
            causes.push(Cause::required(at.to_owned(), "port name or number is required"));
        } else if !port["number"].is_null() {
            port_number(port.get("number"), &format!("{at}.service.port.number"), causes);
        }
    };
    let rules = list(object, "/spec/rules");
    if rules.is_empty() && object.pointer("/spec/defaultBackend").is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        causes.push(Cause::invalid("spec", &json!([]), why));
    }
    if let Some(default) = object.pointer("/spec/defaultBackend") {
        backend(default, "spec.defaultBackend", causes);
    }
    for (i, rule) in rules.iter().enumerate() {
        let host = text(rule, "/host");
        if !host.is_empty() && !subdomain(host.strip_prefix("*.").unwrap_or(host)) {
            causes.push(Cause::invalid(format!("spec.rules[{i}].host"), &json!(host), SUBDOMAIN));
        }
        for (p, path) in list(rule, "/http/paths").iter().enumerate() {
            let at = format!("spec.rules[{i}].http.paths[{p}]");
            match text(path, "/pathType") {
                "Exact" | "Prefix" if !text(path, "/path").starts_with('/') => {
                    causes.push(Cause::invalid(format!("{at}.path"), &json!(text(path, "/path")), "must be an absolute path"));
                }
                "Exact" | "Prefix" | "ImplementationSpecific" => {}
                "" => causes.push(Cause::required(format!("{at}.pathType"), "pathType must be specified")),
                other => causes.push(Cause::unsupported(format!("{at}.pathType"), &json!(other), &["Exact", "ImplementationSpecific", "Prefix"])),
            }
            backend(&path["backend"], &format!("{at}.backend"), causes);
        }
    }
}

/// The parts of a custom schema that people run into.
fn custom(schema: Schema<'_>, value: &Value, at: &str, causes: &mut Vec<Cause>) {
    let keyword = |key: &str| schema.keyword(key);
    let whole = if at.is_empty() { "<nil>" } else { at };
    match value {
        Value::Object(map) => {
            for key in keyword("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                if !map.contains_key(key) {
                    causes.push(Cause::required(if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }, ""));
                }
            }
            for (key, value) in map.iter().filter(|(key, _)| !at.is_empty() || !matches!(key.as_str(), "metadata" | "kind" | "apiVersion")) {
                if let Some(field) = schema.field(key) {
                    custom(field, value, &if at.is_empty() { key.clone() } else { format!("{at}.{key}") }, causes);
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                custom(schema.items(), item, &format!("{at}[{i}]"), causes);
            }
        }
        Value::String(text) => {
            if let Some(pattern) = keyword("pattern").and_then(Value::as_str)
                && Regex::new(pattern).is_ok_and(|p| !p.is_match(text))
            {
                causes.push(Cause::invalid(whole, value, &format!("{whole} in body should match '{pattern}'")));
            }
        }
        Value::Number(n) => {
            let n = n.as_f64().unwrap_or(0.0);
            for (key, word, bad) in [("minimum", "greater than or equal to", n), ("maximum", "less than or equal to", -n)] {
                let bound = keyword(key).and_then(Value::as_f64);
                if bound.is_some_and(|b| bad < if key == "minimum" { b } else { -b }) {
                    let bound = keyword(key).map(Value::to_string).unwrap_or_default();
                    causes.push(Cause::invalid(whole, value, &format!("{whole} in body should be {word} {bound}")));
                }
            }
        }
        _ => {}
    }
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        _ => return enumerated(schema, value, whole, causes),
    };
    let (least, most) = if value.is_string() { ("minLength", "maxLength") } else { ("minItems", "maxItems") };
    let bound = |key: &str| keyword(key).and_then(Value::as_u64).and_then(|b| usize::try_from(b).ok());
    let unit = if value.is_string() { "chars long" } else { "items" };
    if bound(least).is_some_and(|b| length < b) {
        causes.push(Cause::invalid(whole, value, &format!("{whole} in body should be at least {} {unit}", bound(least).unwrap_or(0))));
    }
    if bound(most).is_some_and(|b| length > b) {
        causes.push(Cause::invalid(whole, value, &format!("{whole} in body should be at most {} {unit}", bound(most).unwrap_or(0))));
    }
    enumerated(schema, value, whole, causes);
}

fn enumerated(schema: Schema<'_>, value: &Value, at: &str, causes: &mut Vec<Cause>) {
    let allowed = schema.keyword("enum").and_then(Value::as_array);
    if let Some(allowed) = allowed.filter(|a| !a.contains(value)) {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        causes.push(Cause::unsupported(at, value, &allowed));
    }
}
