//! Stage `verify`: every host through the load balancer, with the right Host and SNI.

pub mod ask;
pub mod check;
pub mod direct;
mod hop;
pub mod inside;
mod items;
mod strict;
pub mod vantage;
mod way;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::ask::{Asker, Heard, Talk};
pub use self::check::{Check, Scheme};
pub(super) use self::items::listed;
pub use self::items::{Item, public_hosts};
use self::way::Way;
pub(super) use self::way::{in_aws, once};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::domain::certificates::{Cause, Judgement};
use crate::engine::record::{Case, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::availability::Availability;
use crate::stages::redeploy::{Cure, Cured, Suspect, Ticket};
use crate::stages::{Seconds, Shared, probe};

/// The evidence of a fault that is not proven to be one of certificates is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// `verify:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Verify {
    /// Check every public host of the values file with its prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostSource>,
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Where the questions are asked from: this agent; or a short-lived pod inside the cluster, for internal load balancers and for names
    /// that only the cluster knows.
    #[serde(default, skip_serializing_if = "AskedFrom::is_default")]
    pub from: AskedFrom,
    /// How long a host may take to answer rightly.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: Seconds,
    /// What is allowed while `deploy`, `releases` or `redeploy` change something; without it the numbers are only told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostSource {
    FromRoutes,
}

/// Where questions are asked from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AskedFrom {
    #[default]
    Agent,
    Cluster,
}

impl AskedFrom {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn default_timeout() -> Seconds {
    Seconds::from_secs(60)
}

/// Asks every public host through the load balancer; a proven stale certificate is cured on the way.
pub struct VerifyStage;

#[async_trait]
impl Stage<Shared> for VerifyStage {
    fn id(&self) -> &'static str {
        "verify"
    }

    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        Ok(match &ctx.shared.pipeline.verify {
            None => Readiness::Skip("no verify: section in the file".to_owned()),
            Some(_) if ctx.dry_run => Readiness::Skip("dry run".to_owned()),
            Some(_) => Readiness::Ready,
        })
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let Some(params) = &ctx.shared.pipeline.verify else { return Ok(()) };
        ask_all(ctx, params).await
    }
}

/// Asks everything at once; those that a stale certificate breaks wait for one another before anything is restarted.
pub(super) async fn ask_all(ctx: &Ctx<Shared>, params: &Verify) -> Result<()> {
    let shared = &ctx.shared;
    let way = way::find(shared).await?;
    if let Some(why) = &way.untold {
        let case = ctx.record.case("load balancer in AWS");
        case.run(|case| async move {
            case.warn(format!("AWS does not tell its listeners and its scheme, so they are found by asking: {why}"));
            Ok(Done::unchanged((), "not known"))
        })
        .await;
    }
    match params.from {
        AskedFrom::Agent => {
            let asker = Asker::agent(shared.http.clone(), way.through.clone(), shared.options.cacert.clone());
            ask_with(ctx, params, asker, way).await
        }
        AskedFrom::Cluster => from_cluster(ctx, params, way).await,
    }
}

/// The pods work as long as somebody asks; before and after them those of killed runs are removed.
async fn from_cluster(ctx: &Ctx<Shared>, params: &Verify, way: Way) -> Result<()> {
    let shared = &ctx.shared;
    let cluster = shared.cluster().await?;
    let cacert = shared.options.cacert.as_ref().map(|path| {
        let read = std::fs::read_to_string(path);
        read.map_err(|error| Fault::new(Code::FileUnreadable, format!("cannot read {}: {error}", path.display())))
    });
    let (cacert, young) = (cacert.transpose()?, Mutex::default());
    let home = BTreeSet::from([inside::home(&shared.pipeline).to_owned()]);
    let swept = probe::sweep(ctx, &cluster, &home, &young).await;
    let (inside, pods) = inside::open(cacert, if swept { inside::PODS } else { probe::FORMER });
    let asker = Asker::inside(inside, way.through.clone());
    if !swept {
        drop(pods);
        return ask_with(ctx, params, asker, way).await;
    }
    let working = ctx.record.case(inside::PODS).run(|case| {
        let cluster = &cluster;
        async move { pods.work(ctx, cluster, &case).await }
    });
    let (asked, _) = tokio::join!(ask_with(ctx, params, asker, way), working);
    probe::wait_for(ctx, &cluster, young.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())).await;
    asked
}

async fn ask_with(ctx: &Ctx<Shared>, params: &Verify, asker: Asker, way: Way) -> Result<()> {
    let asker = asker.with_hosts(items::hosts(&ctx.shared, params)?);
    let listeners = way.listeners(&asker).await;
    let items = ctx.shared.options.shard.unwrap_or_default().of(items::all(ctx, params, &listeners).await?);
    if items.is_empty() {
        ctx.record.case("hosts").skip("no host to check (filtered, or none is public)");
        return Ok(());
    }
    let cure = Cure::new(ctx, items.len());
    ask_each(ctx, &asker, &cure, &items, params, "").await;
    if cure.has_restarted_gateway().await {
        // With its new root the gateway may refuse what it accepted before: workloads that nobody has looked at yet.
        ask_each(ctx, &asker, &Cure::new(ctx, items.len()), &items, params, " again").await;
    }
    Ok(())
}

async fn ask_each(ctx: &Ctx<Shared>, asker: &Asker, cure: &Cure<'_>, items: &[Item], params: &Verify, again: &str) {
    join_all(items.iter().map(|item| async {
        let mut case = ctx.record.case(format!("{}{again}", item.question.title())).place(item.place.as_ref());
        if let Some((service, _)) = &item.service {
            case = case.service(service);
        }
        case.run(|case| one(asker, cure, item, params, case)).await;
    }))
    .await;
}

async fn one(asker: &Asker, cure: &Cure<'_>, item: &Item, params: &Verify, case: Case) -> Result<Done> {
    let ticket = cure.ticket();
    let talk = Talk::new(asker, &item.question, &case);
    let result = judged(&talk, cure, ticket, item, params, &case).await;
    match talk.end(result)? {
        Done::Passed { note, .. } if !item.unseen.is_empty() => Ok(Done::Skipped(format!(
            "{note}, but a pod's curl does not show what {} would judge: ask from the agent, too",
            item.unseen.join(" and ")
        ))),
        done => Ok(done),
    }
}

/// Listens; where a stale certificate may be behind the answer, has it looked into until it is proven or the time is up.
async fn judged(talk: &Talk<'_>, cure: &Cure<'_>, ticket: Ticket, item: &Item, params: &Verify, case: &Case) -> Result<Done> {
    let (mut start, limit) = (talk.asked_for(), params.timeout.0);
    let left_from = |start: Duration| limit.saturating_sub(talk.asked_for().saturating_sub(start));
    let mut ticket = Some(ticket);
    let mut explained = None;
    // What was done to the gateway before the workload's turn.
    let mut so_far = String::new();
    loop {
        let left = left_from(start);
        let heard = talk.listen(left, item.service.is_some() && !left.is_zero()).await;
        let (reply, fault) = match heard {
            Ok(Heard::Right { note }) if so_far.is_empty() => return Ok(Done::unchanged((), note)),
            Ok(Heard::Right { note }) => return Ok(cured(&so_far, &item.question.title(), &note)),
            Ok(Heard::Candidate { reply, fault }) => (reply, fault),
            Ok(Heard::Unasked { reason }) => return Ok(Done::Skipped(reason)),
            Err(fault) => return Err(explain(fault, explained)),
        };
        let Some((service, namespace)) = item.service.clone() else { return Err(fault) };
        let suspect = Suspect { service, namespace, title: item.question.title(), reply, fault: fault.clone() };
        match cure.treat(&suspect, ticket.take(), case).await? {
            // A log line may come later, so the evidence is looked at again while there is time.
            Cured::NotProven(judgement) => {
                let again = explained.as_ref().is_some_and(|before: &Judgement| before.cause == judgement.cause && before.cause != Cause::Unknown);
                explained = Some(judgement);
                // Seen twice, ten seconds apart: it does not settle by itself.
                if again {
                    return Err(explain(fault, explained));
                }
                if left_from(start) < LOOK_AGAIN {
                    let last = talk.listen(left_from(start), false).await;
                    return match last {
                        Ok(Heard::Right { note }) => Ok(Done::unchanged((), note)),
                        Ok(Heard::Unasked { reason }) => Ok(Done::Skipped(reason)),
                        Ok(Heard::Candidate { fault, .. }) | Err(fault) => Err(explain(fault, explained)),
                    };
                }
                match talk.listen(LOOK_AGAIN, false).await {
                    Ok(Heard::Right { note }) => return Ok(Done::unchanged((), note)),
                    Ok(Heard::Candidate { .. } | Heard::Unasked { .. }) | Err(_) => {}
                }
            }
            Cured::Would(what) => return Ok(Done::would_change((), what)),
            Cured::InVain(fault) => {
                return match talk.listen(LOOK_AGAIN, false).await {
                    Ok(Heard::Right { note }) => Ok(Done::unchanged((), format!("{note}, after another run's restart"))),
                    Ok(Heard::Candidate { .. } | Heard::Unasked { .. }) | Err(_) => Err(fault),
                };
            }
            Cured::Restarted { story, gateway } => {
                // The same outcome twice is a failure, never a loop.
                let gateway = gateway && so_far.is_empty();
                so_far = if so_far.is_empty() { story } else { format!("{so_far} Then {story}") };
                return match talk.listen(limit, gateway).await {
                    Ok(Heard::Right { note }) => Ok(cured(&so_far, &item.question.title(), &note)),
                    // The gateway has the current root now; a workload that has not is next.
                    Ok(Heard::Candidate { .. }) if gateway => {
                        start = talk.asked_for();
                        continue;
                    }
                    Ok(Heard::Unasked { reason }) => Err(Fault::new(Code::ProbeFailed, format!("restarted, and not asked again: {reason}"))),
                    Ok(Heard::Candidate { fault, .. }) | Err(fault) => {
                        let message = format!("restarted for its certificate, and still {}", fault.message);
                        Err(Fault { evidence: fault.evidence, ..Fault::new(Code::RedeployedInVain, message) })
                    }
                };
            }
        }
    }
}

fn cured(story: &str, title: &str, note: &str) -> Done {
    Done::Repaired { value: (), story: format!("{story} {title} now answers {note}.") }
}

/// A wrong answer, with what the certificates have to say about it.
fn explain(fault: Fault, judgement: Option<Judgement>) -> Fault {
    let Some(judgement) = judgement else { return fault };
    let fault = fault.evidence("certificates", judgement.proof.join("\n"));
    if judgement.cause == Cause::Unknown {
        return fault;
    }
    let (code, message) = (judgement.cause.code(), format!("{}: {}", fault.message, judgement.cause.words()));
    Fault { code, class: code.info().class, message, ..fault }.next(judgement.cause.remedy())
}

/// `HOST:PORT`, `IP:PORT`, `[IPv6]:PORT`.
pub fn address(text: &str) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_string(), address.port()));
    }
    let (host, port) = text.rsplit_once(':')?;
    (!host.is_empty() && !host.contains(':')).then_some(())?;
    Some((host.to_owned(), port.parse().ok().filter(|port| *port > 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!(address("127.0.0.1:8080"), Some(("127.0.0.1".into(), 8080)));
        assert_eq!(address("[::1]:80"), Some(("::1".into(), 80)));
        assert_eq!(address("alb.example:443"), Some(("alb.example".into(), 443)));
        for wrong in ["alb.example", ":80", "a:0", "a:99999", "::1:x"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
