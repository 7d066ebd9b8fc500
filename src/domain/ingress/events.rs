//! What the load balancer controller says in its events: what will never heal by waiting, what will, and what is not about us.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// An event on an Ingress or a TargetGroupBinding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub warning: bool,
    pub reason: String,
    pub message: String,
    /// When it was last seen, to the second.
    pub last: Option<Timestamp>,
    /// It was written before the newest change of its object, whatever the clocks say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub before: bool,
}

/// What an event means for the wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Waiting is pointless; what to do.
    Permanent(&'static str),
    /// It heals by itself, or may.
    Transient,
    /// The controller is content: necessary, not sufficient.
    Reconciled,
    /// About another Ingress of the group, which blocks ours too: `the Ingress NAMESPACE/NAME`.
    OfAnother(String),
    Ignored,
}

/// The Ingress that an event is on.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// It shares its load balancer.
    pub in_group: bool,
    /// The certificates that it names, as its annotation has them.
    pub certificates: &'a str,
}

/// Causes that pass: throttling, time-outs, AWS's own errors, lost connections and credentials, conflicts of writers.
const TRANSIENT: [&str; 28] = [
    "throttling",
    "rate exceeded",
    "requestlimitexceeded",
    "too many requests",
    "dependencyviolation",
    "timed out",
    "i/o timeout",
    "handshake timeout",
    "client.timeout",
    "deadline exceeded",
    "context canceled",
    "request canceled",
    "connection refused",
    "connection reset",
    "connection lost",
    "broken pipe",
    "no route to host",
    "no such host",
    "server misbehaving",
    ": eof",
    "unexpected eof",
    "failed to refresh cached credentials",
    "failed to retrieve credentials",
    "statuscode: 5",
    "etcdserver: ",
    "the object has been modified",
    "priorityinuse",
    "resourceinuse",
];

const IAM: &str = "give the controller's IAM role the right that AWS names";
const QUOTA: &str = "raise the AWS quota that is named, or remove what is no longer used";

/// What AWS refuses for good when the model is deployed, and what helps; the first that is found. That it does not know what was made
/// a moment ago is none of these.
const REFUSED_BY_AWS: [(&str, &str); 10] = [
    ("certificatenotfound", "correct `alb.ingress.kubernetes.io/certificate-arn`: the certificate must be in this account and Region"),
    ("unsupportedcertificate", "use an issued certificate of a supported key type in `alb.ingress.kubernetes.io/certificate-arn`"),
    ("a certificate must be specified", "give the HTTPS listener a certificate (`alb.ingress.kubernetes.io/certificate-arn`)"),
    ("sslpolicynotfound", "correct `alb.ingress.kubernetes.io/ssl-policy`: AWS has no TLS policy of this name"),
    ("accessdenied", IAM),
    ("unauthorizedoperation", IAM),
    ("invalidsubnet", "name two subnets in two zones of this VPC, with free addresses, in `alb.ingress.kubernetes.io/subnets`"),
    ("toomany", QUOTA),
    ("securitygrouplimitexceeded", QUOTA),
    ("invalidconfigurationrequest", "correct what AWS names in the Ingress's annotations"),
];

/// What is wrong with the Ingress or with what it names, and what helps, by the cause's words; the first that is found.
const ADVICE: [(&str, &str); 16] = [
    ("conflicting", "make the annotations of all Ingresses of the group agree"),
    ("invalid ingress class", "correct the Ingress's class (`kubernetes.io/ingress.class` or `spec.ingressClassName`)"),
    (
        "subnet",
        "tag two subnets in two zones for this cluster (`kubernetes.io/role/elb` or `internal-elb`), or name them in `alb.ingress.kubernetes.io/subnets`",
    ),
    ("no certificate found for host", "issue a certificate for this host in ACM, or name one in `alb.ingress.kubernetes.io/certificate-arn`"),
    (
        "healthcheckport",
        "correct `alb.ingress.kubernetes.io/healthcheck-port`: a port name or number of the gateway's Service, such as `status-port`",
    ),
    ("unable to find port", "correct the port of the Ingress's backend: it must be a port of the gateway's Service"),
    ("targetgroup port is empty", "make the gateway's Service a NodePort: `values.gateways.istio-ingressgateway.type=NodePort`"),
    ("unknown scheme", "write `internet-facing` or `internal` in `alb.ingress.kubernetes.io/scheme`"),
    ("unknown targettype", "write `instance` or `ip` in `alb.ingress.kubernetes.io/target-type`"),
    ("listen-ports", "correct `alb.ingress.kubernetes.io/listen-ports`, e.g. `[{\"HTTP\":80},{\"HTTPS\":443}]`"),
    ("sslredirect", "let `alb.ingress.kubernetes.io/ssl-redirect` name an HTTPS port of `listen-ports`"),
    ("security group", "correct `alb.ingress.kubernetes.io/security-groups`"),
    ("invalidgroup", "correct `alb.ingress.kubernetes.io/security-groups`"),
    ("not authorized", IAM),
    ("validationerror", "correct what AWS names in the Ingress's annotations"),
    ("not found", "correct the name in the Ingress, or create what it names"),
];

const GENERAL: &str =
    "read the controller's words and correct the Ingress or the account; then touch the Ingress, for the controller retries with long pauses";

/// Says what an event on the Ingress means.
pub fn meaning(event: &Event, ours: Ours<'_>) -> Meaning {
    if !event.warning {
        return if event.reason == "SuccessfullyReconciled" { Meaning::Reconciled } else { Meaning::Ignored };
    }
    if let Some(other) = other_ingress(&event.message, ours).or_else(|| others_certificate(&event.message, ours)) {
        return Meaning::OfAnother(other);
    }
    let words = event.message.to_lowercase();
    let transient = TRANSIENT.iter().any(|cause| words.contains(cause));
    let said = |table: &[(&str, &'static str)]| table.iter().find(|(cause, _)| words.contains(cause)).map(|(_, advice)| *advice);
    // Which Ingress of a group names that policy is not told.
    let of_any = ours.in_group && words.contains("sslpolicynotfound");
    let by_aws = said(&REFUSED_BY_AWS).filter(|_| !of_any);
    match event.reason.as_str() {
        "FailedLoadGroupID" | "FailedBuildModel" if !transient => Meaning::Permanent(by_aws.or_else(|| said(&ADVICE)).unwrap_or(GENERAL)),
        // Other words of AWS are given the time of the whole wait.
        "FailedDeployModel" if !transient => by_aws.map_or(Meaning::Transient, Meaning::Permanent),
        "FailedLoadGroupID" | "FailedBuildModel" | "FailedDeployModel" | "FailedAddFinalizer" | "FailedRemoveFinalizer" | "FailedUpdateStatus" => {
            Meaning::Transient
        }
        _ => Meaning::Ignored,
    }
}

/// The Ingress of the group that a message is about, if it is not ours: `… due to ingress: ns/name: …`.
fn other_ingress(message: &str, Ours { namespace, name, .. }: Ours<'_>) -> Option<String> {
    let from = message.find("ingress: ")? + "ingress: ".len();
    let about = message[from..].split(": ").next()?;
    let is_name = about.split_once('/').is_some_and(|(ns, n)| !ns.is_empty() && !n.is_empty() && !about.contains(' '));
    (is_name && about != format!("{namespace}/{name}")).then(|| format!("the Ingress {about}"))
}

/// What AWS refuses for a group is told to all its members, without a name: `CertificateNotFound: Certificate 'ARN' not found`.
fn others_certificate(message: &str, Ours { in_group, certificates, .. }: Ours<'_>) -> Option<String> {
    let (_, refused) = message.split_once("CertificateNotFound").filter(|_| in_group)?;
    let from = refused.find("arn:")?;
    let arn = refused[from..].split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ',')).next()?;
    (!certificates.split(',').any(|own| own.trim() == arn)).then(|| "another Ingress".to_owned())
}

/// The newest event that counts: not older than what was last applied (clocks of API server and controller may differ by 2 s).
pub fn newest(events: &[Event], applied: Option<Timestamp>) -> Option<&Event> {
    let known = |e: &&Event| matches!(e.reason.as_str(), "SuccessfullyReconciled") || e.reason.starts_with("Failed");
    let counts = |e: &&Event| match (e.last, applied) {
        (Some(last), Some(applied)) => last >= applied.checked_sub(SignedDuration::from_secs(2)).unwrap_or(applied),
        _ => true,
    };
    events.iter().filter(known).filter(counts).max_by_key(|e| e.last)
}

/// The controller's words without the request ID, which differs at each try.
pub fn words(event: &Event) -> String {
    static REQUEST: std::sync::LazyLock<regex::Regex> =
        std::sync::LazyLock::new(|| regex::Regex::new(r",? ?RequestID: [\w-]+").expect("the pattern is valid"));
    REQUEST.replace_all(&crate::base::text::one_line(&event.message), "").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Ours<'_> = Ours { namespace: "istio-system", name: "gw-ingress", in_group: false, certificates: "" };

    fn warning(reason: &str, message: &str) -> Event {
        Event { warning: true, reason: reason.into(), message: message.into(), last: None, before: false }
    }

    #[test]
    fn permanent_causes_end_the_wait_and_transient_ones_do_not() {
        for (reason, message, permanent) in [
            ("FailedLoadGroupID", "failed load groupID due to invalid ingress class: IngressClass.networking.k8s.io \"nosuch\" not found", true),
            (
                "FailedDeployModel",
                "Failed deploy model due to operation error Elastic Load Balancing v2: CreateListener, https response error StatusCode: 400, RequestID: 1-2, CertificateNotFound: Certificate 'arn' not found",
                true,
            ),
            (
                "FailedDeployModel",
                "Failed deploy model due to operation error Elastic Load Balancing v2: CreateListener, https response error StatusCode: 400, RequestID: x, api error ValidationError: A certificate must be specified for HTTPS listeners",
                true,
            ),
            (
                "FailedDeployModel",
                "Failed deploy model due to operation error Elastic Load Balancing v2: CreateLoadBalancer, api error AccessDenied: User is not authorized",
                true,
            ),
            (
                "FailedDeployModel",
                "Failed deploy model due to operation error Elastic Load Balancing v2: CreateLoadBalancer, api error Throttling: Rate exceeded",
                false,
            ),
            ("FailedDeployModel", "Failed deploy model due to https response error StatusCode: 503, ServiceUnavailable", false),
            ("FailedDeployModel", "Failed deploy model due to DependencyViolation: resource sg-1 has a dependent object", false),
            ("FailedDeployModel", "Failed deploy model due to a thing nobody has seen", false),
            // What was made a moment ago is not known everywhere yet.
            (
                "FailedDeployModel",
                "Failed deploy model due to operation error Elastic Load Balancing v2: CreateListener, https response error StatusCode: 400, TargetGroupNotFound: Target groups 'arn:tg' not found",
                false,
            ),
            ("FailedDeployModel", "Failed deploy model due to InvalidGroup.NotFound: The security group 'sg-1' does not exist", false),
            ("FailedDeployModel", "Failed deploy model due to UnsupportedCertificate: The certificate's key is too long", true),
            (
                "FailedDeployModel",
                "Failed deploy model due to api error UnauthorizedOperation: You are not authorized to perform this operation",
                true,
            ),
            ("FailedDeployModel", "Failed deploy model due to InvalidSubnet: Not enough IP space available in subnet-1", true),
            ("FailedDeployModel", "Failed deploy model due to TooManyLoadBalancers: The maximum number of load balancers was reached", true),
            ("FailedDeployModel", "Failed deploy model due to api error RulesPerSecurityGroupLimitExceeded: The maximum number of rules", true),
            ("FailedDeployModel", "Failed deploy model due to api error RequestLimitExceeded: Request limit exceeded", false),
            ("FailedDeployModel", "Failed deploy model due to InvalidConfigurationRequest: The protocol is not valid", true),
            ("FailedDeployModel", "Failed deploy model due to api error ValidationError: 'x' is not there yet", false),
            (
                "FailedDeployModel",
                "Failed deploy model due to get identity: get credentials: failed to refresh cached credentials, operation error STS: AssumeRoleWithWebIdentity, AccessDenied: Not authorized",
                false,
            ),
            ("FailedBuildModel", "Failed build model due to ingress: istio-system/gw-ingress: Service \"nosuch\" not found", true),
            (
                "FailedBuildModel",
                "Failed build model due to ingress: istio-system/gw-ingress: unable to find port 9999 on service istio-system/istio-ingressgateway",
                true,
            ),
            (
                "FailedBuildModel",
                "Failed build model due to ingress: istio-system/gw-ingress: failed to resolve healthCheckPort: unable to find port nosuch on service x/y",
                true,
            ),
            (
                "FailedBuildModel",
                "Failed build model due to ingress: istio-system/gw-ingress: TargetGroup port is empty. When using Instance targets, your service be must of type 'NodePort' or 'LoadBalancer'",
                true,
            ),
            ("FailedBuildModel", "Failed build model due to subnets count less than minimal required count: 1 < 2", true),
            (
                "FailedBuildModel",
                "Failed build model due to couldn't auto-discover subnets: unable to resolve at least one subnet. Evaluated 2 subnets: 2 are tagged for other clusters",
                true,
            ),
            (
                "FailedBuildModel",
                "Failed build model due to failed to list subnets by names or IDs: operation error EC2: DescribeSubnets, https response error StatusCode: 400, api error InvalidSubnetID.NotFound: The subnet ID 'subnet-1' does not exist",
                true,
            ),
            ("FailedBuildModel", "Failed build model due to unknown scheme: public", true),
            ("FailedBuildModel", "Failed build model due to failed to parse listen-ports configuration: `80`: json: cannot unmarshal number", true),
            (
                "FailedBuildModel",
                "Failed build model due to operation error EC2: DescribeSubnets, exceeded maximum number of attempts, RequestLimitExceeded",
                false,
            ),
            // The way to AWS or to the API server is disturbed.
            ("FailedBuildModel", "Failed build model due to Post \"https://ec2.eu-west-1.amazonaws.com/\": net/http: TLS handshake timeout", false),
            ("FailedBuildModel", "Failed build model due to Post \"https://ec2.eu-west-1.amazonaws.com/\": EOF", false),
            (
                "FailedBuildModel",
                "Failed build model due to Get \"https://10.0.0.1/\": net/http: request canceled while waiting for connection",
                false,
            ),
            ("FailedBuildModel", "Failed build model due to etcdserver: request timed out", false),
            ("FailedBuildModel", "Failed build model due to dial tcp 10.0.0.1:443: connect: connection refused", false),
            (
                "FailedBuildModel",
                "Failed build model due to operation error EC2: DescribeSubnets, get identity: failed to refresh cached credentials, no EC2 IMDS role found",
                false,
            ),
            ("FailedLoadGroupID", "failed load groupID due to Get \"https://10.0.0.1/\": dial tcp 10.0.0.1:443: i/o timeout", false),
            ("FailedBuildModel", "Failed build model due to ingress: istio-system/gw-ingress: invalid idle_timeout.timeout_seconds: geofenced", true),
            ("FailedAddFinalizer", "Failed add finalizer due to conflict", false),
            ("FailedUpdateStatus", "Failed update status due to the object has been modified", false),
        ] {
            let found = meaning(&warning(reason, message), OURS);
            assert_eq!(matches!(found, Meaning::Permanent(_)), permanent, "{message}: {found:?}");
            assert!(permanent || found == Meaning::Transient, "{message}: {found:?}");
        }
    }

    #[test]
    fn advice_fits_the_cause() {
        let advice = |message: &str| meaning(&warning("FailedBuildModel", message), OURS);
        let Meaning::Permanent(text) = advice(
            "Failed build model due to ingress: istio-system/gw-ingress: failed to resolve healthCheckPort: unable to find port nosuch on service",
        ) else {
            panic!("permanent")
        };
        assert!(text.contains("healthcheck-port"));
        for conflict in [
            "Failed build model due to failed to merge listenPort config for port: 80: conflicting protocol, a/listen-ports: HTTP | a/web: HTTPS",
            "Failed build model due to conflicting scheme: map[internal:{} internet-facing:{}]",
            "Failed build model due to conflicting subnets: [subnet-1] | [subnet-2]",
        ] {
            assert_eq!(advice(conflict), Meaning::Permanent("make the annotations of all Ingresses of the group agree"));
        }
        let Meaning::Permanent(text) = advice("x TargetGroup port is empty.") else { panic!("permanent") };
        assert!(text.contains("NodePort"));
    }

    #[test]
    fn another_teams_fault_is_not_ours() {
        let event = warning("FailedBuildModel", "Failed build model due to ingress: team-b/web: unable to find port 1 on service team-b/web");
        assert_eq!(meaning(&event, OURS), Meaning::OfAnother("the Ingress team-b/web".into()));
    }

    #[test]
    fn a_tls_policy_that_does_not_exist_is_ours_where_we_are_alone() {
        let event = warning("FailedDeployModel", "Failed deploy model due to x, SSLPolicyNotFound: SSL policy 'nosuch' not found");
        assert!(matches!(meaning(&event, OURS), Meaning::Permanent(advice) if advice.contains("ssl-policy")));
        assert_eq!(meaning(&event, Ours { in_group: true, ..OURS }), Meaning::Transient);
    }

    #[test]
    fn a_certificate_that_we_do_not_name_is_anothers_of_the_group() {
        let event = warning("FailedDeployModel", "Failed deploy model due to x, CertificateNotFound: Certificate 'arn:aws:acm:b' not found");
        for (in_group, certificates, is_ours) in [
            (true, "arn:aws:acm:a", false),
            (true, "", false),
            (true, "arn:aws:acm:a, arn:aws:acm:b", true),
            // Alone on its load balancer it is its own, also where it was discovered.
            (false, "", true),
        ] {
            let found = meaning(&event, Ours { in_group, certificates, ..OURS });
            assert_eq!(matches!(found, Meaning::Permanent(_)), is_ours, "{certificates} {found:?}");
            assert!(is_ours || found == Meaning::OfAnother("another Ingress".into()), "{found:?}");
        }
    }

    #[test]
    fn events_before_the_apply_do_not_count() {
        let at = |second| Timestamp::from_second(second).ok();
        let old = Event { last: at(100), ..warning("FailedBuildModel", "old") };
        let new = Event { last: at(200), warning: false, ..warning("SuccessfullyReconciled", "new") };
        let both = [old.clone(), new.clone()];
        assert_eq!(newest(&both, at(150)), Some(&new));
        assert_eq!(newest(std::slice::from_ref(&old), at(150)), None);
        assert_eq!(newest(std::slice::from_ref(&old), at(101)), Some(&old));
        assert_eq!(newest(&both, None), Some(&new));
    }

    #[test]
    fn the_request_id_is_left_out() {
        let event = warning("FailedDeployModel", "https response error StatusCode: 400, RequestID: 1f-2, CertificateNotFound: x");
        assert_eq!(words(&event), "https response error StatusCode: 400, CertificateNotFound: x");
    }
}
