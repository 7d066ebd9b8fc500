//! The bounded history of changes and those who follow it.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::{Status, Store};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

/// One change.
#[derive(Clone, Debug)]
pub struct Event {
    /// The resourceVersion that the change made.
    pub version: u64,
    pub kind: EventKind,
    /// `plural.group`.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    /// The object after the change; on a deletion its last state.
    pub object: Arc<Value>,
    /// The object before the change.
    pub previous: Option<Arc<Value>>,
}

/// A place in the history that moves on with every `next`.
#[derive(Debug)]
pub struct Watcher {
    store: Store,
    seen: watch::Receiver<u64>,
    resource: String,
    namespace: String,
    cursor: u64,
}

impl Watcher {
    pub(super) fn new(store: Store, seen: watch::Receiver<u64>, resource: &str, namespace: &str, since: u64) -> Watcher {
        Watcher { store, seen, resource: resource.to_owned(), namespace: namespace.to_owned(), cursor: since }
    }

    /// The version up to which everything was seen.
    pub fn version(&self) -> u64 {
        self.cursor
    }

    /// The next change if there is one already.
    ///
    /// # Errors
    /// 410 if the history was cut off before this watcher read it.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, Status> {
        let inner = self.store.lock();
        if self.cursor < inner.forgotten {
            return Err(Status::expired(self.cursor, inner.forgotten));
        }
        let from = inner.log.partition_point(|event| event.version <= self.cursor);
        for event in inner.log.range(from..) {
            let wanted =
                (self.resource.is_empty() || event.resource == self.resource) && (self.namespace.is_empty() || event.namespace == self.namespace);
            if wanted {
                self.cursor = event.version;
                return Ok(Some(event.clone()));
            }
        }
        self.cursor = inner.version.max(self.cursor);
        Ok(None)
    }

    /// Waits for the next change. Dropping the future loses nothing.
    ///
    /// # Errors
    /// 410 as `try_next`.
    pub async fn next(&mut self) -> Result<Arc<Event>, Status> {
        loop {
            self.seen.mark_unchanged();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            // The sender lives in the store that this watcher holds.
            let _ = self.seen.changed().await;
        }
    }
}
