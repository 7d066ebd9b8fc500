//! Port-forward into a pod: a connection on which the simulated application speaks HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio_rustls::TlsAcceptor;

use super::app::{self, Refused, Reply};
use super::envoy;
use super::listen::response;
use crate::sandbox::controllers::PODS;
use crate::sandbox::istio;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{label, list, text};

/// Where istiod serves its proxies over TLS.
const DISCOVERY: u16 = 15012;

/// Opens a connection to a port of a pod.
///
/// # Errors
/// In the kubelet's words, when nothing listens there.
pub(crate) fn forward(sim: &Arc<Sim>, namespace: &str, pod: &str, port: u16) -> Result<DuplexStream, String> {
    let pod = sim.store.get(PODS, namespace, pod).ok_or_else(|| format!("pod {pod} not found"))?;
    if !answers(sim, &pod, port) {
        return Err(format!(
            "failed to connect to localhost:{port} inside namespace \"{namespace}\", IPv4: dial tcp4 127.0.0.1:{port}: connect: connection refused IPv6: dial tcp6 [::1]:{port}: connect: connection refused"
        ));
    }
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    if port == DISCOVERY {
        if let Some(config) = istio::discovery(sim, &pod) {
            // who only wants to see the certificate hangs up
            tokio::spawn(async move { drop(TlsAcceptor::from(Arc::new(config)).accept(ours).await) });
        }
        return Ok(theirs);
    }
    let sim = Arc::clone(sim);
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let (sim, pod) = (Arc::clone(&sim), Arc::clone(&pod));
            async move { Ok::<Response<Full<Bytes>>, std::convert::Infallible>(respond(&sim, &pod, port, &request).await) }
        });
        // a client that hangs up is its own business
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(ours), service).await;
    });
    Ok(theirs)
}

fn proxied(pod: &Value) -> bool {
    list(pod, "/spec/initContainers").iter().chain(list(pod, "/spec/containers")).any(|c| text(c, "/name") == "istio-proxy")
}

fn answers(sim: &Sim, pod: &Value, port: u16) -> bool {
    (matches!(port, 15000 | 15021) && proxied(pod))
        || label(pod, "app") == Some("istiod") && matches!(port, 15014 | DISCOVERY)
        || app::answer(sim, pod, port, "/").is_ok()
}

async fn respond(sim: &Sim, pod: &Value, port: u16, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let reply = match port {
        15021 | 15000 if path == "/healthz/ready" || path == "/ready" => Reply::new(200, "text/plain", if port == 15000 { "LIVE\n" } else { "" }),
        15000 if path == "/clusters" && label(pod, "istio") == Some("ingressgateway") => Reply::new(200, "text/plain", envoy::clusters(sim)),
        15000 if path == "/config_dump?resource=dynamic_active_secrets" => match istio::config_dump(sim, pod) {
            Some(dump) => Reply::new(200, "application/json", dump.to_string()),
            None => Reply::new(200, "application/json", "{}"),
        },
        15000 | 15021 => Reply::empty(404),
        15014 if path == "/version" => Reply::new(200, "text/plain", format!("{}-sandbox-Clean", istio::installed_version(sim).unwrap_or_default())),
        _ => app::answer(sim, pod, port, path).unwrap_or_else(|Refused| Reply::empty(503)),
    };
    tokio::time::sleep(reply.delay).await;
    response(reply)
}
