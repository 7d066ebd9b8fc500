//! What the same run applies before may change what is refused now: a quota is raised, a workload shrinks, a rule goes.

use serde_json::Value;

use crate::clients::kube::Cluster;
use crate::domain::services::manifests::Manifest;
use crate::domain::services::preflight::Apply;
use crate::domain::services::rollout::seen::Kind;

/// What that is applied before it may give room in the quota of `namespace`. What cannot be read may.
pub async fn room(cluster: &Cluster, namespace: &str, earlier: &[Apply<'_>]) -> Option<String> {
    for before in earlier {
        if let Some(why) = before.unknown.filter(|_| before.namespace == namespace) {
            return Some(why.to_owned());
        }
        for manifest in before.manifests.iter().filter(|manifest| before.home(manifest) == namespace) {
            let was = match before.running {
                _ if Kind::parse(manifest.kind()).is_none() => None,
                Some(running) => running.iter().find(|was| was.title() == manifest.title()).map(|was| was.value.clone()),
                None => match cluster.get_object(manifest.api_version(), manifest.kind(), namespace, manifest.name()).await {
                    Ok(was) => was.and_then(|was| serde_json::to_value(was).ok()),
                    Err(_) => return Some(manifest.title()),
                },
            };
            if manifest.kind() == "ResourceQuota" || was.is_some_and(|was| changes_size(&was, &manifest.value)) {
                return Some(manifest.title());
            }
        }
        if let Some(gone) = before.leaving().find(|was| before.home(was) == namespace) {
            return Some(gone.title());
        }
    }
    None
}

/// What that is applied before it may change by which rules objects of `namespace` are refused.
pub fn rules(namespace: &str, earlier: &[Apply<'_>]) -> Option<String> {
    let is_rule = |before: &Apply<'_>, manifest: &Manifest| match manifest.kind() {
        "Namespace" => manifest.name() == namespace,
        "LimitRange" | "ResourceQuota" => before.home(manifest) == namespace,
        kind => kind.ends_with("WebhookConfiguration") || kind.contains("Policy"),
    };
    earlier.iter().find_map(|before| {
        let unknown = before.unknown.map(str::to_owned);
        unknown.or_else(|| before.manifests.iter().find(|manifest| is_rule(before, manifest)).map(Manifest::title))
    })
}

/// Does a workload ask for another number of pods, or for pods of another size or at another place?
fn changes_size(was: &Value, now: &Value) -> bool {
    let replicas = |of: &Value| of.pointer("/spec/replicas").and_then(Value::as_i64);
    let size = |of: &Value| -> Vec<Value> {
        let spec = of.pointer("/spec/template/spec").cloned().unwrap_or_default();
        let of_containers = ["initContainers", "containers"].into_iter().flat_map(|key| {
            let containers = spec.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            containers.into_iter().map(|container| container.get("resources").cloned().unwrap_or_default())
        });
        let places = ["nodeSelector", "affinity", "tolerations"].map(|key| spec.get(key).cloned().unwrap_or_default());
        let nothing = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
        of_containers.chain(places).map(|value| if nothing(&value) { Value::Null } else { value }).collect()
    };
    // Without a number the one that is there stays.
    replicas(now).is_some_and(|now| now != replicas(was).unwrap_or(1)) || size(was) != size(now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::services::manifests::parse;

    #[test]
    fn a_workload_that_changes_its_size_may_give_room() {
        let of = |replicas: Value, resources: Value, image: &str| json!({"spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "app", "image": image, "resources": resources}]}}}});
        let was = of(json!(2), json!({"requests": {"cpu": "1"}}), "app:1");
        for (now, changes) in [
            (of(json!(2), json!({"requests": {"cpu": "1"}}), "app:2"), false),
            (of(json!(null), json!({"requests": {"cpu": "1"}}), "app:2"), false),
            (of(json!(1), json!({"requests": {"cpu": "1"}}), "app:1"), true),
            (of(json!(2), json!({}), "app:1"), true),
        ] {
            assert_eq!(changes_size(&was, &now), changes, "{now}");
        }
        // The API server writes defaults.
        assert!(!changes_size(&of(json!(1), json!({}), "app:1"), &json!({"spec": {"template": {"spec": {"containers": [{"image": "app:1"}]}}}})));
    }

    #[test]
    fn rules_of_the_namespace_may_change_before() {
        for (yaml, namespace, may) in [
            ("{apiVersion: v1, kind: Namespace, metadata: {name: prod, labels: {a: b}}}", "pre-prod", true),
            ("{apiVersion: v1, kind: Namespace, metadata: {name: other}}", "prod", false),
            ("{apiVersion: v1, kind: LimitRange, metadata: {name: a}}", "prod", true),
            ("{apiVersion: v1, kind: LimitRange, metadata: {name: a}}", "pre-prod", false),
            ("{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: a}}", "pre-prod", true),
            ("{apiVersion: v1, kind: Secret, metadata: {name: a}}", "prod", false),
        ] {
            let manifests = parse("a.yaml", yaml).expect("valid");
            assert_eq!(rules("prod", &[Apply { manifests: &manifests, ..Apply::to(namespace) }]).is_some(), may, "{yaml} to {namespace}");
        }
        assert!(rules("prod", &[Apply { unknown: Some("app1, which is not rendered yet"), ..Apply::to("pre-prod") }]).is_some());
    }
}
