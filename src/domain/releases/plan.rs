//! A release from its stored state to the wanted one: planned first, shown, then applied; unchanged means no call that changes anything.

use futures::StreamExt;
use jiff::Timestamp;
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::ObjectName;
use crate::clients::kube::Cluster;
use crate::domain::releases::argv::Wanted;
use crate::domain::releases::compare::{self, Difference, Object};
use crate::domain::releases::decide::{self, Next};
use crate::domain::releases::helm::Helm;
use crate::domain::releases::memory;
use crate::domain::releases::parse::{Status, Stored};

/// What was allowed by a flag of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Permit {
    pub recover_pending: bool,
    pub new_alb: bool,
    pub team_change: bool,
    /// Render what would be installed new, to show it. Without it helm renders only once, when it installs.
    pub preview: bool,
}

/// What is to be done with a release.
#[derive(Clone, Debug)]
pub struct Plan {
    pub stored: Option<Stored>,
    pub next: Next,
    /// What would change. For a release in recovery it is known only afterwards.
    pub difference: Difference,
    pub team_was: Option<String>,
}

impl Plan {
    /// Is there anything to do?
    pub fn changes(&self) -> bool {
        self.next != Next::UpgradeIfChanged || !self.difference.is_empty()
    }

    /// The revision that is stored now; 0 when there is none.
    pub fn revision(&self) -> u32 {
        self.stored.as_ref().map_or(0, |s| s.revision)
    }

    /// `would install`, `would upgrade revision 3`: for a dry run.
    pub fn would(&self) -> String {
        match self.next {
            Next::Install => "would install it".to_owned(),
            Next::Upgrade | Next::UpgradeIfChanged => format!("would upgrade revision {}", self.revision()),
            Next::RollBack(to) => format!("would roll back the dead revision {} to {to}, then upgrade", self.revision()),
            Next::Forget(revision) => format!("would forget the dead revision {revision}, then install"),
        }
    }
}

/// What an apply did.
#[derive(Clone, Debug)]
pub enum Applied {
    Installed(Stored),
    Upgraded(Stored),
    /// Nothing was called that changes anything.
    Unchanged(u32),
}

impl Applied {
    /// `installed revision 1`, `upgraded to revision 4`, `unchanged, revision 3`.
    pub fn note(&self) -> String {
        match self {
            Applied::Installed(stored) => format!("installed revision {}", stored.revision),
            Applied::Upgraded(stored) => format!("upgraded to revision {}", stored.revision),
            Applied::Unchanged(revision) => format!("unchanged, revision {revision}"),
        }
    }

    pub fn changed(&self) -> bool {
        !matches!(self, Applied::Unchanged(_))
    }
}

/// What was read and rendered of a release before it is planned.
#[derive(Clone, Debug)]
pub struct Seen {
    pub stored: Option<Stored>,
    pub rendered: Option<Stored>,
}

/// Reads the release's state, renders what is wanted, and compares; what is in `seen` is not asked for again.
///
/// # Errors
/// `release_pending` (and not allowed or too young to recover), `team_change`, `alb_change`, `release_foreign`, and every fault of helm.
pub async fn plan(helm: &Helm, cluster: &Cluster, wanted: &Wanted, permit: Permit, seen: Option<Seen>) -> Result<Plan> {
    let (stored, seen) = match seen {
        Some(seen) => (seen.stored, seen.rendered),
        None => (helm.stored(&wanted.namespace, &wanted.name).await?, None),
    };
    let rendered = async {
        match seen {
            Some(seen) => Ok(seen),
            None => helm.render(wanted).await,
        }
    };
    let Some(stored) = stored else {
        let difference = if permit.preview { compare::manifests("", &rendered.await?.manifest) } else { Difference::default() };
        return Ok(Plan { stored: None, next: Next::Install, difference, team_was: None });
    };
    // Helm renders nothing over a pending release.
    let render = async { if stored.status.is_pending() { None } else { Some(rendered.await) } };
    let (history, rendered) = tokio::join!(helm.history(&wanted.namespace, &wanted.name), render);
    let history = history?;
    let stored = match history.last() {
        // Others may have been at work since it was seen.
        Some(newest) if newest.revision != stored.revision || Status::parse(&newest.status) != stored.status => {
            helm.stored(&wanted.namespace, &wanted.name).await?.unwrap_or(stored)
        }
        _ => stored,
    };
    let next = decide::next(&wanted.name, Some(&stored), &history, Timestamp::now(), wanted.timeout, permit.recover_pending)?;
    let team_was = memory::team(&history, &stored.values);
    if let (Some(was), Some(now)) = (&team_was, &wanted.team)
        && was != now
        && !permit.team_change
    {
        return Err(Fault::new(Code::TeamChange, format!("{} runs with the values of team {was}, not {now}", wanted.name))
            .next(format!("use the values file of team {was}, or give each team a release and an Ingress of its own"))
            .next("or replace them on purpose with `--allow-team-change`"));
    }
    let Some(rendered) = rendered else { return Ok(Plan { stored: Some(stored), next, difference: Difference::default(), team_was }) };
    let rendered = rendered?;
    let chart = history.iter().find(|r| r.revision == stored.revision).map(|r| r.chart.as_str());
    let mut difference = compare::difference(&stored, chart, &rendered);
    if wanted.team.is_some() && team_was != wanted.team {
        difference.what.push("the team's name is noted".to_owned());
    }
    let old = compare::objects(&stored.manifest);
    if !permit.new_alb && next != Next::Install {
        refuse_alb_move(cluster, wanted, &old, &compare::objects(&rendered.manifest)).await?;
    }
    if next == Next::UpgradeIfChanged && difference.is_empty() {
        difference.what = missing(cluster, wanted, old).await?;
    }
    Ok(Plan { stored: Some(stored), next, difference, team_was })
}

/// Does what the plan says.
pub async fn apply(helm: &Helm, cluster: &Cluster, wanted: &Wanted, permit: Permit, plan: Plan) -> Result<Applied> {
    match plan.next {
        Next::RollBack(revision) => helm.rollback(&wanted.namespace, &wanted.name, revision, wanted.timeout).await?,
        Next::Forget(revision) => {
            let secret = ObjectName::new("Secret", &wanted.namespace, format!("sh.helm.release.v1.{}.v{revision}", wanted.name));
            cluster.delete_object(&secret, "v1").await?;
        }
        Next::UpgradeIfChanged if plan.difference.is_empty() => return Ok(Applied::Unchanged(plan.revision())),
        Next::Install => return Ok(Applied::Installed(helm.upgrade(wanted).await?)),
        Next::UpgradeIfChanged | Next::Upgrade => return Ok(Applied::Upgraded(helm.upgrade(wanted).await?)),
    }
    // Recovered: what is stored now is an ordinary state, judged once more and without the permission to recover again.
    let again = self::plan(helm, cluster, wanted, Permit { recover_pending: false, ..permit }, None).await?;
    if again.next == Next::UpgradeIfChanged && again.difference.is_empty() {
        return helm
            .stored(&wanted.namespace, &wanted.name)
            .await?
            .map(Applied::Upgraded)
            .ok_or_else(|| Fault::new(Code::ReleaseFailed, format!("{} was recovered, and is gone", wanted.name)));
    }
    let stored = helm.upgrade(wanted).await?;
    Ok(if again.next == Next::Install { Applied::Installed(stored) } else { Applied::Upgraded(stored) })
}

/// Compares each Ingress of the running release, as it is in the cluster, with the rendered one.
async fn refuse_alb_move(cluster: &Cluster, wanted: &Wanted, old: &[Object], new: &[Object]) -> Result<()> {
    for ingress in old.iter().filter(|o| o.kind == "Ingress") {
        let namespace = if ingress.namespace.is_empty() { &wanted.namespace } else { &ingress.namespace };
        let Some(live) = cluster.get_object(&ingress.api_version, "Ingress", namespace, &ingress.name).await? else { continue };
        let live = serde_json::to_value(&live).unwrap_or_default();
        let served = live.pointer("/status/loadBalancer/ingress/0/hostname").and_then(Value::as_str);
        let rendered = new.iter().find(|o| o.kind == "Ingress" && o.name == ingress.name).map(|o| &o.value);
        if let (Some(change), Some(hostname)) = (compare::alb_move(&ingress.name, &live, rendered), served) {
            return Err(Fault::new(Code::AlbChange, format!("{}: {change}; {hostname} would be gone", wanted.name))
                .next("keep them as they are in the values file")
                .next("or allow a new load balancer, with a new DNS name, with `--allow-new-alb`"));
        }
    }
    Ok(())
}

/// The objects of the release that someone deleted: `istioctl uninstall --purge` takes every VirtualService with it, and helm does not notice.
async fn missing(cluster: &Cluster, wanted: &Wanted, objects: Vec<Object>) -> Result<Vec<String>> {
    let looks = objects.into_iter().filter(|o| !o.kind.is_empty() && !o.name.is_empty()).map(|object| async move {
        let namespace = if object.namespace.is_empty() { &wanted.namespace } else { &object.namespace };
        let found = cluster.get_object(&object.api_version, &object.kind, namespace, &object.name).await?;
        Ok::<_, Fault>(found.is_none().then(|| format!("{} {} is gone from the cluster", object.kind, object.name)))
    });
    let found: Vec<Result<Option<String>>> = futures::stream::iter(looks).buffered(8).collect().await;
    found.into_iter().filter_map(Result::transpose).collect()
}
