//! Who may do what: tokens, refusals, reviews.

use std::sync::Arc;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, ListParams, PostParams};
use meshstep::sandbox::api::Options;
use meshstep::sandbox::store::User;
use serde_json::json;

use crate::{Cluster, refused, running_pod, typed};

async fn guarded() -> Cluster {
    let ci = User { name: "ci".into(), uid: "1".into(), groups: vec!["system:authenticated".into()] };
    Cluster::with(Options {
        authenticate: Arc::new(move |token| (token == "good").then(|| ci.clone())),
        authorize: Arc::new(|seen| {
            seen.resource == "pods" && seen.subresource.is_empty() && seen.verb != "delete" || seen.group == "authorization.k8s.io"
        }),
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn a_wrong_token_is_401_and_none_is_anonymous() {
    let cluster = guarded().await;
    let pods: Api<Pod> = Api::namespaced(cluster.client_with("bad").await, "prod");
    assert_eq!(refused(pods.list(&ListParams::default()).await), (401, "Unauthorized".into(), "Unauthorized".into()));
    let url = cluster.server.url();
    assert_eq!(cluster.http().get(format!("{url}/version")).send().await.unwrap().status(), 200);
    let anonymous = cluster.http().get(format!("{url}/api/v1/pods")).send().await.unwrap();
    assert_eq!(anonymous.status(), 403);
    let text = anonymous.text().await.unwrap();
    assert!(text.contains(r#"User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope"#), "{text}");
}

#[tokio::test]
async fn a_missing_right_is_named_as_the_real_server_names_it() {
    let cluster = guarded().await;
    cluster.store.create("pods", running_pod("web-1")).unwrap();
    let client = cluster.client_with("good").await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "prod");
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let (code, reason, message) = refused(pods.logs("web-1", &Default::default()).await);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(message, "pods \"web-1\" is forbidden: User \"ci\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"prod\"");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let (_, _, message) = refused(namespaces.list(&ListParams::default()).await);
    assert_eq!(message, "namespaces is forbidden: User \"ci\" cannot list resource \"namespaces\" in API group \"\" at the cluster scope");

    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    for (verb, wanted) in [("get", true), ("delete", false)] {
        let asked = json!({"spec": {"resourceAttributes": {"namespace": "prod", "verb": verb, "resource": "pods"}}});
        let review = reviews.create(&PostParams::default(), &typed(asked)).await.unwrap();
        assert_eq!(review.status.unwrap().allowed, wanted, "{verb}");
    }
}
