//! `cargo lab [NAME...]`, `cargo lab scenarios [WORD...]`: the scenarios on real parts (README.md in this folder). Root on Linux; `cargo test` never runs it.

mod certificates;
mod cleanup;
mod conformance;
#[path = "../rbac/grants.rs"]
mod grants;
mod killed;
mod logs;
#[path = "../conformance/play.rs"]
mod play;
mod player;
mod rights;
mod runbook;
#[path = "../scenarios/runner/mod.rs"]
mod runner;
mod scenarios;
mod shop;
mod stale_root;
mod support;
mod teams;
mod waiting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

struct Scenario {
    name: &'static str,
    /// A scenario that takes longer has failed.
    within: Duration,
    /// It runs only when it is named.
    by_name: bool,
    run: fn(&[String]),
}

const SCENARIOS: [Scenario; 11] = [
    Scenario { name: "waiting", within: Duration::from_secs(300), by_name: true, run: waiting::side_by_side },
    Scenario { name: "scenarios", within: Duration::from_secs(480), by_name: false, run: scenarios::both_sides },
    Scenario { name: "killed", within: Duration::from_secs(90), by_name: false, run: |_| killed::leaves_nothing_that_the_next_does_not_remove() },
    Scenario { name: "conformance", within: Duration::from_secs(90), by_name: false, run: |_| conformance::recordings_are_true() },
    Scenario { name: "rights", within: Duration::from_secs(400), by_name: false, run: |_| rights::each_is_needed_and_they_are_enough() },
    Scenario { name: "teams", within: Duration::from_secs(90), by_name: false, run: |_| teams::each_gets_its_load_balancer() },
    Scenario { name: "cleanup", within: Duration::from_secs(90), by_name: false, run: |_| cleanup::leaves_nothing() },
    Scenario { name: "runbook", within: Duration::from_secs(240), by_name: false, run: |_| runbook::with_helm_4() },
    Scenario { name: "runbook-helm-3", within: Duration::from_secs(240), by_name: false, run: |_| runbook::with_helm_3() },
    Scenario { name: "stale-root", within: Duration::from_secs(300), by_name: false, run: |_| stale_root::after_a_reinstall() },
    Scenario { name: "certificates", within: Duration::from_secs(360), by_name: false, run: |_| certificates::causes_and_cures() },
];

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == killed::VICTIM) {
        killed::wait_for_the_end();
    }
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-') || arg == "--list").collect();
    if args.iter().any(|arg| arg == "--list") {
        SCENARIOS.iter().for_each(|scenario| println!("{}", scenario.name));
        return ExitCode::SUCCESS;
    }
    // the words after `scenarios` and `waiting` choose among the files of tests/scenarios
    let (args, words) = match args.split_first() {
        Some((first, words)) if first == "scenarios" || first == "waiting" => (vec![first.clone()], words.to_vec()),
        _ => (args, Vec::new()),
    };
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| (args.is_empty() && !scenario.by_name) || args.iter().any(|arg| scenario.name.contains(arg.as_str())))
        .collect();
    if chosen.is_empty() {
        println!("no scenario is named so; there are: {}", SCENARIOS.map(|scenario| scenario.name).join(", "));
        return ExitCode::FAILURE;
    }
    let missing = support::missing();
    if !missing.is_empty() {
        println!("the lab cannot run here; missing:");
        missing.iter().for_each(|item| println!("  - {item}"));
        return ExitCode::FAILURE;
    }
    let _alone = support::alone();
    support::clean_on_signals();
    if let Err(error) = support::build() {
        println!("{error}");
        return ExitCode::FAILURE;
    }
    let failed: Vec<&str> = chosen.iter().filter(|scenario| !passes(scenario, &words)).map(|scenario| scenario.name).collect();
    if failed.is_empty() {
        println!("lab: {} scenarios passed", chosen.len());
        ExitCode::SUCCESS
    } else {
        println!("lab: failed: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

fn passes(scenario: &Scenario, words: &[String]) -> bool {
    println!("== {}", scenario.name);
    let start = Instant::now();
    // The panic hook has printed what was wrong; the lab it used is down by its Drop.
    let ended = catch_unwind(AssertUnwindSafe(|| (scenario.run)(words))).is_ok();
    let took = start.elapsed();
    let in_time = took <= scenario.within;
    let verdict = if ended && in_time { "ok" } else { "FAILED" };
    println!("== {}: {verdict} in {:.1} s{}", scenario.name, took.as_secs_f64(), if in_time { "" } else { ", which is too long" });
    ended && in_time
}
