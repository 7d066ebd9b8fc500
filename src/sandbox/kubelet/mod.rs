//! The kubelets' part, played: pods that were given a node pull their images, start, get ready, crash and stop as the world says.

mod checks;
mod container;
mod curl;
mod leave;
mod logs;
mod status;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(super) use container::{Container, Kind};

use super::controllers::events::{self, KUBELET, Note};
use super::controllers::{NODES, PODS};
use super::istio;
use super::sim::{Sim, sooner};
use super::store::Deletion;
use super::store::meta::{deleting, label, list, name, namespace, text, uid, version};
use super::world::{PodScript, wild};

/// What the kubelets know beyond the API.
#[derive(Default)]
pub(super) struct Kubelet {
    lives: HashMap<String, Arc<Mutex<Life>>>,
    seen: HashMap<String, Instant>,
    scripts: HashMap<String, Option<PodScript>>,
    used: HashMap<usize, u32>,
    /// How often each of the world's failing pulls has failed.
    failed_pulls: HashMap<usize, u32>,
    next_ip: u32,
    /// Which root each pod's sidecar has its certificate from.
    roots: HashMap<String, usize>,
    /// Node and image.
    images: HashSet<(String, String)>,
}

/// One pod's life on its node.
pub(super) struct Life {
    pub ip: String,
    pub began: jiff::Timestamp,
    pub containers: Vec<Container>,
    /// Whether its volumes are mounted.
    mounted: bool,
    look_again: Instant,
    /// The pod's version at the last look, and when something happens by itself.
    seen: u64,
    next: Option<Instant>,
    stop: Option<Instant>,
    /// Reason and message of its eviction.
    pub evicted: Option<(String, String)>,
    /// When it is deleted by whoever takes it away.
    leaves: Option<Instant>,
}

/// An event that a look at a pod gave rise to.
pub(super) struct Said {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
    /// `spec.containers{app}` or such.
    pub field: String,
}

impl Kubelet {
    /// When a pod was first seen by anybody here.
    pub(super) fn first_seen(&mut self, pod: &Value) -> Instant {
        *self.seen.entry(uid(pod).to_owned()).or_insert_with(Instant::now)
    }

    /// Which root a pod's sidecar has its certificate from.
    pub(super) fn root(&self, pod_uid: &str) -> Option<usize> {
        self.roots.get(pod_uid).copied()
    }

    /// The life of a pod. Lock it only after the kubelet itself is let go.
    pub(super) fn life(&self, pod_uid: &str) -> Option<Arc<Mutex<Life>>> {
        self.lives.get(pod_uid).cloned()
    }

    fn has_image(&self, node: &str, image: &str) -> bool {
        self.images.contains(&(node.to_owned(), image.to_owned()))
    }

    fn keep_image(&mut self, node: &str, image: &str) {
        self.images.insert((node.to_owned(), image.to_owned()));
    }

    /// What the world lets a pull of this image fail with now.
    fn pull_error(&mut self, sim: &Sim, image: &str) -> Option<String> {
        let mut errors = sim.world.images.errors.iter().enumerate();
        let left =
            |index: usize, times: Option<u32>, used: &HashMap<usize, u32>| times.is_none_or(|times| used.get(&index).copied().unwrap_or(0) < times);
        let (index, error) = errors.find(|(index, error)| wild(&error.image, image) && left(*index, error.times, &self.failed_pulls))?;
        *self.failed_pulls.entry(index).or_default() += 1;
        Some(error.message.clone())
    }

    fn forget(&mut self, alive: &[Arc<Value>]) {
        let known = |key: &String| alive.iter().any(|pod| uid(pod) == key);
        self.lives.retain(|key, _| known(key));
        self.roots.retain(|key, _| known(key));
        self.seen.retain(|key, _| known(key));
        self.scripts.retain(|key, _| known(key));
    }
}

/// The Deployment, StatefulSet, DaemonSet or Job a pod belongs to, or its own name.
pub(super) fn workload_of(pod: &Value) -> &str {
    let owner = list(pod, "/metadata/ownerReferences").iter().find(|r| r["controller"] == json!(true));
    let Some(owner) = owner else { return name(pod) };
    let own = text(owner, "/name");
    match label(pod, "pod-template-hash") {
        Some(hash) if text(owner, "/kind") == "ReplicaSet" => own.strip_suffix(hash).and_then(|own| own.strip_suffix('-')).unwrap_or(own),
        _ => own,
    }
}

/// The images of a pod's own containers.
pub(super) fn images_of(pod: &Value) -> Vec<&str> {
    list(pod, "/spec/containers").iter().map(|c| text(c, "/image")).collect()
}

/// The world's script for a pod; the choice is made once in a pod's life.
pub(super) fn script_of(sim: &Sim, pod: &Value) -> Option<PodScript> {
    let mut kubelet = sim.kubelet();
    if let Some(known) = kubelet.scripts.get(uid(pod)) {
        return known.clone();
    }
    let images = images_of(pod);
    let hit = sim.world.pods.iter().enumerate().find(|(index, script)| {
        let left = script.times.is_none_or(|times| kubelet.used.get(index).copied().unwrap_or(0) < times);
        left && script.r#match.matches(namespace(pod), workload_of(pod), &images)
    });
    let script = hit.map(|(index, script)| {
        *kubelet.used.entry(index).or_default() += 1;
        script.clone()
    });
    kubelet.scripts.insert(uid(pod).to_owned(), script.clone());
    script
}

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    let pods = sim.store.list(PODS, "");
    sim.kubelet().forget(&pods);
    pods.iter().filter(|pod| !text(pod, "/spec/nodeName").is_empty()).map(|pod| one(sim, pod)).fold(None, sooner)
}

fn one(sim: &Sim, pod: &Value) -> Option<Instant> {
    let script = script_of(sim, pod);
    if !sim.kubelet().lives.contains_key(uid(pod)) {
        if deleting(pod) {
            // it never started
            drop(sim.store.delete_with(PODS, namespace(pod), name(pod), &Deletion::now()));
            return None;
        }
        begin(sim, pod, script.as_ref());
    }
    if deleting(pod) {
        return stop(sim, pod);
    }
    let mut said = Vec::new();
    let life = sim.kubelet().life(uid(pod))?;
    let mut life = locked(&life);
    if life.leaves.is_some_and(|at| at <= Instant::now()) {
        // gone already is as good
        drop(sim.store.delete(PODS, namespace(pod), name(pod)));
        return None;
    }
    if life.seen == version(pod) && life.next.is_none_or(|next| next > Instant::now()) {
        return life.next;
    }
    let next = if life.mounted || mount(sim, pod, &mut life, script.as_ref(), &mut said) {
        advance(sim, pod, &mut life, &mut said)
    } else {
        Some(life.look_again)
    };
    late_root(sim, pod);
    let taken = leave::due(sim, &mut life, &mut said);
    let next = sooner(next, life.leaves);
    let status = status::of(sim, pod, &life);
    life.seen = version(pod);
    life.next = next;
    drop(life);
    if let Some(reason) = taken {
        leave::mark(sim, pod, &reason);
        return next;
    }
    for said in said {
        let note = Note { source: KUBELET, reason: said.reason, message: &said.message, field: &said.field, warning: said.warning };
        events::emit(sim, pod, &note);
    }
    if pod["status"] != status {
        // a pod that is gone needs no status
        drop(sim.store.modify(PODS, namespace(pod), name(pod), |pod| pod["status"] = status.clone()));
    }
    next
}

fn begin(sim: &Sim, pod: &Value, script: Option<&PodScript>) {
    let root = istio::root_for(sim, pod);
    let zone = sim
        .store
        .get(NODES, "", text(pod, "/spec/nodeName"))
        .and_then(|node| label(&node, "sandbox.meshstep.io/number")?.parse::<u32>().ok())
        .unwrap_or(0);
    let mut kubelet = sim.kubelet();
    kubelet.next_ip += 1;
    let number = kubelet.next_ip;
    let life = Life {
        ip: format!("10.0.{}.{}", 16 + zone * 16 + number / 240, 10 + number % 240),
        began: sim.now(),
        containers: container::all(pod, script),
        mounted: false,
        look_again: Instant::now(),
        seen: 0,
        next: None,
        stop: None,
        evicted: None,
        leaves: None,
    };
    if let Some(root) = root {
        kubelet.roots.insert(uid(pod).to_owned(), root);
    }
    kubelet.lives.insert(uid(pod).to_owned(), Arc::new(Mutex::new(life)));
}

/// A sidecar that started without istiod gets its certificate as soon as there is one.
fn late_root(sim: &Sim, pod: &Value) {
    let missing = sim.kubelet().root(uid(pod)).is_none();
    if let Some(root) = missing.then(|| istio::root_for(sim, pod)).flatten() {
        sim.kubelet().roots.insert(uid(pod).to_owned(), root);
    }
}

/// Sets the pod up: volumes and the sandbox. `false` while that fails.
fn mount(sim: &Sim, pod: &Value, life: &mut Life, script: Option<&PodScript>, said: &mut Vec<Said>) -> bool {
    if life.look_again > Instant::now() {
        return false;
    }
    let problem = script
        .and_then(|script| script.setup_fails.clone())
        .map(|message| ("FailedCreatePodSandBox", message))
        .or_else(|| checks::volumes(sim, pod).map(|message| ("FailedMount", message)));
    if let Some((reason, message)) = problem {
        life.look_again = Instant::now() + Duration::from_millis(500);
        said.push(Said { warning: true, reason, message, field: String::new() });
        return false;
    }
    life.mounted = true;
    true
}

fn advance(sim: &Sim, pod: &Value, life: &mut Life, said: &mut Vec<Said>) -> Option<Instant> {
    let mut next = None;
    for container in &mut life.containers {
        next = sooner(next, container.advance(sim, pod, said));
        // init containers run one after the other, and before all others
        if container.kind != Kind::App && !container.past() {
            break;
        }
    }
    next
}

fn stop(sim: &Sim, pod: &Value) -> Option<Instant> {
    let life = sim.kubelet().life(uid(pod))?;
    let begun = locked(&life).stop;
    let due = begun.unwrap_or_else(|| {
        let due = Instant::now() + sim.takes(sim.world.times.stop);
        let mut life = locked(&life);
        life.stop = Some(due);
        let running: Vec<(String, String)> = life.containers.iter().filter(|c| c.running()).map(|c| (c.name.clone(), c.field())).collect();
        drop(life);
        for (container, field) in running {
            let message = format!("Stopping container {container}");
            events::emit(sim, pod, &Note { field: &field, ..Note::normal(KUBELET, "Killing", &message) });
        }
        due
    });
    if due > Instant::now() {
        return Some(due);
    }
    // gone already is as good
    drop(sim.store.delete_with(PODS, namespace(pod), name(pod), &Deletion::now()));
    None
}

/// A life, locked.
pub(super) fn locked(life: &Mutex<Life>) -> MutexGuard<'_, Life> {
    life.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes into a running container's log; `false` when it does not run.
pub(super) fn write_log(sim: &Sim, pod_uid: &str, container: &str, at: jiff::Timestamp, lines: Vec<String>) -> bool {
    let Some(life) = sim.kubelet().life(pod_uid) else { return false };
    let mut life = locked(&life);
    let Some(container) = life.containers.iter_mut().find(|c| c.name == container && c.running()) else { return false };
    container.log.write(at, lines);
    true
}
