//! What a stage is, and how a line of stages is run. The engine knows no Kubernetes: stages bring their own context.

pub mod event;
pub mod ledger;
pub mod outcome;
pub mod record;
mod redact;
pub mod runner;

use std::sync::Arc;

use async_trait::async_trait;

use crate::base::fault::Result;
use crate::engine::ledger::Ledger;
use crate::engine::record::Recorder;

/// Whether a stage has anything to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// One of the closed list of reasons of the report, e.g. `no services: section in the file`.
    Skip(String),
}

/// What every stage gets: its context `C`, the recorder of its cases, and how the run is meant.
pub struct Ctx<C> {
    pub shared: Arc<C>,
    pub record: Recorder,
    pub ledger: Ledger,
    /// Touch nothing; say what would change.
    pub dry_run: bool,
}

/// One step of the runbook.
///
/// Laws: `check` only reads. `apply` is idempotent, and writes an intent to the ledger before each create; in a dry run it only
/// says what it would change. Nothing is undone after a failure: what was deployed stays as it is, with the evidence. A stage that makes
/// something temporary removes it itself, whatever happens, takes not-found for done, and retries.
#[async_trait]
pub trait Stage<C: Send + Sync>: Send + Sync {
    /// The subcommand and the JUnit suite: `deploy`.
    fn id(&self) -> &'static str;

    async fn check(&self, ctx: &Ctx<C>) -> Result<Readiness>;

    /// Reports every step as a case. A fault that belongs to a case is reported by it and not returned again;
    /// a returned fault becomes the case `setup`.
    async fn apply(&self, ctx: &Ctx<C>) -> Result<()>;
}
