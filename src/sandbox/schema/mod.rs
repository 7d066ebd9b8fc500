//! What objects look like: the published types of the built-in kinds, and the schemas of CustomResourceDefinitions.

pub(in crate::sandbox) mod check;
pub(in crate::sandbox) mod defaults;
mod lists;
pub(in crate::sandbox) mod validate;

use std::sync::OnceLock;

use k8s_openapi::schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::store::Resource;
use super::store::meta::{list, text};

/// Where definitions lie in an OpenAPI document.
const PREFIX: &str = "#/components/schemas/";

fn add<T: JsonSchema>(generator: &mut SchemaGenerator, roots: &mut Map<String, Value>, group: &str, kind: &str) {
    generator.subschema_for::<T>();
    roots.insert(format!("{group}/{kind}"), T::schema_name().into_owned().into());
}

struct Types {
    /// Every definition by its full name.
    definitions: Map<String, Value>,
    /// `group/Kind` to the name of its definition.
    roots: Map<String, Value>,
}

fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(|| {
        let settings = SchemaSettings::openapi3().with(|s| s.definitions_path = "/components/schemas".into());
        let mut generator = settings.into_generator();
        let mut roots = Map::new();
        add_builtin(&mut generator, &mut roots);
        let mut definitions = generator.take_definitions(true);
        lists::annotate(&mut definitions);
        for (root, name) in &roots {
            let (group, kind) = root.split_once('/').unwrap_or_default();
            let version = if kind == "HorizontalPodAutoscaler" { "v2" } else { "v1" };
            if let Some(definition) = name.as_str().and_then(|n| definitions.get_mut(n)) {
                definition["x-kubernetes-group-version-kind"] = json!([{"group": group, "kind": kind, "version": version}]);
            }
        }
        Types { definitions, roots }
    })
}

macro_rules! kinds {
    ($generator:ident, $roots:ident, $($group:literal { $($path:ident)::+ : $($kind:ident)+ })+) => {
        $({
            use k8s_openapi::$($path)::+ as module;
            $(add::<module::$kind>($generator, $roots, $group, stringify!($kind));)+
        })+
    };
}

fn add_builtin(generator: &mut SchemaGenerator, roots: &mut Map<String, Value>) {
    kinds! { generator, roots,
        "" { api::core::v1: Binding ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod PodTemplate
            ReplicationController ResourceQuota Secret Service ServiceAccount }
        "meta.k8s.io" { apimachinery::pkg::apis::meta::v1: DeleteOptions }
        "admissionregistration.k8s.io" { api::admissionregistration::v1: MutatingWebhookConfiguration ValidatingWebhookConfiguration
            ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding }
        "apiextensions.k8s.io" { apiextensions_apiserver::pkg::apis::apiextensions::v1: CustomResourceDefinition }
        "apiregistration.k8s.io" { kube_aggregator::pkg::apis::apiregistration::v1: APIService }
        "apps" { api::apps::v1: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet }
        "authentication.k8s.io" { api::authentication::v1: SelfSubjectReview TokenRequest TokenReview }
        "authorization.k8s.io" { api::authorization::v1: LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview }
        "autoscaling" { api::autoscaling::v2: HorizontalPodAutoscaler }
        "batch" { api::batch::v1: CronJob Job }
        "certificates.k8s.io" { api::certificates::v1: CertificateSigningRequest }
        "coordination.k8s.io" { api::coordination::v1: Lease }
        "discovery.k8s.io" { api::discovery::v1: EndpointSlice }
        "networking.k8s.io" { api::networking::v1: Ingress IngressClass NetworkPolicy }
        "policy" { api::policy::v1: Eviction PodDisruptionBudget }
        "rbac.authorization.k8s.io" { api::rbac::v1: ClusterRole ClusterRoleBinding Role RoleBinding }
        "scheduling.k8s.io" { api::scheduling::v1: PriorityClass }
        "storage.k8s.io" { api::storage::v1: StorageClass }
    }
}

/// Every definition of the built-in types by its full name.
pub(in crate::sandbox) fn definitions() -> &'static Map<String, Value> {
    &types().definitions
}

/// The full name of a built-in kind's definition.
pub(in crate::sandbox) fn definition_name(kind: &Resource) -> Option<&'static str> {
    root(&kind.group, &kind.kind)
}

/// The full name of the definition of `group` and `kind`.
pub(in crate::sandbox) fn root(group: &str, kind: &str) -> Option<&'static str> {
    types().roots.get(&format!("{group}/{kind}"))?.as_str()
}

/// A schema and everything below it.
#[derive(Clone, Copy, Debug)]
pub(in crate::sandbox) struct Schema<'a> {
    /// The place of use: carries the list rules of a field.
    usage: &'a Value,
    /// What it refers to.
    target: &'a Value,
}

/// What a place of use refers to, with or without keywords beside it.
fn reference(usage: &Value) -> &str {
    match text(usage, "/$ref") {
        "" => text(usage, "/allOf/0/$ref"),
        found => found,
    }
}

const ANYTHING: &Value = &Value::Bool(true);

impl<'a> Schema<'a> {
    fn at(usage: &'a Value) -> Schema<'a>
    where
        'static: 'a,
    {
        let target = reference(usage).strip_prefix(PREFIX).and_then(|name| definitions().get(name));
        Schema { usage, target: target.unwrap_or(usage) }
    }

    /// The schema of a kind; `None` if nothing is known about its fields.
    pub(in crate::sandbox) fn of(kind: &'a Resource, version: &str) -> Option<Schema<'a>> {
        if !kind.custom() {
            return Some(Schema::at(definitions().get(definition_name(kind)?)?));
        }
        let version = list(&kind.definition, "/versions").iter().find(|v| text(v, "/name") == version)?;
        version.pointer("/schema/openAPIV3Schema").map(Schema::at)
    }

    /// A built-in definition by its full name.
    pub(in crate::sandbox) fn named(name: &str) -> Option<Schema<'static>> {
        definitions().get(name).map(Schema::at)
    }

    /// Whether this refers to the definition of that full name.
    pub(in crate::sandbox) fn is_named(&self, name: &str) -> bool {
        reference(self.usage).strip_prefix(PREFIX) == Some(name)
    }

    /// The type of `metadata`.
    pub(in crate::sandbox) fn metadata() -> Schema<'static> {
        Schema::at(definitions().get("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap_or(ANYTHING))
    }

    /// A keyword of this schema, looked up where it is used and then where it is defined.
    pub(in crate::sandbox) fn keyword(&self, key: &str) -> Option<&'a Value> {
        self.usage.get(key).or_else(|| self.target.get(key))
    }

    fn word(&self, key: &str) -> &'a str {
        self.keyword(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// `object`, `array`, `string`, …; empty if it is open.
    pub(in crate::sandbox) fn kind(&self) -> &'a str {
        self.word("type")
    }

    /// A field of an object: a named property, or the type of a map's values. `None` is an unknown field.
    pub(in crate::sandbox) fn field(&self, name: &str) -> Option<Schema<'a>> {
        if let Some(property) = self.target.get("properties").and_then(|p| p.get(name)) {
            return Some(Schema::at(property));
        }
        match self.target.get("additionalProperties") {
            Some(Value::Bool(true)) => Some(Schema::at(ANYTHING)),
            Some(values @ Value::Object(_)) => Some(Schema::at(values)),
            _ if self.open() => Some(Schema::at(ANYTHING)),
            _ => None,
        }
    }

    /// The named properties.
    pub(in crate::sandbox) fn properties(&self) -> impl Iterator<Item = (&'a String, Schema<'a>)> + use<'a> {
        self.target.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, property)| (name, Schema::at(property)))
    }

    /// The type of a list's items.
    pub(in crate::sandbox) fn items(&self) -> Schema<'a> {
        self.target.get("items").map_or(Schema::at(ANYTHING), Schema::at)
    }

    /// Whether any field may stand here.
    pub(in crate::sandbox) fn open(&self) -> bool {
        self.target.get("x-kubernetes-preserve-unknown-fields").and_then(Value::as_bool).unwrap_or(false) || self.anything()
    }

    /// Whether any value may stand here. Built-in types without fields, such as FieldsV1, take anything;
    /// `type: object` alone in a custom schema takes nothing.
    pub(in crate::sandbox) fn anything(&self) -> bool {
        let untyped = self.target.get("properties").is_none() && self.target.get("additionalProperties").is_none();
        self.target.is_boolean() || untyped && (self.kind().is_empty() || self.kind() == "object" && !reference(self.usage).is_empty())
    }

    /// Whether a number or a text may stand here.
    pub(in crate::sandbox) fn int_or_string(&self) -> bool {
        self.keyword("x-kubernetes-int-or-string").and_then(Value::as_bool).unwrap_or(false)
    }

    /// The keys by which a list's items are told apart in an apply; empty if it is no map of items.
    pub(in crate::sandbox) fn list_keys(&self) -> Vec<&'a str> {
        if self.word("x-kubernetes-list-type") != "map" {
            return Vec::new();
        }
        self.keyword("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether a list is a set of plain values.
    pub(in crate::sandbox) fn is_set(&self) -> bool {
        self.word("x-kubernetes-list-type") == "set"
    }

    /// Whether an object is owned as a whole.
    pub(in crate::sandbox) fn atomic_map(&self) -> bool {
        self.word("x-kubernetes-map-type") == "atomic"
    }

    /// `merge`, `replace`, `retainKeys`.
    pub(in crate::sandbox) fn strategies(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.word("x-kubernetes-patch-strategy").split(',')
    }

    /// The key by which a strategic merge tells a list's items apart.
    pub(in crate::sandbox) fn merge_key(&self) -> &'a str {
        self.word("x-kubernetes-patch-merge-key")
    }

    /// The short name of the type, such as `DeploymentSpec`.
    pub(in crate::sandbox) fn type_name(&self) -> &'a str {
        reference(self.usage).rsplit('.').next().unwrap_or_default()
    }

    /// The default of a CustomResourceDefinition's field.
    pub(in crate::sandbox) fn default(&self) -> Option<&'a Value> {
        self.usage.get("default")
    }
}
