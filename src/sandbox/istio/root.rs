//! The mesh's self-signed root, really generated: organisation `cluster.local`, no common name, ten years, as istiod makes it.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// A certificate authority of the mesh.
#[derive(Clone)]
pub(super) struct Root {
    pub pem: String,
    /// PEM of the private key; empty when it is not known here.
    pub key: String,
}

impl Root {
    /// # Errors
    /// When no key can be made.
    pub(super) fn generate(at: jiff::Timestamp) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "cluster.local");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let begin = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        params.not_before = rcgen::date_time_ymd(begin.year().into(), begin.month().unsigned_abs(), begin.day().unsigned_abs());
        params.not_after = rcgen::date_time_ymd(i32::from(begin.year()) + 10, begin.month().unsigned_abs(), begin.day().unsigned_abs().min(28));
        let certificate = params.self_signed(&key)?;
        Ok(Self { pem: certificate.pem(), key: key.serialize_pem() })
    }
}
