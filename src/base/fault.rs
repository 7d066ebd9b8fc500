//! The one failure type: what broke, the evidence, where, and what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::base::place::Place;
use crate::base::text;

/// Which exit code and which JUnit element a fault leads to (the table of exit codes in the README).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Exit 1: a defect of this tool.
    Defect,
    /// Exit 2: the command line is wrong.
    Usage,
    /// Exit 3: a file is invalid, or a static check found something.
    Invalid,
    /// Exit 4: a prerequisite is missing.
    Prerequisite,
    /// Exit 5: what was deployed, published or asked is judged broken.
    Broken,
    /// Exit 6: timed out without a sharper cause.
    TimedOut,
    /// Exit 7: could not be carried out or observed: AWS, API server, network, rights or a tool.
    Environment,
    /// Exit 8: something was left behind.
    LeftBehind,
    /// Exit 9: another run holds the lock or the release.
    Held,
    /// Exit 10: changes are pending (`--check`).
    Pending,
    /// Exit 11: approval is needed.
    Approval,
    /// Exit 130 or 143: interrupted.
    Cancelled,
}

/// A titled piece of proof, as it was seen: a log's tail, an event, an AWS reason, a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub title: String,
    pub text: String,
}

/// A failure. `Display` prints the message alone; evidence, place and next steps are for the reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub code: Code,
    pub class: Class,
    /// One line, without the cause chain's noise, lower case, no full stop.
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What to do, most useful first. Empty: the code's own advice is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
}

impl Fault {
    /// A fault of `code`'s usual class.
    pub fn new(code: Code, message: impl AsRef<str>) -> Self {
        Self { code, class: code.info().class, message: text::one_line(message.as_ref()), evidence: Vec::new(), place: None, next: Vec::new() }
    }

    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    #[must_use]
    pub fn at(mut self, place: Option<&Place>) -> Self {
        self.place = self.place.or_else(|| place.cloned());
        self
    }

    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }

    /// Adds evidence unless its text is blank.
    #[must_use]
    pub fn evidence(mut self, title: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.trim().is_empty() {
            self.evidence.push(Evidence { title: title.into(), text });
        }
        self
    }

    /// What to do: the fault's own steps, else its code's advice.
    pub fn next_steps(&self) -> Vec<String> {
        if self.next.is_empty() { vec![self.code.info().next.to_owned()] } else { self.next.clone() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

pub type Result<T, E = Fault> = std::result::Result<T, E>;
