//! The command line itself.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Workspace, root};

#[test]
fn usage_errors_are_two_and_say_what_was_meant() {
    let workspace = Workspace::new();
    workspace.run(&["rnu"]).exits(2);
    workspace.run(&["run", "--only", "deplyo", "-f", "pipelines/meshstep.yaml"]).exits(2).says("`deploy`");
    workspace.run(&["deploy", "--var", "TAG"]).exits(2).says("KEY=VALUE");
    workspace.run(&["explain", "crash_lop"]).exits(2).says("`crash_loop`");
    workspace.run(&["explain", "rollout.crash_loop"]).exits(0).says("restart helps");
}

#[test]
fn help_version_schema_and_completions_need_nothing() {
    let workspace = Workspace::new();
    workspace.run(&["--version"]).exits(0).says(env!("CARGO_PKG_VERSION"));
    workspace.run(&["--help"]).exits(0).says("Exit codes");
    workspace.run(&["schema"]).exits(0).says("meshstep pipeline");
    workspace.run(&["completions", "bash"]).exits(0).says("_meshstep");
    workspace.run(&["man", "man"]).exits(0);
    assert!(workspace.path("man/meshstep-run.1").is_file());
}

#[test]
fn the_values_file_is_edited_from_flags_alone() {
    let workspace = Workspace::new();
    let values = "pipelines/mesh/virtual-services-helm/values.yaml";
    let before = workspace.read(values);
    let upsert = [
        "routes",
        "upsert",
        values,
        "--virtual-name",
        "app4-virtual-svc",
        "--name",
        "app4-service",
        "--port",
        "8003",
        "--route",
        "prod=app4.public.domain,app4-service.prod.svc.cluster.local",
        "--prefix",
        "/",
    ];
    workspace.run(&[&upsert[..], &["--check"]].concat()).exits(10);
    assert_eq!(workspace.read(values), before, "--check writes nothing");
    workspace.run(&upsert).exits(0).says("inserted");
    let after = workspace.read(values);
    let mut lines = after.lines();
    assert!(before.lines().all(|old| lines.any(|new| new == old)), "no other line may change:\n{after}");
    workspace.run(&upsert).exits(0).says("unchanged");
    workspace.run(&["routes", "list", values]).exits(0).says("app4.public.domain");
    workspace.run(&["routes", "remove", values, "--virtual-name", "app4-virtual-svc"]).exits(0).says("removed");
    assert_eq!(workspace.read(values), before);
}

#[test]
fn a_run_can_be_told_to_machines_and_shown_again() {
    let workspace = Workspace::new();
    let run = workspace.run(&["verify", "--address", "127.0.0.1:1", "--host", "a.example", "--timeout", "100ms", "--output", "json"]).exits(5);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {}", run.stdout));
    assert_eq!(document["exit"], 5);
    workspace.run(&["report", "show"]).exits(5).says("GET a.example/");
    workspace.run(&["report", "rebuild"]).exits(0).says("TEST-verify.xml");
}

/// The picture in the README is a recording of `cargo demo`; `UPDATE=1` records it anew.
#[test]
fn the_readmes_picture_shows_the_whole_line() {
    let picture = root().join(".github/demo.svg");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&picture, meshstep::report::svg::svg(&recorded())).expect("the picture is written");
    }
    let svg = std::fs::read_to_string(&picture).expect("the picture");
    for words in ["doctor", "istio install", "rollout prod", "virtualservice app1-virtual-svc", "targets healthy", "GET app1.public.domain/"] {
        assert!(svg.contains(words), "the picture lacks `{words}`: record it anew with UPDATE=1");
    }
}

/// The lines of a run and when each came, without the paths of this machine.
fn recorded() -> Vec<(Duration, String)> {
    let workspace = Workspace::new();
    let started = Instant::now();
    let mut command = workspace.command(&["run", "--sandbox", "--color", "always", "-f", "pipelines/meshstep.yaml"]);
    let mut child = command.env("COLUMNS", "120").stdout(Stdio::piped()).spawn().expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("stdout")).lines().map_while(Result::ok);
    let home = std::env::var("HOME").unwrap_or_default();
    let lines = lines.map(|line| (started.elapsed(), line.replace(&home, "~"))).collect();
    assert!(child.wait().expect("ends").success());
    lines
}
