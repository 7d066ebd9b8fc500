//! Case `preflight NAMESPACE`: a doomed deploy is refused before anything is touched.

use k8s_openapi::api::core::v1::Namespace;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::domain::releases::plan::Seen;
use crate::domain::services::manifests::{self, Manifest};
use crate::domain::services::preflight::{self, Apply, Report};
use crate::engine::record::{Case, Done};
use crate::stages::deploy::{Step, read_manifests};

impl Step<'_> {
    /// What was seen of the release on the way, for the upgrade. `Err`: the reason why nothing more is done in this namespace.
    pub(super) async fn preflight(&self) -> std::result::Result<Option<Seen>, String> {
        let name = self.named("preflight");
        let case = self.case(&name);
        if self.ctx.shared.options.no_preflight {
            case.skip("--no-preflight");
            return Ok(None);
        }
        let faults = self.ctx.record.faults().len();
        let seen = case.run(|case| self.look_ahead(case)).await;
        if self.ctx.record.faults().len() > faults { Err(format!("needs {name} (failed)")) } else { Ok(seen.flatten()) }
    }

    async fn look_ahead(&self, case: Case) -> Result<Done<Option<Seen>>> {
        let name = self.namespace.name();
        match self.cluster.get::<Namespace>("", name).await? {
            None if self.namespace_is_made() => return Ok(Done::Skipped(format!("namespace {name} is still to be made"))),
            None => return Err(self.no_namespace()),
            Some(found) if found.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Terminating")) => {
                return Err(Fault::new(Code::NamespaceMissing, format!("namespace {name} is being deleted"))
                    .at(self.place())
                    .next("wait until it is gone, then create it anew"));
            }
            Some(_) => {}
        }
        case.progress("asking the API server by dry runs");
        let report = match (&self.service.chart, &self.service.manifests) {
            (Some(chart), _) => {
                let (seen, report) = match self.rendered(chart).await? {
                    (seen, Ok(report)) => (seen, report),
                    (_, Err(reason)) => return Ok(Done::Skipped(reason)),
                };
                return told(&case, report, Some(seen));
            }
            (None, Some(file)) => {
                let manifests = read_manifests(&self.ctx.shared, self.index, self.service, file, name)?;
                self.look(&manifests, &[], None).await
            }
            (None, None) => Report::default(),
        };
        told(&case, report, None)
    }

    /// What helm has and would make. A chart that helm does not render is told by the upgrade itself, in helm's words.
    async fn rendered(&self, chart: &str) -> Result<(Seen, std::result::Result<Report, String>)> {
        let helm = self.helm.ok_or_else(|| Fault::new(Code::Defect, "helm was not opened"))?;
        let wanted = self.wanted(chart);
        let stored = helm.stored(&wanted.namespace, &wanted.name).await?;
        if let Some(stored) = stored.as_ref().filter(|stored| stored.status.is_pending()) {
            let reason = format!("helm renders nothing over revision {}, which is {}", stored.revision, stored.status);
            return Ok((Seen { stored: None, rendered: None }, Err(reason)));
        }
        let new = match helm.render(&wanted).await {
            Ok(new) => new,
            Err(fault) => return Ok((Seen { stored, rendered: None }, Err(format!("helm does not render it: {fault}")))),
        };
        let objects = manifests::rendered(&new.manifest, chart);
        let hooks: Vec<Manifest> = new.hooks.iter().flat_map(|hook| manifests::rendered(hook, chart)).collect();
        let running = stored.as_ref().map(|stored| manifests::rendered(&stored.manifest, chart)).unwrap_or_default();
        let report = self.look(&objects, &hooks, Some(&running)).await;
        Ok((Seen { stored, rendered: Some(new) }, Ok(report)))
    }

    async fn look(&self, manifests: &[Manifest], hooks: &[Manifest], running: Option<&[Manifest]>) -> Report {
        let apply = Apply { namespace: self.namespace.name(), manifests, hooks, running, dry_run: self.ctx.dry_run };
        preflight::look(self.cluster, &apply).await
    }
}

fn told(case: &Case, report: Report, seen: Option<Seen>) -> Result<Done<Option<Seen>>> {
    report.notes.iter().for_each(|note| case.output(note));
    report.warnings.iter().for_each(|warning| case.warn(warning));
    match report.fault() {
        Some(fault) => Err(fault),
        None => Ok(Done::unchanged(seen, report.looked_at())),
    }
}
