//! Roots by their public keys. A rotated self-signed root keeps its key, so certificates may differ where trust does not.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::pem::Pem;

/// SHA-256 of a certificate's SubjectPublicKeyInfo, hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyHash(pub String);

impl KeyHash {
    /// The beginning, for messages.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A root certificate, as far as a judgement needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    pub key: KeyHash,
    pub subject: String,
    /// When it was made: a pod that is older cannot have started with it.
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// The certificates of a PEM bundle, in its order.
///
/// # Errors
/// When the text holds no certificate, or one that is not readable.
pub fn bundle(pem: &str) -> Result<Vec<Root>, String> {
    let mut roots = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|e| format!("not PEM: {e}"))?;
        let certificate = block.parse_x509().map_err(|e| format!("no certificate: {e}"))?;
        let time = |t: &x509_parser::time::ASN1Time| Timestamp::from_second(t.timestamp()).unwrap_or_default();
        roots.push(Root {
            key: KeyHash(hex(&Sha256::digest(certificate.public_key().raw))),
            subject: certificate.subject().to_string(),
            not_before: time(&certificate.validity().not_before),
            not_after: time(&certificate.validity().not_after),
        });
    }
    if roots.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(roots) }
}

/// The keys of the roots in an Envoy's `config_dump` of secrets, raw (`validation_context`) or as istioctl prints it (`validationContext`).
/// `None`: it tells of no root.
pub fn of_config_dump(json: &str) -> Option<Vec<KeyHash>> {
    use base64::Engine;
    let dump: serde_json::Value = serde_json::from_str(json).ok()?;
    let mut bundles = Vec::new();
    collect(&dump, false, &mut bundles);
    let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text).ok().and_then(|b| String::from_utf8(b).ok());
    let keys: Vec<KeyHash> = bundles.iter().filter_map(decode).filter_map(|pem| bundle(&pem).ok()).flatten().map(|root| root.key).collect();
    (!keys.is_empty()).then_some(keys)
}

/// Every trusted bundle of a secret whose name says that it is the mesh's root.
fn collect(value: &serde_json::Value, within: bool, bundles: &mut Vec<String>) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, within, bundles)),
        serde_json::Value::Object(fields) => {
            let named = fields.get("name").and_then(|n| n.as_str()).is_some_and(|name| name == "ROOTCA");
            for key in ["trusted_ca", "trustedCa"] {
                let inline = fields.get(key).and_then(|ca| ca.get("inline_bytes").or_else(|| ca.get("inlineBytes"))?.as_str());
                bundles.extend(inline.filter(|_| within).map(str::to_owned));
            }
            fields.values().for_each(|field| collect(field, within || named, bundles));
        }
        _ => {}
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca(key: &rcgen::KeyPair) -> String {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "cluster.local");
        params.self_signed(key).expect("signed").pem()
    }

    #[test]
    fn the_roots_of_a_proxy_are_read_in_both_shapes() {
        use base64::Engine;
        let pem = ca(&rcgen::KeyPair::generate().expect("key"));
        let bytes = base64::engine::general_purpose::STANDARD.encode(&pem);
        let key = bundle(&pem).expect("a bundle")[0].key.clone();
        let raw = format!(
            r#"{{"configs":[{{"name":"default","secret":{{"tls_certificate":{{}}}}}},{{"name":"ROOTCA","secret":{{"validation_context":{{"trusted_ca":{{"inline_bytes":"{bytes}"}}}}}}}}]}}"#
        );
        let istioctl =
            raw.replace("validation_context", "validationContext").replace("trusted_ca", "trustedCa").replace("inline_bytes", "inlineBytes");
        assert_eq!(of_config_dump(&raw), Some(vec![key.clone()]));
        assert_eq!(of_config_dump(&istioctl), Some(vec![key]));
        assert_eq!(of_config_dump(&raw.replace("ROOTCA", "other")), None);
        assert_eq!(of_config_dump("{}"), None);
    }

    #[test]
    fn the_key_counts_and_not_the_certificate() {
        let (key, other) = (rcgen::KeyPair::generate().expect("key"), rcgen::KeyPair::generate().expect("key"));
        let (first, rotated, new) = (ca(&key), ca(&key), ca(&other));
        assert_ne!(first, rotated, "two certificates");
        let hash = |pem: &str| bundle(pem).expect("a bundle")[0].key.clone();
        assert_eq!(hash(&first), hash(&rotated));
        assert_ne!(hash(&first), hash(&new));
        assert_eq!(hash(&first).0.len(), 64);
        assert_eq!(bundle(&format!("{first}{new}")).expect("both").len(), 2);
        assert!(bundle("nothing").is_err() && bundle("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
