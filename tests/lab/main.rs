//! `cargo lab [NAME...]`, `cargo lab scenarios [WORD...]`: the scenarios on real parts (README.md in this folder). Root on Linux; `cargo test` never runs it.

mod certificates;
mod cleanup;
mod conformance;
#[path = "../rbac/grants.rs"]
mod grants;
mod killed;
mod lanes;
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

/// The longest first: three of them run at once.
const SCENARIOS: [Scenario; 11] = [
    Scenario { name: "waiting", within: Duration::from_secs(300), by_name: true, run: waiting::side_by_side },
    Scenario { name: "rights", within: Duration::from_secs(900), by_name: false, run: |_| rights::each_is_needed_and_they_are_enough() },
    Scenario { name: "certificates", within: Duration::from_secs(900), by_name: false, run: |_| certificates::causes_and_cures() },
    Scenario { name: "scenarios", within: Duration::from_secs(900), by_name: false, run: scenarios::both_sides },
    Scenario { name: "stale-root", within: Duration::from_secs(300), by_name: false, run: |_| stale_root::after_a_reinstall() },
    Scenario { name: "runbook", within: Duration::from_secs(240), by_name: false, run: |_| runbook::with_helm_4() },
    Scenario { name: "runbook-helm-3", within: Duration::from_secs(240), by_name: false, run: |_| runbook::with_helm_3() },
    Scenario { name: "cleanup", within: Duration::from_secs(180), by_name: false, run: |_| cleanup::leaves_nothing() },
    Scenario { name: "teams", within: Duration::from_secs(120), by_name: false, run: |_| teams::each_gets_its_load_balancer() },
    Scenario { name: "conformance", within: Duration::from_secs(120), by_name: false, run: |_| conformance::recordings_are_true() },
    Scenario { name: "killed", within: Duration::from_secs(120), by_name: false, run: |_| killed::leaves_nothing_that_the_next_does_not_remove() },
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
    let in_lane = std::env::var_os(lanes::LANE_VARIABLE).is_some();
    let named = |scenario: &Scenario, arg: &str| if in_lane { scenario.name == arg } else { scenario.name.contains(arg) };
    let chosen: Vec<&Scenario> =
        SCENARIOS.iter().filter(|scenario| (args.is_empty() && !scenario.by_name) || args.iter().any(|arg| named(scenario, arg))).collect();
    if chosen.is_empty() {
        println!("no scenario is named so; there are: {}", SCENARIOS.map(|scenario| scenario.name).join(", "));
        return ExitCode::FAILURE;
    }
    if in_lane {
        support::clean_on_signals();
        return if chosen.iter().all(|scenario| passes(scenario, &words)) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let missing = support::missing();
    if !missing.is_empty() {
        println!("the lab cannot run here; missing:");
        missing.iter().for_each(|item| println!("  - {item}"));
        return ExitCode::FAILURE;
    }
    let _alone = support::alone();
    if let Err(error) = support::build().and_then(|()| support::clean_all()) {
        println!("{error}");
        return ExitCode::FAILURE;
    }
    let failed = match chosen.as_slice() {
        [one] => {
            support::clean_on_signals();
            if passes(one, &words) { Vec::new() } else { vec![one.name] }
        }
        several => lanes::run(&several.iter().map(|scenario| scenario.name).collect::<Vec<_>>()),
    };
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
