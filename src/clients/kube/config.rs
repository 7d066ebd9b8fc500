//! From an EKS cluster's address or a kubeconfig context to a client configuration, and the private kubeconfig that child tools get.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Config;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};

use super::token::TokenSource;
use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};
use crate::base::place::Place;
use crate::base::{secrets, text};
use crate::clients::settings::Settings;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How the API server is reached.
pub enum Access {
    Eks(EksAccess),
    /// A context of the user's kubeconfig (KUBECONFIG or `~/.kube/config`) as it is; `None`: its current one.
    Context {
        context: Option<String>,
        /// The private copy for child tools is written here, mode 0600.
        private: PathBuf,
    },
}

/// An EKS cluster by what DescribeCluster says of it.
pub struct EksAccess {
    /// `https://….eks.amazonaws.com`
    pub endpoint: String,
    /// The cluster's own CA: PEM in base64, as DescribeCluster gives it.
    pub ca_data: String,
    pub token: TokenSource,
    /// A kubeconfig for child tools that exists already.
    pub kubeconfig: PathBuf,
}

pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) token: Option<TokenSource>,
    pub(super) kubeconfig: PathBuf,
}

pub(super) async fn prepare(access: Access, settings: &Settings) -> Result<Prepared> {
    match access {
        Access::Eks(eks) => {
            let url = eks.endpoint.parse().map_err(|error| api_failed(format!("the cluster's endpoint `{}` is no URL: {error}", eks.endpoint)))?;
            let mut config = Config::new(url);
            config.root_cert = Some(certificates(&eks.ca_data)?);
            set_ways(&mut config, settings, None)?;
            Ok(Prepared { config, token: Some(eks.token), kubeconfig: eks.kubeconfig })
        }
        Access::Context { context, private } => {
            let whole = read(settings)?;
            let minified = minify(whole, context.as_deref())?;
            let yaml =
                serde_saphyr::to_string(&minified).map_err(|error| Fault::new(Code::Defect, format!("a kubeconfig cannot be written: {error}")))?;
            write_private(&private, &yaml)?;
            for user in minified.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
                learn_secrets(user);
            }
            let proxy = minified.clusters.first().and_then(|named| named.cluster.as_ref()).and_then(|cluster| cluster.proxy_url.clone());
            let mut config = Config::from_custom_kubeconfig(minified, &KubeConfigOptions::default()).await.map_err(|error| unusable(&error))?;
            set_ways(&mut config, settings, proxy)?;
            Ok(Prepared { config, token: None, kubeconfig: private })
        }
    }
}

/// Proxy and time limits. Retries are our own: kube's would repeat a POST too.
fn set_ways(config: &mut Config, settings: &Settings, proxy: Option<String>) -> Result<()> {
    let host = config.cluster_url.host().unwrap_or_default();
    let proxy = proxy.filter(|proxy| !proxy.is_empty()).or_else(|| settings.https_proxy(host).map(str::to_owned));
    config.proxy_url = match proxy {
        // As curl and Go read it: without a scheme it is an http proxy.
        Some(proxy) => {
            let proxy = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
            Some(proxy.parse().map_err(|error| api_failed(format!("the proxy's address is no URL: {error}")))?)
        }
        None => None,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = None;
    config.default_retry = false;
    Ok(())
}

fn certificates(data: &str) -> Result<Vec<Vec<u8>>> {
    use base64::Engine;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let pem = base64::engine::general_purpose::STANDARD.decode(data.trim());
    let pem = pem.map_err(|error| api_failed(format!("the cluster's certificate authority is not base64: {error}")))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).map(|der| der.map(|der| der.to_vec())).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(api_failed("the cluster's certificate authority holds no certificate")),
        Err(error) => Err(api_failed(format!("the cluster's certificate authority cannot be read: {error}"))),
    }
}

/// The user's kubeconfig: all files of KUBECONFIG merged as kubectl merges them, else `~/.kube/config`.
fn read(settings: &Settings) -> Result<Kubeconfig> {
    let paths: Vec<PathBuf> = match settings.get("KUBECONFIG") {
        Some(list) => std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => settings.get("HOME").map(|home| Path::new(home).join(".kube/config")).into_iter().collect(),
    };
    let mut whole: Option<Kubeconfig> = None;
    for path in paths.iter().filter(|path| path.exists()) {
        let more = Kubeconfig::read_from(path).map_err(|error| unreadable(path, &error))?;
        whole = Some(match whole {
            None => more,
            Some(first) => first.merge(more).map_err(|error| unreadable(path, &error))?,
        });
    }
    whole.ok_or_else(|| {
        let tried = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        Fault::new(Code::FileUnreadable, format!("there is no kubeconfig (looked for {tried})"))
            .next("set KUBECONFIG, or name the EKS cluster with `cluster: {name: …, region: …}`")
    })
}

/// Only the context asked for, with its cluster and user, and made the current one.
fn minify(mut whole: Kubeconfig, context: Option<&str>) -> Result<Kubeconfig> {
    let name = context.map(str::to_owned).or(whole.current_context.clone()).unwrap_or_default();
    let known: Vec<String> = whole.contexts.iter().map(|named| named.name.clone()).collect();
    let found = whole.contexts.iter().find(|named| named.name == name).and_then(|named| named.context.clone());
    let Some(found) = found else {
        let mut fault = Fault::new(Code::FileInvalid, format!("the kubeconfig has no context `{name}`"));
        if let Some(near) = text::nearest(&name, known.iter().map(String::as_str)) {
            fault = fault.next(format!("did you mean `{near}`?"));
        }
        return Err(fault.evidence("its contexts", known.join("\n")));
    };
    whole.contexts.retain(|named| named.name == name);
    whole.clusters.retain(|named| named.name == found.cluster);
    whole.auth_infos.retain(|named| Some(&named.name) == found.user.as_ref());
    whole.current_context = Some(name);
    whole.kind = Some("Config".to_owned());
    whole.api_version = Some("v1".to_owned());
    Ok(whole)
}

fn learn_secrets(user: &AuthInfo) {
    use secrecy::ExposeSecret;
    for secret in [&user.token, &user.password, &user.client_key_data].into_iter().flatten() {
        secrets::learn(secret.expose_secret());
    }
}

/// Writes a file that only its owner can read, by temp and rename.
pub fn write_private(path: &Path, content: &str) -> Result<()> {
    use std::io::Write;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let write = || -> std::io::Result<()> {
        // Temporary files are made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| Fault::new(Code::FileUnreadable, format!("cannot write `{}`: {error}", path.display())).class(Class::Environment))
}

fn api_failed(message: impl AsRef<str>) -> Fault {
    Fault::new(Code::ApiFailed, message)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Fault {
    let path = path.display().to_string();
    Fault::new(Code::FileInvalid, format!("kubeconfig `{path}`: {error}"))
        .at(Some(&Place::new(&path, 0, 0)))
        .next(format!("correct it, until `KUBECONFIG={path} kubectl config view` reads it"))
}

fn unusable(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(Code::FileInvalid, format!("the kubeconfig cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const TWO: &str = r"
apiVersion: v1
kind: Config
current-context: dev
contexts:
- {name: dev, context: {cluster: c1, user: u1}}
- {name: prod, context: {cluster: c2, user: u2, namespace: shop}}
clusters:
- {name: c1, cluster: {server: 'https://one.example'}}
- {name: c2, cluster: {server: 'https://two.example', proxy-url: 'http://proxy.example:3128'}}
users:
- {name: u1, user: {token: token-of-one}}
- {name: u2, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: 'true', interactiveMode: Never, provideClusterInfo: false}}}
";

    fn settings(kubeconfig: &Path) -> Settings {
        Settings::from_vars([("KUBECONFIG".to_owned(), kubeconfig.display().to_string())], [])
    }

    #[tokio::test]
    async fn a_context_becomes_a_private_kubeconfig_with_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let (theirs, private) = (folder.path().join("config"), folder.path().join("private"));
        std::fs::write(&theirs, TWO).expect("written");
        let access = Access::Context { context: Some("dev".into()), private: private.clone() };
        let prepared = prepare(access, &settings(&theirs)).await.expect("prepared");
        assert_eq!(prepared.config.cluster_url.to_string(), "https://one.example/");
        let written = std::fs::read_to_string(&private).expect("read");
        assert!(written.contains("token-of-one") && !written.contains("two.example"), "{written}");
        assert_eq!(private.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(secrets::redact("token-of-one"), secrets::MASK);
        let again = Kubeconfig::read_from(&private).expect("it can be read back");
        assert_eq!(again.current_context.as_deref(), Some("dev"));
    }

    #[tokio::test]
    async fn an_unknown_context_names_the_known_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let theirs = folder.path().join("config");
        std::fs::write(&theirs, TWO).expect("written");
        let access = Access::Context { context: Some("prd".into()), private: folder.path().join("p") };
        let fault = prepare(access, &settings(&theirs)).await.err().expect("a fault");
        assert_eq!(fault.code, Code::FileInvalid);
        assert_eq!(fault.next, ["did you mean `prod`?"]);
    }

    #[test]
    fn proxies_come_from_the_kubeconfig_then_the_environment() {
        let vars = [("HTTPS_PROXY".to_owned(), "proxy:3128".to_owned()), ("NO_PROXY".to_owned(), ".inside.example".to_owned())];
        let settings = Settings::from_vars(vars, []);
        for (url, own, expected) in [
            ("https://a.example", None, Some("http://proxy:3128/")),
            ("https://a.inside.example", None, None),
            ("https://a.inside.example", Some("http://other:1"), Some("http://other:1/")),
        ] {
            let mut config = Config::new(url.parse().expect("a URL"));
            set_ways(&mut config, &settings, own.map(str::to_owned)).expect("set");
            assert_eq!(config.proxy_url.map(|url| url.to_string()).as_deref(), expected, "{url}");
        }
    }
}
