//! Runs stages in order: check, apply, and what follows from a failure or an abort.

use std::time::{Duration, Instant};

use crate::base::fault::Class;
use crate::engine::event::Event;
use crate::engine::outcome::worst;
use crate::engine::record::{NOT_STARTED, Recorder};
use crate::engine::{Ctx, Readiness, Stage};

/// How the whole run is judged beside its cases.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// A repaired fault counts as a failure.
    pub fail_on_repair: bool,
    /// Pending changes (dry run, `--check`) make exit code 10.
    pub check: bool,
}

/// Runs `stages` in order and returns the exit code. After a stage with a failed case the rest is skipped, with that reason.
pub async fn run<C: Send + Sync>(stages: &[Box<dyn Stage<C>>], ctx: &Ctx<C>, policy: Policy) -> u8 {
    let start = Instant::now();
    let ticking = tokio::spawn(tick(ctx.record.clone()));
    let mut blocked: Option<String> = None;
    for stage in stages {
        let record = ctx.record.for_stage(stage.id());
        let ctx = Ctx { shared: ctx.shared.clone(), record: record.clone(), ledger: ctx.ledger.for_stage(stage.id()), dry_run: ctx.dry_run };
        let clock = Instant::now();
        record.emit(Event::StageStarted { stage: stage.id().to_owned() });
        if record.aborted().is_some() {
            record.case(stage.id()).skip(NOT_STARTED);
        } else if let Some(reason) = &blocked {
            record.case(stage.id()).skip(reason);
        } else {
            let before = record.faults().len();
            run_stage(stage.as_ref(), &ctx).await;
            if record.faults().len() > before {
                blocked = Some(format!("needs {} (failed)", stage.id()));
            }
        }
        record.emit(Event::StageEnded { stage: stage.id().to_owned(), seconds: clock.elapsed() });
    }
    ticking.abort();
    let exit = exit_code(ctx, policy);
    ctx.record.end(exit, start.elapsed());
    exit
}

async fn run_stage<C: Send + Sync>(stage: &dyn Stage<C>, ctx: &Ctx<C>) {
    match stage.check(ctx).await {
        Ok(Readiness::Skip(reason)) => ctx.record.case(stage.id()).skip(reason),
        Ok(Readiness::Ready) => {
            if let Err(fault) = stage.apply(ctx).await {
                ctx.record.case("setup").fail(fault);
            }
        }
        Err(fault) => ctx.record.case("setup").fail(fault),
    }
}

fn exit_code<C>(ctx: &Ctx<C>, policy: Policy) -> u8 {
    if let Some(exit) = ctx.record.aborted().and_then(|aborted| aborted.exit) {
        return exit;
    }
    let mut classes = ctx.record.faults();
    if policy.fail_on_repair && ctx.record.repaired() > 0 {
        classes.push(Class::Broken);
    }
    if policy.check && ctx.record.would_change() > 0 {
        classes.push(Class::Pending);
    }
    worst(classes)
}

/// Lets reporters write what they write at intervals.
pub async fn tick(record: Recorder) {
    const PAUSE: Duration = Duration::from_millis(500);
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + PAUSE, PAUSE);
    loop {
        interval.tick().await;
        record.tick();
    }
}
