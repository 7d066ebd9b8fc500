//! AWS: what is asked of EKS, STS, ELBv2 and the tagging API, with deadlines, the SDK's own retries, and faults in plain words.

mod eks;
mod elb;
mod fault;
mod signed;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpClient};

pub use self::eks::{ClusterInfo, Health};
pub use self::elb::{Listener, LoadBalancer, Target, TargetGroup, Zone};
pub use self::signed::{Certificate, Subnet};
pub use self::token::Token;
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::secrets;
use crate::clients::settings::Settings;

const CONNECT: Duration = Duration::from_secs(5);
const ATTEMPT: Duration = Duration::from_secs(12);
const OPERATION: Duration = Duration::from_secs(40);

/// Whose AWS, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// `None`: AWS_REGION, or the profile's Region.
    pub region: Option<String>,
    pub profile: Option<String>,
    /// A role to assume first.
    pub role_arn: Option<String>,
}

/// AWS as one identity in one Region. Cheap to clone.
#[derive(Clone)]
pub struct Aws {
    inner: Arc<Inner>,
}

struct Inner {
    config: SdkConfig,
    region: String,
    eks: aws_sdk_eks::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    sts: aws_sdk_sts::Client,
    tagging: aws_sdk_resourcegroupstagging::Client,
    /// For the calls that are signed here, with their services' addresses.
    connector: Connector,
    acm: String,
    ec2: String,
}

impl Aws {
    /// Prepares the clients; credentials are asked for at the first call.
    ///
    /// # Errors
    /// When no Region is known, or `AWS_CA_BUNDLE` cannot be read.
    pub async fn connect(account: &Account, settings: &Settings) -> Result<Self> {
        crate::clients::install_crypto_provider();
        let ways = Ways::of(settings)?;
        let config = Box::pin(load(account, settings, &ways)).await?;
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err(Fault::new(Code::AwsFailed, "no AWS Region is known").next("name it in the file (`cluster.region`) or with AWS_REGION"));
        };
        macro_rules! client {
            ($sdk:ident, $service:literal) => {{
                let mut builder = $sdk::config::Builder::from(&config);
                builder.set_endpoint_url(endpoint(settings, $service).or_else(|| config.endpoint_url().map(str::to_owned)));
                $sdk::Client::from_conf(builder.build())
            }};
        }
        // The SDK reads the environment by itself, these calls do not.
        let address = |service: &str| {
            let named = settings.get(&format!("AWS_ENDPOINT_URL_{}", service.to_uppercase())).or_else(|| settings.get("AWS_ENDPOINT_URL"));
            named.or_else(|| config.endpoint_url()).map_or_else(|| signed::endpoint(service, &region), str::to_owned)
        };
        Ok(Self {
            inner: Arc::new(Inner {
                acm: address("acm"),
                ec2: address("ec2"),
                connector: ways.connector(&config),
                region,
                eks: client!(aws_sdk_eks, "EKS"),
                elb: client!(aws_sdk_elasticloadbalancingv2, "ELASTIC_LOAD_BALANCING_V2"),
                sts: client!(aws_sdk_sts, "STS"),
                tagging: client!(aws_sdk_resourcegroupstagging, "RESOURCE_GROUPS_TAGGING_API"),
                config,
            }),
        })
    }

    pub fn region(&self) -> &str {
        &self.inner.region
    }

    /// The ARN that the credentials belong to.
    pub async fn caller_arn(&self) -> Result<String> {
        let answer = Box::pin(self.inner.sts.get_caller_identity().send()).await;
        let answer = answer.map_err(|error| self.fault(&error, "sts:GetCallerIdentity"))?;
        Ok(answer.arn().unwrap_or_default().to_owned())
    }

    /// A bearer token for an EKS cluster, signed here: no call is made unless the credentials need one.
    pub async fn eks_token(&self, cluster: &str) -> Result<Token> {
        let credentials = self.credentials().await?;
        token::make(&credentials, &self.inner.region, cluster, std::time::SystemTime::now())
    }

    async fn credentials(&self) -> Result<Credentials> {
        use aws_credential_types::provider::ProvideCredentials;
        let provider = self.inner.config.credentials_provider().ok_or_else(fault::no_credentials)?;
        let found = tokio::time::timeout(OPERATION, Box::pin(provider.provide_credentials())).await;
        let credentials = found.map_err(|_| fault::no_credentials())?.map_err(|error| fault::of_credentials(&error))?;
        secrets::learn(credentials.secret_access_key());
        secrets::learn(credentials.session_token().unwrap_or_default());
        Ok(credentials)
    }
}

/// The endpoint that the overlay sets for a service. What the process's own environment and profile say, the SDK reads by itself.
fn endpoint(settings: &Settings, service: &str) -> Option<String> {
    let own = settings.overlaid(&format!("AWS_ENDPOINT_URL_{service}"));
    own.or_else(|| settings.overlaid("AWS_ENDPOINT_URL")).map(str::to_owned)
}

async fn load(account: &Account, settings: &Settings, ways: &Ways) -> Result<SdkConfig> {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).operation_timeout(OPERATION).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(ways.client())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(5));
    if let Some(url) = settings.overlaid("AWS_ENDPOINT_URL") {
        loader = loader.endpoint_url(url);
    }
    let region = account.region.as_deref().or_else(|| settings.get("AWS_REGION")).or_else(|| settings.get("AWS_DEFAULT_REGION"));
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    // An overlay is the sandbox's: its identity stands in for whatever the file names.
    let overlaid = overlaid_credentials(settings);
    let sandboxed = overlaid.is_some();
    if let Some(credentials) = overlaid {
        loader = loader.credentials_provider(credentials);
    } else if let Some(profile) = &account.profile {
        loader = loader
            .profile_name(profile)
            .credentials_provider(aws_config::profile::ProfileFileCredentialsProvider::builder().profile_name(profile).build());
    }
    let config = loader.load().await;
    let Some(role) = account.role_arn.as_ref().filter(|_| !sandboxed) else { return Ok(config) };
    let mut assumed = AssumeRoleProvider::builder(role).session_name("meshstep").configure(&config);
    if let Some(region) = config.region() {
        assumed = assumed.region(region.clone());
    }
    let assumed = match config.credentials_provider() {
        Some(base) => assumed.build_from_provider(base).await,
        None => assumed.build().await,
    };
    Ok(config.into_builder().credentials_provider(SharedCredentialsProvider::new(assumed)).build())
}

fn overlaid_credentials(settings: &Settings) -> Option<Credentials> {
    let (key, secret) = (settings.overlaid("AWS_ACCESS_KEY_ID")?, settings.overlaid("AWS_SECRET_ACCESS_KEY")?);
    let session = settings.overlaid("AWS_SESSION_TOKEN").map(str::to_owned);
    Some(Credentials::new(key, secret, session, None, "overlay"))
}

/// The way to AWS: the SDK's usual HTTPS client with `AWS_CA_BUNDLE`, which the SDK does not read, and no proxy to an overlay's endpoint.
#[derive(Clone)]
struct Ways {
    tls: TlsContext,
    proxy: ProxyConfig,
}

impl Ways {
    fn of(settings: &Settings) -> Result<Self> {
        // Reading the system's certificates takes a while, and a plain endpoint needs none.
        let plain = settings.overlaid("AWS_ENDPOINT_URL").is_some_and(|url| url.starts_with("http://"));
        let mut trust = TrustStore::empty().with_native_roots(!plain);
        if let Some(path) = settings.get("AWS_CA_BUNDLE") {
            let unreadable = |error: &dyn std::fmt::Display| Fault::new(Code::FileUnreadable, format!("AWS_CA_BUNDLE `{path}`: {error}"));
            let pem = std::fs::read(path).map_err(|error| unreadable(&error))?;
            trust = trust.with_pem_certificate(pem);
        }
        let tls = TlsContext::builder().with_trust_store(trust).build();
        let tls = tls.map_err(|error| Fault::new(Code::AwsFailed, format!("the trusted certificates cannot be used: {error}")))?;
        let proxy = if settings.overlaid("AWS_ENDPOINT_URL").is_some() { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
        Ok(Self { tls, proxy })
    }

    fn client(&self) -> SharedHttpClient {
        let ways = self.clone();
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut builder = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(ways.tls.clone());
            builder.set_connector_settings(settings.cloned());
            if let Some(components) = components {
                builder.set_sleep_impl(components.sleep_impl());
            }
            builder.set_proxy_config(Some(ways.proxy.clone()));
            builder.build()
        })
    }

    /// A connector beside the SDK's clients. It knows no time limit but the connection's: who calls it has a deadline.
    fn connector(&self, config: &SdkConfig) -> Connector {
        let mut builder = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(self.tls.clone());
        builder.set_connector_settings(Some(HttpConnectorSettings::builder().connect_timeout(CONNECT).build()));
        builder.set_sleep_impl(config.sleep_impl());
        builder.set_proxy_config(Some(self.proxy.clone()));
        builder.build()
    }
}
