//! `pods/portforward`: WebSocket channels as kube-rs speaks them, SPDY inside a WebSocket as kubectl does, and plain SPDY.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, frame::coding::CloseCode};

use super::answer::{self, Answer};
use super::options::Forwarded;
use super::serve::Call;
use super::spdy;
use crate::sandbox::store::meta::text;
use crate::sandbox::store::{Resource, Status};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const CHANNELS: &str = "v4.channel.k8s.io";

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Answers a port-forward request by changing the protocol.
pub(super) fn answer(mut call: Call, kind: &Arc<Resource>) -> Result<Answer, Status> {
    let (namespace, pod) = (call.seen.namespace.clone(), call.seen.name.clone());
    let stored = call.api.store.get("pods", &namespace, &pod).ok_or_else(|| Status::not_found(kind, &pod))?;
    if text(&stored, "/spec/nodeName").is_empty() {
        return Err(Status::bad_request(format!("pod {pod} does not have a host assigned")));
    }
    let forward = call.api.options.forward.clone();
    let name = pod.clone();
    let connect = move |port: u16| forward(&namespace, &name, port);
    let upgrade = call.header(header::UPGRADE).to_lowercase();
    let upgraded = hyper::upgrade::on(&mut call.request);
    let mut reply = Response::new(answer::full(""));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if upgrade == "spdy/3.1" {
        reply.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        reply.headers_mut().insert("x-stream-protocol-version", HeaderValue::from_static("portforward.k8s.io"));
        tokio::spawn(async move {
            if let Ok(socket) = upgraded.await {
                // What breaks here breaks the client's connection, which is how it learns of it.
                let _ = spdy::serve(TokioIo::new(socket), &pod, connect).await;
            }
        });
        return Ok(reply);
    }
    if upgrade != "websocket" {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let offered = call.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|v| v.split(',').map(str::trim)).collect();
    let chosen = [TUNNEL, CHANNELS].into_iter().find(|p| offered.contains(p));
    let chosen = chosen.ok_or_else(|| Status::bad_request(format!("unable to upgrade: unsupported protocols {}", offered.join(", "))))?;
    let key = derive_accept_key(call.header(header::SEC_WEBSOCKET_KEY).as_bytes());
    let ports: Vec<u16> = call.query.all("ports").flat_map(|p| p.split(',')).filter_map(|p| p.parse().ok()).collect();
    if chosen == CHANNELS && ports.is_empty() {
        return Err(Status::bad_request("query parameter \"ports\" is required"));
    }
    let headers = reply.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&key).map_err(|e| Status::internal(e.to_string()))?);
    tokio::spawn(async move {
        let Ok(socket) = upgraded.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(socket), Role::Server, None).await;
        if chosen == TUNNEL {
            tunnel(socket, &pod, connect).await;
        } else {
            channels(socket, &pod, &ports, connect).await;
        }
    });
    Ok(reply)
}

/// SPDY bytes in binary messages.
async fn tunnel(socket: Socket, pod: &str, connect: impl Fn(u16) -> Forwarded) {
    let (inner, outer) = tokio::io::duplex(256 * 1024);
    let (mut sink, mut messages) = socket.split();
    let (mut from, mut to) = tokio::io::split(outer);
    let inbound = async move {
        while let Some(Ok(message)) = messages.next().await {
            match message {
                Message::Binary(bytes) => to.write_all(&bytes).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        to.shutdown().await
    };
    let outbound = async move {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            if sink.send(Message::binary(Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
                return;
            }
        }
        let _ = sink.send(normal_close()).await;
    };
    // Whatever ends first ends the connection; the client sees it closed.
    tokio::select! {
        _ = inbound => {}
        () = outbound => {}
        _ = spdy::serve(inner, pod, connect) => {}
    }
}

fn normal_close() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Two channels for each port: data and error, named by the first byte of every message.
async fn channels(socket: Socket, pod: &str, ports: &[u16], connect: impl Fn(u16) -> Forwarded) {
    let (mut sink, mut messages) = socket.split();
    let (frames, mut outgoing) = mpsc::channel::<Vec<u8>>(256);
    let mut inputs = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let channel = u8::try_from(2 * index).unwrap_or(u8::MAX - 1);
        let [low, high] = port.to_le_bytes();
        for frame in [vec![channel, low, high], vec![channel + 1, low, high]] {
            if sink.send(Message::binary(frame)).await.is_err() {
                return;
            }
        }
        let (input, received) = mpsc::channel(64);
        inputs.push(Some(input));
        let failed = format!("error forwarding port {port} to pod {pod}, uid : ");
        tokio::spawn(carry(connect(*port), channel, failed, received, frames.clone()));
    }
    drop(frames);
    let outbound = async move {
        while let Some(frame) = outgoing.recv().await {
            if sink.send(Message::binary(frame)).await.is_err() {
                return;
            }
        }
        let _ = sink.send(normal_close()).await;
    };
    let inbound = async move {
        while let Some(Ok(message)) = messages.next().await {
            match message {
                Message::Binary(bytes) if !bytes.is_empty() => {
                    let input = inputs.get(usize::from(bytes[0] / 2)).and_then(Option::as_ref);
                    if let (Some(input), 0) = (input, bytes[0] % 2) {
                        // A pod that no longer reads does not end the other ports.
                        let _ = input.send(bytes.slice(1..)).await;
                    }
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = outbound => {}
        () = inbound => {}
    }
}

async fn carry(connecting: Forwarded, channel: u8, failed: String, mut received: mpsc::Receiver<Bytes>, frames: mpsc::Sender<Vec<u8>>) {
    let framed = |channel: u8, bytes: &[u8]| {
        let mut frame = vec![channel];
        frame.extend(bytes);
        frame
    };
    let connection = match connecting.await {
        Ok(connection) => connection,
        Err(why) => {
            let _ = frames.send(framed(channel + 1, format!("{failed}{why}").as_bytes())).await;
            return;
        }
    };
    let (mut from, mut to) = tokio::io::split(connection);
    let receiving = tokio::spawn(async move {
        while let Some(bytes) = received.recv().await {
            to.write_all(&bytes).await?;
            to.flush().await?;
        }
        to.shutdown().await?;
        Ok::<(), io::Error>(())
    });
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if frames.send(framed(channel, &buffer[..n])).await.is_err() {
            break;
        }
    }
    receiving.abort();
}
