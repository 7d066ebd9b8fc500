//! What a check may want of an answer, beside the plain things: ranges of status, headers, a body's shape, a redirect's target, TLS.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::domain::verify::answer::Reply;

/// Statuses that are right: single ones and ranges, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    pub fn one(status: u16) -> Self {
        Self(vec![(status, status)])
    }

    /// Each part is `200`, `2xx` or `200-204`. `None`: one of them is nothing of the kind.
    pub fn parse<'a>(parts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let ranges: Option<Vec<(u16, u16)>> = parts.into_iter().map(range).collect();
        ranges.filter(|ranges| !ranges.is_empty()).map(Self)
    }

    pub fn has(&self, status: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let text = text.trim();
    let number = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number(from.trim())?, number(to.trim())?);
    (from <= to).then_some((from, to))
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.iter().map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") });
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

/// What else must hold. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct More {
    /// Each header must be there and contain this text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A pattern that is found in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_matches: Option<String>,
    /// JSON pointers into the body, and the value that stands there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub body_json: BTreeMap<String, Value>,
    /// The address that a redirect leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_to: Option<String>,
    /// The certificate must be valid for so many days more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tls: Option<TlsVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    V13,
}

/// What was seen of the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// `TLSv1.3`
    pub version: String,
    /// When the leaf's validity ends.
    pub not_after: Option<Timestamp>,
}

/// Do two addresses mean the same? What is relative is so to what was asked, and a scheme's own port is as good as none.
pub fn is_same_address(asked: Option<&Url>, one: &str, other: &str) -> bool {
    let whole = |text: &str| asked.map_or_else(|| Url::parse(text), |asked| asked.join(text)).ok();
    one == other || whole(one).is_some_and(|one| whole(other) == Some(one))
}

/// Does a redirect lead to what was asked, only by another scheme or at another port?
pub fn is_same_but_for_the_port(asked: &Url, location: &str) -> bool {
    let place = |url: &Url| (url.host_str().map(str::to_owned), url.path().to_owned(), url.query().map(str::to_owned));
    asked.join(location).is_ok_and(|url| url != *asked && place(&url) == place(asked))
}

impl More {
    pub fn reads_body(&self) -> bool {
        self.body_matches.is_some() || !self.body_json.is_empty()
    }

    /// The first thing that does not hold, in words. `asked`: the address that answered.
    pub fn unmet(&self, reply: &Reply, session: Option<&Session>, now: Timestamp, asked: Option<&Url>) -> Option<String> {
        for (name, wanted) in &self.headers {
            match reply.header(&name.to_ascii_lowercase()) {
                None => return Some(format!("the header `{name}` is missing")),
                Some(value) if !value.contains(wanted.as_str()) => {
                    return Some(format!("the header `{name}` does not contain `{wanted}` but is `{}`", crate::base::text::head(value, 200)));
                }
                Some(_) => {}
            }
        }
        if let Some(wanted) = &self.redirect_to {
            match reply.header("location") {
                Some(location) if is_same_address(asked, location, wanted) => {}
                Some(location) => return Some(format!("it leads to {location}, not to {wanted}")),
                None => return Some(format!("it leads nowhere, not to {wanted}")),
            }
        }
        if let Some(pattern) = &self.body_matches {
            match Regex::new(pattern) {
                Ok(regex) if regex.is_match(&reply.body) => {}
                Ok(_) => return Some(format!("the body does not match `{pattern}` but is {}", reply.gist())),
                Err(error) => return Some(format!("`{pattern}` is no pattern: {error}")),
            }
        }
        if !self.body_json.is_empty() {
            let Ok(body) = serde_json::from_str::<Value>(&reply.body) else { return Some(format!("the body is no JSON but {}", reply.gist())) };
            for (pointer, wanted) in &self.body_json {
                match body.pointer(pointer) {
                    Some(found) if found == wanted => {}
                    Some(found) => return Some(format!("`{pointer}` of the body is {found}, not {wanted}")),
                    None => return Some(format!("the body has no `{pointer}`")),
                }
            }
        }
        self.unmet_by(session, now)
    }

    fn unmet_by(&self, session: Option<&Session>, now: Timestamp) -> Option<String> {
        if self.certificate_days.is_none() && self.min_tls.is_none() {
            return None;
        }
        let Some(session) = session else { return Some("it was not asked over TLS, so certificate and TLS version are not known".to_owned()) };
        if let Some(min) = self.min_tls {
            let version = match session.version.as_str() {
                "TLSv1.3" => Some(TlsVersion::V13),
                "TLSv1.2" => Some(TlsVersion::V12),
                _ => None,
            };
            if version.is_none_or(|version| version < min) {
                let min = if min == TlsVersion::V13 { "1.3" } else { "1.2" };
                return Some(format!("the connection is {}, less than TLS {min}", session.version));
            }
        }
        let days = self.certificate_days?;
        let Some(end) = session.not_after else { return Some("the certificate's end is not known".to_owned()) };
        let left = end.duration_since(now).as_secs().div_euclid(86_400);
        (left < i64::from(days)).then(|| match left {
            ..0 => format!("the certificate ended at {end}"),
            _ => format!(
                "the certificate ends in {}, at {end}; {days} are wanted",
                crate::base::text::count(usize::try_from(left).unwrap_or(0), "day")
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_read_and_told() {
        let some = Statuses::parse(["200", "3xx", "401-403"]).expect("valid");
        assert!(some.has(200) && some.has(301) && some.has(402) && !some.has(201) && !some.has(404));
        assert_eq!(some.to_string(), "200, 300-399, 401-403");
        for wrong in ["", "99", "600", "6xx", "300-200", "ok"] {
            assert_eq!(Statuses::parse([wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn a_redirects_target_may_be_written_in_more_than_one_way() {
        let asked = Url::parse("http://h/a/b?c=1").expect("a URL");
        for (location, wanted, same) in [
            ("https://h:443/login", "https://h/login", true),
            ("https://H/login", "https://h/login", true),
            ("https://h", "https://h/", true),
            ("/login", "http://h/login", true),
            ("login", "http://h/a/login", true),
            ("http://h:80/login", "/login", true),
            ("/login", "https://h/login", false),
            ("https://h:8443/login", "https://h/login", false),
            ("https://h/login?next=1", "https://h/login", false),
            ("https://h/Login", "https://h/login", false),
        ] {
            assert_eq!(is_same_address(Some(&asked), location, wanted), same, "{location} {wanted}");
        }
        assert!(is_same_address(None, "https://h:443/", "https://h/") && !is_same_address(None, "/a", "https://h/a"));
        for (location, same) in [
            ("https://h:443/a/b?c=1", true),
            ("http://h:8080/a/b?c=1", true),
            ("http://h/a/b?c=1", false),
            ("https://h/a/b", false),
            ("https://new/a/b?c=1", false),
        ] {
            assert_eq!(is_same_but_for_the_port(&asked, location), same, "{location}");
        }
    }

    #[test]
    fn each_wish_beside_its_near_miss() {
        let reply = Reply {
            status: 302,
            headers: vec![("location".into(), "https://h/login".into()), ("content-type".into(), "application/json; charset=utf-8".into())],
            body: r#"{"status": "ok", "parts": [{"up": true}]}"#.into(),
            took_ms: 3,
        };
        let now: Timestamp = "2026-11-26T00:00:00Z".parse().expect("a time");
        let session = Session { version: "TLSv1.2".into(), not_after: "2026-12-06T00:00:00Z".parse().ok() };
        let more = |change: fn(&mut More)| {
            let mut more = More::default();
            change(&mut more);
            more
        };
        for (wish, unmet) in [
            (more(|m| drop(m.headers.insert("Content-Type".into(), "json".into()))), None),
            (more(|m| drop(m.headers.insert("Content-Type".into(), "html".into()))), Some("does not contain `html`")),
            (more(|m| drop(m.headers.insert("X-None".into(), String::new()))), Some("`X-None` is missing")),
            (more(|m| m.redirect_to = Some("https://h/login".into())), None),
            (more(|m| m.redirect_to = Some("https://h/".into())), Some("it leads to https://h/login")),
            (more(|m| m.body_matches = Some("\"up\": (true|1)".into())), None),
            (more(|m| m.body_matches = Some("^ok".into())), Some("does not match `^ok`")),
            (more(|m| drop(m.body_json.insert("/parts/0/up".into(), json!(true)))), None),
            (more(|m| drop(m.body_json.insert("/parts/0/up".into(), json!("true")))), Some("is true, not \"true\"")),
            (more(|m| drop(m.body_json.insert("/nosuch".into(), json!(1)))), Some("has no `/nosuch`")),
            (more(|m| m.min_tls = Some(TlsVersion::V12)), None),
            (more(|m| m.min_tls = Some(TlsVersion::V13)), Some("the connection is TLSv1.2, less than TLS 1.3")),
            (more(|m| m.certificate_days = Some(10)), None),
            (more(|m| m.certificate_days = Some(11)), Some("the certificate ends in 10 days")),
        ] {
            let found = wish.unmet(&reply, Some(&session), now, None);
            assert_eq!(found.is_some(), unmet.is_some(), "{wish:?}: {found:?}");
            assert!(found.unwrap_or_default().contains(unmet.unwrap_or_default()), "{wish:?}");
        }
        let wish = more(|m| m.certificate_days = Some(1));
        assert!(wish.unmet(&reply, None, now, None).is_some(), "a plain connection proves nothing");
    }
}
