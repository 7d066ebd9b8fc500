//! The kubelet's port of the lab's played nodes: what their containers have written, for the API server to pass on.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use meshstep::base::mutex::lock;
use meshstep::sandbox::pki::Authority;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The port that kwok gives to its nodes.
const KUBELET: u16 = 10250;

/// By `namespace/pod/container`.
#[derive(Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<HashMap<String, Lines>>>);

/// Of the run that is on, and of the one before.
#[derive(Default)]
struct Lines {
    now: Vec<String>,
    before: Option<Vec<String>>,
    /// Between two runs the one that has ended is the one before, too.
    between: bool,
}

impl Logs {
    /// A new run begins.
    pub(crate) fn begin(&self, container: &str) {
        let mut all = lock(&self.0);
        let lines = all.entry(container.to_owned()).or_default();
        if !lines.now.is_empty() {
            lines.before = Some(std::mem::take(&mut lines.now));
        }
        lines.between = false;
    }

    /// Its run has ended, and the next one waits.
    pub(crate) fn wait(&self, container: &str) {
        let mut all = lock(&self.0);
        all.entry(container.to_owned()).or_default().between = true;
    }

    pub(crate) fn write(&self, container: &str, lines: &[String]) {
        let mut all = lock(&self.0);
        all.entry(container.to_owned()).or_default().now.extend_from_slice(lines);
    }

    /// Serves them for as long as the runtime lives.
    pub(crate) async fn serve(&self) -> Result<(), String> {
        let authority = Authority::new("player").map_err(|error| error.to_string())?;
        let tls = TlsAcceptor::from(Arc::new(authority.server(&["127.0.0.1"], &["http/1.1"])?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, KUBELET)).await.map_err(|error| format!("the kubelet's port {KUBELET}: {error}"))?;
        let logs = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, logs) = (tls.clone(), logs.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let answer = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(logs.answer(&request))));
                    // a client that hangs up is its own business
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Ok(())
    }

    /// `/containerLogs/NAMESPACE/POD/CONTAINER?previous=true&tailLines=25`
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let query: HashMap<String, String> = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
        let container = request.uri().path().strip_prefix("/containerLogs/").unwrap_or_default();
        let all = lock(&self.0);
        let known = all.get(container);
        let lines = match query.get("previous").map(String::as_str) {
            Some("true" | "1") => known.and_then(|lines| if lines.between { Some(lines.now.clone()) } else { lines.before.clone() }),
            _ => known.map(|lines| lines.now.clone()),
        };
        let Some(lines) = lines else {
            let mut missing = Response::new(Full::from(format!("container {container:?} has no such log")));
            *missing.status_mut() = StatusCode::BAD_REQUEST;
            return missing;
        };
        let tail: usize = query.get("tailLines").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let from = lines.len().saturating_sub(tail);
        Response::new(Full::from(lines[from..].iter().map(|line| format!("{line}\n")).collect::<String>()))
    }
}
