//! `meshstep releases status|history|rollback|remove`: what a person does with one release, or looks at.

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::domain::releases::argv::Wanted;
use crate::domain::releases::helm::Helm;
use crate::domain::releases::memory;
use crate::domain::releases::parse::Revision;
use crate::engine::Ctx;
use crate::engine::record::{Case, Done};
use crate::stages::Shared;
use crate::stages::releases::Release;

/// What is done with the releases of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Task {
    /// Install or upgrade, or in a dry run plan that.
    #[default]
    Apply,
    /// Of all, or of those named.
    Status(Vec<String>),
    History(String),
    /// Back to this revision, or to the newest good one before the current.
    Rollback {
        name: String,
        to: Option<u32>,
    },
    Remove(String),
}

impl Task {
    /// The releases it is about; `None`: all.
    fn names(&self) -> Option<Vec<&str>> {
        match self {
            Task::Apply => None,
            Task::Status(names) if names.is_empty() => None,
            Task::Status(names) => Some(names.iter().map(String::as_str).collect()),
            Task::History(name) | Task::Remove(name) | Task::Rollback { name, .. } => Some(vec![name]),
        }
    }

    pub fn only_looks(&self) -> bool {
        matches!(self, Task::Status(_) | Task::History(_))
    }

    fn word(&self) -> &'static str {
        match self {
            Task::Apply => "helm upgrade",
            Task::Status(_) => "status",
            Task::History(_) => "history",
            Task::Rollback { .. } => "rollback",
            Task::Remove(_) => "remove",
        }
    }
}

/// Does the task with each release it names, each as a case of its own.
pub(super) async fn run(ctx: &Ctx<Shared>, task: &Task) -> Result<()> {
    let shared = &ctx.shared;
    let known: Vec<&str> = shared.pipeline.releases.iter().map(|release| release.name.as_str()).collect();
    let names = task.names().unwrap_or_else(|| known.clone());
    for name in names {
        let Some(index) = shared.pipeline.releases.iter().position(|release| release.name == name) else {
            let fault = Fault::new(Code::FileInvalid, format!("the file has no release `{name}`, but {}", known.join(", ")));
            return Err(fault.at(shared.place("/releases")).next("name one of them"));
        };
        let release = &shared.pipeline.releases[index];
        let case = ctx.record.case(format!("{} {name}", task.word())).service(name).place(shared.place(&format!("/releases/{index}")));
        case.run(|case| async move {
            let cluster = shared.cluster().await?;
            let helm = Helm::open(&shared.tools, cluster.kubeconfig()).await?;
            one(ctx, &helm, release, task, case).await
        })
        .await;
    }
    Ok(())
}

async fn one(ctx: &Ctx<Shared>, helm: &Helm, release: &Release, task: &Task, case: Case) -> Result<Done> {
    let Release { name, namespace, .. } = release;
    let history = helm.history(namespace, name).await?;
    let Some(current) = history.last() else { return Ok(Done::unchanged((), format!("not installed in {namespace}"))) };
    match task {
        Task::Apply | Task::Status(_) => {
            let stored = helm.stored(namespace, name).await?;
            let team = stored.as_ref().and_then(|stored| memory::team(&history, &stored.values)).map(|team| format!(", values of team {team}"));
            let since = stored.and_then(|stored| stored.since).map(|since| format!(" since {since:.0}")).unwrap_or_default();
            Ok(Done::unchanged((), format!("revision {}, {}{since}{}", current.revision, current.status, team.unwrap_or_default())))
        }
        Task::History(_) => {
            for Revision { revision, status, chart, description } in &history {
                ctx.record.note(format!("{name} {revision}: {status}, {chart}, {description}"));
            }
            Ok(Done::unchanged((), crate::base::text::count(history.len(), "revision")))
        }
        Task::Rollback { to, .. } => {
            let to = target(&history, *to).map_err(|words| {
                Fault::new(Code::ReleaseFailed, format!("{name}: {words}")).next(format!("`meshstep releases history {name}` lists its revisions"))
            })?;
            if ctx.dry_run {
                return Ok(Done::would_change((), format!("would roll back revision {} to {to}", current.revision)));
            }
            case.progress(format!("rolling back to revision {to}"));
            helm.rollback(namespace, name, to, release.timeout.0).await?;
            Ok(Done::changed((), format!("rolled back from revision {} to {to}", current.revision)))
        }
        Task::Remove(_) if ctx.dry_run => Ok(Done::would_change((), format!("would remove revision {} from {namespace}", current.revision))),
        Task::Remove(_) => {
            case.progress("uninstalling");
            helm.uninstall(namespace, name, release.timeout.0).await?;
            Ok(Done::changed((), format!("removed revision {} from {namespace}", current.revision)))
        }
    }
}

/// The revision to go back to. A pending one is another helm's business.
fn target(history: &[Revision], asked: Option<u32>) -> std::result::Result<u32, String> {
    let current = history.last().ok_or("it has no revision")?;
    if current.status.starts_with("pending-") {
        return Err(format!(
            "revision {} is {}: another helm works on it, or was killed (`--recover-pending` of `releases apply`)",
            current.revision, current.status
        ));
    }
    match asked {
        Some(asked) if history.iter().any(|r| r.revision == asked) => Ok(asked),
        Some(asked) => {
            let kept: Vec<String> = history.iter().map(|r| r.revision.to_string()).collect();
            Err(format!("revision {asked} is not kept; there are {}", kept.join(", ")))
        }
        None => {
            let good = |r: &&Revision| r.revision < current.revision && matches!(r.status.as_str(), "superseded" | "deployed");
            history.iter().rev().find(good).map(|r| r.revision).ok_or_else(|| "there is no good revision before the current one".to_owned())
        }
    }
}

/// What `releases` wants of helm for an item of the file.
pub(super) fn wanted(shared: &Shared, release: &Release) -> Wanted {
    Wanted {
        name: release.name.clone(),
        namespace: release.namespace.clone(),
        chart: shared.path(&release.chart),
        values: release.values.iter().map(|file| shared.path(file)).collect(),
        team: release.team.clone(),
        timeout: release.timeout.0,
        take_ownership: shared.options.take_ownership,
        ..Wanted::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(statuses: &[&str]) -> Vec<Revision> {
        let revision = |(n, s): (u32, &&str)| Revision { revision: n, status: (*s).to_owned(), chart: String::new(), description: String::new() };
        (1..).zip(statuses).map(revision).collect()
    }

    #[test]
    fn a_rollback_goes_to_the_newest_good_revision_or_the_one_that_is_named() {
        for (statuses, asked, to) in [
            (&["superseded", "superseded", "deployed"][..], None, Ok(2)),
            (&["superseded", "failed", "failed"], None, Ok(1)),
            (&["deployed", "failed"], None, Ok(1)),
            (&["superseded", "superseded", "deployed"], Some(1), Ok(1)),
            (&["superseded", "deployed"], Some(7), Err("revision 7 is not kept; there are 1, 2")),
            (&["deployed"], None, Err("there is no good revision before the current one")),
            (&["deployed", "pending-upgrade"], None, Err("revision 2 is pending-upgrade")),
        ] {
            match (target(&history(statuses), asked), to) {
                (Ok(found), Ok(to)) => assert_eq!(found, to),
                (Err(found), Err(words)) => assert!(found.starts_with(words), "{found}"),
                (found, to) => panic!("{statuses:?} {asked:?}: {found:?} instead of {to:?}"),
            }
        }
    }
}
