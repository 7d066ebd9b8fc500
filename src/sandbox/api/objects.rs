//! Requests for objects: which handler answers which verb, and the plain ones.

use std::sync::Arc;

use base64::Engine as _;
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::format::Format;
use super::patch::{self, managed};
use super::select::Selector;
use super::serve::Call;
use super::{actions, logs, portforward, proto, reviews, scale, watch};
use crate::sandbox::schema::check;
use crate::sandbox::store::meta::{name, namespace, text, uid};
use crate::sandbox::store::{Cause, Deleted, Deletion, Part, Propagation, Resource, Status, Write};

/// What a request body may have.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

pub(super) async fn dispatch(call: Call) -> Result<Answer, Status> {
    acceptable(&call)?;
    options(&call)?;
    let seen = &call.seen;
    let served = |kind: &Arc<Resource>| kind.group == seen.group && kind.versions.contains(&seen.version);
    let kind = match call.api.store.resource(&crate::sandbox::store::resources::id(&seen.group, &seen.resource)) {
        Err(_) if !call.api.store.resources().iter().any(served) => return Err(Status::page_not_found()),
        kind => kind?,
    };
    if !kind.versions.contains(&seen.version) || kind.namespaced && seen.namespace.is_empty() && !seen.name.is_empty() {
        return Err(Status::unknown_resource());
    }
    if !kind.namespaced && !seen.namespace.is_empty() || !seen.subresource.is_empty() && !kind.has(&seen.subresource) {
        return Err(Status::unknown_resource());
    }
    if !kind.stored {
        return match seen.verb.as_str() {
            "create" => reviews::answer(call, kind).await,
            _ => Err(Status::method_not_allowed()),
        };
    }
    match (seen.verb.as_str(), seen.subresource.as_str()) {
        ("create", "") if !seen.name.is_empty() => Err(Status::method_not_allowed()),
        ("update" | "patch", _) if seen.name.is_empty() => Err(Status::method_not_allowed()),
        ("get", "" | "status") => get(&call, &kind),
        ("list", "") => list(&call, &kind),
        ("watch", "") => watch(&call, kind),
        ("create", "") => create(call, kind).await,
        ("update", "" | "status") => update(call, kind).await,
        ("patch", "" | "status") => patch::answer(call, kind).await,
        ("get" | "update" | "patch", "scale") => scale::answer(call, kind).await,
        ("delete", "") => delete(call, kind).await,
        ("deletecollection", "") => delete_collection(call, kind).await,
        ("get", "log") => logs::answer(&call, &kind),
        ("get" | "create", "portforward") => portforward::answer(call, &kind),
        ("create", "eviction" | "binding" | "token") => actions::answer(call, kind).await,
        ("update", "finalize") => actions::finalize(call, kind).await,
        _ => Err(Status::not_played(&seen.verb, &seen.path)),
    }
}

fn selector(call: &Call, kind: &Resource) -> Result<Selector, Status> {
    Selector::parse(kind, call.query.get("labelSelector"), call.query.get("fieldSelector"))
}

fn get(call: &Call, kind: &Arc<Resource>) -> Result<Answer, Status> {
    let seen = &call.seen;
    let object = call.api.store.get(&kind.id(), &seen.namespace, &seen.name).ok_or_else(|| Status::not_found(kind, &seen.name))?;
    Ok(answer::json(200, &Format::of(call, kind).one(kind, &object, true)))
}

fn watch(call: &Call, kind: Arc<Resource>) -> Result<Answer, Status> {
    let mut selector = selector(call, &kind)?;
    if !call.seen.name.is_empty() {
        selector = selector.named(&call.seen.name);
    }
    watch::answer(call, kind, selector)
}

fn list(call: &Call, kind: &Arc<Resource>) -> Result<Answer, Status> {
    let selector = selector(call, kind)?;
    let (objects, version) = call.api.store.list_at(&kind.id(), &call.seen.namespace);
    let asked = call.query.get("resourceVersion");
    let since = if asked.is_empty() { Ok(0) } else { asked.parse() };
    let since = since.map_err(|_| {
        let why = format!("Invalid value: {asked:?}: strconv.ParseUint: parsing {asked:?}: invalid syntax");
        Status::bad_request(format!("invalid resource version: resourceVersion: {why}"))
    })?;
    watch::too_large(since, version)?;
    let mut found: Vec<&Value> = objects.iter().map(|o| &**o).filter(|o| selector.matches(o)).collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if kind.custom() {
        metadata["continue"] = "".into();
    }
    let continued = call.query.get("continue");
    if !continued.is_empty() {
        let (ns, own) = page(continued).ok_or_else(|| Status::bad_request("invalid continue token: continue key is not valid"))?;
        found.retain(|o| (namespace(o), name(o)) > (&ns, &own));
    }
    let limit = call.query.number("limit").and_then(|l| usize::try_from(l).ok()).unwrap_or(0);
    if limit > 0 && found.len() > limit {
        // With a selector the real server would have to read the rest to know.
        if call.query.get("labelSelector").is_empty() && call.query.get("fieldSelector").is_empty() {
            metadata["remainingItemCount"] = (found.len() - limit).into();
        }
        found.truncate(limit);
        let last = found.last().map(|o| json!([namespace(o), name(o)]).to_string()).unwrap_or_default();
        metadata["continue"] = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(last).into();
    }
    Ok(answer::json(200, &Format::of(call, kind).list(kind, &found, metadata)))
}

fn page(token: &str) -> Option<(String, String)> {
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

/// Reads the whole body.
pub(super) async fn body(call: &mut Call) -> Result<Vec<u8>, Status> {
    let limited = Limited::new(call.request.body_mut(), BODY_LIMIT);
    let read =
        limited.collect().await.map_err(|_| Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {BODY_LIMIT}")))?;
    Ok(read.to_bytes().to_vec())
}

/// Reads a JSON or YAML body.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Status> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Status::bad_request("the object provided is unrecognized: not UTF-8"))?;
    serde_saphyr::from_str(text).map_err(|e| Status::bad_request(format!("error parsing the body: {e}")))
}

/// Reads a JSON, YAML or protobuf body.
pub(super) fn parse_any(bytes: &[u8]) -> Result<Value, Status> {
    if bytes.starts_with(b"k8s\0") { proto::decode(bytes) } else { parse(bytes) }
}

fn media_type(call: &Call) -> Result<(), Status> {
    let media = call.header(http::header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    if matches!(media, "" | "application/json" | "application/yaml" | "application/vnd.kubernetes.protobuf") {
        return Ok(());
    }
    let message = "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    Err(Status::new(415, "UnsupportedMediaType", message))
}

/// Checks kind, version, namespace and name of a sent object and fills in what is missing.
pub(super) fn settle(call: &Call, kind: &Resource, mut object: Value) -> Result<Value, Status> {
    let expected = kind.api_version(&call.seen.version);
    if !object.is_object() {
        return Err(Status::bad_request("the object provided is unrecognized (must be of type object)"));
    }
    let (sent_kind, sent_version) = (text(&object, "/kind"), text(&object, "/apiVersion"));
    if !sent_kind.is_empty() && sent_kind != kind.kind {
        let (group, version) = sent_version.split_once('/').unwrap_or(("", sent_version));
        let what =
            if group.is_empty() { format!("{sent_kind} in version {version:?}") } else { format!("{sent_kind}.{group} in version {version:?}") };
        return Err(Status::bad_request(format!("{what} cannot be handled as a {}: unexpected kind", kind.kind)));
    }
    if !sent_version.is_empty() && sent_version != expected {
        let message = format!("the API version in the data ({sent_version}) does not match the expected API version ({expected})");
        return Err(Status::bad_request(message));
    }
    object["kind"] = kind.kind.clone().into();
    object["apiVersion"] = kind.storage_version().into();
    let sent = namespace(&object).to_owned();
    if kind.namespaced && !sent.is_empty() && sent != call.seen.namespace {
        return Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
    }
    if !call.seen.name.is_empty() && !name(&object).is_empty() && name(&object) != call.seen.name {
        let message = format!("the name of the object ({}) does not match the name on the URL ({})", name(&object), call.seen.name);
        return Err(Status::bad_request(message));
    }
    let metadata = crate::sandbox::store::meta::metadata(&mut object);
    if kind.namespaced {
        metadata.insert("namespace".into(), call.seen.namespace.clone().into());
    }
    if !call.seen.name.is_empty() {
        metadata.insert("name".into(), call.seen.name.clone().into());
    }
    Ok(object)
}

/// A sent object after decoding.
pub(super) struct Decoded {
    pub(super) object: Value,
    /// Paths of the fields that were dropped because the kind does not have them.
    pub(super) unknown: Vec<String>,
}

/// Drops what the kind does not have; refuses wrong types, and unknown fields where `fieldValidation=Strict` asks for it.
pub(super) fn decode(call: &Call, kind: &Resource, object: Value) -> Result<Decoded, Status> {
    let decoded = decode_any(call, kind, object)?;
    refuse_unknown(call, kind, &decoded.unknown)?;
    Ok(decoded)
}

/// The same, with unknown fields whatever `fieldValidation` says.
pub(super) fn decode_any(call: &Call, kind: &Resource, mut object: Value) -> Result<Decoded, Status> {
    let findings = check::decode(kind, &call.seen.version, &mut object)?;
    Ok(Decoded { object, unknown: findings.unknown })
}

pub(super) fn refuse_unknown(call: &Call, kind: &Resource, unknown: &[String]) -> Result<(), Status> {
    if unknown.is_empty() || call.query.get("fieldValidation") != "Strict" {
        return Ok(());
    }
    Err(check::strict(kind, &call.seen.version, unknown))
}

/// What the real server tells about a new object.
pub(super) fn warn_created(kind: &Resource, object: &Value, answer: &mut Answer) {
    let class = object.pointer("/metadata/annotations").and_then(|annotations| annotations.get("kubernetes.io/ingress.class"));
    if kind.id() == "ingresses.networking.k8s.io" && class.is_some() {
        answer::warn(answer, "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead");
    }
}

/// Is there a form that the client takes?
fn acceptable(call: &Call) -> Result<(), Status> {
    let accept = call.header(http::header::ACCEPT);
    let known = |part: &str| ["json", "yaml", "protobuf", "*/*", "application/*"].iter().any(|form| part.contains(form));
    if accept.is_empty() || !call.seen.subresource.is_empty() || accept.split(',').any(known) {
        return Ok(());
    }
    let forms = "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    let mut status = Status::new(406, "NotAcceptable", format!("406: Not Acceptable\n\nAvailable representations: {forms}"));
    status.details = Some(Box::new(json!({})));
    Err(status)
}

/// Are the call's own options right?
fn options(call: &Call) -> Result<(), Status> {
    let kind = match call.seen.verb.as_str() {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        "delete" | "deletecollection" => "DeleteOptions",
        _ => return Ok(()),
    };
    let asked: Vec<&str> = call.query.all("dryRun").filter(|v| !v.is_empty()).collect();
    if asked.iter().all(|v| *v == "All") {
        return Ok(());
    }
    Err(Status::invalid_options(kind, &Cause::unsupported("dryRun", &json!(asked), &["All"])))
}

pub(super) fn write(call: &Call, part: Part) -> Write {
    Write { user: Some(call.user.clone()), dry_run: call.query.dry_run(), part }
}

async fn create(mut call: Call, kind: Arc<Resource>) -> Result<Answer, Status> {
    media_type(&call)?;
    let object = parse_any(&body(&mut call).await?)?;
    if kind.namespaced && call.seen.namespace.is_empty() {
        call.seen.namespace = namespace(&object).to_owned();
        return Err(Status::bad_request("an empty namespace may not be set during creation"));
    }
    let Decoded { mut object, unknown } = decode(&call, &kind, settle(&call, &kind, object)?)?;
    if name(&object).is_empty() && text(&object, "/metadata/generateName").is_empty() {
        let cause = Cause::required("metadata.name", "name or generateName is required");
        return Err(Status::invalid(&kind, "", &[cause]));
    }
    if !text(&object, "/metadata/resourceVersion").is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    // A new object of a kind with a status subresource starts without one.
    if let (true, Some(map)) = (kind.has("status"), object.as_object_mut()) {
        map.shift_remove("status");
    }
    managed::track(&kind, &call.seen.version, None, &mut object, &patch::field_manager(&call), "");
    let stored = call.api.store.create_with(&kind.id(), object, &write(&call, Part::Whole))?;
    let mut answer = answer::json(201, &Format::of(&call, &kind).one(&kind, &stored, true));
    warn_created(&kind, &stored, &mut answer);
    patch::warn_unknown(&call, &mut answer, &unknown);
    Ok(answer)
}

async fn update(mut call: Call, kind: Arc<Resource>) -> Result<Answer, Status> {
    media_type(&call)?;
    let sent = parse_any(&body(&mut call).await?)?;
    let Decoded { mut object, unknown } = decode(&call, &kind, settle(&call, &kind, sent)?)?;
    let seen = &call.seen;
    let part = if seen.subresource == "status" { Part::Status } else { Part::Main };
    let old = call.api.store.get(&kind.id(), &seen.namespace, &seen.name);
    if kind.custom() && old.is_some() && text(&object, "/metadata/resourceVersion").is_empty() {
        let mut status =
            Status::invalid(&kind, &seen.name, &[Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update")]);
        status.message = status.message.replacen(&format!("{}.{}", kind.kind, kind.group), &kind.id(), 1);
        if let Some(details) = &mut status.details {
            details["kind"] = kind.plural.clone().into();
        }
        return Err(status);
    }
    managed::track(&kind, &seen.version, old.as_deref(), &mut object, &patch::field_manager(&call), &seen.subresource);
    let stored = call.api.store.update_with(&kind.id(), object, &write(&call, part))?;
    let mut answer = answer::json(200, &Format::of(&call, &kind).one(&kind, &stored, true));
    patch::warn_unknown(&call, &mut answer, &unknown);
    Ok(answer)
}

pub(super) fn deletion(call: &Call, options: &Value) -> Result<Deletion, Status> {
    let policy = match text(options, "/propagationPolicy") {
        "" => call.query.get("propagationPolicy"),
        set => set,
    };
    let propagation = match policy {
        "" | "Background" => Propagation::Background,
        "Foreground" => Propagation::Foreground,
        "Orphan" => Propagation::Orphan,
        other => {
            let cause = Cause::unsupported("propagationPolicy", &json!(other), &["Foreground", "Background", "Orphan", "nil"]);
            return Err(Status::invalid_options("DeleteOptions", &cause));
        }
    };
    let dry_run = call.query.dry_run() || options["dryRun"].as_array().is_some_and(|d| d.iter().any(|v| v == "All"));
    let own = |pointer: &str| options.pointer(pointer).and_then(Value::as_str).filter(|v| !v.is_empty());
    Ok(Deletion {
        user: Some(call.user.clone()),
        dry_run,
        propagation,
        grace_seconds: options["gracePeriodSeconds"].as_i64().or(call.query.number("gracePeriodSeconds")),
        uid: own("/preconditions/uid").map(str::to_owned),
        version: own("/preconditions/resourceVersion").and_then(|v| v.parse().ok()),
    })
}

async fn delete(mut call: Call, kind: Arc<Resource>) -> Result<Answer, Status> {
    let bytes = body(&mut call).await?;
    let options = if bytes.is_empty() { Value::Null } else { parse_any(&bytes)? };
    let deletion = deletion(&call, &options)?;
    let seen = &call.seen;
    Ok(match call.api.store.delete_with(&kind.id(), &seen.namespace, &seen.name, &deletion)? {
        Deleted::Pending(object) => answer::json(200, &Format::of(&call, &kind).one(&kind, &object, true)),
        Deleted::Gone(object) if matches!(kind.plural.as_str(), "pods" | "services" | "serviceaccounts" | "persistentvolumeclaims") => {
            answer::json(200, &Format::of(&call, &kind).one(&kind, &object, true))
        }
        Deleted::Gone(object) => {
            let mut details = json!({"name": name(&object)});
            if !kind.group.is_empty() {
                details["group"] = kind.group.clone().into();
            }
            details["kind"] = kind.plural.clone().into();
            details["uid"] = uid(&object).into();
            answer::json(200, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}))
        }
    })
}

async fn delete_collection(mut call: Call, kind: Arc<Resource>) -> Result<Answer, Status> {
    let bytes = body(&mut call).await?;
    let options = if bytes.is_empty() { Value::Null } else { parse_any(&bytes)? };
    let deletion = deletion(&call, &options)?;
    let selector = selector(&call, &kind)?;
    let store = &call.api.store;
    let (objects, version) = store.list_at(&kind.id(), &call.seen.namespace);
    let found: Vec<&Value> = objects.iter().map(|o| &**o).filter(|o| selector.matches(o)).collect();
    for object in &found {
        match store.delete_with(&kind.id(), namespace(object), name(object), &deletion) {
            Err(status) if status.code != 404 => return Err(status),
            _ => {}
        }
    }
    Ok(answer::json(200, &Format::of(&call, &kind).list(&kind, &found, json!({"resourceVersion": version.to_string()}))))
}
