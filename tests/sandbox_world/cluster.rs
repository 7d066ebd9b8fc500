//! The simulated cluster: workloads, pods, events, sidecars, the stand-in for istioctl, and who may come in.

use crate::support::{World, deployment, reasons};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Container, ContainerState, Event, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::json;

const MESHED: &str = "
name: meshed
namespaces: [{name: prod, labels: {istio-injection: enabled}}]
istio: {installed: {}}
";

fn image(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.containers.first()?.image.as_deref()
}

fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_healthy_world_begins_with_a_cluster_and_no_istio() {
    let world = World::shipped("healthy").await;
    let nodes = world.all::<k8s_openapi::api::core::v1::Node>().list(&ListParams::default()).await.expect("nodes");
    let zones: Vec<_> = nodes.iter().filter_map(|node| node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned()).collect();
    assert_eq!(zones, ["ap-southeast-1a", "ap-southeast-1b"]);
    for ns in ["default", "pre-prod", "prod", "kube-system"] {
        assert!(world.all::<Namespace>().get_opt(ns).await.expect("namespaces").is_some(), "{ns}");
    }
    assert!(world.all::<Namespace>().get_opt("istio-system").await.expect("namespaces").is_none());
    let controller = world.api::<Deployment>("kube-system").get("aws-load-balancer-controller").await.expect("the controller");
    assert_eq!(controller.status.and_then(|status| status.available_replicas), Some(2));
    assert!(world.api::<ConfigMap>("prod").get_opt("kube-root-ca.crt").await.expect("config maps").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_runs_is_replaced_and_rolled_back() {
    let world = World::shipped("healthy").await;
    let api = world.api::<Deployment>("prod");
    api.create(&PostParams::default(), &deployment("web", "registry.example/web:1", 2)).await.expect("created");
    world.rolled_out("prod", "web").await;
    let first = world.pods("prod", "app=web").await;
    assert_eq!(first.len(), 2);
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "registry.example/web:2"}]}}}});
    api.patch("web", &PatchParams::default(), &Patch::Strategic(&patch)).await.expect("patched");
    let second = world.rolled_out("prod", "web").await;
    assert_eq!(second.metadata.annotations.and_then(|notes| notes.get("deployment.kubernetes.io/revision").cloned()), Some("2".to_owned()));
    world
        .until("only new pods", || async {
            let pods = world.pods("prod", "app=web").await;
            (pods.len() == 2 && pods.iter().all(|pod| image(pod) == Some("registry.example/web:2"))).then_some(())
        })
        .await;
    let back = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "registry.example/web:1"}]}}}});
    api.patch("web", &PatchParams::default(), &Patch::Strategic(&back)).await.expect("patched");
    let third = world.rolled_out("prod", "web").await;
    assert_eq!(third.metadata.annotations.and_then(|notes| notes.get("deployment.kubernetes.io/revision").cloned()), Some("3".to_owned()));
    let sets = world.api::<k8s_openapi::api::apps::v1::ReplicaSet>("prod").list(&ListParams::default()).await.expect("sets");
    assert_eq!(sets.items.len(), 2, "the old set is used again");
    let events = world.api::<Event>("prod").list(&ListParams::default()).await.expect("events");
    let said = reasons(&events.items);
    for reason in ["Scheduled", "Pulling", "Pulled", "Created", "Started", "Killing", "SuccessfulCreate", "ScalingReplicaSet"] {
        assert!(said.contains(reason), "{reason} in {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_have_the_ready_pods_behind_them() {
    let world = World::shipped("healthy").await;
    world.api::<Deployment>("prod").create(&PostParams::default(), &deployment("web", "web:1", 2)).await.expect("created");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    world.api::<Service>("prod").create(&PostParams::default(), &serde_json::from_value(service).expect("a service")).await.expect("created");
    let slice = world
        .until("two ready endpoints", || async {
            let slices = world.api::<EndpointSlice>("prod").list(&ListParams::default().labels("kubernetes.io/service-name=web")).await.ok()?;
            let slice = slices.items.into_iter().next()?;
            let ready = slice.endpoints.iter().flatten().filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true))).count();
            (ready == 2).then_some(slice)
        })
        .await;
    assert_eq!(slice.ports.and_then(|ports| ports.first()?.port), Some(8000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_told_as_the_kubelet_tells_it() {
    let world = World::shipped("broken-image").await;
    world
        .api::<Deployment>("prod")
        .create(&PostParams::default(), &deployment("app1-service", "registry.example/app1:1.4.2", 1))
        .await
        .expect("created");
    let message = world
        .until("ImagePullBackOff", || async {
            let pods = world.pods("prod", "app=app1-service").await;
            let waiting = pods.first()?.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?.waiting.clone()?;
            (waiting.reason.as_deref() == Some("ImagePullBackOff")).then_some(waiting.message).flatten()
        })
        .await;
    assert_eq!(
        message,
        "Back-off pulling image \"registry.example/app1:1.4.2\": ErrImagePull: rpc error: code = NotFound desc = failed to pull and unpack image \
         \"registry.example/app1:1.4.2\": failed to resolve reference \"registry.example/app1:1.4.2\": registry.example/app1:1.4.2: not found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_keeps_the_last_end_and_its_log() {
    let world = World::shipped("crash-loop").await;
    world
        .api::<Deployment>("prod")
        .create(&PostParams::default(), &deployment("app1-service", "registry.example/app1:1.4.2", 1))
        .await
        .expect("created");
    let pod = world
        .until("CrashLoopBackOff", || async {
            let pod = world.pods("prod", "app=app1-service").await.into_iter().next()?;
            let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.clone();
            let waiting = status.state.and_then(|state| state.waiting)?;
            (waiting.reason.as_deref() == Some("CrashLoopBackOff")).then_some(pod)
        })
        .await;
    let status = pod.status.and_then(|status| status.container_statuses).and_then(|list| list.into_iter().next()).expect("a status");
    assert_eq!(status.last_state.and_then(|state| state.terminated).map(|end| (end.exit_code, end.reason)), Some((1, Some("Error".to_owned()))));
    assert!(status.restart_count >= 1);
    let params = LogParams { container: Some("app".to_owned()), previous: true, ..LogParams::default() };
    let log = world.api::<Pod>("prod").logs(&pod.metadata.name.expect("a name"), &params).await.expect("the previous log");
    assert!(log.contains("panic: missing environment variable DATABASE_URL"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_well_keeps_the_crash_before_it() {
    let crash = "name: once\nnamespaces: [{name: prod}]\npods: [{then: [{container: migrate, after: 50ms, state: crashed, exit-code: 3, times: 1, log: [no database yet]}]}]";
    let world = World::of(crash).await;
    let mut app = serde_json::to_value(deployment("app", "app:1", 1)).expect("JSON");
    app["spec"]["template"]["spec"]["initContainers"] = json!([{"name": "migrate", "image": "migrate:1"}]);
    world.api::<Deployment>("prod").create(&PostParams::default(), &serde_json::from_value(app).expect("a deployment")).await.expect("created");
    world.rolled_out("prod", "app").await;
    let pod = world.pods("prod", "app=app").await.remove(0);
    let status = pod.status.and_then(|status| status.init_container_statuses).expect("statuses").remove(0);
    let end = |state: Option<ContainerState>| state.and_then(|state| state.terminated).map(|end| (end.exit_code, end.container_id));
    let (now, before) = (end(status.state).expect("it ended"), end(status.last_state).expect("it ended before"));
    assert_eq!((now.0, before.0, status.restart_count), (0, 3, 1));
    assert_ne!(now.1, before.1, "two runs are two containers");
    let name = pod.metadata.name.expect("a name");
    let log = async |previous| {
        let params = LogParams { container: Some("migrate".to_owned()), previous, ..LogParams::default() };
        world.api::<Pod>("prod").logs(&name, &params).await.expect("a log")
    };
    assert!(log(true).await.contains("no database yet"));
    assert!(!log(false).await.contains("no database yet"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_their_sidecar_by_the_namespaces_label() {
    let world = World::of(MESHED).await;
    world.api::<Deployment>("prod").create(&PostParams::default(), &deployment("web", "web:1", 1)).await.expect("created");
    world.rolled_out("prod", "web").await;
    let pod = world.pods("prod", "app=web").await.remove(0);
    let init: Vec<_> = init_containers(&pod).iter().map(|c| (c.name.as_str(), c.restart_policy.as_deref())).collect();
    assert_eq!(init, [("istio-init", None), ("istio-proxy", Some("Always"))]);
    assert!(pod.metadata.annotations.expect("annotations").contains_key("sidecar.istio.io/status"));
    let mut out = serde_json::to_value(deployment("plain", "web:1", 1)).expect("JSON");
    out["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] = "false".into();
    world.api::<Deployment>("prod").create(&PostParams::default(), &serde_json::from_value(out).expect("a deployment")).await.expect("created");
    world.rolled_out("prod", "plain").await;
    assert!(init_containers(&world.pods("prod", "app=plain").await[0]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_istiod_no_pod_is_created_in_a_labelled_namespace() {
    let world = World::of(MESHED).await;
    let scale = json!({"spec": {"replicas": 0}});
    world.api::<Deployment>("istio-system").patch("istiod", &PatchParams::default(), &Patch::Merge(&scale)).await.expect("scaled");
    world.until("istiod is gone", || async { world.pods("istio-system", "app=istiod").await.is_empty().then_some(()) }).await;
    world.api::<Deployment>("prod").create(&PostParams::default(), &deployment("web", "web:1", 1)).await.expect("created");
    let message = world
        .until("FailedCreate", || async {
            let events = world.api::<Event>("prod").list(&ListParams::default()).await.ok()?;
            events.items.into_iter().find(|event| event.reason.as_deref() == Some("FailedCreate"))?.message
        })
        .await;
    assert!(
        message.starts_with("Error creating: Internal error occurred: failed calling webhook \"namespace.sidecar-injector.istio.io\""),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_istio_namespace_brings_a_new_root() {
    let world = World::of(MESHED).await;
    let root = async || {
        let map = world.api::<ConfigMap>("prod").get_opt("istio-ca-root-cert").await.ok()??;
        map.data?.get("root-cert.pem").cloned()
    };
    let before = world.until("a root", &root).await;
    assert!(world.api::<Secret>("istio-system").get_opt("istio-ca-secret").await.expect("secrets").is_some());
    let status = world.istioctl(&["uninstall", "--purge", "-y"]).await;
    assert_eq!(status, Some(0));
    assert!(world.api::<Secret>("istio-system").get_opt("istio-ca-secret").await.expect("secrets").is_some(), "the purge leaves the CA");
    world.all::<Namespace>().delete("istio-system", &DeleteParams::default()).await.expect("deleted");
    world.until("no namespace", || async { world.all::<Namespace>().get_opt("istio-system").await.ok()?.is_none().then_some(()) }).await;
    let set = "values.gateways.istio-ingressgateway.type=NodePort";
    assert_eq!(world.istioctl(&["install", "--set", "profile=default", "--set", set, "-y"]).await, Some(0));
    let after = world.until("another root", || async { root().await.filter(|root| *root != before) }).await;
    assert!(after.starts_with("-----BEGIN CERTIFICATE-----"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_knows_its_commands_and_says_what_it_is() {
    let world = World::shipped("healthy").await;
    let version = world.istioctl_output(&["version", "-o", "json"]).await;
    assert_eq!(version.status.code(), Some(0), "absent Istio is no error");
    let told: serde_json::Value = serde_json::from_slice(&version.stdout).expect("JSON");
    assert_eq!(told["clientVersion"]["version"], "1.31.0");
    assert!(told.get("meshVersion").is_none());
    let errors = String::from_utf8_lossy(&version.stderr).into_owned();
    assert!(errors.contains("stand-in") && errors.contains("Istio is not present in the cluster"), "{errors}");
    assert_eq!(world.istioctl(&["verify-install"]).await, Some(64));
    assert_eq!(world.istioctl(&["install"]).await, Some(1), "without -y it asks");
}

#[tokio::test(flavor = "multi_thread")]
async fn eks_tokens_come_in_only_where_the_world_accepts_them() {
    for (name, allowed) in [("healthy", true), ("token-refused", false)] {
        let world = World::shipped(name).await;
        let listed = world.with_eks_token().await.list(&ListParams::default()).await;
        assert_eq!(listed.is_ok(), allowed, "{name}: {:?}", listed.err());
    }
}
