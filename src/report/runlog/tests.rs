//! Several processes with one folder.

use super::*;
use crate::report::Options;
use crate::report::played::{self, Play, case};

fn run(dir: &Path, run_id: &str, from_ci: bool, events: &[Stamped]) {
    let options = Options { dir: dir.to_owned(), run_id: run_id.into(), run_id_from_ci: from_ci, ..Options::default() };
    let mut reporters = crate::report::reporters(&options, Box::new(io::sink()), Box::new(io::sink()));
    reporters.iter_mut().for_each(|reporter| reporter.events(events));
}

fn stage(run_id: &str, stage: &str, name: &str, failed: bool) -> Vec<Stamped> {
    let mut play = Play::new(run_id, &[stage], false);
    play.stage(stage);
    let fault = crate::base::fault::Fault::new(crate::base::codes::Code::CrashLoop, "dies");
    play.ends(1, if failed { case("app", name).failed(fault) } else { case("app", name).unchanged("ready") });
    play.end_stage();
    play.end(if failed { 5 } else { 0 })
}

#[test]
fn what_is_written_reads_back_and_a_cut_line_is_left_out() {
    let dir = tempfile::tempdir().expect("a folder");
    run(dir.path(), "jenkins-shop-17", true, &played::all());
    let path = dir.path().join(FILE);
    assert_eq!(read(&path).expect("read"), played::all());
    let whole = fs::read(&path).expect("bytes");
    fs::write(&path, &whole[..whole.len() - 9]).expect("cut");
    assert_eq!(read(&path).expect("read").len(), played::all().len() - 1);
}

#[test]
fn stages_of_one_build_continue_one_log_and_a_retry_shows_its_failure() {
    let dir = tempfile::tempdir().expect("a folder");
    run(dir.path(), "tag-1", true, &stage("tag-1", "deploy", "rollout", true));
    run(dir.path(), "tag-1", true, &stage("tag-1", "verify", "GET a/", false));
    run(dir.path(), "tag-1", true, &stage("tag-1", "deploy", "rollout", false));
    let starts = read(&dir.path().join(FILE)).expect("read").iter().filter(|event| matches!(event.event, Event::RunStarted { .. })).count();
    assert_eq!(starts, 3);
    let deploy = fs::read_to_string(dir.path().join("TEST-deploy.xml")).expect("xml");
    assert!(deploy.contains("<flakyFailure") && deploy.contains("failures=\"0\""), "{deploy}");
    assert!(fs::read_to_string(dir.path().join("TEST-verify.xml")).expect("xml").contains("GET a/"));
    assert!(fs::read_to_string(dir.path().join("index.html")).expect("page").contains("GET a/"));
}

#[test]
fn services_deployed_by_processes_of_their_own_stand_in_one_file() {
    let dir = tempfile::tempdir().expect("a folder");
    run(dir.path(), "tag-1", true, &stage("tag-1", "deploy", "rollout of one", true));
    run(dir.path(), "tag-1", true, &stage("tag-1", "deploy", "rollout of two", false));
    let deploy = fs::read_to_string(dir.path().join("TEST-deploy.xml")).expect("xml");
    assert!(deploy.contains("tests=\"2\" failures=\"1\""), "{deploy}");
}

#[test]
fn a_new_build_starts_anew_and_removes_what_would_be_taken_for_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    run(dir.path(), "tag-1", true, &stage("tag-1", "verify", "GET a/", true));
    fs::write(dir.path().join("TEST-other.xml"), "<testsuites/>").expect("another tool's file");
    fs::create_dir_all(dir.path().join("logs/x")).expect("a log");
    run(dir.path(), "tag-2", true, &stage("tag-2", "deploy", "rollout", false));
    assert!(!dir.path().join("TEST-verify.xml").exists());
    assert!(!dir.path().join("logs").exists());
    assert!(dir.path().join("TEST-other.xml").exists());
    assert!(fs::read_to_string(dir.path().join(PREVIOUS)).expect("kept").contains("tag-1"));
    assert!(!fs::read_to_string(dir.path().join(FILE)).expect("new").contains("tag-1"));
}

#[test]
fn without_a_build_tag_nobody_elses_files_are_touched() {
    let dir = tempfile::tempdir().expect("a folder");
    run(dir.path(), "a1", false, &stage("a1", "verify", "GET a/", true));
    run(dir.path(), "b2", false, &stage("b2", "deploy", "rollout", false));
    assert!(dir.path().join("TEST-verify.xml").exists());
    assert!(!fs::read_to_string(dir.path().join(FILE)).expect("new").contains("a1"));
}

#[test]
fn a_process_goes_on_after_a_killed_one_and_a_cleaned_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut play = Play::new("tag-1", &["deploy"], false);
    play.stage("deploy");
    play.waits("app", "rollout", "0 of 2 ready");
    run(dir.path(), "tag-1", true, &play.events);
    let path = dir.path().join(FILE);
    let whole = fs::read(&path).expect("bytes");
    fs::write(&path, &whole[..whole.len() - 3]).expect("cut");
    run(dir.path(), "tag-1", true, &stage("tag-1", "verify", "GET a/", false));
    let again = crate::report::summary::RunSummary::of(&read(&path).expect("read"));
    assert!(again.cases.iter().any(|case| case.end.outcome.fault().is_some_and(|fault| fault.message.contains("killed"))));

    let mut log = RunLog::new(dir.path());
    let events = stage("tag-1", "ingress", "alb", false);
    hear(&mut log, &events[..1]);
    fs::remove_dir_all(dir.path()).expect("cleaned");
    hear(&mut log, &events[1..]);
    assert_eq!(log.trouble(), None);
    assert_eq!(read(&path).expect("read").len(), events.len() - 1);
}

fn hear(log: &mut RunLog, events: &[Stamped]) {
    events.iter().for_each(|event| log.event(event, &RunSummary::default()));
    log.pause();
}

#[test]
fn what_a_full_disk_refused_is_written_when_there_is_room_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(FILE);
    std::os::unix::fs::symlink("/dev/full", &path).expect("a full disk");
    let mut log = RunLog::new(dir.path());
    let events = played::all();
    hear(&mut log, &events[..5]);
    assert!(log.trouble().expect("told").contains("No space left"));
    fs::remove_file(&path).expect("room again");
    hear(&mut log, &events[5..]);
    assert_eq!(log.trouble(), None);
    assert_eq!(read(&path).expect("read"), events);
}
