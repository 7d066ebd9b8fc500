//! Certificates of the simulated world: a CA of its own and what it signs, all EC P-256.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{self, ALL_VERSIONS, ServerConfig, SupportedProtocolVersion};

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

/// When a certificate is valid: from yesterday for two years where nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Term {
    /// For how many days still; after a negative number it has ended.
    pub days: Option<i64>,
    /// In how many days it begins.
    pub starts_in: Option<u32>,
}

/// A server's certificate with its chain, and its key.
pub struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

fn set(term: Term, params: &mut CertificateParams) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let now = jiff::Zoned::now().date();
    let before = now.yesterday().unwrap_or(now);
    params.not_before = rcgen::date_time_ymd(before.year().into(), before.month().unsigned_abs(), before.day().unsigned_abs());
    params.not_after = rcgen::date_time_ymd(i32::from(now.year()) + 2, now.month().unsigned_abs(), 1);
    let today = rcgen::date_time_ymd(now.year().into(), now.month().unsigned_abs(), now.day().unsigned_abs());
    if let Some(days) = term.days {
        let far = DAY * u32::try_from(days.unsigned_abs()).unwrap_or(1000);
        let tomorrow = today + DAY;
        params.not_after = if days < 0 { tomorrow - far } else { tomorrow + far };
        params.not_before = params.not_after.min(params.not_before) - DAY * 90;
    }
    if let Some(days) = term.starts_in {
        params.not_before = today + DAY * days;
    }
}

impl Authority {
    /// A new self-signed authority with this common name.
    ///
    /// # Errors
    /// Key generation or signing failed.
    pub fn new(common_name: &str) -> Result<Authority, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        set(Term::default(), &mut params);
        let certificate = params.self_signed(&key)?;
        Ok(Authority { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) })
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's TLS configuration with a fresh certificate for these names and addresses.
    ///
    /// # Errors
    /// A name that is neither a DNS name nor an address, or signing failed.
    pub fn server(&self, names: &[&str], alpn: &[&str]) -> Result<ServerConfig, String> {
        self.leaf(names, Term::default())?.speaking(ALL_VERSIONS, alpn)
    }

    /// A server's certificate for these names and addresses.
    ///
    /// # Errors
    /// As `server`.
    pub fn leaf(&self, names: &[&str], term: Term) -> Result<Leaf, String> {
        let key = KeyPair::generate().map_err(|e| e.to_string())?;
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).map_err(|e| e.to_string())?;
        if let Some(first) = names.first() {
            params.distinguished_name.push(DnType::CommonName, *first);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        set(term, &mut params);
        let certificate = params.signed_by(&key, &self.issuer).map_err(|e| e.to_string())?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Ok(Leaf { chain: vec![certificate.der().clone(), self.der.clone()], key })
    }
}

impl Leaf {
    /// The TLS configuration of a server that shows it and speaks these versions.
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn speaking(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> Result<ServerConfig, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|e| e.to_string())?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|e| e.to_string())?;
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Ok(config)
    }
}
