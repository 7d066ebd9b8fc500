//! Log lines of the mesh's proxies, as the real ones write them.

use crate::sandbox::controllers::{CONFIG_MAPS, TELEMETRIES};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, text};

/// What a sidecar writes when its certificate is to be renewed and istiod's root is another one than it trusts.
pub(super) fn stale(at: jiff::Timestamp) -> Vec<String> {
    let stamp = |ms: i64| (at + jiff::SignedDuration::from_millis(ms)).strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let error = "rpc error: code = Unavailable desc = connection error: desc = \"transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority (possibly because of \\\"crypto/rsa: verification error\\\" while trying to verify candidate authority certificate \\\"cluster.local\\\")\"";
    let mut lines: Vec<String> = [(1, "96.273112ms"), (2, "188.62194ms"), (3, "391.0426ms"), (4, "786.9015ms")]
        .iter()
        .map(|(attempt, wait)| format!("{}\twarn\tca\tca request failed, starting attempt {attempt} in {wait}", stamp(0)))
        .collect();
    lines.push(format!("{}\terror\tcitadelclient\tfailed to sign CSR: create certificate: {error}", stamp(1)));
    lines.push(format!("{}\tinfo\tcitadelclient\trecreated connection", stamp(2)));
    lines.push(format!("{}\terror\tcache\tresource:default failed to sign: create certificate: {error}", stamp(2)));
    lines.push(format!(
        "{}\twarning\tenvoy config ./source/extensions/config_subscription/grpc/grpc_stream.h:189\tStreamSecrets gRPC config stream to sds-grpc closed: 2, failed to generate secret for default: failed to generate workload certificate: create certificate: {error}{{via_upstream}}\tthread=48",
        stamp(3)
    ));
    lines
}

/// Whether the proxies write access logs: a mesh-wide Telemetry or the mesh's own setting says so.
pub(crate) fn access_log_on(sim: &Sim) -> bool {
    let wanted = sim.store.list(TELEMETRIES, super::SYSTEM).iter().any(|telemetry| !list(telemetry, "/spec/accessLogging").is_empty());
    let mesh = sim.store.get(CONFIG_MAPS, super::SYSTEM, "istio");
    wanted || mesh.is_some_and(|mesh| text(&mesh, "/data/mesh").contains("accessLogFile: /dev/stdout"))
}

/// One line of the gateway's access log. `flags`, `details` and `reason` as Envoy formats them, `-` where there is nothing.
#[expect(clippy::too_many_arguments, reason = "the fields of one log line")]
pub(crate) fn access_line(
    at: jiff::Timestamp,
    method: &str,
    path: &str,
    host: &str,
    status: u16,
    flags: &str,
    details: &str,
    reason: &str,
    bytes: usize,
    upstream: &str,
    cluster: &str,
    request: u64,
) -> String {
    let stamp = at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    let quoted = if reason.is_empty() { "-" } else { reason };
    format!(
        "[{stamp}] \"{method} {path} HTTP/1.1\" {status} {flags} {details} - \"{quoted}\" 0 {bytes} 1 1 \"10.0.1.10\" \"-\" \"{request:08x}-0000-4000-a000-000000000000\" \"{host}\" \"{upstream}\" {cluster} 10.244.0.12:52226 10.244.0.12:8080 10.0.1.10:32552 - -"
    )
}
