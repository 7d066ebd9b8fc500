//! The played run, as a terminal and a CI log show it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;

use super::*;
use crate::report::played::{self, Play};

/// A writer that can be read afterwards.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("lock").clone()).expect("UTF-8")
    }
}

fn played_with(events: &[Stamped], options: &Options) -> String {
    let paper = Paper::default();
    let mut console = Console::new(options, Box::new(paper.clone()));
    let mut run = RunSummary::default();
    for event in events {
        run.event(event);
        console.event(event, &run);
    }
    console.pause();
    paper.text()
}

fn ci() -> Options {
    Options { dir: "reports".into(), ..Options::default() }
}

#[test]
fn a_log_without_colour() {
    insta::assert_snapshot!(played_with(&played::all(), &ci()));
}

#[test]
fn a_narrow_terminal_with_colour() {
    let text = played_with(&played::all(), &Options { color: true, width: 100, ..ci() });
    insta::assert_snapshot!(text.replace('\u{1b}', "␛"));
}

#[test]
fn quiet_runs_dry_runs_and_aborts() {
    insta::assert_snapshot!("nothing_changed", played_with(&played::quiet(), &ci()));
    insta::assert_snapshot!("dry_run", played_with(&played::dry(), &ci()));
    insta::assert_snapshot!("aborted", played_with(&played::aborted(), &ci()));
    insta::assert_snapshot!("all_quiet", played_with(&played::all(), &Options { verbosity: -1, ..ci() }));
}

#[test]
fn waits_are_told_every_15_seconds_where_there_is_no_terminal() {
    let mut play = Play::new("r", &["deploy"], false);
    play.stage("deploy");
    play.waits("app1", "rollout prod", "0 of 2 ready");
    let (paper, mut run) = (Paper::default(), RunSummary::default());
    let mut console = Console::new(&ci(), Box::new(paper.clone()));
    for event in &play.events {
        run.event(event);
        console.event(event, &run);
    }
    console.pause();
    for second in 0..=46 {
        console.tick_at(&run, play.at + SignedDuration::from_secs(second));
    }
    console.pause();
    let waits: Vec<String> = paper.text().lines().filter(|line| line.contains("waiting")).map(str::to_owned).collect();
    assert_eq!(
        waits,
        [
            "  … waiting 15 s  app1 · rollout prod: 0 of 2 ready",
            "  … waiting 30 s  app1 · rollout prod: 0 of 2 ready",
            "  … waiting 45 s  app1 · rollout prod: 0 of 2 ready"
        ]
    );
}

#[test]
fn a_terminal_gets_a_live_line_that_is_taken_back() {
    let mut play = Play::new("r", &["deploy"], false);
    play.stage("deploy");
    play.waits("app1", "rollout prod", &"a very long reason ".repeat(20));
    let (paper, mut run) = (Paper::default(), RunSummary::default());
    let mut console = Console::new(&Options { terminal: true, width: 60, ..ci() }, Box::new(paper.clone()));
    for event in &play.events {
        run.event(event);
        console.event(event, &run);
    }
    console.pause();
    console.tick_at(&run, play.at + SignedDuration::from_secs(3));
    console.pause();
    let text = paper.text();
    assert!(text.contains("waiting 3.0 s") && text.contains('…'), "{text}");
    run.running.clear();
    console.tick_at(&run, play.at);
    assert!(paper.text().contains("\u{1b}[2K"), "{:?}", paper.text());
}

#[test]
fn foreign_text_reaches_no_terminal_as_a_command() {
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2Jx\u{9b}31m\u{202e}y\rz";
    let mut play = Play::new(hostile, &[hostile], false);
    play.stage(hostile);
    let fault = crate::base::fault::Fault::new(crate::base::codes::Code::CrashLoop, hostile).evidence(hostile, hostile).next(hostile);
    let scene = played::case(hostile, hostile).failed(fault).warning(hostile).property("curl", hostile).output(hostile);
    play.ends(1, scene);
    play.ends(1, played::case(hostile, "b").would_change(hostile).output(hostile));
    play.waits(hostile, hostile, hostile);
    play.emit(Event::Note { stage: hostile.into(), text: hostile.into() });
    play.end_stage();
    let text = played_with(&play.end(5), &Options { verbosity: 1, ..ci() });
    assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
}

#[test]
fn a_closed_pipe_ends_nothing() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let mut console = Console::new(&ci(), Box::new(Closed));
    let mut run = RunSummary::default();
    for event in played::all() {
        run.event(&event);
        console.event(&event, &run);
        console.pause();
    }
}

#[test]
fn a_github_log_folds_stages_and_obeys_nothing_foreign() {
    let mut play = Play::new("r", &["deploy"], false);
    play.stage("deploy");
    let evil = "##[add-mask]e ::error::x";
    let fault = crate::base::fault::Fault::new(crate::base::codes::Code::CrashLoop, evil).evidence("log", "::set-env name=PATH::/evil");
    play.ends(1, played::case("app1", "rollout prod").failed(fault).place(3));
    play.ends(1, played::case("", "::error::y").unchanged(evil));
    play.emit(Event::Note { stage: "deploy".into(), text: evil.into() });
    play.end_stage();
    let text = played_with(&play.end(5), &Options { github: Some(github::Options::default()), ..ci() });
    let mut stopped: Option<String> = None;
    let mut obeyed = Vec::new();
    for line in text.lines() {
        match &stopped {
            Some(token) if line == format!("::{token}::") => stopped = None,
            Some(_) => {}
            None => {
                stopped = line.strip_prefix("::stop-commands::").map(str::to_owned);
                if stopped.is_none() && line.trim_start().starts_with("::") {
                    obeyed.push(line);
                }
                assert!(!line.contains("##[") || line.starts_with("::error"), "{line}");
            }
        }
    }
    assert_eq!(obeyed.len(), 3, "{obeyed:?}");
    assert_eq!((obeyed[0], obeyed[1]), ("::group::deploy", "::endgroup::"));
    assert!(obeyed[2].starts_with("::error file=meshstep.yaml,line=3,title=deploy app1%3A rollout prod::"), "{}", obeyed[2]);
}
