//! What is tried before an apply, and what is not.

use super::*;
use crate::domain::services::manifests::parse;

const APP: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: app1}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: app1}}
    spec:
      serviceAccountName: app1
      containers: [{name: app, image: 'registry.example/app1:1'}]
";

fn app(change: impl FnOnce(&mut Value)) -> Manifest {
    let mut manifest = parse("k8s/app.yaml", APP).expect("valid").remove(0);
    change(&mut manifest.value);
    manifest
}

fn live(change: impl FnOnce(&mut Value)) -> Option<Value> {
    let mut value = app(|_| {}).value;
    value["spec"]["selector"] = json!({"matchLabels": {"app": "app1"}});
    value["status"] = json!({"availableReplicas": 2, "readyReplicas": 2});
    change(&mut value);
    Some(value)
}

#[test]
fn only_workloads_that_start_new_pods_are_tried() {
    let set = |pointer: &'static str, value: Value| move |object: &mut Value| object["spec"][pointer] = value;
    let new = Tried::default();
    assert!(starts_pods(&app(|_| {}), &new, None));
    assert!(!starts_pods(&app(set("replicas", json!(0))), &new, None), "scaled to nothing");
    assert!(!starts_pods(&app(set("paused", json!(true))), &new, None));
    assert!(!starts_pods(&parse("s.yaml", "{apiVersion: v1, kind: Service, metadata: {name: a}}").expect("valid")[0], &new, None));
    // Applied again without a change, or with one that leaves the pods alone.
    let same = Tried { before: live(|_| {}), after: live(|_| {}), fault: None };
    assert!(!starts_pods(&app(|_| {}), &same, None));
    let other = Tried { before: live(|_| {}), after: live(|o| o["spec"]["template"]["spec"]["hostNetwork"] = json!(true)), fault: None };
    assert!(starts_pods(&app(|_| {}), &other, None));
    // A chart's workload is compared with what helm stored.
    let there = Tried { before: live(|_| {}), ..Tried::default() };
    assert!(!starts_pods(&app(|_| {}), &there, Some(&[app(|_| {})])));
    assert!(starts_pods(&app(|_| {}), &there, Some(&[app(|o| o["spec"]["template"]["metadata"] = json!({}))])));
}

#[test]
fn older_pods_make_room_only_when_they_leave_first() {
    let apply = Apply::to("prod");
    let strategy = |rolling: Value| app(move |o| o["spec"]["strategy"] = rolling);
    let surge_only = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    let one_by_one = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
    for (manifest, before, room) in [
        (strategy(surge_only.clone()), None, false),
        (strategy(surge_only.clone()), live(|_| {}), false),
        (strategy(one_by_one), live(|_| {}), true),
        (strategy(json!({"type": "Recreate"})), live(|_| {}), true),
        // A pod that is not available costs nothing to remove.
        (strategy(surge_only), live(|o| o["status"]["availableReplicas"] = json!(1)), true),
    ] {
        let tried = Tried { before, after: live(|o| o["spec"]["strategy"] = manifest.value["spec"]["strategy"].clone()), fault: None };
        assert_eq!(tried.makes_room(&manifest, &apply), room, "{:?}", manifest.value["spec"]["strategy"]);
    }
    // A renamed Deployment leaves when the chart is upgraded.
    let running = [app(|o| o["metadata"]["name"] = json!("before"))];
    let apply = Apply { running: Some(&running), ..apply };
    assert!(Tried::default().makes_room(&app(|_| {}), &apply));
}

#[test]
fn the_tried_pod_is_its_controllers() {
    let pod = pod_of(&app(|_| {}), &Made::default()).expect("a pod");
    assert_eq!(pod["metadata"]["generateName"], "app1-");
    assert_eq!(pod["metadata"]["labels"], json!({"app": "app1"}));
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
    assert_eq!(pod["spec"].get("serviceAccountName"), None, "whether it is there is another question");
}

#[test]
fn a_stateful_sets_pod_has_the_volumes_of_its_claims() {
    let set = app(|o| {
        o["kind"] = json!("StatefulSet");
        o["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}}]);
    });
    let pod = pod_of(&set, &Made::default()).expect("a pod");
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-app1-0"}}]));
}
