//! The table of verdicts, row by row: each failure beside the near case that must not fail.

mod cluster;
mod containers;
mod converted;
mod images;
mod ready;

use std::time::Duration;

use jiff::Timestamp;

use crate::base::codes::Code;
use crate::domain::services::rollout::delta::Delta;
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::{
    Around, Condition, Container, Ended, Event, Kind, Maker, Pod, Role, Snapshot, State, Strategy, Workload,
};
use crate::domain::services::rollout::{Rollout, Trouble, Verdict};

/// A rollout that is played second by second.
struct Play {
    rollout: Rollout,
    snapshot: Snapshot,
    start: Timestamp,
    /// The same rollout, fed with what a run's log keeps.
    replayed: (Rollout, Snapshot),
}

impl Play {
    /// A Deployment that was not there before the apply, seen by its controller, with these new pods.
    fn of(pods: Vec<Pod>) -> Self {
        let before = snapshot(None, vec![]);
        let wanted = i32::try_from(pods.len()).expect("small").max(1);
        Self::after(&before, snapshot(Some(deployment(wanted)), pods))
    }

    fn after(before: &Snapshot, now: Snapshot) -> Self {
        let rollout = Rollout::new(Policy::default(), before);
        Self { rollout: rollout.clone(), start: now.at, snapshot: now, replayed: (rollout, before.clone()) }
    }

    /// As with `tolerate:`, from the start.
    fn be_patient(&mut self, code: Code, seconds: u64) {
        let mut policy = Policy::default();
        policy.lasts.insert(code, Duration::from_secs(seconds));
        self.rollout = Rollout::new(policy, &snapshot(None, vec![]));
        self.replayed.0 = self.rollout.clone();
    }

    /// Changes what is seen, and judges it at this second.
    fn at(&mut self, second: f64, change: impl FnOnce(&mut Snapshot)) -> Verdict {
        change(&mut self.snapshot);
        self.snapshot.at = self.start + Duration::from_secs_f64(second);
        // Live snapshots come in this order.
        let seen = sorted(&self.snapshot);
        let verdict = self.rollout.observe(&seen);
        let again = serde_json::to_string(&self.snapshot).expect("json");
        assert_eq!(serde_json::from_str::<Snapshot>(&again).expect("reads back"), self.snapshot);
        // What a run's log keeps is enough to draw the same verdict.
        let delta = serde_json::to_string(&Delta::between(&self.replayed.1, &seen)).expect("json");
        let after = serde_json::from_str::<Delta>(&delta).expect("reads back").applied_to(&self.replayed.1);
        assert!(after.same_as(&seen), "{delta}");
        assert_eq!(self.replayed.0.observe(&after), verdict);
        self.replayed.1 = after;
        verdict
    }

    /// Judges the same again at this second.
    fn still(&mut self, second: f64) -> Verdict {
        self.at(second, |_| {})
    }

    /// The same change for every new pod.
    fn pods(&mut self, second: f64, change: impl Fn(&mut Pod)) -> Verdict {
        self.at(second, |s| s.pods.iter_mut().filter(|p| p.newest).for_each(&change))
    }

    /// The app container of every new pod.
    fn app(&mut self, second: f64, change: impl Fn(&mut Container)) -> Verdict {
        self.pods(second, |pod| change(pod.container("app")))
    }

    fn deadline(&self) -> Trouble {
        self.rollout.at_deadline(&self.snapshot)
    }
}

impl Pod {
    fn container(&mut self, name: &str) -> &mut Container {
        self.containers.iter_mut().find(|c| c.name == name).expect("the container")
    }

    fn with(mut self, container: Container) -> Self {
        let init = matches!(container.role, Role::Init | Role::Sidecar { native: true });
        self.containers.insert(if init { 0 } else { self.containers.len() }, container);
        self
    }

    fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    fn old(mut self) -> Self {
        self.newest = false;
        self.made_ready()
    }

    fn made_ready(mut self) -> Self {
        self.ready = true;
        self.phase = "Running".to_owned();
        for c in &mut self.containers {
            run(c);
            c.ready = true;
        }
        self
    }
}

/// As the log gives it back: in the order in which live snapshots come.
fn sorted(snapshot: &Snapshot) -> Snapshot {
    let mut snapshot = snapshot.clone();
    snapshot.pods.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
    snapshot.events.sort_by(|a, b| (a.last, &a.uid).cmp(&(b.last, &b.uid)));
    snapshot
}

fn snapshot(workload: Option<Workload>, pods: Vec<Pod>) -> Snapshot {
    Snapshot { at: Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000), workload, pods, events: vec![], around: Around::default() }
}

fn deployment(wanted: i32) -> Workload {
    Workload {
        kind: Kind::Deployment,
        namespace: "prod".into(),
        name: "app1".into(),
        generation: 2,
        observed: 2,
        wanted,
        total: wanted,
        updated: wanted,
        ready: 0,
        available: 0,
        min_ready_seconds: 0,
        paused: false,
        strategy: Strategy::Rolling { max_unavailable: 0 },
        revision: "app1-new".into(),
        conditions: vec![],
    }
}

fn pod(name: &str) -> Pod {
    Pod {
        uid: format!("uid-{name}"),
        name: name.to_owned(),
        newest: true,
        node: Some("node-1".into()),
        phase: "Pending".into(),
        started: None,
        reason: String::new(),
        message: String::new(),
        deleting: false,
        disruption: None,
        ready: false,
        unschedulable: None,
        nominated: None,
        gates: vec![],
        claims: vec![],
        containers: vec![container("app", Role::App)],
    }
}

fn container(name: &str, role: Role) -> Container {
    Container {
        name: name.into(),
        role,
        image: format!("registry.example/{name}:1"),
        image_id: String::new(),
        id: String::new(),
        restarts: 0,
        ready: false,
        state: waiting("ContainerCreating", ""),
        last: None,
        readiness: Some("GET :8000/healthz".into()),
        startup: None,
    }
}

fn waiting(reason: &str, message: &str) -> State {
    State::Waiting { reason: reason.into(), message: message.into() }
}

fn ended(exit_code: i32) -> Ended {
    Ended { exit_code, signal: None, reason: if exit_code == 0 { "Completed" } else { "Error" }.into(), message: String::new() }
}

/// The container starts: its first instance, or the one after a crash.
fn run(c: &mut Container) {
    if c.ended().is_some() && !c.is_running() {
        c.restarts += 1;
        c.last = c.ended().cloned();
    }
    c.id = format!("containerd://{}-{}", c.name, c.restarts);
    c.state = State::Running { since: None };
}

/// The running instance ends.
fn crash(c: &mut Container, exit_code: i32) {
    c.ready = false;
    c.state = State::Terminated(ended(exit_code));
}

/// The kubelet waits before the next start.
fn back_off(c: &mut Container) {
    c.last = c.ended().cloned();
    c.state = waiting("CrashLoopBackOff", "back-off 10s restarting failed container");
}

fn event(kind: &str, name: &str, reason: &str, message: &str, second: i64) -> Event {
    Event {
        uid: format!("{kind}/{name}/{reason}/{message}"),
        kind: kind.into(),
        name: name.into(),
        warning: true,
        reason: reason.into(),
        message: message.into(),
        count: 1,
        last: Some(Timestamp::from_second(1_000_000 + second).expect("a time")),
    }
}

fn condition(kind: &str, status: bool, reason: &str, message: &str) -> Condition {
    Condition { kind: kind.into(), status, reason: reason.into(), message: message.into(), updated: Timestamp::from_second(1_000_001).ok() }
}

#[track_caller]
fn failed(verdict: Verdict, code: Code) -> Trouble {
    match verdict {
        Verdict::Failed(trouble) if trouble.code == code => trouble,
        other => panic!("expected Failed({code}), got {other:?}"),
    }
}

#[track_caller]
fn progressing(verdict: Verdict) -> String {
    match verdict {
        Verdict::Progressing { reason } => reason,
        other => panic!("expected Progressing, got {other:?}"),
    }
}

#[track_caller]
fn ready(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::Ready { warnings, .. } => warnings,
        other => panic!("expected Ready, got {other:?}"),
    }
}

/// The controller counts every new pod as available.
fn all_available(s: &mut Snapshot) {
    for pod in s.pods.iter_mut().filter(|p| p.newest) {
        *pod = pod.clone().made_ready();
    }
    if let Some(w) = &mut s.workload {
        (w.total, w.updated, w.ready, w.available) = (w.wanted, w.wanted, w.wanted, w.wanted);
    }
}
