//! Follows a workload to the verdict on its rollout: watches for speed, lists of our own every ten seconds as the truth.
//!
//! Beside the watches a minute of waiting costs at most ten calls: pods are listed every ten seconds, the rest more seldom; what seems to
//! lag behind is listed at once, and with a silent watch all is listed every ten seconds.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::place::Place;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::Cluster;
use crate::domain::services::lag::{self, Listed, Suspicions};
use crate::domain::services::mirror::{Choice, Mirror};
use crate::domain::services::preflight::makers::Made;
use crate::domain::services::rollout::convert::{self, Object, Revisions};
use crate::domain::services::rollout::delta::Delta;
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::{Around, Kind, Snapshot};
use crate::domain::services::rollout::{Questions, Rollout, Verdict};
use crate::domain::services::{around, evidence};

/// How often the truth is asked for.
const TRUTH_EVERY: Duration = Duration::from_secs(10);
/// How often a failure is to be confirmed while the API server does not answer.
const CONFIRM_EVERY: Duration = Duration::from_secs(2);
/// How often time alone is judged, without a call.
const JUDGE_EVERY: Duration = Duration::from_millis(200);
/// A truth older than this is none: the API server was not reachable.
const STALE: Duration = Duration::from_secs(35);
/// Events of one workload that are looked at, the newest.
const MOST_EVENTS: usize = 100;

/// A workload of ours, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
    pub place: Option<Place>,
}

impl Target {
    /// `deployment app1 in prod`
    pub fn title(&self) -> String {
        format!("{} {} in {}", self.kind.word(), self.name, self.namespace)
    }
}

/// The first observation of a rollout: `replay` starts with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    pub policy: Policy,
    pub before: Snapshot,
}

/// What is heard of a rollout while it is followed.
#[derive(Debug)]
pub enum Heard<'a> {
    /// What is missing now.
    Progress(&'a str),
    /// `rollout-start` with a [`Start`], `rollout` with what changed since the one before, `rollout-deadline` with the last. The one
    /// that ended it carries the verdict.
    Observed(&'static str, Value),
}

/// How a rollout ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    /// `2/2 ready`
    pub note: String,
    pub warnings: Vec<String>,
    pub last: Snapshot,
}

/// A workload that is being watched, from before the apply on. Dropping its last clone ends its watches.
#[derive(Clone)]
pub struct Follower {
    target: Target,
    cluster: Cluster,
    policy: Policy,
    copies: Arc<Copies>,
    before: Snapshot,
    made: Arc<Made>,
    notify: Arc<Notify>,
}

/// Copies of the objects that a verdict needs.
struct Copies {
    target: Target,
    cluster: Cluster,
    notify: Arc<Notify>,
    workload: Workload,
    pods: Mutex<Option<PodCopies>>,
    events: Mirror<Event>,
}

/// What is found by the workload's selector, which is known once it exists.
#[derive(Clone)]
struct PodCopies {
    pods: Arc<Mirror<Pod>>,
    sets: Option<Arc<Mirror<ReplicaSet>>>,
    revisions: Option<Arc<Mirror<ControllerRevision>>>,
}

enum Workload {
    Deployment(Mirror<Deployment>),
    StatefulSet(Mirror<StatefulSet>),
    DaemonSet(Mirror<DaemonSet>),
    Job(Mirror<Job>),
    Pod(Mirror<Pod>),
}

/// What the lists in the background found out.
#[derive(Default)]
struct Truth {
    around: Around,
    questions: Questions,
    /// A fault that no waiting mends.
    fatal: Option<Fault>,
    trouble: Option<(Instant, Fault)>,
    suspicions: Suspicions,
    /// What seems to lag, and is to be listed at once.
    due: Vec<Listed>,
}

impl Follower {
    /// Looks at the workload before the apply and begins to watch it.
    pub async fn start(cluster: &Cluster, target: Target, policy: Policy) -> Result<Self> {
        let notify = Arc::new(Notify::new());
        let copies = Arc::new(Copies::new(cluster, &target, &notify));
        copies.list_all().await?;
        let (before, _) = copies.snapshot(&policy, &Around::default());
        Ok(Self { target, cluster: cluster.clone(), policy, copies, before, made: Arc::default(), notify })
    }

    /// Watches a workload that was not there before the apply.
    pub fn of_new(cluster: &Cluster, target: Target, policy: Policy) -> Self {
        let notify = Arc::new(Notify::new());
        let copies = Arc::new(Copies::new(cluster, &target, &notify));
        let before = Snapshot { at: Timestamp::now(), workload: None, pods: Vec::new(), events: Vec::new(), around: Around::default() };
        Self { target, cluster: cluster.clone(), policy, copies, before, made: Arc::default(), notify }
    }

    /// What is applied together with the workload.
    pub fn beside(self, made: &Arc<Made>) -> Self {
        Self { made: Arc::clone(made), ..self }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    fn observation(&self, seen: &impl Serialize, verdict: Option<&Verdict>) -> Value {
        let mut value = json!({"workload": self.target.title(), "seen": seen});
        if let (Some(verdict), Some(map)) = (verdict, value.as_object_mut()) {
            map.insert("verdict".to_owned(), serde_json::to_value(verdict).unwrap_or_default());
        }
        value
    }

    /// As it was before the apply.
    pub fn before(&self) -> &Snapshot {
        &self.before
    }

    /// Follows the rollout to its verdict, for at most `limit`.
    ///
    /// # Errors
    /// The verdict's fault with all its evidence, or that the API server could not be asked.
    pub async fn finish(&self, limit: Duration, hear: &(dyn Fn(Heard) + Sync)) -> Result<Success> {
        let start = Start { policy: self.policy.clone(), before: self.before.clone() };
        hear(Heard::Observed("rollout-start", self.observation(&start, None)));
        // What was applied is certainly in a list that is asked for after it; the watch may be behind.
        self.copies.list_workload(false).await?;
        self.copies.list_pods(false).await?;
        let truth = Arc::new(Mutex::new(Truth::default()));
        let asked = Arc::new(Notify::new());
        let background = keep_true(
            Arc::clone(&self.copies),
            around::Answers::new(Arc::clone(&self.made)),
            Arc::clone(&truth),
            Arc::clone(&self.notify),
            Arc::clone(&asked),
        );
        let _background = AbortOnDropHandle::new(tokio::spawn(background));
        let rollout = Mutex::new((Rollout::new(self.policy.clone(), &self.before), None::<Snapshot>));
        let judged = || {
            let around = lock(&truth).around.clone();
            let (snapshot, strangers) = self.copies.snapshot(&self.policy, &around);
            let behind = lag::behind(&self.before, &snapshot, strangers);
            let due = lock(&truth).suspicions.due(behind, Instant::now());
            if !due.is_empty() {
                lock(&truth).due.extend(due);
                asked.notify_one();
            }
            (lock(&rollout).0.observe(&snapshot), snapshot)
        };
        let record = |snapshot: &Snapshot, ended: Option<&Verdict>| {
            let mut state = lock(&rollout);
            if state.1.as_ref().is_none_or(|last| !last.same_as(snapshot)) || ended.is_some() {
                let delta = Delta::between(state.1.as_ref().unwrap_or(&self.before), snapshot);
                hear(Heard::Observed("rollout", self.observation(&delta, ended)));
                let questions = state.0.questions(snapshot);
                if questions != Questions::default() {
                    lock(&truth).questions = questions;
                    asked.notify_one();
                }
            }
            state.1 = Some(snapshot.clone());
        };
        let unanswered = Mutex::new(None);
        let look = || async {
            if let Some(fault) = lock(&truth).fatal.clone() {
                return Err(fault);
            }
            let (mut verdict, mut snapshot) = judged();
            if let Verdict::Failed(trouble) = &verdict {
                record(&snapshot, None);
                if let Err(why) = self.copies.confirm(&unanswered).await {
                    return Ok(Poll::NotYet(format!("{}; not final, the API server does not answer: {why}", trouble.line())));
                }
                (verdict, snapshot) = judged();
            }
            record(&snapshot, Some(&verdict).filter(|verdict| !matches!(verdict, Verdict::Progressing { .. })));
            let told = |words: String| self.copies.silence().map_or(words.clone(), |silence| format!("{words} ({silence})"));
            Ok(match verdict {
                Verdict::Ready { note, warnings } => Poll::Ready(Ok(Success { note: told(note), warnings, last: snapshot })),
                Verdict::Failed(trouble) => Poll::Ready(Err((trouble, snapshot))),
                Verdict::Progressing { reason } => Poll::NotYet(told(reason)),
            })
        };
        let ended = wait::until(Patience::new(limit, JUDGE_EVERY), |reason| hear(Heard::Progress(reason)), || self.notify.notified(), look).await;
        let (rollout, last) = rollout.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (trouble, snapshot) = match ended {
            Ok(Ok(success)) => return Ok(success),
            Ok(Err(failed)) => failed,
            Err(error) => {
                let snapshot = last.unwrap_or_else(|| self.before.clone());
                let unreachable = lock(&truth).trouble.clone().filter(|(since, _)| since.elapsed() > STALE).map(|(_, fault)| fault);
                let mut timed_out = false;
                let fault = error.into_fault(|_| {
                    timed_out = true;
                    unreachable.clone().unwrap_or_else(|| Fault::new(Code::RolloutTimeout, ""))
                });
                if !timed_out || unreachable.is_some() {
                    return Err(fault);
                }
                let trouble = rollout.at_deadline(&snapshot);
                let verdict = Verdict::Failed(trouble.clone());
                hear(Heard::Observed("rollout-deadline", self.observation(&Delta::between(&snapshot, &snapshot), Some(&verdict))));
                (trouble, snapshot)
            }
        };
        let silence = self.copies.silence();
        let mut fault = evidence::fault(&self.cluster, &self.target, &rollout, &snapshot, &trouble, limit).await;
        if let Some(silence) = silence {
            fault.message = format!("{} ({silence})", fault.message);
        }
        Err(fault)
    }
}

/// What is listed beside the pods at the `tick`th time, from 1.
fn beside_pods(tick: u64) -> [(Listed, bool); 3] {
    [(Listed::Workload, tick.is_multiple_of(6)), (Listed::Revisions, tick % 12 == 9), (Listed::Events, tick % 6 == 3)]
}

/// Lists at intervals, and answers what the judge wants to know.
async fn keep_true(copies: Arc<Copies>, mut answers: around::Answers, truth: Arc<Mutex<Truth>>, notify: Arc<Notify>, asked: Arc<Notify>) {
    let mut ticks = tokio::time::interval_at(Instant::now() + TRUTH_EVERY, TRUTH_EVERY);
    for tick in 1_u64.. {
        loop {
            tokio::select! {
                _ = ticks.tick() => break,
                () = asked.notified() => {
                    let (questions, due) = {
                        let mut truth = lock(&truth);
                        (truth.questions.clone(), std::mem::take(&mut truth.due))
                    };
                    for kind in due {
                        // A fault is told by the next list in turn.
                        if copies.list(kind, true).await.unwrap_or(false) {
                            lock(&truth).suspicions.right(kind);
                            notify.notify_one();
                        }
                    }
                    answers.answer(&copies.cluster, &copies.target.namespace, &questions).await;
                    lock(&truth).around = answers.around().clone();
                    notify.notify_one();
                }
            }
        }
        answers.forget_what_changes(tick);
        let mut found = copies.list_pods(false).await;
        let all = copies.silence().is_some();
        for (kind, due) in beside_pods(tick) {
            // A bare pod is its own workload.
            let is_the_pod = kind == Listed::Workload && copies.target.kind == Kind::Pod;
            if found.is_ok() && (due || all || is_the_pod) {
                found = copies.list(kind, false).await;
            }
        }
        let mut truth = lock(&truth);
        match found {
            Ok(_) => truth.trouble = None,
            Err(fault) if matches!(fault.code, Code::Unauthorized | Code::Forbidden) => truth.fatal = Some(fault),
            Err(fault) => {
                let since = truth.trouble.take().map_or_else(Instant::now, |(since, _)| since);
                truth.trouble = Some((since, fault));
            }
        }
        drop(truth);
        asked.notify_one();
        notify.notify_one();
    }
}

impl Copies {
    fn new(cluster: &Cluster, target: &Target, notify: &Arc<Notify>) -> Self {
        let one = Choice { namespace: target.namespace.clone(), fields: format!("metadata.name={}", target.name), ..Choice::default() };
        let workload = match target.kind {
            Kind::Deployment => Workload::Deployment(Mirror::start(cluster, one, Arc::clone(notify))),
            Kind::StatefulSet => Workload::StatefulSet(Mirror::start(cluster, one, Arc::clone(notify))),
            Kind::DaemonSet => Workload::DaemonSet(Mirror::start(cluster, one, Arc::clone(notify))),
            Kind::Job => Workload::Job(Mirror::start(cluster, one, Arc::clone(notify))),
            Kind::Pod => Workload::Pod(Mirror::start(cluster, one, Arc::clone(notify))),
        };
        let all = Choice { namespace: target.namespace.clone(), ..Choice::default() };
        let events = Mirror::start(cluster, all, Arc::clone(notify));
        Self { target: target.clone(), cluster: cluster.clone(), notify: Arc::clone(notify), workload, pods: Mutex::default(), events }
    }

    async fn list_all(&self) -> Result<()> {
        self.list_workload(false).await?;
        self.list_pods(false).await?;
        self.list_revisions(false).await?;
        self.list_events(false).await?;
        Ok(())
    }

    /// Lists everything before a failure is final: a watch may have fallen silent, the network gone, or this machine stood still, so that
    /// what was healed long ago still seems to last. `unanswered`: when that was not possible last, and why.
    async fn confirm(&self, unanswered: &Mutex<Option<(Instant, String)>>) -> std::result::Result<(), String> {
        if let Some((at, why)) = &*lock(unanswered)
            && at.elapsed() < CONFIRM_EVERY
        {
            return Err(why.clone());
        }
        let listed = self.list_all().await.map_err(|fault| fault.message);
        *lock(unanswered) = listed.as_ref().err().map(|why| (Instant::now(), why.clone()));
        listed
    }

    /// `true`: the watch had missed something; `late`: for some time already.
    async fn list(&self, kind: Listed, late: bool) -> Result<bool> {
        match kind {
            Listed::Pods => self.list_pods(late).await,
            Listed::Workload => self.list_workload(late).await,
            Listed::Revisions => self.list_revisions(late).await,
            Listed::Events => self.list_events(late).await,
        }
    }

    async fn list_workload(&self, late: bool) -> Result<bool> {
        match &self.workload {
            Workload::Deployment(m) => m.relist(late).await,
            Workload::StatefulSet(m) => m.relist(late).await,
            Workload::DaemonSet(m) => m.relist(late).await,
            Workload::Job(m) => m.relist(late).await,
            Workload::Pod(m) => m.relist(late).await,
        }
    }

    async fn list_pods(&self, late: bool) -> Result<bool> {
        match self.selected() {
            Some(copies) => copies.pods.relist(late).await,
            None => Ok(false),
        }
    }

    async fn list_revisions(&self, late: bool) -> Result<bool> {
        let Some(copies) = self.selected() else { return Ok(false) };
        let mut missed = false;
        if let Some(sets) = &copies.sets {
            missed |= sets.relist(late).await?;
        }
        if let Some(revisions) = &copies.revisions {
            missed |= revisions.relist(late).await?;
        }
        Ok(missed)
    }

    /// Without the right to read events the verdict is slower, not impossible.
    async fn list_events(&self, late: bool) -> Result<bool> {
        match self.events.relist(late).await {
            Err(fault) if fault.code == Code::Forbidden => Ok(false),
            other => other,
        }
    }

    /// `the watch of pods is silent, judged from lists`
    fn silence(&self) -> Option<String> {
        let workload = match &self.workload {
            Workload::Deployment(m) => m.silent(),
            Workload::StatefulSet(m) => m.silent(),
            Workload::DaemonSet(m) => m.silent(),
            Workload::Job(m) => m.silent(),
            Workload::Pod(m) => m.silent(),
        };
        let selected = lock(&self.pods).clone();
        let of_pods = selected
            .into_iter()
            .flat_map(|copies| [copies.pods.silent(), copies.sets.and_then(|m| m.silent()), copies.revisions.and_then(|m| m.silent())]);
        let kinds: Vec<String> = of_pods.chain([workload, self.events.silent()]).flatten().collect();
        (!kinds.is_empty()).then(|| format!("the watch of {} is silent, judged from lists", kinds.join(", ")))
    }

    fn object(&self) -> Option<Object> {
        Some(match &self.workload {
            Workload::Deployment(m) => Object::Deployment(Box::new(m.objects().pop()?)),
            Workload::StatefulSet(m) => Object::StatefulSet(Box::new(m.objects().pop()?)),
            Workload::DaemonSet(m) => Object::DaemonSet(Box::new(m.objects().pop()?)),
            Workload::Job(m) => Object::Job(Box::new(m.objects().pop()?)),
            Workload::Pod(m) => Object::Pod(Box::new(m.objects().pop()?)),
        })
    }

    /// The copies that the selector finds; made as soon as the workload is there.
    fn selected(&self) -> Option<PodCopies> {
        let mut copies = lock(&self.pods);
        if copies.is_none() {
            let labels = self.object()?.selector()?;
            let choice = || Choice { namespace: self.target.namespace.clone(), labels: labels.clone(), ..Choice::default() };
            let kind = self.target.kind;
            *copies = Some(PodCopies {
                pods: Arc::new(Mirror::start(&self.cluster, choice(), Arc::clone(&self.notify))),
                sets: (kind == Kind::Deployment).then(|| Arc::new(Mirror::start(&self.cluster, choice(), Arc::clone(&self.notify)))),
                revisions: (kind == Kind::DaemonSet).then(|| Arc::new(Mirror::start(&self.cluster, choice(), Arc::clone(&self.notify)))),
            });
        }
        copies.clone()
    }

    /// What is known now, and whether there are pods of revisions that are not.
    fn snapshot(&self, policy: &Policy, around: &Around) -> (Snapshot, bool) {
        let mut snapshot = Snapshot { at: Timestamp::now(), workload: None, pods: Vec::new(), events: Vec::new(), around: around.clone() };
        let Some(object) = self.object() else { return (snapshot, false) };
        let selected = self.selected();
        let revisions = Revisions {
            sets: selected.as_ref().and_then(|s| s.sets.as_ref()).map(|m| m.objects()).unwrap_or_default(),
            revisions: selected.as_ref().and_then(|s| s.revisions.as_ref()).map(|m| m.objects()).unwrap_or_default(),
        };
        let workload = object.workload(&revisions);
        let pods = match &object {
            Object::Pod(pod) => vec![(**pod).clone()],
            _ => selected.map(|s| s.pods.objects()).unwrap_or_default(),
        };
        snapshot.pods = object.pods(&pods, &revisions, &workload.revision, policy);
        let is_ours = |kind: &str, name: &str| match kind {
            "Pod" => snapshot.pods.iter().any(|p| p.name == name),
            "ReplicaSet" => name == workload.revision,
            "PersistentVolumeClaim" => snapshot.pods.iter().any(|p| p.claims.iter().any(|c| c == name)),
            _ => name == workload.name && kind == format!("{:?}", workload.kind),
        };
        let mut events: Vec<_> = self.events.objects().iter().map(convert::event).filter(|e| is_ours(&e.kind, &e.name)).collect();
        events.sort_by(|a, b| (a.last, &a.uid).cmp(&(b.last, &b.uid)));
        let older = events.len().saturating_sub(MOST_EVENTS);
        snapshot.events = events.split_off(older);
        snapshot.workload = Some(workload);
        let strangers = pods.iter().any(|pod| is_stranger(pod, self.target.kind, &revisions));
        (snapshot, strangers)
    }
}

/// Is it of a ReplicaSet or a revision that is not known?
fn is_stranger(pod: &Pod, kind: Kind, revisions: &Revisions) -> bool {
    match kind {
        Kind::Deployment => {
            let sets = pod.metadata.owner_references.iter().flatten().filter(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet");
            sets.into_iter().any(|owner| revisions.sets.iter().all(|set| set.metadata.uid.as_ref() != Some(&owner.uid)))
        }
        Kind::DaemonSet => {
            let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get("controller-revision-hash"));
            let is_of = |revision: &ControllerRevision, hash: &str| revision.metadata.name.as_ref().is_some_and(|name| name.ends_with(hash));
            hash.is_some_and(|hash| revisions.revisions.iter().all(|revision| !is_of(revision, hash)))
        }
        Kind::StatefulSet | Kind::Job | Kind::Pod => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_of_waiting_costs_at_most_ten_calls_beside_the_watches() {
        let due =
            |ticks: std::ops::RangeInclusive<u64>| ticks.map(|tick| 1 + beside_pods(tick).iter().filter(|(_, due)| *due).count()).sum::<usize>();
        // The first minute begins with a list of the workload and one of its pods.
        assert_eq!(2 + due(1..=6), 10);
        assert!(due(7..=12) <= 10);
    }
}
