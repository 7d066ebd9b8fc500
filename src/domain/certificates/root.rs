//! Roots by their public keys. A rotated self-signed root keeps its key, so certificates may differ where trust does not.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

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
    /// Its subject key identifier, by which what it signs names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
}

/// A certificate that a peer shows, with where its chain ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// Name of the issuer.
    pub issuer: String,
    /// Key of the root in its chain, if the chain has it.
    pub issuer_key: Option<KeyHash>,
    /// The authority key identifier of the chain's last certificate that is no root.
    pub authority: Option<String>,
    /// `spiffe://cluster.local/ns/prod/sa/app1`
    pub identity: Option<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Leaf {
    /// Did this root sign it, directly or through its intermediates? `None`: the chain does not tell.
    pub fn is_of(&self, root: &Root) -> Option<bool> {
        match (&self.issuer_key, &self.authority, &root.key_id) {
            (Some(key), _, _) => Some(*key == root.key),
            (None, Some(authority), Some(id)) => Some(authority == id),
            _ => None,
        }
    }
}

/// What a proxy holds: the roots that it trusts, and its own certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub roots: Vec<KeyHash>,
    pub leaf: Option<Leaf>,
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
        roots.push(Root {
            key: KeyHash(hex(&Sha256::digest(certificate.public_key().raw))),
            subject: certificate.subject().to_string(),
            not_before: time(&certificate.validity().not_before),
            not_after: time(&certificate.validity().not_after),
            key_id: subject_key(&certificate),
        });
    }
    if roots.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(roots) }
}

/// The first certificate of a PEM chain, judged by those behind it.
///
/// # Errors
/// When the text holds no certificate, or one that is not readable.
pub fn leaf(pem: &str) -> Result<Leaf, String> {
    let blocks: Vec<Pem> = Pem::iter_from_buffer(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| format!("not PEM: {e}"))?;
    chain(&blocks.iter().map(|block| block.contents.as_slice()).collect::<Vec<_>>())
}

/// The same, from certificates as they come over the wire.
///
/// # Errors
/// When there is none, or one that is not readable.
pub fn chain(certificates: &[&[u8]]) -> Result<Leaf, String> {
    let parsed: Vec<X509Certificate> = certificates
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate).map_err(|e| format!("no certificate: {e}")))
        .collect::<Result<_, _>>()?;
    let first = parsed.first().ok_or("it holds no certificate")?;
    let issues = |above: &X509Certificate, below: &X509Certificate| {
        above.subject() == below.issuer()
            && match (subject_key(above), authority(below)) {
                (Some(id), Some(named)) => id == named,
                _ => true,
            }
    };
    // A chain may hold only so many links as it has certificates.
    let (mut top, mut root) = (first, None);
    for _ in &parsed {
        let Some(above) = parsed.iter().find(|c| issues(c, top) && !std::ptr::eq(*c, top)) else { break };
        if above.subject() == above.issuer() {
            root = Some(KeyHash(hex(&Sha256::digest(above.public_key().raw))));
            break;
        }
        top = above;
    }
    Ok(Leaf {
        issuer: first.issuer().to_string(),
        issuer_key: root,
        authority: authority(top),
        identity: identity(first),
        not_before: time(&first.validity().not_before),
        not_after: time(&first.validity().not_after),
    })
}

fn time(at: &x509_parser::time::ASN1Time) -> Timestamp {
    Timestamp::from_second(at.timestamp()).unwrap_or_default()
}

fn subject_key(certificate: &X509Certificate) -> Option<String> {
    certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(hex(id.0)),
        _ => None,
    })
}

fn authority(certificate: &X509Certificate) -> Option<String> {
    certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| hex(id.0)),
        _ => None,
    })
}

fn identity(certificate: &X509Certificate) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    })
}

/// What an Envoy's `config_dump` says of its secrets, raw (`validation_context`) or as istioctl prints it (`validationContext`), the whole
/// dump or its secrets alone. `None`: it tells of no root.
pub fn of_config_dump(json: &str) -> Option<Held> {
    let dump: Value = serde_json::from_str(json).ok()?;
    let (mut trusted, mut own) = (Vec::new(), Vec::new());
    secrets(&dump, &mut |name, secret| match name {
        "ROOTCA" => inline(secret, &["trusted_ca", "trustedCa", "trust_bundle", "trustBundle"], false, &mut trusted),
        "default" => inline(secret, &["certificate_chain", "certificateChain"], false, &mut own),
        _ => {}
    });
    let roots: Vec<KeyHash> = trusted.iter().filter_map(|pem| bundle(pem).ok()).flatten().map(|root| root.key).collect();
    (!roots.is_empty()).then(|| Held { roots, leaf: own.iter().find_map(|pem| leaf(pem).ok()) })
}

/// Every active secret with its name. One that is still warming is not in use.
fn secrets(value: &Value, found: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| secrets(item, found)),
        Value::Object(fields) => match (fields.get("name").and_then(Value::as_str), fields.get("secret")) {
            (Some(name), Some(secret)) => found(name, secret),
            _ => fields.iter().filter(|(key, _)| !key.to_ascii_lowercase().contains("warming")).for_each(|(_, field)| secrets(field, found)),
        },
        _ => {}
    }
}

/// The PEM texts below any of these keys: the mesh's own validator has one, a bundle of several trust domains has more.
fn inline(value: &Value, keys: &[&str], within: bool, into: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| inline(item, keys, within, into)),
        Value::Object(fields) => {
            for (key, field) in fields {
                match (key.as_str(), field) {
                    ("inline_bytes" | "inlineBytes", Value::String(text)) if within => into.extend(decoded(text)),
                    ("inline_string" | "inlineString", Value::String(text)) if within => into.push(text.clone()),
                    _ => inline(field, keys, within || keys.contains(&key.as_str()), into),
                }
            }
        }
        _ => {}
    }
}

fn decoded(text: &str) -> Option<String> {
    use base64::Engine;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).ok()?).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
