//! `run.jsonl`: every event as a line, written as soon as no other event waits, so that a killed run leaves all it knew.
//!
//! In CI each stage is a process of its own with the same `reports/` folder. Processes of one build share a run id (the CI's build tag),
//! and the file is append-only for as long as that id stays the same: a stage `retry` must find the failures it repeats in order to show
//! them as attempts, and `report rebuild` must find all stages. Another run id starts anew: the file before becomes
//! `run.previous.jsonl` (one is kept; archiving is the CI's business), and when the CI gave the id, the XML files and logs of the former
//! build are removed, for readers take what lies in the folder as this build's. Without a build tag every process is a run of its own,
//! but other stages' files are left alone: nobody can tell whether they are stale.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::engine::event::{Event, Stamped};
use crate::report::Sink;
use crate::report::summary::RunSummary;

pub const FILE: &str = "run.jsonl";
const PREVIOUS: &str = "run.previous.jsonl";

/// The events of a run log. Lines that are not whole events are left out: a killed process leaves a cut one, also in the middle when
/// another process went on.
pub fn read(path: &Path) -> io::Result<Vec<Stamped>> {
    Ok(events(BufReader::new(File::open(path)?)).collect())
}

/// As `read`, one after another: a log with observations is larger than what it comes to.
fn events(source: impl BufRead) -> impl Iterator<Item = Stamped> {
    source.split(b'\n').map_while(Result::ok).filter_map(|line| serde_json::from_slice(&line).ok())
}

/// Prepares the folder for a process of run `run_id` and returns the run as earlier processes of the same build recorded it.
pub(super) fn begin(dir: &Path, run_id: &str, from_ci: bool) -> io::Result<RunSummary> {
    fs::create_dir_all(dir)?;
    // Parallel stages may share the folder: one at a time decides whether it starts anew. Where folders cannot be locked, none waits.
    let lock = File::open(dir).ok();
    let _locked = lock.as_ref().map(File::lock);
    let path = dir.join(FILE);
    match first_run_id(&path)? {
        None => Ok(RunSummary::default()),
        Some(found) if found == run_id => {
            let mut run = RunSummary::default();
            events(BufReader::new(File::open(&path)?)).for_each(|event| run.event(&event));
            run.close_earlier();
            Ok(run)
        }
        Some(_) => {
            fs::rename(&path, dir.join(PREVIOUS))?;
            if from_ci {
                remove_former(dir, run_id)?;
            }
            Ok(RunSummary::default())
        }
    }
}

/// The id of the run that a log belongs to; empty when its beginning is unreadable.
fn first_run_id(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut line = Vec::new();
    BufReader::new(file.take(1 << 20)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let run_id = match serde_json::from_slice::<Stamped>(&line).map(|stamped| stamped.event) {
        Ok(Event::RunStarted { run_id, .. }) => run_id,
        _ => String::new(),
    };
    Ok(Some(run_id))
}

/// Removes what another build left; only files that say that they are ours and not of `run_id`.
fn remove_former(dir: &Path, run_id: &str) -> io::Result<()> {
    let own = crate::report::junit::run_id_property(run_id);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("TEST-") && name.ends_with(".xml") {
            let mut head = vec![0; 4096];
            let n = File::open(entry.path())?.read(&mut head)?;
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            if head.contains(r#"<property name="run.id""#) && !head.contains(&own) {
                fs::remove_file(entry.path())?;
            }
        }
    }
    match fs::remove_dir_all(dir.join("logs")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) struct RunLog {
    dir: PathBuf,
    file: Option<File>,
    /// Lines that are not written yet.
    lines: Vec<u8>,
    trouble: Option<String>,
}

impl RunLog {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), file: None, lines: Vec::new(), trouble: None }
    }

    /// Writes the lines; those that were not written whole stay.
    fn write(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            fs::create_dir_all(&self.dir)?;
            self.file = Some(open(&self.dir.join(FILE))?);
        }
        let file = self.file.as_mut().expect("it was opened above");
        let mut written = 0;
        let done = loop {
            match file.write(&self.lines[written..]) {
                Ok(0) => break Ok(()),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let whole = self.lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.lines.drain(..whole);
        done
    }
}

/// Opens for appending, after the end of a line.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [b'\n'];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

impl Sink for RunLog {
    fn event(&mut self, event: &Stamped, _run: &RunSummary) {
        // A folder that was cleaned under a running process: the open file would swallow everything.
        if matches!(event.event, Event::StageStarted { .. } | Event::StageEnded { .. } | Event::RunEnded { .. }) && !self.dir.join(FILE).exists() {
            self.file = None;
        }
        serde_json::to_writer(&mut self.lines, event).expect("memory takes it, and all keys are texts");
        self.lines.push(b'\n');
    }

    fn pause(&mut self) {
        if let Err(error) = self.write() {
            // The next pause tries again: a full disk may be emptied. A line that was half written is ended first.
            self.file = None;
            self.trouble = Some(format!("cannot write `{}`: {error}", self.dir.join(FILE).display()));
        }
    }

    fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}

#[cfg(test)]
mod tests;
