//! Runs stages: from parsed flags to an exit code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::{finding, secrets};
use crate::cli::args::{LockFlags, ReleasesFlags, RepairFlags, StageArgs};
use crate::cli::private::Private;
use crate::cli::settings::Environment;
use crate::cli::{console, runtime, sandbox, signals};
use crate::clients::http::Http;
use crate::clients::tools::Tools;
use crate::engine::event::Event;
use crate::engine::ledger::Ledger;
use crate::engine::outcome::exit_code;
use crate::engine::record::Recorder;
use crate::engine::runner::{self, Policy};
use crate::engine::{Ctx, Stage};
use crate::spec;
use crate::stages::{self, Filters, Given, Options, Shared};

/// What a command wants run.
pub(super) struct Job {
    args: StageArgs,
    stages: Vec<&'static str>,
    options: Options,
    policy: Policy,
    lock_id: Option<String>,
}

impl Job {
    pub(super) fn new(stages: Vec<&'static str>, args: StageArgs, options: Options) -> Self {
        Self { args, stages, options, policy: Policy::default(), lock_id: None }
    }

    pub(super) fn locked(mut self, flags: LockFlags) -> Self {
        self.options.lock_timeout = flags.lock_timeout.0;
        self.lock_id = flags.lock_id;
        self
    }

    pub(super) fn fail_on_repair(mut self, flags: &RepairFlags) -> Self {
        self.policy.fail_on_repair = flags.fail_on_repair;
        self
    }

    /// `--check`: a dry run whose pending changes are exit code 10.
    pub(super) fn check(mut self, check: bool) -> Self {
        self.policy.check = check;
        self.args.dry_run |= check;
        self
    }

    /// Runs the stages and returns the exit code.
    pub(super) fn run(self, environment: Environment) -> u8 {
        let runtime = runtime();
        let exit = runtime.block_on(run(self, environment));
        // Whatever still runs (a name look-up, a watch) must not keep the process.
        runtime.shutdown_background();
        exit
    }
}

impl ReleasesFlags {
    pub(super) fn options(&self, options: Options) -> Options {
        Options {
            recover_pending: self.recover_pending,
            allow_new_alb: self.allow_new_alb,
            allow_team_change: self.allow_team_change,
            take_ownership: self.take_ownership,
            ..options
        }
    }
}

async fn run(job: Job, mut environment: Environment) -> u8 {
    let Job { args, stages, mut options, policy, lock_id } = job;
    secrets::learn_environment(environment.process().iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let run_id = environment.run_id();
    let cancel = CancellationToken::new();
    let reporters = console::reporters(&args.report, &environment, &run_id);
    let record = Recorder::new(reporters, cancel.clone());
    signals::abort_on_signal(record.clone());
    if let Some(limit) = args.timeout {
        signals::abort_after(record.clone(), limit);
    }

    let vars = environment.file_vars(&args.vars);
    let loaded = spec::load(&args.file, &vars);
    let (pipeline, label) = match &loaded {
        Ok(loaded) => (loaded.pipeline.name.clone(), loaded.pipeline.environment.clone()),
        Err(_) => (args.file.display().to_string(), "default".to_owned()),
    };
    record.emit(started(&environment, &run_id, &pipeline, &label, &stages, args.dry_run));
    let first = record.for_stage(stages[0]);
    let mut loaded = match loaded {
        Ok(loaded) => loaded,
        Err(findings) => return setup_failed(&record, stages[0], finding::fault(Code::FileInvalid, &findings)),
    };
    for warning in &loaded.warnings {
        first.note(format!("{}: warning: {}", warning.place, warning.message));
    }

    let dir = args.file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
    let filters = Filters { services: args.service, namespaces: args.namespace, hosts: args.host };
    if let Some(fault) = filters.unknown(&loaded.pipeline, &dir) {
        return setup_failed(&record, stages[0], fault);
    }
    for note in filters.untouched(&stages) {
        first.note(note);
    }

    let sandbox = match &args.sandbox {
        None => None,
        Some(world) => match sandbox::start(world.as_deref(), &mut environment, &stages, |line: &str| first.note(line)).await {
            Ok(started) => Some(started),
            Err(fault) => return setup_failed(&record, stages[0], fault),
        },
    };
    let folders = match Folders::make(&args.report.report_dir, &run_id, args.dry_run) {
        Ok(folders) => folders,
        Err(fault) => return setup_failed(&record, stages[0], fault),
    };
    options.stages.clone_from(&stages);
    if let (Some(from), Some(verify)) = (options.asked_from, &mut loaded.pipeline.verify) {
        verify.from = from;
    }
    options.cacert = options.cacert.or_else(|| environment.get("MESHSTEP_CACERT").map(PathBuf::from));
    let tools = Tools::new(environment.settings(), cancel);
    let http = match Http::new(tools.settings()) {
        Ok(http) => http,
        Err(fault) => return setup_failed(&record, stages[0], fault),
    };
    let shared = Arc::new(Shared::new(Given {
        pipeline: loaded.pipeline,
        places: loaded.places,
        dir,
        filters,
        options,
        lock_id: lock_id.unwrap_or_else(|| run_id.clone()),
        build_url: environment.build_url(),
        run_id,
        run_dir: folders.private.path().to_path_buf(),
        tools,
        http,
    }));
    let ctx = Ctx { shared: Arc::clone(&shared), record: record.clone(), ledger: folders.ledger.clone(), dry_run: args.dry_run };
    let line: Vec<Box<dyn Stage<Shared>>> = stages.iter().filter_map(|id| stages::named(id)).collect();
    let exit = runner::run(&line, &ctx, policy).await;
    stages::lock::release(&shared.lock).await;
    if let Some(started) = sandbox {
        started.stop();
    }
    forgiven(args.exit_zero, exit)
}

/// The exit code with `--exit-zero`, which forgives what a report tells, but neither a defect, nor a wrong call, nor an interruption.
pub(super) fn forgiven(exit_zero: bool, exit: u8) -> u8 {
    if exit_zero && (3..=11).contains(&exit) { 0 } else { exit }
}

/// The event that opens a run.
pub(super) fn started(environment: &Environment, run_id: &str, pipeline: &str, label: &str, stages: &[&str], dry_run: bool) -> Event {
    Event::RunStarted {
        run_id: run_id.to_owned(),
        tool: concat!("meshstep ", env!("CARGO_PKG_VERSION")).to_owned(),
        pipeline: pipeline.to_owned(),
        environment: label.to_owned(),
        stages: stages.iter().map(ToString::to_string).collect(),
        hostname: gethostname::gethostname().to_string_lossy().into_owned(),
        build_url: environment.build_url(),
        dry_run,
    }
}

/// The folders of one run.
struct Folders {
    private: Private,
    ledger: Ledger,
}

impl Folders {
    fn make(reports: &Path, run_id: &str, dry_run: bool) -> Result<Self, Fault> {
        let private = Private::make()?;
        let ledger = if dry_run { Ledger::none() } else { Ledger::open(&reports.join("ledger.jsonl"), run_id)? };
        Ok(Self { private, ledger })
    }
}

/// Reports a failure before any stage could begin, as a case of the first one, so that the report is never empty.
fn setup_failed(record: &Recorder, stage: &str, fault: Fault) -> u8 {
    let exit = exit_code(fault.class);
    record.emit(Event::StageStarted { stage: stage.to_owned() });
    record.for_stage(stage).case("setup").fail(fault);
    record.emit(Event::StageEnded { stage: stage.to_owned(), seconds: Duration::ZERO });
    record.end(exit, Duration::ZERO);
    exit
}
