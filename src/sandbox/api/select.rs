//! Label and field selectors.

use serde_json::Value;

use crate::sandbox::store::meta::{label, text};
use crate::sandbox::store::{Resource, Status};

#[derive(Clone, Debug, PartialEq)]
enum Term {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

/// Both selectors of a list or watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selector {
    labels: Vec<Term>,
    /// Pointer, value, whether it must be equal.
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`.
    pub(super) fn parse(kind: &Resource, labels: &str, fields: &str) -> Result<Selector, Status> {
        let labels = parse_labels(labels).map_err(|why| Status::bad_request(format!("unable to parse requirement: {why}")))?;
        let mut parsed = Vec::new();
        for part in fields.split(',').filter(|p| !p.is_empty()) {
            let (path, value, equal) = match (part.split_once("!="), part.split_once("==").or_else(|| part.split_once('='))) {
                (Some((path, value)), _) => (path, value, false),
                (None, Some((path, value))) => (path, value, true),
                (None, None) => return Err(Status::bad_request(format!("invalid selector: '{fields}'; can't understand '{part}'"))),
            };
            if !supported(kind, path) {
                if own_fields(kind).is_empty() {
                    let known = "only \"metadata.name\", \"metadata.namespace\"";
                    return Err(Status::bad_request(format!("{path:?} is not a known field selector: {known}")));
                }
                let group = if kind.group.is_empty() { "/v1".to_owned() } else { format!("{}/{}", kind.group, kind.versions[0]) };
                let message = format!(
                    "Unable to find \"{group}, Resource={}\" that match label selector \"\", field selector {fields:?}: field label not supported: {path}",
                    kind.plural
                );
                return Err(Status::bad_request(message));
            }
            parsed.push((format!("/{}", path.replace('.', "/")), value.replace("\\,", ","), equal));
        }
        Ok(Selector { labels, fields: parsed })
    }

    /// Adds `metadata.name=NAME`.
    pub(super) fn named(mut self, name: &str) -> Selector {
        self.fields.push(("/metadata/name".into(), name.to_owned(), true));
        self
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let value = |pointer: &str| match object.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        self.fields.iter().all(|(pointer, wanted, equal)| (value(pointer) == *wanted) == *equal)
            && self.labels.iter().all(|term| match term {
                Term::In(key, values) => label(object, key).is_some_and(|v| values.iter().any(|w| w == v)),
                Term::NotIn(key, values) => !label(object, key).is_some_and(|v| values.iter().any(|w| w == v)),
                Term::Exists(key) => label(object, key).is_some(),
                Term::Missing(key) => label(object, key).is_none(),
            })
    }
}

fn supported(kind: &Resource, path: &str) -> bool {
    if matches!(path, "metadata.name" | "metadata.namespace") {
        return true;
    }
    let listed = list_of(&kind.definition, "/versions");
    own_fields(kind).contains(&path)
        || listed.iter().any(|v| list_of(v, "/selectableFields").iter().any(|f| text(f, "/jsonPath").trim_start_matches('.') == path))
}

/// What a built-in kind can be selected by beside name and namespace.
fn own_fields(kind: &Resource) -> &'static [&'static str] {
    match kind.id().as_str() {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "secrets" => &["type"],
        "namespaces" => &["status.phase"],
        "nodes" => &["spec.unschedulable"],
        "services" => &["spec.clusterIP", "spec.type"],
        "jobs.batch" => &["status.successful"],
        "replicasets.apps" | "replicationcontrollers" => &["status.replicas"],
        _ => &[],
    }
}

fn list_of<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    crate::sandbox::store::meta::list(value, pointer)
}

fn parse_labels(selector: &str) -> Result<Vec<Term>, String> {
    let mut terms = Vec::new();
    for part in split_outside_parentheses(selector) {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        terms.push(parse_term(part)?);
    }
    Ok(terms)
}

fn parse_term(part: &str) -> Result<Term, String> {
    let key = |k: &str| {
        let k = k.trim();
        let good = !k.is_empty() && k.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        if good { Ok(k.to_owned()) } else { Err(format!("invalid label key {k:?}")) }
    };
    if let Some(missing) = part.strip_prefix('!') {
        return Ok(Term::Missing(key(missing)?));
    }
    if let Some((left, values)) = part.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(|| format!("found '{part}', expected: ')'"))?;
        let values = values.split(',').map(|v| v.trim().to_owned()).collect();
        let left = left.trim();
        if let Some(k) = left.strip_suffix(" notin") {
            return Ok(Term::NotIn(key(k)?, values));
        }
        let k = left.strip_suffix(" in").ok_or_else(|| format!("found '{left}', expected: in, notin"))?;
        return Ok(Term::In(key(k)?, values));
    }
    if let Some((k, value)) = part.split_once("!=") {
        return Ok(Term::NotIn(key(k)?, vec![value.trim().to_owned()]));
    }
    if let Some((k, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        if value.trim_start().starts_with('=') {
            return Err("found '=', expected: identifier".to_owned());
        }
        return Ok(Term::In(key(k)?, vec![value.trim().to_owned()]));
    }
    Ok(Term::Exists(key(part)?))
}

fn split_outside_parentheses(selector: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in selector.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&selector[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&selector[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::store::Store;

    #[test]
    fn selectors_match_as_documented() {
        let pod = json!({"metadata": {"name": "a", "labels": {"app": "web", "tier": "front"}}, "spec": {"nodeName": "n1"}});
        let kind = Store::new().resource("pods").unwrap();
        for (labels, fields, wanted) in [
            ("app=web", "", true),
            ("app==web,tier!=back", "", true),
            ("app in (web, api),!canary", "", true),
            ("app notin (web)", "", false),
            ("tier", "spec.nodeName=n1", true),
            ("", "spec.nodeName!=n1", false),
            ("", "metadata.name=a,spec.nodeName==n1", true),
            ("missing!=x", "", true),
        ] {
            assert_eq!(Selector::parse(&kind, labels, fields).unwrap().matches(&pod), wanted, "{labels} {fields}");
        }
        let refused = Selector::parse(&kind, "", "spec.color=red").unwrap_err();
        assert!(refused.message.ends_with("field label not supported: spec.color"), "{}", refused.message);
        assert_eq!(Selector::parse(&kind, "a in b", "").unwrap_err().code, 400);
    }
}
