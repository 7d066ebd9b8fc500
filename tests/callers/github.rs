//! The workflow in act, without containers: what the run's page would show.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::readers::{self, Case};
use crate::support::{Served, Workspace, root};
use crate::tools::{here, path, wheel};

/// Actions of others, played by the folder of that name in `actions/`. act has checkout itself.
const PLAYED: [&str; 2] = ["actions/upload-artifact", "aws-actions/configure-aws-credentials"];
/// GitHub drops a longer step summary, in bytes.
const SUMMARY: usize = 1 << 20;

/// A repository with a sandbox for a cluster.
struct Repository {
    workspace: Workspace,
    served: Served,
}

/// What GitHub would show of one run of the workflow.
struct Run {
    exit: i32,
    events: Vec<Value>,
    text: String,
    artifacts: TempDir,
}

fn repository() -> Workspace {
    let workspace = Workspace::new();
    std::fs::create_dir_all(workspace.path(".github/workflows")).expect("a folder");
    workspace.write(".github/workflows/deploy.yml", &workspace.read("pipelines/github/deploy.yml"));
    let made = workspace.program("git", &["init", "--quiet"]).status().expect("git");
    assert!(made.success());
    workspace
}

impl Repository {
    fn new(world: &str) -> Self {
        let mut workspace = repository();
        workspace.write("world.yaml", world);
        let served = Served::start(&workspace, Some("world.yaml"));
        let rest = served.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
        let rest = rest.or_else(|| std::env::var("PATH").ok()).expect("PATH");
        workspace.set(&[("PATH".into(), path(&rest))]);
        Self { workspace, served }
    }

    fn run(&self, tag: &str) -> Run {
        let artifacts = tempfile::tempdir().expect("a folder");
        // The job has no credentials but those that its step gets for the role.
        let (credentials, env): (Vec<_>, Vec<_>) =
            self.served.env.iter().filter(|(name, _)| name != "PATH").partition(|(name, _)| name.starts_with("AWS_") && name.contains("KEY"));
        let credentials: Vec<String> = credentials.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let kept = artifacts.path().join("credentials");
        std::fs::write(&kept, credentials.concat()).expect("written");

        let mut act = self.workspace.program(&wheel("act"), &["workflow_dispatch", "--json", "--no-cache-server"]);
        act.args(["--platform", "self-hosted=-self-hosted", "--var", "AWS_ROLE_ARN=arn:aws:iam::123456789012:role/deploy"]);
        act.arg("--action-cache-path").arg(artifacts.path().join("act"));
        act.args(["--input", "team=bi", "--input", &format!("tag={tag}")]);
        act.args(env.iter().map(|(name, value)| format!("--env={name}={value}")));
        act.arg(format!("--env=TEST_ARTIFACTS={}", artifacts.path().display())).arg(format!("--env=TEST_CREDENTIALS={}", kept.display()));
        for used in uses(&self.workspace.read("pipelines/github/deploy.yml")) {
            if let Some(name) = PLAYED.iter().find(|name| used.starts_with(&format!("{name}@"))) {
                let folder = here("actions").join(name.rsplit('/').next().expect("a name"));
                act.arg(format!("--local-repository={used}={}", folder.display()));
            }
        }
        let out = act.output().expect("act starts");
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let events = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let run = Run { exit: out.status.code().unwrap_or(-1), events, text, artifacts };
        let secret = self.served.env.iter().find(|(name, _)| name == "AWS_SECRET_ACCESS_KEY").expect("a key");
        assert!(run.steps_say().all(|event| !event.to_string().contains(&secret.1)), "a credential is in the log");
        // act lends its steps a terminal: what is drawn on it would stand before the commands that the runner reads at a line's start.
        assert!(run.steps_say().all(|event| event["msg"].as_str().is_some_and(|text| !text.contains('\u{1b}'))), "{}", run.text);
        run
    }
}

impl Run {
    /// The steps of a job that ran, with their results.
    fn steps(&self, job: &str) -> Vec<(&str, &str)> {
        let own = |event: &&Value| event["jobID"] == job && event["stage"] == "Main" && event["stepID"].as_array().is_some_and(|id| id.len() == 1);
        let ended = self.events.iter().filter(own).filter_map(|event| Some((event["step"].as_str()?, event["stepResult"].as_str()?)));
        ended.filter(|(step, _)| !step.contains('@')).collect()
    }

    /// What the stages said, each thing once: act tells it again for the step that uses the action.
    fn steps_say(&self) -> impl Iterator<Item = &Value> {
        let stage = |event: &&Value| event["stepID"].as_array().is_some_and(|id| id.len() == 2 && id[1] == "stage");
        self.events.iter().filter(stage)
    }

    fn commands<'a>(&'a self, command: &'a str) -> impl Iterator<Item = &'a Value> {
        self.steps_say().filter(move |event| event["command"] == command)
    }

    /// The summaries, by step.
    fn summaries(&self) -> BTreeMap<&str, &str> {
        self.commands("summary").filter_map(|event| Some((event["step"].as_str()?, event["content"].as_str()?))).collect()
    }

    fn exit_codes(&self) -> BTreeMap<&str, &str> {
        let codes = self.commands("set-output").filter(|event| event["name"] == "exit-code");
        codes.filter_map(|event| Some((event["step"].as_str()?, event["arg"].as_str()?))).collect()
    }

    /// The cases of all reports that were uploaded, of each job in its own artifact.
    fn uploaded(&self, artifacts: &[&str]) -> Vec<Case> {
        let mut files: Vec<PathBuf> = Vec::new();
        for artifact in artifacts {
            let folder = std::fs::read_dir(self.artifacts.path().join(artifact)).unwrap_or_else(|error| panic!("{artifact}: {error}\n{}", self.text));
            files.extend(folder.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_some_and(|e| e == "xml")));
        }
        let cases = readers::cases(files.iter().map(AsRef::as_ref));
        readers::all_differ(&cases);
        cases
    }
}

/// What the workflow uses of others: `owner/name@sha`.
fn uses(workflow: &str) -> Vec<String> {
    let all = workflow.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("uses: "));
    all.filter_map(|used| used.split_whitespace().next()).map(str::to_owned).collect()
}

const PRE_PROD: [&str; 8] = ["Doctor", "Connect", "Mesh", "Deploy to pre-prod", "Routes", "Releases", "Ingress", "Verify pre-prod"];

fn world(name: &str) -> String {
    std::fs::read_to_string(root().join(format!("fixtures/worlds/{name}.yaml"))).expect("a world")
}

#[test]
fn a_green_run_shows_each_step_and_its_summary() {
    let repository = Repository::new(&world("healthy"));
    let run = repository.run("1.4.2");
    assert_eq!(run.exit, 0, "{}", run.text);
    let mut wanted: Vec<_> = PRE_PROD.iter().map(|step| (*step, "success")).collect();
    wanted.push(("Keep the reports", "success"));
    assert_eq!(run.steps("pre-prod"), wanted);
    assert_eq!(run.steps("prod"), ["Deploy to prod", "Verify prod", "Keep the reports"].map(|step| (step, "success")));
    let cases = run.uploaded(&["reports-pre-prod", "reports-prod"]);
    assert!(cases.len() > 70 && cases.iter().all(|case| case.result == "passed"), "{cases:?}");
    let summaries = run.summaries();
    assert_eq!(summaries.len(), 10, "{summaries:?}");
    for (step, summary) in summaries {
        assert!(summary.len() < SUMMARY && summary.starts_with("## shop · "), "{step}: {summary}");
        assert!(summary.contains("✅ passed"), "{step}: {summary}");
    }
    assert_eq!(run.commands("error").count(), 0);
    assert!(run.commands("warning").count() <= 10, "GitHub drops what is more");
    assert_eq!((run.commands("group").count(), run.commands("endgroup").count()), (10, 10));
    assert!(run.exit_codes().values().all(|code| *code == "0"));
}

/// Where app1 is written.
const TEMPLATE: &str = "pipelines/charts/service/templates/deployment.yaml";

/// app1 dies in prod, and its log tries to command the runner.
#[test]
fn a_red_run_is_annotated_once_and_obeys_nobody_elses_text() {
    let panic = r#"["panic: missing environment variable DATABASE_URL"]"#;
    let hostile =
        r###"["panic: missing environment variable DATABASE_URL", "::error title=pwned::by a log", "##[error]pwned", "::add-mask::prod"]"###;
    let text = world("crash-loop");
    assert!(text.contains(panic));
    let repository = Repository::new(&text.replace(panic, hostile));
    let run = repository.run("1.4.2");
    assert_eq!(run.exit, 1, "{}", run.text);
    assert!(PRE_PROD.iter().all(|step| run.steps("pre-prod").contains(&(step, "success"))), "{:?}", run.steps("pre-prod"));
    assert_eq!(run.steps("prod"), [("Deploy to prod", "failure"), ("Keep the reports", "success")]);
    assert_eq!(run.exit_codes()["Deploy to prod"], "5");

    let cases = run.uploaded(&["reports-pre-prod", "reports-prod"]);
    let failed: Vec<&Case> = cases.iter().filter(|case| case.result == "failure").collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((failed[0].class.as_str(), failed[0].name.as_str()), ("prod.deploy.app1-service", "rollout prod"));

    let errors: Vec<&Value> = run.commands("error").collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0]["step"], "Deploy to prod");
    assert_eq!((&errors[0]["kvPairs"]["file"], &errors[0]["kvPairs"]["title"]), (&TEMPLATE.into(), &"deploy app1-service: rollout prod".into()));
    assert!(errors[0]["arg"].as_str().is_some_and(|text| text.contains("exit code 1") && text.contains("\nnext: ")), "{errors:?}");
    let line: usize = errors[0]["kvPairs"]["line"].as_str().and_then(|line| line.parse().ok()).expect("a line");
    let place = repository.workspace.read(TEMPLATE).lines().nth(line - 1).unwrap_or_default().to_owned();
    assert_eq!(place, "kind: Deployment");

    let summaries = run.summaries();
    let red = summaries["Deploy to prod"];
    assert!(red.contains("❌ exit 5") && red.contains("rollout prod") && red.contains("DATABASE_URL"), "{red}");
    assert!(red.contains("::error title=pwned::by a log"), "the log itself is shown: {red}");
    assert_eq!(run.commands("add-mask").filter(|event| event["step"] == "Deploy to prod").count(), 0);
}

#[test]
fn nothing_comes_to_prod_when_pre_prod_fails() {
    let run = Repository::new(&world("broken-image")).run("1.4.2");
    assert_eq!(run.exit, 1, "{}", run.text);
    assert_eq!(
        run.steps("pre-prod"),
        [("Doctor", "success"), ("Connect", "success"), ("Mesh", "success"), ("Deploy to pre-prod", "failure"), ("Keep the reports", "success")]
    );
    assert_eq!(run.steps("prod"), []);
    assert_eq!(readers::results(&run.uploaded(&["reports-pre-prod"]))["failure"], 1);
}

#[test]
fn an_input_is_a_value_and_never_a_command() {
    let repository = Repository::new(&world("healthy"));
    let run = repository.run("1\"; touch /tmp/pwned-by-the-workflow; \" $(touch /tmp/pwned-by-the-workflow) `touch /tmp/pwned-by-the-workflow`");
    assert_eq!(run.steps("pre-prod")[0], ("Doctor", "failure"), "{}", run.text);
    assert_eq!(run.exit_codes()["Doctor"], "3");
    assert!(!std::path::Path::new("/tmp/pwned-by-the-workflow").exists());
}

#[test]
fn the_files_are_clean_and_pinned() {
    let mut workspace = repository();
    // actionlint gives the scripts to the shellcheck that it finds.
    workspace.set(&[("PATH".into(), path(&std::env::var("PATH").expect("PATH")))]);
    let clean = |tool: &str, args: &[&str]| {
        let out = workspace.program(&wheel(tool), args).output().expect("starts");
        assert!(out.status.success(), "{tool}:\n{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    };
    clean("actionlint", &[]);
    clean("zizmor", &["--offline", "--no-progress", "--min-severity", "medium", ".github/workflows/deploy.yml", "pipelines/github/action.yml"]);
    let workflow = workspace.read("pipelines/github/deploy.yml");
    let used = uses(&workflow);
    assert!(used.len() >= 6, "{used:?}");
    for used in used {
        let (_, sha) = used.split_once('@').expect("a version");
        assert!(sha.len() == 40 && sha.chars().all(|c| c.is_ascii_hexdigit()), "{used} is not pinned");
    }
    assert!(
        workflow.contains("    needs: pre-prod\n") && workflow.contains("    environment: prod #"),
        "the reviewers of `prod` are asked after pre-prod"
    );
    assert!(workflow.contains("\npermissions: {}\n"));
}
