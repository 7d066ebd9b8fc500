//! One question with its answer, as it is judged and recorded: `replay` judges it again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::clients::http::{NetError, Scheme};
use crate::domain::verify::answer::{Origin, Reply, origin};
use crate::domain::verify::expect::{Expect, Verdict, described, judge_at, judge_own};
use crate::domain::verify::want::Session;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asked {
    pub at: Timestamp,
    pub scheme: Scheme,
    pub host: String,
    pub path: String,
    /// The Service's port, where it was asked by its own name in the cluster: no gateway is between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The listener's port, where it is not the scheme's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u16>,
    /// The address that was asked, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub expect: Expect,
    #[serde(flatten)]
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Reply {
        reply: Reply,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Session>,
        /// The body is longer than what was read of it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
    },
    Error(NetError),
}

/// The verdict, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Told {
    Right {
        #[serde(skip_serializing_if = "Option::is_none")]
        warning: Option<String>,
    },
    Follow {
        location: String,
    },
    Wrong {
        code: Code,
        message: String,
    },
}

impl Told {
    pub fn words(&self) -> String {
        match self {
            Told::Right { warning: None } => "right".to_owned(),
            Told::Right { warning: Some(warning) } => format!("right, but {warning}"),
            Told::Follow { location } => format!("leads to {location}"),
            Told::Wrong { code, message } => format!("{code}: {message}"),
        }
    }
}

/// What a question is called: `GET app1.public.domain/`, with the scheme when it is HTTPS.
pub fn title(scheme: Scheme, host: &str, port: Option<u16>, path: &str) -> String {
    let scheme = if scheme == Scheme::Https { "https://" } else { "" };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("GET {scheme}{host}{port}{path}")
}

/// The address of a question. `None`: it is no URL that a client understands.
pub fn url(scheme: Scheme, host: &str, port: Option<u16>, path: &str) -> Option<Url> {
    let port = port.unwrap_or(scheme.default_port());
    Url::parse(&format!("{}://{host}:{port}{path}", scheme.as_str())).ok()
}

/// Says of a wrong answer that not all of its body was read.
fn with_cut(mut verdict: Verdict, read: usize) -> Verdict {
    if let Verdict::Wrong { fault, .. } = &mut verdict
        && fault.code == Code::HttpUnexpected
    {
        fault.message = format!("{} (only the first {read} bytes of the body were read)", fault.message);
    }
    verdict
}

impl Asked {
    /// `GET app1.public.domain/`
    pub fn title(&self) -> String {
        let at = self.address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
        title(self.scheme, &self.host, self.port.or(self.listener), &self.path) + &at
    }

    /// The whole verdict: the answer against the expectation, then what else is wanted.
    pub fn verdict(&self) -> Verdict {
        let (reply, session, truncated) = match &self.answer {
            Answer::Reply { reply, session, truncated } => (reply, session.as_ref(), *truncated),
            Answer::Error(error) => return Verdict::Wrong { origin: Origin::Other, fault: Box::new(error.fault()) },
        };
        // Only a wish for a redirect is about the address.
        let wished = self.expect.more.redirect_to.as_ref();
        let url = wished.and_then(|_| url(self.scheme, &self.host, self.port.or(self.listener), &self.path));
        let verdict = if self.port.is_some() { judge_own(&self.expect, reply) } else { judge_at(&self.expect, reply, url.as_ref()) };
        let unmet = match verdict {
            Verdict::Right { .. } => self.expect.more.unmet(reply, session, self.at, url.as_ref()),
            _ => None,
        };
        let verdict = match unmet {
            None => verdict,
            Some(words) => {
                let origin = origin(reply);
                let fault = Fault::new(Code::HttpUnexpected, format!("got {}, but {words}", reply.status));
                Verdict::Wrong { fault: Box::new(described(fault, &origin, reply)), origin }
            }
        };
        if truncated && self.expect.reads_body() { with_cut(verdict, reply.body.len()) } else { verdict }
    }

    pub fn judge(&self) -> Told {
        match self.verdict() {
            Verdict::Right { warning } => Told::Right { warning },
            Verdict::Follow { location, .. } => Told::Follow { location },
            Verdict::Wrong { fault, .. } => Told::Wrong { code: fault.code, message: fault.message },
        }
    }

    /// Without what no verdict reads: other headers, and the rest of a body that nothing is expected of.
    #[must_use]
    pub fn for_the_record(&self) -> Self {
        let mut asked = self.clone();
        if let Answer::Reply { reply, .. } = &mut asked.answer {
            let mut essence = reply.essence();
            let wanted = |name: &str| self.expect.more.headers.keys().any(|key| key.eq_ignore_ascii_case(name));
            essence.headers.extend(reply.headers.iter().filter(|(name, _)| wanted(name)).cloned());
            if self.expect.reads_body() {
                essence.body.clone_from(&reply.body);
            }
            *reply = essence;
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_was_not_read_to_its_end_is_told_where_it_matters() {
        let asked = |contains: Option<&str>, status, truncated| Asked {
            at: Timestamp::UNIX_EPOCH,
            scheme: Scheme::Http,
            host: "h".into(),
            path: "/".into(),
            port: Some(8000),
            listener: None,
            address: None,
            expect: Expect { body_contains: contains.map(str::to_owned), ..Expect::default() },
            answer: Answer::Reply { reply: Reply { status, body: "abc".into(), ..Reply::default() }, session: None, truncated },
        };
        for (asked, cut) in [
            (asked(Some("xyz"), 200, true), true),
            (asked(Some("xyz"), 200, false), false),
            (asked(Some("abc"), 200, true), false),
            (asked(None, 200, true), false),
            (asked(Some("xyz"), 500, true), false),
        ] {
            assert_eq!(asked.judge().words().contains("only the first 3 bytes of the body were read"), cut, "{asked:?}");
        }
    }
}
