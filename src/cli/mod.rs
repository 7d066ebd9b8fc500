//! Arguments, settings and dispatch: the only room that reads the environment and the only one that knows the sandbox.

pub mod args;
mod console;
mod direct;
pub mod explain;
pub mod helm;
mod init;
mod private;
mod replay;
mod reports;
mod routes;
mod run;
mod sandbox;
pub mod selection;
pub mod settings;
mod signals;
mod validate;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use secrecy::ExposeSecret;

use crate::base::fault::{Fault, Result};
use crate::base::secrets;
use crate::cli::args::{
    CleanupArgs, Cli, Command, Output, ReleasesApplyArgs, ReleasesArgs, ReleasesCommand, SandboxCommand, StageArgs, TokenArgs, TroubleshootCommand,
};
use crate::cli::run::Job;
use crate::cli::settings::Environment;
use crate::clients::aws::{Account, Aws};
use crate::domain::eks::credential::exec_credential;
use crate::engine::outcome::exit_code;
use crate::stages::Options;
use crate::stages::releases::manage::Task;

const USAGE: u8 = 2;

/// Parses the command line, carries it out, and returns the exit code of the README's table.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a closed pipe is nobody's concern.
            let _closed = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    ExitCode::from(dispatch(cli.command).unwrap_or_else(|fault| told(&fault)))
}

fn dispatch(command: Command) -> Result<u8> {
    let environment = Environment::of_process();
    match command {
        Command::Run(run) => {
            let chosen = match selection::chosen(&run.only, run.from.as_deref(), run.until.as_deref()) {
                Ok(chosen) => chosen,
                Err(message) => return Ok(usage(&message)),
            };
            let options = run.releases.options(Options {
                allow_mesh_change: run.mesh.allow_mesh_change,
                no_preflight: run.preflight.no_preflight,
                cacert: run.cacert.cacert,
                ..Options::default()
            });
            Ok(Job::new(chosen, run.stage, options).locked(run.lock).fail_on_repair(&run.repair).run(environment))
        }
        Command::Doctor(stage) => Ok(Job::new(vec!["doctor"], stage, Options::default()).run(environment)),
        Command::Connect(connect) => {
            let options = Options { write_kubeconfig: connect.write_kubeconfig, ..Options::default() };
            Ok(Job::new(vec!["connect"], connect.stage, options).run(environment))
        }
        Command::Mesh(mesh) => {
            let options = Options { allow_mesh_change: mesh.mesh.allow_mesh_change, ..Options::default() };
            Ok(Job::new(vec!["mesh"], mesh.stage, options).locked(mesh.lock).run(environment))
        }
        Command::Deploy(deploy) => {
            let options = Options { no_preflight: deploy.preflight.no_preflight, ..Options::default() };
            Ok(Job::new(vec!["deploy"], deploy.stage, options).locked(deploy.lock).run(environment))
        }
        Command::Routes(routes) => match routes.command {
            Some(command) => routes::run(command),
            None => Ok(Job::new(vec!["routes"], routes.stage, Options::default()).check(routes.check).run(environment)),
        },
        Command::Releases(releases) => Ok(self::releases(releases, environment)),
        Command::Ingress(ingress) => {
            let options = Options { cacert: ingress.cacert.cacert, ..Options::default() };
            Ok(Job::new(vec!["ingress"], ingress.stage, options).run(environment))
        }
        Command::Verify(verify) if verify.direct.address.is_some() => direct::run(verify, environment),
        Command::Verify(verify) => {
            let options =
                Options { cacert: verify.cacert.cacert, shard: verify.shard, asked_from: verify.from.map(Into::into), ..Options::default() };
            Ok(Job::new(vec!["verify"], verify.stage, options).locked(verify.lock).fail_on_repair(&verify.repair).run(environment))
        }
        Command::Redeploy(redeploy) => {
            let options = Options { cacert: redeploy.cacert.cacert, ..Options::default() };
            Ok(Job::new(vec!["redeploy"], redeploy.stage, options).locked(redeploy.lock).fail_on_repair(&redeploy.repair).run(environment))
        }
        Command::Replay(replay) => replay::run(&replay),
        Command::Troubleshoot(troubleshoot) => {
            if let Some(TroubleshootCommand::Certificates(stage)) = troubleshoot.command {
                return Ok(Job::new(vec!["certificates"], stage, Options::default()).run(environment));
            }
            let options = Options { cacert: troubleshoot.cacert.cacert, ..Options::default() };
            Ok(Job::new(vec!["troubleshoot"], troubleshoot.stage, options).run(environment))
        }
        Command::Cleanup(cleanup) => {
            let CleanupArgs { yes: confirmed, discard_ca, purge_foreign, stage, lock } = cleanup;
            let options = Options { confirmed, discard_ca, purge_foreign, ..Options::default() };
            Ok(Job::new(vec!["cleanup"], stage, options).locked(lock).run(environment))
        }
        Command::Validate(validate) => Ok(validate::run(&validate, &environment)),
        Command::Init(init) => init::run(&init, &environment),
        Command::Explain(explain) => explained(explain.code.as_deref(), explain.output),
        Command::Report(command) => reports::run(command, &environment),
        Command::Sandbox(SandboxCommand::Serve { world, env_file }) => {
            runtime().block_on(sandbox::serve(world.as_deref(), env_file.as_deref(), environment))?;
            Ok(0)
        }
        Command::SandboxTool { args } => Ok(sandbox::tool(&args)),
        Command::Token(args) => runtime().block_on(token(&args, &environment)),
        Command::Schema => {
            print(&crate::spec::schema());
            Ok(0)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "meshstep", &mut std::io::stdout());
            Ok(0)
        }
        Command::Man { dir } => {
            let written = std::fs::create_dir_all(&dir).and_then(|()| clap_mangen::generate_to(Cli::command(), &dir));
            written.map_err(|e| Fault::new(crate::base::codes::Code::FileUnreadable, format!("cannot write to {}: {e}", dir.display())))?;
            Ok(0)
        }
    }
}

fn releases(args: ReleasesArgs, environment: Environment) -> u8 {
    let task = |task, stage: StageArgs| Job::new(vec!["releases"], stage, Options { releases_task: task, ..Options::default() });
    let apply = |args: ReleasesApplyArgs, dry: bool| {
        let stage = StageArgs { dry_run: args.stage.dry_run || dry, ..args.stage };
        Job::new(vec!["releases"], stage, args.releases.options(Options::default())).locked(args.lock).check(args.check)
    };
    let job = match args.command {
        None => apply(args.apply, false),
        Some(ReleasesCommand::Apply(args)) => apply(args, false),
        Some(ReleasesCommand::Plan(args)) => apply(args, true),
        Some(ReleasesCommand::Status { names, stage }) => task(Task::Status(names), stage),
        Some(ReleasesCommand::History { name, stage }) => task(Task::History(name), stage),
        Some(ReleasesCommand::Rollback { name, to, stage, lock }) => task(Task::Rollback { name, to }, stage).locked(lock),
        Some(ReleasesCommand::Remove { name, stage, lock }) => task(Task::Remove(name), stage).locked(lock),
    };
    job.run(environment)
}

fn runtime() -> tokio::runtime::Runtime {
    crate::clients::install_crypto_provider();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the operating system gives threads")
}

fn explained(code: Option<&str>, output: Output) -> Result<u8> {
    let codes = match code.map(explain::find).transpose() {
        Ok(code) => code,
        Err(message) => return Ok(usage(&message)),
    };
    match (codes, output) {
        (Some(code), Output::Text) => print(&explain::text(code)),
        (Some(code), Output::Json) => print(&explain::json(&[code])),
        (None, Output::Text) => print(&explain::list()),
        (None, Output::Json) => print(&explain::json(crate::base::codes::Code::ALL)),
    }
    Ok(0)
}

async fn token(args: &TokenArgs, environment: &Environment) -> Result<u8> {
    let account = Account { region: Some(args.region.clone()), profile: args.profile.clone(), role_arn: args.role_arn.clone() };
    let token = Aws::connect(&account, &environment.settings()).await?.eks_token(&args.cluster).await?;
    print(&exec_credential(token.secret.expose_secret(), token.expires).to_string());
    Ok(0)
}

/// Prints to standard output; a closed pipe ends nothing.
fn print(text: &str) {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    let _closed = write!(std::io::stdout(), "{text}{newline}");
}

/// Prints to standard error.
fn print_error(text: &str) {
    let _closed = writeln!(std::io::stderr(), "{text}");
}

fn usage(message: &str) -> u8 {
    print_error(&format!("error: {message}"));
    USAGE
}

/// Prints a fault that belongs to no run, and returns its exit code.
fn told(fault: &Fault) -> u8 {
    let mut lines = vec![match &fault.place {
        Some(place) => format!("error: {place}: {}", fault.message),
        None => format!("error: {}", fault.message),
    }];
    lines.extend(fault.evidence.iter().map(|evidence| evidence.text.clone()));
    lines.extend(fault.next_steps().into_iter().map(|step| format!("  next: {step}")));
    print_error(&secrets::redact(&lines.join("\n")));
    exit_code(fault.class)
}
