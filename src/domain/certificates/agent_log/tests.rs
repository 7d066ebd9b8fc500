//! Recorded lines of Istio's generations.

use super::*;

/// 1.31, recorded.
pub(crate) const V131: &str = "2026-11-23T02:20:57.338547Z\twarn\tca\tca request failed, starting attempt 1 in 96.273112ms
2026-11-23T02:20:58.801182Z\terror\tcitadelclient\tfailed to sign CSR: create certificate: rpc error: code = Unavailable desc = connection error: desc = \"transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority (possibly because of \\\"crypto/rsa: verification error\\\" while trying to verify candidate authority certificate \\\"cluster.local\\\")\"
2026-11-23T02:20:58.801715Z\tinfo\tcitadelclient\trecreated connection
2026-11-23T02:20:58.802142Z\twarning\tenvoy config ./source/extensions/config_subscription/grpc/grpc_stream.h:189\tStreamSecrets gRPC config stream to sds-grpc closed: 2, failed to generate secret for default: failed to generate workload certificate: create certificate: rpc error: code = Unavailable desc = connection error: desc = \"transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority (possibly because of \\\"crypto/rsa: verification error\\\" while trying to verify candidate authority certificate \\\"cluster.local\\\")\"{via_upstream}\tthread=48
";
const START: &str = "2022-03-01T10:00:00.000000Z\twarn\tsds\tfailed to warm certificate: failed to generate workload certificate: create certificate: rpc error: code = Unavailable desc = connection error: desc = \"transport: authentication handshake failed: x509: certificate signed by unknown authority\"";
const V18: &str = "2021-01-01T10:00:00.000000Z\terror\tcitadelclient\tFailed to create certificate: rpc error: code = Unavailable desc = connection error: desc = \"transport: authentication handshake failed: x509: certificate signed by unknown authority\"";
const JSON: &str = r#"{"level":"warn","time":"2026-11-23T02:20:58.801182Z","scope":"sds","msg":"failed to warm certificate: failed to generate workload certificate: create certificate: rpc error: code = Unavailable desc = \"transport: authentication handshake failed: x509: certificate signed by unknown authority\""}"#;
const UNAUTHENTICATED: &str = "2026-11-23T02:20:58Z\twarn\tsds\tfailed to warm certificate: failed to generate workload certificate: create certificate: rpc error: code = Unauthenticated desc = request authenticate failure";
const TIMEOUT: &str = "2026-11-23T02:20:58Z\twarn\tsds\tfailed to warm certificate: failed to generate workload certificate: create certificate: rpc error: code = Unavailable desc = dial tcp 10.96.0.1:15012: i/o timeout";
const XDS: &str = "2026-11-23T02:20:58Z\twarning\tenvoy config ./source/extensions/config_subscription/grpc/grpc_stream.h:227\tDeltaAggregatedResources gRPC config stream to xds-grpc closed since 32s ago: 14, connection error: desc = \"transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority\"";
const CLOCK: &str = "2026-11-23T02:20:58Z\twarn\tsds\tfailed to warm certificate: failed to generate workload certificate: x509: certificate has expired or is not yet valid: current time 2026-11-22T00:00:00Z is before 2026-11-23T00:00:00Z";
const HEALED: &str = "2026-11-23T02:30:00.000000Z\tinfo\tcache\tgenerated new workload certificate\tresourceName=default latency=20ms ttl=23h59m59s";

#[test]
fn every_generation_is_read() {
    for log in [V131, START, V18, JSON] {
        let found = read(log);
        let line = found.untrusted.expect(log);
        assert!(line.at.is_some() && line.essence().ends_with("… x509: certificate signed by unknown authority"), "{log}");
        assert_eq!((found.unsigned, found.xds_untrusted, found.clock), (None, None, None), "{log}");
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
