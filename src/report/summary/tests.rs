//! Folding: retries, kills, merges.

use super::*;
use crate::report::played::{self, Play, case};

fn one(outcome: Option<Code>, name: &str) -> Vec<Stamped> {
    let mut play = Play::new("r", &["deploy"], false);
    play.stage("deploy");
    let scene = case("", name);
    play.ends(
        5,
        match outcome {
            Some(code) => scene.failed(Fault::new(code, "broke")),
            None => scene.unchanged("fine"),
        },
    );
    play.end_stage();
    play.end(0)
}

#[test]
fn counts_and_the_order_of_failures() {
    let run = RunSummary::of(&played::all());
    let counts = Counts::of(run.own());
    assert_eq!(counts.words(), "3 failed, 1 not carried out, 1 repaired, 3 changed, 4 ok, 2 skipped, 1 warning");
    let worst: Vec<&str> = worst_first(run.own()).iter().map(|(_, fault)| fault.code.info().name).collect();
    assert_eq!(worst, ["image_not_found", "http_status", "forbidden", "ingress_timeout"]);
    assert_eq!((run.exit, run.overall_exit()), (Some(5), 5));
}

#[test]
fn a_retried_stage_has_its_last_verdict_and_its_failures_as_attempts() {
    let events: Vec<Stamped> = [one(Some(Code::CrashLoop), "rollout"), one(Some(Code::ApiFailed), "rollout"), one(None, "rollout")].concat();
    let run = RunSummary::of(&events);
    assert_eq!(run.cases.len(), 1);
    let codes: Vec<Code> = run.cases[0].end.attempts.iter().map(|attempt| attempt.fault.code).collect();
    assert_eq!((run.cases[0].verdict(), codes), (Verdict::Unchanged, vec![Code::CrashLoop, Code::ApiFailed]));
    assert_eq!(run.overall_exit(), 0);
}

#[test]
fn a_process_tells_its_own_time_and_a_finished_build_the_time_of_all() {
    let mut run = RunSummary::of(&one(None, "rollout"));
    let alone = run.own_seconds();
    assert!(alone > Duration::ZERO);
    one(None, "answer").iter().for_each(|event| run.event(event));
    assert_eq!((run.own_seconds(), run.seconds), (alone, alone * 2));
    run.finish();
    assert_eq!(run.own_seconds(), alone * 2);
}

#[test]
fn a_stage_that_starts_the_second_time_settles_its_setup() {
    let run = RunSummary::of(&[one(Some(Code::ApiUnreachable), SETUP), one(None, "rollout")].concat());
    let setup = run.cases.iter().find(|case| case.end.case.name == SETUP).expect("still told");
    assert_eq!((setup.verdict(), setup.end.attempts.len()), (Verdict::Unchanged, 1));
    let twice = RunSummary::of(&[one(Some(Code::ApiUnreachable), SETUP), one(Some(Code::ApiUnreachable), SETUP)].concat());
    assert_eq!(twice.cases[0].verdict(), Verdict::Error);
}

#[test]
fn a_skipped_stage_leaves_no_skip_once_it_runs() {
    let mut play = Play::new("r", &["deploy"], false);
    play.stage("deploy");
    play.ends(0, case("", "deploy").skipped("needs mesh (failed)"));
    play.end_stage();
    let run = RunSummary::of(&[play.end(5), one(None, "rollout")].concat());
    assert_eq!(run.cases.len(), 1);
    assert!(run.case(&run.cases[0].end.case).is_some());
}

#[test]
fn what_never_ended_is_an_error() {
    let mut play = Play::new("r", &["deploy"], false);
    play.stage("deploy");
    play.waits("app", "rollout", "0 of 2 ready");
    let run = RunSummary::of(&[play.events, one(None, "other")].concat());
    let fault = run.cases[0].end.outcome.fault().expect("an error");
    assert_eq!(fault.message, "the run was killed before this case ended; last seen: 0 of 2 ready");
    assert!(run.running.is_empty());
}

#[test]
fn a_killed_run_is_no_success_also_between_two_cases_and_beside_a_good_shard() {
    let good = RunSummary::of(&one(None, "a"));
    let mut events = one(None, "b");
    events.pop();
    let mut killed = RunSummary::of(&events);
    killed.finish();
    assert_eq!((good.overall_exit(), killed.overall_exit()), (0, 143));
    for (first, second) in [(&good, &killed), (&killed, &good)] {
        let mut both = RunSummary::default();
        both.merge(first);
        both.merge(second);
        assert_eq!((both.overall_exit(), both.cases.len()), (143, 2));
    }
}

#[test]
fn every_exit_code_has_its_words() {
    for code in (1..=11).chain([130, 143]) {
        assert!(!matches!(why(code, Counts::default()), "" | "unknown"), "{code}");
    }
    assert_eq!(why(5, Counts { repaired: 1, ..Counts::default() }), "a fault was repaired, and `--fail-on-repair` was given");
}
