//! A proxy's access log: which Service's certificate it refused, and whom it calls. It carries the reason in every Envoy version, if it
//! is switched on.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::verify::answer::{TlsReason, tls_reason};

/// One request that failed on TLS towards a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFailure {
    pub service: String,
    pub namespace: String,
    pub port: u16,
    pub reason: TlsReason,
    #[serde(default)]
    pub at: Option<Timestamp>,
    pub line: String,
}

/// What the log tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// Is access logging on at all?
    pub on: bool,
    pub failures: Vec<TlsFailure>,
    /// The Services that were called, as namespace and name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub calls: BTreeSet<(String, String)>,
}

static CLUSTER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"outbound\|(\d+)\|[^|]*\|([A-Za-z0-9.-]+)").expect("the pattern is valid"));
static PLAIN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"^\[([^\]]+)\] "\S+ \S+ HTTP/[\d.]+" \d{3} "#).expect("the pattern is valid"));

/// Reads the log of a proxy's container, agent lines among it. Failures from before `since` are an older story.
pub fn read(log: &str, since: Option<Timestamp>) -> AccessLog {
    let mut found = AccessLog::default();
    for line in log.lines() {
        let json = line.trim_start().starts_with('{').then(|| serde_json::from_str::<Value>(line).ok()).flatten();
        let (cluster, reason, at) = match (&json, PLAIN.captures(line)) {
            (Some(json), _) if json.get("upstream_cluster").is_some() || json.get("response_code").is_some() => {
                let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
                let reason = format!("{} {}", text("upstream_transport_failure_reason"), text("response_code_details"));
                (text("upstream_cluster").to_owned(), reason, text("start_time").parse().ok())
            }
            (None, Some(plain)) => (line.to_owned(), line.to_owned(), plain[1].parse::<Timestamp>().ok()),
            _ => continue,
        };
        found.on = true;
        let Some(cluster) = CLUSTER.captures(&cluster) else { continue };
        let mut labels = cluster[2].split('.');
        let (service, namespace) = (labels.next().unwrap_or_default().to_owned(), labels.next().unwrap_or_default().to_owned());
        let old = at.zip(since).is_some_and(|(at, since)| at < since);
        if let Some(reason) = tls_reason(&reason).filter(|_| !old) {
            let port = cluster[1].parse().unwrap_or(0);
            found.failures.push(TlsFailure { service: service.clone(), namespace: namespace.clone(), port, reason, at, line: line.to_owned() });
        }
        found.calls.insert((namespace, service));
    }
    found
}

impl AccessLog {
    /// The failures towards one Service.
    pub fn towards(&self, namespace: &str, service: &str) -> Vec<&TlsFailure> {
        self.failures.iter().filter(|f| f.service == service && f.namespace == namespace).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const FAILED: &str = r#"[2026-11-23T02:20:58.000Z] "GET /x HTTP/1.1" 503 URX,UF upstream_reset_before_response_started{remote_connection_failure|TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_X509_verify_cert:_certificate_verification_error_at_depth_1:_self_signed_certificate_in_certificate_chain:TLS_error_end} - "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end" 0 121 60 - "10.0.0.1" "curl/7.88.1" "u" "orders.example.com" "10.244.0.12:8080" outbound|80||orders.shop.svc.cluster.local - 10.244.0.11:8080 10.0.0.1:56756 - -"#;
    const HEALTHY: &str = r#"[2026-11-23T02:20:58.000Z] "GET /x HTTP/1.1" 200 - via_upstream - "-" 0 253 1 1 "10.0.1.10,10.0.0.10" "curl/7.88.1" "u" "orders.example.com" "10.244.0.12:8080" outbound|80||orders.shop.svc.cluster.local 10.244.0.11:52226 10.244.0.11:8080 10.0.0.10:32552 - -"#;
    const NO_TLS: &str = r#"[2026-11-23T02:20:58.000Z] "GET /x HTTP/1.1" 503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_111} - "delayed_connect_error:_111" 0 121 60 - "10.0.0.1" "curl" "u" "orders.example.com" "10.244.0.12:8080" outbound|80||orders.shop.svc.cluster.local - 10.244.0.11:8080 10.0.0.1:56756 - -"#;
    const JSON: &str = r#"{"response_code":503,"response_flags":"UF,URX","response_code_details":"upstream_reset_before_response_started{remote_connection_failure|TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end}","upstream_cluster":"outbound|8000|v1|app1-service.prod.svc.cluster.local","authority":"app1.public.domain"}"#;

    #[test]
    fn the_failing_service_is_named() {
        let log = read(&format!("2026-11-23T02:20:58Z\tinfo\tEnvoy proxy is ready\n{HEALTHY}\n{FAILED}\n{NO_TLS}\n{JSON}\n"), None);
        let named: Vec<_> = log.failures.iter().map(|f| (f.service.as_str(), f.namespace.as_str(), f.port, f.reason)).collect();
        assert_eq!(named, [("orders", "shop", 80, TlsReason::VerifyFailed), ("app1-service", "prod", 8000, TlsReason::VerifyFailed)]);
        assert_eq!(log.towards("shop", "orders").len(), 1);
        assert!(log.on);
        let calls: Vec<_> = log.calls.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
        assert_eq!(calls, ["prod/app1-service", "shop/orders"]);
    }

    #[test]
    fn an_older_failure_is_another_story() {
        let since = |text: &str| Some(text.parse().expect("a time"));
        assert_eq!(read(FAILED, since("2026-11-23T02:20:00Z")).failures.len(), 1);
        assert_eq!(read(FAILED, since("2026-11-23T02:21:00Z")).failures.len(), 0);
        assert!(read(FAILED, since("2026-11-23T02:21:00Z")).on);
        assert_eq!(read(JSON, since("2026-11-23T02:21:00Z")).failures.len(), 1, "a line without a time counts");
    }

    #[test]
    fn a_log_that_is_off_is_not_a_clean_one() {
        assert!(!read("2026-11-23T02:20:58Z\tinfo\tEnvoy proxy is ready\n{\"level\":\"info\",\"msg\":\"x\"}", None).on);
    }
}
