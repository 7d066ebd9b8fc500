//! What a wait costs the API server, counted there, and how soon after the fact its verdict comes.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;
use kube::api::{PostParams, WatchEvent, WatchParams};
use meshstep::clients::Settings;
use meshstep::clients::kube::{Access, Cluster};
use meshstep::domain::services::rollout::policy::Policy;
use meshstep::domain::services::rollout::seen::Kind;
use meshstep::domain::services::watch::{Follower, Heard, Target};
use serde::de::DeserializeOwned;

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

/// A new Deployment `web` of two pods, followed from before it is made.
async fn followed(world: &World) -> Follower {
    let private = tempfile::tempdir().expect("a folder");
    let settings = Settings::from_vars([], world.sandbox.env().iter().cloned());
    let access = Access::Context { context: None, private: private.path().join("kubeconfig") };
    let cluster = Cluster::connect(access, &settings).await.expect("a cluster");
    let target = Target { kind: Kind::Deployment, namespace: "prod".to_owned(), name: "web".to_owned(), place: None };
    let follower = Follower::start(&cluster, target, Policy::default()).await.expect("follows");
    world.api::<Deployment>("prod").create(&PostParams::default(), &deployment("web", "registry.example/web:1", 2)).await.expect("created");
    follower
}

/// When another watch than the tool's has said so of two different objects, or of the only one.
async fn said<K>(api: Api<K>, of: usize, so: impl Fn(&K) -> bool) -> Instant
where
    K: kube::Resource + Clone + Debug + DeserializeOwned,
{
    let mut events = api.watch(&WatchParams::default(), "0").await.expect("a watch").boxed();
    let mut names = std::collections::BTreeSet::new();
    while let Some(event) = events.try_next().await.expect("an event") {
        if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
            && so(&object)
        {
            names.extend(object.meta().name.clone());
        }
        if names.len() == of {
            return Instant::now();
        }
    }
    panic!("the watch ended");
}

/// How much later than the fact the verdict is drawn.
async fn delay<K>(world: &str, of: usize, so: fn(&K) -> bool) -> Duration
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let world = World::of(&format!("name: fact\nnamespaces: [{{name: prod}}]\n{world}")).await;
    let follower = followed(&world).await;
    let fact = tokio::spawn(said(world.api::<K>("prod"), of, so));
    let drawn = Mutex::new(None);
    let hear = |heard: Heard<'_>| {
        if let Heard::Observed(_, data) = heard
            && !data["verdict"].is_null()
        {
            drawn.lock().expect("lock").get_or_insert_with(Instant::now);
        }
    };
    let ended = follower.finish(Duration::from_secs(60), &hear).await;
    let drawn = drawn.into_inner().expect("lock").unwrap_or_else(|| panic!("no verdict: {ended:?}"));
    drawn.saturating_duration_since(fact.await.expect("the fact"))
}

/// A busy machine may be late once; who waits for a list or a tick is late each time.
async fn within<F: Future<Output = Duration>>(limit: Duration, what: &str, delay: impl Fn() -> F) {
    let mut delays = Vec::new();
    for _ in 0..4 {
        delays.push(delay().await);
        if delays.last().is_some_and(|last| *last <= limit) {
            return;
        }
    }
    panic!("{what}: not within {limit:?}: {delays:?}");
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_told_300_ms_after_it_is_true() {
    let ready = |web: &Deployment| web.status.as_ref().is_some_and(|status| status.available_replicas == Some(2));
    within(Duration::from_millis(300), "ready", || delay::<Deployment>("", 1, ready)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_told_a_second_after_it_is_visible() {
    const GONE: &str = "images: {missing: [\"registry.example/web:*\"]}";
    let missing = |pod: &Pod| {
        statuses(pod).any(|status| {
            let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
            waiting.is_some_and(|waiting| matches!(waiting.reason.as_deref(), Some("ErrImagePull" | "ImagePullBackOff")))
        })
    };
    within(Duration::from_secs(1), "missing image", || delay::<Pod>(GONE, 2, missing)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_is_told_a_second_after_its_third_crash_is_visible() {
    const CRASHES: &str = "pods: [{then: [{after: 100ms, state: crashed, exit-code: 3}]}]";
    let crashed = |pod: &Pod| {
        statuses(pod).any(|status| {
            let ended = status.state.as_ref().is_some_and(|state| state.terminated.is_some());
            status.restart_count + i32::from(ended) >= 3
        })
    };
    within(Duration::from_secs(1), "crash loop", || delay::<Pod>(CRASHES, 2, crashed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_waiting_costs_ten_calls_at_most() {
    let world = World::of(SLOW).await;
    let follower = followed(&world).await;
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
