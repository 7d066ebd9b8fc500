//! Who gave an answer: the load balancer itself, the gateway's Envoy, or the service; and what that says about where a fault lies.

use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::clients::http;

/// How much of a body tells who answered.
const ESSENCE: usize = 1024;

/// An answer, as far as a judgement needs it. Header names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// The beginning of the body.
    pub body: String,
    /// From sending to the end, milliseconds.
    pub took_ms: u64,
}

impl From<http::Answer> for Reply {
    fn from(answer: http::Answer) -> Self {
        let took_ms = u64::try_from(answer.timings.total.as_millis()).unwrap_or(u64::MAX);
        Self { status: answer.status, body: answer.text(), headers: answer.headers, took_ms }
    }
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn server(&self) -> &str {
        self.header("server").unwrap_or_default()
    }

    /// Did the gateway get an answer from behind it? Only then does Envoy add this header.
    pub fn reached_service(&self) -> bool {
        self.header("x-envoy-upstream-service-time").is_some()
    }

    /// Does the service's own sidecar deny the request? Through the gateway its words look like the service's.
    pub fn is_denied_by_sidecar(&self) -> bool {
        self.status == 403 && self.body.trim() == "RBAC: access denied"
    }

    /// What tells who answered, without other headers and the rest of the body: for a run's log.
    #[must_use]
    pub fn essence(&self) -> Self {
        let tells = |name: &str| matches!(name, "server" | "location" | "x-envoy-upstream-service-time");
        let headers = self.headers.iter().filter(|(name, _)| tells(name)).cloned().collect();
        Self { status: self.status, headers, body: crate::base::text::head(&self.body, ESSENCE).into_owned(), took_ms: self.took_ms }
    }

    /// The start of the body on one line.
    pub fn gist(&self) -> String {
        let line = crate::base::text::one_line(&self.body);
        if line.is_empty() { "an empty body".to_owned() } else { format!("`{}`", crate::base::text::head(&line, 300)) }
    }
}

/// Who answered, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The service itself, through the gateway.
    Service,
    /// The service's own sidecar: the gateway reached the pod, but the sidecar not the program in it.
    Sidecar,
    /// The gateway has no route (Envoy NR).
    NoRoute,
    /// The gateway has no healthy pod to send to (UH).
    NoHealthyUpstream,
    /// The route's destination is no Service that the gateway knows (NC).
    NoCluster,
    /// The gateway could not talk to the pods (UF, URX, UC, UT): its own reason, and the TLS reason if the body gives one.
    Upstream { reason: String, tls: Option<TlsReason> },
    /// The gateway sends elsewhere (a redirect of the Gateway or of a route).
    GatewayRedirect { location: String },
    /// The gateway refuses by a policy: authorisation, JWT, rate limit, overload.
    GatewayPolicy { what: &'static str },
    /// The gateway answered in a way of its own that is none of the above.
    Gateway,
    /// The load balancer sends elsewhere.
    AlbRedirect { location: String },
    /// No rule of the load balancer matches.
    AlbNoRule,
    /// A fixed 503 that the load balancer controller puts where a Service is missing.
    AlbNoBackend,
    /// The load balancer got no usable answer from its targets: 502, 503, 504.
    AlbNoTarget,
    /// A response that a rule of the load balancer has ready (`actions.*` of an Ingress), of any status.
    AlbFixed,
    /// The load balancer's own answer of another kind: WAF, authentication, a malformed request.
    Alb,
    /// Something that is neither Istio nor the load balancer.
    Other,
}

/// What the body of a 503 says about TLS. Envoy 1.38.1 and newer keep silent: the absence proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsReason {
    VerifyFailed,
    /// Verified, but for other names.
    SanMismatch,
    Expired,
    /// The peer does not speak TLS at all.
    Plaintext,
    Other,
}

/// Reads a TLS reason from a body or a log line; spaces and underscores are the same.
pub fn tls_reason(text: &str) -> Option<TlsReason> {
    let text = text.to_ascii_lowercase().replace('_', " ");
    let has = |needle: &str| text.contains(needle);
    if !has("tls error") && !has("certificate verify failed") && !has("transport failure reason") {
        return None;
    }
    Some(if has("wrong version number") {
        TlsReason::Plaintext
    } else if has("san matcher") || has("verify san list") || has("certificate sans are") {
        TlsReason::SanMismatch
    } else if has("certificate has expired") || has("certificate expired") {
        TlsReason::Expired
    } else if has("certificate verify failed") {
        TlsReason::VerifyFailed
    } else if has("tls error") {
        TlsReason::Other
    } else {
        return None;
    })
}

/// Says who answered.
pub fn origin(reply: &Reply) -> Origin {
    let server = reply.server().to_ascii_lowercase();
    let body = reply.body.trim();
    let location = reply.header("location").filter(|_| matches!(reply.status, 301 | 302 | 303 | 307 | 308)).map(str::to_owned);
    let upstream = upstream_reason(body);
    if reply.status == 503 && !reply.reached_service() && (body == "Backend service does not exist" || body == "Backend action does not exist") {
        return Origin::AlbNoBackend;
    }
    if server.starts_with("awselb/") {
        return alb(reply.status, body, location);
    }
    if reply.reached_service() {
        // The sidecar's words come through the gateway as if they were the service's; a program that prints them looks the same,
        // and in neither case is the gateway's trust in question.
        return if upstream.is_some() && reply.status == 503 { Origin::Sidecar } else { Origin::Service };
    }
    if server != "istio-envoy" && server != "envoy" {
        return if server.is_empty() && matches!(reply.status, 502..=504) { Origin::AlbNoTarget } else { Origin::Other };
    }
    match (reply.status, location) {
        (_, Some(location)) => Origin::GatewayRedirect { location },
        (404, _) if body.is_empty() => Origin::NoRoute,
        (503, _) if body.starts_with("no healthy upstream") => Origin::NoHealthyUpstream,
        (502..=504, _) if upstream.is_some() => Origin::Upstream { reason: upstream.unwrap_or_default(), tls: tls_reason(body) },
        (503, _) if body.is_empty() => Origin::NoCluster,
        (504, _) if body == "upstream request timeout" => Origin::Upstream { reason: "no answer within the route's time".to_owned(), tls: None },
        (403, _) if body.starts_with("RBAC: access denied") => Origin::GatewayPolicy { what: "an AuthorizationPolicy" },
        (401, _) if body.starts_with("Jwt") => Origin::GatewayPolicy { what: "a RequestAuthentication" },
        (429, _) => Origin::GatewayPolicy { what: "a rate limit" },
        (503, _) if body.contains("overload") => Origin::GatewayPolicy { what: "its overload protection" },
        _ => Origin::Gateway,
    }
}

/// Says who answered where no gateway is between: the service's own sidecar, or the service.
pub fn own_origin(reply: &Reply) -> Origin {
    if reply.status == 503 && upstream_reason(reply.body.trim()).is_some() { Origin::Sidecar } else { Origin::Service }
}

/// The reason in Envoy's local reply: `connection failure`, `remote connection failure`, `connection termination`, `overflow`…
fn upstream_reason(body: &str) -> Option<String> {
    let rest = body.strip_prefix("upstream connect error or disconnect/reset before headers")?;
    let from = rest.find("reset reason: ").map_or("", |at| &rest[at + "reset reason: ".len()..]);
    let reason = from.split(", transport failure reason").next().unwrap_or_default().trim();
    Some(if reason.is_empty() { "connection failure".to_owned() } else { reason.to_owned() })
}

/// Its own errors are pages of HTML; what has another body, or none, was put there, as is the empty 404 where no rule matches.
fn alb(status: u16, body: &str, location: Option<String>) -> Origin {
    let own_page = body.contains(&format!("<h1>{status} "));
    match (status, location) {
        (_, Some(location)) => Origin::AlbRedirect { location },
        (404, None) if body.is_empty() || own_page => Origin::AlbNoRule,
        _ if !own_page => Origin::AlbFixed,
        (502..=504, None) => Origin::AlbNoTarget,
        _ => Origin::Alb,
    }
}

impl Origin {
    /// Is it Istio's Envoy, or something behind it, that answered?
    pub fn is_mesh(&self) -> bool {
        !matches!(
            self,
            Origin::AlbRedirect { .. }
                | Origin::AlbNoRule
                | Origin::AlbNoBackend
                | Origin::AlbNoTarget
                | Origin::AlbFixed
                | Origin::Alb
                | Origin::Other
        )
    }

    /// A 503 of the gateway that a stale certificate can be behind; only evidence beside it can prove that.
    pub fn may_be_stale_certificate(&self) -> bool {
        matches!(self, Origin::Upstream { .. })
    }

    /// The fault's code when an answer of the service was due.
    pub fn code(&self) -> Code {
        match self {
            Origin::Service => Code::HttpStatus,
            Origin::Sidecar | Origin::Upstream { .. } | Origin::NoCluster => Code::UpstreamFailed,
            Origin::NoRoute => Code::NoRoute,
            Origin::NoHealthyUpstream => Code::NoHealthyUpstream,
            Origin::AlbNoRule => Code::AlbNoRule,
            Origin::AlbNoTarget => Code::AlbNoTarget,
            Origin::AlbNoBackend => Code::NoTargetGroup,
            Origin::GatewayRedirect { .. }
            | Origin::GatewayPolicy { .. }
            | Origin::Gateway
            | Origin::AlbRedirect { .. }
            | Origin::AlbFixed
            | Origin::Alb
            | Origin::Other => Code::HttpUnexpected,
        }
    }

    /// Where the fault lies, as the end of a sentence that begins with the status.
    pub fn words(&self) -> String {
        match self {
            Origin::Service => "by the service itself".to_owned(),
            Origin::Sidecar => "by the service's own sidecar: the program in the pod does not answer it".to_owned(),
            Origin::NoRoute => "by the gateway: it has no route for this host and path".to_owned(),
            Origin::NoHealthyUpstream => "by the gateway: it has no healthy pod to send to".to_owned(),
            Origin::NoCluster => "by the gateway: the route's destination is no Service it knows".to_owned(),
            Origin::Upstream { reason, tls } => {
                let tls = match tls {
                    Some(TlsReason::VerifyFailed) => ", the pod's certificate is not trusted",
                    Some(TlsReason::SanMismatch) => ", the pod's certificate is for another identity",
                    Some(TlsReason::Expired) => ", a certificate has expired",
                    Some(TlsReason::Plaintext) => ", the pod does not speak TLS",
                    Some(TlsReason::Other) => ", the TLS handshake fails",
                    None => "",
                };
                format!("by the gateway: it cannot talk to the pods ({reason}{tls})")
            }
            Origin::GatewayRedirect { location } => format!("by the gateway, which sends to {location}"),
            Origin::GatewayPolicy { what } => format!("by the gateway: {what} refuses the request"),
            Origin::Gateway => "by the gateway itself".to_owned(),
            Origin::AlbRedirect { location } => format!("by the load balancer, which sends to {location}"),
            Origin::AlbNoRule => "by the load balancer: no rule matches".to_owned(),
            Origin::AlbNoBackend => "by the load balancer: its controller found no Service behind the Ingress".to_owned(),
            Origin::AlbNoTarget => "by the load balancer: no target gives a usable answer".to_owned(),
            Origin::AlbFixed => "by the load balancer: a rule of it answers with a fixed response".to_owned(),
            Origin::Alb => "by the load balancer itself".to_owned(),
            Origin::Other => "by something that is neither the gateway nor the load balancer".to_owned(),
        }
    }

    /// What to do, for the origins where the code's own advice is too general.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Origin::Sidecar => "check that the program runs and listens on the port that the Service names; read its log",
            Origin::NoCluster => "write the destination as NAME.NAMESPACE.svc.cluster.local: short names mean the VirtualService's own namespace",
            Origin::Upstream { tls: Some(TlsReason::Plaintext), .. } => {
                "the pod has no sidecar or the port is excluded: check injection, PeerAuthentication and DestinationRule; a restart does not help"
            }
            Origin::Upstream { tls: Some(TlsReason::SanMismatch), .. } => {
                "check trustDomain and DestinationRule.subjectAltNames; a restart does not help"
            }
            Origin::GatewayPolicy { .. } => "check the policies that select the gateway",
            Origin::AlbNoBackend => "check that the gateway's Service exists and that the Ingress names it; then touch the Ingress",
            Origin::AlbFixed => {
                "look for the annotation `alb.ingress.kubernetes.io/actions.*` with this answer on the Ingresses of the load balancer"
            }
            Origin::Alb => "look at WAF, authentication rules and the request's size",
            Origin::Other => "check which address the name resolves to, and proxies on the way",
            _ => return None,
        })
    }

    /// How long this answer may go on before waiting for another is pointless, seconds. Routes, rules and certificates take a moment to spread.
    pub fn patience_seconds(&self) -> u64 {
        match self {
            Origin::NoRoute | Origin::NoCluster | Origin::AlbNoRule | Origin::AlbNoBackend | Origin::AlbFixed => 20,
            Origin::Upstream { tls: Some(TlsReason::Plaintext | TlsReason::SanMismatch), .. } => 10,
            _ => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests;
