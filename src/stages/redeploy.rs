//! Stage `redeploy`: the cure of a proven stale certificate, once per workload and root.

mod cure;
mod method;
mod one;
mod others;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::fault::{Fault, Result};
use crate::domain::certificates::Judgement;
use crate::domain::verify::Reply;
use crate::engine::{Ctx, Readiness, Stage};
pub(super) use crate::stages::redeploy::cure::{Cure, Ticket};
use crate::stages::verify::{self, AskedFrom, HostSource, Verify};
use crate::stages::{Seconds, Shared};

/// How long a host may take to answer when the file has no `verify:`.
const ANSWER: Seconds = Seconds::from_secs(30);

/// `redeploy:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Redeploy {
    #[serde(default)]
    pub when: When,
    #[serde(default)]
    pub method: Method,
    #[serde(default)]
    pub approve: Approve,
    /// More stale workloads than this need approval.
    #[serde(default = "default_max_workloads")]
    #[schemars(range(min = 1))]
    pub max_workloads: u32,
    /// The team's own command, for `method: command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<TeamCommand>,
}

/// A command of the team that makes the workload's pods anew. It learns what is asked of it from MESHSTEP_SERVICE, MESHSTEP_NAMESPACE,
/// MESHSTEP_WORKLOAD and MESHSTEP_ROOT; secrets belong into its environment, never on its command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TeamCommand {
    /// Program and arguments, without a shell; a path is relative to the file.
    #[schemars(length(min = 1))]
    pub run: Vec<String>,
    /// How long the command and the rollout after it may take.
    #[serde(default = "default_command_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: Seconds,
}

impl Default for Redeploy {
    fn default() -> Self {
        Self { when: When::default(), method: Method::default(), approve: Approve::default(), max_workloads: default_max_workloads(), command: None }
    }
}

/// When a redeploy is allowed at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    #[default]
    CertificateFault,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A rolling restart by an annotation on the pod template.
    #[default]
    Restart,
    /// The service's deploy stage once more, with the image that runs now, and all pods made anew.
    Deploy,
    /// The team's own command.
    Command,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Approve {
    #[default]
    Auto,
    /// Print the list and exit 11.
    Manual,
}

fn default_max_workloads() -> u32 {
    5
}

fn default_command_timeout() -> Seconds {
    Seconds::from_secs(600)
}

/// Finds the hosts that a stale certificate breaks, and cures them; the same work as in `verify`, on its own.
pub struct RedeployStage;

#[async_trait]
impl Stage<Shared> for RedeployStage {
    fn id(&self) -> &'static str {
        "redeploy"
    }

    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        let pipeline = &ctx.shared.pipeline;
        if pipeline.redeploy.as_ref().is_some_and(|r| r.when == When::Never) {
            return Ok(Readiness::Skip("redeploy.when is never".to_owned()));
        }
        if let Some(redeploy) = &pipeline.redeploy {
            method::check(&ctx.shared, redeploy)?;
        }
        if pipeline.routes.is_none() && pipeline.verify.is_none() {
            return Ok(Readiness::Skip("no routes: and no verify: section in the file".to_owned()));
        }
        Ok(Readiness::Ready)
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let pipeline = &ctx.shared.pipeline;
        let hosts = pipeline.routes.is_some().then_some(HostSource::FromRoutes);
        let from = AskedFrom::default();
        let params = pipeline.verify.clone().unwrap_or_else(|| Verify { hosts, checks: Vec::new(), from, timeout: ANSWER, availability: None });
        verify::ask_all(ctx, &params).await?;
        // What the hosts have led to is cured by now.
        let cure = Cure::new(ctx, 0);
        ctx.record.case("workloads without a host").run(|case| cure.treat_others(case)).await;
        Ok(())
    }
}

/// A host whose answer may come from a stale certificate.
pub(super) struct Suspect {
    pub(super) service: String,
    pub(super) namespace: String,
    /// `GET app1.public.domain/`
    pub(super) title: String,
    pub(super) reply: Reply,
    pub(super) fault: Fault,
}

/// What a treatment came to.
pub(super) enum Cured {
    /// It is not about certificates, nothing proves that it is, or it is a cause that no restart cures.
    NotProven(Judgement),
    /// The workloads were restarted; the story so far. After the gateway alone, a workload may be next.
    Restarted { story: String, gateway: bool },
    /// They had been restarted for this root before; the host is asked once more before that is a failure.
    InVain(Fault),
    /// A dry run would restart them.
    Would(String),
}
