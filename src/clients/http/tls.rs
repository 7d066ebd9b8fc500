//! TLS for checks: the usual verifier, with its ears open. The chain is kept even when the verifier refuses it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;

use super::PeerCertificate;
use crate::base::mutex::lock;

/// Why a handshake failed, as far as the remedy differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsClass {
    Expired,
    NotYetValid,
    WrongName,
    UnknownIssuer,
    /// No common version, no TLS at all, an alert, a broken certificate.
    Other,
}

/// What the verifier calls a server that shows an authority's own certificate: mostly a self-signed one, as `openssl req -x509` makes it.
pub(super) const AUTHORITY_AS_SERVER: &str = "CaUsedAsEndEntity";

impl TlsClass {
    pub fn of(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(error) = error else { return TlsClass::Other };
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsClass::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsClass::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsClass::WrongName,
            // A bad signature: an issuer of that name is trusted, but it is another one (a private CA that was made again).
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsClass::UnknownIssuer,
            CertificateError::Other(error) if error.to_string().contains(AUTHORITY_AS_SERVER) => TlsClass::UnknownIssuer,
            _ => TlsClass::Other,
        }
    }
}

/// Whom the handshakes trust: read once for each file, whatever the number of hosts.
#[derive(Default)]
pub(super) struct Trust {
    verifiers: tokio::sync::Mutex<HashMap<Option<PathBuf>, Arc<WebPkiServerVerifier>>>,
}

impl Trust {
    /// The usual verifier with the system's certificates, and with those of a PEM file.
    pub(super) async fn verifier(&self, cacert: Option<&Path>) -> Result<Arc<WebPkiServerVerifier>, String> {
        let mut verifiers = self.verifiers.lock().await;
        let file = cacert.map(Path::to_owned);
        if let Some(known) = verifiers.get(&file) {
            return Ok(Arc::clone(known));
        }
        let mut roots = system_roots();
        if let Some(path) = cacert {
            add_file(&mut roots, path)?;
        }
        let none = |error| format!("there is no trusted certificate on this machine: {error}");
        let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(none)?;
        verifiers.insert(file, Arc::clone(&verifier));
        Ok(verifier)
    }
}

/// The system's certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` too).
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("`{}` cannot be read: {error}", path.display());
    let mut found = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
        found += 1;
    }
    if found == 0 { Err(unreadable(&"it holds no certificate")) } else { Ok(()) }
}

/// What the peer showed.
pub(super) type Shown = Arc<Mutex<Vec<CertificateDer<'static>>>>;

/// A client configuration that keeps what the peer shows. It resumes nothing: each check sees a whole handshake.
pub(super) fn config(verifier: Arc<WebPkiServerVerifier>) -> (ClientConfig, Shown) {
    let shown = Shown::default();
    let recording = Arc::new(Recording { verifier, shown: Arc::clone(&shown) });
    let mut config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(recording).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (config, shown)
}

/// The certificates (DER) that the peer of a stream shows. The handshake is refused as soon as they are seen, so nothing is trusted or sent.
pub(crate) async fn shown_chain<S>(stream: S, server_name: &str) -> Result<Vec<Vec<u8>>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let shown = Shown::default();
    let refusing = Arc::new(Refusing { shown: Arc::clone(&shown) });
    let config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(refusing).with_no_client_auth();
    let name = ServerName::try_from(server_name.to_owned()).map_err(|error| error.to_string())?;
    let ended = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let chain = std::mem::take(&mut *lock(&shown));
    match (chain.is_empty(), ended) {
        (false, _) => Ok(chain.iter().map(|der| der.to_vec()).collect()),
        (true, Err(error)) => Err(error.to_string()),
        (true, Ok(_)) => Err("it showed no certificate".to_owned()),
    }
}

/// Only listens, and lets nobody in.
#[derive(Debug)]
struct Refusing {
    shown: Shown,
}

impl ServerCertVerifier for Refusing {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.clone().into_owned());
        *lock(&self.shown) = chain.collect();
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls13_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Asks the usual verifier, and only listens.
#[derive(Debug)]
struct Recording {
    verifier: Arc<WebPkiServerVerifier>,
    shown: Shown,
}

impl ServerCertVerifier for Recording {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.clone().into_owned());
        *lock(&self.shown) = chain.collect();
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// The chain as reports show it. A certificate that cannot be parsed is left out.
pub(super) fn chain(shown: &Shown) -> Vec<PeerCertificate> {
    lock(shown).iter().filter_map(|der| describe(der)).collect()
}

fn describe(der: &[u8]) -> Option<PeerCertificate> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MIN);
    let names = certificate.subject_alternative_name().ok().flatten();
    let sans = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    Some(PeerCertificate {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: time(certificate.validity().not_before),
        not_after: time(certificate.validity().not_after),
        sans: sans.collect(),
        sha256: Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    use std::net::IpAddr;
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
}

/// The TLS error inside an I/O error, if it is one.
pub(super) fn inside(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
