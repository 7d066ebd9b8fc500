//! One runner for both sides: it arranges a scenario's world, runs the command, lets happen what happens, and judges what came of it.

mod merge;
mod objects;
mod play;
pub(crate) mod sandbox;
pub(crate) mod scenario;
mod site;
mod stranger;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub(crate) use play::{Played, play, words};
pub(crate) use scenario::{PATIENCE_VARIABLE, Part, Profile, Scenario};
pub(crate) use verdict::Verdict;

/// A side on which scenarios are staged.
pub(crate) trait Side: Sync {
    type Stage: Stage;

    /// What takes the place of `<certificate>` and such in a scenario's file.
    fn words(&self) -> Vec<(&'static str, String)>;

    /// Makes the world in which the command will run.
    async fn arrange(&self, scenario: &Scenario) -> Result<Self::Stage, String>;
}

/// An arranged world.
pub(crate) trait Stage: Sync {
    /// How the cluster is named in a pipeline file.
    fn cluster(&self) -> Value;

    /// A command that sees this world and nothing else.
    fn command(&self, program: &str) -> Command;

    /// Makes or changes objects, in this order.
    async fn apply(&self, objects: &[Value]) -> Result<(), String>;

    /// Gone already is as good.
    async fn delete(&self, object: &Value) -> Result<(), String>;

    /// Lets AWS answer wrongly from now on.
    async fn aws(&self, faults: &[meshstep::sandbox::world::AwsFault]) -> Result<(), String>;

    /// The command's identity is not known to the API server any more.
    async fn refuse_token(&self) -> Result<(), String>;

    /// The world's `dns.strays` leave the DNS.
    async fn drop_strays(&self) -> Result<(), String>;

    async fn part(&self, what: &str, part: Part) -> Result<(), String>;

    /// Leaves nothing behind that another scenario could see.
    async fn end(self) -> Result<(), String>;
}

/// All scenario files.
pub(crate) fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("tests/scenarios is readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|ending| ending == "yaml") {
                into.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios"), &mut files);
    assert!(!files.is_empty(), "there are no scenarios");
    files
}

/// The files whose paths contain one of these words, all without words; those that take longest come first, so that they do not come last.
pub(crate) fn chosen(words: &[String]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let hit = |path: &PathBuf| {
        let below = path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned();
        words.is_empty() || words.iter().any(|word| below.contains(word.as_str()))
    };
    let mut files: Vec<PathBuf> = files().into_iter().filter(hit).collect();
    let longest = |file: &PathBuf| std::cmp::Reverse(Scenario::read(file, &[]).map(|scenario| scenario.expect.within).unwrap_or_default());
    files.sort_by_cached_key(longest);
    files
}
