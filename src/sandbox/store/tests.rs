//! The store, rule by rule.

use serde_json::json;

use super::meta::{annotation, deleting, name, number, text, uid, version};
use super::*;

fn cluster() -> Store {
    let store = Store::new();
    for ns in ["default", "prod"] {
        store.create("namespaces", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns}})).unwrap();
    }
    store
}

fn object(kind: &str, ns: &str, own: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"namespace": ns, "name": own}})
}

fn owned(ns: &str, own: &str, owner: &Value) -> Value {
    let mut pod = object("Pod", ns, own);
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name(owner), "uid": uid(owner), "controller": true}]);
    pod
}

#[test]
fn a_create_fills_metadata_and_a_second_one_is_refused() {
    let store = cluster();
    let made = store.create("configmaps", object("ConfigMap", "prod", "a")).unwrap();
    assert_eq!(version(&made), store.version());
    assert!(!uid(&made).is_empty());
    let again = store.create("configmaps", object("ConfigMap", "prod", "a")).unwrap_err();
    assert_eq!(again.to_string(), "409 AlreadyExists: configmaps \"a\" already exists");
    let mut unnamed = object("ConfigMap", "prod", "");
    unnamed["metadata"]["generateName"] = json!("run-");
    let named = store.create("configmaps", unnamed).unwrap();
    assert!(name(&named).starts_with("run-") && name(&named).len() == 9, "{}", name(&named));
}

#[test]
fn a_namespace_must_exist_and_not_be_going() {
    let store = cluster();
    assert_eq!(store.create("pods", object("Pod", "none", "a")).unwrap_err().to_string(), "404 NotFound: namespaces \"none\" not found");
    store.create("pods", json!({"metadata": {"namespace": "prod", "name": "held", "finalizers": ["x/y"]}})).unwrap();
    assert!(matches!(store.delete("namespaces", "", "prod").unwrap(), Deleted::Pending(_)));
    let refused = store.create("pods", object("Pod", "prod", "b")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "403 Forbidden: pods \"b\" is forbidden: unable to create new content in namespace prod because it is being terminated"
    );
    store.modify("pods", "prod", "held", |pod| pod["metadata"]["finalizers"] = json!([])).unwrap();
    assert!(store.get("namespaces", "", "prod").is_none());
}

#[test]
fn a_stale_version_conflicts_and_an_equal_object_keeps_its_version() {
    let store = cluster();
    let first = store.create("configmaps", object("ConfigMap", "prod", "a")).unwrap();
    let mut changed = (*first).clone();
    changed["data"] = json!({"k": "v"});
    let second = store.update("configmaps", changed.clone()).unwrap();
    assert!(version(&second) > version(&first));
    assert_eq!(store.update("configmaps", changed).unwrap_err().reason, "Conflict");
    assert_eq!(version(&store.update("configmaps", (*second).clone()).unwrap()), version(&second));
}

#[test]
fn generation_counts_the_spec_and_not_the_status() {
    let store = cluster();
    store.create("deployments.apps", json!({"metadata": {"namespace": "prod", "name": "web"}, "spec": {"replicas": 1}})).unwrap();
    let write = Write { part: Part::Main, ..Write::default() };
    let scaled = store
        .modify_with("deployments.apps", "prod", "web", &write, |d| {
            d["spec"]["replicas"] = json!(2);
            d["status"] = json!({"replicas": 9});
            Ok(())
        })
        .unwrap();
    assert_eq!((number(&scaled, "/metadata/generation"), scaled.get("status")), (Some(2), Some(&json!({}))));
    let mut status = (*scaled).clone();
    status["status"] = json!({"replicas": 2});
    status["spec"]["replicas"] = json!(7);
    let reported = store.update_status("deployments.apps", status).unwrap();
    assert_eq!((number(&reported, "/metadata/generation"), number(&reported, "/spec/replicas")), (Some(2), Some(2)));
    assert_eq!(number(&reported, "/status/replicas"), Some(2));
}

#[test]
fn dependents_go_with_their_last_owner() {
    let store = cluster();
    let set = store.create("replicasets.apps", object("ReplicaSet", "prod", "rs")).unwrap();
    store.create("pods", owned("prod", "mine", &set)).unwrap();
    let other = store.create("replicasets.apps", object("ReplicaSet", "prod", "other")).unwrap();
    let mut shared = owned("prod", "shared", &set);
    shared["metadata"]["ownerReferences"].as_array_mut().unwrap().push(json!({"uid": uid(&other)}));
    store.create("pods", shared).unwrap();
    store.delete("replicasets.apps", "prod", "rs").unwrap();
    assert!(store.get("pods", "prod", "mine").is_none());
    assert_eq!(meta::list(&store.get("pods", "prod", "shared").unwrap(), "/metadata/ownerReferences").len(), 1);
}

#[test]
fn orphans_stay_and_foreground_waits() {
    let store = cluster();
    let set = store.create("replicasets.apps", object("ReplicaSet", "prod", "rs")).unwrap();
    store.create("pods", owned("prod", "a", &set)).unwrap();
    store.delete_with("replicasets.apps", "prod", "rs", &Deletion { propagation: Propagation::Orphan, ..Deletion::default() }).unwrap();
    assert!(store.get("pods", "prod", "a").is_some());

    let set = store.create("replicasets.apps", object("ReplicaSet", "prod", "rs")).unwrap();
    let mut held = owned("prod", "b", &set);
    held["metadata"]["finalizers"] = json!(["x/y"]);
    store.create("pods", held).unwrap();
    let foreground = Deletion { propagation: Propagation::Foreground, ..Deletion::default() };
    let Deleted::Pending(left) = store.delete_with("replicasets.apps", "prod", "rs", &foreground).unwrap() else { panic!("gone too early") };
    assert!(deleting(&left));
    store.modify("pods", "prod", "b", |pod| pod["metadata"]["finalizers"] = json!([])).unwrap();
    assert!(store.get("pods", "prod", "b").is_none() && store.get("replicasets.apps", "prod", "rs").is_none());
}

#[test]
fn graceful_pods_wait_for_their_kubelet() {
    let store = cluster();
    store.set_graceful_pods(true);
    store.create("pods", json!({"metadata": {"namespace": "prod", "name": "a"}, "spec": {"nodeName": "n1"}})).unwrap();
    let Deleted::Pending(pod) = store.delete("pods", "prod", "a").unwrap() else { panic!("gone too early") };
    assert_eq!(number(&pod, "/metadata/deletionGracePeriodSeconds"), Some(30));
    assert!(matches!(store.delete_with("pods", "prod", "a", &Deletion::now()).unwrap(), Deleted::Gone(_)));
}

#[test]
fn a_definition_makes_a_kind_and_takes_its_objects_along() {
    let store = cluster();
    assert_eq!(store.resource("gateways.networking.istio.io").unwrap_err().code, 404);
    let crd = json!({"metadata": {"name": "gateways.networking.istio.io"}, "spec": {"group": "networking.istio.io", "scope": "Namespaced",
        "names": {"kind": "Gateway", "plural": "gateways", "shortNames": ["gw"]},
        "versions": [{"name": "v1alpha3", "served": true}, {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}}]}});
    store.create("customresourcedefinitions.apiextensions.k8s.io", crd).unwrap();
    let kind = store.resource("gateways.networking.istio.io").unwrap();
    assert_eq!((kind.versions.join(" "), kind.has("status")), ("v1 v1alpha3".to_owned(), true));
    store.create("gateways.networking.istio.io", object("Gateway", "prod", "g")).unwrap();
    store.delete("customresourcedefinitions.apiextensions.k8s.io", "", "gateways.networking.istio.io").unwrap();
    assert!(store.resource("gateways.networking.istio.io").is_err());
    assert!(store.list("gateways.networking.istio.io", "").is_empty());
}

#[test]
fn hooks_change_and_refuse() {
    let store = cluster();
    store.admit(|_, review, pod| {
        if review.operation == Operation::Create && review.resource.kind == "Pod" {
            if review.name == "bad" {
                return Err(Status::forbidden(review.resource, review.name, "exceeded quota: q"));
            }
            meta::metadata(pod).insert("annotations".into(), json!({"seen": "yes"}));
        }
        Ok(())
    });
    assert_eq!(annotation(&store.create("pods", object("Pod", "prod", "a")).unwrap(), "seen"), Some("yes"));
    let refused = store.create("pods", object("Pod", "prod", "bad")).unwrap_err();
    assert_eq!(refused.message, "pods \"bad\" is forbidden: exceeded quota: q");
}

#[tokio::test]
async fn a_watcher_sees_each_change_once_and_old_versions_expire() {
    let store = cluster();
    let start = store.version();
    let mut watcher = store.watch("pods", "prod", start).unwrap();
    store.create("configmaps", object("ConfigMap", "prod", "noise")).unwrap();
    store.create("pods", object("Pod", "prod", "a")).unwrap();
    store.modify("pods", "prod", "a", |pod| pod["status"] = json!({"phase": "Running"})).unwrap();
    store.delete("pods", "prod", "a").unwrap();
    for (kind, phase) in [(EventKind::Added, "Pending"), (EventKind::Modified, "Running"), (EventKind::Deleted, "Running")] {
        let event = watcher.next().await.unwrap();
        assert_eq!((event.kind, text(&event.object, "/status/phase")), (kind, phase));
    }
    assert!(watcher.try_next().unwrap().is_none());
    let waiting = tokio::spawn(async move { watcher.next().await });
    store.create("pods", object("Pod", "prod", "b")).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().name, "b");
    store.compact();
    assert_eq!(store.watch("pods", "", start).unwrap_err().code, 410);
}

#[test]
fn a_modify_that_races_is_repeated() {
    let store = cluster();
    store.create("configmaps", object("ConfigMap", "prod", "n")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    store
                        .modify("configmaps", "prod", "n", |map| {
                            let n = number(map, "/data").unwrap_or(0);
                            map["data"] = json!(n + 1);
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(number(&store.get("configmaps", "prod", "n").unwrap(), "/data"), Some(100));
}
