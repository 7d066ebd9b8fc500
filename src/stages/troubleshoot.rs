//! Stage `troubleshoot`: the runbook's probes, as short-lived pods, and one conclusion for each host. Beside those pods it only reads.

mod gather;

use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use futures::StreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::gather::Around;
use crate::base::fault::{Fault, Result};
use crate::base::text;
use crate::domain::routes::PublicHost;
use crate::domain::troubleshoot::{Conclusion, Facts, Place, Said, conclude};
use crate::engine::record::{Case, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::{Seconds, Shared, probe, verify};

/// Probe pods at once.
const AT_ONCE: usize = 4;

/// `troubleshoot:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Troubleshoot {
    /// An image with curl 7.84 or newer, that the nodes can pull. Pin it by tag or digest.
    #[serde(default = "default_image")]
    pub image: String,
    /// How long a probe pod may take from its creation to its end.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: Seconds,
}

fn default_image() -> String {
    "docker.io/curlimages/curl:8.11.1".to_owned()
}

fn default_timeout() -> Seconds {
    Seconds::from_secs(60)
}

impl Default for Troubleshoot {
    fn default() -> Self {
        Self { image: default_image(), timeout: default_timeout() }
    }
}

/// The stage. It takes no lock: it changes nothing that others use.
pub struct TroubleshootStage;

#[async_trait]
impl Stage<Shared> for TroubleshootStage {
    fn id(&self) -> &'static str {
        "troubleshoot"
    }

    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        Ok(match &ctx.shared.pipeline.routes {
            None => Readiness::Skip("no routes: section in the file".to_owned()),
            Some(_) if ctx.dry_run => Readiness::Skip("dry run: a probe needs a pod".to_owned()),
            Some(_) => Readiness::Ready,
        })
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let shared = &ctx.shared;
        let hosts = hosts(shared)?;
        if hosts.is_empty() {
            ctx.record.case("hosts").skip("no host to look into (filtered, or none is public)");
            return Ok(());
        }
        let params = shared.pipeline.troubleshoot.clone().unwrap_or_default();
        let cluster = shared.cluster().await?;
        let around = Around::look(shared, &cluster).await?;
        let young = Mutex::new(Vec::new());
        probe::sweep(ctx, &cluster, &namespaces(&hosts), &young).await;
        futures::stream::iter(&hosts)
            .for_each_concurrent(AT_ONCE, |host| {
                let (around, params, cluster) = (&around, &params, &cluster);
                async move {
                    let case = ctx.record.case(format!("GET {}{}", host.host, path(host))).service(&host.service).place(Some(&host.place));
                    case.run(|case| async move { told(around.facts(ctx, cluster, params, host, &case).await?, &case) }).await;
                }
            })
            .await;
        probe::wait_for(ctx, &cluster, young.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())).await;
        Ok(())
    }
}

/// The public hosts that the filters leave; a wildcard is no name to ask for.
fn hosts(shared: &Shared) -> Result<Vec<PublicHost>> {
    let filters = &shared.filters;
    let wanted = |h: &PublicHost| !h.is_wildcard() && filters.service(&h.service) && filters.namespace(&h.namespace) && filters.host(&h.host);
    Ok(verify::public_hosts(shared)?.into_iter().filter(wanted).collect())
}

fn namespaces(hosts: &[PublicHost]) -> BTreeSet<String> {
    hosts.iter().map(|host| host.namespace.clone()).collect()
}

fn path(host: &PublicHost) -> &str {
    host.prefixes.first().map_or("/", String::as_str)
}

/// All answers for a person, and the one conclusion as the case's end.
fn told(facts: Facts, case: &Case) -> Result<Done> {
    let conclusion = conclude(&facts);
    case.observed("troubleshoot", &json!({"facts": facts, "verdict": conclusion}));
    let answers = answers(&facts);
    case.output(&answers);
    let Conclusion { place, words, next } = conclusion;
    case.property("fault.place", serde_json::to_value(place).ok().and_then(|p| p.as_str().map(str::to_owned)).unwrap_or_default());
    if place == Place::Nowhere {
        return Ok(Done::unchanged((), words));
    }
    let fault = Fault::new(place.code(), format!("the fault lies {place}: {words}")).evidence("answers", answers);
    Err(next.into_iter().fold(fault, Fault::next))
}

/// Who answered is plain here: only the status counts.
fn plainly(said: &Said) -> String {
    match said {
        Said::Answer(reply) => reply.status.to_string(),
        _ => said.words(),
    }
}

fn answers(facts: &Facts) -> String {
    let strict = facts.strict.as_ref().map(|policy| format!(" ({policy} is STRICT, so this proves nothing)")).unwrap_or_default();
    let behind = &facts.behind;
    let lines = [
        format!("through the load balancer: {}", facts.balancer.words()),
        format!("the gateway's node port, inside: {}", facts.node.words()),
        format!("the gateway's status port, inside: {}", plainly(&facts.status)),
        format!("the Service, from a pod without a sidecar: {}{strict}", plainly(&facts.plain)),
        match (behind.service_exists, behind.port_exists) {
            (false, _) => format!("Service {} in {}: not there", facts.service, facts.namespace),
            (true, false) => format!("Service {} in {}: no port {}", facts.service, facts.namespace, facts.port),
            (true, true) => format!("Service {}: {} of {} pods ready behind port {}", facts.service, behind.ready, behind.selected, facts.port),
        },
        match facts.connections {
            Some(c) => format!("the gateway's Envoy to the pods: {} connections, {} failed", c.made, c.failed),
            None => format!("the gateway: {} ready", text::count(facts.gateways_ready, "pod")),
        },
    ];
    lines.join("\n")
}
