//! Child processes: found on an explicit PATH, run with a deadline, ended in order when the run is cancelled, their output capped.

mod capture;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::capture::{Captured, capture};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::{secrets, text};
use crate::clients::kube;
use crate::clients::settings::Settings;

/// How long a child may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(6);
/// How long output may still come after the child has ended (a grandchild can hold the pipe).
const DRAIN: Duration = Duration::from_secs(2);
/// In how many of its last lines a tool says what ended it.
const LAST_WORDS: usize = 5;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// What is kept of each stream: its last bytes.
const CAP: usize = 16 * 1024 * 1024;

/// Variables that would lead a tool to another cluster, namespace or account than the one it is called for.
const REMOVED: [&str; 12] = [
    "HELM_KUBECONTEXT",
    "HELM_KUBEAPISERVER",
    "HELM_KUBETOKEN",
    "HELM_KUBEASUSER",
    "HELM_KUBEASGROUPS",
    "HELM_KUBECAFILE",
    "HELM_KUBEINSECURE_SKIP_TLS_VERIFY",
    "HELM_KUBETLS_SERVER_NAME",
    "HELM_NAMESPACE",
    "HELM_DEBUG",
    "CLICOLOR_FORCE",
    "FORCE_COLOR",
];

/// Runs the tools of the agent. Cheap to clone.
#[derive(Clone)]
pub struct Tools {
    settings: Settings,
    cancel: CancellationToken,
    grace: Duration,
}

/// One call of a tool.
#[derive(Clone)]
pub struct Call {
    tool: String,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
    cwd: Option<PathBuf>,
    cap: usize,
}

/// A tool that ended, well or not.
#[derive(Clone)]
pub struct Finished {
    pub status: Status,
    /// As the tool wrote it (its last bytes, if it was very long). It may hold secrets: show [`Finished::shown`] instead.
    pub stdout: String,
    /// Redacted.
    pub stderr: String,
    /// More was written to stdout than is kept.
    pub truncated: bool,
    /// The redacted command line, as a person can paste it.
    pub command: String,
    pub took: Duration,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Code(i32),
    Signal(i32),
}

impl Status {
    pub fn success(self) -> bool {
        self == Status::Code(0)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Status::Code(code) => write!(f, "exit {code}"),
            Status::Signal(signal) => write!(f, "ended by signal {signal}"),
        }
    }
}

impl From<ExitStatus> for Status {
    fn from(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Status::Signal(status.signal().unwrap_or(0)), Status::Code)
    }
}

impl Call {
    pub fn new(tool: &str) -> Self {
        Self { tool: tool.to_owned(), args: Vec::new(), env: BTreeMap::new(), stdin: None, timeout: DEFAULT_TIMEOUT, cwd: None, cap: CAP }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Fed to the tool; without it stdin is empty.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// By default two minutes.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    #[must_use]
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// How many bytes of each stream are kept.
    #[must_use]
    pub fn cap(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// The command line, redacted and quoted for a shell.
    pub fn command_line(&self) -> String {
        let words = std::iter::once(self.tool.clone()).chain(self.args.iter().map(|arg| quoted(&arg.to_string_lossy())));
        secrets::redact(&words.collect::<Vec<_>>().join(" ")).into_owned()
    }
}

impl Finished {
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The last `lines` of what it said, stderr after stdout, redacted.
    pub fn shown(&self, lines: usize) -> String {
        let both = format!("{}\n{}", self.stdout.trim_end(), self.stderr.trim_end());
        secrets::redact(&text::tail_lines(text::strip_ansi(both.trim()).trim(), lines)).into_owned()
    }

    /// Itself when it succeeded, else a fault with its last lines.
    pub fn ok(self) -> Result<Self> {
        if self.success() { Ok(self) } else { Err(self.fault()) }
    }

    /// The fault of this tool's failure: its own last line is the message, its last 40 lines are evidence.
    pub fn fault(&self) -> Fault {
        let tool = self.command.split(' ').next().unwrap_or_default();
        let said = if self.stderr.trim().is_empty() { secrets::redact(&self.stdout).into_owned() } else { self.stderr.clone() };
        let plain = text::strip_ansi(&said);
        // What it was refused on the way matters only in its last words: tools also ask for what they can do without.
        if let Some(fault) = kube::refused(&text::tail_lines(plain.trim(), LAST_WORDS), &format!("`{tool}` failed ({})", self.status)) {
            return fault.evidence("command", self.command.clone()).evidence("its last lines", self.shown(40));
        }
        let last = plain.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing").to_owned();
        Fault::new(Code::ToolFailed, format!("`{tool}` failed ({}): {}", self.status, text::head(&last, 400)))
            .evidence("command", self.command.clone())
            .evidence("its last lines", self.shown(40))
    }
}

impl Tools {
    /// Tools of `settings`' PATH; `cancel` ends what runs.
    pub fn new(settings: Settings, cancel: CancellationToken) -> Self {
        Self { settings, cancel, grace: GRACE }
    }

    /// Another time for a child to end after SIGTERM.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same tools with more environment for every call, e.g. `KUBECONFIG`.
    #[must_use]
    pub fn with_env(&self, more: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut overlay = self.settings.overlay().clone();
        overlay.extend(more);
        Self { settings: Settings::from_vars(self.settings.env().clone(), overlay), ..self.clone() }
    }

    /// Where a tool is: `MESHSTEP_HELM` and the like first, then PATH.
    pub fn find(&self, tool: &str) -> Option<PathBuf> {
        if let Some(path) = self.settings.get(&override_name(tool)) {
            let path = PathBuf::from(path);
            return is_executable(&path).then_some(path);
        }
        let path = self.settings.get("PATH").unwrap_or_default();
        std::env::split_paths(path).filter(|folder| !folder.as_os_str().is_empty()).map(|folder| folder.join(tool)).find(|path| is_executable(path))
    }

    /// Runs a tool to its end. A status other than 0 is not an error here: see [`Finished::ok`].
    ///
    /// # Errors
    /// `tool_missing` when it is not there, `tool_failed` when it cannot be started or passes its deadline (it is ended first),
    /// `aborted` when the run is cancelled (SIGTERM is passed on and its end waited for).
    pub async fn run(&self, call: Call) -> Result<Finished> {
        let path = self.find(&call.tool).ok_or_else(|| self.missing(&call.tool))?;
        if self.cancel.is_cancelled() {
            return Err(Fault::new(Code::Cancelled, format!("`{}` was not started: the run was cancelled", call.tool)));
        }
        let start = Instant::now();
        let mut child = self.command(&path, &call).spawn().map_err(|error| cannot_start(&call, &error))?;
        if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), call.stdin.clone()) {
            // A tool may end without reading its input: its exit status tells.
            tokio::spawn(async move { _ = pipe.write_all(&bytes).await });
        }
        let (out, err) = (capture(child.stdout.take(), call.cap), capture(child.stderr.take(), call.cap));
        let ended = tokio::select! {
            biased;
            status = child.wait() => Ended::Itself(status),
            () = self.cancel.cancelled() => Ended::Cancelled,
            () = tokio::time::sleep(call.timeout) => Ended::TimedOut,
        };
        let status = match &ended {
            Ended::Itself(status) => status.as_ref().map(|status| Status::from(*status)).map_err(|error| cannot_start(&call, error))?,
            Ended::Cancelled | Ended::TimedOut => self.end(&mut child).await,
        };
        let finished = finish(&call, status, start.elapsed(), out.take(DRAIN).await, err.take(DRAIN).await);
        match ended {
            Ended::Itself(_) => Ok(finished),
            Ended::Cancelled => {
                let message = format!("`{}` was ended because the run was cancelled ({status})", call.tool);
                Err(Fault::new(Code::Cancelled, message).evidence("command", finished.command.clone()).evidence("its last lines", finished.shown(40)))
            }
            Ended::TimedOut => {
                let message = format!("`{}` did not end within {}", call.tool, text::seconds(call.timeout));
                Err(Fault::new(Code::ToolFailed, message)
                    .evidence("command", finished.command.clone())
                    .evidence("its last lines", finished.shown(40))
                    .next("run the printed command by hand to see what it waits for"))
            }
        }
    }

    fn command(&self, path: &Path, call: &Call) -> Command {
        let mut command = Command::new(path);
        command.args(&call.args).env_clear().envs(self.settings.env());
        for name in REMOVED {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C.UTF-8").env("NO_COLOR", "1").env("TERM", "dumb").envs(&call.env);
        if let Some(folder) = &call.cwd {
            command.current_dir(folder);
        }
        command.stdin(if call.stdin.is_some() { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: SIGTERM reaches the tool's own children too, and a terminal's Ctrl-C comes only through us.
        command.process_group(0).kill_on_drop(true);
        command
    }

    /// SIGTERM to the whole group, the grace, then SIGKILL.
    async fn end(&self, child: &mut Child) -> Status {
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let signal = |signal| group.map(|group| kill_process_group(group, signal));
        signal(Signal::TERM);
        let status = match timeout(self.grace, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                signal(Signal::KILL);
                child.wait().await
            }
        };
        status.map_or(Status::Signal(9), Status::from)
    }

    fn missing(&self, tool: &str) -> Fault {
        let variable = override_name(tool);
        match self.settings.get(&variable) {
            Some(path) => Fault::new(Code::ToolMissing, format!("`{variable}` names `{path}`, which is no executable file"))
                .next(format!("correct `{variable}`, or unset it to use the `{tool}` of PATH")),
            None => Fault::new(Code::ToolMissing, format!("`{tool}` is not on PATH"))
                .evidence("PATH", self.settings.get("PATH").unwrap_or("(empty)"))
                .next(format!("install `{tool}` on the agent, or name it with `{variable}`")),
        }
    }
}

enum Ended {
    Itself(std::io::Result<ExitStatus>),
    Cancelled,
    TimedOut,
}

fn finish(call: &Call, status: Status, took: Duration, out: Captured, err: Captured) -> Finished {
    Finished {
        status,
        stdout: out.text(),
        stderr: secrets::redact(&err.text()).into_owned(),
        truncated: out.truncated,
        command: call.command_line(),
        took,
    }
}

fn cannot_start(call: &Call, error: &std::io::Error) -> Fault {
    Fault::new(Code::ToolFailed, format!("`{}` cannot be started: {error}", call.tool)).evidence("command", call.command_line())
}

fn override_name(tool: &str) -> String {
    format!("MESHSTEP_{}", tool.to_ascii_uppercase().replace('-', "_"))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
