//! The sandbox's API server as real clients see it: kube-rs over TLS, and plain HTTP where the wire matters.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod access;
mod faults;
mod objects;
mod patches;
mod streams;
mod tools;
mod watches;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::config::{KubeConfigOptions, Kubeconfig};
use meshstep::sandbox::api::{Options, Server};
use meshstep::sandbox::store::Store;
use serde_json::{Value, json};

/// A served cluster with the namespaces default and prod and the VirtualService kind.
pub struct Cluster {
    pub server: Server,
    pub store: Store,
}

impl Cluster {
    pub async fn start() -> Cluster {
        Cluster::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Cluster {
        meshstep::clients::install_crypto_provider();
        let store = Store::new();
        for name in ["default", "prod"] {
            store.create("namespaces", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).unwrap();
        }
        store.create("customresourcedefinitions.apiextensions.k8s.io", definition()).unwrap();
        let server = Server::start(store.clone(), options).await.unwrap();
        Cluster { server, store }
    }

    pub async fn client(&self) -> kube::Client {
        self.client_with("token").await
    }

    pub async fn client_with(&self, token: &str) -> kube::Client {
        let kubeconfig = Kubeconfig::from_yaml(&self.server.kubeconfig("sandbox", token)).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// A plain HTTP client that trusts the server.
    pub fn http(&self) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(self.server.ca_pem().as_bytes()).unwrap();
        reqwest::Client::builder().tls_certs_only([ca]).build().unwrap()
    }

    /// GET with a token, parsed.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http().get(format!("{}{path}", self.server.url())).bearer_auth("token").send().await.unwrap();
        let code = answer.status().as_u16();
        (code, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }
}

pub fn virtual_services(client: kube::Client) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService"), "virtualservices");
    Api::namespaced_with(client, "prod", &kind)
}

pub fn virtual_service(name: &str, host: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "namespace": "prod"}, "spec": {"hosts": [host]}})
}

pub fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "prod"}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": "registry.example/app:1", "ports": [{"containerPort": 8000}]}]}}}})
}

pub fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "prod"}, "data": {"k": "v"}})
}

/// A pod on a node whose containers run.
pub fn running_pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "prod", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "registry.example/app:1"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "ready": true, "state": {"running": {}}}]}})
}

/// From JSON to a typed object.
pub fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// The server's refusal.
pub fn refused<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("expected a refusal: {other:?}"),
    }
}

fn definition() -> Value {
    let spec = json!({"type": "object", "required": ["hosts"], "properties": {
        "hosts": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "http": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}});
    let version =
        |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema, "subresources": {"status": {}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "virtualservices.networking.istio.io"},
        "spec": {"group": "networking.istio.io", "scope": "Namespaced", "names": {"kind": "VirtualService", "plural": "virtualservices", "shortNames": ["vs"]},
            "versions": [version("v1", true), version("v1beta1", false)]}})
}
