//! The cluster's controllers. Each looks at the whole store and brings it one step nearer to what is asked for;
//! together they run again whenever anything changed or a simulated wait is over.

mod bind;
mod daemonsets;
mod deployments;
mod endpoints;
pub(super) mod events;
mod jobs;
mod kinds;
mod namespaces;
mod pods;
mod replicasets;
mod rollout;
mod statefulsets;
mod world_events;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

pub(super) use endpoints::{endpoints, selects};
pub(super) use kinds::*;
pub(super) use pods::ready as pod_ready;

use super::sim::{Sim, sooner};
use super::{istio, kubelet, lbc};

/// What controllers remember between their looks.
#[derive(Default)]
pub(super) struct Memory {
    /// Events already written, by involved uid, reason and message: their namespace and name.
    pub events: HashMap<(String, String, String), (String, String)>,
    /// When to try again to create pods, by the owner's uid, and how often it failed.
    pub retries: HashMap<String, (Instant, u32)>,
    /// How much of the world's timeline has happened.
    pub happened: Vec<bool>,
    /// A node that the autoscaler has ordered.
    pub ordered: Option<Instant>,
}

type Controller = fn(&Sim) -> Option<Instant>;

const ALL: &[Controller] = &[
    namespaces::reconcile,
    deployments::reconcile,
    replicasets::reconcile,
    statefulsets::reconcile,
    daemonsets::reconcile,
    jobs::reconcile,
    bind::reconcile,
    kubelet::reconcile,
    endpoints::reconcile,
    istio::reconcile,
    lbc::reconcile,
    world_events::reconcile,
];

/// One look of every controller. Tells when the next simulated wait is over.
pub(super) fn look(sim: &Sim) -> Option<Instant> {
    ALL.iter().map(|controller| controller(sim)).fold(None, sooner)
}

/// Runs the controllers until the task is aborted.
pub(super) async fn run(sim: Arc<Sim>) {
    loop {
        let before = sim.store.version();
        let next = look(&sim);
        if sim.store.version() != before {
            tokio::task::yield_now().await;
            continue;
        }
        let changed = async {
            match sim.store.watch("", "", before) {
                Ok(mut watcher) => drop(watcher.next().await),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        match next {
            Some(at) => drop(tokio::time::timeout_at(at.into(), changed).await),
            None => changed.await,
        }
    }
}
