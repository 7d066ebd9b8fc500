//! What decoding a sent object finds: unknown fields, wrong types; and dropping what the real server drops.

use serde_json::Value;

use super::Schema;
use crate::sandbox::store::{Cause, Resource, Status};

/// What became of a sent object.
#[derive(Debug, Default, PartialEq)]
pub(in crate::sandbox) struct Findings {
    /// Paths of fields that the kind does not have; they were dropped.
    pub(in crate::sandbox) unknown: Vec<String>,
    wrong: Vec<Wrong>,
}

#[derive(Debug, PartialEq)]
struct Wrong {
    /// Such as `DeploymentSpec.spec.replicas`, with its type's name in front.
    owner: String,
    path: String,
    is: Value,
    wanted: String,
}

/// Drops nulls and unknown fields and reports what is wrong.
///
/// # Errors
/// 400 (built-in) or 422 (custom) for a value of a wrong type.
pub(in crate::sandbox) fn decode(kind: &Resource, version: &str, object: &mut Value) -> Result<Findings, Status> {
    let mut findings = Findings::default();
    let Some(schema) = Schema::of(kind, version) else { return Ok(findings) };
    let Some(map) = object.as_object_mut() else { return Ok(findings) };
    let keys: Vec<String> = map.keys().cloned().collect();
    for key in keys {
        let field = match key.as_str() {
            "kind" | "apiVersion" => continue,
            "metadata" => Some(Schema::metadata()),
            _ => schema.field(&key),
        };
        member(map, &key, field, "", &kind.kind, &mut findings);
    }
    let Some(wrong) = findings.wrong.first() else { return Ok(findings) };
    if kind.custom() && !wrong.path.starts_with("metadata") {
        let name = crate::sandbox::store::meta::name(object).to_owned();
        let causes: Vec<Cause> = findings.wrong.iter().map(Wrong::cause).collect();
        return Err(Status::invalid(kind, &name, &causes));
    }
    let message = format!(
        "{} in version {version:?} cannot be handled as a {}: json: cannot unmarshal {} into Go struct field {}.{} of type {}",
        kind.kind,
        kind.kind,
        json_type(&wrong.is),
        wrong.owner,
        wrong.path,
        wrong.wanted
    );
    Err(Status::bad_request(message))
}

/// The real server's text for `fieldValidation=Strict`.
pub(in crate::sandbox) fn strict(kind: &Resource, version: &str, unknown: &[String]) -> Status {
    let list: Vec<String> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    let message = format!("{} in version {version:?} cannot be handled as a {}: strict decoding error: {}", kind.kind, kind.kind, list.join(", "));
    Status::bad_request(message)
}

impl Wrong {
    fn cause(&self) -> Cause {
        let is = match &self.is {
            Value::String(_) => "string",
            Value::Number(n) if n.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::Bool(_) => "boolean",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::Null => "null",
        };
        let message = format!("Invalid value: {is:?}: {} in body must be of type {}: {is:?}", self.path, self.wanted);
        Cause { reason: "FieldValueTypeInvalid", field: self.path.clone(), message }
    }
}

fn json_type(value: &Value) -> String {
    match value {
        Value::String(_) => "string".into(),
        Value::Number(n) if n.is_f64() => format!("number {n}"),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "bool".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
        Value::Null => "null".into(),
    }
}

fn member(map: &mut serde_json::Map<String, Value>, key: &str, field: Option<Schema<'_>>, at: &str, owner: &str, findings: &mut Findings) {
    let path = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    let Some(field) = field else {
        findings.unknown.push(path);
        map.shift_remove(key);
        return;
    };
    let Some(value) = map.get_mut(key) else { return };
    let nullable = field.open() || field.keyword("nullable").and_then(Value::as_bool).unwrap_or(false);
    if value.is_null() && !nullable {
        map.shift_remove(key);
        return;
    }
    walk(field, value, &path, owner, findings);
}

fn walk(schema: Schema<'_>, value: &mut Value, path: &str, owner: &str, findings: &mut Findings) {
    if schema.anything() && !schema.int_or_string() || value.is_null() {
        return;
    }
    let own = match schema.type_name() {
        "" => owner,
        name => name,
    };
    let mut wrong = |value: &Value, wanted: &str| {
        findings.wrong.push(Wrong { owner: owner.to_owned(), path: path.to_owned(), is: value.clone(), wanted: wanted.to_owned() });
    };
    if schema.int_or_string() {
        // Quantities may be fractions.
        if !value.is_string() && !value.is_number() {
            wrong(value, "intstr.IntOrString");
        }
        return;
    }
    match (schema.kind(), &mut *value) {
        ("object" | "", Value::Object(map)) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            for key in keys {
                member(map, &key, schema.field(&key), path, own, findings);
            }
        }
        ("array", Value::Array(items)) => {
            for (i, item) in items.iter_mut().enumerate() {
                walk(schema.items(), item, &format!("{path}[{i}]"), own, findings);
            }
        }
        ("integer", Value::Number(n)) if n.is_i64() || n.is_u64() => {}
        ("number", Value::Number(_)) | ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("", _) => {}
        (kind, other) => {
            let other = other.clone();
            let format = schema.keyword("format").and_then(Value::as_str).unwrap_or_default();
            let go = match (kind, format) {
                ("integer", "") | ("integer", "int64") => "integer",
                ("integer", format) => format,
                (kind, _) => kind,
            };
            wrong(&other, if go == "boolean" && !path.is_empty() { "boolean" } else { go });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::store::Store;

    fn deployment(change: impl Fn(&mut Value)) -> (Value, Result<Findings, Status>) {
        let kind = Store::new().resource("deployments.apps").unwrap();
        let mut object = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web", "creationTimestamp": null},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "c", "image": "i",
                "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": "http"}}, "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}]}}}});
        change(&mut object);
        let found = decode(&kind, "v1", &mut object);
        (object, found)
    }

    #[test]
    fn a_good_object_passes_and_nulls_go() {
        let (object, found) = deployment(|_| ());
        assert_eq!(found, Ok(Findings::default()));
        assert!(object["metadata"].get("creationTimestamp").is_none());
    }

    #[test]
    fn unknown_fields_are_named_with_their_place_and_dropped() {
        let (object, found) = deployment(|o| {
            o["spec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = json!("Always");
            o["spec"]["colour"] = json!(1);
        });
        assert_eq!(found.unwrap().unknown, ["spec.template.spec.containers[0].imagePullPolcy", "spec.colour"]);
        assert!(object["spec"].get("colour").is_none());
    }

    #[test]
    fn wrong_types_are_refused_as_the_real_server_refuses_them() {
        let (_, found) = deployment(|o| o["spec"]["replicas"] = json!("three"));
        assert_eq!(
            found.unwrap_err().message,
            "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field \
             DeploymentSpec.spec.replicas of type int32"
        );
    }
}
