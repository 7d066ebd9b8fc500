//! The simulated applications in the pods: which ports they listen on and what they answer.

use std::time::Duration;

use serde_json::Value;

use crate::sandbox::istio;
use crate::sandbox::kubelet::{images_of, workload_of};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, namespace, text};
use crate::sandbox::world::wild;

/// An HTTP answer on its way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// How long it takes.
    pub delay: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, kind: &str, body: impl Into<String>) -> Self {
        Self { status, headers: vec![("content-type".to_owned(), kind.to_owned())], body: body.into(), delay: Duration::ZERO }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), delay: Duration::ZERO }
    }

    /// Sets a header, in place of one of the same name.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Nothing listens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// What the application in a pod answers on one of its ports.
///
/// # Errors
/// When nothing listens there.
pub(crate) fn answer(sim: &Sim, pod: &Value, port: u16, path: &str) -> Result<Reply, Refused> {
    let listens = list(pod, "/spec/containers").iter().flat_map(|c| list(c, "/ports")).any(|p| p["containerPort"].as_u64() == Some(port.into()));
    let workload = workload_of(pod);
    let images = images_of(pod);
    let bare = path.split('?').next().unwrap_or_default();
    let script = sim
        .world
        .apps
        .iter()
        .find(|app| app.r#match.matches(namespace(pod), workload, &images) && app.path.as_deref().is_none_or(|pattern| wild(pattern, bare)));
    if !listens || script.is_some_and(|script| script.refuses) {
        return Err(Refused);
    }
    let usual = || format!("ok {workload} {}\n", namespace(pod));
    let mut reply =
        Reply::new(script.map_or(200, |s| s.status), "text/plain; charset=utf-8", script.and_then(|s| s.body.clone()).unwrap_or_else(usual));
    if let Some(script) = script {
        reply.delay = script.delay.0;
        for (name, value) in &script.headers {
            reply = reply.with(name, value);
        }
    }
    Ok(reply)
}

/// What a container's readiness probe finds wrong, in the kubelet's words.
pub(crate) fn probe(sim: &Sim, pod: &Value, container: &Value) -> Option<String> {
    if text(container, "/name") == "istio-proxy" {
        let message = "HTTP probe failed with statuscode: 503".to_owned();
        return istio::current_root(sim).is_none().then_some(message);
    }
    let ours = sim.world.apps.iter().any(|app| app.r#match.matches(namespace(pod), workload_of(pod), &images_of(pod)));
    let (path, target) = (text(container, "/readinessProbe/httpGet/path"), &container["readinessProbe"]["httpGet"]["port"]);
    if !ours {
        return None;
    }
    let named = |port: &&Value| target.as_str().is_some_and(|name| text(port, "/name") == name);
    let port = target
        .as_u64()
        .or_else(|| list(container, "/ports").iter().find(named)?["containerPort"].as_u64())
        .and_then(|port| u16::try_from(port).ok())?;
    match answer(sim, pod, port, if path.is_empty() { "/" } else { path }) {
        Ok(reply) if (200..400).contains(&reply.status) => None,
        Ok(reply) => Some(format!("HTTP probe failed with statuscode: {}", reply.status)),
        Err(Refused) => {
            let address = text(pod, "/status/podIP");
            Some(format!("Get \"http://{address}:{port}{path}\": dial tcp {address}:{port}: connect: connection refused"))
        }
    }
}
