//! The ExecCredential that `meshstep token` prints for kubectl, helm and istioctl.

use jiff::Timestamp;
use serde_json::{Value, json};

pub const API_VERSION: &str = "client.authentication.k8s.io/v1";

/// What a client-go credential plugin answers with.
pub fn exec_credential(token: &str, expires: Timestamp) -> Value {
    // client-go reads RFC 3339 in whole seconds.
    let seconds = Timestamp::from_second(expires.as_second()).unwrap_or(expires);
    json!({
        "kind": "ExecCredential",
        "apiVersion": API_VERSION,
        "spec": {"interactive": false},
        "status": {"expirationTimestamp": seconds.to_string(), "token": token},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_client_go_reads() {
        let expires: Timestamp = "2026-11-23T01:16:03.123456Z".parse().expect("a time");
        let credential = exec_credential("k8s-aws-v1.x", expires);
        let expected = r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false},"status":{"expirationTimestamp":"2026-11-23T01:16:03Z","token":"k8s-aws-v1.x"}}"#;
        assert_eq!(credential.to_string(), expected);
    }
}
