//! What the API server's answer to a dry run says: refused for good, refused for now, or not asked at all.

use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::base::fault::Fault;

/// An answer that did not take a dry run, and what is known beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub code: Code,
    pub words: String,
    /// It was asked for a pod, of a workload or by itself.
    pub pod: bool,
    #[serde(default)]
    pub of_pod: bool,
    /// What the words do not find, and the same run makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<String>,
    /// What may give room in a quota, and what may change the rules, before it is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
}

/// What an answer means for the apply that would follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It would be refused, for this code's reason.
    Refused(Code),
    /// It could not be asked, or it says nothing about the apply.
    Nothing(String),
}

impl Answer {
    pub fn new(fault: &Fault, pod: bool) -> Self {
        Self { code: fault.code, words: fault.message.clone(), pod, of_pod: false, made: None, room: None, rules: None }
    }

    pub fn meaning(&self) -> Said {
        let words = &self.words;
        let nothing = |why: String| Said::Nothing(why);
        if let Some(own) = &self.made {
            return nothing(format!("it needs {own}, which the same run makes"));
        }
        match self.code {
            // The right is missing to us; the controllers that make pods have it.
            Code::Forbidden if words.contains("this identity may not") => nothing(words.clone()),
            Code::Forbidden if words.contains("exceeded quota") => match &self.room {
                Some(room) => nothing(format!("{words}; {room} may make room")),
                None => Said::Refused(Code::QuotaExceeded),
            },
            Code::Forbidden if words.contains("service account") && words.contains("\"default\"") => nothing(words.clone()),
            Code::Forbidden | Code::ApplyRefused if words.contains("does not support dry run") => nothing(words.clone()),
            Code::Forbidden | Code::ApplyRefused => match &self.rules {
                Some(rules) => nothing(format!("{words}; {rules} is applied before it and may change that")),
                None => Said::Refused(if self.pod { Code::PodsRefused } else { Code::ApplyRefused }),
            },
            Code::NeedsEarlier => Said::Refused(Code::ApplyRefused),
            _ => nothing(words.clone()),
        }
    }

    /// The API server's words alone: what was tried is not what the person did.
    pub fn without_doing(&self) -> &str {
        self.words.split_once(": ").map_or(self.words.as_str(), |(doing, rest)| if doing.contains(' ') { rest } else { &self.words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_what_says_nothing() {
        const QUOTA: &str = r#"pods "a" is forbidden: exceeded quota: team, requested: pods=1"#;
        const ACCOUNT: &str = r#"pods "a" is forbidden: error looking up service account prod/app1: serviceaccount "app1" not found"#;
        const UNSIGNED: &str = r#"admission webhook "policy" denied the request: image is not signed"#;
        let refused = Some;
        // Beside it: what the run makes, what may give room, what may change the rules.
        for (code, words, pod, [made, room, rules], expected) in [
            (
                Code::Forbidden,
                r#"pods "a" is forbidden: violates PodSecurity "restricted:latest""#,
                true,
                [false, true, false],
                refused(Code::PodsRefused),
            ),
            (
                Code::Forbidden,
                r#"pods "a" is forbidden: failed quota: team: must specify limits.cpu"#,
                true,
                [false, true, false],
                refused(Code::PodsRefused),
            ),
            (Code::Forbidden, QUOTA, true, [false, false, false], refused(Code::QuotaExceeded)),
            (Code::Forbidden, QUOTA, true, [false, false, true], refused(Code::QuotaExceeded)),
            (Code::Forbidden, QUOTA, true, [false, true, false], None),
            (Code::Forbidden, "applying pod a: this identity may not create pods in prod", true, [false; 3], None),
            (Code::Forbidden, ACCOUNT, true, [true, false, false], None),
            (Code::Forbidden, ACCOUNT, true, [false; 3], refused(Code::PodsRefused)),
            (Code::ApplyRefused, UNSIGNED, true, [false; 3], refused(Code::PodsRefused)),
            (Code::ApplyRefused, UNSIGNED, true, [false, false, true], None),
            (Code::ApplyRefused, r#"admission webhook "policy" does not support dry run"#, true, [false; 3], None),
            (Code::ApplyRefused, "spec.replicas: Invalid value: -1", false, [false; 3], refused(Code::ApplyRefused)),
            (Code::NeedsEarlier, "the cluster knows no kind `Cron`", false, [false; 3], refused(Code::ApplyRefused)),
            // A webhook that does not answer now may answer in a moment.
            (Code::WebhookUnreachable, "failed calling webhook", true, [false; 3], None),
            (Code::ApiUnreachable, "no answer", false, [false; 3], None),
            (Code::Conflict, "the object has been modified", false, [false; 3], None),
        ] {
            let [made, room, rules] = [made, room, rules].map(|known| known.then(|| "something".to_owned()));
            let found = Answer { made, room, rules, ..Answer::new(&Fault::new(code, words), pod) }.meaning();
            match expected {
                Some(code) => assert_eq!(found, Said::Refused(code), "{words}"),
                None => assert!(matches!(found, Said::Nothing(_)), "{words}: {found:?}"),
            }
        }
    }
}
