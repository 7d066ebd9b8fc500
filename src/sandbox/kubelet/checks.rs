//! What a pod needs from its namespace before it can start: ConfigMaps and Secrets, as volumes and in the environment.

use std::sync::Arc;

use serde_json::Value;

use crate::sandbox::controllers::{CONFIG_MAPS, SECRETS};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, namespace, text};

/// The message of FailedMount for the first volume that cannot be mounted.
pub(super) fn volumes(sim: &Sim, pod: &Value) -> Option<String> {
    let ns = namespace(pod);
    list(pod, "/spec/volumes").iter().find_map(|volume| {
        let projected = list(volume, "/projected/sources")
            .iter()
            .flat_map(|source| [("configmap", &source["configMap"], "/name"), ("secret", &source["secret"], "/name")]);
        let plain = [("configmap", &volume["configMap"], "/name"), ("secret", &volume["secret"], "/secretName")];
        plain.into_iter().chain(projected).find_map(|(kind, source, key)| {
            let wanted = text(source, key);
            let missing = !source.is_null() && source["optional"] != true && find(sim, kind, ns, wanted).is_none();
            missing.then(|| format!("MountVolume.SetUp failed for volume \"{}\" : {kind} \"{wanted}\" not found", text(volume, "/name")))
        })
    })
}

/// Why a container's environment cannot be made.
pub(super) fn environment(sim: &Sim, pod: &Value, container: &Value) -> Option<String> {
    let ns = namespace(pod);
    let missing = |kind: &str, source: &Value| -> Option<String> {
        if source.is_null() || source["optional"] == true {
            return None;
        }
        let wanted = text(source, "/name");
        let Some(object) = find(sim, kind, ns, wanted) else { return Some(format!("{kind} \"{wanted}\" not found")) };
        let key = text(source, "/key");
        let has = ["data", "binaryData", "stringData"].iter().any(|part| object[*part].get(key).is_some());
        let word = if kind == "secret" { "Secret" } else { "ConfigMap" };
        (!key.is_empty() && !has).then(|| format!("couldn't find key {key} in {word} {ns}/{wanted}"))
    };
    let from =
        list(container, "/envFrom").iter().find_map(|e| missing("configmap", &e["configMapRef"]).or_else(|| missing("secret", &e["secretRef"])));
    from.or_else(|| {
        list(container, "/env")
            .iter()
            .find_map(|e| missing("configmap", &e["valueFrom"]["configMapKeyRef"]).or_else(|| missing("secret", &e["valueFrom"]["secretKeyRef"])))
    })
}

fn find(sim: &Sim, kind: &str, ns: &str, name: &str) -> Option<Arc<Value>> {
    sim.store.get(if kind == "secret" { SECRETS } else { CONFIG_MAPS }, ns, name)
}
