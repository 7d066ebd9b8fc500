//! What a served sandbox holds, seen with ordinary clients.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::{Client, Config};
use meshstep::clients::Settings;
use meshstep::clients::aws::{Account, Aws};
use serde_json::Value;

/// A cluster with its AWS account.
pub(crate) struct Cluster {
    env: Vec<(String, String)>,
    runtime: tokio::runtime::Runtime,
}

impl Cluster {
    pub(crate) fn new(env: &[(String, String)]) -> Self {
        meshstep::clients::install_crypto_provider();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Self { env: env.to_vec(), runtime }
    }

    async fn client(&self) -> Client {
        let path = self.env.iter().find(|(name, _)| name == "KUBECONFIG").map(|(_, path)| path.clone()).expect("a kubeconfig");
        let read = Kubeconfig::read_from(path).expect("readable");
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.expect("usable");
        Client::try_from(config).expect("a client")
    }

    /// Every object as `Kind namespace/name`, without what comes and goes by itself.
    pub(crate) fn objects(&self) -> BTreeSet<String> {
        const PASSING: [&str; 6] = ["Event", "Endpoints", "EndpointSlice", "Pod", "ReplicaSet", "Node"];
        self.runtime.block_on(async {
            let client = self.client().await;
            let discovery = Discovery::new(client.clone()).run().await.expect("discovery");
            let mut objects = BTreeSet::new();
            for (resource, capabilities) in discovery.groups().flat_map(|group| group.recommended_resources()) {
                if capabilities.supports_operation(verbs::LIST) && !PASSING.contains(&resource.kind.as_str()) {
                    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                    let scoped = capabilities.scope == Scope::Namespaced;
                    for object in api.list(&ListParams::default()).await.expect("a list") {
                        let home = if scoped { object.metadata.namespace.clone().unwrap_or_default() + "/" } else { String::new() };
                        objects.insert(format!("{} {home}{}", resource.kind, object.metadata.name.unwrap_or_default()));
                    }
                }
            }
            objects
        })
    }

    fn api(client: Client, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Api::namespaced_with(client, namespace, &ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)))
    }

    /// Creates or changes an object.
    pub(crate) fn apply(&self, manifest: &Value) {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        self.runtime.block_on(async {
            let api = Self::api(self.client().await, text("/apiVersion"), text("/kind"), text("/metadata/namespace"));
            api.patch(text("/metadata/name"), &PatchParams::apply("test").force(), &Patch::Apply(manifest)).await.expect("applied");
        });
    }

    /// Deletes an object and takes its finalizers off, as an impatient person does.
    pub(crate) fn strip(&self, api_version: &str, kind: &str, namespace: &str, name: &str) {
        self.runtime.block_on(async {
            let api = Self::api(self.client().await, api_version, kind, namespace);
            api.delete(name, &DeleteParams::default()).await.expect("deleted");
            let (params, stripped) = (PatchParams::default(), serde_json::json!({"metadata": {"finalizers": null}}));
            api.patch(name, &params, &Patch::Merge(&stripped)).await.expect("patched");
        });
    }

    pub(crate) fn delete(&self, api_version: &str, kind: &str, namespace: &str, name: &str) {
        self.runtime.block_on(async {
            let api = Self::api(self.client().await, api_version, kind, namespace);
            api.delete(name, &DeleteParams::default()).await.expect("deleted");
        });
    }

    /// The names of the pods of a namespace.
    pub(crate) fn pods(&self, namespace: &str) -> Vec<String> {
        self.runtime.block_on(async {
            let api = Self::api(self.client().await, "v1", "Pod", namespace);
            api.list(&ListParams::default()).await.expect("pods").into_iter().filter_map(|pod| pod.metadata.name).collect()
        })
    }

    /// The pods of a namespace, by name, each with its uid.
    pub(crate) fn pod_uids(&self, namespace: &str) -> BTreeMap<String, String> {
        self.runtime.block_on(async {
            let api = Self::api(self.client().await, "v1", "Pod", namespace);
            let pods = api.list(&ListParams::default()).await.expect("pods").into_iter();
            pods.filter_map(|pod| pod.metadata.name.zip(pod.metadata.uid)).collect()
        })
    }

    /// How often the pod template of a Deployment has changed.
    pub(crate) fn revisions(&self, namespace: &str, deployment: &str) -> usize {
        self.runtime.block_on(async {
            let api = Self::api(self.client().await, "apps/v1", "ReplicaSet", namespace);
            let sets = api.list(&ListParams::default()).await.expect("sets").into_iter();
            sets.filter(|set| set.metadata.owner_references.iter().flatten().any(|owner| owner.name == deployment)).count()
        })
    }

    /// The names of all probe pods.
    pub(crate) fn probes(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let api: Api<DynamicObject> = Api::all_with(self.client().await, &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod")));
            let probes = api.list(&ListParams::default().labels("meshstep.io/probe=true")).await.expect("pods");
            probes.into_iter().filter_map(|pod| pod.metadata.name).collect()
        })
    }

    /// The ARNs of what carries the cluster's tag in AWS.
    pub(crate) fn in_aws(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let own: BTreeMap<String, String> = self.env.iter().cloned().collect();
            let settings = Settings::from_vars([], own);
            let aws = Aws::connect(&Account::default(), &settings).await.expect("AWS");
            let found = aws.by_tags(&[("elbv2.k8s.aws/cluster", "shop-eks")]).await.expect("tags");
            found.into_iter().map(|(arn, _)| arn).collect()
        })
    }
}
