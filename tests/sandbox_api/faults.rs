//! What a world can do to a request: refuse it, delay it, hang up, fall silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, WatchParams};
use meshstep::sandbox::api::{Fault, Options};
use meshstep::sandbox::store::Status;

use crate::{Cluster, config_map};

const SILENCE: Duration = Duration::from_millis(300);

async fn once(fault: Fault) -> Cluster {
    let count = Arc::new(AtomicUsize::new(0));
    let first = move |seen: &meshstep::sandbox::api::Seen| seen.resource == "configmaps" && count.fetch_add(1, Ordering::Relaxed) == 0;
    Cluster::with(Options { faults: Arc::new(move |seen| first(seen).then(|| fault.clone())), ..Options::default() }).await
}

fn maps(cluster: &Cluster) -> String {
    format!("{}/api/v1/namespaces/prod/configmaps", cluster.server.url())
}

#[tokio::test]
async fn answers_delays_and_hang_ups() {
    let cluster = once(Fault::Answer(Status::too_many_requests(7))).await;
    let http = cluster.http();
    let busy = http.get(maps(&cluster)).bearer_auth("t").send().await.unwrap();
    assert_eq!((busy.status().as_u16(), busy.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(http.get(maps(&cluster)).bearer_auth("t").send().await.unwrap().status(), 200);

    let cluster = once(Fault::Delay(SILENCE)).await;
    let began = Instant::now();
    assert_eq!(cluster.http().get(maps(&cluster)).bearer_auth("t").send().await.unwrap().status(), 200);
    assert!(began.elapsed() >= SILENCE);

    let cluster = once(Fault::HangUp).await;
    assert!(cluster.http().get(maps(&cluster)).bearer_auth("t").send().await.is_err());
    assert_eq!(cluster.server.audit().last().map(|e| e.code), Some(0));
}

#[tokio::test]
async fn a_frozen_request_waits_and_a_frozen_server_thaws() {
    let cluster = once(Fault::Freeze).await;
    let request = cluster.http().get(maps(&cluster)).bearer_auth("t").send();
    assert!(tokio::time::timeout(SILENCE, request).await.is_err());
    cluster.server.freeze(true);
    let request = cluster.http().get(maps(&cluster)).bearer_auth("t").send();
    tokio::pin!(request);
    assert!(tokio::time::timeout(SILENCE, &mut request).await.is_err());
    cluster.server.freeze(false);
    assert_eq!(request.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_watch_is_cut_or_falls_silent() {
    for (fault, ends) in [(Fault::CutWatch(SILENCE), true), (Fault::MuteWatch(SILENCE), false)] {
        let cluster = once(fault).await;
        let api: Api<ConfigMap> = Api::namespaced(cluster.client().await, "prod");
        let events = api.watch(&WatchParams::default(), &cluster.store.version().to_string()).await.unwrap();
        let mut events = events.boxed();
        cluster.store.create("configmaps", config_map("a")).unwrap();
        assert!(events.try_next().await.unwrap().is_some());
        let next = tokio::time::timeout(SILENCE * 3, async {
            cluster.store.create("configmaps", config_map("late")).ok();
            events.try_next().await
        });
        // What was made before the fault began may still arrive.
        let after = match next.await {
            Ok(Ok(Some(_))) => tokio::time::timeout(SILENCE * 3, events.try_next()).await,
            other => other,
        };
        assert_eq!(after.is_ok(), ends, "{after:?}");
        assert!(!matches!(after, Ok(Ok(Some(_)))), "{after:?}");
    }
}

#[tokio::test]
async fn a_paused_server_refuses_and_comes_back_on_its_port() {
    let cluster = Cluster::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client().await, "prod");
    api.list(&ListParams::default()).await.unwrap();
    cluster.server.pause();
    assert!(matches!(api.list(&ListParams::default()).await, Err(e) if !matches!(e, kube::Error::Api(_))));
    cluster.server.resume().await.unwrap();
    api.list(&ListParams::default()).await.unwrap();
}

#[tokio::test]
async fn unplayed_calls_are_named_and_http_1_1_works_too() {
    let cluster = Cluster::start().await;
    let ca = reqwest::Certificate::from_pem(cluster.server.ca_pem().as_bytes()).unwrap();
    let old = reqwest::Client::builder().tls_certs_only([ca]).http1_only().build().unwrap();
    let answer = old.get(format!("{}/metrics", cluster.server.url())).bearer_auth("t").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (501, reqwest::Version::HTTP_11));
    assert!(answer.text().await.unwrap().contains("the sandbox does not play this call: get /metrics"));
    let answer = cluster.http().get(format!("{}/version", cluster.server.url())).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    let seen = cluster.server.audit();
    assert_eq!(seen.iter().map(|e| (e.path.as_str(), e.code)).collect::<Vec<_>>(), [("/metrics", 501), ("/version", 200)]);
}
