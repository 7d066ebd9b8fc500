//! What a proxy's admin interface tells of its certificates, and the certificate that istiod shows.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::SanType;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio_rustls::rustls::{self, ServerConfig};

use super::root::Root;
use crate::sandbox::kubelet::{images_of, workload_of};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{name, namespace, stamp, text, uid};

/// Whether a pod's certificate has expired: nobody renewed it, and its pods were not made anew since.
pub(in crate::sandbox) fn expired(sim: &Sim, pod: &Value) -> bool {
    let images = images_of(pod);
    let script = sim.world.certificates.iter().find(|script| script.r#match.matches(namespace(pod), workload_of(pod), &images));
    let running = jiff::SignedDuration::try_from(sim.began.elapsed()).unwrap_or_default();
    script.is_some_and(|script| script.expired) && *text(pod, "/metadata/creationTimestamp") < *stamp(sim.now() - running)
}

/// `/config_dump?resource=dynamic_active_secrets` of a pod's Envoy; `None` without a certificate.
pub(in crate::sandbox) fn config_dump(sim: &Sim, pod: &Value) -> Option<Value> {
    let index = sim.kubelet().root(uid(pod))?;
    let root: Root = sim.mesh().roots.get(index).cloned()?;
    let account = text(pod, "/spec/serviceAccountName");
    let account = if account.is_empty() { "default" } else { account };
    let identity = format!("spiffe://cluster.local/ns/{}/sa/{account}", namespace(pod));
    let today = sim.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let until = if expired(sim, pod) { today.saturating_sub(jiff::Span::new().days(1)) } else { today.saturating_add(jiff::Span::new().days(1)) };
    let (own, _) = root.sign(SanType::URI(identity.try_into().ok()?), until).ok()?;
    let version = format!("{}-{}", name(pod), index);
    let kind = "type.googleapis.com/envoy.admin.v3.SecretsConfigDump.DynamicSecret";
    let secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let certificate = json!({
        "certificate_chain": {"inline_bytes": STANDARD.encode(format!("{own}{}", root.pem))},
        "private_key": {"inline_bytes": "W3JlZGFjdGVkXQ=="},
    });
    let at = sim.stamp();
    Some(json!({"configs": [
        {"@type": kind, "name": "default", "version_info": version, "last_updated": at, "secret": {"@type": secret, "name": "default", "tls_certificate": certificate}},
        {"@type": kind, "name": "ROOTCA", "version_info": version, "last_updated": at, "secret": {"@type": secret, "name": "ROOTCA", "validation_context": {"trusted_ca": {"inline_bytes": STANDARD.encode(&root.pem)}}}},
    ]}))
}

/// How istiod serves its proxies: with a certificate of the root that it signs with.
pub(in crate::sandbox) fn discovery(sim: &Sim, pod: &Value) -> Option<ServerConfig> {
    let root: Root = {
        let mesh = sim.mesh();
        mesh.loaded.get(uid(pod)).and_then(|index| mesh.roots.get(*index)).cloned()?
    };
    let until = sim.now().to_zoned(jiff::tz::TimeZone::UTC).date().saturating_add(jiff::Span::new().days(1));
    let (own, key) = root.sign(SanType::DnsName("istiod.istio-system.svc".try_into().ok()?), until).ok()?;
    let chain: Vec<CertificateDer<'static>> = [own, root.pem].iter().filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    builder.with_no_client_auth().with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()).ok()
}
