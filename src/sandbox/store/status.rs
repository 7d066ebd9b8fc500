//! The API server's error answer: reasons, codes and texts as the real one writes them.

use serde_json::{Map, Value, json};

use super::resources::Resource;

/// A failed call, as `kind: Status` describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// The machine-readable word, such as `NotFound`.
    pub reason: &'static str,
    pub message: String,
    /// `details` of the answer, where the real server gives any.
    pub details: Option<Box<Value>>,
    /// Seconds, sent as a `Retry-After` header too.
    pub retry_after: Option<u32>,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.code, self.reason, self.message)
    }
}

impl std::error::Error for Status {}

/// One broken field of an object, part of a 422.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Such as `FieldValueRequired`.
    pub reason: &'static str,
    /// Path of the field, such as `spec.ports[0].port`.
    pub field: String,
    pub message: String,
}

impl Cause {
    /// The field must be set.
    pub fn required(field: impl Into<String>, why: &str) -> Cause {
        let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Cause { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// The field's value is wrong.
    pub fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Cause {
        Cause { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {why}") }
    }

    /// The value is none of the allowed ones.
    pub fn unsupported(field: impl Into<String>, value: &Value, allowed: &[&str]) -> Cause {
        let allowed: Vec<String> = allowed.iter().map(|v| format!("{v:?}")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
        Cause { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    /// The value is there twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Cause {
        Cause { reason: "FieldValueDuplicate", field: field.into(), message: format!("Duplicate value: {value}") }
    }

    /// The field may not be set as it is.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Cause {
        Cause { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {why}") }
    }
}

impl Status {
    /// A failure with no details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status { code, reason, message: message.into(), details: None, retry_after: None }
    }

    fn about(mut self, resource: &Resource, name: &str) -> Status {
        let mut details = Map::new();
        if !name.is_empty() {
            details.insert("name".into(), name.into());
        }
        if !resource.group.is_empty() {
            details.insert("group".into(), resource.group.clone().into());
        }
        details.insert("kind".into(), resource.plural.clone().into());
        self.details = Some(Box::new(details.into()));
        self
    }

    /// 404 of one object.
    pub fn not_found(resource: &Resource, name: &str) -> Status {
        Status::new(404, "NotFound", format!("{} {name:?} not found", resource.id())).about(resource, name)
    }

    /// 404 of a kind that is not served.
    pub fn unknown_resource() -> Status {
        let mut status = Status::new(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::new(json!({})));
        status
    }

    /// 404 of a path below a group that nobody serves: no `Status`, a line of text.
    pub fn page_not_found() -> Status {
        Status::new(404, "", "404 page not found\n")
    }

    /// 405.
    pub fn method_not_allowed() -> Status {
        let mut status = Status::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
        status.details = Some(Box::new(json!({})));
        status
    }

    /// 422 of a call's own options: `DeleteOptions`, `ListOptions`.
    pub fn invalid_options(kind: &str, cause: &Cause) -> Status {
        let mut status = Status::new(422, "Invalid", format!("{kind}.meta.k8s.io \"\" is invalid: {}: {}", cause.field, cause.message));
        let causes = json!([{"reason": cause.reason, "message": cause.message, "field": cause.field}]);
        status.details = Some(Box::new(json!({"group": "meta.k8s.io", "kind": kind, "causes": causes})));
        status
    }

    /// 409 of a delete's precondition, which names the kind in the place of the resource.
    pub fn precondition_failed(resource: &Resource, name: &str, what: &str, asked: &str, found: &str, hint: &str) -> Status {
        let id = if resource.group.is_empty() { resource.kind.clone() } else { format!("{}.{}", resource.kind, resource.group) };
        let why = format!("the {what} in the precondition ({asked}) does not match the {what} in record ({found}). {hint}");
        let mut status = Status::new(409, "Conflict", format!("Operation cannot be fulfilled on {id} {name:?}: {why}")).about(resource, name);
        if let Some(details) = &mut status.details {
            details["kind"] = resource.kind.clone().into();
        }
        status
    }

    /// 409 of a create.
    pub fn already_exists(resource: &Resource, name: &str) -> Status {
        Status::new(409, "AlreadyExists", format!("{} {name:?} already exists", resource.id())).about(resource, name)
    }

    /// 409 of a write with a stale resourceVersion.
    pub fn conflict(resource: &Resource, name: &str) -> Status {
        Status::conflict_because(resource, name, "the object has been modified; please apply your changes to the latest version and try again")
    }

    /// 409 for another reason.
    pub fn conflict_because(resource: &Resource, name: &str, why: &str) -> Status {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.id());
        Status::new(409, "Conflict", message).about(resource, name)
    }

    /// 422 with one cause per broken field.
    pub fn invalid(resource: &Resource, name: &str, causes: &[Cause]) -> Status {
        let kind = if resource.group.is_empty() { resource.kind.clone() } else { format!("{}.{}", resource.kind, resource.group) };
        let texts: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let list = if texts.len() == 1 { texts[0].clone() } else { format!("[{}]", texts.join(", ")) };
        let mut status = Status::new(422, "Invalid", format!("{kind} {name:?} is invalid: {list}")).about(resource, name);
        if let Some(details) = &mut status.details {
            details["kind"] = resource.kind.clone().into();
            details["causes"] = causes.iter().map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field})).collect();
        }
        status
    }

    /// 403; `why` follows `is forbidden: `.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Status {
        let subject = if name.is_empty() { resource.id() } else { format!("{} {name:?}", resource.id()) };
        Status::new(403, "Forbidden", format!("{subject} is forbidden: {why}")).about(resource, name)
    }

    /// 403 of an admission webhook.
    pub fn denied_by_webhook(webhook: &str, why: &str) -> Status {
        Status::new(403, "Forbidden", format!("admission webhook {webhook:?} denied the request: {why}"))
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    /// 401, with the real server's single word.
    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    /// 410 of a list or watch that starts before the kept history.
    pub fn expired(asked: u64, oldest: u64) -> Status {
        Status::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Status {
        Status::new(500, "InternalError", message)
    }

    /// 429 with `Retry-After` seconds.
    pub fn too_many_requests(seconds: u32) -> Status {
        let mut status = Status::new(429, "TooManyRequests", "too many requests, please try again later");
        status.details = Some(Box::new(json!({"retryAfterSeconds": seconds})));
        status.retry_after = Some(seconds);
        status
    }

    /// 501: a call that this server does not play.
    pub fn not_played(verb: &str, path: &str) -> Status {
        Status::new(501, "NotImplemented", format!("the sandbox does not play this call: {verb} {path}"))
    }

    /// The answer's body.
    pub fn body(&self) -> Value {
        let mut body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message});
        // Some refusals of the real server have no word for machines.
        if !self.reason.is_empty() {
            body["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            body["details"] = (**details).clone();
        }
        body["code"] = self.code.into();
        body
    }
}
