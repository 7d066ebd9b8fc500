//! Recorded lines of Istio's generations.

use super::*;

const GENERATIONS: [(&str, &str); 5] = [
    ("1.7", include_str!("../../../../fixtures/certificates/agent-1.7.log")),
    ("1.12", include_str!("../../../../fixtures/certificates/agent-1.12.log")),
    ("1.15", include_str!("../../../../fixtures/certificates/agent-1.15.log")),
    ("1.21, JSON", include_str!("../../../../fixtures/certificates/agent-1.21.json.log")),
    ("1.31", include_str!("../../../../fixtures/certificates/agent-1.31.log")),
];
const V131: &str = GENERATIONS[4].1;
const UNAUTHENTICATED: &str = "2026-11-23T02:20:58Z\twarn\tsds\tfailed to warm certificate: failed to generate workload certificate: create certificate: rpc error: code = Unauthenticated desc = request authenticate failure";
const TIMEOUT: &str = "2026-11-23T02:20:58Z\twarn\tsds\tfailed to warm certificate: failed to generate workload certificate: create certificate: rpc error: code = Unavailable desc = dial tcp 10.96.0.1:15012: i/o timeout";
const XDS: &str = "2026-11-23T02:20:58Z\twarning\tenvoy config ./source/extensions/config_subscription/grpc/grpc_stream.h:227\tDeltaAggregatedResources gRPC config stream to xds-grpc closed since 32s ago: 14, connection error: desc = \"transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority\"";
const CLOCK: &str = "2026-11-23T02:20:58Z\twarn\tsds\tfailed to warm certificate: failed to generate workload certificate: x509: certificate has expired or is not yet valid: current time 2026-11-22T00:00:00Z is before 2026-11-23T00:00:00Z";
const HEALED: &str = "2026-11-23T02:30:00.000000Z\tinfo\tcache\tgenerated new workload certificate\tresourceName=default latency=20ms ttl=23h59m59s";

#[test]
fn every_generation_is_read() {
    for (version, log) in GENERATIONS {
        let found = read(log);
        let line = found.untrusted.expect(version);
        assert!(line.at.is_some() && line.essence().ends_with("… x509: certificate signed by unknown authority"), "{version}: {line:?}");
        assert_eq!((found.unsigned, found.xds_untrusted, found.clock), (None, None, None), "{version}");
    }
}

#[test]
fn other_reasons_are_other_diagnoses() {
    for log in [UNAUTHENTICATED, TIMEOUT] {
        let found = read(log);
        assert!(found.untrusted.is_none() && found.unsigned.is_some(), "{log}");
    }
    assert!(read(CLOCK).clock.is_some() && read(CLOCK).untrusted.is_none());
    assert!(read(XDS).xds_untrusted.is_some() && read(XDS).untrusted.is_none());
    assert_eq!(read("2026-11-23T02:20:58Z\tinfo\tEnvoy proxy is ready"), AgentLog::default());
}

#[test]
fn a_later_certificate_clears_a_refusal() {
    assert_eq!(read(&format!("{V131}{HEALED}\n")).untrusted, None);
    assert!(read(&format!("{HEALED}\n{V131}")).untrusted.is_some());
}
