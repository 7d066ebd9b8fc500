//! Faults of AWS calls, counted as they are used up.

use std::sync::atomic::{AtomicU32, Ordering};

use regex::Regex;

use crate::sandbox::world::AwsFault;

/// An error as AWS answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwsError {
    pub status: u16,
    pub code: String,
    pub message: String,
}

impl AwsError {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }
}

struct Armed {
    fault: AwsFault,
    matches: Option<Regex>,
    replace: Vec<(Regex, String)>,
    used: AtomicU32,
}

/// The faults of a world.
pub(crate) struct Faults(Vec<Armed>);

/// What a fault makes of one call.
pub(crate) struct Verdict<'a> {
    pub fault: &'a AwsFault,
    replace: &'a [(Regex, String)],
}

impl Verdict<'_> {
    /// The error to answer with, if the fault is one.
    pub(crate) fn error(&self) -> Option<AwsError> {
        let status = self.fault.status?;
        let code = self.fault.code.clone().unwrap_or_else(|| "InternalFailure".to_owned());
        Some(AwsError { status, code, message: self.fault.message.clone().unwrap_or_default() })
    }

    /// The answer as the fault changes it.
    pub(crate) fn rewrite(&self, body: String) -> String {
        self.replace.iter().fold(body, |body, (from, to)| from.replace_all(&body, to.as_str()).into_owned())
    }
}

impl Faults {
    /// # Errors
    /// When a regular expression is broken.
    pub(crate) fn new(faults: &[AwsFault]) -> Result<Self, String> {
        let regex = |text: &str| Regex::new(text).map_err(|error| format!("world file: `aws.calls`: {error}"));
        let arm = |fault: &AwsFault| {
            let replace = fault.replace.iter().map(|(from, to)| Ok((regex(from)?, to.clone()))).collect::<Result<_, String>>()?;
            Ok(Armed { matches: fault.r#match.as_deref().map(regex).transpose()?, replace, used: AtomicU32::new(0), fault: fault.clone() })
        };
        Ok(Self(faults.iter().map(arm).collect::<Result<_, String>>()?))
    }

    /// The first fault that matches this call and is not used up; it is used once by asking.
    pub(crate) fn next(&self, op: &str, text: &str) -> Option<Verdict<'_>> {
        let hit = |armed: &&Armed| {
            let named = armed.fault.op == "*" || armed.fault.op == op;
            named
                && armed.matches.as_ref().is_none_or(|m| m.is_match(text))
                && armed.fault.times.is_none_or(|times| armed.used.load(Ordering::Relaxed) < times)
        };
        let armed = self.0.iter().find(hit)?;
        armed.used.fetch_add(1, Ordering::Relaxed);
        Some(Verdict { fault: &armed.fault, replace: &armed.replace })
    }

    /// A call of the load balancer controller: `Err` when a fault says so.
    ///
    /// # Errors
    /// The fault's.
    pub(crate) fn call(&self, op: &str, text: &str) -> Result<(), AwsError> {
        self.next(op, text).and_then(|verdict| verdict.error()).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::world::Time;

    fn fault(op: &str, times: Option<u32>) -> AwsFault {
        AwsFault {
            op: op.to_owned(),
            r#match: Some("gw-ingress".to_owned()),
            times,
            delay: Time::default(),
            status: Some(403),
            code: Some("AccessDenied".to_owned()),
            message: None,
            hangup: false,
            replace: vec![("a+".to_owned(), "b".to_owned())],
        }
    }

    #[test]
    fn a_fault_is_used_up() {
        let faults = Faults::new(&[fault("CreateListener", Some(1))]).expect("well formed");
        assert!(faults.call("CreateRule", "gw-ingress").is_ok());
        assert!(faults.call("CreateListener", "other").is_ok());
        assert_eq!(faults.call("CreateListener", "gw-ingress").map_err(|e| e.code), Err("AccessDenied".to_owned()));
        assert!(faults.call("CreateListener", "gw-ingress").is_ok());
    }

    #[test]
    fn answers_are_rewritten() {
        let faults = Faults::new(&[fault("*", None)]).expect("well formed");
        assert_eq!(faults.next("Any", "gw-ingress").map(|v| v.rewrite("caat".to_owned())), Some("cbt".to_owned()));
    }
}
