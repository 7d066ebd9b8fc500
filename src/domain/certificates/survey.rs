//! The whole mesh at a look, without an answer to explain: one row per pod, and every finding with its cause.

use serde::{Deserialize, Serialize};

use crate::domain::certificates::cause::Cause;
use crate::domain::certificates::evidence::{Evidence, PodEvidence};
use crate::domain::certificates::judge::{Judgement, clocks, conflict, expired, gist, held, istiod, namespace_root};
use crate::domain::certificates::root::KeyHash;

/// A pod in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `prod/app1-service-5d9c`
    pub pod: String,
    pub root: String,
    pub issuer: String,
    pub until: String,
    pub verdict: String,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub judgement: Judgement,
    /// Does it break requests now? Else it will, with the next restart or renewal.
    pub now: bool,
}

/// A row for each pod, gateways first.
pub fn rows(evidence: &Evidence) -> Vec<Row> {
    evidence.gateways.iter().chain(&evidence.pods).map(|pod| row(evidence, pod)).collect()
}

fn row(evidence: &Evidence, pod: &PodEvidence) -> Row {
    let unread = || "?".to_owned();
    let short = |key: &KeyHash| key.short().to_owned();
    Row {
        pod: format!("{}/{}", pod.namespace, pod.name),
        root: pod.roots.as_ref().map_or_else(unread, |keys| keys.iter().map(short).collect::<Vec<_>>().join("+")),
        issuer: pod.leaf.as_ref().map_or_else(unread, |l| l.issuer_key.as_ref().map_or_else(|| l.issuer.clone(), short)),
        until: pod.leaf.as_ref().map_or_else(unread, |l| l.not_after.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        verdict: verdict(evidence, pod),
    }
}

/// One pod by itself.
pub fn verdict(evidence: &Evidence, pod: &PodEvidence) -> String {
    if !pod.proxied {
        return "no sidecar".to_owned();
    }
    let state = if evidence.root.is_none() {
        "the current root is not known".to_owned()
    } else if evidence.holds_current(pod) == Some(false) {
        let newer = if evidence.is_older(pod) { ", older than the root" } else { "" };
        format!("STALE{newer}")
    } else if evidence.has_expired(pod) {
        "EXPIRED".to_owned()
    } else if evidence.holds_current(pod) == Some(true) {
        "current".to_owned()
    } else if pod.log.untrusted.is_some() {
        "not read; its log says that it does not trust istiod".to_owned()
    } else if evidence.is_older(pod) {
        "not read; older than the root".to_owned()
    } else {
        "not read".to_owned()
    };
    if pod.ready { state } else { format!("{state}, not ready") }
}

/// The rows as a text table.
pub fn table(rows: &[Row]) -> Vec<String> {
    let cells = |row: &Row| [row.pod.clone(), row.root.clone(), row.issuer.clone(), row.until.clone(), row.verdict.clone()];
    let head = ["pod", "root", "certificate by", "until", "verdict"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let text = |line: &[String; 5]| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(text).collect()
}

/// Everything that is wrong, the most general first.
pub fn findings(evidence: &Evidence) -> Vec<Finding> {
    let Some(root) = &evidence.root else {
        let proof = "ConfigMap istio-ca-root-cert of istio-system is not there or not readable".to_owned();
        return vec![Finding { judgement: Judgement { cause: Cause::StaleConfigMap, proof: vec![proof], pods: Vec::new() }, now: true }];
    };
    let mut found: Vec<Finding> = Vec::new();
    let mut add = |judgement: Option<Judgement>, now: bool| found.extend(judgement.map(|judgement| Finding { judgement, now }));
    add(istiod(evidence), true);
    add(conflict(evidence), true);
    for namespace in evidence.namespace_roots.keys() {
        add(namespace_root(evidence, namespace), true);
    }
    add(injector(evidence), true);
    add(clocks(evidence), true);
    let stale = |pods: &[PodEvidence]| -> Vec<PodEvidence> {
        pods.iter().filter(|p| p.proxied && evidence.holds_current(p) == Some(false)).cloned().collect()
    };
    let refused = |gateway: &PodEvidence, pod: &PodEvidence| evidence.accepts(gateway, pod) == Some(false);
    let say = |pod: &PodEvidence| format!("{}/{} {}", pod.namespace, pod.name, held(evidence, pod, root.key.short()));
    let judged = |cause: Cause, pods: &[PodEvidence]| Judgement::of_pods(cause, pods.iter().map(|p| (p, say(p))).collect());
    let gateways = stale(&evidence.gateways);
    add(judged(Cause::StaleGateway, &gateways), gateways.iter().any(|g| evidence.pods.iter().any(|p| refused(g, p))));
    let (broken, waiting): (Vec<_>, Vec<_>) = stale(&evidence.pods).into_iter().partition(|p| evidence.gateways.iter().any(|g| refused(g, p)));
    add(judged(Cause::StaleWorkload, &broken), true);
    add(judged(Cause::StaleWorkload, &waiting), false);
    let current = Evidence {
        pods: evidence.pods.iter().filter(|p| evidence.holds_current(p) == Some(true)).cloned().collect(),
        gateways: evidence.gateways.iter().filter(|g| evidence.holds_current(g) == Some(true)).cloned().collect(),
        ..evidence.clone()
    };
    add(expired(&current, None), true);
    let unread: Vec<&PodEvidence> = evidence.pods.iter().filter(|p| p.proxied && evidence.holds_current(p).is_none()).collect();
    let unsigned =
        unread.iter().filter_map(|p| Some((*p, format!("istio-proxy of {}/{}: {}", p.namespace, p.name, gist(&p.log.unsigned.as_ref()?.text)))));
    add(Judgement::of_pods(Cause::CaBroken, unsigned.collect()), true);
    let told =
        unread.iter().filter_map(|p| Some((*p, format!("istio-proxy of {}/{} says `{}`", p.namespace, p.name, p.log.untrusted.as_ref()?.essence()))));
    add(Judgement::of_pods(Cause::StaleWorkload, told.collect()), true);
    let old = unread.iter().filter(|p| p.log.untrusted.is_none() && evidence.is_older(p)).map(|p| {
        (*p, format!("{}/{} is older than the current root; what it holds could not be read ({})", p.namespace, p.name, p.unread.join("; ")))
    });
    add(Judgement::of_pods(Cause::Unknown, old.collect()), false);
    found
}

/// The API server calls the injector with what istiod wrote into the webhook.
fn injector(evidence: &Evidence) -> Option<Judgement> {
    let wrong = |keys: &&Vec<KeyHash>| !keys.iter().any(|key| evidence.is_current(key));
    let (hook, keys) = evidence.injectors.iter().find(|(_, keys)| wrong(keys))?;
    let theirs = keys.first().map_or("nothing", KeyHash::short);
    Some(Judgement::of(Cause::InjectorUntrusted, format!("the caBundle of webhook {hook} holds {theirs}, not the current root"), &[]))
}

#[cfg(test)]
mod tests;
