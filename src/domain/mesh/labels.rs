//! Injection labels of namespaces: what is there, and what a change would mean.

use std::collections::BTreeMap;

use crate::base::codes::Code;
use crate::base::fault::Fault;

pub const INJECTION: &str = "istio-injection";
const REVISION: &str = "istio.io/rev";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it should be; something about it may be worth a warning.
    Keep { warning: Option<String> },
    /// Set `istio-injection=enabled`.
    Label { was: Option<String> },
    /// The label would move the namespace to another control plane.
    Conflict { revision: String },
}

/// `istio-injection=enabled` and `istio.io/rev` exclude each other; where both are, the older one wins.
pub fn step(namespace: &str, labels: &BTreeMap<String, String>) -> Step {
    let injection = labels.get(INJECTION).map(String::as_str);
    match (injection, labels.get(REVISION)) {
        (Some("enabled"), Some(revision)) => {
            let warning = format!("namespace {namespace} also has {REVISION}={revision}, which {INJECTION}=enabled overrules: remove one of them");
            Step::Keep { warning: Some(warning) }
        }
        (Some("enabled"), None) => Step::Keep { warning: None },
        (None, Some(revision)) if revision == "default" => Step::Keep { warning: None },
        (_, Some(revision)) => Step::Conflict { revision: revision.clone() },
        (was, None) => Step::Label { was: was.map(str::to_owned) },
    }
}

/// The fault of a label that would move the namespace.
pub fn conflict(namespace: &str, revision: &str) -> Fault {
    let message = format!(
        "namespace {namespace} gets its sidecars from revision {revision} ({REVISION}); {INJECTION}=enabled would move it to another control plane"
    );
    Fault::new(Code::MeshForeign, message)
        .next(format!("take {namespace} out of `mesh.inject`, or remove its label {REVISION}, or move it on purpose with `--allow-mesh-change`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_what_follows() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(step("prod", &labels(&[])), Step::Label { was: None });
        assert_eq!(step("prod", &labels(&[(INJECTION, "disabled")])), Step::Label { was: Some("disabled".into()) });
        assert_eq!(step("prod", &labels(&[(INJECTION, "enabled")])), Step::Keep { warning: None });
        assert_eq!(step("prod", &labels(&[(REVISION, "default")])), Step::Keep { warning: None });
        assert_eq!(step("prod", &labels(&[(REVISION, "1-30")])), Step::Conflict { revision: "1-30".into() });
        assert!(matches!(step("prod", &labels(&[(INJECTION, "enabled"), (REVISION, "1-30")])), Step::Keep { warning: Some(_) }));
    }
}
