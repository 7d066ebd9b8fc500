//! What a wait costs the API server, counted there.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::PostParams;
use meshstep::clients::Settings;
use meshstep::clients::kube::{Access, Cluster};
use meshstep::domain::services::rollout::policy::Policy;
use meshstep::domain::services::rollout::seen::Kind;
use meshstep::domain::services::watch::{Follower, Target};

use crate::support::{World, deployment};

/// A Deployment that does not get ready while it is waited for.
const SLOW: &str = "
name: slow
namespaces: [{name: prod}]
pods: [{match: {workload: web}, then: [{after: 10m, state: ready}]}]
";

/// Verb and path of every call but the watches.
fn calls(world: &World) -> Vec<String> {
    let seen = world.sandbox.server().expect("the API server").audit();
    seen.iter().filter(|entry| entry.verb != "watch").map(|entry| format!("{} {}", entry.verb, entry.path)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_waiting_costs_ten_calls_at_most() {
    let world = World::of(SLOW).await;
    let private = tempfile::tempdir().expect("a folder");
    let settings = Settings::from_vars([], world.sandbox.env().iter().cloned());
    let access = Access::Context { context: None, private: private.path().join("kubeconfig") };
    let cluster = Cluster::connect(access, &settings).await.expect("a cluster");
    let target = Target { kind: Kind::Deployment, namespace: "prod".to_owned(), name: "web".to_owned(), place: None };
    let follower = Follower::start(&cluster, target, Policy::default()).await.expect("follows");
    world.api::<Deployment>("prod").create(&PostParams::default(), &deployment("web", "registry.example/web:1", 2)).await.expect("created");

    let before = calls(&world).len();
    let waiting = tokio::spawn(async move { follower.finish(Duration::from_secs(300), &|_| ()).await.map(|success| success.note) });
    // What a wait begins with, and then half a minute of it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let first = calls(&world).split_off(before);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let all = calls(&world).split_off(before);
    assert!(!waiting.is_finished(), "it was no wait: {:?}", waiting.await);
    waiting.abort();

    let half = all.len() - first.len();
    assert!((3..=4).contains(&half), "the pods every ten seconds, and seldom the rest: {all:#?}");
    assert!(first.len() + 2 * half <= 10, "in a minute: {all:#?}");
}
