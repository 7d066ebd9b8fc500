//! Every failure code of the tool: one table, read by reports, `explain` and the README's reference.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::fault::Class;

/// What a code means and what helps.
#[derive(Debug)]
pub struct CodeInfo {
    /// `image_not_found`: stable, used in reports and by `meshstep explain`.
    pub name: &'static str,
    /// The JUnit `type`: a dotted word, never bare (`rollout.image_not_found`).
    pub junit: &'static str,
    pub class: Class,
    pub meaning: &'static str,
    /// How the tool recognises it.
    pub sign: &'static str,
    /// What a person does next.
    pub next: &'static str,
    pub restart_helps: bool,
}

macro_rules! codes {
    ($($variant:ident, $name:literal, $room:literal, $class:ident, $restart:literal, $meaning:literal, $sign:literal, $next:literal;)*) => {
        /// A failure code. Adding one is adding a row to the table below.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code { $(#[serde(rename = $name)] $variant,)* }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            pub fn info(self) -> &'static CodeInfo {
                match self {
                    $(Code::$variant => &CodeInfo {
                        name: $name,
                        junit: concat!($room, ".", $name),
                        class: Class::$class,
                        meaning: $meaning,
                        sign: $sign,
                        next: $next,
                        restart_helps: $restart,
                    },)*
                }
            }

            pub fn parse(name: &str) -> Option<Code> {
                match name { $($name => Some(Code::$variant),)* _ => None }
            }
        }
    };
}

// variant, name, JUnit room, class, does a restart help?, meaning, how it is recognised, what to do
codes! {
    Defect, "defect", "run", Defect, false,
        "a defect of this tool", "an internal check failed",
        "report it with the reports folder; the deployed state is as the last finished case left it";
    Cancelled, "aborted", "run", Cancelled, false,
        "the run was interrupted", "SIGTERM, SIGINT or the end of the job's time",
        "run it again: every step is idempotent and continues where this one stopped";
    NeedsEarlier, "needs_earlier", "run", Environment, false,
        "a stage could not start because something it needs is not there", "what an earlier stage makes was looked for and not found",
        "run the earlier stage first, or the whole file with `meshstep run`";
    FileInvalid, "file_invalid", "file", Invalid, false,
        "a file is not what it must be", "it was read and checked before anything was done",
        "correct the line that is named; `meshstep validate` checks the file offline";
    FileUnreadable, "file_unreadable", "file", Invalid, false,
        "a file cannot be read or written", "the operating system refused",
        "check the path (paths in the pipeline file are relative to it) and its permissions";
    ToolMissing, "tool_missing", "prerequisite", Prerequisite, false,
        "a tool that the chosen stages need is not installed", "it is not on PATH",
        "install it on the agent, or leave out the stage that needs it";
    ToolTooOld, "tool_too_old", "prerequisite", Prerequisite, false,
        "a tool is older than the runbook's minimum", "its own version output",
        "upgrade it on the agent";
    ToolFailed, "tool_failed", "tool", Environment, false,
        "a tool that was called ended with an error", "its exit status and its last lines",
        "read the tool's own message; run the printed command by hand to see it again";
    VersionUnsupported, "version_unsupported", "prerequisite", Prerequisite, false,
        "two versions do not go together", "the versions of the cluster and of Istio, against Istio's own minimum",
        "use the version that is named, or upgrade the cluster";
    ClockSkew, "clock_skew", "prerequisite", Prerequisite, false,
        "the agent's clock is minutes off", "the Date header of the API server's answer",
        "let the agent's clock follow NTP";
    CertificateUnusable, "certificate_unusable", "prerequisite", Prerequisite, false,
        "the load balancer's certificate cannot be used, or not for these hosts", "ACM's own description of the certificate that the chart names",
        "validate, renew or extend the certificate, or correct `certificate-arn` in the team's values";
    SubnetsUnusable, "subnets_unusable", "prerequisite", Prerequisite, false,
        "the load balancer has no subnets to stand in", "the VPC's subnets and their tags, against what the load balancer controller looks for",
        "tag a subnet in each of two zones with `kubernetes.io/role/elb=1` (or `internal-elb` for an internal load balancer)";
    UnknownName, "unknown_name", "usage", Usage, false,
        "a filter names something that the file does not have", "`--service`, `--namespace` and `--host` were compared with the file's names",
        "correct the name, or leave the filter out";
    NamespaceMissing, "namespace_missing", "prerequisite", Prerequisite, false,
        "a namespace that the file names is not in the cluster", "the API server answered 404",
        "create it, or write `{name: NAME, create: true}`";
    AwsCredentials, "aws_credentials", "aws", Environment, false,
        "AWS did not accept the credentials, or there are none", "the SDK or AWS said so",
        "check the job's AWS credentials (expired session, missing role, wrong profile)";
    AwsDenied, "aws_denied", "aws", Environment, false,
        "AWS refuses the call", "AccessDenied",
        "add the named action to the job's IAM policy";
    AwsFailed, "aws_failed", "aws", Environment, false,
        "a call to AWS did not succeed", "AWS's own error code",
        "read AWS's words; try again if it was throttling or a 5xx";
    AwsUnreachable, "aws_unreachable", "aws", Environment, false,
        "AWS cannot be reached from here", "no answer of AWS's endpoint",
        "check HTTPS_PROXY, NO_PROXY and the VPC endpoints of the agent's subnet";
    ClusterNotFound, "cluster_not_found", "eks", Environment, false,
        "there is no such EKS cluster in this account and Region", "ResourceNotFoundException",
        "check `cluster.name`, `cluster.region` and the account of the credentials";
    ClusterNotActive, "cluster_not_active", "eks", Environment, false,
        "the EKS cluster is not usable now", "its status in DescribeCluster",
        "wait until it is ACTIVE, or look at it in the EKS console";
    Unauthorized, "unauthorized", "k8s", Environment, false,
        "the API server does not know this identity", "401, also with a fresh token",
        "map the IAM principal with an EKS access entry or in aws-auth; check the agent's clock";
    Forbidden, "forbidden", "k8s", Environment, false,
        "this identity lacks a right in the cluster", "403 or a refused SelfSubjectAccessReview",
        "grant the missing verb and resource";
    ApiUnreachable, "api_unreachable", "k8s", Environment, false,
        "the API server cannot be reached", "no connection within the time limit",
        "a private endpoint answers only inside its VPC: check where the agent runs, publicAccessCidrs and HTTPS_PROXY";
    ApiFailed, "api_failed", "k8s", Environment, false,
        "the API server did not carry out a call", "its own status",
        "read the API server's words";
    ApiTls, "api_tls", "k8s", Environment, false,
        "the API server's certificate cannot be verified", "the TLS handshake",
        "check the agent's clock, certificate-authority-data of the kubeconfig, and proxies that open TLS";
    NotFound, "not_found", "k8s", Environment, false,
        "something that is needed is not in the cluster", "the API server answered 404",
        "check name and namespace; run the stage that makes it first";
    Conflict, "conflict", "k8s", Environment, false,
        "somebody else changed the object at the same time", "the API server answered 409, also on another try",
        "run it again; look for a controller or a second job that writes the same fields";
    Throttled, "throttled", "k8s", Environment, false,
        "the API server asks for fewer calls", "429 until the time was up",
        "try again later; look for a client that floods the API server";
    MeshForeign, "mesh_foreign", "mesh", Prerequisite, false,
        "another Istio is installed than this file asks for", "version, revision or installer of the running control plane",
        "align the file or the tool with it, or allow the change with `--allow-mesh-change`";
    MeshNotReady, "mesh_not_ready", "mesh", Broken, false,
        "Istio's control plane or gateway does not become ready", "its Deployments, webhooks and ConfigMaps",
        "look at the pods of istio-system";
    ApplyRefused, "apply_refused", "k8s", Broken, false,
        "the API server refuses a manifest", "its own words on apply",
        "correct the manifest";
    CrashLoop, "crash_loop", "rollout", Broken, false,
        "a container of the new pods starts and dies again and again", "3 terminations with an error since the apply",
        "read the previous container's log and fix the program or its configuration";
    InitCrashLoop, "init_crash_loop", "rollout", Broken, false,
        "an init container of the new pods fails again and again", "3 terminations with an error since the apply",
        "read the previous container's log";
    SidecarFailing, "sidecar_failing", "rollout", Broken, false,
        "the istio-proxy of the new pods does not stay up", "6 terminations, or 60 s without getting ready",
        "read istio-proxy's log; check istiod";
    ImageNotFound, "image_not_found", "rollout", Broken, false,
        "the image does not exist in its registry", "the kubelet's pull error",
        "check the tag that the pipeline passes, and that the image was pushed";
    ImageWrongPlatform, "image_wrong_platform", "rollout", Broken, false,
        "the image has no variant for the nodes' architecture", "the kubelet's pull error",
        "build the image for the nodes' architecture";
    ImageDenied, "image_denied", "rollout", Broken, false,
        "the registry refuses to give the image", "the kubelet's pull error, seen twice",
        "check imagePullSecrets or the nodes' registry role";
    ImageUnreachable, "image_unreachable", "rollout", Broken, false,
        "the image cannot be fetched: mostly because the nodes do not reach its registry", "the kubelet's pull error, for 90 s",
        "check the registry, the nodes' network and their disks";
    ConfigMissing, "config_missing", "rollout", Broken, false,
        "a Secret, ConfigMap or key that a container needs does not exist", "CreateContainerConfigError, for 5 s",
        "create it, or correct the reference";
    ContainerCannotRun, "container_cannot_run", "rollout", Broken, false,
        "the container cannot be created or started on its node", "RunContainerError, StartError or CreateContainerError, seen twice",
        "check command, arguments, mounts and securityContext of the container";
    Unschedulable, "unschedulable", "rollout", Broken, false,
        "no node can take a new pod", "the scheduler's own reason, for 15 s",
        "lower the requests, add nodes, or correct node selectors and tolerations";
    VolumeFailing, "volume_failing", "rollout", Broken, false,
        "a volume of the new pods cannot be bound or mounted", "FailedMount or an unbound claim, for 30 s",
        "read the claim's and the pod's events";
    PodsRefused, "pods_refused", "rollout", Broken, false,
        "the API server refuses to create the pods", "FailedCreate, for 5 s",
        "read the API server's words";
    QuotaExceeded, "quota_exceeded", "rollout", Broken, false,
        "the namespace's quota leaves no room for the new pods", "FailedCreate with exceeded quota, for 5 s",
        "raise the quota or lower the requests";
    WebhookUnreachable, "webhook_unreachable", "rollout", Broken, false,
        "an admission webhook does not answer, so no pod can be created", "FailedCreate with failed calling webhook, for 60 s and again after them",
        "bring the webhook's service up (istiod, the load balancer controller) or remove its stale configuration";
    InjectorUntrusted, "injector_untrusted", "rollout", Broken, false,
        "the API server does not trust the injector's certificate", "FailedCreate with failed calling webhook and x509",
        "restart istiod so that it patches its webhook's caBundle; restarting the service does not help";
    RolloutDeadline, "rollout_deadline", "rollout", Broken, false,
        "the controller gave up: the rollout made no progress", "ProgressDeadlineExceeded",
        "look at the newest pods' events and logs";
    RolloutPaused, "rollout_paused", "rollout", Broken, false,
        "the Deployment is paused, so nothing rolls out", "spec.paused",
        "resume it with `kubectl rollout resume`";
    RolloutTimeout, "rollout_timeout", "rollout", TimedOut, false,
        "the new pods were not ready in time", "the service's `timeout` passed; the last reason is given",
        "read the last reason; raise `timeout` if the service starts slowly";
    JobFailed, "job_failed", "rollout", Broken, false,
        "a Job failed", "its Failed condition",
        "read the last pod's log";
    WrongImage, "wrong_image", "rollout", Broken, false,
        "what runs is not what was deployed", "the image of the running containers",
        "check the chart's image value and any admission that rewrites images";
    SidecarMissing, "sidecar_missing", "mesh", Broken, true,
        "pods of a namespace with injection run without a sidecar", "no istio-proxy among the pod's containers or init containers",
        "see whether the injector works and whether the pod opts out (`sidecar.istio.io/inject`); then restart the workload";
    ServiceNoEndpoints, "service_no_endpoints", "service", Broken, false,
        "the Service has no ready endpoints on the routed port", "its EndpointSlices",
        "check the Service's selector and ports against the pods";
    ReleasePending, "release_pending", "helm", Held, false,
        "another helm operation is in progress, or one was killed", "the release's status is pending-*",
        "wait for the other job; if there is none, recover it with `--recover-pending`";
    ReleaseForeign, "release_foreign", "helm", Broken, false,
        "an object of the chart belongs to something else", "helm's ownership check",
        "remove the object, or take it over with `--take-ownership`";
    ReleaseFailed, "release_failed", "helm", Broken, false,
        "helm could not install or upgrade the release", "helm's exit status and words",
        "read helm's message";
    TeamChange, "team_change", "helm", Prerequisite, false,
        "the release was installed with another team's values", "its stored values",
        "use the right team's values file, or allow it with `--allow-team-change`";
    AlbChange, "alb_change", "helm", Prerequisite, false,
        "this upgrade would replace the load balancer, which gets a new DNS name", "scheme or group.name differ from the running release",
        "keep them, or allow it with `--allow-new-alb`";
    RouteConflict, "route_conflict", "routes", Invalid, false,
        "two routes claim the same host and prefix", "comparison of all entries",
        "give each host and prefix to one service";
    IngressMissing, "ingress_missing", "ingress", Environment, false,
        "the Ingress does not exist", "the API server answered 404",
        "run the releases stage first, or correct `ingress.name`";
    NoController, "no_controller", "ingress", Broken, false,
        "no load balancer controller answers for this Ingress", "no finalizer after 60 s, and the class is another's, or no controller is found",
        "install the AWS Load Balancer Controller, or correct the Ingress's class";
    AlbRefused, "alb_refused", "ingress", Broken, false,
        "the load balancer controller cannot build the load balancer", "its Warning event on the Ingress",
        "read the controller's words and correct the Ingress's annotations or the account";
    AlbFailed, "alb_failed", "ingress", Broken, false,
        "AWS reports the load balancer as failed", "its state",
        "read AWS's reason; a failed load balancer is deleted and made again";
    NoTargetGroup, "no_target_group", "ingress", Broken, false,
        "the load balancer was built without the gateway's target group", "no TargetGroupBinding for the gateway's Service",
        "check that the gateway's Service exists and that the Ingress names it; then touch the Ingress";
    TargetsUnhealthy, "targets_unhealthy", "ingress", Broken, false,
        "no target of the load balancer is healthy", "target health, with AWS's reason",
        "read AWS's reason";
    IngressTimeout, "ingress_timeout", "ingress", TimedOut, false,
        "the load balancer did not serve in time", "the last link that was not there yet",
        "read the last reason; raise `ingress.timeout` if AWS is slow";
    DnsUnresolved, "dns_unresolved", "dns", Environment, false,
        "a name does not resolve", "the resolver's answer",
        "check the record and the agent's resolver";
    HttpStatus, "http_status", "http", Broken, false,
        "the answer's status is not the expected one", "the response",
        "try the printed curl command; read the service's log";
    HttpUnexpected, "http_unexpected", "http", Broken, false,
        "the answer is not the expected one", "header, body or time of the response",
        "try the printed curl command";
    NoRoute, "no_route", "http", Broken, false,
        "the gateway has no route for this host and path", "404 by istio-envoy without an upstream",
        "check hosts and prefixes of the VirtualService and of the Gateway";
    AlbNoRule, "alb_no_rule", "http", Broken, false,
        "the load balancer has no rule for this request", "404 by awselb/2.0 with an empty body",
        "check the Ingress's rules";
    AlbNoTarget, "alb_no_target", "http", Broken, false,
        "the load balancer has no target that answers", "502, 503 or 504 by awselb/2.0, with its own page",
        "look at the target group's health and the gateway's pods";
    NoHealthyUpstream, "no_healthy_upstream", "http", Broken, false,
        "the gateway has no healthy pod to send to", "503 with `no healthy upstream`",
        "check the Service's endpoints and the pods";
    UpstreamFailed, "upstream_failed", "http", Broken, false,
        "the gateway cannot talk to the service's pods", "503 by istio-envoy without an answer of the service",
        "look at the sidecar's and the gateway's logs; `meshstep troubleshoot` tells where it breaks";
    Unavailable, "unavailable", "http", Broken, false,
        "a host did not answer well enough while something was changed behind it", "one probe a second, against `verify.availability`",
        "give the workload more replicas, a readiness probe, a PodDisruptionBudget and a preStop pause; or allow more";
    StaleCertificate, "stale_certificate", "certificate", Broken, true,
        "the workload still has a certificate of a former root", "503 by the gateway, and the sidecar's log or its root proves it",
        "redeploy the service: `meshstep redeploy`";
    StaleGateway, "stale_gateway", "certificate", Broken, true,
        "the gateway still has a former root, so it refuses every workload that has the current one", "the root of the gateway's proxy",
        "restart the gateway alone: `meshstep redeploy`";
    StaleConfigMap, "stale_configmap", "certificate", Broken, false,
        "ConfigMap istio-ca-root-cert does not hold the root that istiod signs with", "it differs from istiod's, or from another namespace's",
        "restart istiod so that it writes it again; a restarted workload would fail the same way";
    CaBroken, "ca_broken", "certificate", Broken, false,
        "no certificates can be had from istiod", "istiod is not available, or its log or a sidecar's says so",
        "bring istiod and its CA in order first";
    LeafExpired, "leaf_expired", "certificate", Broken, false,
        "a workload's certificate has expired and was not renewed", "its proxy's own certificate, or the gateway's log",
        "find out why it was not renewed (istiod, its CA, the service account's token), then restart the workload";
    NodeClock, "node_clock", "certificate", Broken, false,
        "a node's clock is wrong, so certificates seem expired or not valid yet", "the sidecar's log, or the node's lease",
        "correct the nodes' clocks";
    SanMismatch, "identity_mismatch", "certificate", Broken, false,
        "the certificate is trusted, but for another identity", "the gateway's log or body says so",
        "check trustDomain and DestinationRule.subjectAltNames";
    OwnTlsConfig, "own_tls_config", "certificate", Broken, false,
        "a DestinationRule sets TLS of its own towards a service of the mesh", "its `tls.mode`, while all roots are right",
        "check the TLS settings of the DestinationRule";
    TwoControlPlanes, "two_roots", "certificate", Broken, false,
        "two control planes sign with different roots", "their certificates, or the roots of their newest pods",
        "give both the same root, or move the workloads to one of them";
    PlaintextPort, "plaintext_port", "certificate", Broken, false,
        "the gateway speaks TLS to a port that does not", "WRONG_VERSION_NUMBER, or a pod without a sidecar where mTLS is set",
        "check injection, PeerAuthentication, DestinationRule and excluded ports";
    RedeployedInVain, "redeployed_in_vain", "certificate", Broken, false,
        "the workload was restarted for this root already, and the fault is still there", "its pod template carries the annotation of this root",
        "do not restart again: compare the roots with `meshstep troubleshoot certificates`";
    TooManyStale, "too_many_stale", "certificate", Approval, true,
        "more workloads are stale than may be restarted without asking", "`redeploy.max-workloads` or `approve: manual`",
        "read the list; then set `redeploy: {approve: auto, max-workloads: N}` and run `meshstep redeploy`";
    TlsExpired, "expired", "tls", Broken, false,
        "the certificate has expired or is not valid yet", "the handshake",
        "renew the certificate; check the clock";
    TlsName, "hostname", "tls", Broken, false,
        "the certificate is for other names", "the handshake",
        "add the host to the certificate of the listener";
    TlsUntrusted, "untrusted", "tls", Broken, false,
        "the certificate's issuer is not trusted", "the handshake",
        "check the chain, or name the private CA with `--cacert`";
    TlsProtocol, "protocol", "tls", Broken, false,
        "the TLS handshake failed", "the handshake",
        "check that the port speaks TLS and which versions it allows";
    Refused, "refused", "net", Broken, false,
        "nothing listens at the address", "connection refused",
        "check listeners and ports of the load balancer";
    Unreachable, "unreachable", "net", Environment, false,
        "the address cannot be reached", "the network's own error",
        "check routes, security groups and proxies from the agent";
    NoAnswer, "no_answer", "net", Broken, false,
        "the address does not answer in time", "no response within the time limit",
        "check security groups and the target's health";
    FaultInApp, "fault_in_app", "troubleshoot", Broken, false,
        "the fault lies in the app", "the app's own answer, its port, or its pods, from inside the cluster",
        "read the app's log and its pods' events";
    FaultInService, "fault_in_service", "troubleshoot", Broken, false,
        "the fault lies in the Service", "its selector, ports and endpoints against the route and the pods",
        "correct selector, port or targetPort";
    FaultInMesh, "fault_in_mesh", "troubleshoot", Broken, false,
        "the fault lies in the mesh, between the gateway and the pods", "the gateway fails where the pods are ready",
        "compare certificates, PeerAuthentication and DestinationRule";
    FaultInGateway, "fault_in_gateway", "troubleshoot", Broken, false,
        "the fault lies in the gateway", "its node port, asked inside the cluster",
        "look at the gateway's pods, Gateway and VirtualServices";
    FaultInNode, "fault_in_node", "troubleshoot", Broken, false,
        "the fault lies in the nodes or their security group", "the node port answers inside the cluster, or not at all",
        "open the node ports to the load balancer";
    FaultInBalancer, "fault_in_balancer", "troubleshoot", Broken, false,
        "the fault lies in the load balancer", "the gateway's node port answers inside the cluster",
        "look at listeners, rules and target groups";
    FaultUnknown, "fault_unknown", "troubleshoot", Environment, false,
        "the probes do not tell where the fault lies", "their answers do not fit together, or were not got",
        "run it again; read each answer in the case's output";
    ProbeFailed, "probe_failed", "troubleshoot", Environment, false,
        "the probe pod did not run", "its status, or the time limit",
        "name an image that the nodes can pull with `troubleshoot: {image: …}`";
    Locked, "locked", "run", Held, false,
        "another run holds the lock", "the Lease in the cluster",
        "wait for it: its holder and since when are named";
    NotConfirmed, "not_confirmed", "cleanup", Usage, false,
        "a cleanup was not asked for by the cluster's name", "`--yes` does not name the cluster of the file",
        "write `meshstep cleanup --yes CLUSTER` with the cluster's own name";
    ForeignObjects, "foreign_objects", "cleanup", Prerequisite, false,
        "others would lose what they have in the mesh", "objects of Istio, or users of its gateway, that this file did not make",
        "move or remove them first, or destroy them too with `--purge-foreign`";
    LeftBehind, "left_behind", "cleanup", LeftBehind, false,
        "something could not be removed", "it is still there",
        "remove it with the printed command";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_parse_back() {
        for &code in Code::ALL {
            assert_eq!(Code::parse(code.info().name), Some(code));
            assert!(Code::ALL.iter().filter(|other| other.info().name == code.info().name).count() == 1, "{code}");
            assert!(!code.info().next.ends_with('.'), "{code}");
        }
    }
}
