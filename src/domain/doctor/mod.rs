//! What `doctor` asks before anything is touched. Each question is a pure function of what was seen; its findings say why they matter
//! and name the command that helps.

pub mod architectures;
pub mod certificate;
pub mod clock;
pub mod controller;
pub mod network;
pub mod rendered;
pub mod subnets;
pub mod versions;
pub mod webhooks;

use crate::base::fault::Fault;

/// What a look came to. Warnings do not fail doctor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    pub note: String,
    pub warnings: Vec<String>,
    pub faults: Vec<Fault>,
}

impl Verdict {
    pub fn of(note: impl Into<String>) -> Self {
        Self { note: note.into(), ..Self::default() }
    }

    /// Several faults as one: the first leads, the others are its evidence, and all next steps are kept.
    pub fn fault(&self) -> Option<Fault> {
        let (first, more) = self.faults.split_first()?;
        let mut fault = first.clone();
        if more.is_empty() {
            return Some(fault);
        }
        let lines: Vec<&str> = more.iter().map(|other| other.message.as_str()).collect();
        for step in more.iter().flat_map(|other| &other.next) {
            if !fault.next.contains(step) {
                fault.next.push(step.clone());
            }
        }
        fault.message = format!("{} (and {} more)", fault.message, more.len());
        Some(fault.evidence("found as well", lines.join("\n")))
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [most @ .., last] => format!("{} and {}", most.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "), last.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codes::Code;

    #[test]
    fn several_faults_are_told_as_one() {
        let fault = |message: &str, next: &str| Fault::new(Code::ToolTooOld, message).next(next);
        assert_eq!(Verdict::of("fine").fault(), None);
        let verdict = Verdict { faults: vec![fault("a", "x"), fault("b", "x"), fault("c", "y")], ..Verdict::default() };
        let told = verdict.fault().expect("a fault");
        assert_eq!((told.message.as_str(), told.evidence[0].text.as_str()), ("a (and 2 more)", "b\nc"));
        assert_eq!(told.next, ["x", "y"]);
    }

    #[test]
    fn names_are_listed_as_people_do() {
        assert_eq!((listed::<&str>(&[]), listed(&["a"]), listed(&["a", "b", "c"])), (String::new(), "a".to_owned(), "a, b and c".to_owned()));
    }
}
