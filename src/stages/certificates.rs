//! `troubleshoot certificates`: the whole mesh's roots and certificates at a look. Reads only.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::future::join_all;

use crate::base::fault::{Fault, Result};
use crate::base::text;
use crate::clients::kube::Cluster;
use crate::domain::certificates::ground::Injection;
use crate::domain::certificates::ground::look;
use crate::domain::certificates::survey::{self, Finding};
use crate::domain::certificates::{Cause, Evidence, gather};
use crate::engine::record::Done;
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::{Filters, Pipeline, Shared};

/// The stage.
pub struct CertificatesStage;

#[async_trait]
impl Stage<Shared> for CertificatesStage {
    fn id(&self) -> &'static str {
        "certificates"
    }

    async fn check(&self, _ctx: &Ctx<Shared>) -> Result<Readiness> {
        Ok(Readiness::Ready)
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let cluster = ctx.shared.cluster().await?;
        let filters = &ctx.shared.filters;
        let mut namespaces = gather::existing(&cluster, of_file(&ctx.shared.pipeline, filters)).await;
        namespaces.extend(gather::injected_namespaces(&cluster).await.into_iter().filter(|name| filters.namespace(name)));
        let evidence = ctx.record.case("roots").run(|case| {
            let (cluster, namespaces, record) = (&cluster, &namespaces, &ctx.record);
            async move {
                case.progress("asking every proxy what it holds");
                let (evidence, closed) = gather::survey(cluster, namespaces).await?;
                closed.iter().for_each(|refused| case.warn(format!("left out: {}", refused.message)));
                case.observed("certificates", &evidence);
                let rows = survey::rows(&evidence);
                let table = survey::table(&rows);
                case.output(&table.join("\n"));
                table.iter().for_each(|line| record.note(line.clone()));
                for row in &rows {
                    case.property(&row.pod, format!("root {}, certificate by {}, until {}: {}", row.root, row.issuer, row.until, row.verdict));
                }
                if let Some(why) = unread(&evidence) {
                    case.warn(why);
                }
                let note = told(&evidence);
                Ok(Done::unchanged(evidence, note))
            }
        });
        let Some(evidence) = evidence.await else { return Ok(()) };
        let findings = survey::findings(&evidence);
        for finding in &findings {
            report(ctx, finding).await;
        }
        injection(ctx, &cluster, &namespaces).await;
        Ok(())
    }
}

/// The namespaces that the file names.
pub(super) fn of_file(pipeline: &Pipeline, filters: &Filters) -> BTreeSet<String> {
    let injected = pipeline.mesh.iter().flat_map(|mesh| &mesh.inject).map(|namespace| namespace.name().to_owned());
    let deployed = pipeline.services.iter().flat_map(|service| &service.namespaces).map(|namespace| namespace.name().to_owned());
    injected.chain(deployed).filter(|name| filters.namespace(name)).collect()
}

/// `12 pods and 1 gateway; the root is 1a2b3c4d5e6f of O=cluster.local, made 2026-11-23T02:20:58Z`
fn told(evidence: &Evidence) -> String {
    let root = evidence.root.as_ref().map_or_else(
        || "the current root is not known".to_owned(),
        |root| format!("the root is {} of {}, made {}", root.key.short(), root.subject, evidence.made().unwrap_or(root.not_before)),
    );
    format!("{} and {}; {root}", text::count(evidence.pods.len(), "pod"), text::count(evidence.gateways.len(), "gateway"))
}

/// Why some proxies did not tell what they hold, once.
fn unread(evidence: &Evidence) -> Option<String> {
    let silent: Vec<_> = evidence.gateways.iter().chain(&evidence.pods).filter(|p| p.proxied && p.roots.is_none()).collect();
    let why = silent.first()?.unread.join("; ");
    Some(format!("{} did not tell what it holds: judged by logs and by age alone ({why})", text::count(silent.len(), "pod")))
}

async fn report(ctx: &Ctx<Shared>, finding: &Finding) {
    let judgement = &finding.judgement;
    let cause = judgement.cause;
    let name = serde_json::to_value(cause).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let proof = judgement.proof.join("\n");
    let builder = ctx.record.case(name);
    if finding.now && cause != Cause::Unknown {
        let message = format!("{}: {}", cause.words(), judgement.in_short());
        return builder.fail(Fault::new(cause.code(), message).evidence("proof", proof).next(cause.remedy()));
    }
    builder
        .run(|case| async move {
            case.output(&proof);
            let later = if cause == Cause::Unknown { "" } else { "; it will break requests with the next restart or renewal" };
            case.warn(format!("{}{later}", judgement.in_short()));
            Ok(Done::unchanged((), if cause == Cause::Unknown { "not proven" } else { "not yet" }))
        })
        .await;
}

/// Would a new pod get its sidecar? A pod is only tried out.
async fn injection(ctx: &Ctx<Shared>, cluster: &Cluster, namespaces: &BTreeSet<String>) {
    let tried = join_all(namespaces.iter().map(|namespace| async move { (namespace, look::try_out(cluster, namespace).await.0) })).await;
    for (namespace, injection) in tried {
        let builder = ctx.record.case(format!("injection {namespace}"));
        match injection {
            Injection::Works => {
                builder.run(|_| async { Ok(Done::unchanged((), "a new pod would get its sidecar")) }).await;
            }
            Injection::NotAsked(why) => builder.skip(format!("a pod may not be tried out: {}", text::one_line(&why))),
            Injection::NoSidecar => {
                let told = builder.run(|case| async move {
                    case.warn(format!("a new pod in {namespace} would come without a sidecar"));
                    Ok(Done::unchanged((), "no sidecar"))
                });
                told.await;
            }
            Injection::Refused(why) => {
                let cause = if why.contains("x509") { Cause::InjectorUntrusted } else { Cause::CaBroken };
                let fault = Fault::new(cause.code(), format!("no new pod could be made in {namespace}: {}", text::head(&text::one_line(&why), 300)));
                builder.fail(fault.next(cause.remedy()));
            }
        }
    }
}
