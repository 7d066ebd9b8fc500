//! Why a request got no answer.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PeerCertificate;
use super::dns::DnsError;
use super::tls::{AUTHORITY_AS_SERVER, TlsClass};
use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::text;

/// Where a request was when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Dns,
    Connect,
    Tls,
    FirstByte,
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Dns => "while the name was looked up",
            Phase::Connect => "while connecting",
            Phase::Tls => "in the TLS handshake",
            Phase::FirstByte => "while waiting for the first byte",
            Phase::Body => "while reading the body",
        })
    }
}

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetError {
    #[error("{0}")]
    Dns(DnsError),
    #[error("{address} refuses the connection")]
    Refused { address: String },
    #[error("{address} cannot be reached: {why}")]
    Unreachable { address: String, why: String },
    #[error("no answer within {} ({phase})", text::seconds(*.after))]
    Timeout { phase: Phase, after: Duration },
    #[error("TLS: {message}")]
    Tls {
        class: TlsClass,
        message: String,
        /// What the peer showed, if it came that far.
        chain: Vec<PeerCertificate>,
    },
    /// The peer closed or broke the connection before it had answered.
    #[error("the connection broke {phase}: {why}")]
    Reset { phase: Phase, why: String },
    /// The peer does not speak HTTP.
    #[error("the answer is not HTTP: {0}")]
    Protocol(String),
    /// The request itself cannot be made.
    #[error("the request cannot be made: {0}")]
    Invalid(String),
}

impl NetError {
    /// The fault that this error is when an answer was due.
    pub fn fault(&self) -> Fault {
        let code = match self {
            NetError::Dns(_) => Code::DnsUnresolved,
            NetError::Refused { .. } => Code::Refused,
            NetError::Unreachable { .. } => Code::Unreachable,
            NetError::Timeout { phase: Phase::Dns, .. } => Code::DnsUnresolved,
            NetError::Timeout { .. } | NetError::Reset { .. } => Code::NoAnswer,
            NetError::Tls { class, .. } => match class {
                TlsClass::Expired | TlsClass::NotYetValid => Code::TlsExpired,
                TlsClass::WrongName => Code::TlsName,
                TlsClass::UnknownIssuer => Code::TlsUntrusted,
                TlsClass::Other => Code::TlsProtocol,
            },
            NetError::Protocol(_) => Code::HttpUnexpected,
            NetError::Invalid(_) => Code::Defect,
        };
        let fault = Fault::new(code, self.to_string());
        match self {
            NetError::Tls { chain, message, .. } => {
                let fault = fault.evidence("the chain it showed", describe(chain));
                if !message.contains(AUTHORITY_AS_SERVER) {
                    return fault;
                }
                fault.next("the server shows an authority's own certificate (CA:TRUE, as `openssl req -x509` makes it), which nobody accepts of a server: give it one that an authority issued")
            }
            _ => fault,
        }
    }
}

/// A chain as a person reads it, the leaf first.
fn describe(chain: &[PeerCertificate]) -> String {
    let line = |certificate: &PeerCertificate| {
        let PeerCertificate { subject, issuer, not_before, not_after, sans, .. } = certificate;
        let names = if sans.is_empty() { String::new() } else { format!(", for {}", sans.join(" ")) };
        format!("{subject}, issued by {issuer}, valid {not_before} to {not_after}{names}")
    };
    chain.iter().map(line).collect::<Vec<_>>().join("\n")
}
