//! Who a bearer token is: the kubeconfig's own token, or an EKS token whose presigned STS URL is really verified.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::world::{TokenPolicy, World};

/// Whose token the kubeconfig has.
pub(super) const ADMIN: &str = "sandbox-admin";
const PREFIX: &str = "k8s-aws-v1.";
/// How old a presigned URL may be, and how far ahead.
const OLDEST: Duration = Duration::from_secs(15 * 60);
const AHEAD: Duration = Duration::from_secs(5 * 60);

/// A user as the API server knows one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
}

/// The user behind a token.
///
/// # Errors
/// Why it is refused, for the sandbox's own log; the caller answers 401.
pub(super) fn authenticate(world: &World, admin_token: &str, token: &str, now: SystemTime) -> Result<User, String> {
    if token == admin_token {
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        return Ok(User { name: ADMIN.to_owned(), uid: ADMIN.to_owned(), groups });
    }
    let url = signed_url(token)?;
    if world.access.token == TokenPolicy::Refuse {
        return Err("the world refuses every EKS token".to_owned());
    }
    verify(world, &url, now)?;
    let mut groups = world.access.groups.clone();
    groups.push("system:authenticated".to_owned());
    Ok(User { name: world.access.arn.clone(), uid: world.access.access_key.clone(), groups })
}

fn signed_url(token: &str) -> Result<url::Url, String> {
    let raw = token.strip_prefix(PREFIX).ok_or("no k8s-aws-v1. prefix")?;
    let bytes = URL_SAFE_NO_PAD.decode(raw).map_err(|error| format!("not unpadded base64url: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8")?;
    url::Url::parse(&text).map_err(|error| format!("not a URL: {error}"))
}

fn verify(world: &World, url: &url::Url, now: SystemTime) -> Result<(), String> {
    let region = &world.cluster.region;
    let host = url.host_str().unwrap_or_default();
    let aws = url.scheme() == "https" && (host == "sts.amazonaws.com" || host == format!("sts.{region}.amazonaws.com"));
    ensure(aws || host == "127.0.0.1" || host == "localhost", || format!("unexpected host {host}"))?;
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let get = |key: &str| query.get(key).map(String::as_str).ok_or(format!("missing {key}"));
    ensure(get("Action")? == "GetCallerIdentity", || "Action is not GetCallerIdentity".to_owned())?;
    let signed: Vec<&str> = get("X-Amz-SignedHeaders")?.split(';').collect();
    ensure(signed.contains(&"x-k8s-aws-id"), || "x-k8s-aws-id is not signed".to_owned())?;
    ensure(get("X-Amz-Expires")?.parse::<u32>().is_ok_and(|s| s <= 900), || "X-Amz-Expires is more than 900".to_owned())?;
    let credential: Vec<&str> = get("X-Amz-Credential")?.split('/').collect();
    let [key, date, scope_region, service, "aws4_request"] = credential[..] else { return Err("malformed X-Amz-Credential".to_owned()) };
    ensure(key == world.access.access_key, || format!("unknown access key {key}"))?;
    let stamp = get("X-Amz-Date")?;
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).map_err(|error| format!("X-Amz-Date: {error}"))?;
    let at: SystemTime = at.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| format!("X-Amz-Date: {error}"))?.timestamp().into();
    let fresh = now.duration_since(at).map_or_else(|early| early.duration() < AHEAD, |age| age < OLDEST);
    ensure(fresh && stamp.starts_with(date), || format!("X-Amz-Date {stamp} is expired or in the future"))?;
    let canonical = canonical_request(url, &query, &signed, &world.cluster.name);
    let hash = hex(&Sha256::digest(canonical.as_bytes()));
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{date}/{scope_region}/{service}/aws4_request\n{hash}");
    let signing_key = generate_signing_key(&world.access.secret_key, at, scope_region, service);
    let right = calculate_signature(signing_key, to_sign.as_bytes());
    ensure(right == get("X-Amz-Signature")?, || format!("wrong signature (secret, region, or a cluster name other than {})", world.cluster.name))
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn canonical_request(url: &url::Url, query: &BTreeMap<String, String>, signed: &[&str], cluster: &str) -> String {
    let mut pairs: Vec<String> =
        query.iter().filter(|(key, _)| *key != "X-Amz-Signature").map(|(key, value)| format!("{}={}", quoted(key), quoted(value))).collect();
    pairs.sort();
    let host =
        url.port().map_or_else(|| url.host_str().unwrap_or_default().to_owned(), |port| format!("{}:{port}", url.host_str().unwrap_or_default()));
    let headers: String = signed
        .iter()
        .map(|name| {
            let value = match *name {
                "host" => host.as_str(),
                "x-k8s-aws-id" => cluster,
                _ => "",
            };
            format!("{name}:{value}\n")
        })
        .collect();
    format!("GET\n{}\n{}\n{headers}\n{}\n{}", url.path(), pairs.join("&"), signed.join(";"), hex(&Sha256::digest(b"")))
}

/// Percent-encoding as SigV4 wants it.
fn quoted(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
    use aws_sigv4::sign::v4::SigningParams;

    use super::*;

    fn token(cluster: &str, secret: &str, host: &str, at: SystemTime) -> String {
        let world = World::default();
        let identity = Credentials::new(&world.access.access_key, secret, None, None, "test").into();
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(60));
        settings.excluded_headers = None;
        let params = SigningParams::builder()
            .identity(&identity)
            .region("ap-southeast-1")
            .name("sts")
            .time(at)
            .settings(settings)
            .build()
            .expect("complete")
            .into();
        let address = format!("https://{host}/?Action=GetCallerIdentity&Version=2011-06-15");
        let request = SignableRequest::new("GET", &address, [("x-k8s-aws-id", cluster)].into_iter(), SignableBody::Bytes(&[])).expect("signable");
        let (instructions, _) = sign(request, &params).expect("signs").into_parts();
        let mut request = http::Request::builder().uri(&address).body(()).expect("a request");
        instructions.apply_to_request_http1x(&mut request);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(request.uri().to_string()))
    }

    #[test]
    fn only_a_token_signed_for_this_cluster_comes_in() {
        let world = World::default();
        let now = SystemTime::now();
        let secret = world.access.secret_key.clone();
        let sts = "sts.ap-southeast-1.amazonaws.com";
        let check = |token: &str, now| authenticate(&world, "admin", token, now).map(|user| user.name);
        assert_eq!(check(&token("shop-eks", &secret, sts, now), now), Ok(world.access.arn.clone()));
        assert_eq!(check(&token("shop-eks", &secret, "127.0.0.1:4566", now), now), Ok(world.access.arn.clone()));
        assert_eq!(check("admin", now), Ok("sandbox-admin".to_owned()));
        for (bad, token) in [
            ("another cluster", token("other", &secret, sts, now)),
            ("another secret", token("shop-eks", "wrong", sts, now)),
            ("a foreign host", token("shop-eks", &secret, "evil.example", now)),
            ("an old one", token("shop-eks", &secret, sts, now - Duration::from_secs(1000))),
            ("no prefix", "abc".to_owned()),
            ("empty", String::new()),
        ] {
            assert!(check(&token, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_world_may_refuse_every_eks_token() {
        let mut world = World::default();
        world.access.token = TokenPolicy::Refuse;
        let now = SystemTime::now();
        let token = token("shop-eks", &world.access.secret_key, "sts.amazonaws.com", now);
        assert!(authenticate(&world, "admin", &token, now).is_err());
    }
}
