//! A copy of some objects that a watch keeps fresh, and that lists of our own correct.
//!
//! The watch makes it quick and costs no calls; the list is the truth: it brings what a silent watch has missed and drops what is gone.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, ListParams, WatchParams};
use kube::core::{NamespaceResourceScope, WatchEvent};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::base::fault::Result;
use crate::base::mutex::lock;
use crate::clients::kube::{Cluster, fault};

/// How long the server keeps a watch open before we ask for it again.
const WATCH_SECONDS: u32 = 240;
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A watch that is this much later than a list is silent.
const LATE: Duration = Duration::from_secs(3);

/// Which objects.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub namespace: String,
    pub labels: String,
    pub fields: String,
}

/// Dropping it ends the watch.
pub struct Mirror<K> {
    api: Api<K>,
    choice: Choice,
    store: Arc<Mutex<Store<K>>>,
    _task: AbortOnDropHandle<()>,
}

struct Store<K> {
    /// By uid.
    objects: BTreeMap<String, K>,
    /// Versions at which objects were deleted, so that an older list does not bring them back.
    deleted: BTreeMap<String, u64>,
    /// Versions that a list has brought and the watch has not, and since when it owes them.
    owed: BTreeMap<String, (u64, Instant)>,
}

impl<K> Mirror<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Starts to watch. Each change wakes `notify`.
    pub fn start(cluster: &Cluster, choice: Choice, notify: Arc<Notify>) -> Self {
        let api: Api<K> = cluster.api(&choice.namespace);
        let store = Arc::new(Mutex::new(Store::default()));
        let task = tokio::spawn(follow(api.clone(), choice.clone(), Arc::clone(&store), notify));
        Self { api, choice, store, _task: AbortOnDropHandle::new(task) }
    }

    /// Lists, as the truth. `true`: the watch had missed something; with `late` it is known to be so for some time.
    pub async fn relist(&self, late: bool) -> Result<bool> {
        let params = ListParams::default().labels(&self.choice.labels).fields(&self.choice.fields);
        let doing = || format!("listing {} in {}", K::plural(&()), self.choice.namespace);
        let list = self.api.list(&params).await.map_err(|e| fault(e, &doing()))?;
        let version = list.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX);
        let since = Instant::now();
        let since = if late { since.checked_sub(LATE).unwrap_or(since) } else { since };
        Ok(lock(&self.store).correct(list.items, version, since))
    }

    /// The kind, when its watch does not say what lists say.
    pub fn silent(&self) -> Option<String> {
        let owes = lock(&self.store).owed.values().any(|(_, since)| since.elapsed() >= LATE);
        owes.then(|| K::plural(&()).into_owned())
    }

    pub fn objects(&self) -> Vec<K> {
        lock(&self.store).objects.values().cloned().collect()
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), deleted: BTreeMap::new(), owed: BTreeMap::new() }
    }
}

impl<K: Resource<DynamicType = ()> + Clone> Store<K> {
    /// The watch brings an object.
    fn hear(&mut self, object: K) -> bool {
        let uid = object.uid().unwrap_or_else(|| object.name_any());
        if self.owed.get(&uid).is_some_and(|(owed, _)| version(&object) >= *owed) {
            self.owed.remove(&uid);
        }
        self.put(object)
    }

    /// Takes a newer version of an object in; an older one is dropped.
    fn put(&mut self, object: K) -> bool {
        let uid = object.uid().unwrap_or_else(|| object.name_any());
        let version = version(&object);
        let known = self.objects.get(&uid).map(self::version).into_iter().chain(self.deleted.get(&uid).copied()).max();
        let newer = known.is_none_or(|known| version > known);
        if newer {
            self.objects.insert(uid, object);
        }
        newer
    }

    fn remove(&mut self, object: &K) {
        let uid = object.uid().unwrap_or_else(|| object.name_any());
        self.objects.remove(&uid);
        self.owed.remove(&uid);
        self.deleted.insert(uid, version(object));
    }

    /// The list's objects, and those that are newer than the list. What it brings is owed by the watch `since` then.
    fn correct(&mut self, items: Vec<K>, list_version: u64, since: Instant) -> bool {
        let listed: std::collections::BTreeSet<String> = items.iter().map(|o| o.uid().unwrap_or_else(|| o.name_any())).collect();
        let mut missed: Vec<(String, u64)> = self
            .objects
            .iter()
            .filter(|(uid, object)| !listed.contains(*uid) && version(*object) <= list_version)
            .map(|(uid, _)| (uid.clone(), list_version))
            .collect();
        for (uid, _) in &missed {
            self.objects.remove(uid);
        }
        for item in items {
            let debt = (item.uid().unwrap_or_else(|| item.name_any()), version(&item));
            if self.put(item) {
                missed.push(debt);
            }
        }
        let any = !missed.is_empty();
        for (uid, version) in missed {
            let owed = self.owed.entry(uid).or_insert((version, since));
            *owed = (version, owed.1.min(since));
        }
        any
    }
}

fn version<K: Resource<DynamicType = ()>>(object: &K) -> u64 {
    object.resource_version().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}

async fn follow<K>(api: Api<K>, choice: Choice, store: Arc<Mutex<Store<K>>>, notify: Arc<Notify>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let params = WatchParams::default().timeout(WATCH_SECONDS).labels(&choice.labels).fields(&choice.fields);
    let mut pause = SHORTEST_PAUSE;
    loop {
        lock(&store).owed.clear();
        // From "0": what is there comes as events first, so nothing between two watches is missed.
        if let Ok(stream) = api.watch(&params, "0").await {
            let mut stream = std::pin::pin!(stream);
            while let Some(Ok(event)) = stream.next().await {
                match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        if lock(&store).hear(object) {
                            notify.notify_one();
                        }
                    }
                    WatchEvent::Deleted(object) => {
                        lock(&store).remove(&object);
                        notify.notify_one();
                    }
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(_) => break,
                }
                pause = SHORTEST_PAUSE;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn map(uid: &str, version: u64) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.uid = Some(uid.to_owned());
        map.metadata.resource_version = Some(version.to_string());
        map
    }

    fn seen(store: &Store<ConfigMap>) -> Vec<(String, u64)> {
        store.objects.iter().map(|(uid, object)| (uid.clone(), version(object))).collect()
    }

    #[test]
    fn the_newer_of_watch_and_list_wins() {
        let now = Instant::now();
        let mut store = Store::default();
        assert!(store.put(map("a", 5)));
        assert!(!store.put(map("a", 4)));
        store.put(map("new", 12));
        // The list is older than `new`, has missed nothing of `a`, and knows that `gone` is gone.
        store.put(map("gone", 6));
        assert!(store.correct(vec![map("a", 5)], 10, now));
        assert_eq!(seen(&store), [("a".to_owned(), 5), ("new".to_owned(), 12)]);
        assert!(!store.correct(vec![map("a", 5), map("new", 12)], 13, now));
        // What a watch saw deleted does not come back from an older list.
        store.remove(&map("a", 20));
        assert!(!store.correct(vec![map("a", 5), map("new", 12)], 19, now));
        assert_eq!(seen(&store), [("new".to_owned(), 12)]);
    }

    #[test]
    fn a_watch_owes_what_a_list_brought_first() {
        let now = Instant::now();
        let mut store = Store::default();
        let owed = |store: &Store<ConfigMap>| store.owed.keys().cloned().collect::<Vec<_>>();
        store.hear(map("a", 1));
        store.hear(map("gone", 2));
        assert!(!store.correct(vec![map("a", 1), map("gone", 2)], 3, now));
        assert!(owed(&store).is_empty());
        assert!(store.correct(vec![map("a", 5)], 6, now));
        assert_eq!(owed(&store), ["a", "gone"]);
        // An older version pays nothing; the same one does, and so does the word of a deletion.
        store.hear(map("a", 4));
        store.remove(&map("gone", 6));
        assert_eq!(owed(&store), ["a"]);
        store.hear(map("a", 5));
        assert!(owed(&store).is_empty());
    }
}
