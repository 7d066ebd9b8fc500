//! Case `availability HOST`: each public host that a change may touch, and that answered before it, is asked once a second meanwhile.
//!
//! It never holds the change up and never fails it by itself: without a load balancer to ask there is nothing to tell.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::networking::v1::Ingress as IngressObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::text;
use crate::clients::http::{Http, Request};
use crate::domain::ingress::accepted::Seen;
use crate::domain::ingress::listeners::Listener;
use crate::domain::routes::PublicHost;
use crate::domain::verify::availability::{Limit, Probe, Tally};
use crate::domain::verify::{Expect, Reply, Verdict, judge};
use crate::engine::Ctx;
use crate::engine::record::Done;
use crate::stages::verify::public_hosts;
use crate::stages::{Seconds, Shared};

const EVERY: Duration = Duration::from_secs(1);
/// A probe that takes longer has failed.
const PROBE: Duration = Duration::from_secs(5);
/// What finding the load balancer and the first probes may hold the change up.
const FIRST: Duration = Duration::from_secs(6);
/// More hosts than this say nothing more, and would be a load of their own.
const MOST_HOSTS: usize = 50;

/// `verify.availability`: what is allowed while something is changed. Without it the numbers are only told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Availability {
    /// Of a hundred probes so many must be answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub percent: Option<f64>,
    /// How long a host may be without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_gap: Option<Seconds>,
}

impl Eq for Availability {}

/// The probes under way; dropping it ends them.
pub(super) struct Watch {
    acted: AtomicBool,
    probes: Option<Probes>,
}

struct Probes {
    began: Instant,
    hosts: Vec<Host>,
    /// Hosts that are one too many.
    left_out: usize,
    enough: CancellationToken,
    task: AbortOnDropHandle<()>,
}

#[derive(Clone)]
struct Host {
    public: PublicHost,
    listener: Listener,
    probes: Arc<Mutex<Vec<Probe>>>,
}

impl Watch {
    /// Begins to ask the hosts that `touched` chooses and that answer now.
    pub(super) async fn start(ctx: &Ctx<Shared>, touched: impl Fn(&PublicHost) -> bool) -> Self {
        Self { acted: AtomicBool::new(false), probes: Probes::start(ctx, touched).await }
    }

    /// Something was changed: only then there is something to tell.
    pub(super) fn acted(&self) {
        self.acted.store(true, Relaxed);
    }

    /// Ends the probes, and tells of each host as a case.
    pub(super) async fn end(self, ctx: &Ctx<Shared>) {
        if let Some(probes) = self.probes.filter(|_| self.acted.load(Relaxed)) {
            probes.end(ctx).await;
        }
    }
}

impl Probes {
    /// `None`: no host answers, or there is no way to ask.
    async fn start(ctx: &Ctx<Shared>, touched: impl Fn(&PublicHost) -> bool) -> Option<Self> {
        let shared = &ctx.shared;
        if ctx.dry_run || shared.pipeline.verify.is_none() {
            return None;
        }
        let passes = |h: &&PublicHost| !h.is_wildcard() && touched(h) && shared.filters.host(&h.host);
        let mut public: Vec<PublicHost> = public_hosts(shared).ok()?.iter().filter(passes).cloned().collect();
        if public.is_empty() {
            return None;
        }
        let left_out = public.split_off(public.len().min(MOST_HOSTS)).len();
        let cacert = shared.options.cacert.clone();
        let (http, balancer, hosts) = timeout(FIRST, async {
            let (balancer, listeners) = balancer(shared).await?;
            let answering = public.into_iter().map(|public| {
                let (http, balancer, listeners, cacert) = (shared.http.clone(), &balancer, &listeners, &cacert);
                async move {
                    // As the load balancer listens: what answers rightly now is what must go on answering.
                    for listener in listeners.iter().rev().copied() {
                        let request = request(&public, listener, balancer, cacert.as_deref());
                        if probe(&http, &request).await.is_ok() {
                            return Some(Host { public, listener, probes: Arc::default() });
                        }
                    }
                    None
                }
            });
            let hosts: Vec<Host> = join_all(answering).await.into_iter().flatten().collect();
            Some((shared.http.clone(), balancer, hosts))
        })
        .await
        .ok()??;
        if hosts.is_empty() {
            return None;
        }
        let (began, probed, enough) = (Instant::now(), hosts.clone(), CancellationToken::new());
        let ended = enough.clone();
        let probing = tokio::spawn(async move {
            let mut under_way = JoinSet::new();
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            while ended.run_until_cancelled(ticks.tick()).await.is_some() {
                let at = began.elapsed();
                for host in &probed {
                    let (http, host, request) = (http.clone(), host.clone(), request(&host.public, host.listener, &balancer, cacert.as_deref()));
                    // A slow answer must not hold the next second's probe up.
                    under_way.spawn(async move {
                        let failure = probe(&http, &request).await.err();
                        host.probes().push((at, failure));
                    });
                }
                while under_way.try_join_next().is_some() {}
            }
            // What hangs now counts too; its own deadline ends it.
            while under_way.join_next().await.is_some() {}
        });
        Some(Self { began, hosts, left_out, enough, task: AbortOnDropHandle::new(probing) })
    }

    async fn end(self, ctx: &Ctx<Shared>) {
        let Self { began, hosts, left_out, enough, task } = self;
        let over = began.elapsed();
        enough.cancel();
        // It has nothing to say.
        let _joined = task.await;
        let limit = ctx.shared.pipeline.verify.as_ref().and_then(|v| v.availability).unwrap_or_default();
        let limit = Limit { percent: limit.percent, longest_gap: limit.longest_gap.map(|gap| gap.0) };
        for host in hosts {
            let tally = Tally::of(std::mem::take(&mut *host.probes()), over);
            let case = ctx.record.case(format!("availability {}", host.public.host)).service(&host.public.service).place(Some(&host.public.place));
            case.run(|case| async move { told(&case, &tally, limit) }).await;
        }
        if left_out > 0 {
            ctx.record.case("availability of more hosts").skip(format!("{} not asked: {MOST_HOSTS} tell enough", text::count(left_out, "host")));
        }
    }
}

impl Host {
    fn probes(&self) -> MutexGuard<'_, Vec<Probe>> {
        lock(&self.probes)
    }
}

fn told(case: &crate::engine::record::Case, tally: &Tally, limit: Limit) -> Result<Done> {
    case.property("availability.total", tally.total);
    case.property("availability.failed", tally.failed);
    case.property("availability.longest_gap_ms", tally.longest_gap_ms);
    if let Some(failure) = &tally.first_failure {
        case.output(&format!("the first failure: {failure}"));
    }
    let over = tally.over(limit);
    case.observed("availability", &json!({"tally": tally, "limit": limit, "verdict": {"over": over}}));
    match over {
        Some(over) => Err(Fault::new(Code::Unavailable, format!("while it was changed {}: {over}", tally.words()))
            .evidence("the first failure", tally.first_failure.clone().unwrap_or_default())),
        None => Ok(Done::unchanged((), tally.words())),
    }
}

/// Its name and its listeners.
async fn balancer(shared: &Shared) -> Option<(String, Vec<Listener>)> {
    let params = shared.pipeline.ingress.as_ref()?;
    let cluster = shared.cluster().await.ok()?;
    let object = cluster.get::<IngressObject>(&params.namespace, &params.name).await.ok()??;
    let seen = Seen::of(&serde_json::to_value(&object).ok()?);
    Some((seen.hostname()?.to_owned(), seen.listeners_to_ask()))
}

fn request(host: &PublicHost, listener: Listener, balancer: &str, cacert: Option<&std::path::Path>) -> Request {
    let mut request = Request::get(listener.scheme, &host.host, host.prefixes.first().map_or("/", String::as_str));
    request.port = listener.port;
    request.via = Some(balancer.to_owned());
    request.timeout = PROBE;
    request.cacert = cacert.map(std::path::Path::to_path_buf);
    request
}

/// `Err`: why it counts as no answer. A redirect is one: where it leads is asked under its own name.
async fn probe(http: &Http, request: &Request) -> std::result::Result<(), String> {
    let reply = Reply::from(http.send(request).await.map_err(|error| error.to_string())?);
    match judge(&Expect::default(), &reply) {
        Verdict::Right { .. } | Verdict::Follow { .. } => Ok(()),
        Verdict::Wrong { fault, .. } => Err(fault.message),
    }
}
