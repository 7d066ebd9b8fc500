//! Runs the binary in a folder of its own with a scrubbed environment.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A workspace: a copy of `pipelines/`, and where the reports go.
pub(crate) struct Workspace {
    dir: TempDir,
    env: BTreeMap<String, String>,
}

/// What a run left.
pub(crate) struct Run {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) reports: PathBuf,
    /// Where it ran, if that must stay for the reports.
    pub(crate) _workspace: Option<Workspace>,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

impl Workspace {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        copy(&root().join("pipelines"), &dir.path().join("pipelines"));
        Self { dir, env: BTreeMap::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    pub(crate) fn set(&mut self, env: &[(String, String)]) {
        self.env.extend(env.iter().cloned());
    }

    /// The current context of the kubeconfig that was set.
    pub(crate) fn context(&self) -> String {
        let text = std::fs::read_to_string(&self.env["KUBECONFIG"]).expect("the kubeconfig");
        let line = text.lines().find_map(|line| line.split_once("current-context")).expect("a current context").1;
        line.trim_start_matches(['"', ':', ' ']).trim_end_matches([',', '"', ' ']).to_owned()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_meshstep"), args)
    }

    /// A command, with nothing of this process's environment but PATH, HOME and what finds and keeps helm.
    pub(crate) fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        for name in ["PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "MESHSTEP_HELM", "PIP_FIND_LINKS", "PIP_CERT", "PIP_INDEX_URL", "SSL_CERT_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(&self.env);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        let output = self.command(args).output().expect("the binary starts");
        self.ended(output)
    }

    pub(crate) fn ended(&self, output: Output) -> Run {
        Run {
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            reports: self.path("reports"),
            _workspace: None,
        }
    }
}

impl Run {
    /// Its reports stay as long as this.
    pub(crate) fn keeping(self, workspace: Workspace) -> Self {
        Self { _workspace: Some(workspace), ..self }
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.exit, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stdout.contains(words) || self.stderr.contains(words), "`{words}` is not in\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// The ended cases of `run.jsonl`, in order.
    pub(crate) fn cases(&self) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == "case-ended").collect()
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.reports.join("run.jsonl")).expect("run.jsonl");
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// The case whose name contains `name`.
    #[track_caller]
    pub(crate) fn case(&self, name: &str) -> Value {
        let named = |case: &Value| case["case"]["name"].as_str().is_some_and(|n| n.contains(name));
        self.cases().into_iter().find(named).unwrap_or_else(|| panic!("no case `{name}`\n{}", self.stdout))
    }

    /// Every report file is well-formed and has a case; returns the number of cases.
    #[track_caller]
    pub(crate) fn junit_cases(&self) -> usize {
        let mut count = 0;
        for entry in std::fs::read_dir(&self.reports).expect("reports") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == "xml") {
                let text = std::fs::read_to_string(&path).expect("XML");
                let document = roxmltree::Document::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let cases = document.descendants().filter(|node| node.has_tag_name("testcase")).count();
                assert!(cases > 0, "{} is empty", path.display());
                count += cases;
            }
        }
        count
    }
}

/// A sandbox in a process of its own, as in a second terminal.
pub(crate) struct Served {
    child: Child,
    pub(crate) env: Vec<(String, String)>,
}

impl Served {
    pub(crate) fn start(workspace: &Workspace, world: Option<&str>) -> Self {
        let mut args = vec!["sandbox", "serve"];
        args.extend(world.iter().flat_map(|world| ["--world", world]));
        let mut child = workspace.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let exported = |line: String| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        };
        // PATH is the last line and has the form "$PATH":FOLDER.
        let mut env = Vec::new();
        for line in lines.map_while(Result::ok) {
            let Some((name, value)) = exported(line) else { break };
            if let Some(folder) = value.strip_prefix("\"$PATH\":") {
                let path = std::env::var("PATH").unwrap_or_default();
                env.push((name, format!("{path}:{}", folder.trim_matches('\''))));
                break;
            }
            env.push((name, value));
        }
        assert!(env.iter().any(|(name, _)| name == "KUBECONFIG"), "the sandbox told nothing");
        Self { child, env }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Looks until it is so, for at most two minutes.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(120), "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
