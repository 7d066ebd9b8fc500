//! Reading, applying, patching and deleting objects, typed or by apiVersion and kind.

use std::fmt::Debug;

use http::Request as HttpRequest;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::{DeleteParams, DynamicObject, GetParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::core::{ObjectList, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Cluster, FIELD_MANAGER, fault};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::ObjectName;

/// How many objects one page of a list holds.
const PAGE: u32 = 500;

/// What an apply did, or in a dry run would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Created,
    Changed,
    Unchanged,
}

impl Cluster {
    /// The object, or `None` when there is none. `namespace` is empty for what is cluster-wide.
    pub async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let path = K::url_path(&(), some(namespace));
        self.get_at(&path, name, &format!("reading {}", ObjectName::new(K::kind(&()), namespace, name))).await
    }

    /// All objects, page by page. An empty namespace means all, an empty selector any.
    pub async fn list<K>(&self, namespace: &str, selector: &str) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        self.list_at(&K::url_path(&(), some(namespace)), labelled(selector), &format!("listing {}", K::plural(&()))).await
    }

    /// Is there an object of this name in any namespace? It takes the right to list that name alone.
    pub async fn is_anywhere<K>(&self, name: &str) -> Result<bool>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        let found: Vec<K> = self.list_at(&K::url_path(&(), None), params, &format!("listing {} named {name}", K::plural(&()))).await?;
        Ok(!found.is_empty())
    }

    /// The object, or `None` when there is none or the server does not know the kind.
    pub async fn get_object(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Option<DynamicObject>> {
        let Some(found) = self.resource(api_version, kind).await? else { return Ok(None) };
        self.get_at(&found.path(namespace), name, &format!("reading {}", ObjectName::new(kind, namespace, name))).await
    }

    /// All objects of a kind; none when the server does not know the kind.
    pub async fn list_objects(&self, api_version: &str, kind: &str, namespace: &str, selector: &str) -> Result<Vec<DynamicObject>> {
        let Some(found) = self.resource(api_version, kind).await? else { return Ok(Vec::new()) };
        match self.list_at(&found.path(namespace), labelled(selector), &format!("listing {kind}")).await {
            // The kind was known a moment ago, and its definition has been removed since.
            Err(fault) if fault.code == Code::NotFound => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// Server-side apply, taking over fields that others own. Returns the object as the server now has (or in a dry run would have) it.
    ///
    /// # Errors
    /// `needs_earlier` when the server does not know the kind, `apply_refused` when it refuses the manifest.
    pub async fn apply(&self, manifest: &Value, default_namespace: &str, dry_run: bool) -> Result<(DynamicObject, Applied)> {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        if api_version.is_empty() || kind.is_empty() || name.is_empty() {
            return Err(Fault::new(Code::FileInvalid, format!("a manifest lacks apiVersion, kind or metadata.name (kind `{kind}`, name `{name}`)")));
        }
        let Some(found) = self.resource(api_version, kind).await? else {
            let message = format!("the cluster knows no kind `{kind}` of `{api_version}`");
            return Err(Fault::new(Code::NeedsEarlier, message).next(format!("install what brings the CustomResourceDefinition of `{kind}` first")));
        };
        let mut manifest = manifest.clone();
        let namespace = match text_of(&manifest, "/metadata/namespace") {
            _ if !found.namespaced => String::new(),
            namespace if !namespace.is_empty() => namespace,
            _ if default_namespace.is_empty() => "default".to_owned(),
            _ => default_namespace.to_owned(),
        };
        if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("namespace");
            if found.namespaced {
                metadata.insert("namespace".to_owned(), namespace.clone().into());
            }
        }
        let object = ObjectName::new(kind, namespace.as_str(), name);
        let path = found.path(&namespace);
        let before: Option<Value> = self.get_at(&path, name, &format!("reading {object}")).await?;
        let params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER).force() };
        let doing = format!("applying {object}");
        let request = Request::new(&path).patch(name, &params, &Patch::Apply(&manifest));
        let after: Value = self.send(request).await.map_err(|error| refused_apply(fault(error, &doing)))?;
        let applied = judge(before.as_ref(), &after);
        let after =
            serde_json::from_value(after).map_err(|error| Fault::new(Code::ApiFailed, format!("{doing}: the answer is no object: {error}")))?;
        Ok((after, applied))
    }

    /// Asks whether a pod could be created, without creating it. Returns it as admission would have changed it.
    pub async fn try_pod(&self, namespace: &str, pod: &Value) -> Result<Value> {
        let doing = format!("trying a pod in {namespace}");
        let request = Request::new(Pod::url_path(&(), some(namespace)));
        let params = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let request = request.create(&params, pod.to_string().into_bytes());
        self.send(request).await.map_err(|error| refused_apply(fault(error, &doing)))
    }

    /// A JSON merge patch. Conflicts are tried again with what is there then: a merge patch names no resourceVersion.
    pub async fn merge_patch<K>(&self, namespace: &str, name: &str, patch: &Value) -> Result<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let doing = format!("patching {}", ObjectName::new(K::kind(&()), namespace, name));
        let path = K::url_path(&(), some(namespace));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let mut tries = 0;
        loop {
            let request = Request::new(&path).patch(name, &params, &Patch::Merge(patch));
            match self.send(request).await {
                Err(kube::Error::Api(status)) if status.code == 409 && tries < 4 => tries += 1,
                result => return result.map_err(|error| fault(error, &doing)),
            }
        }
    }

    /// Asks for the object's deletion, dependents in the background. `false`: there was none.
    pub async fn delete_object(&self, object: &ObjectName, api_version: &str) -> Result<bool> {
        let Some(found) = self.resource(api_version, &object.kind).await? else { return Ok(false) };
        let doing = format!("deleting {object}");
        let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
        let request = Request::new(found.path(&object.namespace)).delete(&object.name, &params);
        match self.send::<Value>(request).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(fault(error, &doing)),
        }
    }

    async fn get_at<T: DeserializeOwned>(&self, path: &str, name: &str, doing: &str) -> Result<Option<T>> {
        match self.send(Request::new(path).get(name, &GetParams::default())).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(fault(error, doing)),
        }
    }

    async fn list_at<T: Clone + DeserializeOwned>(&self, path: &str, params: ListParams, doing: &str) -> Result<Vec<T>> {
        let mut params = params.limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page: ObjectList<T> = match self.send(Request::new(path).list(&params)).await {
                Ok(page) => page,
                // The continue token is too old: begin again.
                Err(kube::Error::Api(status)) if status.code == 410 && params.continue_token.is_some() => {
                    params.continue_token = None;
                    all.clear();
                    continue;
                }
                Err(error) => return Err(fault(error, doing)),
            };
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(all),
            }
        }
    }

    async fn send<T: DeserializeOwned>(&self, request: Result<HttpRequest<Vec<u8>>, kube::core::request::Error>) -> Result<T, kube::Error> {
        self.client.request(request.map_err(kube::Error::BuildRequest)?).await
    }
}

fn labelled(selector: &str) -> ListParams {
    let all = ListParams::default();
    if selector.is_empty() { all } else { all.labels(selector) }
}

fn some(namespace: &str) -> Option<&str> {
    (!namespace.is_empty()).then_some(namespace)
}

fn text_of(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A refusal of what the manifest says is the manifest's fault, not the API server's.
fn refused_apply(mut fault: Fault) -> Fault {
    if fault.code == Code::ApiFailed && fault.message.contains("refuse") {
        fault.code = Code::ApplyRefused;
        fault.class = Code::ApplyRefused.info().class;
    }
    fault
}

/// Compares what an object says before and after, without what the server counts by itself. In a dry run the resourceVersion stays,
/// and a first apply by us over the same content changes only who owns the fields: neither may be taken for the answer.
fn judge(before: Option<&Value>, after: &Value) -> Applied {
    let Some(before) = before else { return Applied::Created };
    if content(before) == content(after) { Applied::Unchanged } else { Applied::Changed }
}

fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            for counted in ["managedFields", "resourceVersion", "generation", "selfLink"] {
                metadata.remove(counted);
            }
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_apply_is_judged_by_what_the_object_says() {
        let object = |version: &str, replicas: u32, ready: u32| {
            json!({
                "metadata": {"name": "a", "resourceVersion": version, "generation": replicas, "managedFields": [version]},
                "spec": {"replicas": replicas},
                "status": {"ready": ready},
            })
        };
        assert_eq!(judge(None, &object("1", 1, 0)), Applied::Created);
        assert_eq!(judge(Some(&object("1", 1, 0)), &object("2", 1, 1)), Applied::Unchanged);
        assert_eq!(judge(Some(&object("1", 1, 0)), &object("1", 2, 0)), Applied::Changed);
    }
}
