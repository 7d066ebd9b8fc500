//! A cluster's bearer token: the presigned STS address that EKS turns into an identity.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::secrets;

const PREFIX: &str = "k8s-aws-v1.";
const CLUSTER_HEADER: &str = "x-k8s-aws-id";
/// EKS accepts a token for 15 minutes; a minute is left for clocks and calls under way.
const LIFE: SignedDuration = SignedDuration::from_mins(14);
/// STS does not look at it, the verifier demands that it is there.
const EXPIRES: Duration = Duration::from_secs(60);
/// The verifier refuses anything longer.
const MAX_LENGTH: usize = 4096;

/// A bearer token for an API server. Its `Debug` does not show the secret.
#[derive(Clone, Debug)]
pub struct Token {
    pub secret: SecretString,
    /// When a client should have asked for a new one.
    pub expires: Timestamp,
}

/// The token of these credentials for a cluster at `now`.
pub(super) fn make(credentials: &Credentials, region: &str, cluster: &str, now: SystemTime) -> Result<Token> {
    let url = presign(credentials, region, cluster, now)?;
    let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(url));
    if secret.len() > MAX_LENGTH {
        let message = format!("the EKS token is {} bytes long, more than the {MAX_LENGTH} that EKS accepts", secret.len());
        return Err(Fault::new(Code::AwsCredentials, message)
            .next("use credentials with a shorter session token: fewer session tags and a shorter session policy"));
    }
    secrets::learn(&secret);
    let now = Timestamp::try_from(now).unwrap_or_else(|_| Timestamp::now());
    Ok(Token { secret: secret.into(), expires: now + LIFE })
}

fn presign(credentials: &Credentials, region: &str, cluster: &str, now: SystemTime) -> Result<String> {
    let defect = |error: &dyn std::fmt::Display| Fault::new(Code::Defect, format!("the EKS token cannot be signed: {error}"));
    let url = format!("https://{}/?Action=GetCallerIdentity&Version=2011-06-15", sts_host(region));
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES);
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder().identity(&identity).region(region).name("sts").time(now).settings(settings).build();
    let params = params.map_err(|error| defect(&error))?.into();
    let headers = [(CLUSTER_HEADER, cluster)].into_iter();
    let signable = SignableRequest::new("GET", &url, headers, SignableBody::Bytes(&[])).map_err(|error| defect(&error))?;
    let (instructions, _signature) = sign(signable, &params).map_err(|error| defect(&error))?.into_parts();
    let mut request = http::Request::get(&url).header(CLUSTER_HEADER, cluster).body(()).map_err(|error| defect(&error))?;
    instructions.apply_to_request_http1x(&mut request);
    Ok(request.uri().to_string())
}

/// The Region's STS host, in its partition. It is the real one whatever endpoint the SDK is given: EKS accepts no other.
fn sts_host(region: &str) -> String {
    format!("sts.{region}.{}", domain(region))
}

/// The domain of a Region's services, in its partition.
pub(super) fn domain(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "amazonaws.com.cn",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ if region.starts_with("us-isof-") => "csp.hci.ic.gov",
        _ if region.starts_with("eu-isoe-") => "cloud.adc-e.uk",
        _ if region.starts_with("eusc-") => "amazonaws.eu",
        _ => "amazonaws.com",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::ExposeSecret;
    use serde::Deserialize;

    use super::*;

    /// Made with botocore's own signer; `comment` in the file says how.
    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        cluster: String,
        region: String,
        access_key: String,
        secret_key: String,
        session_token: Option<String>,
        time: Timestamp,
        url: String,
    }

    fn parts(url: &str) -> (String, BTreeMap<String, String>) {
        let url = url::Url::parse(url).expect("a URL");
        let query = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        (format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path()), query)
    }

    #[test]
    fn tokens_equal_botocores() {
        let golden: Golden = serde_json::from_str(include_str!("../../../fixtures/eks/tokens.json")).expect("the fixture");
        assert!(golden.cases.len() >= 4);
        for case in golden.cases {
            let credentials = Credentials::new(case.access_key, case.secret_key, case.session_token, None, "test");
            let token = make(&credentials, &case.region, &case.cluster, case.time.into()).expect("a token");
            let encoded = token.secret.expose_secret().strip_prefix(PREFIX).expect("the prefix").to_owned();
            let url = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).expect("base64url")).expect("text");
            assert_eq!(parts(&url), parts(&case.url), "{} in {}", case.cluster, case.region);
            assert_eq!(token.expires, case.time + SignedDuration::from_mins(14));
            assert_eq!(secrets::redact(token.secret.expose_secret()), secrets::MASK);
        }
    }

    #[test]
    fn each_partition_has_its_own_sts() {
        for (region, host) in [
            ("ap-southeast-1", "sts.ap-southeast-1.amazonaws.com"),
            ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
            ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
        ] {
            assert_eq!(sts_host(region), host);
        }
    }

    #[test]
    fn a_token_that_eks_would_refuse_is_not_made() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret-of-example", Some("x".repeat(3500)), None, "test");
        let fault = make(&credentials, "ap-southeast-1", "c", SystemTime::UNIX_EPOCH).expect_err("too long");
        assert_eq!(fault.code, Code::AwsCredentials);
    }
}
