//! The cluster's memory: versioned objects by kind, namespace and name, with admission, watches and garbage collection.
//!
//! A kind is named as kubectl names it: `pods`, `deployments.apps`, `virtualservices.networking.istio.io`. Objects are plain JSON.
//! `Store` is cheap to clone; all clones are the same store. No call blocks for longer than a few map operations.

mod collect;
mod hooks;
pub mod log;
pub mod meta;
pub mod resources;
pub mod status;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::Value;
use tokio::sync::watch;

pub use hooks::{Hook, Operation, Review, User};
pub use log::{Event, EventKind, Watcher};
pub use resources::Resource;
pub use status::{Cause, Status};
pub use write::{Deleted, Deletion, Part, Propagation, Write};

/// How many changes a watch can go back.
const HISTORY: usize = 20_000;

/// Kind, namespace, name.
type Key = (String, String, String);

struct Inner {
    version: u64,
    objects: BTreeMap<String, BTreeMap<(String, String), Arc<Value>>>,
    resources: BTreeMap<String, Arc<Resource>>,
    uids: HashSet<String>,
    /// Objects whose deletion has begun.
    pending: BTreeSet<Key>,
    log: VecDeque<Arc<Event>>,
    /// Changes up to this version are no longer in the log.
    forgotten: u64,
    graceful_pods: bool,
}

struct Shared {
    inner: Mutex<Inner>,
    hooks: RwLock<Vec<Arc<Hook>>>,
    changed: watch::Sender<u64>,
}

/// The objects of one cluster.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store at version {}", self.version())
    }
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

impl Store {
    /// An empty cluster that serves the built-in kinds.
    pub fn new() -> Store {
        let resources = resources::builtin().into_iter().map(|r| (r.id(), Arc::new(r))).collect();
        let inner = Inner {
            version: 1,
            objects: BTreeMap::new(),
            resources,
            uids: HashSet::new(),
            pending: BTreeSet::new(),
            log: VecDeque::new(),
            forgotten: 0,
            graceful_pods: false,
        };
        Store(Arc::new(Shared { inner: Mutex::new(inner), hooks: RwLock::default(), changed: watch::Sender::new(1) }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watchers if `inner` has changed.
    fn announce(&self, inner: MutexGuard<'_, Inner>) {
        let version = inner.version;
        drop(inner);
        self.0.changed.send_if_modified(|seen| {
            let newer = version > *seen;
            *seen = version.max(*seen);
            newer
        });
    }

    /// The newest resourceVersion.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// The served kinds, sorted by `plural.group`.
    pub fn resources(&self) -> Vec<Arc<Resource>> {
        self.lock().resources.values().cloned().collect()
    }

    /// The served kind named `plural.group`.
    ///
    /// # Errors
    /// 404 `the server could not find the requested resource`.
    pub fn resource(&self, id: &str) -> Result<Arc<Resource>, Status> {
        self.lock().resources.get(id).cloned().ok_or_else(Status::unknown_resource)
    }

    /// One object; `namespace` is empty for kinds without namespaces.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().get(resource, namespace, name)
    }

    /// All objects of a kind, in one namespace or, with an empty one, in all; sorted by namespace and name.
    pub fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        self.lock().list(resource, namespace)
    }

    /// `list` together with the version it was taken at, from which a watch misses nothing.
    pub fn list_at(&self, resource: &str, namespace: &str) -> (Vec<Arc<Value>>, u64) {
        let inner = self.lock();
        (inner.list(resource, namespace), inner.version)
    }

    /// Adds an admission hook; hooks run in this order on every write, those of the controllers included.
    pub fn admit(&self, hook: impl Fn(&Store, &Review<'_>, &mut Value) -> Result<(), Status> + Send + Sync + 'static) {
        self.0.hooks.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(hook));
    }

    /// With `true`, deleting a pod that is bound to a node only sets its deletionTimestamp: who plays the kubelet
    /// deletes it again with a grace of 0. Without (the start), it is gone at once.
    pub fn set_graceful_pods(&self, on: bool) {
        self.lock().graceful_pods = on;
    }

    /// Forgets the history, so that a watch from any older version is answered 410.
    pub fn compact(&self) {
        let mut inner = self.lock();
        inner.forgotten = inner.version;
        inner.log.clear();
    }

    /// Follows changes after the version `since`; an empty kind or namespace means all.
    ///
    /// # Errors
    /// 410 if the history no longer reaches back to `since`.
    pub fn watch(&self, resource: &str, namespace: &str, since: u64) -> Result<Watcher, Status> {
        let seen = self.0.changed.subscribe();
        let inner = self.lock();
        if since < inner.forgotten {
            return Err(Status::expired(since, inner.forgotten));
        }
        drop(inner);
        Ok(Watcher::new(self.clone(), seen, resource, namespace, since))
    }
}

impl Inner {
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.objects.get(resource)?.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let all = self.objects.get(resource).into_iter().flatten();
        all.filter(|((ns, _), _)| namespace.is_empty() || ns == namespace).map(|(_, object)| object.clone()).collect()
    }

    /// Stores an object under the next version and logs it.
    fn put(&mut self, kind: EventKind, resource: &str, mut object: Value) -> Arc<Value> {
        self.version += 1;
        meta::metadata(&mut object).insert("resourceVersion".into(), self.version.to_string().into());
        let key = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
        self.uids.insert(meta::uid(&object).to_owned());
        if meta::deleting(&object) {
            self.pending.insert((resource.to_owned(), key.0.clone(), key.1.clone()));
        }
        let object = Arc::new(object);
        let previous = self.objects.entry(resource.to_owned()).or_default().insert(key, object.clone());
        self.record(kind, resource, object.clone(), previous);
        if resource == "customresourcedefinitions.apiextensions.k8s.io" {
            self.serve_definitions();
        }
        object
    }

    /// Takes an object out under the next version and logs it.
    fn remove(&mut self, (resource, namespace, name): &Key) -> Option<Arc<Value>> {
        let previous = self.objects.get_mut(resource)?.remove(&(namespace.clone(), name.clone()))?;
        self.pending.remove(&(resource.clone(), namespace.clone(), name.clone()));
        self.uids.remove(meta::uid(&previous));
        self.version += 1;
        let mut last = (*previous).clone();
        meta::metadata(&mut last).insert("resourceVersion".into(), self.version.to_string().into());
        let last = Arc::new(last);
        self.record(EventKind::Deleted, resource, last.clone(), Some(previous));
        if resource == "customresourcedefinitions.apiextensions.k8s.io" {
            self.serve_definitions();
        }
        Some(last)
    }

    fn record(&mut self, kind: EventKind, resource: &str, object: Arc<Value>, previous: Option<Arc<Value>>) {
        let (namespace, name) = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
        self.log.push_back(Arc::new(Event { version: self.version, kind, resource: resource.to_owned(), namespace, name, object, previous }));
        while self.log.len() > HISTORY {
            if let Some(old) = self.log.pop_front() {
                self.forgotten = old.version;
            }
        }
    }

    fn serve_definitions(&mut self) {
        self.resources.retain(|_, resource| !resource.custom());
        let definitions = self.list("customresourcedefinitions.apiextensions.k8s.io", "");
        for resource in definitions.iter().filter_map(|crd| resources::from_definition(crd)) {
            self.resources.entry(resource.id()).or_insert_with(|| Arc::new(resource));
        }
    }
}

#[cfg(test)]
mod tests;
