//! What a cleanup may take away and in which order, what holds it up, and what it leaves behind.

pub mod foreign;
pub mod left;
pub mod namespace;
pub mod order;
pub mod stuck;

use serde_json::Value;

/// How a person names an object: `VirtualService app1 in istio-system`.
pub fn title(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match text("/metadata/namespace") {
        "" => format!("{} {}", text("/kind"), text("/metadata/name")),
        namespace => format!("{} {} in {namespace}", text("/kind"), text("/metadata/name")),
    }
}
