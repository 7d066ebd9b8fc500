//! OpenAPI: what helm and kubectl validate against, explain from and probe for query parameters.

use std::collections::BTreeSet;

use http::header;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::{self, Answer};
use super::discovery;
use super::serve::Call;
use crate::sandbox::schema;
use crate::sandbox::store::meta::list;
use crate::sandbox::store::{Resource, Status};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const REF: &str = "#/components/schemas/";
/// `swagger: "2.0"`, `info: {title: "Kubernetes", version: "v1"}` of an OpenAPI v2 document as protobuf. It has no definitions
/// on purpose: kubectl then merges with the types it has compiled in.
const V2: &[u8] = b"\x0a\x032.0\x12\x10\x0a\x0aKubernetes\x12\x02v1";

/// Everything below `/openapi`.
pub(super) fn answer(call: &Call, path: &str) -> Result<Answer, Status> {
    let resources = call.api.store.resources();
    if path == "/openapi/v2" {
        let accept = call.header(header::ACCEPT);
        if accept.contains("protobuf") {
            return Ok(answer::text(200, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", V2));
        }
        let body = json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": call.api.options.version}, "paths": {}, "definitions": {}});
        return Ok(discovery::cached(call, "application/json", &body));
    }
    if path == "/openapi/v3" {
        let mut paths = Map::new();
        for (group, versions) in discovery::groups(&resources) {
            for version in versions {
                let key = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
                let mut hash = Sha256::new_with_prefix(call.api.options.version.as_bytes());
                for kind in resources.iter().filter(|k| k.group == group) {
                    hash.update(kind.id().as_bytes());
                    hash.update(kind.definition.to_string().as_bytes());
                }
                let hash: String = hash.finalize().iter().map(|b| format!("{b:02X}")).collect();
                paths.insert(key.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{key}?hash={hash}")}));
            }
        }
        return Ok(discovery::cached(call, "application/json", &json!({"paths": paths})));
    }
    let (group, version) = match path.trim_start_matches("/openapi/v3/").split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => (String::new(), (*version).to_owned()),
        ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return Err(Status::page_not_found()),
    };
    let kinds = resources.iter().filter(|k| k.group == group && k.versions.contains(&version));
    let kinds: Vec<&Resource> = kinds.map(|k| &**k).collect();
    if kinds.is_empty() {
        return Err(Status::page_not_found());
    }
    Ok(discovery::cached(call, "application/json", &document(&kinds, &version, &call.api.options.version)))
}

fn document(kinds: &[&Resource], version: &str, server: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for kind in kinds {
        let name = schema_name(kind, version);
        operations(kind, version, &name, &mut paths);
        if kind.custom() {
            schemas.insert(name, custom_schema(kind, version));
            close(&mut schemas, META);
        } else {
            close(&mut schemas, &name);
        }
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": server}, "paths": paths, "components": {"schemas": schemas}})
}

fn schema_name(kind: &Resource, version: &str) -> String {
    schema::definition_name(kind).map_or_else(
        || {
            let reversed: Vec<&str> = kind.group.split('.').rev().collect();
            format!("{}.{version}.{}", reversed.join("."), kind.kind)
        },
        str::to_owned,
    )
}

fn custom_schema(kind: &Resource, version: &str) -> Value {
    let found = list(&kind.definition, "/versions").iter().find(|v| v["name"] == version);
    let mut out = found.and_then(|v| v.pointer("/schema/openAPIV3Schema")).cloned().unwrap_or_else(|| json!({}));
    out["type"] = "object".into();
    let text = |what: &str| json!({"type": "string", "description": format!("{what} of this representation of an object.")});
    out["properties"]["apiVersion"] = text("The versioned schema");
    out["properties"]["kind"] = text("The kind");
    out["properties"]["metadata"] = json!({"allOf": [{"$ref": format!("{REF}{META}")}], "description": "Standard object's metadata."});
    out["x-kubernetes-group-version-kind"] = json!([{"group": kind.group, "kind": kind.kind, "version": version}]);
    out
}

/// Adds a definition and everything it refers to.
fn close(schemas: &mut Map<String, Value>, name: &str) {
    let mut due = vec![name.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(name) = due.pop() {
        if schemas.contains_key(&name) || !seen.insert(name.clone()) {
            continue;
        }
        let Some(definition) = schema::definitions().get(&name) else { continue };
        references(definition, &mut due);
        schemas.insert(name, definition.clone());
    }
}

fn references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match inner.as_str().and_then(|r| r.strip_prefix(REF)) {
                    Some(name) if key == "$ref" => out.push(name.to_owned()),
                    _ => references(inner, out),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, out)),
        _ => {}
    }
}

fn operations(kind: &Resource, version: &str, schema: &str, paths: &mut Map<String, Value>) {
    let base = if kind.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{}/{version}", kind.group) };
    let collection = if kind.namespaced { format!("{base}/namespaces/{{namespace}}/{}", kind.plural) } else { format!("{base}/{}", kind.plural) };
    let query = |name: &str| json!({"in": "query", "name": name, "schema": {"type": "string", "uniqueItems": true}});
    let operation = |action: &str, parameters: &[&str]| {
        let parameters: Vec<Value> = parameters.iter().map(|name| query(name)).collect();
        json!({
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": format!("{REF}{schema}")}}}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": kind.group, "kind": kind.kind, "version": version},
        })
    };
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    if !kind.stored {
        paths.insert(collection, json!({"post": operation("post", &write)}));
        return;
    }
    paths.insert(
        format!("{collection}/{{name}}"),
        json!({
            "get": operation("get", &[]),
            "put": operation("put", &write),
            "patch": operation("patch", &["dryRun", "fieldManager", "fieldValidation", "force"]),
            "delete": operation("delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
        }),
    );
    let get = operation("list", &["fieldSelector", "labelSelector", "limit", "resourceVersion", "watch"]);
    paths.insert(collection, json!({"get": get, "post": operation("post", &write)}));
}
