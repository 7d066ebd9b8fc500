//! The sandbox's only way out: an HTTPS proxy that knows the charts' hosts of Istio and nothing else, so that `helm repo add` works
//! without a network and no tool of a sandbox run reaches a real one.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// Where Istio's charts are.
pub(super) const HOSTS: [&str; 2] = ["blob.istio.io", "istio-release.storage.googleapis.com"];
const MOST: usize = 8 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves the proxy; `tls` has a certificate for [`HOSTS`].
///
/// # Errors
/// When no loopback port can be had.
pub(super) async fn serve(tls: TlsAcceptor, istio: &str) -> Result<(SocketAddr, AbortHandle), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| format!("proxy's port: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let index = index(istio);
    let accepting = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, index) = (tls.clone(), index.clone());
            // a client that hangs up is its own business
            tokio::spawn(async move { _ = tunnel(stream, tls, index).await });
        }
    };
    Ok((address, tokio::spawn(accepting).abort_handle()))
}

async fn tunnel(mut stream: TcpStream, tls: TlsAcceptor, index: Bytes) -> std::io::Result<()> {
    let head = tokio::time::timeout(PATIENCE, head(&mut stream)).await.map_err(std::io::Error::other)??;
    let asked = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(':').next()).unwrap_or_default();
    if !HOSTS.contains(&asked) {
        return stream.write_all(b"HTTP/1.1 403 the sandbox reaches nothing outside\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let stream = tls.accept(stream).await?;
    let answer = service_fn(move |request: Request<Incoming>| {
        let index = index.clone();
        async move { Ok::<_, Infallible>(answer(request.uri().path(), index)) }
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.map_err(std::io::Error::other)
}

/// The request's head, up to its empty line.
async fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MOST {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn answer(path: &str, index: Bytes) -> Response<Full<Bytes>> {
    let found = path.ends_with("/charts/index.yaml");
    let mut response = Response::new(Full::new(if found { index } else { Bytes::new() }));
    if !found {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

/// The index of a repository with Istio's charts of one version.
fn index(version: &str) -> Bytes {
    let entry = |name: &str| {
        format!(
            "  {name}:\n  - {{apiVersion: v2, name: {name}, version: {version}, urls: [{name}-{version}.tgz], created: \"2026-01-01T00:00:00Z\"}}\n"
        )
    };
    let entries: String = ["base", "gateway", "istiod"].map(entry).concat();
    format!("apiVersion: v1\nentries:\n{entries}generated: \"2026-01-01T00:00:00Z\"\n").into()
}
