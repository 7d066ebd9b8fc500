//! `meshstep report`: the reports of finished runs.

use std::path::{Path, PathBuf};

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::cli::args::{ReportArgs, ReportCommand};
use crate::cli::settings::Environment;
use crate::cli::{console, print};
use crate::report::merge;

/// Returns the exit code: of `show` the one that the cases call for.
pub(super) fn run(command: ReportCommand, environment: &Environment) -> Result<u8> {
    let options = |report: &ReportArgs| console::options(report, environment, &environment.run_id());
    match command {
        ReportCommand::Show { report } => {
            let (run, _) = merge::load(&report.report_dir).map_err(|e| unusable(&report.report_dir, &e))?;
            Ok(merge::show(&run, &options(&report), Box::new(std::io::stdout())))
        }
        ReportCommand::Html { report } => {
            let (run, _) = merge::load(&report.report_dir).map_err(|e| unusable(&report.report_dir, &e))?;
            let page = merge::page(&run, &report.report_dir).map_err(|e| unusable(&report.report_dir, &e))?;
            told(&[page]);
            Ok(0)
        }
        ReportCommand::Rebuild { report } => {
            let (run, events) = merge::load(&report.report_dir).map_err(|e| unusable(&report.report_dir, &e))?;
            told(&merge::rebuild(&run, &events, &options(&report)).map_err(|e| unusable(&report.report_dir, &e))?);
            Ok(0)
        }
        ReportCommand::Merge { from, report } => {
            told(&merge::folders(&from, &options(&report)).map_err(|e| unusable(&report.report_dir, &e))?);
            Ok(0)
        }
    }
}

fn told(written: &[PathBuf]) {
    for path in written {
        print(&path.display().to_string());
    }
}

fn unusable(dir: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Code::FileUnreadable, format!("{}: {error}", dir.display())).next("name the folder of a finished run with `--report-dir`")
}
