//! What was seen before an apply, as it is recorded, and what is to be thought of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::place::Place;
use crate::base::text;
use crate::domain::services::preflight::Report;
use crate::domain::services::preflight::fits::{self, Offer};
use crate::domain::services::preflight::makers::After;
use crate::domain::services::preflight::references::{Needed, Reference};
use crate::domain::services::preflight::said::{Answer, Said};

/// Everything that was seen of one apply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub namespace: String,
    pub objects: usize,
    /// That could be made.
    pub pods: usize,
    pub seen: Vec<Fact>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fact")]
pub enum Fact {
    /// The API server did not take a dry run.
    Answer { of: String, place: Place, answer: Answer },
    /// A pod needs something. `place`: where that is named.
    Reference { of: String, place: Place, reference: Reference, found: Found, after: After },
    /// An Ingress names its class.
    IngressClass { of: String, place: Place, class: String, found: Found },
    /// The part of a pod's spec that the scheduler goes by, and the nodes, those alike once. `autoscaler`: is there one, where that matters?
    Room { of: String, selector: Place, requests: Place, spec: Value, nodes: Vec<Offer>, autoscaler: Option<Result<bool, String>> },
    /// Something could not be looked at.
    Unseen { why: String },
}

/// What was found at a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    There,
    WithoutKey,
    Missing,
    Unknown(String),
}

impl Facts {
    /// `3 objects, 1 pod and 4 references`
    pub fn looked_at(&self) -> String {
        let references = self.seen.iter().filter(|fact| matches!(fact, Fact::Reference { .. } | Fact::IngressClass { .. })).count();
        format!("{}, {} and {}", text::count(self.objects, "object"), text::count(self.pods, "pod"), text::count(references, "reference"))
    }

    /// What would fail, and what is told.
    pub fn judge(&self) -> Report {
        let mut report = Report::default();
        let mut told = BTreeSet::new();
        for fact in &self.seen {
            match fact {
                Fact::Answer { of, place, answer } => match answer.meaning() {
                    Said::Refused(code) => report.find(code, place.clone(), format!("{of}: {}", answer.without_doing())),
                    Said::Nothing(why) if answer.of_pod => report.notes.push(format!("a pod of {of}: {why}")),
                    Said::Nothing(why) => report.notes.push(format!("{of}: {why}")),
                },
                Fact::Reference { reference, found: Found::Unknown(why), .. } => {
                    if told.insert(why.clone()) {
                        report.notes.push(format!("{} {} was not looked for: {why}", reference.kind, reference.name));
                    }
                }
                Fact::Reference { found: Found::There, .. } | Fact::IngressClass { found: Found::There | Found::WithoutKey, .. } => {}
                Fact::Reference { of, place, reference, found, after } => self.missing(&mut report, (of, place), reference, found, after),
                Fact::IngressClass { of, place, class, found: Found::Missing } => {
                    let words = format!("{of}: there is no IngressClass {class}, so no controller would take it");
                    report.find(Code::NoController, place.clone(), words);
                }
                Fact::IngressClass { class, found: Found::Unknown(why), .. } => {
                    report.notes.push(format!("IngressClass {class} was not looked for: {why}"));
                }
                Fact::Room { of, selector, requests, spec, nodes, autoscaler } => {
                    let Some(words) = fits::misfit(spec, nodes) else { continue };
                    let (at, line) = (if words.contains("nodeSelector") { selector } else { requests }, format!("{of}: {words}"));
                    match autoscaler {
                        Some(Ok(false)) => report.find(Code::Unschedulable, at.clone(), line),
                        Some(Ok(true)) => report.warnings.push(format!("{line}; the autoscaler must bring a larger one")),
                        Some(Err(why)) => report.warnings.push(format!("{line}; whether there is an autoscaler that brings one is not known: {why}")),
                        None => report.warnings.push(line),
                    }
                }
                Fact::Unseen { why } => report.notes.push(why.clone()),
            }
        }
        report
    }

    fn missing(&self, report: &mut Report, (of, place): (&str, &Place), reference: &Reference, found: &Found, after: &After) {
        let Reference { kind, name, key, by, only_told } = reference;
        let what = key.as_ref().map_or_else(|| format!("{kind} {name}"), |key| format!("key {key} of {kind} {name}"));
        let line = format!("{of}: {by} needs {what}");
        match after {
            After::Yes => {}
            After::Maybe(maker) => report.notes.push(format!("{line}, which {maker} may still make")),
            After::Unknown(why) => report.notes.push(format!("{line}, which is not there; whether something makes it is not known: {why}")),
            After::No if *only_told => report.warnings.push(format!("{of}: {by} names {what}, which is not in {}", self.namespace)),
            After::No | After::WithoutKey => {
                let code = match kind {
                    Needed::Claim => Code::VolumeFailing,
                    Needed::ServiceAccount => Code::PodsRefused,
                    Needed::Secret | Needed::ConfigMap => Code::ConfigMissing,
                };
                let without_key = *found == Found::WithoutKey || *after == After::WithoutKey;
                let tail = if without_key { "which has no such key" } else { "which is not there" };
                report.find(code, place.clone(), format!("{line}, {tail} in {}", self.namespace));
            }
        }
    }
}
