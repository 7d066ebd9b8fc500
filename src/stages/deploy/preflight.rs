//! Cases `preflight NAMESPACE`: all that is to be deployed is looked at before the first of it is applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{BoxFuture, Shared, join_all};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};
use crate::domain::releases::plan::Seen;
use crate::domain::services::manifests::{self, Manifest};
use crate::domain::services::preflight::Apply;
use crate::domain::services::preflight::look::{Nodes, look};
use crate::engine::record::{Case, Done};
use crate::stages::deploy::{Step, read_manifests};

/// Steps that are looked at at once: each may be a helm of its own.
const AT_ONCE: usize = 4;

/// What a step will apply, as far as that is known before the first one.
#[derive(Default)]
struct Ahead {
    manifests: Vec<Manifest>,
    hooks: Vec<Manifest>,
    running: Option<Vec<Manifest>>,
    /// Of a chart's release: helm is not asked for it again.
    seen: Option<Seen>,
    /// Why it is not looked at.
    skipped: Option<String>,
    /// What is not known of it, in words.
    unknown: Option<String>,
}

/// Found out once, for the step itself and for those after it.
type Coming<'a> = Shared<BoxFuture<'a, Arc<Result<Ahead>>>>;

struct Looked {
    doomed: bool,
    seen: Option<Seen>,
}

/// Looks ahead at all steps, before one of them is taken. What was seen of their releases on the way, for the upgrades; `None`: one is
/// doomed, so that none may be taken, and all is told.
pub(super) async fn all(steps: &[Step<'_>]) -> Option<Vec<Option<Seen>>> {
    let coming: Vec<Coming> = steps.iter().map(|step| step.ahead().map(Arc::new).boxed().shared()).collect();
    let nodes = Nodes::default();
    let each: Vec<BoxFuture<Looked>> =
        steps.iter().enumerate().map(|(at, step)| step.preflight(&steps[..at], &coming[..=at], &nodes).boxed()).collect();
    let looked: Vec<Looked> = futures::stream::iter(each).buffered(AT_ONCE).collect().await;
    let Some(doomed) = looked.iter().position(|looked| looked.doomed) else {
        return Some(looked.into_iter().map(|looked| looked.seen).collect());
    };
    let Step { service, namespace, .. } = &steps[doomed];
    for (step, _) in steps.iter().zip(&looked).filter(|(_, looked)| !looked.doomed) {
        step.case(step.first_case()).skip(format!("needs preflight {} of {} (failed)", namespace.name(), service.name));
    }
    None
}

impl Step<'_> {
    async fn preflight(&self, earlier: &[Step<'_>], coming: &[Coming<'_>], nodes: &Nodes) -> Looked {
        let case = self.case(self.named("preflight"));
        if self.ctx.shared.options.no_preflight {
            case.skip("--no-preflight");
            return Looked { doomed: false, seen: None };
        }
        let doomed = AtomicBool::new(false);
        let judged = |case: Case| async {
            let judged = self.judged(earlier, coming, nodes, case).await;
            doomed.store(judged.is_err(), Ordering::Relaxed);
            judged
        };
        let seen = case.run(judged).await.flatten();
        Looked { doomed: doomed.into_inner(), seen }
    }

    async fn judged(&self, earlier: &[Step<'_>], coming: &[Coming<'_>], nodes: &Nodes, case: Case) -> Result<Done<Option<Seen>>> {
        case.progress("asking the API server by dry runs");
        let coming = join_all(coming.iter().cloned()).await;
        let known: Vec<&Ahead> = coming.iter().take(earlier.len()).filter_map(|ahead| ahead.as_ref().as_ref().ok()).collect();
        let own = match coming.last().map(|own| own.as_ref()) {
            Some(Ok(own)) => own,
            Some(Err(fault)) => return Err(fault.clone()),
            None => return Err(Fault::new(Code::Defect, "there is nothing to look at")),
        };
        if let Some(reason) = &own.skipped {
            return Ok(Done::Skipped(reason.clone()));
        }
        // One that is not known is doomed itself.
        let earlier: Vec<Apply> = earlier.iter().zip(known).map(|(step, ahead)| step.of(ahead)).collect();
        let facts = look(self.cluster, nodes, &self.of(own), &earlier).await;
        let report = facts.judge();
        case.observed("preflight", &json!({"facts": facts, "verdict": report}));
        report.notes.iter().for_each(|note| case.output(note));
        report.warnings.iter().for_each(|warning| case.warn(warning));
        match report.fault() {
            Some(fault) => Err(fault),
            None => Ok(Done::unchanged(own.seen.clone(), facts.looked_at())),
        }
    }

    fn of<'b>(&'b self, ahead: &'b Ahead) -> Apply<'b> {
        let Ahead { manifests, hooks, running, unknown, .. } = ahead;
        Apply {
            manifests,
            hooks,
            running: running.as_deref(),
            unknown: unknown.as_deref(),
            dry_run: self.ctx.dry_run,
            ..Apply::to(self.namespace.name())
        }
    }

    async fn ahead(&self) -> Result<Ahead> {
        let name = self.namespace.name();
        let skipped = match self.cluster.get::<Namespace>("", name).await? {
            None if self.namespace_is_made() => Some(format!("namespace {name} is still to be made")),
            None => return Err(self.no_namespace()),
            Some(found) if found.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Terminating")) => {
                return Err(Fault::new(Code::NamespaceMissing, format!("namespace {name} is being deleted"))
                    .at(self.place())
                    .next("wait until it is gone, then create it anew"));
            }
            Some(_) => None,
        };
        match (&self.service.chart, &self.service.manifests) {
            (Some(_), _) if skipped.is_some() => Ok(self.unknown(skipped)),
            (Some(chart), _) => self.rendered(chart).await,
            (None, Some(file)) => {
                let manifests = read_manifests(&self.ctx.shared, self.index, self.service, file, name)?;
                Ok(Ahead { manifests, skipped, ..Ahead::default() })
            }
            (None, None) => Ok(Ahead::default()),
        }
    }

    fn unknown(&self, skipped: Option<String>) -> Ahead {
        let unknown = Some(format!("{} in {}", self.service.name, self.namespace.name()));
        Ahead { skipped, unknown, ..Ahead::default() }
    }

    /// What helm has and would make. That it does not render for want of something in the cluster is told by the upgrade itself.
    async fn rendered(&self, chart: &str) -> Result<Ahead> {
        let helm = self.helm.ok_or_else(|| Fault::new(Code::Defect, "helm was not opened"))?;
        let (wanted, chart) = (self.wanted(chart), &self.ctx.shared.shown(chart));
        let stored = helm.stored(&wanted.namespace, &wanted.name).await?;
        if let Some(stored) = stored.as_ref().filter(|stored| stored.status.is_pending()) {
            return Ok(self.unknown(Some(format!("helm renders nothing over revision {}, which is {}", stored.revision, stored.status))));
        }
        let new = match helm.render(&wanted).await {
            Ok(new) => new,
            Err(fault) if fault.class == Class::Invalid => return Err(fault),
            Err(fault) => return Ok(self.unknown(Some(format!("helm does not render it: {fault}")))),
        };
        Ok(Ahead {
            manifests: manifests::rendered(&new.manifest, chart),
            hooks: new.hooks.iter().flat_map(|hook| manifests::rendered(hook, chart)).collect(),
            running: Some(stored.as_ref().map(|stored| manifests::rendered(&stored.manifest, chart)).unwrap_or_default()),
            seen: Some(Seen { stored, rendered: Some(new) }),
            ..Ahead::default()
        })
    }
}
