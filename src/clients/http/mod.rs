//! HTTP for checks: a given address with the host's own SNI and Host, phases timed, the peer's chain recorded, verification never weakened.

mod connect_to;
mod dns;
mod error;
mod kept;
mod send;
#[cfg(test)]
mod tests;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::dns::DnsError;
pub use self::error::{NetError, Phase};
pub(crate) use self::send::exchange_plain;
pub use self::tls::TlsClass;
pub(crate) use self::tls::shown_chain;
use crate::clients::settings::Settings;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// One request of a check. The answer is never followed when it is a redirect.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub scheme: Scheme,
    /// SNI and Host.
    pub host: String,
    pub port: u16,
    /// With its query.
    pub path: String,
    /// Connect to this address instead of the host's own.
    pub connect: Option<SocketAddr>,
    /// Connect to the addresses of this name (the load balancer's) on `port` instead of the host's own; looked up at each send.
    pub via: Option<String>,
    pub headers: Vec<(String, String)>,
    /// For everything together.
    pub timeout: Duration,
    /// How many bytes of the body are kept; the rest is not read.
    pub body_cap: usize,
    /// A file of certificates (PEM) that are trusted beside the system's.
    pub cacert: Option<PathBuf>,
    /// Plain HTTP may go over a connection that another such request left open, and leaves its own to the next one.
    pub keep: bool,
}

impl Request {
    /// `GET scheme://host:port path`, 10 s, the first 64 KiB of the body, over a connection of its own.
    pub fn get(scheme: Scheme, host: &str, path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            scheme,
            host: host.to_owned(),
            port: scheme.default_port(),
            path: path.to_owned(),
            connect: None,
            via: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            body_cap: 64 * 1024,
            cacert: None,
            keep: false,
        }
    }
}

/// How long each phase took. `dns` and `tls` are zero when there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    pub dns: Duration,
    pub connect: Duration,
    pub tls: Duration,
    /// From the request's sending to the first byte of the answer.
    pub first_byte: Duration,
    /// Everything, with the body.
    pub total: Duration,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// `HTTP/1.1`, `HTTP/2.0`
    pub version: String,
    /// In the order received, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body was longer than `body_cap`.
    pub truncated: bool,
    pub timings: Timings,
    pub peer: Option<SocketAddr>,
    pub tls: Option<Tls>,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What the peer showed in the handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// `TLSv1.3`
    pub version: String,
    pub alpn: String,
    /// The leaf first.
    pub chain: Vec<PeerCertificate>,
}

/// A certificate as it was shown, verified or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCertificate {
    pub subject: String,
    pub issuer: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// DNS names and addresses it is for.
    pub sans: Vec<String>,
    /// SHA-256 of the certificate, hex.
    pub sha256: String,
}

/// The HTTP client of the checks. Cheap to clone. It uses no proxy: a check must reach the load balancer itself.
#[derive(Clone)]
pub struct Http {
    inner: Arc<Inner>,
}

struct Inner {
    resolver: dns::Resolver,
    connect_to: connect_to::ConnectTo,
    trust: tls::Trust,
    kept: kept::Kept,
}

impl Http {
    /// A client that resolves by `MESHSTEP_DNS` (`IP:PORT`) or the system's resolvers, and honours `MESHSTEP_CONNECT_TO`.
    ///
    /// # Errors
    /// When one of the two variables cannot be read.
    pub fn new(settings: &Settings) -> crate::base::fault::Result<Self> {
        crate::clients::install_crypto_provider();
        let resolver = dns::Resolver::new(settings.get("MESHSTEP_DNS"))?;
        let connect_to = connect_to::ConnectTo::parse(settings.get("MESHSTEP_CONNECT_TO").unwrap_or_default())?;
        Ok(Self { inner: Arc::new(Inner { resolver, connect_to, trust: tls::Trust::default(), kept: kept::Kept::default() }) })
    }

    /// All addresses of a name, asked afresh each time.
    ///
    /// # Errors
    /// NXDOMAIN, no address, a refusal and a time-out are told apart.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        self.inner.resolver.resolve(name).await
    }
}
