//! Each cause, and the near cases that must not lead to a restart.

use super::*;
use crate::domain::certificates::{access_log, agent_log};

const NEW_BODY: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure";
const OLD_BODY: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure, transport failure reason: TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end";
const UNTRUSTED: &str = "2026-11-23T02:20:58Z\twarn\tsds\tfailed to warm certificate: failed to generate workload certificate: create certificate: rpc error: x509: certificate signed by unknown authority";
const UNAUTHENTICATED: &str = "2026-11-23T02:20:58Z\twarn\tsds\tfailed to warm certificate: failed to generate workload certificate: create certificate: rpc error: code = Unauthenticated desc = request authenticate failure";
const CLOCK: &str = "2026-11-23T02:20:58Z\twarn\tx509: certificate has expired or is not yet valid: current time A is before B";
const REFUSED: &str = r#"[2026-11-23T02:20:58.000Z] "GET /x HTTP/1.1" 503 URX,UF upstream_reset_before_response_started{x} - "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end" 0 121 60 - "1" "c" "u" "a" "b" outbound|8000||app1-service.prod.svc.cluster.local - - - - -"#;

fn reply(body: &str, reached: bool) -> Reply {
    let mut headers = vec![("server".to_owned(), "istio-envoy".to_owned())];
    if reached {
        headers.push(("x-envoy-upstream-service-time".to_owned(), "1".to_owned()));
    }
    Reply { status: 503, headers, body: body.to_owned(), took_ms: 1 }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn root(key: &str) -> Root {
    Root { key: KeyHash(key.repeat(64)), subject: "O=cluster.local".into(), not_before: at(1000), not_after: at(9_000_000) }
}

fn pod(name: &str, started: i64, log: &str, roots: Option<&str>) -> PodEvidence {
    PodEvidence {
        name: name.into(),
        owner: Some(ObjectName::new("Deployment", "prod", "app1-service")),
        started: Some(at(started)),
        log: agent_log::read(log),
        roots: roots.map(|key| vec![KeyHash(key.repeat(64))]),
        unread: vec![],
    }
}

/// A pod from before the root, a gateway from after it, the right ConfigMaps, no log.
fn evidence() -> Evidence {
    Evidence {
        namespace: "prod".into(),
        service: "app1-service".into(),
        pods: vec![pod("app1-a", 500, "", None)],
        gateways: vec![pod("gw-a", 1100, "", None)],
        root: Some(root("b")),
        namespace_root: Some(root("b")),
        access_log: AccessLog::default(),
    }
}

fn with(change: impl FnOnce(&mut Evidence)) -> Evidence {
    let mut evidence = evidence();
    change(&mut evidence);
    evidence
}

#[test]
fn each_cause_is_named() {
    let gateway_log = |e: &mut Evidence| e.access_log = access_log::read(REFUSED);
    let rows: [(&str, Reply, Evidence, Cause); 19] = [
        ("the runbook's line", reply(NEW_BODY, false), with(|e| e.pods[0].log = agent_log::read(UNTRUSTED)), Cause::StaleWorkload),
        ("the runbook's line, old body", reply(OLD_BODY, false), with(|e| e.pods[0].log = agent_log::read(UNTRUSTED)), Cause::StaleWorkload),
        ("gateway log and ages", reply(NEW_BODY, false), with(gateway_log), Cause::StaleWorkload),
        ("another root in the pod", reply(NEW_BODY, false), with(|e| e.pods = vec![pod("p", 500, "", Some("a"))]), Cause::StaleWorkload),
        (
            "another root in the gateway",
            reply(NEW_BODY, false),
            with(|e| {
                e.pods = vec![pod("p", 1200, "", Some("b"))];
                e.gateways = vec![pod("g", 500, "", Some("a"))];
            }),
            Cause::StaleGateway,
        ),
        (
            "gateway log, gateway older",
            reply(NEW_BODY, false),
            with(|e| {
                gateway_log(e);
                e.pods = vec![pod("p", 1200, "", None)];
                e.gateways = vec![pod("g", 500, "", None)];
            }),
            Cause::StaleGateway,
        ),
        (
            "the namespace's root is another",
            reply(OLD_BODY, false),
            with(|e| {
                e.pods[0].log = agent_log::read(UNTRUSTED);
                e.namespace_root = Some(root("a"));
            }),
            Cause::StaleConfigMap,
        ),
        (
            "no certificate for another reason",
            reply(NEW_BODY, false),
            with(|e| e.pods = vec![pod("p", 1200, UNAUTHENTICATED, None)]),
            Cause::CaBroken,
        ),
        ("the clock", reply(NEW_BODY, false), with(|e| e.pods[0].log = agent_log::read(CLOCK)), Cause::ClockSkew),
        (
            "a plain port",
            reply(
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end",
                false,
            ),
            evidence(),
            Cause::Plaintext,
        ),
        (
            "another identity",
            reply(
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: verify SAN list:TLS_error_end",
                false,
            ),
            evidence(),
            Cause::SanMismatch,
        ),
        (
            "expired",
            reply(
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: TLS_error:|268436501:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_EXPIRED:TLS_error_end",
                false,
            ),
            evidence(),
            Cause::LeafExpired,
        ),
        ("body text alone", reply(OLD_BODY, false), with(|e| e.pods = vec![pod("p", 1200, "", None)]), Cause::Unknown),
        ("body text alone, old pod", reply(OLD_BODY, false), evidence(), Cause::Unknown),
        ("the service prints the text", reply(OLD_BODY, true), with(|e| e.pods[0].log = agent_log::read(UNTRUSTED)), Cause::Unknown),
        ("simply broken", reply(NEW_BODY, false), evidence(), Cause::Unknown),
        (
            "both older than the root",
            reply(NEW_BODY, false),
            with(|e| {
                gateway_log(e);
                e.gateways = vec![pod("g", 500, "", None)];
            }),
            Cause::Unknown,
        ),
        (
            "a line in the log, but the root is current",
            reply(NEW_BODY, false),
            with(|e| e.pods = vec![pod("p", 1200, UNTRUSTED, Some("b"))]),
            Cause::Unknown,
        ),
        (
            "no current root known",
            reply(OLD_BODY, false),
            with(|e| {
                e.root = None;
                e.pods[0].log = agent_log::read(UNTRUSTED);
            }),
            Cause::Unknown,
        ),
    ];
    for (name, reply, evidence, cause) in rows {
        let judgement = judge(&reply, &evidence);
        assert_eq!(judgement.cause, cause, "{name}: {judgement:?}");
        assert!(!judgement.proof.is_empty(), "{name}");
        assert_eq!(judgement.cause.restart_helps(), cause == Cause::StaleWorkload, "{name}");
    }
}

#[test]
fn only_the_stale_pods_are_named() {
    let evidence = with(|e| e.pods = vec![pod("old", 500, "", Some("a")), pod("new", 1200, "", Some("b"))]);
    assert_eq!(judge(&reply(NEW_BODY, false), &evidence).pods, ["old"]);
}
