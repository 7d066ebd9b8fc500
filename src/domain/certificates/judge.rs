//! From an answer and its evidence to a cause. A restart is proposed only on proof beside the answer's text.

use serde::{Deserialize, Serialize};

use crate::domain::certificates::agent_log::Line;
use crate::domain::certificates::cause::Cause;
use crate::domain::certificates::evidence::{Evidence, PodEvidence};
use crate::domain::certificates::root::KeyHash;
use crate::domain::verify::answer::{Origin, Reply, TlsReason, origin};

/// How access logging is switched on, for those who have to go without it.
pub const ACCESS_LOG_OFF: &str = "the gateway's access log is off (switch it on with a Telemetry resource in istio-system, `spec: {accessLogging: [{providers: [{name: envoy}]}]}`, or with `meshConfig.accessLogFile=/dev/stdout`)";

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
    pub(super) fn of(cause: Cause, proof: impl Into<String>, pods: &[PodEvidence]) -> Self {
        Self { cause, proof: vec![proof.into()], pods: pods.iter().map(|p| p.name.clone()).collect() }
    }

    pub(super) fn of_pods(cause: Cause, pods: Vec<(&PodEvidence, String)>) -> Option<Self> {
        let (pods, proof): (Vec<String>, Vec<String>) = pods.into_iter().map(|(pod, proof)| (pod.name.clone(), proof)).unzip();
        (!pods.is_empty()).then_some(Self { cause, proof, pods })
    }

    fn of_all(cause: Cause, pods: &[&PodEvidence], proof: Vec<String>) -> Option<Self> {
        (!pods.is_empty()).then(|| Self { cause, proof, pods: pods.iter().map(|p| p.name.clone()).collect() })
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self { cause: Cause::Unknown, proof: vec![why.into()], pods: Vec::new() }
    }

    /// The proofs as one phrase: the first, and how many more there are.
    pub fn in_short(&self) -> String {
        match self.proof.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            [one, rest @ ..] => format!("{one} ({} more like it)", rest.len()),
        }
    }
}

/// Judges an answer.
pub fn judge(reply: &Reply, evidence: &Evidence) -> Judgement {
    let Origin::Upstream { tls, .. } = origin(reply) else {
        return Judgement::unknown("the answer is not the gateway's own failure to talk to the pods");
    };
    let refused = evidence.access_log.towards(&evidence.namespace, &evidence.service);
    let reason = tls.or_else(|| refused.last().map(|f| f.reason));
    match reason {
        Some(TlsReason::Plaintext) => {
            return Judgement::of(Cause::Plaintext, "the gateway's TLS meets a port that does not speak TLS", &evidence.pods);
        }
        Some(TlsReason::SanMismatch) => {
            return Judgement::of(Cause::SanMismatch, "the certificate is trusted, but for another identity", &evidence.pods);
        }
        _ => {}
    }
    if evidence.root.is_none() {
        return clocks(evidence)
            .unwrap_or_else(|| Judgement::unknown("the current root is not known: ConfigMap istio-ca-root-cert of istio-system was not readable"));
    }
    let found = clocks(evidence)
        .or_else(|| conflict(evidence))
        .or_else(|| namespace_root(evidence, &evidence.namespace))
        .or_else(|| by_roots(evidence))
        .or_else(|| expired(evidence, reason))
        .or_else(|| by_agent_log(evidence))
        .or_else(|| by_age(evidence, refused.iter().any(|f| f.reason == TlsReason::VerifyFailed)))
        .or_else(|| ca_broken(evidence))
        .or_else(|| own_config(evidence));
    found.unwrap_or_else(|| Judgement::unknown(why_unknown(evidence)))
}

/// Why none of it is proof.
fn why_unknown(evidence: &Evidence) -> String {
    let read = |pods: &[PodEvidence]| !pods.is_empty() && pods.iter().all(|p| p.roots.is_some());
    let roots = if read(&evidence.pods) && read(&evidence.gateways) {
        "gateway and pods hold roots that trust each other"
    } else {
        "the roots of gateway and pods could not all be read, and no log proves a stale certificate"
    };
    if evidence.access_log.on {
        format!("{roots}, and the gateway's access log tells of no refused certificate of this service")
    } else {
        format!("{roots}; {ACCESS_LOG_OFF}")
    }
}

/// A proxy says that a certificate is not valid yet or not any more by its own clock.
pub(super) fn clocks(evidence: &Evidence) -> Option<Judgement> {
    let (pod, line) = evidence.pods.iter().chain(&evidence.gateways).find_map(|p| Some((p, p.log.clock.as_ref()?)))?;
    Some(Judgement::of(Cause::ClockSkew, format!("istio-proxy of {}: {}", pod.name, gist(&line.text)), std::slice::from_ref(pod)))
}

/// ConfigMap, istiod and the newest pod must agree on the root: else nobody knows which one a new pod would get.
pub(super) fn conflict(evidence: &Evidence) -> Option<Judgement> {
    let root = evidence.root.as_ref()?;
    let mut planes = evidence.planes.iter().filter(|p| p.available).filter_map(|p| Some((p, p.leaf.as_ref()?.is_of(root)?)));
    if let (Some((a, true)), Some((b, false))) | (Some((b, false)), Some((a, true))) = (planes.next(), planes.next()) {
        let proof = format!("{} signs with the root {}, {} with another", a.name, root.key.short(), b.name);
        return Some(Judgement::of(Cause::TwoControlPlanes, proof, &[]));
    }
    let since: Vec<&PodEvidence> = evidence
        .pods
        .iter()
        .chain(&evidence.gateways)
        .filter(|p| p.ready && p.roots.is_some() && p.started.zip(evidence.made()).is_some_and(|(started, made)| started >= made))
        .collect();
    let agrees = |p: &PodEvidence| p.roots.iter().flatten().any(|key| evidence.is_current(key));
    let newest = since.iter().max_by_key(|p| p.started).copied();
    // One pod that is otherwise than its like is its own fault; if all are, the ConfigMap is wrong.
    let like = |p: &PodEvidence| since.iter().any(|other| agrees(other) && other.revision == p.revision);
    let confirmed = evidence.planes.iter().any(|p| p.available && p.leaf.as_ref().is_some_and(|l| l.is_of(root) == Some(true)));
    let other = |p: &PodEvidence| since.iter().any(|other| agrees(other) && other.revision != p.revision);
    if let Some(pod) = newest.filter(|p| !agrees(p) && !like(p) && (!confirmed || other(p))) {
        let theirs = pod.roots.iter().flatten().next().map(KeyHash::short).unwrap_or_default();
        let proof = format!(
            "ConfigMap istio-ca-root-cert of istio-system has the root {}, but {}, which started since it was made, got {theirs}",
            root.key.short(),
            pod.name,
        );
        let cause = if other(pod) { Cause::TwoControlPlanes } else { Cause::StaleConfigMap };
        return Some(Judgement::of(cause, proof, &[]));
    }
    let plane = evidence.planes.iter().filter(|p| p.available).find(|p| p.leaf.as_ref().is_some_and(|l| l.is_of(root) == Some(false)))?;
    // A pod that got the ConfigMap's root from this very istiod outweighs the certificate of its server, which may have another issuer.
    if newest.and_then(|p| p.started).zip(plane.started).is_some_and(|(pod, istiod)| pod > istiod) {
        return None;
    }
    let proof =
        format!("ConfigMap istio-ca-root-cert of istio-system has the root {}, but {} shows a certificate of another", root.key.short(), plane.name);
    Some(Judgement::of(Cause::StaleConfigMap, proof, &[]))
}

/// The root in the workload's own namespace is what its next pod starts with.
pub(super) fn namespace_root(evidence: &Evidence, namespace: &str) -> Option<Judgement> {
    let root = evidence.root.as_ref()?;
    let pods: Vec<PodEvidence> = evidence.pods.iter().filter(|p| p.namespace == namespace || p.namespace.is_empty()).cloned().collect();
    match evidence.namespace_roots.get(namespace)? {
        Some(keys) if keys.iter().any(|key| evidence.is_current(key)) => None,
        Some(keys) => {
            let here = keys.first().map(KeyHash::short).unwrap_or_default();
            let proof = format!("ConfigMap istio-ca-root-cert of {namespace} has the root {here}, istio-system has {}", root.key.short());
            Some(Judgement::of(Cause::StaleConfigMap, proof, &pods))
        }
        None => Some(Judgement::of(Cause::StaleConfigMap, format!("namespace {namespace} has no ConfigMap istio-ca-root-cert"), &pods)),
    }
}

/// The sure oracle: the roots and certificates that the proxies hold. A gateway and a pod that trust each other are not the fault, old as they may be.
pub(super) fn by_roots(evidence: &Evidence) -> Option<Judgement> {
    let root = evidence.root.as_ref()?;
    let stale = |pod: &&PodEvidence| evidence.holds_current(pod) == Some(false);
    let (pods, gateways): (Vec<_>, Vec<_>) = (evidence.pods.iter().filter(stale).collect(), evidence.gateways.iter().filter(stale).collect());
    let refused = |gateway: &PodEvidence, pod: &PodEvidence| evidence.accepts(gateway, pod) == Some(false);
    let guilty: Vec<_> = gateways.into_iter().filter(|g| evidence.pods.iter().any(|p| refused(g, p))).collect();
    let told =
        |pod: &PodEvidence| pod.log.untrusted.as_ref().map(|line| format!(", and its istio-proxy says `{}`", line.essence())).unwrap_or_default();
    let say = |pod: &&PodEvidence| format!("{} {}{}", pod.name, held(evidence, pod, root.key.short()), told(pod));
    let said = |pods: Vec<&PodEvidence>| pods.iter().map(say).collect();
    if let Some(found) = Judgement::of_all(Cause::StaleGateway, &guilty, said(guilty.clone())) {
        return Some(found);
    }
    let judged_alone = evidence.gateways.iter().all(|g| g.roots.is_none());
    let guilty: Vec<_> = pods.into_iter().filter(|p| judged_alone || evidence.gateways.iter().any(|g| refused(g, p))).collect();
    Judgement::of_all(Cause::StaleWorkload, &guilty, said(guilty.clone()))
}

/// What a stale proxy holds instead.
pub(super) fn held(evidence: &Evidence, pod: &PodEvidence, current: &str) -> String {
    let trusted = pod.roots.iter().flatten().map(KeyHash::short).collect::<Vec<_>>().join(", ");
    if pod.roots.iter().flatten().any(|key| evidence.is_current(key)) {
        let issuer = pod.leaf.as_ref().and_then(|l| l.issuer_key.as_ref()).map_or("another", KeyHash::short);
        format!("has a certificate signed by the root {issuer}, and the current one is {current}")
    } else {
        format!("trusts another root ({trusted}) than the current one ({current})")
    }
}

pub(super) fn expired(evidence: &Evidence, reason: Option<TlsReason>) -> Option<Judgement> {
    let late = evidence.pods.iter().chain(&evidence.gateways).filter(|p| evidence.has_expired(p));
    let say = |pod: &PodEvidence| {
        let until = pod.leaf.as_ref().map(|l| l.not_after.to_string()).unwrap_or_default();
        let why = pod.log.unsigned.as_ref().map(|line| format!("; its proxy says: {}", gist(&line.text))).unwrap_or_default();
        format!("the certificate of {} was valid until {until}{why}", pod.name)
    };
    let found = Judgement::of_pods(Cause::LeafExpired, late.map(|p| (p, say(p))).collect());
    let told = || Judgement::of(Cause::LeafExpired, "a certificate between gateway and pod has expired", &evidence.pods);
    found.or_else(|| (reason == Some(TlsReason::Expired)).then(told))
}

/// The runbook's line. A pod whose proxy is known to hold the current root is cleared whatever its log says.
fn by_agent_log(evidence: &Evidence) -> Option<Judgement> {
    let told = |p: &PodEvidence| p.log.untrusted.as_ref().map(|line: &Line| format!("istio-proxy of {} says `{}`", p.name, line.essence()));
    let pods = evidence.pods.iter().filter(|p| evidence.holds_current(p) != Some(true));
    let found: Vec<(&PodEvidence, String)> = pods.filter_map(|p| Some((p, told(p)?))).collect();
    // The line says that the pod does not trust istiod. That is its own fault only if the gateway is not in the same state.
    let gateway = evidence.gateways.iter().any(|g| evidence.holds_current(g) == Some(false) || evidence.is_older(g));
    if gateway { None } else { Judgement::of_pods(Cause::StaleWorkload, found) }
}

/// The gateway's log says that verification failed, and one side is older than the root while the other is not.
fn by_age(evidence: &Evidence, refused: bool) -> Option<Judgement> {
    let made = evidence.made().filter(|_| refused && !evidence.pods.is_empty() && !evidence.gateways.is_empty())?;
    let old = |pod: &&PodEvidence| evidence.holds_current(pod) != Some(true) && evidence.is_older(pod);
    let (pods, gateways): (Vec<_>, Vec<_>) = (evidence.pods.iter().filter(old).collect(), evidence.gateways.iter().filter(old).collect());
    let all_known = evidence.pods.iter().chain(&evidence.gateways).all(|p| p.started.is_some());
    let service = &evidence.service;
    let said = |pods: &[&PodEvidence]| {
        let say = |pod: &&PodEvidence| {
            format!("the gateway refuses the certificate of {service}, and {} is older than the current root of {made}", pod.name)
        };
        pods.iter().map(say).collect()
    };
    let (cause, old) = match (pods.is_empty(), gateways.is_empty()) {
        (false, true) => (Cause::StaleWorkload, pods),
        (true, false) => (Cause::StaleGateway, gateways),
        _ => return None,
    };
    Judgement::of_all(cause, &old, said(&old)).filter(|_| all_known)
}

/// Nobody signs.
pub(super) fn ca_broken(evidence: &Evidence) -> Option<Judgement> {
    if let Some((pod, line)) = evidence.pods.iter().find_map(|p| Some((p, p.log.unsigned.as_ref()?))) {
        let proof = format!("istio-proxy of {} gets no certificate: {}", pod.name, gist(&line.text));
        return Some(Judgement::of(Cause::CaBroken, proof, std::slice::from_ref(pod)));
    }
    istiod(evidence)
}

/// What istiod itself shows.
pub(super) fn istiod(evidence: &Evidence) -> Option<Judgement> {
    if let Some((plane, line)) = evidence.planes.iter().find_map(|p| Some((p, p.complaints.last()?))) {
        return Some(Judgement::of(Cause::CaBroken, format!("the log of {} says: {}", plane.name, gist(line)), &[]));
    }
    let down = !evidence.planes.is_empty() && evidence.planes.iter().all(|p| !p.available);
    down.then(|| Judgement::of(Cause::CaBroken, format!("{} is not available", evidence.planes[0].name), &[]))
}

/// All roots are right: then it is a rule that makes the gateway ask for another certificate, or for one where there is none.
fn own_config(evidence: &Evidence) -> Option<Judgement> {
    let rule = evidence.rule.as_ref()?;
    let mode = rule.mode.as_str();
    if mode == "ISTIO_MUTUAL" && evidence.pods.iter().any(|p| !p.proxied) {
        let proof = format!("DestinationRule {} asks for the mesh's mTLS, and the pods have no sidecar", rule.name);
        return Some(Judgement::of(Cause::Plaintext, proof, &evidence.pods));
    }
    if rule.names_identities {
        let proof = format!("DestinationRule {} names the identities that are accepted (subjectAltNames)", rule.name);
        return Some(Judgement::of(Cause::SanMismatch, proof, &evidence.pods));
    }
    let own = matches!(mode, "SIMPLE" | "MUTUAL" | "DISABLE") && evidence.pods.iter().any(|p| p.proxied);
    let ca = if rule.own_ca { " with a CA of its own" } else { "" };
    own.then(|| {
        Judgement::of(Cause::OwnConfig, format!("DestinationRule {} sets `tls.mode: {mode}`{ca} towards pods of the mesh", rule.name), &evidence.pods)
    })
}

/// A log line without its tail.
pub(super) fn gist(line: &str) -> String {
    crate::base::text::head(&crate::base::text::one_line(line), 300).into_owned()
}

#[cfg(test)]
pub(super) mod tests;
