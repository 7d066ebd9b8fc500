//! Roots and leaves as proxies hold them: made here, and recorded from real ones.

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use super::*;

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn key() -> KeyPair {
    KeyPair::generate().expect("key")
}

fn params(name: &str, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, name);
    params.is_ca = if ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca(key: KeyPair) -> Ca {
    let params = params("cluster.local", true);
    Ca { pem: params.self_signed(&key).expect("signed").pem(), issuer: Issuer::new(params, key) }
}

fn intermediate(above: &Ca) -> Ca {
    let (params, key) = (params("intermediate", true), key());
    Ca { pem: params.signed_by(&key, &above.issuer).expect("signed").pem(), issuer: Issuer::new(params, key) }
}

fn workload(above: &Ca) -> String {
    let mut params = params("", false);
    params.subject_alt_names = vec![SanType::URI("spiffe://cluster.local/ns/prod/sa/app1".try_into().expect("a name"))];
    params.signed_by(&key(), &above.issuer).expect("signed").pem()
}

fn one(pem: &str) -> Root {
    bundle(pem).expect("a bundle").remove(0)
}

fn dump(roots: &str, chain: &str) -> String {
    let bytes = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    serde_json::json!({"configs": [
        {"name": "default", "secret": {"name": "default", "tls_certificate": {"certificate_chain": {"inline_bytes": bytes(chain)}, "private_key": {"inline_bytes": "W3JlZGFjdGVkXQ=="}}}},
        {"name": "ROOTCA", "secret": {"name": "ROOTCA", "validation_context": {"trusted_ca": {"inline_bytes": bytes(roots)}}}},
    ]})
    .to_string()
}

#[test]
fn what_a_proxy_holds_is_read_in_both_shapes() {
    let root = ca(key());
    let raw = dump(&root.pem, &format!("{}{}", workload(&root), root.pem));
    let istioctl = raw
        .replace("\"configs\"", "\"dynamicActiveSecrets\"")
        .replace("validation_context", "validationContext")
        .replace("trusted_ca", "trustedCa")
        .replace("tls_certificate", "tlsCertificate")
        .replace("certificate_chain", "certificateChain")
        .replace("inline_bytes", "inlineBytes");
    for json in [&raw, &istioctl] {
        let held = of_config_dump(json).expect("secrets");
        let leaf = held.leaf.expect("a leaf");
        assert_eq!(held.roots, [one(&root.pem).key]);
        assert_eq!((leaf.is_of(&one(&root.pem)), leaf.identity.as_deref()), (Some(true), Some("spiffe://cluster.local/ns/prod/sa/app1")));
    }
    assert_eq!(of_config_dump(&raw.replace("ROOTCA", "other")), None);
    assert_eq!(of_config_dump("{}"), None);
    assert_eq!(of_config_dump("not JSON"), None);
    let warming = format!(r#"{{"configs": [{{"dynamic_warming_secrets": {raw}}}]}}"#);
    assert_eq!(of_config_dump(&warming), None, "what is still warming is not in use");
}

#[test]
fn what_a_real_sidecar_tells_is_read() {
    let held = of_config_dump(include_str!("../../../../fixtures/certificates/config-dump-sidecar.json")).expect("secrets");
    let leaf = held.leaf.expect("a leaf");
    assert_eq!(leaf.issuer_key.as_ref(), held.roots.first());
    assert_eq!(leaf.identity.as_deref(), Some("spiffe://cluster.local/ns/prod/sa/app1-service"));
    assert_eq!(leaf.not_after.as_second() - leaf.not_before.as_second(), 86_520, "a day, and two minutes for clocks that are late");
}

#[test]
fn a_bundle_of_several_trust_domains_is_read() {
    let (first, second) = (ca(key()), ca(key()));
    let bytes = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let spiffe = serde_json::json!({"dynamic_active_secrets": [{"name": "ROOTCA", "secret": {"validation_context": {"custom_validator_config": {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {"trust_domains": [{"name": "a", "trust_bundle": {"inline_bytes": bytes(&first.pem)}}, {"name": "b", "trust_bundle": {"inline_bytes": bytes(&second.pem)}}]},
    }}}}]});
    let held = of_config_dump(&spiffe.to_string()).expect("secrets");
    assert_eq!(held.roots, [one(&first.pem).key, one(&second.pem).key]);
}

#[test]
fn a_leaf_names_its_root_with_or_without_it_in_the_chain() {
    let (root, other) = (ca(key()), ca(key()));
    let between = intermediate(&root);
    let of = |pems: &[&str]| leaf(&pems.concat()).expect("a leaf");
    let (own, far) = (workload(&root), workload(&between));
    for (chain, name) in [
        (of(&[&own, &root.pem]), "with its root"),
        (of(&[&own]), "alone, by its authority's key identifier"),
        (of(&[&far, &between.pem, &root.pem]), "through an intermediate"),
        (of(&[&far, &between.pem]), "through an intermediate, without the root"),
    ] {
        assert_eq!(chain.is_of(&one(&root.pem)), Some(true), "{name}");
        assert_eq!(chain.is_of(&one(&other.pem)), Some(false), "{name}");
    }
    assert!(leaf("nothing").is_err());
}

#[test]
fn the_key_counts_and_not_the_certificate() {
    let first = key();
    let again = KeyPair::from_pem(&first.serialize_pem()).expect("the same key");
    let (first, rotated, new) = (ca(first).pem, ca(again).pem, ca(key()).pem);
    assert_ne!(first, rotated, "two certificates");
    assert_eq!(one(&first).key, one(&rotated).key);
    assert_ne!(one(&first).key, one(&new).key);
    assert_eq!(one(&first).key.0.len(), 64);
    assert_eq!(bundle(&format!("{first}{new}")).expect("both").len(), 2);
    assert!(bundle("nothing").is_err() && bundle("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
}
