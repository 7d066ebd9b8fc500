//! The four kinds of patch, and server-side apply's owners.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::{Cluster, deployment, refused, typed, virtual_service, virtual_services};

fn by(manager: &str) -> PatchParams {
    PatchParams::apply(manager)
}

#[tokio::test]
async fn apply_creates_once_and_an_equal_one_keeps_the_version() {
    let cluster = Cluster::start().await;
    let services = virtual_services(cluster.client().await);
    let wanted = virtual_service("a", "a.public.domain");
    let first = services.patch("a", &by("meshstep"), &Patch::Apply(&wanted)).await.unwrap();
    let again = services.patch("a", &by("meshstep"), &Patch::Apply(&wanted)).await.unwrap();
    assert_eq!(first.metadata.resource_version, again.metadata.resource_version);
    let codes: Vec<u16> = cluster.server.audit().iter().filter(|e| e.verb == "patch").map(|e| e.code).collect();
    assert_eq!(codes, [201, 200]);
    assert_eq!(first.metadata.managed_fields.unwrap()[0].manager.as_deref(), Some("meshstep"));
}

#[tokio::test]
async fn apply_conflicts_with_another_owner_until_it_is_forced() {
    let cluster = Cluster::start().await;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client().await, "prod");
    let mut wanted = deployment("web");
    wanted["spec"]["replicas"] = json!(2);
    deployments.patch("web", &by("helm"), &Patch::Apply(&wanted)).await.unwrap();
    let scaled = json!({"spec": {"replicas": 4}});
    let manager = PatchParams { field_manager: Some("kubectl".into()), ..PatchParams::default() };
    deployments.patch_scale("web", &manager, &Patch::Merge(scaled)).await.unwrap();
    let (code, reason, message) = refused(deployments.patch("web", &by("helm"), &Patch::Apply(&wanted)).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas");
    let forced = deployments.patch("web", &by("helm").force(), &Patch::Apply(&wanted)).await.unwrap();
    assert_eq!(forced.spec.replicas, Some(2));
    wanted["spec"].as_object_mut().unwrap().remove("replicas");
    let left = deployments.patch("web", &by("helm"), &Patch::Apply(&wanted)).await.unwrap();
    assert_eq!(left.spec.replicas, Some(1), "a field that nobody wants returns to its default");
}

#[tokio::test]
async fn strategic_patches_merge_containers_by_name_but_not_custom_objects() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "prod");
    deployments.create(&PostParams::default(), &typed(deployment("web"))).await.unwrap();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}, "spec": {"containers": [{"name": "app", "image": "registry.example/app:2"}]}}}});
    let patched = deployments.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    let container = &patched.spec.template.spec.unwrap().containers[0];
    assert_eq!((container.image.as_deref(), container.ports.as_ref().map(Vec::len)), (Some("registry.example/app:2"), Some(1)));
    assert_eq!(patched.metadata.generation, Some(2));
    let services = virtual_services(client);
    services.create(&PostParams::default(), &typed(virtual_service("a", "a.public.domain"))).await.unwrap();
    let refusal = refused(services.patch("a", &PatchParams::default(), &Patch::Strategic(json!({"spec": {}}))).await);
    assert_eq!((refusal.0, refusal.1.as_str()), (415, "UnsupportedMediaType"));
}

#[tokio::test]
async fn merge_and_json_patches() {
    let cluster = Cluster::start().await;
    let services = virtual_services(cluster.client().await);
    services.create(&PostParams::default(), &typed(virtual_service("a", "a.public.domain"))).await.unwrap();
    let merge = json!({"metadata": {"labels": {"x": "1"}}, "spec": {"hosts": ["b.public.domain"]}});
    let merged = services.patch("a", &PatchParams::default(), &Patch::Merge(merge)).await.unwrap();
    assert_eq!((merged.data["spec"]["hosts"][0].as_str(), merged.metadata.labels.unwrap()["x"].as_str()), (Some("b.public.domain"), "1"));
    let json_patch = |text: &str| Patch::<()>::Json(serde_json::from_str(text).unwrap());
    let added =
        json_patch(r#"[{"op": "test", "path": "/spec/hosts/0", "value": "b.public.domain"}, {"op": "add", "path": "/spec/hosts/-", "value": "c"}]"#);
    assert_eq!(services.patch("a", &PatchParams::default(), &added).await.unwrap().data["spec"]["hosts"][1], "c");
    let failing = json_patch(r#"[{"op": "test", "path": "/spec/hosts/0", "value": "z"}]"#);
    assert_eq!(refused(services.patch("a", &PatchParams::default(), &failing).await).0, 422);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"hosts": ["z"]}});
    assert_eq!(refused(services.patch("a", &PatchParams::default(), &Patch::Merge(stale)).await).0, 409);
}

#[tokio::test]
async fn the_status_is_written_on_its_own_path_only() {
    let cluster = Cluster::start().await;
    let services = virtual_services(cluster.client().await);
    services.create(&PostParams::default(), &typed(virtual_service("a", "a.public.domain"))).await.unwrap();
    let both = json!({"spec": {"hosts": ["b"]}, "status": {"seen": true}});
    let main = services.patch("a", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!((main.data["spec"]["hosts"][0].as_str(), main.data.get("status")), (Some("b"), None));
    let other = json!({"spec": {"hosts": ["c"]}, "status": {"seen": true}});
    let status = services.patch_status("a", &PatchParams::default(), &Patch::Merge(&other)).await.unwrap();
    assert_eq!((status.data["spec"]["hosts"][0].as_str(), status.data["status"]["seen"].as_bool()), (Some("b"), Some(true)));
}
