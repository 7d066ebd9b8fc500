//! The table of answers, from recorded ones.

use super::*;

pub(crate) const VERIFY_NEW: &str =
    "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure";
pub(crate) const VERIFY_136: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure, transport failure reason: TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end";
const VERIFY_137: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure, transport failure reason: TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: X509_verify_cert: certificate verification error at depth 1: self signed certificate in certificate chain:TLS_error_end";
const VERIFY_OLD: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection failure, transport failure reason: TLS error: 268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED";

fn reply(status: u16, server: &str, body: &str) -> Reply {
    Reply { status, headers: vec![("server".into(), server.into())], body: body.into(), took_ms: 1 }
}

fn with(mut reply: Reply, name: &str, value: &str) -> Reply {
    reply.headers.push((name.into(), value.into()));
    reply
}

#[test]
fn who_answered_is_told_apart() {
    let envoy = |status, body| reply(status, "istio-envoy", body);
    let elb = |status, body| reply(status, "awselb/2.0", body);
    let served = |status, body| with(envoy(status, body), "x-envoy-upstream-service-time", "3");
    let upstream = |reason: &str, tls| Origin::Upstream { reason: reason.to_owned(), tls };
    let to = "https://app1.public.domain:443/";
    for (reply, expected) in [
        (served(200, "hello"), Origin::Service),
        (served(503, "busy"), Origin::Service),
        (served(404, ""), Origin::Service),
        (served(503, VERIFY_136), Origin::Sidecar),
        (served(503, "upstream connect error or disconnect/reset before headers. reset reason: connection failure"), Origin::Sidecar),
        (envoy(404, ""), Origin::NoRoute),
        (envoy(503, "no healthy upstream"), Origin::NoHealthyUpstream),
        (envoy(503, ""), Origin::NoCluster),
        (envoy(503, VERIFY_NEW), upstream("remote connection failure", None)),
        (envoy(503, VERIFY_136), upstream("remote connection failure", Some(TlsReason::VerifyFailed))),
        (envoy(503, VERIFY_137), upstream("remote connection failure", Some(TlsReason::VerifyFailed))),
        (envoy(503, VERIFY_OLD), upstream("connection failure", Some(TlsReason::VerifyFailed))),
        (
            envoy(
                503,
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end",
            ),
            upstream("connection failure", Some(TlsReason::Plaintext)),
        ),
        (
            envoy(
                503,
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: delayed connect error: 111",
            ),
            upstream("connection failure", None),
        ),
        (envoy(503, "upstream connect error or disconnect/reset before headers. reset reason: overflow"), upstream("overflow", None)),
        (envoy(504, "upstream request timeout"), upstream("no answer within the route's time", None)),
        (with(envoy(301, ""), "location", to), Origin::GatewayRedirect { location: to.into() }),
        (envoy(403, "RBAC: access denied"), Origin::GatewayPolicy { what: "an AuthorizationPolicy" }),
        (envoy(401, "Jwt is missing"), Origin::GatewayPolicy { what: "a RequestAuthentication" }),
        (envoy(429, "local_rate_limited"), Origin::GatewayPolicy { what: "a rate limit" }),
        (envoy(200, "direct"), Origin::Gateway),
        (with(elb(301, ""), "location", to), Origin::AlbRedirect { location: to.into() }),
        (elb(404, ""), Origin::AlbNoRule),
        (elb(404, "no such page"), Origin::AlbFixed),
        (
            elb(
                503,
                "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n<center><h1>503 Service Temporarily Unavailable</h1></center>",
            ),
            Origin::AlbNoTarget,
        ),
        (elb(503, "we are back at noon"), Origin::AlbFixed),
        (elb(503, "<html><body><h1>Back at noon</h1></body></html>"), Origin::AlbFixed),
        (elb(503, ""), Origin::AlbFixed),
        (elb(502, "<html><body><center><h1>502 Bad Gateway</h1></center>"), Origin::AlbNoTarget),
        (elb(504, "<html><body><center><h1>504 Gateway Time-out</h1></center>"), Origin::AlbNoTarget),
        (elb(403, "<html><body><center><h1>403 Forbidden</h1></center>"), Origin::Alb),
        (elb(200, "ok"), Origin::AlbFixed),
        (reply(503, "", "Backend service does not exist"), Origin::AlbNoBackend),
        (reply(200, "nginx", "welcome"), Origin::Other),
        (Reply { status: 200, ..Reply::default() }, Origin::Other),
    ] {
        assert_eq!(origin(&reply), expected, "{reply:?}");
    }
}

#[test]
fn a_fixed_503_is_not_the_gateway() {
    let fixed = with(reply(503, "awselb/2.0", "Backend service does not exist"), "content-type", "text/plain");
    assert_eq!(origin(&fixed), Origin::AlbNoBackend);
    assert!(!origin(&fixed).is_mesh());
}

#[test]
fn only_the_gateways_own_503_can_be_the_incident() {
    let own = with(reply(503, "istio-envoy", VERIFY_136), "x-envoy-upstream-service-time", "2");
    assert!(!origin(&own).may_be_stale_certificate(), "a service that prints the text");
    assert!(origin(&reply(503, "istio-envoy", VERIFY_NEW)).may_be_stale_certificate());
    assert!(!origin(&reply(503, "istio-envoy", "no healthy upstream")).may_be_stale_certificate());
}

#[test]
fn tls_reasons_read_alike_from_bodies_and_log_lines() {
    for (text, reason) in [
        (
            "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_SAN_matcher,_certificate_SANs_are_[x]:TLS_error_end",
            Some(TlsReason::SanMismatch),
        ),
        (
            "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_X509_verify_cert:_certificate_verification_error_at_depth_0:_certificate_has_expired:TLS_error_end",
            Some(TlsReason::Expired),
        ),
        ("TLS_error:|268436501:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_EXPIRED:TLS_error_end", Some(TlsReason::Expired)),
        ("TLS_error:|268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end", Some(TlsReason::Other)),
        ("reset reason: connection failure", None),
    ] {
        assert_eq!(tls_reason(text), reason, "{text}");
    }
}
