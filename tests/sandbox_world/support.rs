//! A sandbox for tests and the ordinary clients that look at it.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use meshstep::sandbox::{Sandbox, start_with_tool, world};
use serde_json::json;

/// How long anything simulated may take in a test on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub sandbox: Sandbox,
    client: Client,
    /// Holds the sandbox's files.
    _dir: tempfile::TempDir,
}

impl World {
    /// A world that comes with the program.
    pub(crate) async fn shipped(name: &str) -> Self {
        Self::of(world::shipped(name).expect("a shipped world")).await
    }

    pub(crate) async fn of(text: &str) -> Self {
        // the same provider for all tests of the process; only the first one sets it
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a folder");
        let sandbox = start_with_tool(text, dir.path(), Path::new(env!("CARGO_BIN_EXE_meshstep"))).await.expect("the sandbox starts");
        let client = client(Kubeconfig::read_from(value(&sandbox, "KUBECONFIG")).expect("a kubeconfig")).await;
        Self { sandbox, client, _dir: dir }
    }

    pub(crate) fn env(&self, key: &str) -> &str {
        value(&self.sandbox, key)
    }

    pub(crate) fn api<K: Resource<Scope = kube::core::NamespaceResourceScope>>(&self, namespace: &str) -> Api<K>
    where
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn all<K: Resource>(&self) -> Api<K>
    where
        K::DynamicType: Default,
    {
        Api::all(self.client.clone())
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Asks until there is an answer.
    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, ask: impl Fn() -> F) -> T {
        let asking = async {
            loop {
                if let Some(found) = ask().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(found) => found,
            Err(_) => panic!("not within {PATIENCE:?}: {what}"),
        }
    }

    pub(crate) async fn pods(&self, namespace: &str, labels: &str) -> Vec<Pod> {
        self.api::<Pod>(namespace).list(&ListParams::default().labels(labels)).await.expect("pods").items
    }

    /// Waits until a Deployment is wholly rolled out.
    pub(crate) async fn rolled_out(&self, namespace: &str, name: &str) -> Deployment {
        self.until(&format!("{name} is rolled out"), || async {
            let deployment = self.api::<Deployment>(namespace).get(name).await.ok()?;
            let status = deployment.status.as_ref()?;
            let want = deployment.spec.replicas;
            let current = status.observed_generation == deployment.metadata.generation;
            (current && status.updated_replicas == want && status.available_replicas == want && status.replicas == want).then_some(deployment)
        })
        .await
    }

    pub(crate) async fn istioctl_output(&self, args: &[&str]) -> std::process::Output {
        let mut command = tokio::process::Command::new(self.sandbox.tools().join("istioctl"));
        command.args(args).envs(self.sandbox.env().iter().map(|(key, value)| (key, value)));
        command.output().await.expect("the stand-in runs")
    }

    pub(crate) async fn istioctl(&self, args: &[&str]) -> Option<i32> {
        self.istioctl_output(args).await.status.code()
    }

    pub(crate) async fn aws(&self) -> SdkConfig {
        let credentials = Credentials::new(self.env("AWS_ACCESS_KEY_ID"), self.env("AWS_SECRET_ACCESS_KEY"), None, None, "sandbox");
        let loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new(self.env("AWS_REGION").to_owned()));
        loader.credentials_provider(credentials).endpoint_url(self.env("AWS_ENDPOINT_URL")).load().await
    }

    /// Namespaces, asked with an EKS token instead of the kubeconfig's own.
    pub(crate) async fn with_eks_token(&self) -> Api<Namespace> {
        let mut config = Kubeconfig::read_from(self.env("KUBECONFIG")).expect("a kubeconfig");
        let token = eks_token(self.env("AWS_ACCESS_KEY_ID"), self.env("AWS_SECRET_ACCESS_KEY"));
        config.auth_infos[0].auth_info.as_mut().expect("a user").token = Some(token.into());
        Api::all(client(config).await)
    }
}

fn value<'a>(sandbox: &'a Sandbox, key: &str) -> &'a str {
    sandbox.env().iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str()).expect("the environment has it")
}

async fn client(config: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.expect("a usable kubeconfig");
    Client::try_from(config).expect("a client")
}

fn eks_token(key: &str, secret: &str) -> String {
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
    use base64::Engine;
    let identity = Credentials::new(key, secret, None, None, "sandbox").into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(60));
    let params = aws_sigv4::sign::v4::SigningParams::builder();
    let params =
        params.identity(&identity).region("ap-southeast-1").name("sts").time(SystemTime::now()).settings(settings).build().expect("complete").into();
    let address = "https://sts.ap-southeast-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15";
    let headers = [("x-k8s-aws-id", "shop-eks")];
    let request = SignableRequest::new("GET", address, headers.into_iter(), SignableBody::Bytes(&[])).expect("signable");
    let (instructions, _) = sign(request, &params).expect("signs").into_parts();
    let mut request = http::Request::builder().uri(address).body(()).expect("a request");
    instructions.apply_to_request_http1x(&mut request);
    format!("k8s-aws-v1.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(request.uri().to_string()))
}

/// A Deployment of one container `app` that listens on 8000.
pub(crate) fn deployment(name: &str, image: &str, replicas: i32) -> Deployment {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{
                "name": "app", "image": image, "ports": [{"name": "http", "containerPort": 8000}], "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
            }]}},
        },
    });
    serde_json::from_value(object).expect("a deployment")
}

pub(crate) fn reasons(events: &[Event]) -> BTreeSet<&str> {
    events.iter().filter_map(|event| event.reason.as_deref()).collect()
}
