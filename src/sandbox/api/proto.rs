//! Protobuf bodies: Go clients with compiled-in types send them without being asked, helm for its releases for one.
//! Field names come from a table, everything else from the published schemas. Answers are always JSON.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::sandbox::schema::{self, Schema};
use crate::sandbox::store::Status;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
/// Plain Go values that are always on the wire: zero means unset.
const UNSET_WHEN_ZERO: &[&str] = &[
    "availableReplicas",
    "collisionCount",
    "containerPort",
    "count",
    "failureThreshold",
    "generation",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "minReadySeconds",
    "nodePort",
    "observedGeneration",
    "paused",
    "periodSeconds",
    "port",
    "publishNotReadyAddresses",
    "stdin",
    "stdinOnce",
    "successThreshold",
    "tty",
];
/// Plain Go structs that are always on the wire: empty means unset.
const UNSET_WHEN_EMPTY: &[&str] = &["loadBalancer", "resources", "status", "strategy", "updateStrategy"];

fn messages() -> &'static HashMap<&'static str, Vec<&'static str>> {
    static MESSAGES: OnceLock<HashMap<&'static str, Vec<&'static str>>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let lines = include_str!("proto/messages.txt").lines().filter(|line| !line.starts_with('#'));
        let rows = lines.filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.collect()))
        });
        rows.collect()
    })
}

/// Reads a body that begins with `k8s\0`.
///
/// # Errors
/// 415 for a kind without a table, 400 for a broken body.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, Status> {
    let broken = || Status::bad_request("the protobuf body is cut short");
    let envelope = message(bytes.get(4..).unwrap_or_default()).ok_or_else(broken)?;
    let part = |number: u64| envelope.iter().find(|(n, _)| *n == number).map_or(&[][..], |(_, v)| v.bytes());
    let meta = message(part(1)).ok_or_else(broken)?;
    let word = |number: u64| meta.iter().find(|(n, _)| *n == number).map(|(_, v)| v.text()).unwrap_or_default();
    let (api_version, kind) = (word(1), word(2));
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let name = if kind == "DeleteOptions" { format!("{META}DeleteOptions") } else { schema::root(group, &kind).unwrap_or_default().to_owned() };
    let (Some(row), Some(schema)) = (messages().get(name.as_str()), Schema::named(&name)) else {
        let message = format!("the sandbox reads {api_version} {kind} as JSON only, not as application/vnd.kubernetes.protobuf");
        return Err(Status::new(415, "UnsupportedMediaType", message));
    };
    let mut out = json!({"kind": kind, "apiVersion": api_version});
    object(row, schema, part(2), out.as_object_mut().ok_or_else(broken)?).ok_or_else(broken)?;
    Ok(out)
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Wire::Bytes(bytes) => bytes,
            Wire::Number(_) => &[],
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    fn number(&self) -> i64 {
        match self {
            Wire::Number(n) => n.cast_signed(),
            Wire::Bytes(_) => 0,
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn message(mut bytes: &[u8]) -> Option<Vec<(u64, Wire<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let wire = match tag & 7 {
            0 => Wire::Number(varint(&mut bytes)?),
            wide @ (1 | 5) => {
                let (value, rest) = bytes.split_at_checked(if wide == 1 { 8 } else { 4 })?;
                bytes = rest;
                Wire::Bytes(value)
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Wire::Bytes(value)
            }
            _ => return None,
        };
        fields.push((tag >> 3, wire));
    }
    Some(fields)
}

fn object(row: &[&str], schema: Schema<'_>, bytes: &[u8], out: &mut Map<String, Value>) -> Option<()> {
    for (number, wire) in message(bytes)? {
        let Some(name) = usize::try_from(number).ok().and_then(|n| row.get(n.checked_sub(1)?)) else { continue };
        if let Some((_, inner)) = name.split_once('=') {
            if let Some(row) = messages().get(inner) {
                object(row, schema, wire.bytes(), out)?;
            }
            continue;
        }
        let Some(field) = schema.field(name) else { continue };
        match field.kind() {
            "array" => {
                let item = value(field.items(), &wire)?;
                if let Value::Array(items) = out.entry(*name).or_insert_with(|| json!([])) {
                    items.push(item);
                }
            }
            "object" if field.type_name().is_empty() && !field.open() => {
                let entry = message(wire.bytes())?;
                let key = entry.iter().find(|(n, _)| *n == 1).map(|(_, v)| v.text()).unwrap_or_default();
                let empty = Wire::Bytes(&[]);
                let inner = entry.iter().find(|(n, _)| *n == 2).map_or(&empty, |(_, v)| v);
                if let Value::Object(map) = out.entry(*name).or_insert_with(|| json!({})) {
                    map.insert(key.clone(), value(field.field(&key)?, inner)?);
                }
            }
            _ => {
                let value = value(field, &wire)?;
                let unset = value.is_null()
                    || value == ""
                    || (value == 0 || value == false) && UNSET_WHEN_ZERO.contains(name)
                    || value.as_object().is_some_and(Map::is_empty) && UNSET_WHEN_EMPTY.contains(name);
                if !unset {
                    out.insert((*name).to_owned(), value);
                }
            }
        }
    }
    Some(())
}

fn value(schema: Schema<'_>, wire: &Wire<'_>) -> Option<Value> {
    let part = |number: u64| -> Option<Wire<'_>> { message(wire.bytes())?.into_iter().find(|(n, _)| *n == number).map(|(_, v)| v) };
    Some(match (schema.type_name(), schema.kind()) {
        ("Quantity", _) => part(1).map_or(Value::Null, |v| v.text().into()),
        ("IntOrString", _) if part(1).is_some_and(|kind| kind.number() == 1) => part(3).map_or(Value::Null, |v| v.text().into()),
        ("IntOrString", _) => part(2).map_or(0, |v| v.number()).into(),
        ("Time" | "MicroTime", _) => time(wire)?,
        ("FieldsV1" | "RawExtension", _) => part(1).and_then(|raw| serde_json::from_slice(raw.bytes()).ok()).unwrap_or_default(),
        (_, "string") => match schema.keyword("format").and_then(Value::as_str) {
            Some("byte") => base64::engine::general_purpose::STANDARD.encode(wire.bytes()).into(),
            Some("date-time") => time(wire)?,
            _ => wire.text().into(),
        },
        (_, "integer") => wire.number().into(),
        (_, "boolean") => (wire.number() != 0).into(),
        (name, _) => {
            let mut out = Map::new();
            let row = messages().iter().find(|(full, _)| schema.is_named(full)).map(|(_, row)| row);
            match row {
                Some(row) => object(row, schema, wire.bytes(), &mut out)?,
                None if name.is_empty() => return Some(serde_json::from_slice(wire.bytes()).unwrap_or_default()),
                None => {}
            }
            out.into()
        }
    })
}

fn time(wire: &Wire<'_>) -> Option<Value> {
    let fields = message(wire.bytes())?;
    let number = |n: u64| fields.iter().find(|(f, _)| *f == n).map_or(0, |(_, v)| v.number());
    if fields.is_empty() || number(1) <= 0 {
        return Some(Value::Null);
    }
    let at = Timestamp::new(number(1), i32::try_from(number(2)).ok()?).ok()?;
    Some(at.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(inner.len()).unwrap()];
        out.extend(inner);
        out
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [b"k8s\0".to_vec(), field(1, &meta), field(2, raw)].concat()
    }

    #[test]
    fn a_secret_is_read() {
        let labels = field(11, &[field(1, b"owner"), field(2, b"helm")].concat());
        let metadata = [field(1, b"r1"), field(3, b""), labels].concat();
        let raw = [field(1, &metadata), field(2, &[field(1, b"release"), field(2, b"data")].concat()), field(3, b"helm.sh/release.v1")].concat();
        let wanted = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "r1", "labels": {"owner": "helm"}},
            "data": {"release": "ZGF0YQ=="}, "type": "helm.sh/release.v1"});
        assert_eq!(decode(&body("v1", "Secret", &raw)).unwrap(), wanted);
    }

    #[test]
    fn nested_and_inlined_messages_are_read() {
        let port = [vec![8, 0], field(3, b"http")].concat();
        let probe = field(1, &field(2, &[field(1, b"/ready"), field(2, &[vec![8, 1], field(3, b"http")].concat())].concat()));
        let container = [field(1, b"c"), field(2, b"img:1"), field(6, &port), field(10, &probe)].concat();
        let template = field(3, &field(2, &field(2, &container)));
        let raw = field(2, &[vec![8, 3], template].concat());
        let decoded = decode(&body("apps/v1", "Deployment", &raw)).unwrap();
        assert_eq!(decoded["spec"]["replicas"], 3);
        let container = &decoded["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(
            (container["image"].as_str(), &container["livenessProbe"]),
            (Some("img:1"), &json!({"httpGet": {"path": "/ready", "port": "http"}}))
        );
        assert_eq!(decode(&body("x/v1", "Odd", b"")).unwrap_err().code, 415);
        assert_eq!(decode(b"k8s\0\x0a\x09").unwrap_err().code, 400);
    }
}
