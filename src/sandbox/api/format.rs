//! How objects are sent: as they are, as their metadata alone, or as rows of a table.

use http::header;
use serde_json::{Value, json};

use super::serve::Call;
use super::table;
use crate::sandbox::store::Resource;

/// What the client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Partial,
    Table,
}

/// What is asked for, and how it is to be sent.
#[derive(Clone, Debug)]
pub(super) struct Format {
    form: Form,
    api_version: String,
    /// Table rows carry: nothing, metadata, or the whole object.
    include: String,
}

impl Format {
    /// From the `Accept` header and the version in the path.
    pub(super) fn of(call: &Call, kind: &Resource) -> Format {
        let accept = call.header(header::ACCEPT);
        let first = accept.split(',').find(|part| part.contains("json") || part.contains("*/*")).unwrap_or_default();
        let form = if first.contains("as=Table") {
            Form::Table
        } else if first.contains("as=PartialObjectMetadata") {
            Form::Partial
        } else {
            Form::Plain
        };
        Format { form, api_version: kind.api_version(&call.seen.version), include: call.query.get("includeObject").to_owned() }
    }

    /// One object in the version that was asked for.
    pub(super) fn versioned(&self, kind: &Resource, object: &Value) -> Value {
        let mut out = serde_json::Map::new();
        out.insert("kind".into(), kind.kind.clone().into());
        out.insert("apiVersion".into(), self.api_version.clone().into());
        for (key, value) in object.as_object().into_iter().flatten().filter(|(k, _)| *k != "kind" && *k != "apiVersion") {
            out.insert(key.clone(), value.clone());
        }
        out.into()
    }

    /// One object as an answer or in a watch event; `header` asks for a table's column names.
    pub(super) fn one(&self, kind: &Resource, object: &Value, header: bool) -> Value {
        match self.form {
            Form::Plain => self.versioned(kind, object),
            Form::Partial => partial(object),
            Form::Table => self.table(kind, std::slice::from_ref(&object), header, json!({"resourceVersion": object["metadata"]["resourceVersion"]})),
        }
    }

    fn table(&self, kind: &Resource, objects: &[&Value], header: bool, metadata: Value) -> Value {
        let (columns, cells) = table::render(kind, objects);
        let rows = objects.iter().zip(cells).map(|(object, cells)| {
            let mut row = json!({"cells": cells});
            match self.include.as_str() {
                "None" => row["object"] = Value::Null,
                "Object" => row["object"] = self.versioned(kind, object),
                _ => row["object"] = partial(object),
            }
            row
        });
        let rows: Vec<Value> = rows.collect();
        let columns = if header { columns } else { Value::Null };
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
    }

    /// A list with its metadata.
    pub(super) fn list(&self, kind: &Resource, objects: &[&Value], metadata: Value) -> Value {
        match self.form {
            Form::Table => self.table(kind, objects, true, metadata),
            Form::Partial => {
                let items: Vec<Value> = objects.iter().map(|o| partial(o)).collect();
                json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
            }
            Form::Plain => {
                // As the real server: items of built-in kinds do not repeat their kind.
                let items = objects.iter().map(|o| {
                    let mut item = self.versioned(kind, o);
                    if let (false, Some(map)) = (kind.custom(), item.as_object_mut()) {
                        map.shift_remove("kind");
                        map.shift_remove("apiVersion");
                    }
                    item
                });
                let items: Vec<Value> = items.collect();
                json!({"kind": kind.list_kind, "apiVersion": self.api_version, "metadata": metadata, "items": items})
            }
        }
    }

    /// The object of a bookmark.
    pub(super) fn bookmark(&self, kind: &Resource, version: u64, annotations: Option<Value>) -> Value {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if let Some(annotations) = annotations {
            metadata["annotations"] = annotations;
        }
        match self.form {
            Form::Table => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version.to_string()},
                "columnDefinitions": null, "rows": [{"cells": [], "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}}]}),
            Form::Partial => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            Form::Plain => json!({"kind": kind.kind, "apiVersion": self.api_version, "metadata": metadata}),
        }
    }
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
