//! `meshstep report merge|show|html|rebuild`: reports of finished runs, made again from what they recorded.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use quick_junit::{Report, TestCase, TestCaseStatus, TestSuite};

use crate::engine::event::{Event, Stamped};
use crate::report::console::Console;
use crate::report::junit::{Dialect, file_name, render, serialize};
use crate::report::summary::RunSummary;
use crate::report::{Options, Sink, html, logs, runlog, write_whole};

/// One finished build, from a run log or a folder that has one. Processes of the build that came one after another count as one run.
pub fn load(path: &Path) -> io::Result<(RunSummary, Vec<Stamped>)> {
    let mut events = runlog::read(&log_in(path))?;
    events.iter_mut().for_each(|stamped| stamped.event.redact());
    if !events.iter().any(|stamped| matches!(stamped.event, Event::RunStarted { .. })) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{}` records no run", log_in(path).display())));
    }
    let mut run = RunSummary::of(&events);
    run.finish();
    Ok((run, events))
}

fn log_in(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(runlog::FILE) } else { path.to_owned() }
}

/// Several run logs as one: shards of a stage, stages of other machines. Of a case that two of them have, the worse verdict stands.
pub fn merged(paths: &[PathBuf]) -> io::Result<(RunSummary, Vec<Stamped>)> {
    let (mut all, mut events) = (RunSummary::default(), Vec::new());
    for path in paths {
        let (run, mut more) = load(path)?;
        all.merge(&run);
        events.append(&mut more);
    }
    Ok((all, events))
}

/// Writes every report of the run anew into `options.dir`: one XML file per stage, the page, the logs. Returns the written files.
pub fn rebuild(run: &RunSummary, events: &[Stamped], options: &Options) -> io::Result<Vec<PathBuf>> {
    let dialect = Dialect { build_tag: options.run_id_from_ci, ..Dialect::of(options) };
    let mut written = Vec::new();
    for stage in &run.stages {
        let path = options.dir.join(file_name(&stage.name, options.cell.as_deref()));
        write_whole(&path, |file| render(run, stage, &dialect, file))?;
        written.push(path);
    }
    written.push(page(run, &options.dir)?);
    let mut logs = logs::Logs::new(&options.dir);
    for event in events {
        logs.event(event, run);
    }
    match logs.trouble() {
        Some(trouble) => Err(io::Error::other(trouble)),
        None => Ok(written),
    }
}

/// Writes `index.html` alone.
pub fn page(run: &RunSummary, dir: &Path) -> io::Result<PathBuf> {
    let path = dir.join("index.html");
    write_whole(&path, |file| html::page(run, file))?;
    Ok(path)
}

/// What the console said of a finished run: by `options.verbosity` everything (0) or failures and the summary (-1). Returns the exit
/// code that all cases together call for.
pub fn show(run: &RunSummary, options: &Options, out: Box<dyn Write + Send>) -> u8 {
    let mut console = Console::new(&Options { terminal: false, ..options.clone() }, out);
    let exit = run.overall_exit();
    console.finished(run, exit);
    exit
}

/// Merges JUnit files of any writer, by suite: for folders without a run log. A case that two files have keeps the worse verdict.
/// Returns the name of each suite and its file's text.
pub fn junit(files: &[String]) -> Result<Vec<(String, String)>, quick_junit::DeserializeError> {
    let mut suites: Vec<TestSuite> = Vec::new();
    for text in files {
        for suite in Report::deserialize_from_str(text)?.test_suites {
            match suites.iter_mut().find(|known| known.name == suite.name) {
                Some(known) => known.test_cases.extend(suite.test_cases),
                None => suites.push(suite),
            }
        }
    }
    Ok(suites.into_iter().map(|suite| (suite.name.as_str().to_owned(), one_suite(suite))).collect())
}

fn one_suite(mut suite: TestSuite) -> String {
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    let mut cases: Vec<TestCase> = Vec::new();
    for case in std::mem::take(&mut suite.test_cases) {
        let key = (case.classname.as_deref().unwrap_or_default().to_owned(), case.name.as_str().to_owned());
        match places.get(&key) {
            Some(&at) if badness(&case) > badness(&cases[at]) => cases[at] = case,
            Some(_) => {}
            None => {
                places.insert(key, cases.len());
                cases.push(case);
            }
        }
    }
    (suite.tests, suite.failures, suite.errors, suite.skipped) = (0, 0, 0, 0);
    suite.add_test_cases(cases);
    let mut report = Report::new(suite.name.as_str());
    report.time = suite.time;
    report.add_test_suite(suite);
    serialize(&report)
}

fn badness(case: &TestCase) -> u8 {
    match &case.status {
        TestCaseStatus::NonSuccess { kind: quick_junit::NonSuccessKind::Error, .. } => 4,
        TestCaseStatus::NonSuccess { .. } => 3,
        TestCaseStatus::Success { flaky_runs } if !flaky_runs.is_empty() => 2,
        TestCaseStatus::Success { .. } => 1,
        TestCaseStatus::Skipped { .. } => 0,
    }
}

/// The merged run as the events of one: what `show`, `html` and `replay` of the merged folder read. Simply put one after another, the
/// logs of shards would read as retries of each other.
fn as_one_run(run: &RunSummary, events: &[Stamped]) -> Vec<Stamped> {
    let start = run.started.unwrap_or_default();
    let end = events.last().map_or(start, |stamped| stamped.at);
    let header = run.run.clone();
    let mut all = vec![Stamped {
        at: start,
        event: Event::RunStarted {
            run_id: header.run_id,
            tool: header.tool,
            pipeline: header.pipeline,
            environment: header.environment,
            stages: header.stages,
            hostname: header.hostname,
            build_url: header.build_url,
            dry_run: header.dry_run,
        },
    }];
    for stage in &run.stages {
        all.push(Stamped { at: stage.started, event: Event::StageStarted { stage: stage.name.clone() } });
        let observed = events.iter().filter(|stamped| matches!(&stamped.event, Event::Observed { case, .. } if case.stage == stage.name));
        all.extend(observed.cloned());
        for case in run.stage_cases(&stage.name) {
            all.push(Stamped { at: case.end.started, event: Event::CaseEnded(Box::new(case.end.clone())) });
        }
        for running in run.running.iter().filter(|running| running.case.stage == stage.name) {
            all.push(Stamped { at: running.started, event: Event::CaseStarted { case: running.case.clone() } });
        }
        if !stage.open {
            all.push(Stamped { at: end, event: Event::StageEnded { stage: stage.name.clone(), seconds: stage.seconds } });
        }
    }
    all.push(Stamped { at: end, event: Event::RunEnded { exit: run.overall_exit(), seconds: run.seconds } });
    all
}

/// Merges report folders and run logs into `options.dir`. Where every path has a run log everything is rebuilt; else the XML files are
/// merged and the rest is left out. Returns the written files.
pub fn folders(paths: &[PathBuf], options: &Options) -> io::Result<Vec<PathBuf>> {
    if paths.iter().all(|path| log_in(path).is_file()) {
        let (run, events) = merged(paths)?;
        let mut written = rebuild(&run, &events, options)?;
        let log = options.dir.join(runlog::FILE);
        write_whole(&log, |file| {
            as_one_run(&run, &events).iter().try_for_each(|event| {
                serde_json::to_writer(&mut *file, event)?;
                file.write_all(b"\n")
            })
        })?;
        written.push(log);
        return Ok(written);
    }
    let mut files = Vec::new();
    for path in paths {
        for file in xml_files(path)? {
            files.push(fs::read_to_string(&file).map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", file.display())))?);
        }
    }
    let suites = junit(&files).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let mut written = Vec::new();
    for (name, text) in suites {
        // `staging.deploy` is the suite of stage `deploy`.
        let path = options.dir.join(file_name(name.rsplit('.').next().unwrap_or(&name), options.cell.as_deref()));
        write_whole(&path, |file| file.write_all(text.as_bytes()))?;
        written.push(path);
    }
    Ok(written)
}

fn xml_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files: Vec<PathBuf> = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "xml"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
