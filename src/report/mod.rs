//! Reporters: they consume events and never call back.
//!
//! `reporters` makes one reporter that folds each event into one `RunSummary` and hands both to the sinks: the run log, JUnit, the page,
//! logs, the console, GitHub's step summary. A sink that cannot write is told of once and ends nothing.

pub mod console;
pub mod github;
pub mod html;
pub mod json;
pub mod junit;
pub mod logs;
pub mod merge;
pub mod runlog;
mod shares;
pub mod summary;
pub mod svg;
pub mod text;

#[cfg(test)]
mod played;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::engine::event::Stamped;
use crate::engine::record::Reporter;
use crate::report::summary::RunSummary;

/// How the run is reported. The environment's name comes with the run itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The report folder, created when needed.
    pub dir: PathBuf,
    /// The same as in `Event::RunStarted`: the CI's build tag where there is one, so that the processes of one build are known as such.
    pub run_id: String,
    /// Did the CI give `run_id`?
    pub run_id_from_ci: bool,
    pub flavor: junit::Flavor,
    /// `TEST-<stage>-<cell>.xml`: tells parallel processes of one stage apart (a shard, a matrix cell).
    pub cell: Option<String>,
    /// The repository's root; places in reports are relative to it.
    pub root: Option<PathBuf>,
    /// How the CI wants the path of an attached log.
    pub attachments: junit::Attachments,
    /// Where the report folder will be seen: `https://jenkins/job/shop/17/artifact/reports/`. Makes links of log files.
    pub artifacts_url: Option<String>,
    /// Given in a GitHub job only.
    pub github: Option<github::Options>,
    pub output: Output,
    /// -2 almost nothing, -1 failures and the summary, 0, 1 what waits wait for and what passing cases said.
    pub verbosity: i8,
    /// See `console::wants_color`.
    pub color: bool,
    /// Is the console's writer a terminal?
    pub terminal: bool,
    /// Columns; 0 where nothing is to be cut.
    pub width: usize,
}

/// What goes to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    #[default]
    Text,
    /// One JSON document at the end; the text goes to standard error.
    Json,
}

/// What is drawn from events. `run` has heard of `event` already.
pub(crate) trait Sink: Send {
    fn event(&mut self, event: &Stamped, run: &RunSummary);
    /// No other event waits: what was gathered of many is to be written.
    fn pause(&mut self) {}
    fn tick(&mut self, _run: &RunSummary) {}
    /// Why it could not write, once after each time.
    fn trouble(&mut self) -> Option<String> {
        None
    }
    /// Another sink could not write.
    fn warned(&mut self, _text: &str) {}
}

struct Reports {
    run: RunSummary,
    sinks: Vec<Box<dyn Sink>>,
    told: HashSet<String>,
}

impl Reports {
    fn new(run: RunSummary, sinks: Vec<Box<dyn Sink>>) -> Self {
        Self { run, sinks, told: HashSet::new() }
    }

    fn troubles(&mut self) {
        let troubles: Vec<String> = self.sinks.iter_mut().filter_map(|sink| sink.trouble()).collect();
        for trouble in troubles {
            self.warn(trouble);
        }
    }

    fn warn(&mut self, text: String) {
        if !self.told.contains(&text) {
            self.sinks.iter_mut().for_each(|sink| sink.warned(&text));
            self.told.insert(text);
        }
    }
}

impl Reporter for Reports {
    fn events(&mut self, events: &[Stamped]) {
        for event in events {
            self.run.event(event);
            self.sinks.iter_mut().for_each(|sink| sink.event(event, &self.run));
        }
        self.sinks.iter_mut().for_each(|sink| sink.pause());
        self.troubles();
    }

    fn tick(&mut self) {
        self.sinks.iter_mut().for_each(|sink| sink.tick(&self.run));
        self.troubles();
    }
}

/// All reporters of a run. `out` is standard output, `err` standard error.
pub fn reporters(options: &Options, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Vec<Box<dyn Reporter>> {
    let dir = &options.dir;
    let (run, trouble) = match runlog::begin(dir, &options.run_id, options.run_id_from_ci) {
        Ok(run) => (run, None),
        Err(error) => (RunSummary::default(), Some(format!("cannot use the report folder `{}`: {error}", dir.display()))),
    };
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(runlog::RunLog::new(dir))];
    sinks.extend(files(options));
    if let Some(path) = options.github.as_ref().and_then(|github| github.step_summary.clone()) {
        sinks.push(Box::new(github::StepSummary::new(path)));
    }
    match options.output {
        Output::Text => sinks.push(Box::new(console::Console::new(options, out))),
        Output::Json => {
            sinks.push(Box::new(console::Console::new(options, err)));
            sinks.push(Box::new(json::Json::new(out, dir)));
        }
    }
    let mut reports = Reports::new(run, sinks);
    if let Some(trouble) = trouble {
        reports.warn(trouble);
    }
    vec![Box::new(reports)]
}

/// The sinks that write files which can be made again from the run log.
fn files(options: &Options) -> Vec<Box<dyn Sink>> {
    vec![Box::new(logs::Logs::new(&options.dir)), Box::new(junit::Junit::new(options)), Box::new(html::Html::new(options))]
}

/// Writes by temp and rename: a reader sees the old file or the new one, never half of one.
fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temp = dir.join(format!(".{name}.{}.part", std::process::id()));
    let filled = File::create(&temp).map(BufWriter::new).and_then(|mut file| {
        write(&mut file)?;
        file.flush()
    });
    let written = filled.and_then(|()| std::fs::rename(&temp, path));
    if written.is_err() {
        // The first error is the one to tell; the rest of the file is of no use.
        let _gone = std::fs::remove_file(&temp);
    }
    written
}
