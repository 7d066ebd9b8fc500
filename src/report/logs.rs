//! The whole output of a case, in `logs/<classname>/<name>.log`, when the other reports had to cut it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::base::fault::Fault;
use crate::engine::event::{CaseEnd, CaseId, Event, Stamped};
use crate::report::summary::RunSummary;
use crate::report::text::{CAP, clean, prefix};
use crate::report::{Sink, junit};

/// Is there more than the other reports can show?
pub fn needed(end: &CaseEnd) -> bool {
    // What a body holds beside evidence (message, place, next steps) is short.
    const ROOM: usize = 2048;
    let size = |fault: &Fault| fault.evidence.iter().map(|evidence| evidence.text.len() + evidence.title.len()).sum::<usize>();
    let evidence = end.outcome.fault().map_or(0, size) + end.attempts.iter().map(|attempt| size(&attempt.fault)).sum::<usize>();
    end.output.len() + ROOM > CAP || evidence + ROOM > CAP
}

/// The log's path inside the report folder, with `/` between its parts.
pub fn relative(environment: &str, case: &CaseId) -> String {
    format!("logs/{}/{}.log", safe(&junit::classname(environment, case)), safe(&case.name))
}

/// A file name that every system takes. What was changed or cut is told apart by a hash of the whole.
fn safe(name: &str) -> String {
    const MAX: usize = 100;
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' }).collect();
    let plain = plain.trim_matches(['.', '_']);
    if plain == name && !plain.is_empty() && plain.len() <= MAX {
        return plain.to_owned();
    }
    let hash = Sha256::digest(name.as_bytes());
    let plain = if plain.is_empty() { "case" } else { prefix(plain, MAX) };
    format!("{plain}-{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2])
}

/// Everything that is known of a case, uncut.
fn whole(end: &CaseEnd) -> String {
    let mut text = format!("{}\n", junit::verdict_line(&end.outcome));
    for (at, attempt) in end.attempts.iter().enumerate() {
        let _infallible = writeln!(text, "\nattempt {} at {}: {}", at + 1, attempt.at, attempt.fault.message);
        evidence(&mut text, &attempt.fault);
    }
    if let Some(fault) = end.outcome.fault() {
        evidence(&mut text, fault);
    }
    if !end.output.is_empty() {
        text.push('\n');
        text.push_str(&end.output);
    }
    clean(&text)
}

fn evidence(text: &mut String, fault: &Fault) {
    for evidence in &fault.evidence {
        let _infallible = writeln!(text, "\n--- {} ---\n{}", evidence.title, evidence.text);
    }
}

pub(super) struct Logs {
    dir: PathBuf,
    trouble: Option<String>,
}

impl Logs {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), trouble: None }
    }

    fn write(&self, path: &Path, end: &CaseEnd) -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
        fs::write(path, whole(end))
    }
}

impl Sink for Logs {
    fn event(&mut self, event: &Stamped, run: &RunSummary) {
        let Event::CaseEnded(end) = &event.event else { return };
        if needed(end) {
            let path = self.dir.join(relative(&run.run.environment, &end.case));
            if let Err(error) = self.write(&path, end) {
                self.trouble = Some(format!("cannot write `{}`: {error}", path.display()));
            }
        }
    }

    fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_safe_and_told_apart() {
        assert_eq!(safe("rollout-prod"), "rollout-prod");
        for hostile in ["../../etc/passwd", "..", "", "GET a/b?c=d", "nul\u{0}", "ä", &"x".repeat(500)] {
            let name = safe(hostile);
            assert!(!name.is_empty() && name.len() <= 120 && !name.contains('/') && !name.starts_with('.'), "{hostile:?}: {name}");
        }
        assert_ne!(safe("GET a/"), safe("GET a?"));
        assert_ne!(safe("a b"), safe("a_b"));
    }
}
