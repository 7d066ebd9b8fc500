//! `verify.checks`: a request and what its answer must be.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clients::http;
use crate::domain::verify::Expect;
use crate::domain::verify::want::{More, Statuses, TlsVersion};
use crate::stages::Seconds;

/// One request and what its answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Check {
    pub host: String,
    #[serde(default = "default_path")]
    pub path: String,
    /// `http` or `https`; by default as the load balancer listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The statuses that are right: `200`, `2xx`, `200-204`, or a list of them; by default what the service itself answers with 2xx,
    /// 3xx, 401 or 403.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    /// A regular expression that is found in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_matches: Option<String>,
    /// JSON pointers into the body, and the value that must stand there: `{/status: ok}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub body_json: BTreeMap<String, serde_json::Value>,
    /// Headers that must be there and contain this text: `{content-type: json}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The answer must be a redirect to this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_to: Option<String>,
    /// Days that the certificate must be valid for still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_days: Option<u32>,
    /// The lowest TLS version that is right. Nothing older than `TLSv1.2` is spoken at all: what speaks less fails without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tls: Option<MinTls>,
    /// The answer must be there within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub within: Option<Seconds>,
}

/// One status or range, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Status {
    One(OneStatus),
    Many(Vec<OneStatus>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneStatus {
    Code(#[schemars(range(min = 100, max = 599))] u16),
    Range(#[schemars(regex(pattern = STATUS_PATTERN))] String),
}

/// `2xx` or `200-204`.
pub const STATUS_PATTERN: &str = "^([1-5]xx|[1-5][0-9][0-9](-[1-5][0-9][0-9])?)$";

impl Status {
    /// `None`: a range that runs backwards.
    pub fn read(&self) -> Option<Statuses> {
        let text = |one: &OneStatus| match one {
            OneStatus::Code(code) => code.to_string(),
            OneStatus::Range(range) => range.clone(),
        };
        let parts: Vec<String> = match self {
            Status::One(one) => vec![text(one)],
            Status::Many(many) => many.iter().map(text).collect(),
        };
        Statuses::parse(parts.iter().map(String::as_str))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MinTls {
    #[serde(rename = "TLSv1.2")]
    V12,
    #[serde(rename = "TLSv1.3")]
    V13,
}

impl Check {
    /// What its answer must be.
    pub fn expect(&self) -> Expect {
        let min_tls = self.min_tls.map(|min| match min {
            MinTls::V12 => TlsVersion::V12,
            MinTls::V13 => TlsVersion::V13,
        });
        Expect {
            status: self.status.as_ref().and_then(Status::read),
            body_contains: self.body_contains.clone(),
            within: self.within.map(|w| w.0),
            more: More {
                headers: self.headers.clone(),
                body_matches: self.body_matches.clone(),
                body_json: self.body_json.clone(),
                redirect_to: self.redirect_to.clone(),
                certificate_days: self.certificate_days,
                min_tls,
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    Http,
    Https,
}

fn default_path() -> String {
    "/".to_owned()
}

impl From<Scheme> for http::Scheme {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Http => http::Scheme::Http,
            Scheme::Https => http::Scheme::Https,
        }
    }
}
