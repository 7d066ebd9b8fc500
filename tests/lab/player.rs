//! Plays the kubelet for the pods of a scenario (label `sim`), as the scenario's world says: statuses and events as the real one writes
//! them. Everything else about those pods is real: their controllers, the scheduler, quota, admission.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use meshstep::base::mutex::lock;
use meshstep::sandbox::world::{PodScript, PodState, PodStep, World, wild};
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};

use crate::logs::Logs;

/// Dropping it leaves the pods as they are.
pub(crate) struct Player(AbortHandle);

impl Drop for Player {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is counted over all pods of a scenario.
#[derive(Default)]
struct Used {
    scripts: HashMap<usize, u32>,
    pulls: HashMap<usize, u32>,
    pods: u32,
}

impl Player {
    pub(crate) fn start(client: Client, namespace: &str, world: World, logs: Logs) -> Self {
        let api = Api::<Pod>::namespaced(client.clone(), namespace);
        let (world, used) = (Arc::new(world), Arc::new(Mutex::new(Used::default())));
        let watching = async move {
            let mut known = HashMap::new();
            let mut lives = JoinSet::new();
            let mut pods = watcher(api, watcher::Config::default().labels("sim")).default_backoff().applied_objects().boxed();
            loop {
                // the watcher tries again by itself after an error
                let Ok(Some(pod)) = pods.try_next().await else { continue };
                let value = serde_json::to_value(&pod).expect("JSON");
                let scheduled = value["spec"]["nodeName"].is_string() && value["metadata"]["deletionTimestamp"].is_null();
                let uid = value["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                if scheduled && known.insert(uid, ()).is_none() {
                    lives.spawn(Life::new(&client, value, Arc::clone(&world), Arc::clone(&used), logs.clone()).live());
                }
                while lives.try_join_next().is_some() {}
            }
        };
        Self(tokio::spawn(watching).abort_handle())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Init,
    Sidecar,
    App,
}

/// One container as the status tells it.
struct Now {
    name: String,
    kind: Kind,
    spec: Value,
    state: Value,
    last: Value,
    ready: bool,
    restarts: u32,
    runs: u32,
    /// It will not run again.
    over: bool,
}

struct Life {
    client: Client,
    pod: Value,
    world: Arc<World>,
    used: Arc<Mutex<Used>>,
    logs: Logs,
    script: Option<PodScript>,
    ip: String,
    started: String,
    containers: Mutex<Vec<Now>>,
    conditions: Mutex<HashMap<&'static str, (bool, String)>>,
    told: Mutex<HashMap<String, (String, i32)>>,
    /// Reason and message of its eviction.
    evicted: Mutex<Option<(String, String)>>,
}

/// The pod is not there any more.
struct Gone;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn stamp() -> String {
    let now = Timestamp::now().to_string();
    format!("{}Z", now.split('.').next().unwrap_or_default().trim_end_matches('Z'))
}

/// The steps that are not used up.
fn left(steps: &[(PodStep, u32)]) -> Vec<PodStep> {
    steps.iter().filter(|(step, taken)| step.times.is_none_or(|times| *taken < times)).map(|(step, _)| step.clone()).collect()
}

/// The Deployment, StatefulSet or such that a pod belongs to, or its own name.
fn workload(pod: &Value) -> String {
    let Some(owner) = items(pod, "/metadata/ownerReferences").first() else { return text(pod, "/metadata/name").to_owned() };
    let hash = pod["metadata"]["labels"]["pod-template-hash"].as_str().unwrap_or("-");
    text(owner, "/name").trim_end_matches(hash).trim_end_matches('-').to_owned()
}

impl Life {
    fn new(client: &Client, pod: Value, world: Arc<World>, used: Arc<Mutex<Used>>, logs: Logs) -> Self {
        let images: Vec<&str> = items(&pod, "/spec/containers").iter().map(|c| text(c, "/image")).collect();
        let (script, number) = {
            let mut used = lock(&used);
            let left =
                |index: usize, script: &PodScript, used: &Used| script.times.is_none_or(|t| used.scripts.get(&index).copied().unwrap_or(0) < t);
            let hit = world.pods.iter().enumerate().find(|(index, script)| {
                left(*index, script, &used) && script.r#match.matches(text(&pod, "/metadata/namespace"), &workload(&pod), &images)
            });
            if let Some((index, _)) = hit {
                *used.scripts.entry(index).or_default() += 1;
            }
            used.pods += 1;
            (hit.map(|(_, script)| script.clone()), used.pods)
        };
        let one = |spec: &Value, init: bool| Now {
            name: text(spec, "/name").to_owned(),
            kind: match (init, text(spec, "/restartPolicy") == "Always") {
                (true, true) => Kind::Sidecar,
                (true, false) => Kind::Init,
                (false, _) => Kind::App,
            },
            spec: spec.clone(),
            state: json!({"waiting": {"reason": if init { "PodInitializing" } else { "ContainerCreating" }}}),
            last: json!({}),
            ready: false,
            restarts: 0,
            runs: 0,
            over: false,
        };
        let init = items(&pod, "/spec/initContainers").iter().map(|spec| one(spec, true));
        let containers = init.chain(items(&pod, "/spec/containers").iter().map(|spec| one(spec, false))).collect();
        Self {
            client: client.clone(),
            world,
            used,
            logs,
            script,
            ip: format!("10.250.{}.{}", number / 200, number % 200 + 10),
            started: stamp(),
            containers: Mutex::new(containers),
            conditions: Mutex::default(),
            told: Mutex::default(),
            evicted: Mutex::default(),
            pod,
        }
    }

    /// From the node's decision to take it until it is deleted.
    async fn live(self) {
        // a pod that is gone needs no kubelet
        let _ = self.all().await;
    }

    async fn all(&self) -> Result<(), Gone> {
        self.write().await?;
        let kinds: Vec<Kind> = lock(&self.containers).iter().map(|c| c.kind).collect();
        let first = |kind| kinds.iter().enumerate().filter(move |(_, k)| **k == kind).map(|(index, _)| index);
        let mut beside = Vec::new();
        for (index, kind) in kinds.iter().enumerate().filter(|(_, kind)| **kind != Kind::App) {
            if *kind == Kind::Init {
                self.container(index).await?;
            } else {
                beside.push(index);
            }
        }
        let running = beside.into_iter().chain(first(Kind::App)).map(|index| self.container(index));
        join_all(running).await.into_iter().collect()
    }

    /// The whole life of a container.
    async fn container(&self, index: usize) -> Result<(), Gone> {
        let (name, kind, spec) = {
            let all = lock(&self.containers);
            (all[index].name.clone(), all[index].kind, all[index].spec.clone())
        };
        self.pull(index, &spec).await?;
        let mut steps: Vec<(PodStep, u32)> = self.steps(&name).into_iter().map(|step| (step, 0)).collect();
        loop {
            self.create(index, &spec, &mut steps).await?;
            let now: Vec<PodStep> = left(&steps);
            steps.iter_mut().for_each(|(_, taken)| *taken += 1);
            let Some((code, reason, message)) = self.run(index, kind, &spec, &now).await? else { return std::future::pending().await };
            if !self.end(index, kind, code, &reason, &message).await? {
                return Ok(());
            }
        }
    }

    fn steps(&self, name: &str) -> Vec<PodStep> {
        let first = items(&self.pod, "/spec/containers").iter().map(|c| text(c, "/name")).find(|name| *name != "istio-proxy").unwrap_or_default();
        let all = self.script.iter().flat_map(|script| &script.then);
        all.filter(|step| step.container.as_deref().unwrap_or(first) == name).cloned().collect()
    }

    fn field(&self, index: usize) -> String {
        let all = lock(&self.containers);
        format!("spec.{}{{{}}}", if all[index].kind == Kind::App { "containers" } else { "initContainers" }, all[index].name)
    }

    async fn pull(&self, index: usize, spec: &Value) -> Result<(), Gone> {
        let (image, field) = (text(spec, "/image").to_owned(), self.field(index));
        let mut failures = 0;
        loop {
            self.event(&field, false, "Pulling", &format!("Pulling image \"{image}\"")).await?;
            tokio::time::sleep(self.world.times.pull.0).await;
            let Some(error) = self.pull_error(&image) else {
                return self
                    .event(&field, false, "Pulled", &format!("Successfully pulled image \"{image}\" in 60ms (60ms including waiting)."))
                    .await;
            };
            failures += 1;
            self.event(&field, true, "Failed", &format!("Failed to pull image \"{image}\": {error}")).await?;
            self.event(&field, true, "Failed", "Error: ErrImagePull").await?;
            self.wait_as(index, "ErrImagePull", &error).await?;
            tokio::time::sleep(Duration::from_millis(150)).await;
            self.event(&field, false, "BackOff", &format!("Back-off pulling image \"{image}\"")).await?;
            self.event(&field, true, "Failed", "Error: ImagePullBackOff").await?;
            self.wait_as(index, "ImagePullBackOff", &format!("Back-off pulling image \"{image}\": ErrImagePull: {error}")).await?;
            tokio::time::sleep(self.back_off(failures)).await;
        }
    }

    fn pull_error(&self, image: &str) -> Option<String> {
        let images = &self.world.images;
        let start = format!("failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\":");
        if images.missing.iter().any(|pattern| wild(pattern, image)) {
            return Some(format!("rpc error: code = NotFound desc = {start} {image}: not found"));
        }
        if images.denied.iter().any(|pattern| wild(pattern, image)) {
            let why = "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials";
            return Some(format!("rpc error: code = Unknown desc = {start} {why}"));
        }
        let mut used = lock(&self.used);
        let left = |index: usize, times: Option<u32>| times.is_none_or(|times| used.pulls.get(&index).copied().unwrap_or(0) < times);
        let (index, error) = images.errors.iter().enumerate().find(|(index, error)| wild(&error.image, image) && left(*index, error.times))?;
        *used.pulls.entry(index).or_default() += 1;
        Some(format!("rpc error: code = Unknown desc = {start} {}", error.message))
    }

    fn back_off(&self, failures: u32) -> Duration {
        let times = &self.world.times;
        (times.back_off.0 * 2_u32.pow(failures.saturating_sub(1).min(10))).min(times.back_off_limit.0)
    }

    /// Until it can be created.
    async fn create(&self, index: usize, spec: &Value, steps: &mut [(PodStep, u32)]) -> Result<(), Gone> {
        let field = self.field(index);
        loop {
            let first = steps.iter_mut().find(|(step, taken)| step.times.is_none_or(|times| *taken < times));
            let stuck = match first.filter(|(step, _)| step.state == PodState::Waiting) {
                Some((step, taken)) => {
                    *taken += 1;
                    Some((step.reason.clone().unwrap_or_else(|| "CreateContainerError".to_owned()), step.message.clone().unwrap_or_default()))
                }
                None => self.missing(spec).await.map(|message| ("CreateContainerConfigError".to_owned(), message)),
            };
            let Some((reason, message)) = stuck else { break };
            self.event(&field, true, "Failed", &format!("Error: {message}")).await?;
            self.wait_as(index, &reason, &message).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.event(&field, false, "Created", "Container created").await?;
        tokio::time::sleep(self.world.times.start.0).await;
        Ok(())
    }

    /// The Secret, ConfigMap or key that the environment needs and that is not there.
    async fn missing(&self, spec: &Value) -> Option<String> {
        let namespace = text(&self.pod, "/metadata/namespace");
        for variable in items(spec, "/env") {
            for (kind, word, at) in [("secret", "Secret", "secretKeyRef"), ("configmap", "ConfigMap", "configMapKeyRef")] {
                let source = &variable["valueFrom"][at];
                if source.is_null() || source["optional"] == true {
                    continue;
                }
                let (name, key) = (text(source, "/name"), text(source, "/key"));
                let found = if kind == "secret" {
                    let found = Api::<Secret>::namespaced(self.client.clone(), namespace).get_opt(name).await.ok()?;
                    found.map(|object| object.data.unwrap_or_default().contains_key(key))
                } else {
                    let found = Api::<ConfigMap>::namespaced(self.client.clone(), namespace).get_opt(name).await.ok()?;
                    found.map(|object| object.data.unwrap_or_default().contains_key(key))
                };
                match found {
                    None => return Some(format!("{kind} \"{name}\" not found")),
                    Some(false) => return Some(format!("couldn't find key {key} in {word} {namespace}/{name}")),
                    Some(true) => {}
                }
            }
        }
        None
    }

    /// One run, to its end if it has one: exit code, reason, message.
    async fn run(&self, index: usize, kind: Kind, spec: &Value, steps: &[PodStep]) -> Result<Option<(i32, String, String)>, Gone> {
        let field = self.field(index);
        self.event(&field, false, "Started", "Container started").await?;
        let probed = !spec["readinessProbe"].is_null();
        let log = self.log(text(spec, "/name"));
        self.logs.begin(&log);
        if let Some(opening) = self.script.as_ref().and_then(|script| script.log.get(text(spec, "/name"))) {
            self.logs.write(&log, opening);
        }
        {
            let mut all = lock(&self.containers);
            all[index].runs += 1;
            all[index].ready = kind != Kind::Init && !probed;
            all[index].state = json!({"running": {"startedAt": stamp()}});
        }
        self.write().await?;
        for step in steps {
            tokio::time::sleep(step.after.0).await;
            self.logs.write(&log, &step.log);
            match step.state {
                PodState::Ready => self.set_ready(index, true).await?,
                PodState::Unready => {
                    let why = step.message.as_deref().unwrap_or("HTTP probe failed with statuscode: 503");
                    self.event(&field, true, "Unhealthy", &format!("Readiness probe failed: {why}")).await?;
                    self.set_ready(index, false).await?;
                }
                PodState::Waiting => {}
                PodState::Killed => {
                    let why = step.message.as_deref().unwrap_or("HTTP probe failed with statuscode: 500");
                    self.event(&field, true, "Unhealthy", &format!("Liveness probe failed: {why}")).await?;
                    let kills = format!("Container {} failed liveness probe, will be restarted", text(spec, "/name"));
                    self.event(&field, false, "Killing", &kills).await?;
                    return Ok(Some((step.exit_code.unwrap_or(137), "Error".to_owned(), String::new())));
                }
                PodState::Evicted => return self.evict(step).await,
                PodState::Taken => return self.take_away(step.reason.as_deref().unwrap_or("PreemptionByScheduler")).await,
                PodState::Crashed | PodState::Completed => {
                    let good = step.state == PodState::Completed;
                    let reason = step.reason.clone().unwrap_or_else(|| if good { "Completed" } else { "Error" }.to_owned());
                    let code = step.exit_code.unwrap_or(if good {
                        0
                    } else if reason == "OOMKilled" {
                        137
                    } else {
                        1
                    });
                    return Ok(Some((code, reason, step.message.clone().unwrap_or_default())));
                }
            }
        }
        let ends = matches!(text(&self.pod, "/spec/restartPolicy"), "Never" | "OnFailure");
        if kind == Kind::Init || (steps.is_empty() && ends) {
            return Ok(Some((0, "Completed".to_owned(), String::new())));
        }
        if steps.is_empty() && probed {
            tokio::time::sleep(self.world.times.ready.0).await;
            self.set_ready(index, true).await?;
        }
        Ok(None)
    }

    /// The kubelet ends the pod, and its owner makes another.
    async fn evict<T>(&self, step: &PodStep) -> Result<T, Gone> {
        let usual = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. ";
        let message = step.message.clone().unwrap_or_else(|| usual.to_owned());
        self.event("", true, "Evicted", &message).await?;
        for one in lock(&self.containers).iter_mut().filter(|one| one.state.get("running").is_some()) {
            let started = text(&one.state, "/running/startedAt").to_owned();
            one.state = json!({"terminated": {"exitCode": 137, "reason": "Error", "startedAt": started, "finishedAt": stamp()}});
            one.ready = false;
        }
        *lock(&self.evicted) = Some((step.reason.clone().unwrap_or_else(|| "Evicted".to_owned()), message));
        self.write().await?;
        Err(Gone)
    }

    /// The pod is marked and deleted, as the scheduler and the controllers do it.
    async fn take_away<T>(&self, reason: &str) -> Result<T, Gone> {
        let api = Api::<Pod>::namespaced(self.client.clone(), text(&self.pod, "/metadata/namespace"));
        let name = text(&self.pod, "/metadata/name");
        let mark = json!({"type": "DisruptionTarget", "status": "True", "lastTransitionTime": stamp(), "reason": reason, "message": ""});
        let patch = json!({"metadata": {"uid": self.pod["metadata"]["uid"]}, "status": {"conditions": [mark]}});
        // whoever changes the pod meanwhile takes it away as well
        let _ = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _ = api.delete(name, &DeleteParams::default()).await;
        Err(Gone)
    }

    async fn set_ready(&self, index: usize, ready: bool) -> Result<(), Gone> {
        lock(&self.containers)[index].ready = ready;
        self.write().await
    }

    /// A run is over; whether there is another.
    async fn end(&self, index: usize, kind: Kind, code: i32, reason: &str, message: &str) -> Result<bool, Gone> {
        let again = match (kind, text(&self.pod, "/spec/restartPolicy")) {
            (Kind::Sidecar, _) => true,
            (_, "Never") => false,
            (Kind::Init, _) | (Kind::App, "OnFailure") => code != 0,
            (Kind::App, _) => true,
        };
        let (restarts, name) = {
            let mut all = lock(&self.containers);
            let one = &mut all[index];
            let started = text(&one.state, "/running/startedAt").to_owned();
            let mut ended = json!({"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": stamp()});
            if !message.is_empty() {
                ended["message"] = message.into();
            }
            one.state = json!({"terminated": ended});
            one.ready = false;
            one.over = !again;
            (one.restarts, one.name.clone())
        };
        self.write().await?;
        if !again {
            return Ok(false);
        }
        if restarts == 0 {
            // the first restart has no back-off
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else {
            let whose =
                format!("{}_{}({})", text(&self.pod, "/metadata/name"), text(&self.pod, "/metadata/namespace"), text(&self.pod, "/metadata/uid"));
            self.event(&self.field(index), true, "BackOff", &format!("Back-off restarting failed container {name} in pod {whose}")).await?;
            let told = ["10s", "20s", "40s", "1m20s", "2m40s"].get(restarts as usize - 1).unwrap_or(&"5m0s");
            self.wait_as(index, "CrashLoopBackOff", &format!("back-off {told} restarting failed container={name} pod={whose}")).await?;
            self.logs.wait(&self.log(&name));
            tokio::time::sleep(self.back_off(restarts)).await;
        }
        let mut all = lock(&self.containers);
        if let Some(ended) = all[index].state.get("terminated").cloned() {
            all[index].last = json!({"terminated": ended});
        }
        all[index].restarts += 1;
        Ok(true)
    }

    /// A container's name among the logs.
    fn log(&self, container: &str) -> String {
        format!("{}/{}/{container}", text(&self.pod, "/metadata/namespace"), text(&self.pod, "/metadata/name"))
    }

    async fn wait_as(&self, index: usize, reason: &str, message: &str) -> Result<(), Gone> {
        {
            let mut all = lock(&self.containers);
            if let Some(ended) = all[index].state.get("terminated").cloned() {
                all[index].last = json!({"terminated": ended});
            }
            all[index].state = json!({"waiting": {"reason": reason, "message": message}});
        }
        self.write().await
    }

    fn status(&self) -> Value {
        let all = lock(&self.containers);
        let initialized = all.iter().filter(|c| c.kind != Kind::App).all(|c| match c.kind {
            Kind::Init => text(&c.state, "/terminated/reason") == "Completed",
            _ => c.runs > 0,
        });
        let ready = initialized && all.iter().filter(|c| c.kind != Kind::Init).all(|c| c.ready);
        let apps = || all.iter().filter(|c| c.kind == Kind::App);
        let phase = if apps().all(|c| c.over) {
            if apps().all(|c| c.state["terminated"]["exitCode"] == 0) { "Succeeded" } else { "Failed" }
        } else if apps().any(|c| c.runs > 0) {
            "Running"
        } else {
            "Pending"
        };
        let evicted = lock(&self.evicted).clone();
        let phase = if evicted.is_some() { "Failed" } else { phase };
        let mut conditions = lock(&self.conditions);
        let mut condition = |kind: &'static str, holds: bool| {
            let known = conditions.entry(kind).or_insert_with(|| (holds, stamp()));
            if known.0 != holds {
                *known = (holds, stamp());
            }
            let mut condition = json!({"type": kind, "status": if holds { "True" } else { "False" }, "lastTransitionTime": known.1});
            if !holds {
                condition["reason"] = if kind == "Initialized" { "ContainersNotInitialized" } else { "ContainersNotReady" }.into();
            }
            condition
        };
        let mut conditions: Vec<Value> =
            [("PodReadyToStartContainers", true), ("Initialized", initialized), ("Ready", ready), ("ContainersReady", ready), ("PodScheduled", true)]
                .into_iter()
                .map(|(kind, holds)| condition(kind, holds))
                .collect();
        if let Some((_, message)) = &evicted {
            let reason = "TerminationByKubelet";
            conditions
                .push(json!({"type": "DisruptionTarget", "status": "True", "lastTransitionTime": stamp(), "reason": reason, "message": message}));
        }
        let one = |c: &Now| {
            let run = format!("{}-{}-{}", text(&self.pod, "/metadata/uid"), c.name, c.runs);
            let id = if c.runs == 0 { String::new() } else { format!("containerd://{run}") };
            let image = text(&c.spec, "/image");
            let mut status = json!({
                "name": c.name, "state": c.state, "lastState": c.last, "restartCount": c.restarts, "image": image, "imageID": "", "containerID": id,
                "ready": c.ready || c.kind == Kind::Init && text(&c.state, "/terminated/reason") == "Completed", "started": c.state.get("running").is_some(),
            });
            if let Some(ended) = status["state"].get_mut("terminated") {
                ended["containerID"] = id.into();
            }
            status
        };
        let listed = |app: bool| all.iter().filter(|c| (c.kind == Kind::App) == app).map(one).collect::<Vec<_>>();
        let (reason, message) = evicted.unzip();
        json!({
            "phase": phase, "reason": reason, "message": message, "conditions": conditions, "startTime": self.started, "podIP": self.ip, "podIPs": [{"ip": self.ip}],
            "initContainerStatuses": listed(false), "containerStatuses": listed(true),
        })
    }

    async fn write(&self) -> Result<(), Gone> {
        let api = Api::<Pod>::namespaced(self.client.clone(), text(&self.pod, "/metadata/namespace"));
        loop {
            let patch = json!({"metadata": {"uid": self.pod["metadata"]["uid"]}, "status": self.status()});
            match api.patch_status(text(&self.pod, "/metadata/name"), &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return Ok(()),
                // another pod of the same name has another uid
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Err(Gone),
                Err(kube::Error::Api(status)) if status.code == 422 => panic!("the API server does not take this status: {}", status.message),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// An event of the kubelet's; the same again raises the count.
    async fn event(&self, field: &str, warning: bool, reason: &str, message: &str) -> Result<(), Gone> {
        let meta = &self.pod["metadata"];
        let namespace = text(meta, "/namespace");
        let api = Api::<Event>::namespaced(self.client.clone(), namespace);
        let known = {
            let mut told = lock(&self.told);
            let one = told.entry(format!("{field} {reason} {message}")).or_default();
            one.1 += 1;
            one.clone()
        };
        if known.1 > 1 && !known.0.is_empty() {
            let patch = json!({"count": known.1, "lastTimestamp": stamp()});
            // an event that cannot be counted is lost, as a kubelet's
            let _ = api.patch(&known.0, &PatchParams::default(), &Patch::Merge(&patch)).await;
            return Ok(());
        }
        let (name, host) = (text(meta, "/name"), text(&self.pod, "/spec/nodeName"));
        let event = json!({
            "metadata": {"generateName": format!("{name}."), "namespace": namespace}, "reason": reason, "message": message, "count": 1,
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": meta["uid"], "fieldPath": field},
            "type": if warning { "Warning" } else { "Normal" }, "source": {"component": "kubelet", "host": host},
            "firstTimestamp": stamp(), "lastTimestamp": stamp(), "reportingComponent": "kubelet", "reportingInstance": host,
        });
        let event: Event = serde_json::from_value(event).expect("an event");
        if let Ok(made) = api.create(&PostParams::default(), &event).await {
            let own = made.metadata.name.unwrap_or_default();
            if let Some(one) = lock(&self.told).get_mut(&format!("{field} {reason} {message}")) {
                one.0 = own;
            }
        }
        Ok(())
    }
}
