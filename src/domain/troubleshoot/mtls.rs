//! Which mutual TLS a pod asks for: the workload's own PeerAuthentication, its namespace's, then the root namespace's.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::base::fault::Result;
use crate::clients::kube::Cluster;

/// All policies of the cluster; none where Istio is not installed.
pub async fn policies(cluster: &Cluster) -> Result<Vec<Value>> {
    let found = cluster.list_objects("security.istio.io/v1", "PeerAuthentication", "", "").await?;
    Ok(found.iter().map(|policy| serde_json::to_value(policy).unwrap_or_default()).collect())
}

/// The policy that makes a port refuse plain connections; `None`: it takes them.
pub fn strict(policies: &[Value], root: &str, namespace: &str, labels: &BTreeMap<String, String>, port: u16) -> Option<String> {
    let mode = |policy: &Value, pointer: &str| policy.pointer(pointer).and_then(Value::as_str).filter(|mode| *mode != "UNSET").map(str::to_owned);
    let title = |policy: &Value| format!("{}/{}", text(policy, "/metadata/namespace"), text(policy, "/metadata/name"));
    let mut of_workload: Vec<&Value> = policies.iter().filter(|p| text(p, "/metadata/namespace") == namespace && selects(p, labels)).collect();
    let mut of_namespace: Vec<&Value> = policies.iter().filter(|p| text(p, "/metadata/namespace") == namespace && !has_selector(p)).collect();
    let mut of_mesh: Vec<&Value> = policies.iter().filter(|p| text(p, "/metadata/namespace") == root && !has_selector(p)).collect();
    // Of several the oldest counts.
    for level in [&mut of_workload, &mut of_namespace, &mut of_mesh] {
        level.sort_by_key(|p| (text(p, "/metadata/creationTimestamp").to_owned(), text(p, "/metadata/name").to_owned()));
    }
    let port_level = of_workload.first().and_then(|p| Some((mode(p, &format!("/spec/portLevelMtls/{port}/mode"))?, title(p))));
    let whole =
        [of_workload, of_namespace, of_mesh].into_iter().find_map(|level| level.first().and_then(|p| Some((mode(p, "/spec/mtls/mode")?, title(p)))));
    let (mode, title) = port_level.or(whole)?;
    (mode == "STRICT").then_some(title)
}

fn text<'a>(policy: &'a Value, pointer: &str) -> &'a str {
    policy.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn selector(policy: &Value) -> Option<&serde_json::Map<String, Value>> {
    policy.pointer("/spec/selector/matchLabels").and_then(Value::as_object).filter(|labels| !labels.is_empty())
}

fn has_selector(policy: &Value) -> bool {
    selector(policy).is_some()
}

fn selects(policy: &Value, labels: &BTreeMap<String, String>) -> bool {
    selector(policy).is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_nearest_policy_decides() {
        let policy = |namespace: &str, name: &str, spec: Value| json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        let mesh = || policy("istio-system", "default", json!({"mtls": {"mode": "STRICT"}}));
        let open = || policy("prod", "default", json!({"mtls": {"mode": "PERMISSIVE"}}));
        let own = |mode: &str| policy("prod", "app1", json!({"selector": {"matchLabels": {"app": "app1"}}, "mtls": {"mode": mode}}));
        let port = || {
            let spec =
                json!({"selector": {"matchLabels": {"app": "app1"}}, "mtls": {"mode": "STRICT"}, "portLevelMtls": {"8000": {"mode": "DISABLE"}}});
            policy("prod", "app1", spec)
        };
        let labels: BTreeMap<String, String> = [("app".to_owned(), "app1".to_owned())].into();
        for (policies, expected) in [
            (vec![], None),
            (vec![mesh()], Some("istio-system/default")),
            (vec![mesh(), open()], None),
            (vec![mesh(), open(), own("STRICT")], Some("prod/app1")),
            (vec![mesh(), own("UNSET")], Some("istio-system/default")),
            (vec![mesh(), port()], None),
            (vec![policy("other", "default", json!({"mtls": {"mode": "STRICT"}}))], None),
        ] {
            assert_eq!(strict(&policies, "istio-system", "prod", &labels, 8000).as_deref(), expected, "{policies:?}");
        }
    }
}
