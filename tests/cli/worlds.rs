//! A world per fault: the right exit code, the right code, the evidence, and in time.

use serde_json::Value;

use crate::support::{Run, Workspace};

pub(crate) fn in_world(world: &str, more: &[&str]) -> Run {
    let workspace = Workspace::new();
    let file = crate::support::root().join(format!("fixtures/worlds/{world}.yaml"));
    let sandbox = format!("--sandbox={}", file.display());
    let run = workspace.run(&[&["run", "-f", "pipelines/meshstep.yaml", &sandbox], more].concat());
    // Whatever the world, its run log alone gives the same verdicts again.
    let judged: Vec<Value> = run.events().into_iter().filter(|event| !event["data"]["verdict"].is_null()).collect();
    // What was judged broken was judged by something.
    for case in failed(&run).iter().filter(|case| case["class"] == "broken") {
        assert!(judged.iter().any(|event| event["case"] == case["case"]), "no verdict was recorded of {}", case["case"]);
    }
    let recorded = judged.len();
    let told = if recorded == 0 { "no verdict was recorded".to_owned() } else { format!("{recorded} verdicts, drawn as recorded") };
    workspace.run(&["replay", &run.reports.join("run.jsonl").display().to_string()]).exits(0).says(&told);
    run.keeping(workspace)
}

fn failed(run: &Run) -> Vec<Value> {
    run.cases().into_iter().filter(|case| case["outcome"] == "failed").collect()
}

/// The one failed case of a world, by its code.
#[track_caller]
pub(crate) fn failure(run: &Run, code: &str) -> Value {
    let all = failed(run);
    assert!(!all.is_empty(), "{}", run.stdout);
    assert!(all.iter().all(|case| case["code"] == code), "{code}\n{}", run.stdout);
    all[0].clone()
}

#[test]
fn a_stale_root_is_proven_and_cured_once() {
    let run = in_world("stale-root", &[]).exits(0).says("repaired");
    let restarted: Vec<_> =
        run.cases().into_iter().filter(|case| case["case"]["name"].as_str().is_some_and(|n| n.starts_with("redeploy "))).collect();
    assert_eq!(restarted.len(), 1, "{}", run.stdout);
    let host = run.case("GET app1.public.domain/");
    assert_eq!(host["outcome"], "repaired");
    assert!(host["story"].as_str().is_some_and(|story| story.contains("failed to generate workload certificate")), "{host}");
    assert!(failed(&run).is_empty());

    in_world("stale-root", &["--fail-on-repair"]).exits(5);
}

#[test]
fn a_missing_image_is_named_at_once() {
    let run = in_world("broken-image", &[]).exits(5);
    let case = failure(&run, "image_not_found");
    assert!(case["message"].as_str().is_some_and(|m| m.contains("container app") && m.contains("registry.example/app1")), "{case}");
    assert!(case["seconds"].as_f64().is_some_and(|s| s < 5.0), "{case}");
}

#[test]
fn a_crash_loop_shows_the_log_of_the_instance_that_died() {
    let run = in_world("crash-loop", &[]).exits(5);
    let case = failure(&run, "crash_loop");
    assert!(case["evidence"].to_string().contains("DATABASE_URL"), "{case}");
    assert_eq!(case["place"]["file"], "pipelines/charts/service/templates/deployment.yaml", "where it is written\n{case}");
}

#[test]
fn what_the_load_balancer_lacks_is_said_in_aws_words() {
    let run = in_world("alb-failed", &[]).exits(5);
    assert!(failure(&run, "alb_failed").to_string().contains("Not enough free IP addresses"), "{}", run.stdout);
}

#[test]
fn a_pod_without_a_sidecar_is_not_let_through() {
    let run = in_world("no-sidecar", &[]).exits(5);
    failure(&run, "sidecar_missing");
    // That it is let through now would be told.
    let workspace = Workspace::new();
    let log = std::fs::read_to_string(run.reports.join("run.jsonl")).expect("the log");
    workspace.write("other.jsonl", &log.replace("\"presence\":\"missing\"", "\"presence\":{\"ready\":{\"native\":true}}"));
    workspace.run(&["replay", "other.jsonl"]).exits(3).says("1 differ from what was recorded");
}

#[test]
fn a_refused_token_is_an_error_and_no_failure() {
    let run = in_world("token-refused", &[]).exits(7);
    failure(&run, "unauthorized");
}

/// A run that was judged wrongly becomes a fixture: its log, with the verdict that is right.
#[test]
fn recorded_runs_are_judged_as_recorded() {
    let workspace = Workspace::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(crate::support::root().join("fixtures/runs")).expect("the folder") {
        let log = entry.expect("an entry").path();
        let run = workspace.run(&["replay", &log.display().to_string()]);
        assert_eq!(run.exit, 0, "{}\n{}\n{}", log.display(), run.stdout, run.stderr);
        seen += 1;
    }
    assert!(seen > 0);
    // A judge that changed its mind is told.
    let log = std::fs::read_to_string(crate::support::root().join("fixtures/runs/crash-loop.jsonl")).expect("the log");
    workspace.write("other.jsonl", &log.replace("ended 3 times", "ended 4 times"));
    workspace.run(&["replay", "other.jsonl"]).exits(3).says("1 verdict, 1 differ from what was recorded");
    workspace.write("cut.jsonl", &log[..log.len() - 100]);
    workspace.run(&["replay", "cut.jsonl"]).exits(3).says("is cut off");
}
