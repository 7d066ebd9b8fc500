//! What a restart stands on, row by row, with the near case that does not stop it.

use serde_json::json;

use super::*;
use crate::domain::certificates::judge::tests::{plane, pod, with};
use crate::domain::certificates::root::KeyHash;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn deployment(spec: Value) -> Value {
    let mut object = json!({"kind": "Deployment", "spec": {"replicas": 2, "template": {"metadata": {"labels": {"app": "app1"}}}}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn ground(injection: Injection) -> Ground {
    let clocks = vec![NodeClock { node: "a".into(), said: at(99_990) }];
    Ground { injection, clocks, now: Some(at(100_000)), workload: deployment(json!({})), budgets: vec![] }
}

#[test]
fn the_mesh_must_be_able_to_sign() {
    let cause = |evidence: &Evidence| mesh_lacks(evidence, "prod").map(|lack| lack.cause);
    assert_eq!(cause(&with(|_| {})), None);
    assert_eq!(cause(&with(|e| e.planes[0].available = false)), Some(Cause::CaBroken));
    assert_eq!(cause(&with(|e| e.planes[0].complaints = vec!["error".into()])), Some(Cause::CaBroken));
    assert_eq!(cause(&with(|e| e.planes = vec![plane("c")])), Some(Cause::StaleConfigMap));
    assert_eq!(cause(&with(|e| drop(e.namespace_roots.insert("prod".into(), None)))), Some(Cause::StaleConfigMap));
    assert_eq!(cause(&with(|e| drop(e.namespace_roots.insert("other".into(), None)))), None, "another namespace's ConfigMap");
}

#[test]
fn a_new_pod_must_get_its_sidecar() {
    let evidence = with(|_| {});
    let cause = |injection: Injection| pods_lack(&evidence, "prod", &ground(injection)).map(|lack| lack.cause);
    assert_eq!(cause(Injection::Works), None);
    assert_eq!(cause(Injection::NoSidecar), Some(Cause::OwnConfig));
    let x509 = "failed calling webhook \"namespace.sidecar-injector.istio.io\": tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert_eq!(cause(Injection::Refused(x509.into())), Some(Cause::InjectorUntrusted));
    assert_eq!(cause(Injection::Refused("failed calling webhook: no endpoints available for service \"istiod\"".into())), Some(Cause::CaBroken));
    assert_eq!(cause(Injection::Refused("exceeded quota".into())), Some(Cause::Unknown));
    assert_eq!(cause(Injection::NotAsked("forbidden".into())), Some(Cause::Unknown));
    // Where trying out is not allowed, what the API server trusts or a younger pod says enough.
    let trusted = with(|e| drop(e.injectors.insert("hook".into(), vec![KeyHash("b".repeat(64))])));
    assert_eq!(pods_lack(&trusted, "prod", &ground(Injection::NotAsked("forbidden".into()))), None);
    let younger = with(|e| e.pods.push(pod("new", 1500, "", None)));
    assert_eq!(pods_lack(&younger, "prod", &ground(Injection::NotAsked("forbidden".into()))), None);
}

#[test]
fn clocks_may_be_off_by_minutes_only() {
    let cause = |said: i64| {
        let clocks = vec![NodeClock { node: "a".into(), said: at(said) }];
        pods_lack(&with(|_| {}), "prod", &Ground { clocks, ..ground(Injection::Works) }).map(|lack| lack.cause)
    };
    for (said, expected) in [(100_000, None), (100_110, None), (99_720, None), (100_300, Some(Cause::ClockSkew)), (99_000, Some(Cause::ClockSkew))] {
        assert_eq!(cause(said), expected, "{said}");
    }
    let unknown = Ground { now: None, clocks: vec![NodeClock { node: "a".into(), said: at(5) }], ..ground(Injection::Works) };
    assert_eq!(pods_lack(&with(|_| {}), "prod", &unknown), None, "without the API server's time nothing is judged");
}

#[test]
fn a_workload_may_forbid_it() {
    let budget = |allowed: i64| json!({"metadata": {"name": "app1"}, "spec": {"selector": {"matchLabels": {"app": "app1"}}}, "status": {"disruptionsAllowed": allowed}});
    let forbids = |workload: Value, allowed: i64| workload_forbids(&Ground { workload, budgets: vec![budget(allowed)], ..ground(Injection::Works) });
    let set = |kind: &str, strategy: &str| json!({"kind": kind, "spec": {"updateStrategy": {"type": strategy}, "template": {"metadata": {"labels": {"app": "app1"}}}}});
    let rolling = |unavailable: Value| deployment(json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable}}}));
    for (name, workload, allowed, forbidden) in [
        ("surges first", deployment(json!({})), 0, false),
        ("25 % of four", deployment(json!({"replicas": 4})), 0, true),
        ("25 % of four, and the budget allows one", deployment(json!({"replicas": 4})), 1, false),
        ("one at a time", rolling(json!(1)), 0, true),
        ("none", rolling(json!(0)), 0, false),
        ("a percentage that comes to none", rolling(json!("25%")), 0, false),
        ("all at once", deployment(json!({"strategy": {"type": "Recreate"}})), 0, true),
        ("paused", deployment(json!({"paused": true})), 1, true),
        ("a StatefulSet", set("StatefulSet", "RollingUpdate"), 0, true),
        ("a StatefulSet with leave", set("StatefulSet", "RollingUpdate"), 1, false),
        ("by hand only", set("DaemonSet", "OnDelete"), 1, true),
    ] {
        assert_eq!(forbids(workload, allowed).is_some(), forbidden, "{name}");
    }
}

#[test]
fn a_stop_says_what_to_do() {
    let lack = mesh_lacks(&with(|e| e.planes[0].available = false), "prod").expect("a lack");
    let fault = stopped("deployment app1 in prod", &lack);
    assert_eq!(fault.message, "deployment app1 in prod is not restarted: istiod is not available");
    assert_eq!(fault.next, [Cause::CaBroken.remedy()]);
}
