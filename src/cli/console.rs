//! How this process reports: the flags and the environment as the reporters' options.

use std::path::PathBuf;

use crate::cli::args::{self, ConsoleArgs, ReportArgs};
use crate::cli::settings::{Environment, Terminal};
use crate::engine::record::Reporter;
use crate::report::console::{ColorChoice, wants_color};
use crate::report::{self, Options, github, junit};

/// All reporters of a run.
pub(super) fn reporters(args: &ReportArgs, environment: &Environment, run_id: &str) -> Vec<Box<dyn Reporter>> {
    report::reporters(&options(args, environment, run_id), Box::new(std::io::stdout()), Box::new(std::io::stderr()))
}

pub(super) fn options(args: &ReportArgs, environment: &Environment, run_id: &str) -> Options {
    let terminal = Terminal::look();
    let (output, terminal) = match args.console.output {
        args::Output::Text => (report::Output::Text, terminal.stdout),
        args::Output::Json => (report::Output::Json, terminal.stderr),
    };
    // A log is no screen, even where the runner lends a terminal: a live line would stand before the commands that the host reads.
    let terminal = terminal && !environment.in_ci();
    Options {
        dir: args.report_dir.clone(),
        run_id: run_id.to_owned(),
        run_id_from_ci: environment.run_id_from_ci(),
        flavor: match args.junit_flavor {
            args::Flavor::Rich => junit::Flavor::Rich,
            args::Flavor::Strict => junit::Flavor::Strict,
        },
        cell: None,
        root: environment.workspace().or_else(|| std::env::current_dir().ok()),
        attachments: attachments(environment),
        artifacts_url: environment.get("BUILD_URL").map(|url| format!("{url}artifact/{}/", args.report_dir.display())),
        github: environment.on_github().then(|| github_options(environment)),
        output,
        verbosity: verbosity(&args.console),
        color: color(&args.console, environment, terminal),
        terminal,
        width: width(environment, terminal),
    }
}

fn attachments(environment: &Environment) -> junit::Attachments {
    if environment.get("JENKINS_URL").is_some() {
        junit::Attachments::Absolute
    } else if environment.get("GITLAB_CI").is_some() {
        junit::Attachments::Relative
    } else {
        junit::Attachments::None
    }
}

fn verbosity(console: &ConsoleArgs) -> i8 {
    i8::from(console.verbose) - i8::from(console.quiet)
}

/// Columns to keep to: the terminal's; 0 where nothing is to be cut.
fn width(environment: &Environment, terminal: bool) -> usize {
    let told: Option<usize> = environment.get("COLUMNS").and_then(|columns| columns.parse().ok());
    if terminal { told.or_else(|| terminal_size::terminal_size().map(|(width, _)| width.0.into())).unwrap_or(100) } else { 0 }
}

fn color(console: &ConsoleArgs, environment: &Environment, terminal: bool) -> bool {
    let choice = match console.color {
        args::Color::Auto => ColorChoice::Auto,
        args::Color::Always => ColorChoice::Always,
        args::Color::Never => ColorChoice::Never,
    };
    wants_color(choice, terminal, |name| environment.get(name).map(str::to_owned))
}

fn github_options(environment: &Environment) -> github::Options {
    github::Options { step_summary: environment.get("GITHUB_STEP_SUMMARY").map(PathBuf::from) }
}
