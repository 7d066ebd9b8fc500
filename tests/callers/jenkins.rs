//! The Jenkinsfile in groovy: what the build's page would show.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::readers::{self, Case};
use crate::support::{Served, Workspace, root};
use crate::tools::{here, java_home, path};

const TAG: &str = "1.4.2";

/// An agent with a sandbox for a cluster, and the credentials that Jenkins keeps.
struct Jenkins {
    workspace: Workspace,
    _served: Served,
    credentials: BTreeMap<&'static str, String>,
}

/// What Jenkins would show of one build.
struct Build {
    events: Vec<Value>,
    console: String,
    /// What Jenkins keeps: junit/ and archive/.
    folder: TempDir,
}

impl Jenkins {
    fn new(world: Option<&str>) -> Self {
        let mut workspace = Workspace::new();
        let world = world.map(|world| root().join(format!("fixtures/worlds/{world}.yaml")).display().to_string());
        let served = Served::start(&workspace, world.as_deref());
        let mut env: BTreeMap<String, String> = served.env.iter().cloned().collect();
        let mut secret = |name: &str| env.remove(name).expect("the sandbox gives it");
        // Not in the agent's environment: they get to the command only as Jenkins binds them.
        let credentials = BTreeMap::from([
            ("shop-aws-access-key-id", secret("AWS_ACCESS_KEY_ID")),
            ("shop-aws-secret-access-key", secret("AWS_SECRET_ACCESS_KEY")),
        ]);
        let rest = env.get("PATH").cloned().or_else(|| std::env::var("PATH").ok()).expect("PATH");
        env.insert("PATH".into(), path(&rest));
        env.insert("JAVA_HOME".into(), java_home());
        workspace.set(&env.into_iter().collect::<Vec<_>>());
        Self { workspace, _served: served, credentials }
    }

    fn build(&self, number: u8, tag: &str, answer: &str) -> Build {
        let workspace = self.workspace.path("").canonicalize().expect("a folder");
        let settings = json!({
            "params": {"TEAM": "bi", "TAG": tag},
            "credentials": self.credentials,
            "answer": answer,
            "build": {
                "BUILD_TAG": format!("jenkins-shop-{number}"),
                "BUILD_URL": format!("https://jenkins.example/job/shop/{number}/"),
                "JENKINS_URL": "https://jenkins.example/",
                "WORKSPACE": workspace,
            },
        });
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("settings.json"), settings.to_string()).expect("written");
        let mut groovy = self.workspace.program("groovy", &[]);
        groovy.arg(here("jenkins.groovy")).arg("pipelines/Jenkinsfile").arg(&workspace).arg(folder.path());
        let out = groovy.output().expect("groovy starts");
        let console = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "the interpreter failed:\n{console}");
        let events = std::fs::read_to_string(folder.path().join("events.jsonl")).expect("events");
        let events = events.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
        for secret in self.credentials.values() {
            assert!(!console.contains(secret.as_str()), "a credential is on the console:\n{console}");
        }
        Build { events, console, folder }
    }
}

impl Build {
    /// The events that have this key, with their stages.
    fn of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.events.iter().filter(move |event| !event[key].is_null()).map(move |event| (event["stage"].as_str().unwrap_or_default(), &event[key]))
    }

    fn result(&self) -> &str {
        self.of("result").last().and_then(|(_, result)| result.as_str()).unwrap_or_default()
    }

    /// What was called in which stage, and how it ended.
    fn calls(&self) -> Vec<(&str, &str, i64)> {
        let calls = self.events.iter().filter(|event| !event["sh"].is_null());
        calls.map(|event| (text(&event["stage"]), text(&event["sh"]), event["exit"].as_i64().unwrap_or(-1))).collect()
    }

    fn skipped(&self) -> Vec<&str> {
        self.of("skipped").map(|(stage, _)| stage).collect()
    }

    /// All cases that the build shows, after each `junit` step said how many it took and how many of them failed.
    #[track_caller]
    fn published(&self, counts: &[(&str, usize)]) -> Vec<Case> {
        let mut all = Vec::new();
        let steps: Vec<&Value> = self.events.iter().filter(|event| !event["junit"].is_null()).collect();
        assert_eq!(steps.len(), counts.len(), "{steps:?}");
        for (step, (stage, failed)) in steps.iter().zip(counts) {
            assert_eq!((&step["stage"], &step["failed"]), (&json!(stage), &json!(failed)), "{}", self.console);
            let options =
                json!({"keepProperties": true, "keepTestNames": true, "stdioRetention": "FAILED", "testResults": step["junit"]["testResults"]});
            assert_eq!(step["junit"], options);
            let files: Vec<PathBuf> =
                step["files"].as_array().expect("a list").iter().map(|file| self.kept("junit", file.as_str().unwrap_or_default())).collect();
            all.extend(readers::cases(files.iter().map(AsRef::as_ref)));
        }
        readers::all_differ(&all);
        all
    }

    fn kept(&self, by: &str, file: &str) -> PathBuf {
        self.folder.path().join(by).join(file)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

const PRE_PROD: [(&str, &str); 8] = [
    ("Pre-prod / Doctor", "rm -rf reports && meshstep doctor"),
    ("Pre-prod / Connect", "meshstep connect"),
    ("Pre-prod / Mesh", "meshstep mesh"),
    ("Pre-prod / Deploy to pre-prod", "meshstep deploy --namespace pre-prod"),
    ("Pre-prod / Routes", "meshstep routes"),
    ("Pre-prod / Releases", "meshstep releases"),
    ("Pre-prod / Ingress", "meshstep ingress --namespace pre-prod"),
    ("Pre-prod / Verify pre-prod", "meshstep verify --namespace pre-prod"),
];

#[test]
fn pre_prod_then_a_person_then_prod() {
    let jenkins = Jenkins::new(None);

    let stopped = jenkins.build(1, TAG, "abort");
    assert_eq!(stopped.result(), "ABORTED", "{}", stopped.console);
    assert_eq!(stopped.calls(), PRE_PROD.map(|(stage, command)| (stage, command, 0)), "{}", stopped.console);
    assert_eq!(stopped.of("input").map(|(stage, _)| stage).collect::<Vec<_>>(), ["Approve"]);
    assert_eq!(stopped.skipped(), ["Prod"]);

    let build = jenkins.build(2, TAG, "proceed");
    assert_eq!(build.result(), "SUCCESS", "{}", build.console);
    let prod =
        [("Prod / Deploy to prod", "rm -rf reports && meshstep deploy --namespace prod"), ("Prod / Verify prod", "meshstep verify --namespace prod")];
    assert_eq!(build.calls(), PRE_PROD.iter().chain(&prod).map(|(stage, command)| (*stage, *command, 0)).collect::<Vec<_>>());
    assert!(build.of("literal").all(|(_, literal)| *literal == true), "a Groovy string in `sh` could carry a parameter into the shell");
    let cases = build.published(&[("Pre-prod", 0), ("Prod", 0)]);
    assert!(cases.len() > 70 && cases.iter().all(|case| case.result == "passed"), "{cases:?}");
    let rollout = |class: &str, name: &str| cases.iter().filter(|case| case.class == class && case.name == name).count();
    assert_eq!(rollout("pre-prod.deploy.app1-service", "rollout pre-prod"), 1);
    assert_eq!(rollout("prod.deploy.app1-service", "rollout prod"), 1);
    for file in ["reports/pre-prod/index.html", "reports/pre-prod/run.jsonl", "reports/prod/index.html"] {
        assert!(build.kept("archive", file).is_file(), "{file}");
    }
    assert!(build.console.contains("https://jenkins.example/job/shop/2/artifact/reports/prod/index.html"), "{}", build.console);
    readers::agree(&jenkins.workspace, "reports/prod");
}

#[test]
fn what_fails_in_pre_prod_never_comes_to_a_person() {
    let jenkins = Jenkins::new(Some("broken-image"));
    let build = jenkins.build(1, TAG, "proceed");
    assert_eq!(build.result(), "FAILURE", "{}", build.console);
    assert_eq!(build.calls().last(), Some(&("Pre-prod / Deploy to pre-prod", "meshstep deploy --namespace pre-prod", 5)), "{}", build.console);
    assert_eq!(build.of("input").count(), 0);
    assert_eq!(build.skipped(), ["Pre-prod / Routes", "Pre-prod / Releases", "Pre-prod / Ingress", "Pre-prod / Verify pre-prod", "Approve", "Prod"]);
    let cases = build.published(&[("Pre-prod", 1)]);
    let failed: Vec<&Case> = cases.iter().filter(|case| case.result == "failure").collect();
    assert_eq!((failed[0].class.as_str(), failed[0].name.as_str()), ("pre-prod.deploy.app1-service", "rollout pre-prod"));
    assert_eq!(failed[0].file.as_deref(), Some("pipelines/charts/service/templates/deployment.yaml"));
    assert!(failed[0].text.contains("registry.example/app1:1.4.2") && failed[0].text.contains("\nnext: "), "{}", failed[0].text);
    readers::agree(&jenkins.workspace, "reports/pre-prod");
}

#[test]
fn a_parameter_is_a_value_and_never_a_command() {
    let jenkins = Jenkins::new(None);
    let hostile = "1\"; touch pwned; \" $(touch pwned) `touch pwned` ${TEAM}\n      - {name: x}";
    let build = jenkins.build(1, hostile, "proceed");
    assert_eq!(build.result(), "FAILURE", "{}", build.console);
    assert!(!jenkins.workspace.path("pwned").exists());
    let (stage, _, exit) = build.calls()[0];
    assert_eq!((stage, exit), ("Pre-prod / Doctor", 3), "{}", build.console);
}

#[test]
fn credentials_that_aws_refuses_are_an_error_of_the_first_stage() {
    let mut jenkins = Jenkins::new(None);
    jenkins.credentials.insert("shop-aws-access-key-id", "AKIANOTTHESANDBOX000".into());
    let build = jenkins.build(1, TAG, "proceed");
    assert_eq!(build.calls(), [(PRE_PROD[0].0, PRE_PROD[0].1, 7)]);
    let cases = build.published(&[("Pre-prod", 1)]);
    let error = cases.iter().find(|case| case.result == "error").expect("an error");
    assert!(error.text.contains("UnrecognizedClientException"), "{}", error.text);
}
