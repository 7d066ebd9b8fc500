//! Each cause, and the near cases that must not lead to a restart.

use jiff::Timestamp;

use super::*;
use crate::base::names::ObjectName;
use crate::domain::certificates::evidence::{Plane, RuleTls};
use crate::domain::certificates::root::{Leaf, Root};
use crate::domain::certificates::{access_log, agent_log};

const BODY_1_40: &str = include_str!("../../../../fixtures/certificates/body-envoy-1.40.0.txt");
const BODY_1_38: &str = include_str!("../../../../fixtures/certificates/body-envoy-1.38.3.txt");
const BODY_1_37: &str = include_str!("../../../../fixtures/certificates/body-envoy-1.37.0.txt");
const BODY_1_36: &str = include_str!("../../../../fixtures/certificates/body-envoy-1.36.4.txt");
const UNTRUSTED: &str = include_str!("../../../../fixtures/certificates/agent-1.31.log");
const UNAUTHENTICATED: &str = "2026-11-23T02:20:58Z\twarn\tsds\tfailed to warm certificate: failed to generate workload certificate: create certificate: rpc error: code = Unauthenticated desc = request authenticate failure";
const CLOCK: &str = "2026-11-23T02:20:58Z\twarn\tx509: certificate has expired or is not yet valid: current time A is before B";
const REFUSED: &str = r#"[2026-11-23T02:20:58.000Z] "GET /x HTTP/1.1" 503 URX,UF upstream_reset_before_response_started{x} - "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end" 0 121 60 - "1" "c" "u" "a" "b" outbound|8000||app1-service.prod.svc.cluster.local - - - - -"#;

/// What old Envoys say in the body, with the reason of TLS filled in.
fn told(reason: &str) -> String {
    format!(
        "upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: TLS_error:|{reason}:TLS_error_end"
    )
}

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

fn key(letter: &str) -> KeyHash {
    KeyHash(letter.repeat(64))
}

fn root(letter: &str) -> Root {
    Root { key: key(letter), subject: "O=cluster.local".into(), not_before: at(1000), not_after: at(9_000_000), key_id: Some(letter.into()) }
}

pub(crate) fn leaf(issuer: &str, until: i64) -> Leaf {
    Leaf {
        issuer: "O=cluster.local".into(),
        issuer_key: Some(key(issuer)),
        authority: Some(issuer.into()),
        identity: None,
        not_before: at(0),
        not_after: at(until),
    }
}

pub(crate) fn pod(name: &str, started: i64, log: &str, roots: Option<&str>) -> PodEvidence {
    PodEvidence {
        namespace: "prod".into(),
        name: name.into(),
        owner: Some(ObjectName::new("Deployment", "prod", "app1-service")),
        started: Some(at(started)),
        ready: true,
        proxied: true,
        revision: "default".into(),
        log: agent_log::read(log),
        roots: roots.map(|letter| vec![key(letter)]),
        leaf: roots.map(|letter| leaf(letter, 8_000_000)),
        ..PodEvidence::default()
    }
}

/// A pod from before the root `b`, a gateway from after it, the right ConfigMaps, no log, nothing read from the proxies.
pub(crate) fn evidence() -> Evidence {
    Evidence {
        at: Some(at(2000)),
        namespace: "prod".into(),
        service: "app1-service".into(),
        pods: vec![pod("app1-a", 500, "", None)],
        gateways: vec![pod("gw-a", 1100, "", None)],
        root: Some(root("b")),
        trusted: vec![key("b")],
        namespace_roots: [("prod".to_owned(), Some(vec![key("b")]))].into(),
        planes: vec![plane("b")],
        ..Evidence::default()
    }
}

pub(crate) fn plane(letter: &str) -> Plane {
    Plane {
        name: "istiod".into(),
        revision: "default".into(),
        available: true,
        started: Some(at(1001)),
        leaf: Some(leaf(letter, 8_000_000)),
        complaints: vec![],
    }
}

pub(crate) fn with(change: impl FnOnce(&mut Evidence)) -> Evidence {
    let mut evidence = evidence();
    change(&mut evidence);
    evidence
}

/// What each proxy holds, pod and gateway.
fn held(pod_started: i64, pod_root: &str, gateway_started: i64, gateway_root: &str) -> Evidence {
    with(|e| {
        e.pods = vec![pod("app1-a", pod_started, "", Some(pod_root))];
        e.gateways = vec![pod("gw-a", gateway_started, "", Some(gateway_root))];
    })
}

/// Gateway and pod trust each other.
fn well() -> Evidence {
    held(1200, "b", 1100, "b")
}

fn changed(evidence: Evidence, change: impl FnOnce(&mut Evidence)) -> Evidence {
    let mut evidence = evidence;
    change(&mut evidence);
    evidence
}

fn refused(e: &mut Evidence) {
    e.access_log = access_log::read(REFUSED, None);
}

fn rule(mode: &str, names: bool) -> Option<RuleTls> {
    Some(RuleTls { name: "prod/app1".into(), mode: mode.into(), names_identities: names, own_ca: false })
}

#[test]
fn the_bodies_are_the_recorded_ones() {
    let lengths = [BODY_1_40, BODY_1_38, BODY_1_37, BODY_1_36].map(str::len);
    assert_eq!(lengths, [121, 121, 365, 239]);
}

#[test]
fn a_stale_workload_is_proven_whatever_the_body_says() {
    for body in [BODY_1_40, BODY_1_38, BODY_1_37, BODY_1_36, &told("268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED")] {
        let rows: [(&str, Evidence); 5] = [
            ("the roots", held(500, "a", 1100, "b")),
            ("the pod's root alone", with(|e| e.pods = vec![pod("app1-a", 500, "", Some("a"))])),
            ("the runbook's line", with(|e| e.pods[0].log = agent_log::read(UNTRUSTED))),
            ("gateway log and ages", with(refused)),
            (
                "a certificate of another root, though both are trusted",
                changed(held(500, "b", 1100, "b"), |e| e.pods[0].leaf = Some(leaf("a", 8_000_000))),
            ),
        ];
        for (name, evidence) in rows {
            let judgement = judge(&reply(body, false), &evidence);
            assert_eq!((judgement.cause, judgement.pods.as_slice()), (Cause::StaleWorkload, &["app1-a".to_owned()][..]), "{name}: {judgement:?}");
        }
    }
}

#[test]
fn every_other_cause_is_told_apart() {
    let body = BODY_1_40;
    let expired = &told("268436501:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_EXPIRED");
    let san = &told("268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: verify SAN list");
    let rows: [(&str, &str, Evidence, Cause); 24] = [
        ("b: the gateway's root", body, held(1200, "b", 500, "a"), Cause::StaleGateway),
        (
            "b: by age",
            body,
            with(|e| {
                refused(e);
                e.pods = vec![pod("p", 1200, "", None)];
                e.gateways = vec![pod("g", 500, "", None)];
            }),
            Cause::StaleGateway,
        ),
        ("b before a: both are stale, each with another root", body, held(500, "c", 500, "a"), Cause::StaleGateway),
        (
            "c: the namespace's root is another",
            BODY_1_36,
            with(|e| {
                e.pods[0].log = agent_log::read(UNTRUSTED);
                e.namespace_roots = [("prod".into(), Some(vec![key("a")]))].into();
            }),
            Cause::StaleConfigMap,
        ),
        ("c: the namespace has none", body, with(|e| e.namespace_roots = [("prod".into(), None)].into()), Cause::StaleConfigMap),
        (
            "c: istiod signs with another than the ConfigMap says",
            body,
            changed(held(500, "b", 500, "b"), |e| e.planes = vec![plane("c")]),
            Cause::StaleConfigMap,
        ),
        ("c: new pods get another", body, changed(held(1200, "c", 1100, "c"), |e| e.planes[0].leaf = None), Cause::StaleConfigMap),
        (
            "d: istiod says so",
            body,
            changed(well(), |e| e.planes[0].complaints = vec!["error\tcannot verify the cert with the provided root chain".into()]),
            Cause::CaBroken,
        ),
        ("d: istiod is away", body, changed(well(), |e| e.planes[0].available = false), Cause::CaBroken),
        ("d: no certificate for another reason", body, with(|e| e.pods = vec![pod("p", 1200, UNAUTHENTICATED, None)]), Cause::CaBroken),
        ("e: the pod's own certificate", body, changed(well(), |e| e.pods[0].leaf = Some(leaf("b", 1500))), Cause::LeafExpired),
        ("e: the gateway's", body, changed(well(), |e| e.gateways[0].leaf = Some(leaf("b", 1500))), Cause::LeafExpired),
        ("e: the body says so", expired, evidence(), Cause::LeafExpired),
        (
            "a before e: expired because it is stale",
            expired,
            changed(held(500, "a", 1100, "b"), |e| e.pods[0].leaf = Some(leaf("a", 1500))),
            Cause::StaleWorkload,
        ),
        ("f: the clock", body, with(|e| e.pods[0].log = agent_log::read(CLOCK)), Cause::ClockSkew),
        ("g: the body says so", san, evidence(), Cause::SanMismatch),
        ("g: a rule names identities", body, changed(well(), |e| e.rule = rule("ISTIO_MUTUAL", true)), Cause::SanMismatch),
        ("h: a rule's own TLS", body, changed(well(), |e| e.rule = rule("SIMPLE", false)), Cause::OwnConfig),
        ("i: two istiods", body, changed(well(), |e| e.planes.push(Plane { name: "istiod-canary".into(), ..plane("c") })), Cause::TwoControlPlanes),
        ("i: pods of two revisions", body, changed(held(1300, "c", 1100, "b"), |e| e.pods[0].revision = "canary".into()), Cause::TwoControlPlanes),
        ("j: the body says so", &told("268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER"), evidence(), Cause::Plaintext),
        (
            "j: no sidecar, and a rule asks for mTLS",
            body,
            changed(well(), |e| {
                e.pods[0] = PodEvidence { proxied: false, roots: None, leaf: None, ..e.pods[0].clone() };
                e.rule = rule("ISTIO_MUTUAL", false);
            }),
            Cause::Plaintext,
        ),
        (
            "one of two pods is stale though it started later",
            body,
            changed(held(1300, "a", 1100, "b"), |e| e.gateways[0].started = Some(at(1100))),
            Cause::StaleWorkload,
        ),
        (
            "an exchange of roots in order: both are trusted",
            body,
            changed(held(500, "a", 1100, "b"), |e| e.trusted = vec![key("a"), key("b")]),
            Cause::Unknown,
        ),
    ];
    for (name, body, evidence, cause) in rows {
        let judgement = judge(&reply(body, false), &evidence);
        assert_eq!(judgement.cause, cause, "{name}: {judgement:?}");
        assert!(!judgement.proof.is_empty(), "{name}");
    }
}

#[test]
fn what_must_not_lead_to_a_restart() {
    let rows: [(&str, Reply, Evidence); 9] = [
        ("body text alone", reply(BODY_1_36, false), with(|e| e.pods = vec![pod("p", 1200, "", None)])),
        ("body text alone, old pod", reply(BODY_1_36, false), evidence()),
        ("the service prints the text", reply(BODY_1_36, true), held(500, "a", 1100, "b")),
        ("simply broken", reply(BODY_1_40, false), well()),
        ("simply broken, nothing could be read", reply(BODY_1_40, false), evidence()),
        (
            "both older than the root",
            reply(BODY_1_40, false),
            with(|e| {
                refused(e);
                e.gateways = vec![pod("g", 500, "", None)];
            }),
        ),
        ("both with the former root: they trust each other", reply(BODY_1_40, false), held(500, "a", 500, "a")),
        ("a line in the log, but the root is current", reply(BODY_1_40, false), with(|e| e.pods = vec![pod("p", 1200, UNTRUSTED, Some("b"))])),
        (
            "no current root known",
            reply(BODY_1_36, false),
            with(|e| {
                e.root = None;
                e.pods[0].log = agent_log::read(UNTRUSTED);
            }),
        ),
    ];
    for (name, reply, evidence) in rows {
        let judgement = judge(&reply, &evidence);
        assert_eq!(judgement.cause, Cause::Unknown, "{name}: {judgement:?}");
        assert!(!judgement.proof.is_empty(), "{name}");
    }
}

#[test]
fn only_the_stale_pods_are_named() {
    let evidence = with(|e| e.pods = vec![pod("old", 500, "", Some("a")), pod("new", 1200, "", Some("b"))]);
    assert_eq!(judge(&reply(BODY_1_40, false), &evidence).pods, ["old"]);
}

#[test]
fn without_an_access_log_it_is_said_how_to_switch_it_on() {
    let judgement = judge(&reply(BODY_1_40, false), &well());
    assert!(judgement.in_short().contains("accessLogFile"), "{judgement:?}");
    let judgement = judge(&reply(BODY_1_40, false), &changed(well(), |e| e.access_log.on = true));
    assert!(!judgement.in_short().contains("accessLogFile"), "{judgement:?}");
}
