//! What is taken from the API server's objects, and what is not.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1 as core;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::base::secrets;
use crate::domain::services::rollout::convert::{self, Object, Revisions};
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::Workload;

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn failure(of: &str) -> Value {
    json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": of}])
}

#[test]
fn a_replica_failure_is_the_newest_replica_sets_own() {
    let app = object::<Deployment>(json!({
        "metadata": {"name": "app1", "uid": "d", "annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {"selector": {}, "template": {}}, "status": {"conditions": failure("what the older one says")},
    }));
    let set = |number: &str, conditions: Value| {
        object::<ReplicaSet>(json!({
            "metadata": {
                "name": format!("app1-{number}"), "annotations": {"deployment.kubernetes.io/revision": number},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "app1", "uid": "d", "controller": true}],
            },
            "spec": {"selector": {}}, "status": {"replicas": 0, "conditions": conditions},
        }))
    };
    let failing = |sets: Vec<ReplicaSet>| {
        let workload = Object::Deployment(Box::new(app.clone())).workload(&Revisions { sets, revisions: vec![] });
        workload.condition("ReplicaFailure").map(|c| c.message.clone())
    };
    assert_eq!(failing(vec![set("1", failure("old")), set("2", json!([]))]), None);
    assert_eq!(failing(vec![set("1", json!([])), set("2", failure("new"))]).as_deref(), Some("new"));
}

#[test]
fn a_stateful_set_that_was_put_back_has_updated_what_it_says() {
    let set = object::<StatefulSet>(json!({
        "metadata": {"name": "db"}, "spec": {"replicas": 3, "selector": {}, "serviceName": "db", "template": {}},
        "status": {"replicas": 3, "readyReplicas": 3, "updatedReplicas": 1, "currentRevision": "db-a", "updateRevision": "db-a"},
    }));
    assert_eq!(Object::StatefulSet(Box::new(set)).workload(&Revisions::default()).updated, 1);
}

#[test]
fn a_suspended_job_is_paused_unless_a_queue_holds_it() {
    let paused = |labels: Value| -> Workload {
        let job = object::<Job>(json!({"metadata": {"name": "job", "labels": labels}, "spec": {"suspend": true, "template": {}}}));
        Object::Job(Box::new(job)).workload(&Revisions::default())
    };
    assert!(paused(json!({})).paused);
    assert!(!paused(json!({"kueue.x-k8s.io/queue-name": "batch"})).paused);
}

#[test]
fn secrets_are_out_of_what_the_cluster_says_before_it_is_cut() {
    secrets::learn("a-word-that-only-this-test-knows");
    let said = "waiting for a-word-that-only-this-test-knows";
    let pod = object::<core::Pod>(json!({
        "metadata": {"name": "app1-a"}, "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        "status": {"message": said, "containerStatuses": [{
            "name": "app", "image": "app:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "CreateContainerConfigError", "message": said}},
        }]},
    }));
    let event = object::<core::Event>(json!({"metadata": {}, "involvedObject": {}, "message": said}));
    let seen = (convert::pod(&pod, true, &Policy::default()), convert::event(&event));
    assert!(!format!("{seen:?}").contains("only-this-test"), "{seen:?}");
}
