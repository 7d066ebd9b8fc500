//! Stage `doctor`: are the tools, the cluster and the rights there that the chosen stages need?

mod admission;
mod balancer;
mod surroundings;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::text;
use crate::clients::kube::{Cluster, Right};
use crate::clients::tools::{Call, Tools};
use crate::domain::doctor::Verdict;
use crate::domain::mesh::{look, version};
use crate::domain::prerequisites::{self, TOOLS, Tool, Version};
use crate::engine::record::{Case, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::{Shared, connect, rights};

/// A tool that takes longer to say its version is of no use.
const TELL: Duration = Duration::from_secs(20);

/// What a command that names no stages is asked about: everything that the file can do.
const ALL: [&str; 8] = ["connect", "mesh", "deploy", "routes", "releases", "ingress", "verify", "redeploy"];

/// The stage.
pub struct Doctor;

#[async_trait]
impl Stage<Shared> for Doctor {
    fn id(&self) -> &'static str {
        "doctor"
    }

    async fn check(&self, _ctx: &Ctx<Shared>) -> Result<Readiness> {
        Ok(Readiness::Ready)
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let shared = &ctx.shared;
        let stages = asked_about(shared);
        let told = tools(ctx, &stages).await;
        if stages.iter().all(|stage| *stage == "routes") {
            return Ok(());
        }
        let cluster = reachable(ctx).await;
        surroundings::network(ctx).await;
        surroundings::clock(ctx).await;
        let needed: Vec<(&str, Vec<Right>)> = stages
            .iter()
            .map(|stage| (*stage, rights::needed(stage, &shared.pipeline, &shared.filters)))
            .filter(|(_, rights)| !rights.is_empty())
            .collect();
        let Some((cluster, server)) = cluster else {
            needed.iter().for_each(|(stage, _)| ctx.record.case(rights_case(stage)).skip("needs the cluster"));
            return Ok(());
        };
        let mesh_comes = stages.contains(&"mesh") && shared.pipeline.mesh.is_some();
        // One after the other: each takes a few calls, and a report has its cases in the same order every time.
        surroundings::versions(ctx, &cluster, &server, &told, mesh_comes).await;
        let labels = Box::pin(admission::namespaces(ctx, &cluster, &stages)).await;
        Box::pin(admission::webhooks(ctx, &cluster, &stages, &labels)).await;
        if stages.contains(&"deploy") && !shared.pipeline.services.is_empty() {
            surroundings::node_architectures(ctx, &cluster).await;
        }
        if stages.contains(&"releases") {
            Box::pin(balancer::balancer(ctx, &cluster)).await;
        }
        ask_rights(ctx, &cluster, &needed, stages.contains(&"mesh")).await;
        Ok(())
    }
}

/// A verdict as the case ends with it.
fn told(case: &Case, verdict: Verdict) -> Result<Done> {
    verdict.warnings.iter().for_each(|warning| case.warn(warning));
    match verdict.fault() {
        Some(fault) => Err(fault),
        None => Ok(Done::unchanged((), verdict.note)),
    }
}

/// What the tools said of themselves.
#[derive(Default)]
struct Told {
    versions: BTreeMap<&'static str, Version>,
    /// istioctl's own words, as the mesh stage compares them.
    istioctl: Option<String>,
}

impl Told {
    fn version(&self, tool: &str) -> Option<Version> {
        self.versions.get(tool).copied()
    }
}

/// The stages whose needs are checked: those of the command, or all when `doctor` runs alone. With `verify` comes the cure it may call for.
fn asked_about(shared: &Shared) -> Vec<&'static str> {
    let mut stages: Vec<&'static str> = shared.options.stages.iter().copied().filter(|stage| *stage != "doctor").collect();
    if stages.is_empty() {
        stages = ALL.to_vec();
    }
    if stages.contains(&"verify") && !stages.contains(&"redeploy") {
        stages.push("redeploy");
    }
    stages
}

async fn tools(ctx: &Ctx<Shared>, stages: &[&str]) -> Told {
    let shared = &ctx.shared;
    let needed: BTreeSet<&str> = stages.iter().flat_map(|stage| rights::tools(stage, &shared.pipeline, &shared.filters)).copied().collect();
    let (needed, others): (Vec<&'static Tool>, Vec<&'static Tool>) = TOOLS.iter().partition(|tool| needed.contains(tool.name));
    let checked = needed.into_iter().map(|tool| {
        ctx.record.case(tool.name).run(move |case| async move {
            let (version, said) = ask(&shared.tools, tool).await?;
            case.property("version", version);
            prerequisites::judge(tool, version)?;
            let path = shared.tools.find(tool.name).map(|path| path.display().to_string()).unwrap_or_default();
            Ok(Done::unchanged((tool.name, version, said), format!("{version} at {path}")))
        })
    });
    let of_people = async {
        // Nobody waits for these in a run: some of them take seconds to say their version.
        if shared.options.stages != ["doctor"] {
            return None;
        }
        let case = ctx.record.case("tools that only people need").run(|_| async move {
            let asked = join_all(others.into_iter().map(|tool| words_of(&shared.tools, tool))).await;
            let words: Vec<String> = asked.iter().map(|(words, _)| words.clone()).collect();
            Ok(Done::unchanged(asked, words.join(", ")))
        });
        case.await
    };
    let (checked, of_people) = tokio::join!(join_all(checked), of_people);
    let mut told = Told::default();
    for (name, version, said) in checked.into_iter().flatten() {
        if name == "istioctl" {
            told.istioctl = version::parse(&said).ok().and_then(|versions| versions.client);
        }
        told.versions.insert(name, version);
    }
    told.versions.extend(of_people.into_iter().flatten().filter_map(|(_, found)| found));
    told
}

/// The tool's version, and what it printed.
async fn ask(tools: &Tools, tool: &Tool) -> Result<(Version, String)> {
    let finished = tools.run(Call::new(tool.name).args(tool.args).timeout(TELL)).await.map_err(|fault| match fault.code {
        Code::ToolMissing if fault.next.is_empty() => fault.next(tool.install),
        _ => fault,
    })?;
    match prerequisites::version(tool.name, &finished.stdout, &finished.stderr) {
        Some(version) => Ok((version, finished.stdout)),
        None => Err(prerequisites::unreadable(tool, &finished.shown(10))),
    }
}

/// `kubectl 1.37.1`, `aws 1.46.3 (older than the runbook's 2.7)`, `no eksctl`; and its version.
async fn words_of(tools: &Tools, tool: &'static Tool) -> (String, Option<(&'static str, Version)>) {
    if tools.find(tool.name).is_none() {
        return (format!("no {}", tool.name), None);
    }
    match ask(tools, tool).await {
        Ok((version, _)) if version < tool.minimum => {
            let words = format!("{} {version} (older than the runbook's {}.{})", tool.name, tool.minimum.major, tool.minimum.minor);
            (words, Some((tool.name, version)))
        }
        Ok((version, _)) => (format!("{} {version}", tool.name), Some((tool.name, version))),
        Err(_) => (format!("{} of an unknown version", tool.name), None),
    }
}

/// The cluster and its version.
async fn reachable(ctx: &Ctx<Shared>) -> Option<(Cluster, String)> {
    let (shared, place) = (&ctx.shared, ctx.shared.place("/cluster").cloned());
    let asked = ctx.record.case("cluster").place(place.as_ref()).run(|case| async move {
        let cluster = shared.cluster().await?;
        let version = match cluster.server_version().await {
            Ok(version) => version,
            Err(fault) => return Err(connect::explained(shared, fault).await),
        };
        case.property("server.version", &version);
        let note = format!("{} answers, {version}", rights::cluster_name(&shared.pipeline));
        Ok(Done::unchanged((cluster, version), note))
    });
    asked.await
}

fn rights_case(stage: &str) -> String {
    format!("rights for {stage}")
}

/// Asks once for all stages together; each stage's verdict is a case.
async fn ask_rights(ctx: &Ctx<Shared>, cluster: &Cluster, needed: &[(&str, Vec<Right>)], mesh: bool) {
    let installing = if mesh { rights::installing(&ctx.shared.pipeline) } else { Vec::new() };
    let deploys = needed.iter().any(|(stage, _)| *stage == "deploy") && !ctx.shared.options.no_preflight;
    let foreseeing = if deploys { rights::foreseeing(&ctx.shared.pipeline, &ctx.shared.filters) } else { Vec::new() };
    let all: BTreeSet<Right> = needed.iter().flat_map(|(_, rights)| rights).chain(&installing).chain(&foreseeing).cloned().collect();
    let denied = match denied(cluster, all.into_iter().collect()).await {
        Ok(denied) => denied,
        Err(fault) => return ctx.record.case("rights").fail(fault),
    };
    let missing = |rights: &[Right]| rights.iter().filter(|right| denied.contains(right)).cloned().collect::<Vec<_>>();
    for (stage, rights) in needed {
        let judged = ctx.record.case(rights_case(stage)).run(|_| async {
            let missing = missing(rights);
            if missing.is_empty() { Ok(Done::unchanged((), text::count(rights.len(), "right"))) } else { Err(lacking(stage, &missing)) }
        });
        judged.await;
    }
    if !foreseeing.is_empty() {
        helping(ctx, &foreseeing, missing(&foreseeing)).await;
    }
    if !installing.is_empty() {
        let judged = ctx.record.case("rights to install Istio").run(|_| async {
            let missing = missing(&installing);
            if missing.is_empty() {
                return Ok(Done::unchanged((), text::count(installing.len(), "right")));
            }
            // Who only deploys into a mesh that others keep does not need them.
            if look::found(cluster).await.is_ok_and(|found| !found.planes.is_empty()) {
                return Ok(Done::Skipped("this identity has them not, and Istio is installed already".to_owned()));
            }
            Err(lacking("mesh", &missing))
        });
        judged.await;
    }
}

/// Rights that a stage can do without.
async fn helping(ctx: &Ctx<Shared>, helping: &[Right], missing: Vec<Right>) {
    let judged = ctx.record.case("rights for preflight").run(|case| async move {
        let Some(first) = missing.first() else { return Ok(Done::unchanged((), text::count(helping.len(), "right"))) };
        case.output(&rules(&missing).join("\n"));
        let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
        Ok(Done::Skipped(format!("this identity may not {first}{more}: `deploy` goes without, sees less and waits longer")))
    });
    judged.await;
}

fn rules(missing: &[Right]) -> Vec<String> {
    let rules: BTreeSet<String> = missing.iter().map(|right| format!("in {}: {}", right.role(), right.rule())).collect();
    rules.into_iter().collect()
}

/// One question settles it for an administrator; only others are asked one by one.
pub(super) async fn denied(cluster: &Cluster, rights: Vec<Right>) -> Result<Vec<Right>> {
    let everything = Right { verb: "*".to_owned(), group: "*".to_owned(), resource: "*".to_owned(), ..Right::default() };
    if cluster.denied(&[everything]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let mut denied = Vec::new();
    for right in cluster.denied(&rights).await? {
        // To make a namespace is needed only where there is none.
        let make = right.verb == "create" && right.resource == "namespaces";
        if !make || !matches!(cluster.get::<Namespace>("", &right.name).await, Ok(Some(_))) {
            denied.push(right);
        }
    }
    Ok(denied)
}

pub(super) fn lacking(stage: &str, missing: &[Right]) -> Fault {
    let first = missing.first().map(ToString::to_string).unwrap_or_default();
    let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
    let rules = rules(missing);
    let fault = Fault::new(Code::Forbidden, format!("this identity may not {first}{more}, which `{stage}` needs"));
    let fault = fault.evidence("rules to add", rules.join("\n"));
    match rules.as_slice() {
        [only] => fault.next(format!("add {}", only.replacen("in ", "to ", 1))),
        _ => fault.next("add the rules below to the identity's roles"),
    }
}
