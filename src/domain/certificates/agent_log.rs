//! What istio-proxy's agent says about its certificate, in plain and JSON form, over Istio's generations.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a log proves about the workload certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLog {
    /// The newest line that says: the CA behind istiod is not the one this pod trusts, so no certificate can be had.
    pub untrusted: Option<Line>,
    /// The newest line with another reason for having no certificate: istiod unreachable, not authenticated. A restart does not help.
    pub unsigned: Option<Line>,
    /// The newest line that says that this pod does not trust istiod on its configuration channel: a hint, no proof.
    pub xds_untrusted: Option<Line>,
    /// The newest line that says that the clock is off or a certificate expired.
    pub clock: Option<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub at: Option<Timestamp>,
    pub text: String,
}

const UNKNOWN_AUTHORITY: &str = "x509: certificate signed by unknown authority";

/// Words by which each generation says that no workload certificate could be had.
const NO_CERTIFICATE: [&str; 6] = [
    "failed to generate workload certificate",
    "failed to sign CSR",
    "failed to sign:",
    "Failed to create certificate",
    "CSR failed with error",
    "create certificate: rpc error",
];

/// Words by which it says that it has one again.
const GOT_CERTIFICATE: [&str; 3] = ["generated new workload certificate", "SDS: PUSH for node", "SDS: PUSH resource=default"];

impl Line {
    /// What the line says, without what surrounds it: `failed to generate workload certificate … x509: certificate signed by unknown authority`.
    pub fn essence(&self) -> String {
        let words = NO_CERTIFICATE.iter().find(|words| self.text.contains(*words));
        match words {
            Some(words) if self.text.contains(UNKNOWN_AUTHORITY) => format!("{words} … {UNKNOWN_AUTHORITY}"),
            _ => crate::base::text::head(&crate::base::text::one_line(&self.text), 300).into_owned(),
        }
    }
}

/// Reads a log. A certificate that was had after a refusal clears it.
pub fn read(log: &str) -> AgentLog {
    let mut found = AgentLog::default();
    for text in log.lines() {
        let has = |needle: &str| text.contains(needle);
        let line = || Some(Line { at: time(text), text: text.trim_end().to_owned() });
        let no_certificate = NO_CERTIFICATE.iter().any(|words| has(words));
        if GOT_CERTIFICATE.iter().any(|words| has(words)) && !no_certificate {
            (found.untrusted, found.unsigned, found.clock) = (None, None, None);
        } else if has("certificate has expired or is not yet valid") {
            found.clock = line();
        } else if no_certificate && has(UNKNOWN_AUTHORITY) {
            found.untrusted = line();
        } else if no_certificate {
            found.unsigned = line();
        } else if has(UNKNOWN_AUTHORITY) && (has("xds-grpc") || has("xdsproxy") || has("upstream XDS")) {
            found.xds_untrusted = line();
        }
    }
    found
}

/// The time at the beginning of a plain line or in a JSON line.
fn time(line: &str) -> Option<Timestamp> {
    if line.trim_start().starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        return value.get("time").or_else(|| value.get("ts"))?.as_str()?.parse().ok();
    }
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
