//! The environment, read once: process variables, what the sandbox lays over them, and what the CI host says of itself.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use crate::clients::Settings;

/// The environment variables that the run sees: the process's own, and what was laid over them.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    process: BTreeMap<String, String>,
    overlay: BTreeMap<String, String>,
}

impl Environment {
    /// The process's own; values that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let process = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        Self { process, overlay: BTreeMap::new() }
    }

    /// The value, unless it is missing or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.overlay.get(name).or_else(|| self.process.get(name)).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Lays a variable over the process's own.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.overlay.insert(name.to_owned(), value.into());
    }

    pub fn process(&self) -> &BTreeMap<String, String> {
        &self.process
    }

    /// What the clients and child processes get.
    pub fn settings(&self) -> Settings {
        Settings::from_vars(self.process.clone(), self.overlay.clone())
    }

    /// The values that fill `${KEY}`: `MESHSTEP_VAR_KEY`, and over them the flags.
    pub fn file_vars(&self, flags: &[(String, String)]) -> BTreeMap<String, String> {
        let from_environment = self.process.iter().filter_map(|(name, value)| Some((name.strip_prefix("MESHSTEP_VAR_")?.to_owned(), value.clone())));
        from_environment.chain(flags.iter().cloned()).collect()
    }

    /// Identifies this build: Jenkins' BUILD_TAG, GitHub's run id and attempt, or a name of our own.
    pub fn run_id(&self) -> String {
        if let Some(tag) = self.get("BUILD_TAG") {
            return tag.to_owned();
        }
        if let Some(run) = self.get("GITHUB_RUN_ID") {
            return format!("github-{run}-{}", self.get("GITHUB_RUN_ATTEMPT").unwrap_or("1"));
        }
        format!("local-{}-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S"), std::process::id())
    }

    /// Is the run's id the CI host's own, the same for all processes of one build?
    pub fn run_id_from_ci(&self) -> bool {
        self.get("BUILD_TAG").is_some() || self.get("GITHUB_RUN_ID").is_some()
    }

    /// Where a person finds the build in a browser.
    pub fn build_url(&self) -> Option<String> {
        if let Some(url) = self.get("BUILD_URL") {
            return Some(url.to_owned());
        }
        let (server, repository, run) = (self.get("GITHUB_SERVER_URL")?, self.get("GITHUB_REPOSITORY")?, self.get("GITHUB_RUN_ID")?);
        Some(format!("{server}/{repository}/actions/runs/{run}"))
    }

    pub fn on_github(&self) -> bool {
        self.get("GITHUB_ACTIONS") == Some("true")
    }

    /// Does a CI host read what is printed?
    pub fn in_ci(&self) -> bool {
        self.run_id_from_ci() || self.on_github() || self.get("CI").is_some_and(|value| value != "false")
    }

    /// The root for relative paths in reports.
    pub fn workspace(&self) -> Option<PathBuf> {
        self.get("WORKSPACE").or_else(|| self.get("GITHUB_WORKSPACE")).map(PathBuf::from)
    }
}

/// What stands at the other end of standard output and error.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    pub stdout: bool,
    pub stderr: bool,
}

impl Terminal {
    pub fn look() -> Self {
        Self { stdout: std::io::stdout().is_terminal(), stderr: std::io::stderr().is_terminal() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment { process: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), overlay: BTreeMap::new() }
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_bare_variables_fill_nothing() {
        let vars = environment(&[("MESHSTEP_VAR_TAG", "1"), ("MESHSTEP_VAR_TEAM", "bi"), ("OTHER", "x")]).file_vars(&[("TAG".into(), "2".into())]);
        assert_eq!(vars.into_iter().collect::<Vec<_>>(), [("TAG".into(), "2".into()), ("TEAM".into(), "bi".into())]);
    }

    #[test]
    fn the_build_is_named_as_the_ci_host_names_it() {
        assert_eq!(environment(&[("BUILD_TAG", "jenkins-shop-17")]).run_id(), "jenkins-shop-17");
        assert_eq!(environment(&[("GITHUB_RUN_ID", "9"), ("GITHUB_RUN_ATTEMPT", "2")]).run_id(), "github-9-2");
        assert!(environment(&[]).run_id().starts_with("local-"));
    }

    #[test]
    fn a_ci_host_is_known_by_what_it_sets() {
        for host in [("CI", "true"), ("GITHUB_ACTIONS", "true"), ("BUILD_TAG", "jenkins-shop-17")] {
            assert!(environment(&[host]).in_ci(), "{host:?}");
        }
        assert!(!environment(&[("CI", "false"), ("TERM", "xterm")]).in_ci());
    }
}
