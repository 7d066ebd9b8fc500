//! `site`: an app that is published, so that its host can be asked through the load balancer.

use meshstep::sandbox::world::Certificate;
use serde::Deserialize;
use serde_json::{Value, json};

use super::merge::merge;
use super::scenario::Ingress;

/// Its public name.
const HOST: &str = "app.public.domain";

/// Istio, the app with its sidecar, a route to it, and an Ingress with HTTP and HTTPS. What differs from that is merged in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Site {
    /// Of the Ingress, below `alb.ingress.kubernetes.io/`.
    annotations: Value,
    /// The VirtualService's spec.
    route: Value,
}

impl Site {
    /// The world's keys.
    pub(crate) fn world(namespace: &str) -> Value {
        json!({"istio": {"installed": {"age": "1h"}}, "namespaces": [{"name": namespace, "labels": {"istio-injection": "enabled"}}]})
    }

    /// The pipeline file's keys.
    pub(crate) fn file() -> Value {
        json!({
            "ingress": {"name": "gw-ingress", "namespace": "istio-system", "timeout": "20s"},
            "verify": {"checks": [{"host": HOST, "path": "/", "scheme": "http"}], "timeout": "8s"},
        })
    }

    /// `app` is the standard workload.
    pub(crate) fn objects(&self, namespace: &str, app: Value) -> Vec<Value> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app", "namespace": namespace},
            "spec": {"selector": {"app": "app"}, "ports": [{"name": "http", "port": 8000}]},
        });
        let gateway = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "gateway", "namespace": "istio-system"},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]},
        });
        let mut route = json!({
            "hosts": [HOST], "gateways": ["istio-system/gateway"],
            "http": [{"route": [{"destination": {"host": format!("app.{namespace}.svc.cluster.local"), "port": {"number": 8000}}}]}],
        });
        merge(&mut route, &self.route);
        let route = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "app", "namespace": "istio-system"}, "spec": route,
        });
        let objects = [app, service, gateway, route, self.ingress()];
        objects.into_iter().map(|manifest| json!({"age": "10m", "manifest": manifest})).collect()
    }

    fn ingress(&self) -> Value {
        let mut wanted = json!({"listen-ports": "[{\"HTTP\": 80}, {\"HTTPS\": 443}]", "certificate-arn": Certificate::default().arn});
        merge(&mut wanted, &self.annotations);
        Ingress::annotated(wanted).manifest("istio-system")
    }
}
