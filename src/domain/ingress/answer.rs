//! Link 7: is it the gateway's Envoy that answers through the load balancer?

use std::time::Duration;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::domain::ingress::Link;
use crate::domain::verify::answer::{Origin, Reply, origin};

/// How long a wrong first answer may go on: rules spread in seconds, targets take some more.
const NO_RULE: Duration = Duration::from_secs(30);
const NO_BACKEND: Duration = Duration::from_secs(15);
const NO_TARGET: Duration = Duration::from_secs(60);

/// Judges the answer to a request through the load balancer. `waited` is how long the link has been waited for; `nameless`: no host is
/// known, so where it redirects to HTTPS nothing more can be asked.
pub fn first(reply: &Reply, waited: Duration, nameless: bool) -> Link<String> {
    let origin = origin(reply);
    let said = format!("{} {}", reply.status, origin.words());
    if origin.is_mesh() {
        return Link::holds(said);
    }
    let broken = |code: Code| Fault::new(code, format!("not the gateway answers: {said}")).evidence("the answer", reply.gist());
    match origin {
        Origin::AlbRedirect { .. } if nameless => {
            let why = "whether the gateway answers behind it is not known: name a host in `verify.checks`, for its certificate covers no other";
            Link::Holds(said, vec![why.to_owned()])
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let found = match first(&reply, Duration::from_secs(waited), false) {
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
        assert!(matches!(first(&reply, Duration::from_secs(90), false), Link::NotYet(_)));
        assert!(matches!(first(&reply, Duration::ZERO, true), Link::Holds(_, warnings) if warnings.len() == 1));
    }
}
