//! What happened since our apply: how often each container ended, and since when each state holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::base::codes::Code;
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::{Container, Event, Kind, Pod, Role, Snapshot, State};
use crate::domain::services::rollout::{pods, pull, refused};

/// Memory over snapshots. It starts with what was there before the apply, so that no two clocks are ever compared.
#[derive(Clone, Debug)]
pub struct History {
    policy: Policy,
    /// Counts of the events that were there before the apply.
    old_events: BTreeMap<String, i32>,
    /// When the condition `Progressing` was written that was there before the apply.
    old_progressing: Option<Timestamp>,
    lives: BTreeMap<(String, String), Life>,
    /// Pods that the cluster has taken away, and why, by uid; whether that was before the apply.
    disrupted: BTreeMap<String, Disruption>,
    /// States that hold now, and since when.
    since: BTreeMap<String, Timestamp>,
    room: Room,
    /// The pod that a Job lost last, as it was when it had ended: a Job that has failed takes its pods away.
    dead: Option<Pod>,
    now: Timestamp,
}

/// A pod that was evicted, preempted, not admitted or lost with its node.
#[derive(Clone, Debug)]
struct Disruption {
    pod: String,
    reason: String,
    before: bool,
}

/// The quota's controller takes a pod that has gone out of its sum a while later: until then a refusal says nothing of the room it made.
const ROOM_COUNTS: Duration = Duration::from_secs(10);

/// Whether a refusal is newer than the room that older pods have made.
#[derive(Clone, Debug, Default)]
struct Room {
    older: usize,
    made: Option<Timestamp>,
    /// The newest event of a refusal, and when it was first seen.
    refusal: Option<(String, i32)>,
    refused: Option<Timestamp>,
}

/// One container of one pod, over its restarts.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// It was dying again and again before the apply, and has not been ready for long since.
    pub preexisting: bool,
    terminations: i32,
    /// Ends since the apply and since it was last ready for long.
    pub errors: u32,
    /// Ends that were the missing sidecar's fault.
    pub excused: u32,
    cannot_run_ends: u32,
    cannot_run_waits: u32,
    /// Times a pull was seen to fail.
    pub pulls: u32,
    /// The last known cause of a failed pull, with its words.
    pub pull: Option<(Code, String)>,
    waiting: String,
    ready_since: Option<Timestamp>,
    unready_since: Option<Timestamp>,
    instance: String,
    running_since: Option<Timestamp>,
    settled_before: bool,
}

impl History {
    /// `before`: as it was before the apply; its workload is `None` when there was none.
    pub fn new(policy: Policy, before: &Snapshot) -> Self {
        let mut history = Self {
            policy,
            old_events: before.events.iter().map(|e| (e.uid.clone(), e.count)).collect(),
            old_progressing: before.workload.as_ref().and_then(|w| w.condition("Progressing")).and_then(|c| c.updated),
            lives: BTreeMap::new(),
            disrupted: BTreeMap::new(),
            since: BTreeMap::new(),
            room: Room::default(),
            dead: None,
            now: before.at,
        };
        history.note_disrupted(before, true);
        for pod in &before.pods {
            for container in &pod.containers {
                let life = Life {
                    preexisting: !container.ready && (is_looping(container) || container.ended().is_some_and(|ended| ended.exit_code != 0)),
                    terminations: container.terminations(),
                    waiting: container.waiting().map_or(String::new(), |(reason, _)| reason.to_owned()),
                    instance: container.id.clone(),
                    settled_before: container.is_running(),
                    ..Life::default()
                };
                history.lives.insert((pod.uid.clone(), container.name.clone()), life);
            }
        }
        history
    }

    /// Takes the next snapshot in.
    pub fn note(&mut self, snapshot: &Snapshot) {
        self.now = snapshot.at;
        self.note_disrupted(snapshot, false);
        if snapshot.workload.as_ref().is_some_and(|w| w.kind == Kind::Job)
            && let Some(dead) = snapshot.last_dead()
        {
            self.dead = Some(dead.clone());
        }
        let min_ready = snapshot.workload.as_ref().map_or(0, |w| w.min_ready_seconds);
        let resets = self.policy.ready_resets.max(Duration::from_secs(u64::try_from(min_ready).unwrap_or(0)));
        for pod in &snapshot.pods {
            let excused = self.sidecar_is_missing(pod);
            for container in &pod.containers {
                let life = self.lives.entry((pod.uid.clone(), container.name.clone())).or_default();
                life.note(container, snapshot.at, excused, resets);
            }
        }
        let pulls = |e: &&Event| e.kind == "Pod" && e.reason == "Failed" && e.message.contains("pull");
        for event in new_events(&self.old_events, snapshot).filter(pulls) {
            let count = event.count.max(1) - self.old_events.get(&event.uid).copied().unwrap_or(0);
            let Some(pod) = snapshot.pods.iter().find(|pod| pod.name == event.name) else { continue };
            for container in pod.containers.iter().filter(|c| c.waiting().is_some_and(|(reason, _)| pull::is_pull_reason(reason))) {
                let life = self.lives.entry((pod.uid.clone(), container.name.clone())).or_default();
                if event.message.contains(&container.image) {
                    life.pulls = life.pulls.max(u32::try_from(count).unwrap_or(0));
                    if let Some(code) = pull::cause("", &event.message, &container.image) {
                        life.pull.get_or_insert((code, event.message.clone()));
                    }
                }
            }
        }
        let refusals = new_events(&self.old_events, snapshot).filter(|e| e.kind != "Pod" && e.reason == "FailedCreate");
        let newest = refusals.max_by_key(|e| (e.last, e.count)).map(|e| (e.uid.clone(), e.count));
        self.room.note(snapshot.older().count(), newest, snapshot.at);
        let holding: BTreeSet<String> = states(snapshot, self);
        self.since.retain(|key, _| holding.contains(key));
        for key in holding {
            self.since.entry(key).or_insert(snapshot.at);
        }
    }

    fn note_disrupted(&mut self, snapshot: &Snapshot, before: bool) {
        for pod in snapshot.pods.iter().filter(|pod| pod.newest) {
            if let Some(reason) = pod.disrupted() {
                let new = || Disruption { pod: pod.name.clone(), reason: reason.to_owned(), before };
                self.disrupted.entry(pod.uid.clone()).or_insert_with(new);
            }
        }
    }

    /// The pods of the newest revision that the cluster has taken away since the apply: `app1-a (Evicted)`.
    pub fn disrupted(&self) -> Vec<String> {
        self.disrupted.values().filter(|one| !one.before).map(|one| format!("{} ({})", one.pod, one.reason)).collect()
    }

    pub fn dead(&self) -> Option<&Pod> {
        self.dead.as_ref()
    }

    pub fn life(&self, pod: &Pod, container: &Container) -> Life {
        self.lives.get(&(pod.uid.clone(), container.name.clone())).cloned().unwrap_or_default()
    }

    /// How long the state `key` holds without a break.
    pub fn held(&self, key: &str) -> Duration {
        self.since.get(key).map_or(Duration::ZERO, |since| elapsed(*since, self.now))
    }

    /// How long this container was not ready, counted from its first start.
    pub fn unready(&self, pod: &Pod, container: &Container) -> Duration {
        self.life(pod, container).unready_since.map_or(Duration::ZERO, |since| elapsed(since, self.now))
    }

    /// How long this container runs without a restart; one that ran before the apply has been running for long.
    pub fn running(&self, pod: &Pod, container: &Container) -> Duration {
        let life = self.life(pod, container);
        if life.settled_before && life.instance == container.id && container.is_running() {
            return Duration::MAX;
        }
        life.running_since.map_or(Duration::ZERO, |since| elapsed(since, self.now))
    }

    /// The events that came or were repeated since the apply.
    pub fn new_events<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Event> {
        new_events(&self.old_events, snapshot)
    }

    /// Those of one pod.
    pub fn events_of<'a>(&'a self, snapshot: &'a Snapshot, pod: &'a Pod) -> impl Iterator<Item = &'a Event> {
        self.new_events(snapshot).filter(|e| e.kind == "Pod" && e.name == pod.name)
    }

    /// Has nobody tried to create a pod since older pods last made room?
    pub fn is_untried(&self) -> bool {
        self.room.made.is_some_and(|made| self.room.refused.is_none_or(|refused| refused <= made + ROOM_COUNTS))
    }

    /// Has a pod been refused anew since the state `key` has held for `lasts`? Without any event of a refusal nobody can tell.
    pub fn is_refused_after(&self, key: &str, lasts: Duration) -> bool {
        let refused = |since: &Timestamp| self.room.refused.is_none_or(|refused| elapsed(*since, refused) >= lasts);
        self.since.get(key).is_some_and(refused)
    }

    /// Was this condition `Progressing` written before the apply?
    pub fn is_old_progress(&self, updated: Option<Timestamp>) -> bool {
        updated.is_some() && self.old_progressing == updated
    }

    /// A sidecar beside the app that is not ready, or was not when last seen: an app that needs the network dies then, through no fault of its own.
    fn sidecar_is_missing(&self, pod: &Pod) -> bool {
        pod.containers.iter().any(|c| c.role == Role::Sidecar { native: false } && (!c.ready || self.life(pod, c).ready_since.is_none()))
    }
}

impl Room {
    fn note(&mut self, older: usize, refusal: Option<(String, i32)>, at: Timestamp) {
        if older < self.older {
            self.made = Some(at);
        }
        if refusal.is_some() && refusal != self.refusal {
            self.refused = Some(at);
        }
        (self.older, self.refusal) = (older, refusal);
    }
}

impl Life {
    /// Times the runtime could not start it.
    pub fn cannot_run(&self) -> u32 {
        self.cannot_run_ends.max(self.cannot_run_waits)
    }

    fn note(&mut self, container: &Container, at: Timestamp, sidecar_missing: bool, ready_resets: Duration) {
        if self.ready_since.is_some_and(|since| elapsed(since, at) >= ready_resets) {
            self.errors = 0;
            self.preexisting = false;
        }
        let total = container.terminations();
        let new = u32::try_from(total - self.terminations).unwrap_or(0);
        self.terminations = total;
        let completed = container.role == Role::Init && matches!(&container.state, State::Terminated(ended) if ended.exit_code == 0);
        if new > 0 && !completed {
            if sidecar_missing && container.role == Role::App {
                self.excused += new;
            } else {
                self.errors += new;
            }
            if container.ended().is_some_and(|ended| pods::is_start_reason(&ended.reason)) {
                self.cannot_run_ends += new;
            }
        }
        if container.ready {
            self.ready_since.get_or_insert(at);
            self.unready_since = None;
        } else {
            self.ready_since = None;
            if container.is_running() || total > 0 {
                self.unready_since.get_or_insert(at);
            }
        }
        if container.is_running() {
            if self.running_since.is_none() || self.instance != container.id {
                self.running_since = Some(at);
                self.settled_before &= self.instance == container.id;
                self.instance.clone_from(&container.id);
            }
        } else {
            self.running_since = None;
            self.settled_before = false;
        }
        let (reason, message) = container.waiting().unwrap_or_default();
        if pull::is_pull_reason(reason) {
            // A back-off without a pull before it means that one was missed.
            if reason != self.waiting && (reason != "ImagePullBackOff" || !pull::is_pull_reason(&self.waiting)) {
                self.pulls += 1;
            }
            if let Some(code) = pull::cause(reason, message, &container.image) {
                self.pull = Some((code, message.to_owned()));
            }
        } else {
            self.pull = None;
            self.pulls = 0;
        }
        if pods::is_start_reason(reason) && reason != self.waiting {
            self.cannot_run_waits += 1;
        }
        reason.clone_into(&mut self.waiting);
    }
}

pub fn is_looping(container: &Container) -> bool {
    container.waiting().is_some_and(|(reason, _)| reason == "CrashLoopBackOff")
}

fn new_events<'a>(old: &'a BTreeMap<String, i32>, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Event> {
    snapshot.events.iter().filter(|e| old.get(&e.uid).is_none_or(|count| e.count > *count))
}

/// The keys of all states that hold in this snapshot and whose lasting matters.
fn states(snapshot: &Snapshot, history: &History) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for pod in snapshot.newest() {
        keys.extend(pods::states(snapshot, history, pod).map(|state| pod_key(pod, state)));
        for container in &pod.containers {
            if let Some((reason, _)) = container.waiting() {
                keys.insert(container_key(pod, container, reason));
                if let Some((code, _)) = &history.life(pod, container).pull {
                    keys.insert(container_key(pod, container, code.info().name));
                }
            }
        }
    }
    if let Some(refusal) = refused::of(snapshot, history) {
        keys.insert(refused::key(refusal.code));
    }
    keys
}

pub fn pod_key(pod: &Pod, state: &str) -> String {
    format!("{}//{state}", pod.uid)
}

pub fn container_key(pod: &Pod, container: &Container, state: &str) -> String {
    format!("{}/{}/{state}", pod.uid, container.name)
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}
