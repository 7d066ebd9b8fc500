//! Quotas of a namespace: counted from its pods at each new one.

use serde_json::Value;

use super::quantity::{asked, printed, thousandths};
use crate::sandbox::controllers::PODS;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, name, text};

/// Why no quota has room for this pod: what follows `is forbidden: `.
pub(super) fn check(sim: &Sim, namespace: &str, pod: &Value) -> Result<(), String> {
    for quota in sim.store.list("resourcequotas", namespace) {
        let hard = quota.pointer("/spec/hard").and_then(Value::as_object);
        let limits: Vec<(&str, &Value)> =
            hard.into_iter().flatten().map(|(key, value)| (key.as_str(), value)).filter(|(key, _)| is_known(key)).collect();
        let missing: Vec<&str> = limits.iter().map(|(key, _)| *key).filter(|key| !gives(pod, key)).collect();
        if !missing.is_empty() {
            let names: Vec<&str> = list(pod, "/spec/containers").iter().map(|c| text(c, "/name")).collect();
            let each: Vec<String> = missing.iter().map(|key| format!("{key} for: {}", names.join(","))).collect();
            return Err(format!("failed quota: {}: must specify {}", name(&quota), each.join("; ")));
        }
        let present: Vec<_> =
            sim.store.list(PODS, namespace).into_iter().filter(|pod| !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")).collect();
        let exceeded: Vec<(&str, i128, i128, i128)> = limits
            .iter()
            .map(|(key, limit)| (*key, wants(pod, key), present.iter().map(|pod| wants(pod, key)).sum::<i128>(), thousandths(limit)))
            .filter(|(_, wanted, used, limit)| *wanted > 0 && used + wanted > *limit)
            .collect();
        if !exceeded.is_empty() {
            let told = |pick: fn(&(&str, i128, i128, i128)) -> i128| {
                exceeded.iter().map(|one| format!("{}={}", one.0, printed(pick(one), one.0))).collect::<Vec<_>>().join(",")
            };
            let (requested, used, limited) = (told(|one| one.1), told(|one| one.2), told(|one| one.3));
            return Err(format!("exceeded quota: {}, requested: {requested}, used: {used}, limited: {limited}", name(&quota)));
        }
    }
    Ok(())
}

/// `cpu` and `memory` alone mean requests.
fn parts(key: &str) -> (&str, &str) {
    key.split_once('.').unwrap_or(("requests", key))
}

fn is_known(key: &str) -> bool {
    matches!(key, "pods" | "count/pods" | "cpu" | "memory" | "requests.cpu" | "requests.memory" | "limits.cpu" | "limits.memory")
}

fn wants(pod: &Value, key: &str) -> i128 {
    if key.ends_with("pods") {
        return 1000;
    }
    let (which, resource) = parts(key);
    asked(pod, which, resource)
}

fn gives(pod: &Value, key: &str) -> bool {
    let (which, resource) = parts(key);
    let of = |container: &Value| {
        let resources = &container["resources"];
        !resources[which][resource].is_null() || which == "requests" && !resources["limits"][resource].is_null()
    };
    key.ends_with("pods") || list(pod, "/spec/containers").iter().all(of)
}
