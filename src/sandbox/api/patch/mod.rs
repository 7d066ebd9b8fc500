//! PATCH: which kind of patch it is, and the object that comes of it.

mod apply;
mod fields;
mod json;
pub(super) mod managed;
mod merge;
mod strategic;

use std::sync::Arc;

use http::header;
use serde_json::Value;

use super::answer::{self, Answer};
use super::format::Format;
use super::objects::{Decoded, body, decode, decode_any, parse, refuse_unknown, settle, warn_created, write};
use super::serve::Call;
use crate::sandbox::schema::Schema;
use crate::sandbox::store::meta::version;
use crate::sandbox::store::{Cause, Part, Resource, Status};

enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    fn carry_out(&self, kind: &Resource, served: &str, object: &mut Value) -> Result<(), Status> {
        match self {
            Patch::Json(patch) => json::apply(object, patch),
            Patch::Merge(patch) => {
                merge::apply(object, patch);
                Ok(())
            }
            Patch::Strategic(patch) => {
                let schema = Schema::of(kind, served).ok_or_else(|| Status::internal("no schema"))?;
                strategic::apply(schema, object, patch)
            }
        }
    }
}

/// Who writes: the `fieldManager`, else the first word of the user agent.
pub(super) fn field_manager(call: &Call) -> String {
    match call.query.get("fieldManager") {
        "" => match call.header(header::USER_AGENT).split('/').next().unwrap_or_default() {
            "" => "unknown".to_owned(),
            agent => agent.to_owned(),
        },
        named => named.to_owned(),
    }
}

fn unsupported(kind: &Resource) -> Status {
    let mut types = vec!["application/json-patch+json", "application/merge-patch+json"];
    if !kind.custom() {
        types.push("application/strategic-merge-patch+json");
    }
    types.push("application/apply-patch+yaml");
    let message = format!("the body of the request was in an unknown format - accepted media types include: {}", types.join(", "));
    Status::new(415, "UnsupportedMediaType", message)
}

/// Answers a PATCH of an object or its status.
pub(super) async fn answer(mut call: Call, kind: Arc<Resource>) -> Result<Answer, Status> {
    let media = call.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_owned();
    let bytes = body(&mut call).await?;
    let patch = match media.as_str() {
        "application/apply-patch+yaml" => return server_side(&call, &kind, parse(&bytes)?),
        "application/json-patch+json" => Patch::Json(parse(&bytes)?),
        "application/merge-patch+json" => Patch::Merge(parse(&bytes)?),
        "application/strategic-merge-patch+json" if !kind.custom() => Patch::Strategic(parse(&bytes)?),
        "application/strategic-merge-patch+json" => return Err(unsupported(&kind)),
        _ => {
            let mut status = Status::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
            status.details = Some(Box::new(serde_json::json!({})));
            return Err(status);
        }
    };
    let seen = &call.seen;
    let part = if seen.subresource == "status" { Part::Status } else { Part::Main };
    let manager = field_manager(&call);
    let mut unknown = Vec::new();
    let stored = call.api.store.modify_with(&kind.id(), &seen.namespace, &seen.name, &write(&call, part), |object| {
        let before = object.clone();
        object["apiVersion"] = kind.api_version(&seen.version).into();
        patch.carry_out(&kind, &seen.version, object)?;
        *object = settle(&call, &kind, std::mem::take(object))?;
        if version(object) != version(&before) {
            return Err(Status::conflict(&kind, &seen.name));
        }
        let Decoded { object: decoded, unknown: found } = decode(&call, &kind, std::mem::take(object))?;
        *object = decoded;
        unknown = found;
        managed::track(&kind, &seen.version, Some(&before), object, &manager, &seen.subresource);
        Ok(())
    })?;
    let mut answer = answer::json(200, &Format::of(&call, &kind).one(&kind, &stored, true));
    warn_unknown(&call, &mut answer, &unknown);
    Ok(answer)
}

/// Tells about dropped fields unless they are to be ignored.
pub(super) fn warn_unknown(call: &Call, answer: &mut Answer, unknown: &[String]) {
    if call.query.get("fieldValidation") != "Ignore" {
        for path in unknown {
            answer::warn(answer, &format!("unknown field \"{path}\""));
        }
    }
}

fn server_side(call: &Call, kind: &Arc<Resource>, config: Value) -> Result<Answer, Status> {
    let seen = &call.seen;
    let name = call.query.get("fieldManager");
    if name.is_empty() {
        return Err(Status::invalid_options("PatchOptions", &Cause::required("fieldManager", "is required for apply patch")));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let sent = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, sent_kind) = (sent("/apiVersion"), sent("/kind"));
    let typed = format!("{}, Kind={sent_kind}", if api_version.contains('/') { api_version.clone() } else { format!("/{api_version}") });
    if api_version.is_empty() || sent_kind.is_empty() {
        return Err(Status::bad_request(format!("invalid object type: {typed}")));
    }
    let expected = version(&config);
    let sent_name = format!("{}/{}", sent("/metadata/namespace"), sent("/metadata/name"));
    let Decoded { object: config, unknown } = decode_any(call, kind, settle(call, kind, config)?)?;
    // Unlike other writes, an apply of a built-in kind needs every field to be known, whatever fieldValidation says.
    if let (Some(path), false) = (unknown.first(), kind.custom()) {
        let message = format!("failed to create typed patch object ({sent_name}; {typed}): .{path}: field not declared in schema");
        return Err(Status::new(500, "", message));
    }
    refuse_unknown(call, kind, &unknown)?;
    let manager = managed::Manager {
        name: name.to_owned(),
        operation: "Apply",
        api_version: kind.api_version(&seen.version),
        subresource: seen.subresource.clone(),
    };
    let store = &call.api.store;
    let status = seen.subresource == "status";
    let (code, stored) = loop {
        if store.get(&kind.id(), &seen.namespace, &seen.name).is_none() {
            if status || expected != 0 {
                return Err(Status::not_found(kind, &seen.name));
            }
            let fresh = apply::fresh(kind, &seen.version, &config, &manager);
            match store.create_with(&kind.id(), fresh, &write(call, Part::Whole)) {
                Err(status) if status.reason == "AlreadyExists" => continue,
                created => break (201, created?),
            }
        }
        let part = if status { Part::Status } else { Part::Main };
        let changed = store.modify_with(&kind.id(), &seen.namespace, &seen.name, &write(call, part), |object| {
            if expected != 0 && expected != version(object) {
                return Err(Status::conflict(kind, &seen.name));
            }
            *object = apply::apply(kind, &seen.version, object, &config, &manager, call.query.on("force"))?;
            Ok(())
        });
        break (200, changed?);
    };
    let mut answer = answer::json(code, &Format::of(call, kind).one(kind, &stored, true));
    if code == 201 {
        warn_created(kind, &stored, &mut answer);
    }
    warn_unknown(call, &mut answer, &unknown);
    Ok(answer)
}
