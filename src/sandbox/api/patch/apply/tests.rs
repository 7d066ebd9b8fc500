//! Server-side apply, owner by owner.

use super::*;
use crate::sandbox::store::Store;

fn manager(name: &str) -> Manager {
    Manager { name: name.into(), operation: "Apply", api_version: "apps/v1".into(), subresource: String::new() }
}

fn deployment(spec: Value) -> Value {
    json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web"}, "spec": spec})
}

fn applied(live: &Value, config: Value, by: &str, force: bool) -> Result<Value, Status> {
    let kind = Store::new().resource("deployments.apps").unwrap();
    apply(&kind, "v1", live, &config, &manager(by), force)
}

fn made(config: Value, by: &str) -> Value {
    fresh(&Store::new().resource("deployments.apps").unwrap(), "v1", &config, &manager(by))
}

#[test]
fn a_field_no_longer_wanted_goes_and_the_rest_stays() {
    let first = deployment(json!({"replicas": 2, "template": {"metadata": {"labels": {"a": "1", "b": "2"}},
        "spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}}}));
    let mut live = made(first, "one");
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    let second = deployment(json!({"template": {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "a", "image": "a:2"}]}}}));
    let live = applied(&live, second, "one", false).unwrap();
    assert_eq!(live["spec"]["template"]["spec"]["containers"], json!([{"name": "a", "image": "a:2", "imagePullPolicy": "Always"}]));
    assert_eq!((live["spec"].get("replicas"), &live["spec"]["template"]["metadata"]["labels"]), (None, &json!({"a": "1"})));
}

#[test]
fn an_equal_apply_changes_nothing() {
    let config = deployment(json!({"replicas": 2, "selector": {"matchLabels": {"a": "1"}}}));
    let live = made(config.clone(), "one");
    assert_eq!(applied(&live, config, "one", false).unwrap(), live);
}

#[test]
fn another_owner_is_a_conflict_unless_forced() {
    let live = made(deployment(json!({"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "i:1"}]}}})), "one");
    let other = deployment(json!({"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}));
    let refused = applied(&live, other.clone(), "two", false).unwrap_err();
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.template.spec.containers[name=\"c\"].image");
    let forced = applied(&live, other, "two", true).unwrap();
    assert_eq!(forced["spec"]["template"]["spec"]["containers"][0]["image"], "i:2");
    let owners = managed::read(&forced);
    let image = |e: &Entry| e.fields.0.iter().any(|p| p.last().is_some_and(|s| s == "f:image"));
    assert_eq!(owners.iter().map(|e| (e.manager.as_str(), image(e))).collect::<Vec<_>>(), [("one", false), ("two", true)]);
}

#[test]
fn an_equal_value_is_shared_and_stays_while_one_owner_wants_it() {
    let live = made(deployment(json!({"replicas": 2})), "one");
    let shared = applied(&live, deployment(json!({"replicas": 2})), "two", false).unwrap();
    let left = applied(&shared, deployment(json!({"paused": true})), "one", false).unwrap();
    assert_eq!((left["spec"]["replicas"].as_i64(), left["spec"]["paused"].as_bool()), (Some(2), Some(true)));
}

#[test]
fn an_update_takes_the_fields_it_changes() {
    let kind = Store::new().resource("deployments.apps").unwrap();
    let live = made(deployment(json!({"replicas": 2})), "one");
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(5);
    managed::track(&kind, "v1", Some(&live), &mut scaled, "kubectl", "");
    let refused = applied(&scaled, deployment(json!({"replicas": 2})), "one", false).unwrap_err();
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas");
}
