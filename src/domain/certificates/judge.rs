//! From an answer and its evidence to a cause. A restart is proposed only on proof beside the answer's text.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::names::ObjectName;
use crate::domain::certificates::access_log::AccessLog;
use crate::domain::certificates::agent_log::AgentLog;
use crate::domain::certificates::root::{KeyHash, Root};
use crate::domain::verify::answer::{Origin, Reply, TlsReason, origin};

/// Why the gateway and a workload do not trust each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The workload runs with a certificate of a former root. The only cause that restarting the workload cures.
    StaleWorkload,
    /// The gateway is the one with the former root.
    StaleGateway,
    /// The namespace's ConfigMap does not hold the current root: a new pod would start with the wrong one.
    StaleConfigMap,
    /// No certificates can be had from istiod.
    CaBroken,
    LeafExpired,
    ClockSkew,
    /// Trusted, but for another identity.
    SanMismatch,
    /// The Gateway's or a DestinationRule's own TLS settings.
    OwnConfig,
    TwoControlPlanes,
    /// The pod does not speak TLS.
    Plaintext,
    InjectorUntrusted,
    /// Not proven to be about certificates.
    Unknown,
}

impl Cause {
    /// Does restarting the workload cure it?
    pub fn restart_helps(self) -> bool {
        self == Cause::StaleWorkload
    }

    /// What cures it.
    pub fn remedy(self) -> &'static str {
        match self {
            Cause::StaleWorkload => "redeploy the service: `meshstep redeploy`",
            Cause::StaleGateway => {
                "restart the gateway: `kubectl -n istio-system rollout restart deployment/istio-ingressgateway`; with one replica that is an outage"
            }
            Cause::StaleConfigMap => {
                "restart istiod so that it writes the current root into ConfigMap istio-ca-root-cert of the namespace; a restarted workload would fail the same way"
            }
            Cause::CaBroken => "bring istiod and its CA in order first: its log names the fault; a restarted workload would not get a certificate",
            Cause::LeafExpired => {
                "find out why the certificate was not renewed (istiod, its CA, the service account's token); then restart the workload"
            }
            Cause::ClockSkew => "correct the nodes' clocks; a restart does not help",
            Cause::SanMismatch => "check trustDomain and DestinationRule.subjectAltNames; a restart does not help",
            Cause::OwnConfig => "check the TLS settings of the DestinationRule; a restart does not help",
            Cause::TwoControlPlanes => "give both control planes the same root; a restart does not help",
            Cause::Plaintext => {
                "check injection, PeerAuthentication and DestinationRule: the pod does not speak TLS on this port; a restart does not help"
            }
            Cause::InjectorUntrusted => "restart istiod so that it patches its webhook's caBundle; a restart of the service does not help",
            Cause::Unknown => "look at the sidecar's and the gateway's logs: `meshstep troubleshoot`",
        }
    }
}

/// A pod and what is known of its trust.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEvidence {
    pub name: String,
    /// What controls it; `None`: nothing does, or it is not known.
    pub owner: Option<ObjectName>,
    pub started: Option<Timestamp>,
    pub log: AgentLog,
    /// The keys of the roots that its proxy trusts, if they could be read.
    pub roots: Option<Vec<KeyHash>>,
    /// Why log or roots could not be read.
    pub unread: Vec<String>,
}

/// All that is known beside the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub namespace: String,
    pub service: String,
    pub pods: Vec<PodEvidence>,
    pub gateways: Vec<PodEvidence>,
    /// The current root: ConfigMap istio-ca-root-cert of the root namespace.
    pub root: Option<Root>,
    /// The root of the same ConfigMap in the workload's namespace.
    pub namespace_root: Option<Root>,
    pub access_log: AccessLog,
}

/// A cause with what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    pub cause: Cause,
    /// One sentence per proof, or why nothing is proven.
    pub proof: Vec<String>,
    /// The pods it is about.
    pub pods: Vec<String>,
}

impl Judgement {
    /// The proofs as one phrase: the first, and how many more there are.
    pub fn in_short(&self) -> String {
        match self.proof.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            [one, rest @ ..] => format!("{one} ({} more like it)", rest.len()),
        }
    }
}

/// Judges.
pub fn judge(reply: &Reply, evidence: &Evidence) -> Judgement {
    let unknown = |why: &str| Judgement { cause: Cause::Unknown, proof: vec![why.to_owned()], pods: Vec::new() };
    let Origin::Upstream { tls, .. } = origin(reply) else {
        return unknown("the answer is not the gateway's own failure to talk to the pods");
    };
    let refused = evidence.access_log.towards(&evidence.namespace, &evidence.service);
    let reason = tls.or_else(|| refused.last().map(|f| f.reason));
    let all = |cause, proof: String| Judgement { cause, proof: vec![proof], pods: evidence.pods.iter().map(|p| p.name.clone()).collect() };
    match reason {
        Some(TlsReason::Plaintext) => return all(Cause::Plaintext, "the gateway's TLS meets a port that does not speak TLS".to_owned()),
        Some(TlsReason::SanMismatch) => return all(Cause::SanMismatch, "the certificate is trusted, but for another identity".to_owned()),
        Some(TlsReason::Expired) => return all(Cause::LeafExpired, "a certificate between gateway and pod has expired".to_owned()),
        _ => {}
    }
    if let Some((pod, line)) = evidence.pods.iter().find_map(|p| Some((p, p.log.clock.as_ref()?))) {
        return all(Cause::ClockSkew, format!("istio-proxy of {}: {}", pod.name, gist(&line.text)));
    }
    let Some(root) = &evidence.root else {
        return unknown("the current root is not known: ConfigMap istio-ca-root-cert of istio-system was not readable");
    };
    if let Some(namespace_root) = &evidence.namespace_root
        && namespace_root.key != root.key
    {
        let proof = format!(
            "ConfigMap istio-ca-root-cert of {} has the root {}, istio-system has {}",
            evidence.namespace,
            namespace_root.key.short(),
            root.key.short()
        );
        return all(Cause::StaleConfigMap, proof);
    }
    if let Some(judgement) = by_roots(evidence, root).or_else(|| by_agent_log(evidence, root)).or_else(|| by_age(evidence, root, !refused.is_empty()))
    {
        return judgement;
    }
    if let Some((pod, line)) = evidence.pods.iter().find_map(|p| Some((p, p.log.unsigned.as_ref()?))) {
        return all(Cause::CaBroken, format!("istio-proxy of {} gets no certificate: {}", pod.name, gist(&line.text)));
    }
    if !evidence.access_log.on {
        return unknown(
            "neither the sidecar's log nor its root proves a stale certificate, and the gateway's access log is off (switch it on with a Telemetry resource or `meshConfig.accessLogFile`)",
        );
    }
    unknown("neither the sidecar's log, its root nor the gateway's access log proves a stale certificate")
}

/// The sure oracle: the roots that the proxies hold.
fn by_roots(evidence: &Evidence, root: &Root) -> Option<Judgement> {
    let stale = |pods: &[PodEvidence]| -> Vec<String> {
        pods.iter().filter(|p| p.roots.as_ref().is_some_and(|keys| !keys.is_empty() && !keys.contains(&root.key))).map(|p| p.name.clone()).collect()
    };
    let (pods, gateways) = (stale(&evidence.pods), stale(&evidence.gateways));
    let say = |pod: &str| format!("{pod} trusts another root than the current one ({})", root.key.short());
    if !pods.is_empty() {
        return Some(Judgement { cause: Cause::StaleWorkload, proof: pods.iter().map(|p| say(p)).collect(), pods });
    }
    (!gateways.is_empty()).then(|| Judgement { cause: Cause::StaleGateway, proof: gateways.iter().map(|p| say(p)).collect(), pods: gateways })
}

/// The runbook's line. A pod whose roots were read and are current is cleared whatever its log says.
fn by_agent_log(evidence: &Evidence, root: &Root) -> Option<Judgement> {
    let current = |p: &&PodEvidence| p.roots.as_ref().is_some_and(|keys| keys.contains(&root.key));
    let proven: Vec<_> = evidence.pods.iter().filter(|p| !current(p)).filter_map(|p| Some((p, p.log.untrusted.as_ref()?))).collect();
    if proven.is_empty() {
        return None;
    }
    let proof = proven.iter().map(|(pod, line)| format!("istio-proxy of {} says `{}`", pod.name, line.essence())).collect();
    Some(Judgement { cause: Cause::StaleWorkload, proof, pods: proven.iter().map(|(pod, _)| pod.name.clone()).collect() })
}

/// The gateway's log says that verification failed, and one side is older than the root while the other is not.
fn by_age(evidence: &Evidence, root: &Root, refused: bool) -> Option<Judgement> {
    if !refused {
        return None;
    }
    let older = |pods: &[PodEvidence]| -> Vec<String> {
        let read_and_current = |p: &PodEvidence| p.roots.as_ref().is_some_and(|keys| keys.contains(&root.key));
        pods.iter().filter(|p| !read_and_current(p) && p.started.is_some_and(|s| s < root.not_before)).map(|p| p.name.clone()).collect()
    };
    let (pods, gateways) = (older(&evidence.pods), older(&evidence.gateways));
    let say = |pod: &str| {
        format!("the gateway refuses the certificate of {}, and {pod} is older than the current root of {}", evidence.service, root.not_before)
    };
    match (pods.is_empty(), gateways.is_empty()) {
        (false, true) if !evidence.gateways.is_empty() => {
            Some(Judgement { cause: Cause::StaleWorkload, proof: pods.iter().map(|p| say(p)).collect(), pods })
        }
        (true, false) if !evidence.pods.is_empty() => {
            Some(Judgement { cause: Cause::StaleGateway, proof: gateways.iter().map(|p| say(p)).collect(), pods: gateways })
        }
        _ => None,
    }
}

/// A log line without its tail.
fn gist(line: &str) -> String {
    crate::base::text::head(&crate::base::text::one_line(line), 300).into_owned()
}

#[cfg(test)]
mod tests;
