//! Is an answer the right one? Pure: the expectation, the answer, the verdict.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::text;
use crate::domain::verify::answer::{Origin, Reply, origin, own_origin};
use crate::domain::verify::want::{self, More, Statuses};

/// What is right. Nothing set: the service itself must answer, with 2xx, 3xx, 401 or 403.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Expect {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Statuses>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
    #[serde(flatten)]
    pub more: More,
}

impl Expect {
    pub fn reads_body(&self) -> bool {
        self.body_contains.is_some() || self.more.reads_body()
    }
}

/// The judgement of one answer.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Right; with a warning if a person should look.
    Right {
        warning: Option<String>,
    },
    /// It sends to another address, which must be asked and judged instead.
    Follow {
        location: String,
        by_gateway: bool,
    },
    Wrong {
        origin: Origin,
        fault: Box<Fault>,
    },
}

/// Judges an answer. A redirect that was not asked for is followed when the load balancer or the gateway made it; one of the
/// service's own is its answer.
pub fn judge(expect: &Expect, reply: &Reply) -> Verdict {
    judge_at(expect, reply, None)
}

/// The same of an answer from this address.
pub fn judge_at(expect: &Expect, reply: &Reply, asked: Option<&Url>) -> Verdict {
    judge_of(expect, reply, origin(reply), asked)
}

/// Judges the answer of a Service that was asked by its own name in the cluster.
pub fn judge_own(expect: &Expect, reply: &Reply) -> Verdict {
    judge_of(expect, reply, own_origin(reply), None)
}

fn judge_of(expect: &Expect, reply: &Reply, origin: Origin, asked: Option<&Url>) -> Verdict {
    // A redirect whose target is stated is an answer, whoever gives it; but the load balancer's way to HTTPS is no target.
    let is_answer = expect.status.as_ref().is_some_and(|status| status.has(reply.status)) || expect.more.redirect_to.is_some();
    if !is_answer || is_on_the_way(expect, &origin, asked) {
        match &origin {
            Origin::AlbRedirect { location } => return Verdict::Follow { location: location.clone(), by_gateway: false },
            Origin::GatewayRedirect { location } => return Verdict::Follow { location: location.clone(), by_gateway: true },
            _ => {}
        }
    }
    let wrong =
        |code, message: String| Verdict::Wrong { origin: origin.clone(), fault: Box::new(described(Fault::new(code, message), &origin, reply)) };
    // The gateway's own denial has an origin of its own.
    let denied = origin == Origin::Service && reply.is_denied_by_sidecar();
    let words = if denied { "by the service's sidecar: an AuthorizationPolicy denies the request".to_owned() } else { origin.words() };
    let led = matches!(origin, Origin::AlbRedirect { .. } | Origin::GatewayRedirect { .. }) && expect.more.redirect_to.is_some();
    match &expect.status {
        Some(status) if !status.has(reply.status) => {
            return wrong(origin.code(), format!("expected {status}, got {} {words}", reply.status));
        }
        Some(_) => {}
        None if led => {}
        None if origin != Origin::Service => return wrong(origin.code(), format!("got {} {words}", reply.status)),
        None if !matches!(reply.status, 200..=399 | 401 | 403 | 404) => {
            return wrong(Code::HttpStatus, format!("got {} {words}", reply.status));
        }
        None => {}
    }
    if let Some(wanted) = &expect.body_contains
        && !reply.body.contains(wanted.as_str())
    {
        return wrong(Code::HttpUnexpected, format!("the body does not contain `{wanted}` but {}", reply.gist()));
    }
    if let Some(within) = expect.within
        && u128::from(reply.took_ms) > within.as_millis()
    {
        let took = text::seconds(Duration::from_millis(reply.took_ms));
        return wrong(Code::HttpUnexpected, format!("the answer took {took}, more than {}", text::seconds(within)));
    }
    let warning = match (&expect.status, reply.status) {
        (None, 404) => Some("the service answers 404 here: the route works, the path may not be one of its own; state a `status` or another path"),
        (None, _) if denied => Some(
            "the service's sidecar denies the request (403) by an AuthorizationPolicy: the route works, the service was not asked; state a `status`, or allow the request",
        ),
        _ => None,
    };
    Verdict::Right { warning: warning.map(str::to_owned) }
}

/// Does the load balancer send to the same place by another scheme or port, where another place is wished for?
fn is_on_the_way(expect: &Expect, origin: &Origin, asked: Option<&Url>) -> bool {
    let (Origin::AlbRedirect { location }, Some(wanted), Some(asked)) = (origin, &expect.more.redirect_to, asked) else { return false };
    want::is_same_but_for_the_port(asked, location) && !want::is_same_address(Some(asked), location, wanted)
}

pub(super) fn described(fault: Fault, origin: &Origin, reply: &Reply) -> Fault {
    let headers: Vec<String> = reply.headers.iter().filter(|(name, _)| shown(name)).map(|(name, value)| format!("{name}: {value}")).collect();
    let text = format!("HTTP {}\n{}\n\n{}", reply.status, headers.join("\n"), text::head(&reply.body, 2000));
    let fault = fault.evidence("the answer", text);
    match origin.advice() {
        Some(advice) => fault.next(advice),
        None => fault,
    }
}

/// Headers that help and hold no secret.
fn shown(name: &str) -> bool {
    name.starts_with("x-envoy-")
        || matches!(name, "server" | "content-type" | "content-length" | "location" | "via" | "date" | "retry-after" | "www-authenticate")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(status: u16, body: &str) -> Reply {
        let header = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        Reply {
            status,
            headers: vec![header("server", "istio-envoy"), header("x-envoy-upstream-service-time", "5")],
            body: body.to_owned(),
            took_ms: 1500,
        }
    }

    fn gateway(status: u16, body: &str, location: Option<&str>) -> Reply {
        let mut headers = vec![("server".to_owned(), "istio-envoy".to_owned())];
        headers.extend(location.map(|l| ("location".to_owned(), l.to_owned())));
        Reply { status, headers, body: body.to_owned(), took_ms: 2 }
    }

    #[test]
    fn each_answer_has_its_verdict() {
        let none = Expect::default();
        let status = |s| Expect { status: Some(Statuses::one(s)), ..Expect::default() };
        let leads = |to: &str| Expect { more: More { redirect_to: Some(to.to_owned()), ..More::default() }, ..Expect::default() };
        let contains = |t: &str| Expect { body_contains: Some(t.to_owned()), ..Expect::default() };
        let within = |s| Expect { within: Some(Duration::from_secs(s)), ..Expect::default() };
        let to = Some("https://h/");
        for (expect, reply, verdict) in [
            (none.clone(), served(200, "hi"), "right"),
            (none.clone(), served(302, ""), "right"),
            (none.clone(), served(401, ""), "right"),
            (none.clone(), served(403, ""), "right"),
            (none.clone(), served(404, ""), "warned"),
            (none.clone(), served(403, "RBAC: access denied"), "warned"),
            (none.clone(), served(403, "RBAC: access denied to /admin"), "right"),
            (none.clone(), gateway(403, "RBAC: access denied", None), "http_unexpected"),
            (status(403), served(403, "RBAC: access denied"), "right"),
            (status(200), served(403, "RBAC: access denied"), "http_status"),
            (none.clone(), served(400, ""), "http_status"),
            (none.clone(), served(503, "busy"), "http_status"),
            (none.clone(), gateway(404, "", None), "no_route"),
            (none.clone(), gateway(200, "direct response", None), "http_unexpected"),
            (none.clone(), gateway(301, "", to), "follow"),
            (status(301), gateway(301, "", to), "right"),
            (leads("https://h/"), gateway(301, "", to), "right"),
            (leads("https://h/"), served(302, ""), "right"),
            (leads("https://h/"), gateway(404, "", None), "no_route"),
            (status(200), gateway(301, "", to), "follow"),
            (status(200), served(200, ""), "right"),
            (status(200), served(204, ""), "http_status"),
            (status(200), gateway(503, "no healthy upstream", None), "no_healthy_upstream"),
            (status(503), served(503, ""), "right"),
            (contains("ok"), served(200, "all ok"), "right"),
            (contains("ok"), served(200, "no"), "http_unexpected"),
            (within(2), served(200, ""), "right"),
            (within(1), served(200, ""), "http_unexpected"),
        ] {
            let found = match judge(&expect, &reply) {
                Verdict::Right { warning: None } => "right",
                Verdict::Right { .. } => "warned",
                Verdict::Follow { .. } => "follow",
                Verdict::Wrong { fault, .. } => fault.code.info().name,
            };
            assert_eq!(found, verdict, "{expect:?} {reply:?}");
        }
    }

    #[test]
    fn the_load_balancers_way_to_https_is_not_the_redirect_that_is_wished_for() {
        let leads = |to: &str, status: Option<u16>| Expect {
            status: status.map(Statuses::one),
            more: More { redirect_to: Some(to.to_owned()), ..More::default() },
            ..Expect::default()
        };
        let by = |server: &str, location: &str| Reply {
            status: 301,
            headers: vec![("server".to_owned(), server.to_owned()), ("location".to_owned(), location.to_owned())],
            ..Reply::default()
        };
        let asked = Url::parse("http://h/a?b=1").expect("a URL");
        let upgrade = "https://h:443/a?b=1";
        for (expect, reply, follows) in [
            (leads("https://new/", None), by("awselb/2.0", upgrade), true),
            (leads("https://new/", Some(301)), by("awselb/2.0", upgrade), true),
            (leads("https://h/a?b=1", None), by("awselb/2.0", upgrade), false),
            (leads("https://new/", None), by("awselb/2.0", "https://h:443/login"), false),
            (leads("https://new/", None), by("awselb/2.0", "https://other/a?b=1"), false),
            (leads("https://new/", None), by("istio-envoy", upgrade), false),
        ] {
            let found = judge_at(&expect, &reply, Some(&asked));
            assert_eq!(matches!(found, Verdict::Follow { .. }), follows, "{expect:?} {reply:?}");
        }
    }

    #[test]
    fn without_a_gateway_between_every_answer_is_the_services() {
        let none = Expect::default();
        let plain = |status, body: &str| Reply { status, body: body.to_owned(), ..Reply::default() };
        for (reply, verdict) in [
            (plain(200, "hi"), "right"),
            (plain(503, "busy"), "http_status"),
            (gateway(302, "", Some("/login")), "right"),
            (gateway(503, "upstream connect error or disconnect/reset before headers. reset reason: connection failure", None), "upstream_failed"),
        ] {
            let found = match judge_own(&none, &reply) {
                Verdict::Right { .. } => "right",
                Verdict::Follow { .. } => "follow",
                Verdict::Wrong { fault, .. } => fault.code.info().name,
            };
            assert_eq!(found, verdict, "{reply:?}");
        }
    }

    #[test]
    fn cookies_are_not_shown() {
        let mut reply = served(500, "x");
        reply.headers.push(("set-cookie".to_owned(), "session=1".to_owned()));
        let Verdict::Wrong { fault, .. } = judge(&Expect::default(), &reply) else { panic!("500 is wrong") };
        assert!(!fault.evidence[0].text.contains("session"), "{fault:?}");
    }
}
