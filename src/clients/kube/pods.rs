//! What pods say and answer: logs, an HTTP GET through the API server, a command inside a container.

use std::pin::pin;
use std::time::Duration;

use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, LogParams};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::{Cluster, fault};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::secrets;
use crate::clients::http::{Answer, exchange_plain, shown_chain};

/// What a tunnel to a pod or a command inside it may take.
const TUNNEL_DEADLINE: Duration = Duration::from_secs(15);
const LOG_BYTES: i64 = 8 * 1024 * 1024;
const OUTPUT_CAP: u64 = 8 * 1024 * 1024;
const BODY_CAP: usize = 1024 * 1024;

impl Cluster {
    /// The container's last log lines, redacted. `previous`: of the instance before the last restart.
    pub async fn logs(&self, namespace: &str, pod: &str, container: &str, previous: bool, tail_lines: i64) -> Result<String> {
        let container = (!container.is_empty()).then(|| container.to_owned());
        let params = LogParams { container, previous, tail_lines: Some(tail_lines), limit_bytes: Some(LOG_BYTES), ..LogParams::default() };
        let doing = format!("reading the log of pod {pod} in {namespace}");
        // As bytes: a program may write what is no UTF-8, and the limit may fall into a character.
        let log = self.api::<Pod>(namespace).log_stream(pod, &params).await.map_err(|error| fault(error, &doing))?;
        let mut bytes = Vec::new();
        pin!(log).read_to_end(&mut bytes).await.map_err(|error| Fault::new(Code::ApiFailed, format!("{doing}: {error}")))?;
        Ok(secrets::redact(&String::from_utf8_lossy(&bytes)).into_owned())
    }

    /// An HTTP GET to a port inside a pod, through the API server (`pods/portforward`).
    pub async fn port_forward_get(&self, namespace: &str, pod: &str, port: u16, host: &str, path: &str) -> Result<Answer> {
        let doing = format!("asking port {port} of pod {pod} in {namespace}");
        let work = async {
            let mut tunnel = self.api::<Pod>(namespace).portforward(pod, &[port]).await.map_err(|error| fault(error, &doing))?;
            let said = tunnel.take_error(port);
            let stream = tunnel.take_stream(port).ok_or_else(|| Fault::new(Code::Defect, format!("{doing}: the tunnel has no stream")))?;
            match exchange_plain(stream, host, path, BODY_CAP).await {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    // The tunnel's own error (`connection refused` inside the pod) says more than a stream that ended.
                    let said = match said {
                        Some(said) => timeout(Duration::from_secs(1), said).await.ok().flatten(),
                        None => None,
                    };
                    let why = said.unwrap_or_else(|| error.to_string());
                    Err(Fault::new(Code::Refused, format!("{doing}: {why}")).next("check that the container listens on that port, on all addresses"))
                }
            }
        };
        timeout(TUNNEL_DEADLINE, work).await.unwrap_or_else(|_| Err(Fault::new(Code::NoAnswer, format!("{doing}: no answer within 15 s"))))
    }

    /// The certificates (DER) that a TLS port inside a pod shows. Nothing is trusted and nothing sent: the handshake ends there.
    pub async fn shown_chain(&self, namespace: &str, pod: &str, port: u16, server_name: &str) -> Result<Vec<Vec<u8>>> {
        let doing = format!("looking at the certificate of port {port} of pod {pod} in {namespace}");
        let work = async {
            let mut tunnel = self.api::<Pod>(namespace).portforward(pod, &[port]).await.map_err(|error| fault(error, &doing))?;
            let stream = tunnel.take_stream(port).ok_or_else(|| Fault::new(Code::Defect, format!("{doing}: the tunnel has no stream")))?;
            shown_chain(stream, server_name).await.map_err(|why| Fault::new(Code::Refused, format!("{doing}: {why}")))
        };
        timeout(TUNNEL_DEADLINE, work).await.unwrap_or_else(|_| Err(Fault::new(Code::NoAnswer, format!("{doing}: no answer within 15 s"))))
    }

    /// Runs a command in a container and returns its stdout, redacted.
    pub async fn exec(&self, namespace: &str, pod: &str, container: &str, argv: &[&str]) -> Result<String> {
        let doing = format!("running `{}` in {container} of pod {pod} in {namespace}", argv.join(" "));
        let work = async {
            let params = AttachParams::default().container(container).stdin(false).stdout(true).stderr(true);
            let mut process = self.api::<Pod>(namespace).exec(pod, argv.iter().copied(), &params).await.map_err(|error| fault(error, &doing))?;
            let status = process.take_status();
            let (out, err) = tokio::join!(read(process.stdout()), read(process.stderr()));
            let status = match status {
                Some(status) => status.await,
                None => None,
            };
            match status {
                Some(status) if status.status.as_deref() == Some("Failure") => {
                    let why = status.message.unwrap_or_else(|| "it failed".to_owned());
                    Err(Fault::new(Code::ToolFailed, format!("{doing}: {why}")).evidence("its last lines", secrets::redact(&err)))
                }
                _ => Ok(secrets::redact(&out).into_owned()),
            }
        };
        timeout(TUNNEL_DEADLINE, work).await.unwrap_or_else(|_| Err(Fault::new(Code::ApiFailed, format!("{doing}: no end within 15 s"))))
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What came before a broken stream is still worth showing.
        _ = stream.take(OUTPUT_CAP).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
