//! Create, read, update, delete: metadata, defaults, refusals.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::discovery::Discovery;
use serde_json::json;

use crate::{Cluster, config_map, deployment, refused, running_pod, typed, virtual_service, virtual_services};

#[tokio::test]
async fn a_stale_write_conflicts() {
    let cluster = Cluster::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, "prod");
    let first = maps.create(&PostParams::default(), &typed(config_map("a"))).await.unwrap();
    let mut changed = first.clone();
    changed.data = Some([("k".into(), "w".into())].into());
    maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    let (code, reason, message) = refused(maps.replace("a", &PostParams::default(), &changed).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    let wanted = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again";
    assert_eq!(message, wanted);
}

#[tokio::test]
async fn refusals_have_the_real_servers_words() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "prod");
    maps.create(&PostParams::default(), &typed(config_map("a"))).await.unwrap();
    let said = |r| refused::<ConfigMap>(r);
    let again = said(maps.create(&PostParams::default(), &typed(config_map("a"))).await);
    assert_eq!(again, (409, "AlreadyExists".into(), "configmaps \"a\" already exists".into()));
    assert_eq!(said(maps.get("b").await), (404, "NotFound".into(), "configmaps \"b\" not found".into()));
    let nowhere: Api<ConfigMap> = Api::namespaced(client.clone(), "none");
    let mut lost = config_map("a");
    lost["metadata"]["namespace"] = json!("none");
    assert_eq!(said(nowhere.create(&PostParams::default(), &typed(lost)).await).2, "namespaces \"none\" not found");
    let (code, _, message) = said(maps.create(&PostParams::default(), &typed(config_map("Not_Good"))).await);
    assert_eq!(code, 422);
    assert!(
        message.starts_with("ConfigMap \"Not_Good\" is invalid: metadata.name: Invalid value: \"Not_Good\": a lowercase RFC 1123 subdomain must"),
        "{message}"
    );

    let deployments: Api<Deployment> = Api::namespaced(client, "prod");
    let mut wrong = deployment("web");
    wrong["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    let (_, reason, message) = refused(deployments.create(&PostParams::default(), &typed(wrong)).await);
    assert_eq!(reason, "Invalid");
    assert_eq!(
        message,
        "Deployment.apps \"web\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`"
    );
    deployments.create(&PostParams::default(), &typed(deployment("web"))).await.unwrap();
    let patch = json!({"spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}}}}});
    let (_, _, message) = refused(deployments.patch("web", &PatchParams::default(), &Patch::Merge(patch)).await);
    assert_eq!(message, "Deployment.apps \"web\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable");
}

#[tokio::test]
async fn strict_validation_names_the_unknown_field() {
    let cluster = Cluster::start().await;
    let mut wrong = deployment("web");
    wrong["spec"]["template"]["spec"]["containers"][0]["prots"] = json!([]);
    let url = format!("{}/apis/apps/v1/namespaces/prod/deployments", cluster.server.url());
    let strict = cluster.http().post(format!("{url}?fieldValidation=Strict")).bearer_auth("t").json(&wrong).send().await.unwrap();
    assert_eq!(strict.status(), 400);
    let text = strict.text().await.unwrap();
    assert!(text.contains(r#"strict decoding error: unknown field \"spec.template.spec.containers[0].prots\""#), "{text}");
    let warned = cluster.http().post(&url).bearer_auth("t").json(&wrong).send().await.unwrap();
    assert_eq!(warned.status(), 201);
    let warning = warned.headers()["warning"].to_str().unwrap();
    assert_eq!(warning, r#"299 - "unknown field \"spec.template.spec.containers[0].prots\"""#);
}

#[tokio::test]
async fn what_is_left_out_is_filled_in() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let services: Api<Service> = Api::namespaced(client.clone(), "prod");
    let service = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort", "ports": [{"port": 80}], "selector": {"app": "web"}}});
    let spec = services.create(&PostParams::default(), &typed(service)).await.unwrap().spec.unwrap();
    let port = &spec.ports.as_ref().unwrap()[0];
    assert!(spec.cluster_ip.unwrap().starts_with("10.100."));
    assert!((30_000..=32_767).contains(&port.node_port.unwrap()));
    assert_eq!(port.protocol.as_deref(), Some("TCP"));
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "prod");
    let spec = deployments.create(&PostParams::default(), &typed(deployment("web"))).await.unwrap().spec;
    assert_eq!((spec.replicas, spec.revision_history_limit, spec.progress_deadline_seconds), (Some(1), Some(10), Some(600)));
    let pod = spec.template.spec.unwrap();
    assert_eq!((pod.restart_policy.as_deref(), pod.containers[0].image_pull_policy.as_deref()), (Some("Always"), Some("IfNotPresent")));
    let secrets: Api<Secret> = Api::namespaced(client, "prod");
    let secret = secrets.create(&PostParams::default(), &typed(json!({"metadata": {"generateName": "s-"}, "stringData": {"a": "b"}}))).await.unwrap();
    assert_eq!((secret.data.unwrap()["a"].0.as_slice(), secret.type_.as_deref()), (&b"b"[..], Some("Opaque")));
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let cluster = Cluster::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, "prod");
    let version = cluster.store.version();
    maps.create(&PostParams { dry_run: true, ..PostParams::default() }, &typed(config_map("a"))).await.unwrap();
    assert_eq!((cluster.store.version(), maps.get_opt("a").await.unwrap()), (version, None));
}

#[tokio::test]
async fn deleting_waits_for_finalizers_and_takes_dependents_along() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "prod");
    let mut held = config_map("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let owner = maps.create(&PostParams::default(), &typed(held)).await.unwrap();
    let mut owned = config_map("owned");
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "held", "uid": owner.metadata.uid}]);
    maps.create(&PostParams::default(), &typed(owned)).await.unwrap();
    let wrong = DeleteParams { preconditions: Some(Preconditions { uid: Some("other".into()), resource_version: None }), ..DeleteParams::default() };
    assert_eq!(refused(maps.delete("held", &wrong).await).0, 409);
    let still = maps.delete("held", &DeleteParams::default()).await.unwrap().left().expect("held by its finalizer");
    assert!(still.metadata.deletion_timestamp.is_some());
    let free = json!({"metadata": {"finalizers": null}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    assert!(maps.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_namespace_takes_its_content_along() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "prod");
    deployments.create(&PostParams::default(), &typed(deployment("web"))).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete("prod", &DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() }).await.unwrap();
    assert_eq!(namespaces.get_opt("prod").await.unwrap(), None);
    assert_eq!(deployments.get_opt("web").await.unwrap(), None);
}

#[tokio::test]
async fn lists_select_and_page() {
    let cluster = Cluster::start().await;
    for n in 0..5 {
        let mut pod = running_pod(&format!("p{n}"));
        if n == 0 {
            pod["metadata"]["labels"] = json!({"app": "other"});
            pod["status"]["phase"] = json!("Pending");
        }
        cluster.store.create("pods", pod).unwrap();
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, "prod");
    let names = |list: &kube::api::ObjectList<Pod>| list.items.iter().filter_map(|p| p.metadata.name.clone()).collect::<Vec<_>>().join(" ");
    let selected = pods.list(&ListParams::default().labels("app in (web)").fields("status.phase=Running,metadata.name!=p3")).await.unwrap();
    assert_eq!(names(&selected), "p1 p2 p4");
    let page = pods.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((names(&page).as_str(), page.metadata.remaining_item_count), ("p0 p1", Some(3)));
    let rest = pods.list(&ListParams::default().continue_token(page.metadata.continue_.as_deref().unwrap())).await.unwrap();
    assert_eq!(names(&rest), "p2 p3 p4");
    assert_eq!(refused(pods.list(&ListParams::default().fields("spec.colour=red")).await).0, 400);
}

#[tokio::test]
async fn kinds_come_and_go_with_their_definitions() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let found = Discovery::new(client.clone()).run().await.unwrap();
    let (kind, capabilities) = found.get("networking.istio.io").unwrap().recommended_kind("VirtualService").unwrap();
    assert_eq!((kind.version.as_str(), kind.plural.as_str(), capabilities.subresources.len()), ("v1", "virtualservices", 1));
    let services = virtual_services(client);
    services.create(&PostParams::default(), &typed(virtual_service("a", "a.public.domain"))).await.unwrap();
    let (code, older) = cluster.get("/apis/networking.istio.io/v1beta1/namespaces/prod/virtualservices/a").await;
    assert_eq!((code, older["apiVersion"].as_str()), (200, Some("networking.istio.io/v1beta1")));
    let (_, _, message) = refused(services.create(&PostParams::default(), &typed(json!({"metadata": {"name": "b"}, "spec": {"hosts": []}}))).await);
    assert_eq!(
        message,
        "VirtualService.networking.istio.io \"b\" is invalid: spec.hosts: Invalid value: []: spec.hosts in body should be at least 1 items"
    );
    cluster.store.delete("customresourcedefinitions.apiextensions.k8s.io", "", "virtualservices.networking.istio.io").unwrap();
    let gone = cluster.http().get(format!("{}/apis/networking.istio.io/v1/namespaces/prod/virtualservices/a", cluster.server.url()));
    let gone = gone.bearer_auth("t").send().await.unwrap();
    assert_eq!((gone.status().as_u16(), gone.text().await.unwrap().as_str()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn tables_and_documents_for_kubectl() {
    let cluster = Cluster::start().await;
    cluster.store.create("pods", running_pod("web-1")).unwrap();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let request = cluster.http().get(format!("{}/api/v1/namespaces/prod/pods", cluster.server.url())).bearer_auth("t").header("accept", accept);
    let table: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (table["kind"].as_str(), &table["rows"][0]["cells"].as_array().unwrap()[..3]),
        (Some("Table"), &[json!("web-1"), json!("1/1"), json!("Running")][..])
    );
    let (_, index) = cluster.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let (code, document) = cluster.get(&url).await;
    assert_eq!(code, 200);
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
    let spec = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!((&spec["x-kubernetes-list-map-keys"], &spec["type"]), (&json!(["name"]), &json!("array")));
}
