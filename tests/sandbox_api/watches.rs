//! Watches: order, selectors, bookmarks, expiry and recovery.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use crate::{Cluster, config_map};

const SOON: Duration = Duration::from_secs(10);

fn shown(event: &WatchEvent<ConfigMap>) -> String {
    let name = |o: &ConfigMap| o.metadata.name.clone().unwrap_or_default();
    match event {
        WatchEvent::Added(o) => format!("added {}", name(o)),
        WatchEvent::Modified(o) => format!("modified {}", name(o)),
        WatchEvent::Deleted(o) => format!("deleted {}", name(o)),
        WatchEvent::Bookmark(b) => format!("bookmark {}", b.metadata.annotations.contains_key("k8s.io/initial-events-end")),
        WatchEvent::Error(e) => format!("error {} {}", e.code, e.reason),
    }
}

#[tokio::test]
async fn changes_arrive_in_order_and_objects_that_leave_the_selection_are_deleted() {
    let cluster = Cluster::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, "prod");
    let start = cluster.store.version().to_string();
    let events = maps.watch(&WatchParams::default().labels("team=bi"), &start).await.unwrap();
    let mut labelled = config_map("a");
    labelled["metadata"]["labels"] = json!({"team": "bi"});
    cluster.store.create("configmaps", config_map("noise")).unwrap();
    cluster.store.create("configmaps", labelled).unwrap();
    cluster.store.modify("configmaps", "prod", "a", |map| map["data"] = json!({"k": "w"})).unwrap();
    cluster.store.modify("configmaps", "prod", "a", |map| map["metadata"]["labels"] = json!({})).unwrap();
    cluster.store.delete("configmaps", "prod", "a").unwrap();
    cluster.store.modify("configmaps", "prod", "noise", |map| map["metadata"]["labels"] = json!({"team": "bi"})).unwrap();
    let seen: Vec<String> = tokio::time::timeout(SOON, events.map_ok(|e| shown(&e)).take(4).try_collect()).await.unwrap().unwrap();
    assert_eq!(seen, ["added a", "modified a", "deleted a", "added noise"]);
}

#[tokio::test]
async fn a_streaming_list_ends_with_its_bookmark() {
    let cluster = Cluster::start().await;
    cluster.store.create("configmaps", config_map("a")).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, "prod");
    let events = maps.watch(&WatchParams::default().initial_events(), "0").await.unwrap();
    let seen: Vec<String> = tokio::time::timeout(SOON, events.map_ok(|e| shown(&e)).take(2).try_collect()).await.unwrap().unwrap();
    assert_eq!(seen, ["added a", "bookmark true"]);
}

#[tokio::test]
async fn an_old_version_is_gone_and_a_watch_ends_after_its_time() {
    let cluster = Cluster::start().await;
    let start = cluster.store.version().to_string();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, "prod");
    let short = maps.watch(&WatchParams::default().timeout(1), &start).await.unwrap();
    let ended: Vec<String> = tokio::time::timeout(SOON, short.map_ok(|e| shown(&e)).try_collect()).await.unwrap().unwrap();
    assert_eq!(ended, [""; 0], "nothing has happened that a bookmark could mark");
    cluster.store.create("configmaps", config_map("a")).unwrap();
    cluster.store.compact();
    let events = maps.watch(&WatchParams::default(), &start).await.unwrap();
    let seen: Vec<String> = tokio::time::timeout(SOON, events.map_ok(|e| shown(&e)).try_collect()).await.unwrap().unwrap();
    assert_eq!(seen, ["error 410 Expired"]);
}

#[tokio::test]
async fn a_watcher_recovers_from_a_restart_and_from_a_lost_history() {
    let cluster = Cluster::start().await;
    cluster.store.create("configmaps", config_map("a")).unwrap();
    for streaming in [false, true] {
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, "prod");
        let config = if streaming { watcher::Config::default().streaming_lists() } else { watcher::Config::default() };
        let mut events = watcher(maps, config).boxed();
        let mut next = async || loop {
            if let Ok(Event::Apply(map) | Event::InitApply(map)) = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap() {
                return map.metadata.name.unwrap();
            }
        };
        assert_eq!(next().await, "a");
        cluster.server.pause();
        cluster.store.create("configmaps", config_map("b")).unwrap();
        cluster.store.compact();
        cluster.server.resume().await.unwrap();
        assert_eq!((next().await, next().await), ("a".into(), "b".into()), "streaming {streaming}");
        cluster.store.delete("configmaps", "prod", "b").unwrap();
    }
}
