//! Link 7: is it the gateway's Envoy that answers through the load balancer?

use std::time::Duration;

use url::Url;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::clients::http::NetError;
use crate::domain::ingress::Link;
use crate::domain::verify::answer::{Origin, Reply, origin};
use crate::domain::verify::retry;

/// How long a wrong first answer may go on: rules spread in seconds, targets take some more.
const NO_RULE: Duration = Duration::from_secs(30);
const NO_BACKEND: Duration = Duration::from_secs(15);
const NO_TARGET: Duration = Duration::from_secs(60);
/// What is held to be true where nothing more can be asked.
const UNNAMED: &str = "whether the gateway answers behind it is not known: name a host in `verify.checks`, for its certificate covers no other";

/// Judges the answer to a request through the load balancer. `waited` is how long the link has been waited for; `nameless`: no host is
/// known, so where it redirects to HTTPS nothing more can be asked; `host`: who was asked, if that is known.
pub fn first(reply: &Reply, waited: Duration, nameless: bool, host: Option<&str>) -> Link<String> {
    let origin = origin(reply);
    let said = format!("{} {}", reply.status, origin.words());
    if origin.is_mesh() {
        return Link::holds(said);
    }
    let broken = |code: Code| Fault::new(code, format!("not the gateway answers: {said}")).evidence("the answer", reply.gist());
    match origin {
        Origin::AlbRedirect { ref location } if let Some(other) = elsewhere(location, host) => {
            let why = format!("sends to {other}, which is not judged here: whether the gateway answers is not known");
            Link::Holds(said, vec![why])
        }
        Origin::AlbRedirect { .. } if nameless => Link::Holds(said, vec![UNNAMED.to_owned()]),
        Origin::AlbNoBackend if waited >= NO_BACKEND => Link::broken(broken(Code::NoTargetGroup)),
        Origin::AlbNoRule if waited >= NO_RULE => Link::broken(broken(Code::AlbNoRule)),
        Origin::AlbFixed if waited >= NO_RULE => Link::broken(origin.advice().into_iter().fold(broken(Code::HttpUnexpected), Fault::next)),
        Origin::AlbNoTarget if waited >= NO_TARGET => Link::broken(
            broken(Code::AlbNoTarget)
                .next("a healthy gateway without a Gateway object listens on no port: apply the Gateway (`meshstep mesh`)")
                .next("compare the target group's port with the NodePort of the gateway's http2 port"),
        ),
        _ => Link::NotYet(format!("got {said}")),
    }
}

/// The host of a redirect that leads to another: a login, or an address of before.
fn elsewhere(location: &str, host: Option<&str>) -> Option<String> {
    let to = Url::parse(location).ok()?.host_str()?.to_owned();
    (!to.eq_ignore_ascii_case(host?)).then_some(to)
}

/// Judges a request that got no answer, while no other listener's answer came from the mesh. `lasted`: for how long it has ended in this way.
/// A certificate that is not accepted stays so; whatever else may still come. `answered`: another listener gave some answer.
pub fn unanswered(error: &NetError, lasted: Duration, nameless: bool, answered: bool) -> Link<String> {
    let fault = error.fault();
    let permanent = matches!(fault.code, Code::TlsName | Code::TlsUntrusted | Code::TlsExpired);
    if !permanent || lasted < retry::net_patience(fault.code) {
        return Link::NotYet(fault.message);
    }
    match (nameless && fault.code == Code::TlsName, answered) {
        (false, _) => Link::broken(fault),
        // No certificate is for the load balancer's own name: what else there is tells more.
        (true, true) => Link::NotYet(fault.message),
        (true, false) => Link::Holds(fault.message, vec![UNNAMED.to_owned()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::http::{DnsError, Phase, TlsClass};

    #[test]
    fn a_certificate_that_is_not_accepted_ends_the_wait() {
        let tls = |class| NetError::Tls { class, message: "no".into(), chain: Vec::new() };
        let refused = NetError::Refused { address: "192.0.2.1:443".into() };
        let silent = NetError::Timeout { phase: Phase::Connect, after: Duration::from_secs(10) };
        for (error, lasted, nameless, answered, expected) in [
            (tls(TlsClass::WrongName), 4, false, false, "not yet"),
            (tls(TlsClass::WrongName), 5, false, false, "hostname"),
            (tls(TlsClass::WrongName), 5, false, true, "hostname"),
            (tls(TlsClass::UnknownIssuer), 5, false, true, "untrusted"),
            (tls(TlsClass::Expired), 5, false, true, "expired"),
            (tls(TlsClass::WrongName), 4, true, false, "not yet"),
            (tls(TlsClass::WrongName), 5, true, false, "holds"),
            (tls(TlsClass::WrongName), 5, true, true, "not yet"),
            (tls(TlsClass::UnknownIssuer), 5, true, false, "untrusted"),
            (tls(TlsClass::Other), 900, false, false, "not yet"),
            (refused, 900, false, false, "not yet"),
            (silent, 900, false, false, "not yet"),
            (NetError::Dns(DnsError::Timeout("lb".into())), 900, false, false, "not yet"),
        ] {
            let found = match unanswered(&error, Duration::from_secs(lasted), nameless, answered) {
                Link::Holds(..) => "holds".to_owned(),
                Link::NotYet(_) => "not yet".to_owned(),
                Link::Broken(fault) => fault.code.to_string(),
            };
            assert_eq!(found, expected, "{error} {lasted} {nameless} {answered}");
        }
    }

    #[test]
    fn only_envoy_ends_the_wait_well() {
        let reply =
            |status, server: &str, body: &str| Reply { status, headers: vec![("server".into(), server.into())], body: body.into(), took_ms: 1 };
        for (reply, waited, expected) in [
            (reply(404, "istio-envoy", ""), 0, "holds 404 by the gateway: it has no route for this host and path"),
            (reply(503, "istio-envoy", "no healthy upstream"), 0, "holds 503 by the gateway: it has no healthy pod to send to"),
            (reply(503, "awselb/2.0", "Backend service does not exist"), 14, "not yet"),
            (reply(503, "awselb/2.0", "Backend service does not exist"), 15, "no_target_group"),
            (reply(404, "awselb/2.0", ""), 29, "not yet"),
            (reply(404, "awselb/2.0", ""), 30, "alb_no_rule"),
            (reply(502, "awselb/2.0", "<h1>502 Bad Gateway</h1>"), 59, "not yet"),
            (reply(502, "awselb/2.0", "<h1>502 Bad Gateway</h1>"), 60, "alb_no_target"),
            (reply(503, "awselb/2.0", "back at noon"), 29, "not yet"),
            (reply(503, "awselb/2.0", "back at noon"), 30, "http_unexpected"),
            (reply(200, "nginx", "hello"), 900, "not yet"),
        ] {
            let found = match first(&reply, Duration::from_secs(waited), false, Some("h")) {
                Link::Holds(said, _) => format!("holds {said}"),
                Link::NotYet(_) => "not yet".to_owned(),
                Link::Broken(fault) => fault.code.to_string(),
            };
            assert_eq!(found, expected, "{reply:?} {waited}");
        }
    }

    #[test]
    fn a_redirect_to_https_ends_the_wait_only_where_no_host_is_known() {
        let headers = vec![("server".into(), "awselb/2.0".into()), ("location".into(), "https://lb.example:443/".into())];
        let reply = Reply { status: 301, headers, ..Reply::default() };
        let host = Some("lb.example");
        assert!(matches!(first(&reply, Duration::from_secs(90), false, host), Link::NotYet(_)));
        assert!(matches!(first(&reply, Duration::ZERO, true, host), Link::Holds(_, warnings) if warnings.len() == 1));
    }

    #[test]
    fn a_redirect_to_another_host_is_a_rule_that_works() {
        for (location, host, warned) in [
            ("https://login.example/authorize?client_id=1", Some("app.example"), Some("sends to login.example, which is not judged here")),
            ("https://app.example:443/", Some("app.example"), None),
            ("https://APP.example:443/", Some("App.example"), None),
            ("/login", Some("app.example"), None),
            // A log of before does not tell who was asked.
            ("https://login.example/", None, None),
        ] {
            let headers = vec![("server".into(), "awselb/2.0".into()), ("location".into(), location.into())];
            let found = first(&Reply { status: 302, headers, ..Reply::default() }, Duration::ZERO, false, host);
            match (found, warned) {
                (Link::Holds(_, warnings), Some(words)) => assert!(warnings[0].contains(words), "{warnings:?}"),
                (Link::NotYet(_), None) => {}
                (other, _) => panic!("{location}: {other:?}"),
            }
        }
    }
}
