//! A watch that only wakes a wait. It is never the source of truth: who is woken looks again.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use kube::api::{Api, WatchParams};
use kube::core::WatchEvent;
use kube::{Resource, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;

/// How long the server keeps a watch open before we ask for it again.
const WATCH_SECONDS: u32 = 240;

/// Wakes its owner at each change. Dropping it ends the watch.
pub struct Nudge {
    notify: Arc<Notify>,
    connected: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl Nudge {
    /// Resolves at the next change since the last call; several changes at once are one.
    pub async fn next(&self) {
        self.notify.notified().await;
    }

    /// Is the watch up? While it is down a wait relies on its polling.
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Cluster {
    /// Watches the objects of a namespace (empty: of all) that the selector matches (empty: any).
    pub fn watch<K>(&self, namespace: &str, label_selector: &str) -> Nudge
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let params = if label_selector.is_empty() { WatchParams::default() } else { WatchParams::default().labels(label_selector) };
        self.nudge::<K>(namespace, params)
    }

    /// Watches one object, for which a right on that name alone is enough.
    pub fn watch_one<K>(&self, namespace: &str, name: &str) -> Nudge
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        self.nudge::<K>(namespace, WatchParams::default().fields(&format!("metadata.name={name}")))
    }

    fn nudge<K>(&self, namespace: &str, params: WatchParams) -> Nudge
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let api = if namespace.is_empty() { self.api_all() } else { self.api::<K>(namespace) };
        let (notify, connected) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn(follow(api, params.timeout(WATCH_SECONDS), Arc::clone(&notify), Arc::clone(&connected)));
        Nudge { notify, connected, _task: AbortOnDropHandle::new(task) }
    }
}

async fn follow<K>(api: Api<K>, params: WatchParams, notify: Arc<Notify>, connected: Arc<AtomicBool>)
where
    K: Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut waits = waits();
    loop {
        // From "0": what is there comes as events first, so nothing between two watches is missed.
        if let Ok(stream) = api.watch(&params, "0").await {
            connected.store(true, Ordering::Relaxed);
            let mut stream = std::pin::pin!(stream);
            while let Some(Ok(event)) = stream.next().await {
                match event {
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(_) => break,
                    WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => {
                        waits = self::waits();
                        notify.notify_one();
                    }
                }
            }
            connected.store(false, Ordering::Relaxed);
        }
        tokio::time::sleep(waits.next().unwrap_or(Duration::from_secs(10))).await;
    }
}

fn waits() -> impl Iterator<Item = Duration> {
    let wait = ExponentialBuilder::default().with_min_delay(Duration::from_millis(200)).with_max_delay(Duration::from_secs(10));
    wait.without_max_times().with_jitter().build()
}
