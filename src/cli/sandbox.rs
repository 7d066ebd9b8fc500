//! The sandbox as the commands use it: started before a run, or served for a second terminal.

use std::fmt::Write as _;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::cli::helm;
use crate::cli::private::Private;
use crate::cli::settings::Environment;
use crate::cli::{print, print_error};
use crate::clients::tools::Tools;
use crate::sandbox::{self, Sandbox, world};

/// A running sandbox and the folder of its files.
pub(super) struct Started {
    sandbox: Sandbox,
    _folder: Private,
}

impl Started {
    pub(super) fn stop(self) {
        self.sandbox.stop();
    }

    pub(super) fn env(&self) -> &[(String, String)] {
        self.sandbox.env()
    }
}

/// Starts a sandbox on `world` (the healthy one by default), lays its variables over the environment, and sees to a helm when the
/// stages need one. `tell` hears what a person should know.
pub(super) async fn start(world: Option<&Path>, environment: &mut Environment, stages: &[&str], tell: impl Fn(&str) + Copy) -> Result<Started> {
    let started = bare(world, environment, tell).await?;
    if stages.iter().any(|stage| matches!(*stage, "doctor" | "mesh" | "deploy" | "releases" | "cleanup")) {
        let tools = Tools::new(environment.settings(), CancellationToken::new());
        let helm = helm::provide(&tools, tell).await?;
        environment.set("MESHSTEP_HELM", helm.display().to_string());
    }
    Ok(started)
}

async fn bare(world: Option<&Path>, environment: &mut Environment, tell: impl Fn(&str) + Copy) -> Result<Started> {
    let text = world_text(world)?;
    let folder = Private::make()?;
    let sandbox = sandbox::start(&text, folder.path()).await.map_err(|message| {
        let name = world.map_or_else(|| "the built-in world".to_owned(), |path| path.display().to_string());
        Fault::new(Code::FileInvalid, format!("{name}: {message}"))
    })?;
    for (name, value) in sandbox.env() {
        environment.set(name, value.clone());
    }
    if Tools::new(environment.settings(), CancellationToken::new()).find("istioctl").is_none() {
        // Appended: a real one, if there is any, comes first.
        let path = format!("{}:{}", environment.get("PATH").unwrap_or_default(), sandbox.tools().display());
        environment.set("PATH", path);
        tell("istioctl is not on PATH: the sandbox's stand-in is used");
    }
    Ok(Started { sandbox, _folder: folder })
}

/// Serves a sandbox until a signal comes. Prints, and writes to `env_file`, what a second terminal needs.
pub(super) async fn serve(world: Option<&Path>, env_file: Option<&Path>, mut environment: Environment) -> Result<()> {
    let path_before = environment.get("PATH").unwrap_or_default().to_owned();
    let had_helm = Tools::new(environment.settings(), CancellationToken::new()).find("helm").is_some();
    let started = start(world, &mut environment, &["releases"], print_error).await?;
    let mut lines = String::new();
    for (name, value) in started.env() {
        let _infallible = writeln!(lines, "export {name}={}", shell_word(value));
    }
    if let Some(helm) = environment.get("MESHSTEP_HELM").filter(|_| !had_helm) {
        let _infallible = writeln!(lines, "export MESHSTEP_HELM={}", shell_word(helm));
    }
    if environment.get("PATH") != Some(&path_before) {
        let _infallible = writeln!(lines, "export PATH=\"$PATH\":{}", shell_word(&started.sandbox.tools().display().to_string()));
    }
    if let Some(file) = env_file {
        std::fs::write(file, &lines).map_err(|e| Fault::new(Code::FileUnreadable, format!("cannot write {}: {e}", file.display())))?;
    }
    print(&lines);
    print_error("the sandbox answers; paste these lines into another terminal, and end it here with Ctrl-C");
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Fault::new(Code::Defect, e.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Fault::new(Code::Defect, e.to_string()))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    started.stop();
    Ok(())
}

/// A world file's text: by its path, or by the name of one that is built in.
fn world_text(world: Option<&Path>) -> Result<String> {
    let Some(path) = world else { return Ok(world::shipped("healthy").unwrap_or_default().to_owned()) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) => path.to_str().and_then(world::shipped).map(str::to_owned).ok_or_else(|| {
            let names: Vec<&str> = world::SHIPPED.iter().map(|(name, _)| *name).collect();
            Fault::new(Code::FileUnreadable, format!("cannot read the world {}: {error}", path.display()))
                .next(format!("name a world file, or one that is built in: {}", names.join(", ")))
        }),
    }
}

/// A stand-in tool of the sandbox, called by its script. Returns the exit code.
pub(super) fn tool(args: &[String]) -> u8 {
    match args.split_first() {
        Some((name, args)) if name == "istioctl" => u8::try_from(sandbox::istioctl(args)).unwrap_or(1),
        _ => {
            print_error("the sandbox stands in for `istioctl` alone");
            64
        }
    }
}

/// `value` as one word of a POSIX shell.
fn shell_word(value: &str) -> String {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-:,=@%+".contains(&b)) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_values_as_they_are() {
        for (value, word) in [("/tmp/x", "/tmp/x"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("$HOME", "'$HOME'")] {
            assert_eq!(shell_word(value), word);
        }
    }
}
