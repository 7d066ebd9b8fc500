//! Which groups, versions and kinds are served: the legacy documents and the aggregated one.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::{self, Answer};
use super::serve::Call;
use crate::sandbox::store::resources::priority;
use crate::sandbox::store::{Resource, Status};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/version`.
pub(super) fn version(git_version: &str) -> Answer {
    let mut numbers = git_version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or("1"), numbers.next().unwrap_or("0"));
    let body = json!({
        "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor,
        "minCompatibilityMajor": major, "minCompatibilityMinor": minor.parse::<u32>().unwrap_or(1).saturating_sub(1).to_string(),
        "gitVersion": git_version, "gitCommit": "0000000000000000000000000000000000000000", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.26.8", "compiler": "gc", "platform": "linux/amd64",
    });
    answer::json(200, &body)
}

/// Everything below `/api` and `/apis` that names no resource.
pub(super) fn answer(call: &Call, path: &str) -> Result<Answer, Status> {
    let resources = call.api.store.resources();
    let aggregated = call.header(header::ACCEPT).contains("as=APIGroupDiscoveryList") && call.header(header::ACCEPT).contains("v=v2;");
    let (media, body) = match (path, aggregated) {
        ("/api", true) => (AGGREGATED, aggregate(&resources, true)),
        ("/apis", true) => (AGGREGATED, aggregate(&resources, false)),
        ("/api", false) => {
            let addresses = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": call.header(header::HOST)}]);
            ("application/json", json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}))
        }
        ("/apis", false) => {
            let groups: Vec<Value> = groups(&resources).iter().filter(|(g, _)| !g.is_empty()).map(|(g, v)| group_document(g, v)).collect();
            ("application/json", json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        _ if call.seen.version.is_empty() => {
            let group = path.trim_start_matches("/apis/");
            let all = groups(&resources);
            let (name, versions) = all.iter().find(|(name, _)| name == group).ok_or_else(Status::page_not_found)?;
            let mut document = group_document(name, versions);
            document["kind"] = "APIGroup".into();
            document["apiVersion"] = "v1".into();
            ("application/json", document)
        }
        _ => ("application/json", resource_list(&resources, &call.seen.group, &call.seen.version)?),
    };
    Ok(if aggregated && matches!(path, "/api" | "/apis") { cached(call, media, &body) } else { answer::json(200, &body) })
}

/// An answer with an ETag, or 304 if the client has it already.
pub(super) fn cached(call: &Call, media: &'static str, body: &Value) -> Answer {
    let text = body.to_string();
    let hash: String = Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02X}")).collect();
    let tag = format!("\"{hash}\"");
    let mut answer = if call.header(header::IF_NONE_MATCH) == tag {
        let mut answer = Response::new(answer::full(""));
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else {
        answer::text(200, media, text)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    answer
}

/// Groups with their versions, the preferred one first; built-in groups first.
pub(super) fn groups(resources: &[Arc<Resource>]) -> Vec<(String, Vec<String>)> {
    let mut found: BTreeMap<(bool, String), Vec<String>> = BTreeMap::new();
    for resource in resources {
        let versions = found.entry((resource.custom(), resource.group.clone())).or_default();
        for version in &resource.versions {
            if !versions.contains(version) {
                versions.push(version.clone());
            }
        }
    }
    for versions in found.values_mut() {
        versions.sort_by_key(|v| std::cmp::Reverse(priority(v)));
    }
    found.into_iter().map(|((_, group), versions)| (group, versions)).collect()
}

fn group_document(name: &str, versions: &[String]) -> Value {
    let all: Vec<Value> = versions.iter().map(|v| json!({"groupVersion": format!("{name}/{v}"), "version": v})).collect();
    json!({"name": name, "versions": all, "preferredVersion": all.first()})
}

fn verbs(resource: &Resource) -> Vec<&'static str> {
    match resource.plural.as_str() {
        _ if !resource.stored => vec!["create"],
        "namespaces" => VERBS.iter().copied().filter(|v| *v != "deletecollection").collect(),
        _ => VERBS.to_vec(),
    }
}

/// Kind and verbs of a subresource.
fn subresource(resource: &Resource, version: &str, name: &str) -> (Value, Vec<&'static str>) {
    let own = |kind: &str| json!({"group": resource.group, "version": version, "kind": kind});
    match name {
        "scale" => (json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}), vec!["get", "patch", "update"]),
        "eviction" => (json!({"group": "policy", "version": "v1", "kind": "Eviction"}), vec!["create"]),
        "token" => (json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}), vec!["create"]),
        "log" => (own("Pod"), vec!["get"]),
        "binding" => (own("Binding"), vec!["create"]),
        "portforward" => (own("PodPortForwardOptions"), vec!["create", "get"]),
        "finalize" => (own(&resource.kind), vec!["update"]),
        _ => (own(&resource.kind), vec!["get", "patch", "update"]),
    }
}

fn aggregate(resources: &[Arc<Resource>], core: bool) -> Value {
    let items: Vec<Value> = groups(resources)
        .iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let served = resources.iter().filter(|r| r.group == *group && r.versions.contains(version));
                    let served: Vec<Value> = served.map(|r| aggregated_resource(r, version)).collect();
                    json!({"version": version, "resources": served, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(r: &Resource, version: &str) -> Value {
    let mut out = json!({
        "resource": r.plural,
        "responseKind": {"group": r.group, "version": version, "kind": r.kind},
        "scope": if r.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": r.singular,
        "verbs": verbs(r),
    });
    if !r.short_names.is_empty() {
        out["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        out["categories"] = json!(r.categories);
    }
    if !r.subresources.is_empty() {
        let subs = r.subresources.iter().map(|name| {
            let (kind, verbs) = subresource(r, version, name);
            json!({"subresource": name, "responseKind": kind, "verbs": verbs})
        });
        out["subresources"] = subs.collect();
    }
    out
}

fn resource_list(resources: &[Arc<Resource>], group: &str, version: &str) -> Result<Value, Status> {
    let mut listed = Vec::new();
    for r in resources.iter().filter(|r| r.group == group && r.versions.iter().any(|v| v == version)) {
        let mut own = json!({"name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": verbs(r)});
        if !r.short_names.is_empty() {
            own["shortNames"] = json!(r.short_names);
        }
        if !r.categories.is_empty() {
            own["categories"] = json!(r.categories);
        }
        listed.push(own);
        for name in &r.subresources {
            let (kind, verbs) = subresource(r, version, name);
            let mut sub =
                json!({"name": format!("{}/{name}", r.plural), "singularName": "", "namespaced": r.namespaced, "kind": kind["kind"], "verbs": verbs});
            if kind["group"] != r.group.as_str() || kind["version"] != version {
                sub["group"] = kind["group"].clone();
                sub["version"] = kind["version"].clone();
            }
            listed.push(sub);
        }
    }
    if listed.is_empty() {
        return Err(Status::page_not_found());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": listed});
    // The core group's list is older than the field.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Ok(list)
}
