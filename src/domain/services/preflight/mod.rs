//! Before an apply: would it fail? The API server is asked by dry runs, and what the pods refer to is looked up; nothing is touched.
//!
//! Only what no waiting could mend is a finding. What another controller may still make, what an autoscaler may still bring, what
//! the same run applies before, and what this identity may not look at is told and excuses nothing.

pub mod earlier;
pub mod facts;
pub mod fits;
pub mod look;
pub mod makers;
pub mod references;
pub mod said;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::place::Place;
use crate::domain::services::manifests::Manifest;
use crate::domain::services::rollout::seen::Kind;

/// What is about to be applied.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    pub namespace: &'a str,
    pub manifests: &'a [Manifest],
    /// What helm runs before and after the rest.
    pub hooks: &'a [Manifest],
    /// Of a chart: the objects of the running revision. Helm changes objects in its own way, so those that exist are not tried.
    pub running: Option<&'a [Manifest]>,
    /// Why it is not known yet what it will be.
    pub unknown: Option<&'a str>,
    /// An earlier stage of a dry run would have made what is missing: kinds, above all.
    pub dry_run: bool,
}

impl<'a> Apply<'a> {
    /// Nothing, yet.
    pub fn to(namespace: &'a str) -> Self {
        Self { namespace, manifests: &[], hooks: &[], running: None, unknown: None, dry_run: false }
    }

    /// The workloads of the running revision that it takes away.
    fn leaving(&self) -> impl Iterator<Item = &'a Manifest> {
        let stays = |was: &Manifest| self.manifests.iter().any(|manifest| manifest.title() == was.title());
        self.running.into_iter().flatten().filter(move |was| Kind::parse(was.kind()).is_some() && !stays(was))
    }

    /// The namespace that an object of it goes to.
    fn home<'b>(&self, manifest: &'b Manifest) -> &'b str
    where
        'a: 'b,
    {
        if manifest.namespace().is_empty() { self.namespace } else { manifest.namespace() }
    }
}

/// Something that would make the apply or its rollout fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub code: Code,
    pub place: Place,
    pub words: String,
}

impl Finding {
    fn next(&self) -> &'static str {
        match self.code {
            Code::PodsRefused if self.words.contains("needs ServiceAccount") => "create the ServiceAccount, or correct `serviceAccountName`",
            Code::VolumeFailing => "create the claim, or correct `claimName`",
            Code::NoController => "correct `ingressClassName`, or install the controller of that class",
            Code::PodsRefused | Code::ApplyRefused => "correct what the API server's words above name",
            code => code.info().next,
        }
    }
}

/// What is to be thought of what was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// What a person should know all the same.
    pub warnings: Vec<String>,
    /// What could not be looked at, and why that is no finding.
    pub notes: Vec<String>,
}

impl Report {
    fn find(&mut self, code: Code, place: Place, words: String) {
        self.findings.push(Finding { code, place, words });
    }

    /// All findings as one fault, which is the first one's.
    pub fn fault(&self) -> Option<Fault> {
        let first = self.findings.first()?;
        let more = if self.findings.len() > 1 { format!(" (and {} more)", self.findings.len() - 1) } else { String::new() };
        let lines: Vec<String> = self.findings.iter().map(|f| format!("{}: {}: {}", f.place, f.code, f.words)).collect();
        let mut fault = Fault::new(first.code, format!("it would fail: {}{more}", first.words)).at(Some(&first.place));
        if self.findings.len() > 1 {
            fault = fault.evidence("all that would fail", lines.join("\n"));
        }
        let steps: BTreeSet<&str> = self.findings.iter().map(Finding::next).collect();
        for step in steps {
            fault = fault.next(step);
        }
        Some(fault.next("nothing was touched; `--no-preflight` deploys it all the same"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_findings_are_one_fault_with_the_first_ones_code_and_place() {
        let mut report = Report::default();
        assert_eq!(report.fault(), None);
        report.find(Code::ConfigMissing, Place::new("k8s/app.yaml", 9, 0), "Secret db is not there".into());
        report.find(Code::Unschedulable, Place::new("k8s/app.yaml", 12, 0), "no node is large enough".into());
        let fault = report.fault().expect("a fault");
        assert_eq!((fault.code, fault.place.map(|p| p.to_string()).as_deref()), (Code::ConfigMissing, Some("k8s/app.yaml:9")));
        assert_eq!(fault.message, "it would fail: Secret db is not there (and 1 more)");
        assert!(fault.evidence[0].text.contains("k8s/app.yaml:12: unschedulable: no node is large enough"), "{:?}", fault.evidence);
    }
}
