//! From the gateway to a pod: mutual TLS when the pod has a sidecar, and what a failure looks like in each version of Envoy.

use serde_json::Value;

use super::app::{self, Refused, Reply};
use super::envoy::Told;
use crate::sandbox::istio;
use crate::sandbox::kubelet::workload_of;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{namespace, text, uid};
use crate::sandbox::world::wild;

const DESTINATION_RULES: &str = "destinationrules.networking.istio.io";

const RESET: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure";
const REASON_SHORT: &str = "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end";
const EXPIRED: &str = "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: X509_verify_cert: certificate verification error at depth 0: certificate has expired:TLS_error_end";
const PLAIN: &str = "TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end";
const REASON_LONG: &str = "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: X509_verify_cert: certificate verification error at depth 1: self signed certificate in certificate chain:TLS_error_end";

/// What comes back from a pod, seen at the gateway.
pub(super) fn ask(sim: &Sim, gateway: &Value, pod: &Value, port: u16, path: &str) -> (Reply, Told) {
    let (own, other) = {
        let kubelet = sim.kubelet();
        (kubelet.root(uid(gateway)), kubelet.root(uid(pod)))
    };
    if let (Some(own), Some(other)) = (own, other)
        && own != other
    {
        return certificate_failure(&sim.world.istio.envoy);
    }
    if istio::expired(sim, pod) {
        let reason = if version(&sim.world.istio.envoy) >= (1, 37, 0) { EXPIRED } else { REASON_SHORT };
        return tls_failure(&sim.world.istio.envoy, reason);
    }
    if other.is_none() && asks_for_mtls(sim, pod) {
        return tls_failure(&sim.world.istio.envoy, PLAIN);
    }
    let started = std::time::Instant::now();
    match app::answer(sim, pod, port, path) {
        Ok(reply) => {
            let took = (reply.delay + started.elapsed()).as_millis().max(1).to_string();
            (reply.with("x-envoy-upstream-service-time", took), Told { flags: "-", details: "via_upstream".to_owned(), ..Told::default() })
        }
        Err(Refused) => refused(&sim.world.istio.envoy, other.is_some()),
    }
}

fn version(envoy: &str) -> (u32, u32, u32) {
    let mut parts = envoy.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

/// Whether this Envoy keeps transport failures out of the body.
fn hides(envoy: &str) -> bool {
    version(envoy) >= (1, 38, 1)
}

fn certificate_failure(envoy: &str) -> (Reply, Told) {
    tls_failure(envoy, if version(envoy) >= (1, 37, 0) { REASON_LONG } else { REASON_SHORT })
}

/// Whether a DestinationRule asks for the mesh's mTLS towards a pod's namespace or workload.
fn asks_for_mtls(sim: &Sim, pod: &Value) -> bool {
    let full = format!("{}.{}.svc.cluster.local", workload_of(pod), namespace(pod));
    sim.store
        .list(DESTINATION_RULES, "")
        .iter()
        .any(|rule| text(rule, "/spec/trafficPolicy/tls/mode") == "ISTIO_MUTUAL" && wild(text(rule, "/spec/host"), &full))
}

fn tls_failure(envoy: &str, reason: &str) -> (Reply, Told) {
    let body = if hides(envoy) { RESET.to_owned() } else { format!("{RESET}, transport failure reason: {reason}") };
    let logged = reason.replace(' ', "_");
    let details = format!("upstream_reset_before_response_started{{remote_connection_failure|{logged}}}");
    (Reply::new(503, "text/plain", body), Told { flags: "URX,UF", details, reason: logged, ..Told::default() })
}

/// What a sidecar answers when nothing listens behind it.
pub(super) fn nobody_listens(envoy: &str) -> Reply {
    refused(envoy, true).0
}

/// The application does not listen: with a sidecar it is the sidecar that says so.
fn refused(envoy: &str, sidecar: bool) -> (Reply, Told) {
    let reason = "delayed connect error: Connection refused";
    let body = if hides(envoy) { RESET.to_owned() } else { format!("{RESET}, transport failure reason: {reason}") };
    let reply = Reply::new(503, "text/plain", body);
    let logged = reason.replace(' ', "_");
    if sidecar {
        let told = Told { flags: "-", details: "via_upstream".to_owned(), ..Told::default() };
        return (reply.with("x-envoy-upstream-service-time", "1"), told);
    }
    let details = format!("upstream_reset_before_response_started{{remote_connection_failure|{logged}}}");
    (reply, Told { flags: "URX,UF", details, reason: logged, ..Told::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_certificate_failure_depends_on_envoys_version() {
        for (envoy, length) in [("1.40.0", 121), ("1.38.3", 121), ("1.38.1", 121), ("1.37.0", 365), ("1.36.4", 239)] {
            let (reply, told) = certificate_failure(envoy);
            assert_eq!(reply.body.len(), length, "{envoy}");
            assert!(told.details.contains("CERTIFICATE_VERIFY_FAILED"), "the log tells it in every version");
        }
    }
}
