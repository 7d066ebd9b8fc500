//! Stage `ingress`: from the Ingress's name to the first answer of Envoy, link by link.

mod first;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::{Either, select};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event as CoreEvent, Node, Service};
use k8s_openapi::api::networking::v1::{Ingress as IngressObject, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::text;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::aws::{Aws, LoadBalancer};
use crate::clients::kube::{Cluster, Nudge};
use crate::domain::ingress::accepted::{Controller, Seen};
use crate::domain::ingress::binding::{Around, Binding};
use crate::domain::ingress::events::Event;
use crate::domain::ingress::listeners::{self, Listener};
use crate::domain::ingress::look::{Look, Told};
use crate::domain::ingress::targets::{self, Target};
use crate::domain::ingress::{Link, accepted, balancer, binding};
use crate::domain::verify::retry;
use crate::engine::record::{Case, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::connect::Cluster as ClusterOfFile;
use crate::stages::{Seconds, Shared, verify};

/// The re-list beside the watches.
const RELIST: Duration = Duration::from_secs(10);
/// AWS counts every Describe call of the account together: never more often than this.
const AWS_FASTEST: Duration = Duration::from_secs(10);
/// And not more seldom than this, however much it throttles.
pub(super) const AWS_SLOWEST: Duration = Duration::from_secs(60);
/// Events that are looked at, the newest.
const MOST_EVENTS: usize = 30;

/// `ingress:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ingress {
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The gateway's Service, to which a TargetGroupBinding must lead.
    #[serde(default = "default_service")]
    pub service: String,
    /// How many targets must be healthy.
    #[serde(default = "default_min_healthy")]
    #[schemars(range(min = 1))]
    pub min_healthy: u32,
    /// For the whole chain.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: Seconds,
}

fn default_namespace() -> String {
    "istio-system".to_owned()
}

fn default_service() -> String {
    "istio-ingressgateway".to_owned()
}

fn default_min_healthy() -> u32 {
    1
}

fn default_timeout() -> Seconds {
    Seconds::from_secs(600)
}

/// Waits for each link of the chain, in its order. It changes nothing.
pub struct IngressStage;

#[async_trait]
impl Stage<Shared> for IngressStage {
    fn id(&self) -> &'static str {
        "ingress"
    }

    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        Ok(match &ctx.shared.pipeline.ingress {
            None => Readiness::Skip("no ingress: section in the file".to_owned()),
            Some(_) if ctx.dry_run => Readiness::Skip("dry run".to_owned()),
            Some(_) => Readiness::Ready,
        })
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let Some(params) = ctx.shared.pipeline.ingress.clone() else { return Ok(()) };
        let deadline = Instant::now() + params.timeout.0;
        let chain = Chain { ctx, cluster: ctx.shared.cluster().await?, deadline, params, told: Mutex::default() };
        chain.run().await;
        Ok(())
    }
}

const LINKS: [&str; 7] = ["ingress accepted", "hostname", "load balancer active", "target group binding", "targets healthy", "dns", "first answer"];

/// How long a link is not looked at. What Kubernetes tells is looked at again beside its watches; AWS's links have a pace of their own, which
/// must not be hastened while it throttles.
fn at_most(link: usize) -> Duration {
    if matches!(LINKS[link], "load balancer active" | "targets healthy") { 2 * AWS_SLOWEST } else { RELIST }
}

/// AWS, or why it is not asked.
pub(super) enum Account {
    Known(Aws),
    Unknown(String),
}

struct Chain<'a> {
    ctx: &'a Ctx<Shared>,
    cluster: Cluster,
    params: Ingress,
    deadline: Instant,
    /// The verdict of each link, or part of one, that was recorded last.
    told: Mutex<BTreeMap<(&'static str, Option<String>), Told>>,
}

impl Chain<'_> {
    async fn run(&self) {
        let broken_at = match self.links().await {
            Ok(()) => return,
            Err(at) => at,
        };
        for link in &LINKS[broken_at + 1..] {
            self.ctx.record.case(*link).service(&self.params.name).skip(format!("needs {} (failed)", LINKS[broken_at]));
        }
    }

    /// The number of the link that does not hold.
    async fn links(&self) -> Result<(), usize> {
        let ingresses = self.cluster.watch::<IngressObject>(&self.params.namespace, "");
        let events = self.cluster.watch::<CoreEvent>(&self.params.namespace, "");
        let watches = (&ingresses, &events);
        self.case(0, |case| async move { self.accepted(&case, watches).await }).await.ok_or(0_usize)?;
        let (hostname, named) = self.case(1, |case| async move { self.hostname(&case, watches).await }).await.ok_or(1_usize)?;
        let account = match account(&self.ctx.shared).await {
            Ok(account) => account,
            Err(fault) => {
                self.ctx.record.case(LINKS[2]).service(&self.params.name).fail(fault);
                return Err(2);
            }
        };
        let balancer = match &account {
            Account::Unknown(reason) => {
                self.ctx.record.case(LINKS[2]).service(&self.params.name).skip(reason);
                None
            }
            Account::Known(aws) => Some(self.case(2, |case| self.active(case, aws, &hostname)).await.ok_or(2_usize)?),
        };
        let groups = self.case(3, |case| async move { self.bound(&case, watches).await }).await.ok_or(3_usize)?;
        match &account {
            Account::Unknown(reason) => self.ctx.record.case(LINKS[4]).service(&self.params.name).skip(reason),
            Account::Known(aws) => {
                let zones = balancer.iter().flat_map(|balancer| &balancer.zones).map(|zone| zone.name.clone()).collect();
                self.case(4, |case| self.healthy(case, aws, &groups, zones)).await.ok_or(4_usize)?;
            }
        }
        self.case(5, |case| self.dns(case, &hostname)).await.ok_or(5_usize)?;
        let listeners = listeners(&named, &account, balancer.as_ref()).await;
        let scheme = balancer.as_ref().map(|balancer| balancer.scheme.as_str());
        // It is the last link: nothing needs what it finds.
        self.case(6, |case| self.first_answer(case, &hostname, scheme, &listeners)).await;
        Ok(())
    }

    async fn case<T, F, Fut>(&self, link: usize, work: F) -> Option<T>
    where
        F: FnOnce(Case) -> Fut,
        Fut: Future<Output = Result<Done<T>>>,
    {
        let place = self.ctx.shared.place("/ingress");
        self.ctx.record.case(LINKS[link]).service(&self.params.name).place(place).run(work).await
    }

    /// Waits for one link within what is left of the chain's time. `wake` paces or nudges the looks.
    async fn wait<T, L, LF, W, WF>(&self, link: usize, case: &Case, wake: W, look: L) -> Result<T>
    where
        L: FnMut() -> LF,
        LF: Future<Output = Result<Poll<T>>>,
        W: FnMut() -> WF,
        WF: Future<Output = ()>,
    {
        let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let waited = wait::until(Patience::new(left, at_most(link)), |reason| case.progress(reason), wake, look).await;
        waited.map_err(|error| {
            error.into_fault(|timed_out| {
                let limit = text::seconds(self.params.timeout.0);
                Fault::new(Code::IngressTimeout, format!("{}: not within {limit}: {}", LINKS[link], timed_out.last_reason))
            })
        })
    }

    async fn accepted(&self, case: &Case, watches: (&Nudge, &Nudge)) -> Result<Done<()>> {
        let start = Instant::now();
        let note = self
            .wait(
                0,
                case,
                || either(watches),
                || async move {
                    let (mut seen, now, waited) = (self.seen().await?, Timestamp::now(), whole_ms(start));
                    if seen.is_left_alone(now, waited) {
                        seen.controller = Some(self.controller().await);
                    }
                    let link = accepted::accepted(&seen, now, waited);
                    self.record(case, Look::Accepted { seen, now, waited_ms: in_ms(waited) });
                    poll(case, link)
                },
            )
            .await?;
        Ok(Done::unchanged((), note))
    }

    /// The hostname, and the listeners that the Ingress names.
    async fn hostname(&self, case: &Case, watches: (&Nudge, &Nudge)) -> Result<Done<(String, Vec<Listener>)>> {
        let start = Instant::now();
        let (hostname, named) = self
            .wait(
                1,
                case,
                || either(watches),
                || async move {
                    let (seen, now, waited) = (self.seen().await?, Timestamp::now(), whole_ms(start));
                    let (link, named) = (accepted::hostname(&seen, now, waited), seen.listeners.clone());
                    self.record(case, Look::Hostname { seen, now, waited_ms: in_ms(waited) });
                    Ok(poll(case, link)?.map(|hostname| (hostname, named)))
                },
            )
            .await?;
        case.property("alb.dns", &hostname);
        Ok(Done::unchanged((hostname.clone(), named), hostname))
    }

    async fn active(&self, case: Case, aws: &Aws, hostname: &str) -> Result<Done<LoadBalancer>> {
        let (start, case, pace) = (Instant::now(), &case, &Pace::of_aws(&self.ctx.shared));
        let balancer = self
            .wait(
                2,
                case,
                || pace.sleep(),
                || async move {
                    let found = match asked(aws.load_balancer(hostname).await, pace)? {
                        Ok(found) => found,
                        Err(reason) => return Ok(Poll::NotYet(reason)),
                    };
                    let seen =
                        found.as_ref().map(|b| balancer::Seen { state: b.state.clone(), reason: Some(b.reason.clone()).filter(|r| !r.is_empty()) });
                    let waited = whole_ms(start);
                    let link = balancer::active(seen.as_ref(), hostname, waited);
                    self.record(case, Look::Active { seen, hostname: hostname.to_owned(), waited_ms: in_ms(waited) });
                    Ok(match (poll(case, link)?, found) {
                        (Poll::Ready(()), Some(found)) => Poll::Ready(found),
                        (Poll::NotYet(reason), _) => Poll::NotYet(reason),
                        (Poll::Ready(()), None) => Poll::NotYet("AWS does not know it yet".to_owned()),
                    })
                },
            )
            .await?;
        case.property("alb.arn", &balancer.arn);
        case.property("alb.scheme", &balancer.scheme);
        let note = format!("{}, {}", balancer.state, text::count(balancer.zones.len(), "zone"));
        Ok(Done::unchanged(balancer, note))
    }

    async fn bound(&self, case: &Case, watches: (&Nudge, &Nudge)) -> Result<Done<Vec<String>>> {
        let (start, service) = (Instant::now(), &self.params.service);
        let groups = self
            .wait(
                3,
                case,
                || either(watches),
                || async move {
                    let seen = self.seen().await?;
                    let stacks = seen.stacks();
                    let (bindings, events) = self.bindings(&stacks).await?;
                    let exists = self.cluster.get::<Service>(&self.params.namespace, service).await?.is_some();
                    let around = Around {
                        service: service.clone(),
                        service_exists: exists,
                        backends: seen.backends.clone(),
                        stacks,
                        reconciled: seen.events.iter().any(|e| e.reason == "SuccessfullyReconciled") || seen.hostname().is_some(),
                        events,
                    };
                    let waited = whole_ms(start);
                    let link = binding::bound(&bindings, &around, waited);
                    self.record(case, Look::Bound { bindings, around, waited_ms: in_ms(waited) });
                    poll(case, link)
                },
            )
            .await?;
        Ok(Done::unchanged(groups.clone(), format!("{} for {service}", text::count(groups.len().max(1), "target group"))))
    }

    async fn healthy(&self, case: Case, aws: &Aws, groups: &[String], zones: Vec<String>) -> Result<Done<()>> {
        let instances = OnceCell::new();
        let (min, case, pace) = (self.params.min_healthy as usize, &case, &Pace::of_aws(&self.ctx.shared));
        let stuck_since = Mutex::new(BTreeMap::<String, Instant>::new());
        let (n, all) = self
            .wait(
                4,
                case,
                || pace.sleep(),
                || async {
                    let mut found = Vec::new();
                    for group in groups {
                        match asked(aws.target_health(group).await, pace)? {
                            Ok(targets) => found.push((targets::group_name(group).to_owned(), targets.into_iter().map(target).collect())),
                            Err(reason) => return Ok(Poll::NotYet(reason)),
                        }
                    }
                    if found.is_empty() {
                        found.push((String::new(), Vec::new()));
                    }
                    let (many, mut all, mut links) = (found.len() > 1, 0, Vec::new());
                    for (name, mut targets) in found {
                        // AWS tells the zone of an address, and not of an instance.
                        for target in targets.iter_mut().filter(|target: &&mut Target| target.zone.is_none()) {
                            target.zone = instances.get_or_init(|| self.instances()).await.get(&target.id).cloned();
                        }
                        let stuck_for = stuck_for(&stuck_since, &name, targets::stuck(&targets, min));
                        all += targets.len();
                        links.push((name.clone(), targets::healthy(&targets, &zones, min, stuck_for)));
                        let group = many.then_some(name);
                        self.record(case, Look::Healthy { group, targets, zones: zones.clone(), min, stuck_ms: in_ms(stuck_for) });
                    }
                    Ok(poll(case, targets::worst(links))?.map(|n| (n, all)))
                },
            )
            .await?;
        Ok(Done::unchanged((), format!("{n} of {} healthy", text::count(all, "target"))))
    }

    async fn dns(&self, case: Case, hostname: &str) -> Result<Done<()>> {
        let (case, http, pace) = (&case, &self.ctx.shared.http, &Pace::growing());
        let addresses = self
            .wait(
                5,
                case,
                || pace.sleep(),
                || async move {
                    Ok(match http.resolve(hostname).await {
                        Ok(addresses) => Poll::Ready(addresses),
                        Err(error) => Poll::NotYet(error.to_string()),
                    })
                },
            )
            .await?;
        let note = if addresses.len() == 1 { "1 address".to_owned() } else { format!("{} addresses", addresses.len()) };
        Ok(Done::unchanged((), note))
    }

    /// Records a look whose verdict differs from the one before.
    fn record(&self, case: &Case, look: Look) {
        let verdict = look.judge();
        let mut told = lock(&self.told);
        if told.insert((look.name(), look.part().map(str::to_owned)), verdict.clone()).as_ref() == Some(&verdict) {
            return;
        }
        let mut data = serde_json::to_value(&look).unwrap_or_default();
        if let Some(map) = data.as_object_mut() {
            map.insert("verdict".to_owned(), serde_json::to_value(&verdict).unwrap_or_default());
        }
        case.observed("link", &data);
    }

    /// The Ingress as it is now, with its class and events.
    async fn seen(&self) -> Result<Seen> {
        let Ingress { name, namespace, .. } = &self.params;
        let Some(object) = self.cluster.get::<IngressObject>(namespace, name).await? else {
            let fault = Fault::new(Code::IngressMissing, format!("there is no Ingress {name} in {namespace}"));
            return Err(fault.next("run the releases stage first: `meshstep releases`").next("correct `ingress.name` and `ingress.namespace`"));
        };
        let mut seen = Seen::of(&serde_json::to_value(&object).unwrap_or_default());
        if let Some(class) = &seen.class {
            let found = self.cluster.get::<IngressClass>("", class).await.ok().flatten();
            seen.class_controller = found.and_then(|c| c.spec?.controller);
        }
        let all = self.cluster.list::<CoreEvent>(namespace, "").await?;
        seen.events = events(&all, "Ingress", |n| n == name, version(&object.metadata));
        Ok(seen)
    }

    /// The controller's Deployment, by the label that its charts and manifests give it.
    async fn controller(&self) -> Controller {
        let found = match self.cluster.list::<Deployment>("", "app.kubernetes.io/name=aws-load-balancer-controller").await {
            Ok(found) => found,
            Err(fault) => return Controller::Unseen(fault.message),
        };
        let read = |d: Deployment| {
            let name = format!("{}/{}", d.metadata.namespace.unwrap_or_default(), d.metadata.name.unwrap_or_default());
            let ready = d.status.and_then(|status| status.ready_replicas).unwrap_or(0);
            Controller::Found { name, ready, wanted: d.spec.replicas.unwrap_or(1) }
        };
        let most = |c: &Controller| if let Controller::Found { ready, wanted, .. } = c { (*ready, *wanted) } else { (0, 0) };
        found.into_iter().map(read).max_by_key(most).unwrap_or(Controller::Missing)
    }

    /// The nodes' zones by instance; empty where nodes may not be read.
    async fn instances(&self) -> BTreeMap<String, String> {
        let nodes = self.cluster.list::<Node>("", "").await.unwrap_or_default();
        let zone = |node: &Node| {
            let zone = node.metadata.labels.as_ref().and_then(|labels| labels.get("topology.kubernetes.io/zone"));
            targets::instance(node.spec.as_ref()?.provider_id.as_deref()?, zone.map(String::as_str))
        };
        nodes.iter().filter_map(zone).collect()
    }

    /// Those of the namespace, and the events of ours.
    async fn bindings(&self, stacks: &[String]) -> Result<(Vec<Binding>, Vec<Event>)> {
        let namespace = &self.params.namespace;
        let mut objects = self.cluster.list_objects("elbv2.k8s.aws/v1beta1", "TargetGroupBinding", namespace, "").await?;
        if objects.is_empty() {
            // EKS Auto Mode has a kind of its own.
            objects = self.cluster.list_objects("eks.amazonaws.com/v1", "TargetGroupBinding", namespace, "").await?;
        }
        let bindings: Vec<Binding> = objects.iter().map(|o| Binding::of(&serde_json::to_value(o).unwrap_or_default())).collect();
        let ours: Vec<&str> = bindings.iter().filter(|b| b.is_ours(&self.params.service, stacks)).map(|b| b.name.as_str()).collect();
        let all = self.cluster.list::<CoreEvent>(namespace, "").await?;
        Ok((bindings.clone(), events(&all, "TargetGroupBinding", |n| ours.contains(&n), None)))
    }
}

/// AWS. With a plain kubeconfig context it is asked only if the environment knows a Region.
pub(super) async fn account(shared: &Shared) -> Result<Account> {
    let plain = matches!(shared.pipeline.cluster, ClusterOfFile::Context(_));
    let known = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().any(|name| shared.settings.get(name).is_some_and(|v| !v.is_empty()));
    if plain && !known {
        return Ok(Account::Unknown("AWS is not asked: the file names a kubeconfig context, and no Region is set".to_owned()));
    }
    match shared.aws().await {
        Ok(aws) => Ok(Account::Known(aws)),
        Err(fault) if plain => Ok(Account::Unknown(format!("AWS is not asked: {fault}"))),
        Err(fault) => Err(fault),
    }
}

/// The listeners to ask: as the Ingress and AWS tell, else the usual ones.
async fn listeners(named: &[Listener], account: &Account, balancer: Option<&LoadBalancer>) -> Vec<Listener> {
    let there = match (account, balancer) {
        (Account::Known(aws), Some(balancer)) => aws.listeners(&balancer.arn).await.map(|all| verify::in_aws(&all)).unwrap_or_default(),
        _ => Vec::new(),
    };
    listeners::or_usual(listeners::to_ask(named, &there))
}

fn target(t: crate::clients::aws::Target) -> Target {
    let some = |text: String| (!text.is_empty()).then_some(text);
    Target { id: t.id, port: t.port, zone: some(t.zone), state: t.state, reason: some(t.reason), description: some(t.description) }
}

/// For how long a target group has been stuck.
fn stuck_for(since: &Mutex<BTreeMap<String, Instant>>, group: &str, is_stuck: bool) -> Duration {
    let mut since = lock(since);
    if !is_stuck {
        since.remove(group);
        return Duration::ZERO;
    }
    whole_ms(*since.entry(group.to_owned()).or_insert_with(Instant::now))
}

/// What AWS answered; a call that failed for a passing reason is looked at again, a throttled one later and later.
pub(super) fn asked<T>(result: Result<T>, pace: &Pace) -> Result<std::result::Result<T, String>> {
    match result {
        Ok(value) => {
            pace.throttled(false);
            Ok(Ok(value))
        }
        Err(fault) if matches!(fault.code, Code::AwsFailed | Code::AwsUnreachable) => {
            pace.throttled(["fewer calls", "Throttl", "Rate exceeded", "RequestLimitExceeded"].iter().any(|word| fault.message.contains(word)));
            Ok(Err(fault.message))
        }
        Err(fault) => Err(fault),
    }
}

/// What a judge says, as the wait wants it; warnings go to the case.
fn poll<T>(case: &Case, link: Link<T>) -> Result<Poll<T>> {
    match link {
        Link::Holds(value, warnings) => {
            warnings.into_iter().for_each(|w| case.warn(w));
            Ok(Poll::Ready(value))
        }
        Link::NotYet(reason) => Ok(Poll::NotYet(reason)),
        Link::Broken(fault) => Err(*fault),
    }
}

async fn either((a, b): (&Nudge, &Nudge)) {
    let (a, b) = (std::pin::pin!(a.next()), std::pin::pin!(b.next()));
    match select(a, b).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}

/// The pauses between looks: each twice as long as the one before, up to 10 s and a little more; after a throttled call up to a minute.
pub(super) struct Pace {
    first: Duration,
    looks: AtomicU32,
    throttled: AtomicU32,
}

impl Pace {
    fn from(first: Duration) -> Self {
        Self { first, looks: AtomicU32::default(), throttled: AtomicU32::default() }
    }

    /// 1, 2, 4, 8 s, then every 10 s.
    fn growing() -> Self {
        Self::from(Duration::from_secs(1))
    }

    /// Every 10 s. A simulated AWS, where all goes faster and nothing is counted, gives its own first pause with `MESHSTEP_AWS_PACE`.
    pub(super) fn of_aws(shared: &Shared) -> Self {
        Self::from(shared.settings.get("MESHSTEP_AWS_PACE").and_then(Seconds::parse).map_or(AWS_FASTEST, |first| first.0))
    }

    fn throttled(&self, is: bool) {
        let times = if is { self.throttled.load(Relaxed) + 1 } else { 0 };
        self.throttled.store(times, Relaxed);
    }

    pub(super) fn sleep(&self) -> tokio::time::Sleep {
        tokio::time::sleep(self.pause(retry::jitter()))
    }

    fn pause(&self, random: f64) -> Duration {
        let full = match self.throttled.load(Relaxed) {
            0 => (self.first * (1 << self.looks.fetch_add(1, Relaxed).min(4))).min(AWS_FASTEST),
            n => (AWS_FASTEST * (1 << n.min(3))).min(AWS_SLOWEST),
        };
        full.mul_f64(1.0 + 0.1 * random)
    }
}

/// How long ago, in whole milliseconds, as it is recorded.
fn whole_ms(start: Instant) -> Duration {
    Duration::from_millis(in_ms(start.elapsed()))
}

fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The resource version, of which the later write has the greater one.
fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok())
}

/// The newest events about objects of one kind, in the order in which they were written: their times are whole seconds. `changed`: the version
/// of the object itself.
fn events(all: &[CoreEvent], kind: &str, name: impl Fn(&str) -> bool, changed: Option<u64>) -> Vec<Event> {
    let about = |e: &&CoreEvent| e.involved_object.kind.as_deref() == Some(kind) && e.involved_object.name.as_deref().is_some_and(&name);
    let read = |e: &CoreEvent| {
        let value = serde_json::to_value(e).unwrap_or_default();
        let time = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).and_then(|t| t.parse::<Timestamp>().ok());
        let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/firstTimestamp", "/metadata/creationTimestamp"];
        let version = version(&e.metadata);
        let event = Event {
            warning: e.type_.as_deref() == Some("Warning"),
            reason: e.reason.clone().unwrap_or_default(),
            message: e.message.clone().unwrap_or_default(),
            last: times.into_iter().find_map(time),
            before: version.zip(changed).is_some_and(|(written, changed)| written < changed),
        };
        (event, version)
    };
    let mut found: Vec<_> = all.iter().filter(about).map(read).collect();
    found.sort_by_key(|(event, version)| (event.last, *version));
    let older = found.len().saturating_sub(MOST_EVENTS);
    found.into_iter().skip(older).map(|(event, _)| event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_events_of_one_second_the_one_written_later_is_the_newest() {
        let event = |version: &str, reason: &str| {
            let object = serde_json::json!({
                "metadata": {"name": reason, "namespace": "n", "resourceVersion": version}, "reason": reason,
                "involvedObject": {"kind": "Ingress", "name": "gw-ingress"}, "lastTimestamp": "2026-11-23T05:10:00Z",
            });
            serde_json::from_value::<CoreEvent>(object).expect("an event")
        };
        let (refused, reconciled) = (event("9", "FailedBuildModel"), event("12", "SuccessfullyReconciled"));
        for all in [[refused.clone(), reconciled.clone()], [reconciled, refused]] {
            let found = events(&all, "Ingress", |name| name == "gw-ingress", Some(10));
            let newest = crate::domain::ingress::events::newest(&found, None).map(|event| (event.reason.as_str(), event.before));
            assert_eq!(newest, Some(("SuccessfullyReconciled", false)));
            assert!(found[0].before);
        }
    }

    #[test]
    fn aws_is_asked_at_most_every_ten_seconds_and_less_when_it_throttles() {
        let seconds = |pace: &Pace, n: usize| -> Vec<u64> { (0..n).map(|_| pace.pause(0.0).as_secs()).collect() };
        assert_eq!(seconds(&Pace::growing(), 6), [1, 2, 4, 8, 10, 10]);
        let pace = Pace::from(AWS_FASTEST);
        let seconds = |n| seconds(&pace, n);
        assert_eq!(seconds(3), [10, 10, 10]);
        pace.throttled(true);
        assert_eq!(seconds(1), [20]);
        pace.throttled(true);
        pace.throttled(true);
        assert_eq!(seconds(1), [60]);
        let slowest = pace.pause(1.0);
        assert!([2, 4].iter().all(|link| at_most(*link) > slowest) && at_most(0) == RELIST, "no wait is shorter than its pace");
        pace.throttled(false);
        assert_eq!(seconds(1), [10]);
        assert!(pace.pause(1.0) > AWS_FASTEST, "jitter never makes it faster");
    }
}
