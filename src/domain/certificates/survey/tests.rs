//! The table of a mesh and what is found in it.

use super::*;
use crate::domain::certificates::judge::tests::{evidence, leaf, plane, pod, with};

fn causes(evidence: &Evidence) -> Vec<(Cause, bool)> {
    findings(evidence).iter().map(|finding| (finding.judgement.cause, finding.now)).collect()
}

fn mesh(pods: &[(&str, Option<&str>)], gateway: &str) -> Evidence {
    with(|e| {
        e.pods = pods.iter().map(|(name, root)| pod(name, 500, "", *root)).collect();
        let started = if gateway == "b" { 1100 } else { 500 };
        e.gateways = vec![pod("gw-a", started, "", Some(gateway))];
    })
}

#[test]
fn a_healthy_mesh_has_no_finding() {
    let mut mesh = mesh(&[("app1-a", Some("b")), ("app2-a", Some("b"))], "b");
    mesh.pods.iter_mut().for_each(|p| p.started = "1970-01-01T01:00:00Z".parse().ok());
    assert_eq!(causes(&mesh), []);
    assert_eq!(
        table(&rows(&mesh)),
        [
            "pod          root          certificate by  until                 verdict",
            "prod/gw-a    bbbbbbbbbbbb  bbbbbbbbbbbb    1970-04-03T14:13:20Z  current",
            "prod/app1-a  bbbbbbbbbbbb  bbbbbbbbbbbb    1970-04-03T14:13:20Z  current",
            "prod/app2-a  bbbbbbbbbbbb  bbbbbbbbbbbb    1970-04-03T14:13:20Z  current",
        ]
    );
}

#[test]
fn each_row_has_its_verdict() {
    let rows_of = |change: fn(&mut Evidence)| rows(&with(change)).pop().map(|row| row.verdict).unwrap_or_default();
    assert_eq!(rows_of(|e| e.pods = vec![pod("p", 500, "", Some("a"))]), "STALE, older than the root");
    assert_eq!(rows_of(|e| e.pods = vec![pod("p", 1500, "", Some("a"))]), "STALE");
    assert_eq!(rows_of(|e| e.pods = vec![pod("p", 500, "", None)]), "not read; older than the root");
    assert_eq!(rows_of(|e| e.pods = vec![PodEvidence { ready: false, ..pod("p", 1500, "", Some("b")) }]), "current, not ready");
    assert_eq!(rows_of(|e| e.pods = vec![PodEvidence { leaf: Some(leaf("b", 1500)), ..pod("p", 1500, "", Some("b")) }]), "EXPIRED");
    assert_eq!(rows_of(|e| e.pods = vec![PodEvidence { proxied: false, ..pod("p", 1500, "", None) }]), "no sidecar");
}

#[test]
fn findings_tell_now_from_later() {
    assert_eq!(causes(&mesh(&[("app1-a", Some("a")), ("app2-a", Some("b"))], "b")), [(Cause::StaleWorkload, true)]);
    assert_eq!(causes(&mesh(&[("app1-a", Some("b"))], "a")), [(Cause::StaleGateway, true)]);
    // The CA was exchanged and only istiod restarted: nothing breaks before the gateway or a workload restarts.
    let before = with(|e| {
        e.pods = vec![pod("app1-a", 500, "", Some("a"))];
        e.gateways = vec![pod("gw-a", 500, "", Some("a"))];
    });
    assert_eq!(causes(&before), [(Cause::StaleGateway, false), (Cause::StaleWorkload, false)]);
    assert_eq!(causes(&evidence()), [(Cause::Unknown, false)], "old and not readable is not proven");
}

#[test]
fn the_meshs_own_faults_come_first() {
    let found = with(|e| {
        e.planes = vec![plane("c")];
        e.namespace_roots.insert("pre-prod".into(), None);
        e.injectors.insert("namespace.sidecar-injector.istio.io".into(), vec![]);
        e.pods.clear();
        e.gateways.clear();
    });
    assert_eq!(causes(&found), [(Cause::StaleConfigMap, true), (Cause::StaleConfigMap, true), (Cause::InjectorUntrusted, true)]);
    assert_eq!(causes(&with(|e| e.root = None)), [(Cause::StaleConfigMap, true)]);
}
