//! What containers write: the run that is on and the one before.

use serde_json::Value;

use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, name, namespace, text};

/// One line with its time.
pub(super) type Line = (jiff::Timestamp, String);

/// How many lines of a run are kept.
const KEPT: usize = 2000;

/// A container's log.
#[derive(Default)]
pub(crate) struct Log {
    pub current: Vec<Line>,
    pub previous: Option<Vec<Line>>,
}

impl Log {
    /// A new run begins.
    pub(crate) fn begin_run(&mut self) {
        let ended = std::mem::take(&mut self.current);
        if !ended.is_empty() {
            self.previous = Some(ended);
        }
    }

    pub(crate) fn write(&mut self, at: jiff::Timestamp, lines: impl IntoIterator<Item = String>) {
        self.current.extend(lines.into_iter().map(|line| (at, line)));
        let excess = self.current.len().saturating_sub(KEPT);
        self.current.drain(..excess);
    }
}

/// What a container writes when it starts.
pub(super) fn opening(sim: &Sim, pod: &Value, container: &str, spec: &Value) -> Vec<String> {
    let at = sim.now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    match container {
        "istio-proxy" => {
            let id = format!("{}.{}", name(pod), namespace(pod));
            [
                "FLAG: --concurrency=\"0\"".to_owned(),
                format!("Proxy role\tips=[{}] type=sidecar id={id} domain={}.svc.cluster.local", text(pod, "/status/podIP"), namespace(pod)),
                "Envoy proxy is ready".to_owned(),
            ]
            .into_iter()
            .map(|line| format!("{at}\tinfo\t{line}"))
            .collect()
        }
        "istio-init" | "istio-validation" => vec![format!("{at}\tinfo\tIstio iptables environment:")],
        "discovery" => {
            vec![format!("{at}\tinfo\tinitializing Istiod admin server"), format!("{at}\tinfo\tserverCert\tIstiod certificates are reloaded")]
        }
        _ => list(spec, "/ports").iter().filter_map(|port| port["containerPort"].as_u64()).map(|port| format!("listening on :{port}")).collect(),
    }
}
