//! The kinds by the names the store knows them by.

pub(crate) const PODS: &str = "pods";
pub(crate) const NODES: &str = "nodes";
pub(crate) const EVENTS: &str = "events";
pub(crate) const SERVICES: &str = "services";
pub(crate) const SECRETS: &str = "secrets";
pub(crate) const CONFIG_MAPS: &str = "configmaps";
pub(crate) const NAMESPACES: &str = "namespaces";
pub(crate) const ENDPOINTS: &str = "endpoints";
pub(crate) const SERVICE_ACCOUNTS: &str = "serviceaccounts";
pub(crate) const ENDPOINT_SLICES: &str = "endpointslices.discovery.k8s.io";
pub(crate) const DEPLOYMENTS: &str = "deployments.apps";
pub(crate) const REPLICA_SETS: &str = "replicasets.apps";
pub(crate) const STATEFUL_SETS: &str = "statefulsets.apps";
pub(crate) const DAEMON_SETS: &str = "daemonsets.apps";
pub(crate) const JOBS: &str = "jobs.batch";
pub(crate) const INGRESSES: &str = "ingresses.networking.k8s.io";
pub(crate) const INGRESS_CLASSES: &str = "ingressclasses.networking.k8s.io";
pub(crate) const BUDGETS: &str = "poddisruptionbudgets.policy";
pub(crate) const CLAIMS: &str = "persistentvolumeclaims";
pub(crate) const STORAGE_CLASSES: &str = "storageclasses.storage.k8s.io";
pub(crate) const BINDINGS: &str = "targetgroupbindings.elbv2.k8s.aws";
pub(crate) const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
pub(crate) const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";
pub(crate) const GATEWAYS: &str = "gateways.networking.istio.io";
pub(crate) const VIRTUAL_SERVICES: &str = "virtualservices.networking.istio.io";
pub(crate) const TELEMETRIES: &str = "telemetries.telemetry.istio.io";
