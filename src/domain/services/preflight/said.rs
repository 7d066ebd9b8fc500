//! What the API server's answer to a dry run says: refused for good, refused for now, or not asked at all.

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::domain::services::preflight::makers::Made;

/// What an answer means for the apply that would follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It would be refused, for this code's reason.
    Refused(Code),
    /// It could not be asked, or it says nothing about the apply.
    Nothing(String),
}

/// `pod`: it was asked for a pod of a workload. `makes_room`: older pods leave before or while new ones come.
pub fn meaning(fault: &Fault, pod: bool, makes_room: bool, made: &Made) -> Said {
    let words = &fault.message;
    let nothing = |why: String| Said::Nothing(why);
    if let Some(own) = made.names_in(words) {
        return nothing(format!("it needs {own}, which the same apply makes"));
    }
    match fault.code {
        // The right is missing to us; the controllers that make pods have it.
        Code::Forbidden if words.contains("this identity may not") => nothing(words.clone()),
        Code::Forbidden if words.contains("exceeded quota") && makes_room => nothing(format!("{words}; older pods may make room")),
        Code::Forbidden if words.contains("exceeded quota") => Said::Refused(Code::QuotaExceeded),
        Code::Forbidden if words.contains("service account") && words.contains("\"default\"") => nothing(words.clone()),
        Code::Forbidden | Code::ApplyRefused if words.contains("does not support dry run") => nothing(words.clone()),
        Code::Forbidden | Code::ApplyRefused => Said::Refused(if pod { Code::PodsRefused } else { Code::ApplyRefused }),
        Code::NeedsEarlier => Said::Refused(Code::ApplyRefused),
        _ => nothing(words.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::services::manifests::parse;

    #[test]
    fn a_refusal_is_told_from_what_says_nothing() {
        let made = Made::by(&parse("a.yaml", "{apiVersion: v1, kind: ServiceAccount, metadata: {name: app1}}").expect("valid"), &[]);
        let refused = Said::Refused;
        for (code, words, pod, room, expected) in [
            (Code::Forbidden, r#"pods "a" is forbidden: violates PodSecurity "restricted:latest""#, true, false, Some(refused(Code::PodsRefused))),
            (Code::Forbidden, r#"pods "a" is forbidden: failed quota: team: must specify limits.cpu"#, true, true, Some(refused(Code::PodsRefused))),
            (Code::Forbidden, r#"pods "a" is forbidden: exceeded quota: team, requested: pods=1"#, true, false, Some(refused(Code::QuotaExceeded))),
            (Code::Forbidden, r#"pods "a" is forbidden: exceeded quota: team, requested: pods=1"#, true, true, None),
            (Code::Forbidden, "applying pod a: this identity may not create pods in prod", true, false, None),
            (
                Code::Forbidden,
                r#"pods "a" is forbidden: error looking up service account prod/app1: serviceaccount "app1" not found"#,
                true,
                false,
                None,
            ),
            (
                Code::Forbidden,
                r#"pods "a" is forbidden: error looking up service account prod/app2: serviceaccount "app2" not found"#,
                true,
                false,
                Some(refused(Code::PodsRefused)),
            ),
            (
                Code::ApplyRefused,
                r#"admission webhook "policy" denied the request: image is not signed"#,
                true,
                false,
                Some(refused(Code::PodsRefused)),
            ),
            (Code::ApplyRefused, r#"admission webhook "policy" does not support dry run"#, true, false, None),
            (Code::ApplyRefused, "spec.replicas: Invalid value: -1", false, false, Some(refused(Code::ApplyRefused))),
            (Code::NeedsEarlier, "the cluster knows no kind `Cron`", false, false, Some(refused(Code::ApplyRefused))),
            // A webhook that does not answer now may answer in a moment.
            (Code::WebhookUnreachable, "failed calling webhook", true, false, None),
            (Code::ApiUnreachable, "no answer", false, false, None),
            (Code::Conflict, "the object has been modified", false, false, None),
        ] {
            let found = meaning(&Fault::new(code, words), pod, room, &made);
            match expected {
                Some(expected) => assert_eq!(found, expected, "{words}"),
                None => assert!(matches!(found, Said::Nothing(_)), "{words}: {found:?}"),
            }
        }
    }
}
