//! Stage `releases`: the virtual-services and alb-istio-ingress charts, through the real helm.

pub mod manage;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::ObjectName;
use crate::base::place::Place;
use crate::base::text;
use crate::clients::kube::Cluster;
use crate::domain::releases::decide::Next;
use crate::domain::releases::helm::Helm;
use crate::domain::releases::plan::{self, Permit, Plan};
use crate::engine::record::{Case, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::availability::Watch;
use crate::stages::releases::manage::Task;
use crate::stages::{Seconds, Shared};

/// How many lines of a diff a report carries.
const DIFF_LINES: usize = 400;

/// An item of `releases:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Release {
    pub name: String,
    /// Folder of the chart.
    pub chart: String,
    /// Values files, the whole set every time.
    #[serde(default)]
    pub values: Vec<String>,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The team whose values these are; changing it needs `--allow-team-change`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: Seconds,
}

fn default_namespace() -> String {
    "istio-system".to_owned()
}

fn default_timeout() -> Seconds {
    Seconds::from_secs(300)
}

/// Installs or upgrades each release of the file, in its order; after a failed one the rest is not tried.
pub struct ReleasesStage;

#[async_trait]
impl Stage<Shared> for ReleasesStage {
    fn id(&self) -> &'static str {
        "releases"
    }

    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        if ctx.shared.pipeline.releases.is_empty() {
            return Ok(Readiness::Skip("no releases: section in the file".to_owned()));
        }
        let applies = ctx.shared.options.releases_task == Task::Apply;
        for (index, release) in ctx.shared.pipeline.releases.iter().enumerate().filter(|_| applies) {
            files_are_there(&ctx.shared, index, release)?;
        }
        Ok(Readiness::Ready)
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let shared = &ctx.shared;
        if shared.options.releases_task != Task::Apply {
            return manage::run(ctx, &shared.options.releases_task).await;
        }
        let cluster = shared.cluster().await?;
        let helm = Helm::open(&shared.tools, cluster.kubeconfig()).await?;
        let watch = Watch::start(ctx, |_| true).await;
        let mut failed: Option<&str> = None;
        for (index, release) in shared.pipeline.releases.iter().enumerate() {
            let case = ctx.record.case(format!("helm upgrade {}", release.name)).service(&release.name);
            let case = case.place(shared.place(&format!("/releases/{index}")));
            if let Some(failed) = failed {
                case.skip(format!("needs helm upgrade {failed} (failed)"));
                continue;
            }
            if case.run(|case| one(ctx, &helm, &cluster, release, &watch, case)).await.is_none() {
                failed = Some(&release.name);
            }
        }
        watch.end(ctx).await;
        Ok(())
    }
}

/// The chart and every values file must be there before anything is touched: a missing team file is a fault of the file.
fn files_are_there(shared: &Shared, index: usize, release: &Release) -> Result<()> {
    let missing = |what: &str, path: &str, pointer: String| {
        Fault::new(Code::FileUnreadable, format!("{what} of release {} does not exist: `{path}`", release.name)).at(shared.place(&pointer))
    };
    if !shared.path(&release.chart).join("Chart.yaml").is_file() {
        return Err(missing("the chart", &release.chart, format!("/releases/{index}/chart")).next("`chart` names a folder with a Chart.yaml"));
    }
    match release.values.iter().position(|file| !shared.path(file).is_file()) {
        Some(n) => Err(missing("a values file", &release.values[n], format!("/releases/{index}/values/{n}"))),
        None => Ok(()),
    }
}

async fn one(ctx: &Ctx<Shared>, helm: &Helm, cluster: &Cluster, release: &Release, watch: &Watch, case: Case) -> Result<Done> {
    let (shared, options) = (&ctx.shared, &ctx.shared.options);
    let wanted = manage::wanted(shared, release);
    let (recover_pending, new_alb, team_change) = (options.recover_pending, options.allow_new_alb, options.allow_team_change);
    let permit = Permit { recover_pending, new_alb, team_change, preview: ctx.dry_run };
    case.property("helm.version", helm.version());
    let plan = match plan::plan(helm, cluster, &wanted, permit, None).await {
        // Before the first run there is neither mesh nor namespace to render against.
        Err(fault) if ctx.dry_run && matches!(fault.code, Code::NeedsEarlier | Code::NamespaceMissing) => {
            return Ok(Done::would_change((), format!("would install it; {fault}")));
        }
        plan => plan.map_err(|fault| placed(fault, shared, release))?,
    };
    show(&plan, &case);
    if ctx.dry_run {
        return Ok(if plan.changes() {
            Done::would_change((), plan.would())
        } else {
            Done::unchanged((), format!("unchanged, revision {}", plan.revision()))
        });
    }
    match plan.next {
        Next::Install => ctx.ledger.intend(&ObjectName::new("release", &release.namespace, &release.name))?,
        Next::RollBack(to) => {
            case.warn(format!("revision {} was left {} by a killed run; rolled back to revision {to} first", plan.revision(), status(&plan)))
        }
        Next::Forget(revision) => {
            case.warn(format!("revision {revision} was left {} by a killed run; its record was removed, its objects were kept", status(&plan)))
        }
        Next::UpgradeIfChanged | Next::Upgrade => {}
    }
    if plan.changes() {
        watch.acted();
        case.progress(if plan.stored.is_some() { "upgrading" } else { "installing" });
    }
    let applied = plan::apply(helm, cluster, &wanted, permit, plan).await.map_err(|fault| placed(fault, shared, release))?;
    Ok(if applied.changed() { Done::changed((), applied.note()) } else { Done::unchanged((), applied.note()) })
}

fn status(plan: &Plan) -> String {
    plan.stored.as_ref().map(|s| s.status.to_string()).unwrap_or_default()
}

/// The diff for people, in the case's output.
fn show(plan: &Plan, case: &Case) {
    for what in &plan.difference.what {
        case.output(what);
    }
    if !plan.difference.diff.is_empty() {
        let lines = plan.difference.diff.lines().count();
        let shown: Vec<&str> = plan.difference.diff.lines().take(DIFF_LINES).collect();
        case.output(&shown.join("\n"));
        if lines > DIFF_LINES {
            case.output(&format!("… and {}", text::count(lines - DIFF_LINES, "more line")));
        }
    }
}

/// A fault about no line of its own is about the release's entry; one of the values against the schema is about the last values file.
fn placed(fault: Fault, shared: &Shared, release: &Release) -> Fault {
    if fault.code != Code::FileInvalid || fault.place.is_some() {
        return fault;
    }
    let file = release.values.last().map(|file| Place::new(shared.shown(file), 0, 0));
    fault.at(file.as_ref())
}
