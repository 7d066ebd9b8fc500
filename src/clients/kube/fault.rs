//! From an error of the Kubernetes client to a fault that says what happened in the field's words and what to do next.

use std::error::Error as StdError;
use std::io;

use kube::core::Status;

use super::guard::{NoAnswer, NoToken};
use super::rights;
use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::{secrets, text};
use crate::clients::http::TlsClass;

/// Why a call got no answer at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NetCause {
    Refused,
    ConnectTimeout,
    NoAnswer,
    Dns,
    Tls(TlsClass),
    /// Reset, closed early, broken in the middle.
    Broken,
    Other,
}

/// The fault of a failed call; `doing` says what was tried (`reading deployment app1 in prod`).
pub fn fault(error: kube::Error, doing: &str) -> Fault {
    match error {
        kube::Error::Api(status) => of_status(&status, doing),
        kube::Error::Auth(error) => {
            Fault::new(Code::Unauthorized, format!("{doing}: the kubeconfig's credentials cannot be used: {}", words(&error)))
                .next("run the kubeconfig's exec command by hand on this agent")
        }
        kube::Error::SerdeError(error) => Fault::new(Code::ApiFailed, format!("{doing}: the answer is not what the API promises: {error}")),
        error => of_net(&error, doing),
    }
}

fn of_net(error: &(dyn StdError + 'static), doing: &str) -> Fault {
    for cause in chain(error) {
        if let Some(NoToken(fault)) = cause.downcast_ref() {
            return fault.clone();
        }
    }
    let unreachable = |what: &str| Fault::new(Code::ApiUnreachable, format!("{doing}: {what}"));
    match net_cause(error) {
        NetCause::Refused => unreachable("the API server refuses the connection").next("check the endpoint in the kubeconfig, and that the API server runs"),
        NetCause::ConnectTimeout => unreachable("no connection to the API server in time")
            .next("a private endpoint answers only inside its VPC: run the job on an agent inside it, or allow the agent's address in publicAccessCidrs")
            .next("check HTTPS_PROXY and NO_PROXY of the agent"),
        NetCause::NoAnswer => unreachable(&format!("the API server does not answer: {}", words(error)))
            .next("look at the API server's load and at admission webhooks that hang"),
        NetCause::Dns => unreachable("the API server's name does not resolve")
            .next("check the agent's resolver; the name of a private endpoint resolves only where its VPC's DNS is used")
            .next("a deleted cluster's name vanishes too: check `cluster.name` and `cluster.region`"),
        NetCause::Tls(class) => of_tls(class, error, doing),
        NetCause::Broken => unreachable(&format!("the connection broke: {}", words(error))),
        NetCause::Other => Fault::new(Code::ApiFailed, format!("{doing}: {}", words(error))),
    }
}

fn of_tls(class: TlsClass, error: &(dyn StdError + 'static), doing: &str) -> Fault {
    let (what, next) = match class {
        TlsClass::Expired | TlsClass::NotYetValid => {
            ("its certificate is not valid at this agent's time", "check the agent's clock first, then the API server's certificate")
        }
        TlsClass::WrongName => {
            ("its certificate is for another name", "check the endpoint in the kubeconfig; an address instead of the name needs `tls-server-name`")
        }
        TlsClass::UnknownIssuer => (
            "its certificate's issuer is not trusted",
            "check certificate-authority-data of the kubeconfig; a proxy that opens TLS shows its own certificate: add the API server to NO_PROXY",
        ),
        TlsClass::Other => ("the TLS handshake failed", "check that the endpoint is an API server's and speaks TLS"),
    };
    Fault::new(Code::ApiTls, format!("{doing}: {what}: {}", words(error))).next(next)
}

fn of_status(status: &Status, doing: &str) -> Fault {
    let said = said(status);
    let new = |code| Fault::new(code, format!("{doing}: {said}"));
    match status.code {
        _ if said.contains("failed calling webhook") => new(Code::WebhookUnreachable),
        _ if said.contains("admission webhook") && said.contains("denied the request") => new(Code::ApplyRefused),
        401 => Fault::new(Code::Unauthorized, format!("{doing}: the API server does not accept this identity (401 {said})")),
        403 => forbidden(&said, doing),
        404 if said.starts_with("namespaces ") => new(Code::NamespaceMissing),
        404 => new(Code::NotFound),
        409 => new(Code::Conflict),
        410 => new(Code::ApiFailed).next("try again: the version that was asked for is no longer kept"),
        400 | 413 | 415 | 422 => new(Code::ApplyRefused).evidence("causes", causes(status)),
        429 => new(Code::Throttled),
        _ => new(Code::ApiFailed),
    }
}

/// What the server said, in one line and without secrets.
fn said(status: &Status) -> String {
    let said = if status.message.trim().is_empty() { &status.reason } else { &status.message };
    let said = if said.trim().is_empty() { format!("status {}", status.code) } else { said.clone() };
    text::head(&secrets::redact(&text::one_line(&said)), 600).into_owned()
}

fn causes(status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>().join("\n")
}

fn forbidden(said: &str, doing: &str) -> Fault {
    rights::refused(said, doing).unwrap_or_else(|| Fault::new(Code::Forbidden, format!("{doing}: {said}")))
}

/// Why there was no answer, from the whole chain of causes.
pub(super) fn net_cause(error: &(dyn StdError + 'static)) -> NetCause {
    let mut found = NetCause::Other;
    for cause in chain(error) {
        if cause.is::<NoAnswer>() {
            return NetCause::NoAnswer;
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return NetCause::Tls(TlsClass::of(tls));
        }
        if cause.to_string().starts_with("dns error") {
            return NetCause::Dns;
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return NetCause::Refused,
                io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => return NetCause::ConnectTimeout,
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                    found = NetCause::Broken;
                }
                _ => {}
            }
        }
        if cause.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_incomplete_message() || error.is_closed() || error.is_canceled()) {
            found = NetCause::Broken;
        }
    }
    found
}

/// The error and its causes. An `io::Error` hides the error it was made of from `source`.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let current = next?;
        let inside = current.downcast_ref::<io::Error>().and_then(|io| io.get_ref());
        next = inside.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| current.source());
        Some(current)
    })
    .take(16)
}

/// The innermost cause, which is what happened; the outer ones only say who noticed.
fn words(error: &(dyn StdError + 'static)) -> String {
    let last = chain(error).last().map(ToString::to_string).unwrap_or_default();
    secrets::redact(&text::one_line(&last)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::Class;

    fn status(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn every_status_has_its_code() {
        for (code, message, expected) in [
            (400, "the server rejected our request", Code::ApplyRefused),
            (401, "Unauthorized", Code::Unauthorized),
            (403, "forbidden by a proxy", Code::Forbidden),
            (404, "namespaces \"prod\" not found", Code::NamespaceMissing),
            (404, "deployments.apps \"a\" not found", Code::NotFound),
            (409, "the object has been modified", Code::Conflict),
            (410, "too old resource version", Code::ApiFailed),
            (422, "Service \"a\" is invalid", Code::ApplyRefused),
            (429, "too many requests", Code::Throttled),
            (500, "etcdserver: request timed out", Code::ApiFailed),
            (500, "Internal error occurred: failed calling webhook \"validation.istio.io\": no endpoints", Code::WebhookUnreachable),
            (403, "admission webhook \"vingress.elbv2.k8s.aws\" denied the request: invalid ingress class", Code::ApplyRefused),
            (503, "", Code::ApiFailed),
        ] {
            assert_eq!(fault(status(code, message), "trying").code, expected, "{code} {message}");
        }
    }

    #[test]
    fn a_403_names_the_rule_to_add() {
        let said = r#"deployments.apps is forbidden: User "arn:aws:iam::123456789012:role/ci" cannot patch resource "deployments" in API group "apps" in the namespace "prod""#;
        let fault = fault(status(403, said), "applying deployment app1 in prod");
        assert_eq!(fault.message, "applying deployment app1 in prod: this identity may not patch deployments (apps) in prod");
        assert_eq!(fault.next, [r#"add to a Role in namespace prod: - {apiGroups: ["apps"], resources: [deployments], verbs: [patch]}"#]);
    }

    #[test]
    fn causes_are_found_at_the_bottom() {
        let io = |kind: io::ErrorKind| io::Error::new(kind, "x");
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        for (error, cause) in [
            (io(io::ErrorKind::ConnectionRefused), NetCause::Refused),
            (io(io::ErrorKind::TimedOut), NetCause::ConnectTimeout),
            (io::Error::other(io(io::ErrorKind::ConnectionReset)), NetCause::Broken),
            (io::Error::other(expired), NetCause::Tls(TlsClass::Expired)),
            (io::Error::other("anything"), NetCause::Other),
        ] {
            let shown = error.to_string();
            assert_eq!(net_cause(&kube::Error::Service(Box::new(error))), cause, "{shown}");
        }
    }

    #[test]
    fn a_missing_token_keeps_its_own_fault() {
        let inner = Fault::new(Code::AwsCredentials, "the session has expired");
        let found = fault(kube::Error::Service(Box::new(NoToken(inner.clone()))), "reading");
        assert_eq!((found.code, found.class, found.message), (inner.code, Class::Environment, inner.message));
    }
}
