//! The loopback endpoint of all AWS services: finds service and operation, applies faults, answers in the service's own protocol.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::elb_xml::{element, text};
use super::faults::AwsError;
use super::{Account, eks, elb, other, sts};
use crate::sandbox::store::meta;

/// The parameters of a query-protocol call.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// A list: `Name.member.1` or, as EC2 writes it, `Name.1`.
    pub(super) fn members(&self, key: &str) -> Vec<String> {
        let is_item = |k: &str| {
            let rest = k.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')).map(|rest| rest.strip_prefix("member.").unwrap_or(rest));
            rest.is_some_and(|rest| rest.parse::<u32>().is_ok())
        };
        self.0.iter().filter(|(k, _)| is_item(k)).map(|(_, value)| value.clone()).collect()
    }
    /// The values of a filter of EC2: `Filter.1.Name=vpc-id&Filter.1.Value.1=…`.
    pub(super) fn filter(&self, name: &str) -> Vec<String> {
        let numbers = self.0.iter().filter(|(key, value)| value == name && key.starts_with("Filter.") && key.ends_with(".Name"));
        numbers.flat_map(|(key, _)| self.members(&key.replace(".Name", ".Value"))).collect()
    }
}

/// How a call speaks.
enum Protocol {
    Rest,
    Json,
    Query,
    Ec2,
}

struct Call {
    protocol: Protocol,
    op: String,
    path: String,
    /// Region of the signature's scope, empty when it is not signed.
    region: String,
    body: String,
}

/// Starts the endpoint and tells its address.
///
/// # Errors
/// When no loopback port can be had.
pub(crate) async fn serve(account: Arc<Account>) -> Result<(SocketAddr, tokio::task::AbortHandle), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| format!("AWS endpoint: {error}"))?;
    let address = listener.local_addr().map_err(|error| format!("AWS endpoint: {error}"))?;
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let account = Arc::clone(&account);
            while connections.try_join_next().is_some() {}
            connections.spawn(async move {
                let service = service_fn(move |request| handle(Arc::clone(&account), request));
                // a client that hangs up is its own business
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok((address, task.abort_handle()))
}

/// The error type only says "close the connection without an answer".
async fn handle(account: Arc<Account>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let call = read(&parts, &body);
    let mut frozen = account.frozen.subscribe();
    // the account holds the sender
    let _ = frozen.wait_for(|frozen| !frozen).await;
    let faults = account.faults();
    let verdict = faults.next(&call.op, &format!("{} {}", parts.uri, call.body));
    if let Some(verdict) = &verdict {
        tokio::time::sleep(verdict.fault.delay.0).await;
        if verdict.fault.hangup {
            return Err(std::io::Error::other("hangup"));
        }
        if let Some(error) = verdict.error() {
            return Ok(failure(&call, &error));
        }
    }
    let (status, kind, text) = match respond(&account, &call, &parts.headers) {
        Ok(answer) => answer,
        Err(error) => return Ok(failure(&call, &error)),
    };
    let text = match verdict {
        Some(verdict) => verdict.rewrite(text),
        None => text,
    };
    Ok(build(status, kind, text, &[]).unwrap_or_else(|never| match never {}))
}

fn read(parts: &http::request::Parts, body: &Bytes) -> Call {
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let body = String::from_utf8_lossy(body).into_owned();
    let path = parts.uri.path().to_owned();
    let credential = header("authorization").split("Credential=").nth(1).unwrap_or_default().split(',').next().unwrap_or_default().to_owned();
    let region = credential.split('/').nth(2).unwrap_or_default().to_owned();
    let target = header("x-amz-target");
    let (protocol, op) = if let Some((_, op)) = target.rsplit_once('.') {
        (Protocol::Json, op.to_owned())
    } else if path == "/" {
        let form = Params(
            url::form_urlencoded::parse(if body.is_empty() { parts.uri.query().unwrap_or_default() } else { &body }.as_bytes())
                .into_owned()
                .collect(),
        );
        let op = form.get("Action").unwrap_or_default().to_owned();
        (if form.get("Version") == Some("2016-11-15") { Protocol::Ec2 } else { Protocol::Query }, op)
    } else {
        (Protocol::Rest, eks::operation(parts.method.as_str(), &path).map_or_else(|| format!("{} {path}", parts.method), str::to_owned))
    };
    Call { protocol, op, path, region, body }
}

type Answer = (u16, &'static str, String);

fn respond(account: &Account, call: &Call, headers: &http::HeaderMap) -> Result<Answer, AwsError> {
    let signer = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let signed = signer.contains(&format!("Credential={}/", account.world.access.access_key));
    if !signed && call.op != "AssumeRoleWithWebIdentity" {
        let rest = matches!(call.protocol, Protocol::Rest | Protocol::Json);
        let code = if rest { "UnrecognizedClientException" } else { "InvalidClientTokenId" };
        return Err(AwsError::new(403, code, "The security token included in the request is invalid."));
    }
    let not_played = || AwsError::new(501, "NotPlayed", format!("the sandbox does not play the AWS operation `{}`", call.op));
    match call.protocol {
        Protocol::Rest => {
            let op = eks::operation("GET", &call.path).filter(|op| *op == call.op).ok_or_else(not_played)?;
            Ok((200, "application/json", eks::answer(account, op, &call.path, &call.region)?.to_string()))
        }
        Protocol::Json => {
            let input: Value = serde_json::from_str(&call.body).unwrap_or_default();
            let output = other::answer_json(account, &call.op, &input).ok_or_else(not_played)??;
            Ok((200, "application/x-amz-json-1.1", output.to_string()))
        }
        Protocol::Query => {
            let params = Params(url::form_urlencoded::parse(call.body.as_bytes()).into_owned().collect());
            let content = elb::answer(account, &call.op, &params).or_else(|| sts::answer(account, &call.op, &params)).ok_or_else(not_played)??;
            let metadata = element("ResponseMetadata", &text("RequestId", &meta::new_uid()));
            let result = element(&format!("{}Result", call.op), &content);
            Ok((200, "text/xml", element(&format!("{}Response", call.op), &(result + &metadata))))
        }
        Protocol::Ec2 => {
            let params = Params(url::form_urlencoded::parse(call.body.as_bytes()).into_owned().collect());
            let content = other::answer_ec2(account, &call.op, &params).ok_or_else(not_played)??;
            Ok((200, "text/xml", element(&format!("{}Response", call.op), &(text("requestId", &meta::new_uid()) + &content))))
        }
    }
}

fn failure(call: &Call, error: &AwsError) -> Response<Full<Bytes>> {
    let side = if error.status < 500 { "Sender" } else { "Receiver" };
    let built = match call.protocol {
        Protocol::Rest | Protocol::Json => {
            let body = json!({"__type": error.code, "message": error.message});
            build(error.status, "application/json", body.to_string(), &[("x-amzn-errortype", &error.code)])
        }
        Protocol::Query => {
            let content = text("Type", side) + &text("Code", &error.code) + &text("Message", &error.message);
            let body = element("ErrorResponse", &(element("Error", &content) + &text("RequestId", &meta::new_uid())));
            build(error.status, "text/xml", body, &[])
        }
        Protocol::Ec2 => {
            let content = text("Code", &error.code) + &text("Message", &error.message);
            let body = element("Response", &(element("Errors", &element("Error", &content)) + &text("RequestID", &meta::new_uid())));
            build(error.status, "text/xml", body, &[])
        }
    };
    built.unwrap_or_else(|never| match never {})
}

fn build(status: u16, kind: &str, body: String, headers: &[(&str, &str)]) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let mut set = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse()) {
            response.headers_mut().insert(name, value);
        }
    };
    set("content-type", kind);
    set("x-amzn-requestid", &meta::new_uid());
    for (name, value) in headers {
        set(name, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_lists_are_read() {
        let pairs = [("Names.member.1", "a"), ("Names.member.2", "b"), ("SubnetId.1", "s"), ("Action", "X")];
        let params = Params(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(params.members("Names"), ["a", "b"]);
        assert_eq!(params.members("SubnetId"), ["s"]);
        assert!(params.members("Name").is_empty());
        let pairs = [("Filter.1.Name", "zone"), ("Filter.1.Value.1", "a"), ("Filter.2.Name", "vpc-id"), ("Filter.2.Value.1", "vpc-1")];
        let params = Params(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(params.filter("vpc-id"), ["vpc-1"]);
    }
}
