//! Stage `verify`: every host through the load balancer, with the right Host and SNI.

pub mod ask;
pub mod check;
pub mod direct;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::networking::v1::Ingress as IngressObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::ask::{Asker, Heard, Question, Talk, Through};
pub use self::check::{Check, Scheme};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::place::Place;
use crate::clients::aws::Listener;
use crate::clients::http::{NetError, Request};
use crate::domain::certificates::{Cause, Judgement};
use crate::domain::ingress::accepted::Seen;
use crate::domain::routes::{self, PublicHost};
use crate::domain::verify::{Expect, Reply};
use crate::engine::record::{Case, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::availability::Availability;
use crate::stages::redeploy::{Cure, Cured, Suspect, Ticket};
use crate::stages::{Seconds, Shared, ingress};

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

/// One thing to check: a question, and whose it is.
#[derive(Clone, Debug)]
pub struct Item {
    pub question: Question,
    /// Service, namespace; unknown for a check of a host that no route names.
    pub service: Option<(String, String)>,
    pub place: Option<Place>,
}

/// Asks everything at once, 16 requests under way; those that a stale certificate breaks wait for one another before anything is restarted.
pub(super) async fn ask_all(ctx: &Ctx<Shared>, params: &Verify) -> Result<()> {
    let shared = &ctx.shared;
    let (through, schemes) = way(ctx).await?;
    let items = ctx.shared.options.shard.unwrap_or_default().of(items(ctx, params, &schemes)?);
    if items.is_empty() {
        ctx.record.case("hosts").skip("no host to check (filtered, or none is public)");
        return Ok(());
    }
    let asker = Asker::new(shared.http.clone(), through, shared.options.cacert.clone());
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
    talk.end(result)
}

/// Listens; where a stale certificate may be behind the answer, has it looked into until it is proven or the time is up.
async fn judged(talk: &Talk<'_>, cure: &Cure<'_>, ticket: Ticket, item: &Item, params: &Verify, case: &Case) -> Result<Done> {
    let (mut start, limit) = (Instant::now(), params.timeout.0);
    let mut ticket = Some(ticket);
    let mut explained = None;
    // What was done to the gateway before the workload's turn.
    let mut so_far = String::new();
    loop {
        let left = limit.saturating_sub(start.elapsed());
        let heard = talk.listen(left, item.service.is_some() && !left.is_zero()).await;
        let (reply, fault) = match heard {
            Ok(Heard::Right { note }) if so_far.is_empty() => return Ok(Done::unchanged((), note)),
            Ok(Heard::Right { note }) => return Ok(cured(&so_far, &item.question.title(), &note)),
            Ok(Heard::Candidate { reply, fault }) => (reply, fault),
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
                if limit.saturating_sub(start.elapsed()) < LOOK_AGAIN {
                    let last = talk.listen(limit.saturating_sub(start.elapsed()), false).await;
                    return match last {
                        Ok(Heard::Right { note }) => Ok(Done::unchanged((), note)),
                        Ok(Heard::Candidate { fault, .. }) | Err(fault) => Err(explain(fault, explained)),
                    };
                }
                match talk.listen(LOOK_AGAIN, false).await {
                    Ok(Heard::Right { note }) => return Ok(Done::unchanged((), note)),
                    Ok(Heard::Candidate { .. }) | Err(_) => {}
                }
            }
            Cured::Would(what) => return Ok(Done::would_change((), what)),
            Cured::InVain(fault) => {
                return match talk.listen(LOOK_AGAIN, false).await {
                    Ok(Heard::Right { note }) => Ok(Done::unchanged((), format!("{note}, after another run's restart"))),
                    Ok(Heard::Candidate { .. }) | Err(_) => Err(fault),
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
                        start = Instant::now();
                        continue;
                    }
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

/// The way to the hosts, and the schemes that are listened for.
async fn way(ctx: &Ctx<Shared>) -> Result<(Through, Vec<Scheme>)> {
    let shared = &ctx.shared;
    let Some(params) = &shared.pipeline.ingress else { return Ok((Through::Own, vec![Scheme::Http])) };
    let cluster = shared.cluster().await?;
    let found = cluster.get::<IngressObject>(&params.namespace, &params.name).await?;
    let missing = |what: &str| Fault::new(Code::NeedsEarlier, format!("the Ingress {} in {} {what}", params.name, params.namespace));
    let object = found.ok_or_else(|| missing("does not exist").next("run the releases stage first: `meshstep releases`"))?;
    let seen = Seen::of(&serde_json::to_value(&object).unwrap_or_default());
    let hostname = seen.hostname().ok_or_else(|| missing("has no hostname yet").next("wait for it with `meshstep ingress`"))?.to_owned();
    let mut schemes = Vec::new();
    if let ingress::Account::Known(aws) = ingress::account(shared).await?
        && let Some(balancer) = aws.load_balancer(&hostname).await?
    {
        schemes = schemes_of(&aws.listeners(&balancer.arn).await?);
    }
    if schemes.is_empty() {
        schemes = listening(shared, &hostname).await;
    }
    Ok((Through::Balancer(hostname), schemes))
}

/// HTTP and HTTPS as the listeners on their usual ports are.
pub(super) fn schemes_of(listeners: &[Listener]) -> Vec<Scheme> {
    let on = |protocol: &str, port: i32| listeners.iter().any(|l| l.protocol.eq_ignore_ascii_case(protocol) && l.port == port);
    [(Scheme::Http, on("HTTP", 80)), (Scheme::Https, on("HTTPS", 443))].into_iter().filter(|(_, on)| *on).map(|(scheme, _)| scheme).collect()
}

/// The schemes whose port takes a connection; HTTP if none does, so that the checks say what happens.
async fn listening(shared: &Shared, hostname: &str) -> Vec<Scheme> {
    let probes = [Scheme::Http, Scheme::Https].map(|scheme| async move {
        let answer = once(shared, scheme, hostname, "/", hostname).await;
        (!matches!(answer, Err(NetError::Refused { .. } | NetError::Timeout { .. } | NetError::Unreachable { .. } | NetError::Dns(_))))
            .then_some(scheme)
    });
    let found: Vec<Scheme> = join_all(probes).await.into_iter().flatten().collect();
    if found.is_empty() { vec![Scheme::Http] } else { found }
}

/// One plain request through the load balancer.
pub(super) async fn once(shared: &Shared, scheme: Scheme, host: &str, path: &str, balancer: &str) -> Result<Reply, NetError> {
    let mut request = Request::get(scheme.into(), host, path);
    request.via = Some(balancer.to_owned());
    request.cacert.clone_from(&shared.options.cacert);
    let answer = shared.http.send(&request).await?;
    let took_ms = u64::try_from(answer.timings.total.as_millis()).unwrap_or(u64::MAX);
    Ok(Reply { status: answer.status, body: answer.text(), headers: answer.headers, took_ms })
}

/// The public hosts of the values file; none when the file has no `routes:`.
///
/// # Errors
/// When the values file cannot be read or is not what it must be.
pub fn public_hosts(shared: &Shared) -> Result<Vec<PublicHost>> {
    let Some(params) = &shared.pipeline.routes else { return Ok(Vec::new()) };
    let path = shared.path(&params.values);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Fault::new(Code::FileUnreadable, format!("cannot read the values file `{}`: {error}", params.values)).at(shared.place("/routes/values"))
    })?;
    Ok(routes::public_hosts(&routes::list(&text, &path.display().to_string(), params.list_key.as_deref())?))
}

/// What is to be asked: each public host with each prefix, as each scheme is listened for, and the checks in place of those they name.
fn items(ctx: &Ctx<Shared>, params: &Verify, schemes: &[Scheme]) -> Result<Vec<Item>> {
    let (shared, filters) = (&ctx.shared, &ctx.shared.filters);
    let public = public_hosts(shared)?;
    if params.hosts.is_some() && shared.pipeline.routes.is_none() {
        let fault = Fault::new(Code::FileInvalid, "`verify.hosts: from-routes` needs a `routes:` section that names the values file");
        return Err(fault.at(shared.place("/verify/hosts")));
    }
    let mut items: Vec<Item> = Vec::new();
    for (index, check) in params.checks.iter().enumerate() {
        let owner = public.iter().find(|h| covers(&h.host, &check.host));
        let passes = |h: &PublicHost| filters.service(&h.service) && filters.namespace(&h.namespace);
        if !filters.host(&check.host) || !owner.map_or(filters.services.is_empty() && filters.namespaces.is_empty(), passes) {
            continue;
        }
        let expect = check.expect();
        let place = shared.place(&format!("/verify/checks/{index}")).cloned();
        for &scheme in check.scheme.as_ref().map_or(schemes, std::slice::from_ref) {
            let question = Question { scheme: scheme.into(), host: check.host.clone(), path: check.path.clone(), expect: expect.clone() };
            items.push(Item { question, service: owner.map(|h| (h.service.clone(), h.namespace.clone())), place: place.clone() });
        }
    }
    if params.hosts.is_none() {
        return Ok(items);
    }
    for host in public.iter().filter(|h| filters.service(&h.service) && filters.namespace(&h.namespace) && filters.host(&h.host)) {
        if host.is_wildcard() {
            let case = ctx.record.case(format!("GET {}", host.host)).service(&host.service).place(Some(&host.place));
            case.skip("a wildcard is no name to ask for: add a check with a name below it");
            continue;
        }
        for prefix in &host.prefixes {
            for &scheme in schemes {
                let question = Question { scheme: scheme.into(), host: host.host.clone(), path: prefix.clone(), expect: Expect::default() };
                if !items.iter().any(|known| known.question.title() == question.title()) {
                    items.push(Item { question, service: Some((host.service.clone(), host.namespace.clone())), place: Some(host.place.clone()) });
                }
            }
        }
    }
    Ok(items)
}

/// Does a host of the routes, which may be a wildcard, serve this name?
fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(rest) => host.len() > rest.len() && host.to_ascii_lowercase().ends_with(&rest.to_ascii_lowercase()),
        None => pattern.eq_ignore_ascii_case(host),
    }
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

    #[test]
    fn a_wildcard_covers_names_below_it() {
        assert!(covers("*.public.domain", "app1.public.domain") && covers("App1.x", "app1.X"));
        assert!(!covers("*.public.domain", ".public.domain") && !covers("a.b", "c.b"));
    }

    #[test]
    fn schemes_follow_the_listeners() {
        let listener = |protocol: &str, port| Listener { protocol: protocol.into(), port, ..Listener::default() };
        assert_eq!(schemes_of(&[listener("HTTPS", 443), listener("HTTP", 80)]), [Scheme::Http, Scheme::Https]);
        assert_eq!(schemes_of(&[listener("HTTPS", 443)]), [Scheme::Https]);
        assert_eq!(schemes_of(&[listener("HTTP", 8080)]), []);
    }
}
