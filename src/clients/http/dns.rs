//! Names to addresses, asked afresh each time: a load balancer's addresses change, and "no such name" soon after its birth passes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Semantic, NetError};
use hickory_resolver::proto::op::ResponseCode;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result as FaultResult};

const QUERY: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(8);

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DnsError {
    #[error("there is no name `{0}` (NXDOMAIN)")]
    NoSuchName(String),
    #[error("`{0}` has no address record")]
    NoAddress(String),
    #[error("the resolver refuses to answer for `{name}` ({answer})")]
    Refused { name: String, answer: String },
    #[error("no resolver answers for `{0}`")]
    Timeout(String),
    #[error("`{name}` cannot be looked up: {why}")]
    Other { name: String, why: String },
}

pub(super) struct Resolver {
    resolver: TokioResolver,
}

impl Resolver {
    /// `own`: `IP:PORT` of one resolver to ask instead of the system's.
    pub(super) fn new(own: Option<&str>) -> FaultResult<Self> {
        let mut builder = match own {
            Some(own) => {
                let wrong = || Fault::new(Code::FileInvalid, format!("MESHSTEP_DNS: `{own}` is not IP:PORT")).class(Class::Usage);
                let address: SocketAddr = own.parse().map_err(|_| wrong())?;
                TokioResolver::builder_with_config(only(address), TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio().unwrap_or_else(|_| {
                // No readable resolv.conf: libc too then asks the machine itself.
                let local = SocketAddr::from(([127, 0, 0, 1], 53));
                TokioResolver::builder_with_config(only(local), TokioRuntimeProvider::default())
            }),
        };
        options(builder.options_mut());
        let resolver = builder.build().map_err(|error| Fault::new(Code::DnsUnresolved, format!("the resolver cannot be set up: {error}")))?;
        Ok(Self { resolver })
    }

    pub(super) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(vec![address]);
        }
        // A trailing dot keeps the search domains of resolv.conf out: these are full names.
        let full = if name.contains('.') && !name.ends_with('.') { format!("{name}.") } else { name.to_owned() };
        let found = timeout(DEADLINE, self.resolver.lookup_ip(full)).await.map_err(|_| DnsError::Timeout(name.to_owned()))?;
        let addresses: Vec<IpAddr> = found.map_err(|error| classify(name, &error))?.iter().collect();
        if addresses.is_empty() { Err(DnsError::NoAddress(name.to_owned())) } else { Ok(addresses) }
    }
}

fn options(options: &mut ResolverOpts) {
    options.cache_size = 0;
    options.timeout = QUERY;
    options.attempts = 2;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
}

fn only(address: SocketAddr) -> ResolverConfig {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    };
    let server = NameServerConfig::new(address.ip(), true, vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)]);
    ResolverConfig::from_name_servers(vec![server])
}

fn classify(name: &str, error: &NetError) -> DnsError {
    let name = name.to_owned();
    match error {
        NetError::Dns(Semantic::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => DnsError::NoSuchName(name),
            ResponseCode::NoError => DnsError::NoAddress(name),
            code => DnsError::Refused { name, answer: code.to_string() },
        },
        NetError::Dns(Semantic::ResponseCode(code)) => DnsError::Refused { name, answer: code.to_string() },
        NetError::Timeout | NetError::NoConnections => DnsError::Timeout(name),
        error => DnsError::Other { name, why: error.to_string() },
    }
}
