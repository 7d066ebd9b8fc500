//! One container: from pulling its image to running, through crashes and back-offs, step by step in the world's time.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Said, checks, curl, logs::Log};
use crate::sandbox::aws::state::digest;
use crate::sandbox::gateway::app;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, name, namespace, text, uid};
use crate::sandbox::world::{PodScript, PodState, PodStep, Time, wild};

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Init,
    /// An init container that stays: `restartPolicy: Always`.
    Sidecar,
    App,
}

/// How a run of it ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub run: u32,
    pub code: i32,
    pub reason: String,
    pub message: String,
    pub started: jiff::Timestamp,
    pub finished: jiff::Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Untouched,
    Pulling(Instant),
    PullFailed {
        until: Instant,
        message: String,
        backing_off: bool,
    },
    /// It cannot be created: reason and message.
    Stuck {
        until: Instant,
        reason: String,
        message: String,
    },
    Starting(Instant),
    Running {
        since: jiff::Timestamp,
        step: usize,
        due: Option<Instant>,
    },
    BackOff {
        until: Instant,
    },
    Ended,
}

pub(crate) struct Container {
    pub name: String,
    pub image: String,
    pub kind: Kind,
    pub phase: Phase,
    pub ready: bool,
    pub restarts: u32,
    pub last: Option<End>,
    /// How the run before that one ended.
    pub before_last: Option<End>,
    pub log: Log,
    /// Distinguishes the runs in `containerID`.
    pub run: u32,
    spec: Value,
    /// What happens in its life, and in how many runs each step has been taken.
    script: Vec<(PodStep, u32)>,
    /// The steps of the present run.
    steps: Vec<PodStep>,
    own_log: Vec<String>,
    pulls: u32,
    /// Why the last pull failed; told until one succeeds.
    pub(super) pull_error: Option<String>,
    /// The step by which its pod has to go.
    pub(super) pod_goes: Option<PodStep>,
}

/// All containers of a pod in the order they start.
pub(super) fn all(pod: &Value, script: Option<&PodScript>) -> Vec<Container> {
    let first_app = list(pod, "/spec/containers").iter().map(|c| text(c, "/name")).find(|name| *name != "istio-proxy").unwrap_or_default().to_owned();
    let steps = |name: &str| -> Vec<PodStep> {
        let steps = script.map(|script| script.then.as_slice()).unwrap_or_default();
        steps.iter().filter(|step| step.container.as_deref().unwrap_or(&first_app) == name).cloned().collect()
    };
    let make = |spec: &Value, init: bool| {
        let name = text(spec, "/name").to_owned();
        let kind = match (init, text(spec, "/restartPolicy") == "Always") {
            (true, true) => Kind::Sidecar,
            (true, false) => Kind::Init,
            (false, _) => Kind::App,
        };
        let own_log = script.and_then(|script| script.log.get(&name)).cloned().unwrap_or_default();
        Container {
            image: text(spec, "/image").to_owned(),
            phase: Phase::Untouched,
            ready: false,
            restarts: 0,
            last: None,
            before_last: None,
            log: Log::default(),
            run: 0,
            script: steps(&name).into_iter().map(|step| (step, 0)).collect(),
            steps: Vec::new(),
            spec: spec.clone(),
            pulls: 0,
            pull_error: None,
            pod_goes: None,
            own_log,
            kind,
            name,
        }
    };
    let init = list(pod, "/spec/initContainers").iter().map(|spec| make(spec, true));
    init.chain(list(pod, "/spec/containers").iter().map(|spec| make(spec, false))).collect()
}

impl Container {
    /// Where events about it point.
    pub(crate) fn field(&self) -> String {
        let list = if self.kind == Kind::App { "containers" } else { "initContainers" };
        format!("spec.{list}{{{}}}", self.name)
    }

    pub(crate) fn running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// Whether the containers after this init container may start.
    pub(crate) fn past(&self) -> bool {
        match self.kind {
            Kind::Init => matches!(self.phase, Phase::Ended) && self.last.as_ref().is_some_and(|end| end.code == 0),
            Kind::Sidecar => self.running() && (self.ready || self.spec["startupProbe"].is_null()),
            Kind::App => true,
        }
    }

    /// `registry/image@sha256:…`, as the runtime reports it.
    pub(crate) fn image_id(&self) -> String {
        if self.run == 0 {
            return String::new();
        }
        let repository = self.image.split('@').next().unwrap_or_default();
        let repository = repository.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(repository, |(repository, _)| repository);
        format!("{repository}@sha256:{}", digest(&self.image))
    }

    /// The `containerID` of a run; there is none of run 0.
    pub(crate) fn id(&self, pod: &Value, run: u32) -> String {
        if run == 0 { String::new() } else { format!("containerd://{}", digest(&format!("{}/{}/{run}", uid(pod), self.name))) }
    }

    /// It has crashed, and its next run has not begun.
    fn between_runs(&self) -> bool {
        self.restarts > 0 && matches!(self.phase, Phase::BackOff { .. } | Phase::Pulling(_) | Phase::Starting(_))
    }

    /// How often it has been started again.
    pub(crate) fn started_again(&self) -> u32 {
        self.restarts - u32::from(self.between_runs())
    }

    /// A kubelet starts it again at once after the first crash, later with a pause.
    pub(crate) fn backs_off(&self) -> bool {
        self.between_runs() && self.restarts > 1
    }

    fn say(&self, said: &mut Vec<Said>, warning: bool, reason: &'static str, message: String) {
        said.push(Said { warning, reason, message, field: self.field() });
    }

    /// Lives on until now; tells when something happens next.
    pub(crate) fn advance(&mut self, sim: &Sim, pod: &Value, said: &mut Vec<Said>) -> Option<Instant> {
        loop {
            let now = Instant::now();
            match self.phase.clone() {
                Phase::Untouched => self.pull(sim, pod, said),
                Phase::Pulling(until)
                | Phase::Starting(until)
                | Phase::BackOff { until }
                | Phase::PullFailed { until, .. }
                | Phase::Stuck { until, .. }
                    if until > now =>
                {
                    return Some(until);
                }
                Phase::Pulling(_) => self.pulled(sim, pod, said),
                Phase::PullFailed { message, backing_off: false, .. } => {
                    let until = now + self.back_off(sim, self.pulls);
                    self.say(said, false, "BackOff", format!("Back-off pulling image \"{}\"", self.image));
                    self.say(said, true, "Failed", "Error: ImagePullBackOff".to_owned());
                    self.phase = Phase::PullFailed { until, message, backing_off: true };
                }
                Phase::PullFailed { .. } => self.pull(sim, pod, said),
                Phase::Stuck { reason, .. } if reason == "ErrImageNeverPull" => self.pull(sim, pod, said),
                Phase::Stuck { .. } => self.create(sim, pod, said),
                Phase::Starting(_) => self.start(sim, pod, said),
                Phase::BackOff { .. } => self.create(sim, pod, said),
                Phase::Running { due: Some(due), .. } if due > now => return Some(due),
                Phase::Running { due: Some(_), since, step } => self.step(sim, pod, since, step, said),
                Phase::Running { due: None, .. } | Phase::Ended => return None,
            }
        }
    }

    fn pull(&mut self, sim: &Sim, pod: &Value, said: &mut Vec<Said>) {
        let policy = text(&self.spec, "/imagePullPolicy");
        let present = policy != "Always" && sim.kubelet().has_image(text(pod, "/spec/nodeName"), &self.image);
        if present {
            self.say(said, false, "Pulled", format!("Container image \"{}\" already present on machine and can be accessed by the pod", self.image));
            self.create(sim, pod, said);
            return;
        }
        if policy == "Never" {
            let message = format!("Container image \"{}\" is not present with pull policy of Never", self.image);
            self.say(said, true, "ErrImageNeverPull", message.clone());
            self.phase = Phase::Stuck { until: Instant::now() + Duration::from_secs(1), reason: "ErrImageNeverPull".to_owned(), message };
            return;
        }
        self.say(said, false, "Pulling", format!("Pulling image \"{}\"", self.image));
        self.phase = Phase::Pulling(Instant::now() + sim.takes(sim.world.times.pull));
    }

    fn pulled(&mut self, sim: &Sim, pod: &Value, said: &mut Vec<Said>) {
        let image = &self.image;
        let images = &sim.world.images;
        let refused = |patterns: &[String]| patterns.iter().any(|pattern| wild(pattern, image));
        let start = format!("failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\":");
        let error = if refused(&images.missing) {
            format!("rpc error: code = NotFound desc = {start} {image}: not found")
        } else if refused(&images.denied) {
            format!(
                "rpc error: code = Unknown desc = {start} pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials"
            )
        } else if let Some(message) = sim.kubelet().pull_error(sim, image) {
            format!("rpc error: code = Unknown desc = {start} {message}")
        } else {
            self.pull_error = None;
            sim.kubelet().keep_image(text(pod, "/spec/nodeName"), image);
            let ms = sim.world.times.pull.0.as_millis();
            self.say(
                said,
                false,
                "Pulled",
                format!("Successfully pulled image \"{image}\" in {ms}ms ({ms}ms including waiting). Image size: 31457280 bytes."),
            );
            self.create(sim, pod, said);
            return;
        };
        self.pulls += 1;
        self.pull_error = Some(error.clone());
        self.say(said, true, "Failed", format!("Failed to pull image \"{image}\": {error}"));
        self.say(said, true, "Failed", "Error: ErrImagePull".to_owned());
        self.phase = Phase::PullFailed { until: Instant::now() + Duration::from_millis(150), message: error, backing_off: false };
    }

    fn create(&mut self, sim: &Sim, pod: &Value, said: &mut Vec<Said>) {
        self.steps = self.script.iter().filter(|(step, taken)| step.times.is_none_or(|times| *taken < times)).map(|(step, _)| step.clone()).collect();
        let stuck = match self.steps.first().filter(|step| step.state == PodState::Waiting) {
            Some(step) => Some((step.reason.clone().unwrap_or_else(|| "CreateContainerError".to_owned()), step.message.clone().unwrap_or_default())),
            None => checks::environment(sim, pod, &self.spec).map(|message| ("CreateContainerConfigError".to_owned(), message)),
        };
        if let Some((reason, message)) = stuck {
            if let Some((_, taken)) = self.script.iter_mut().find(|(step, taken)| step.times.is_none_or(|times| *taken < times)) {
                *taken += u32::from(self.steps.first().is_some_and(|step| step.state == PodState::Waiting));
            }
            self.say(said, true, "Failed", format!("Error: {message}"));
            self.phase = Phase::Stuck { until: Instant::now() + Duration::from_millis(500), reason, message };
            return;
        }
        self.say(said, false, "Created", "Container created".to_owned());
        self.phase = Phase::Starting(Instant::now() + sim.takes(sim.world.times.start));
    }

    fn start(&mut self, sim: &Sim, pod: &Value, said: &mut Vec<Said>) {
        let now = Instant::now();
        self.say(said, false, "Started", "Container started".to_owned());
        self.run += 1;
        self.script.iter_mut().for_each(|(_, taken)| *taken += 1);
        self.log.begin_run();
        let lines = if self.own_log.is_empty() { super::logs::opening(sim, pod, &self.name, &self.spec) } else { self.own_log.clone() };
        self.log.write(sim.now(), lines);
        let since = sim.now();
        if self.steps.is_empty()
            && let Some(ran) = curl::run(sim, pod, &self.spec)
        {
            let state = if ran.code == 0 { PodState::Completed } else { PodState::Crashed };
            self.steps = vec![PodStep { after: Time(ran.took), state, exit_code: Some(ran.code), log: ran.lines, ..PodStep::default() }];
        }
        if self.steps.is_empty() && (self.kind == Kind::Init || ends_by_itself(pod)) {
            self.end(sim, pod, since, 0, "Completed", "", said);
            return;
        }
        let probed = !self.spec["readinessProbe"].is_null();
        self.ready = !probed;
        let due = match self.steps.first() {
            Some(step) => Some(now + step.after.0),
            None if probed => Some(now + sim.takes(sim.world.times.ready)),
            None => None,
        };
        self.phase = Phase::Running { since, step: 0, due };
    }

    /// The step that is due while it runs; without steps that is the readiness probe.
    fn step(&mut self, sim: &Sim, pod: &Value, since: jiff::Timestamp, index: usize, said: &mut Vec<Said>) {
        let now = Instant::now();
        let Some(step) = self.steps.get(index).cloned() else {
            if self.kind == Kind::Init {
                self.end(sim, pod, since, 0, "Completed", "", said);
                return;
            }
            let failed = app::probe(sim, pod, &self.spec);
            if let Some(why) = &failed {
                self.say(said, true, "Unhealthy", format!("Readiness probe failed: {why}"));
            }
            self.ready = failed.is_none();
            let due = failed.map(|_| now + Duration::from_millis(400));
            self.phase = Phase::Running { since, step: index, due };
            return;
        };
        self.log.write(sim.now(), step.log.clone());
        let next = self.steps.get(index + 1).map(|next| now + next.after.0).or_else(|| (self.kind == Kind::Init).then_some(now));
        match step.state {
            PodState::Ready => self.ready = true,
            PodState::Unready => {
                self.ready = false;
                let why = step.message.clone().unwrap_or_else(|| "HTTP probe failed with statuscode: 503".to_owned());
                self.say(said, true, "Unhealthy", format!("Readiness probe failed: {why}"));
            }
            PodState::Waiting => {}
            PodState::Evicted | PodState::Taken => self.pod_goes = Some(step),
            PodState::Killed => {
                let why = step.message.clone().unwrap_or_else(|| "HTTP probe failed with statuscode: 500".to_owned());
                self.say(said, true, "Unhealthy", format!("Liveness probe failed: {why}"));
                self.say(said, false, "Killing", format!("Container {} failed liveness probe, will be restarted", self.name));
                self.end(sim, pod, since, step.exit_code.unwrap_or(137), "Error", "", said);
                return;
            }
            PodState::Crashed | PodState::Completed => {
                let good = step.state == PodState::Completed;
                let reason = step.reason.clone().unwrap_or_else(|| if good { "Completed" } else { "Error" }.to_owned());
                let killed = if reason == "OOMKilled" { 137 } else { 1 };
                let code = step.exit_code.unwrap_or(if good { 0 } else { killed });
                self.end(sim, pod, since, code, &reason, step.message.as_deref().unwrap_or_default(), said);
                return;
            }
        }
        self.phase = Phase::Running { since, step: index + 1, due: next };
    }

    #[expect(clippy::too_many_arguments, reason = "one end, told in full")]
    fn end(&mut self, sim: &Sim, pod: &Value, started: jiff::Timestamp, code: i32, reason: &str, message: &str, said: &mut Vec<Said>) {
        let crashed_before = self.last.is_some();
        self.ready = false;
        let end = End { run: self.run, code, reason: reason.to_owned(), message: message.to_owned(), started, finished: sim.now() };
        self.before_last = self.last.replace(end);
        let policy = text(pod, "/spec/restartPolicy");
        let again = match (self.kind, policy) {
            (Kind::Sidecar, _) => true,
            (Kind::Init, "Never") | (Kind::App, "Never") => false,
            (Kind::Init, _) | (Kind::App, "OnFailure") => code != 0,
            (Kind::App, _) => true,
        };
        if !again {
            self.phase = Phase::Ended;
            return;
        }
        self.restarts += 1;
        if !crashed_before {
            // the first restart has no back-off
            self.phase = Phase::BackOff { until: Instant::now() + Duration::from_millis(20) };
            return;
        }
        self.say(
            said,
            true,
            "BackOff",
            format!("Back-off restarting failed container {} in pod {}_{}({})", self.name, name(pod), namespace(pod), uid(pod)),
        );
        self.phase = Phase::BackOff { until: Instant::now() + self.back_off(sim, self.restarts - 1) };
    }

    /// Its pod is evicted: what runs is killed, and nothing starts any more.
    pub(super) fn evict(&mut self, at: jiff::Timestamp) {
        if let Phase::Running { since, .. } = self.phase {
            let end = End { run: self.run, code: 137, reason: "Error".to_owned(), message: String::new(), started: since, finished: at };
            self.before_last = self.last.replace(end);
        }
        self.ready = false;
        self.phase = Phase::Ended;
    }

    /// The simulated back-off after so many failures, counted from 1.
    fn back_off(&self, sim: &Sim, failures: u32) -> Duration {
        let times = &sim.world.times;
        (times.back_off.0 * 2u32.pow(failures.saturating_sub(1).min(10))).min(times.back_off_limit.0)
    }

    /// The back-off that a real kubelet would tell after so many restarts.
    pub(crate) fn told_back_off(&self) -> &'static str {
        ["10s", "20s", "40s", "1m20s", "2m40s"].get(usize::try_from(self.restarts.saturating_sub(2)).unwrap_or(usize::MAX)).copied().unwrap_or("5m0s")
    }
}

/// A pod whose containers are expected to end, as a Job's are.
fn ends_by_itself(pod: &Value) -> bool {
    matches!(text(pod, "/spec/restartPolicy"), "Never" | "OnFailure")
}
