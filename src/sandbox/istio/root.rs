//! The mesh's self-signed root, really generated: organisation `cluster.local`, no common name, ten years, as istiod makes it.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

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

    /// A certificate for this identity, valid until a day: its PEM and its key's.
    ///
    /// # Errors
    /// When the root's own key is not known, or no key can be made.
    pub(super) fn sign(&self, name: SanType, until: jiff::civil::Date) -> Result<(String, KeyPair), rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(&self.pem, KeyPair::from_pem(&self.key)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![name];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let day = |date: jiff::civil::Date| rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs());
        params.not_before = day(until.saturating_sub(jiff::Span::new().days(2)));
        params.not_after = day(until);
        Ok((params.signed_by(&key, &issuer)?.pem(), key))
    }
}
