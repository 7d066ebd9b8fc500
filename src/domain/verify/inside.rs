//! Answers that a probe pod was given: in the words of the agent's own client, and what its curl does not see.

use std::time::Duration;

use crate::clients::http::{DnsError, NetError, Phase, TlsClass};
use crate::domain::probe::Transfer;
use crate::domain::verify::answer::Reply;
use crate::domain::verify::expect::Expect;

/// The answer, or why there is none. `name`: what was connected to; `within`: what the request could take.
///
/// # Errors
/// The agent's error of the same kind; curl's own words are kept.
pub fn answer(transfer: Transfer, name: &str, within: Duration) -> Result<Reply, NetError> {
    let (code, why, phase) = (transfer.code, transfer.ended(), phase(&transfer));
    let words = &transfer.words;
    match (code, transfer.reply) {
        (0, Some(reply)) => Ok(reply),
        (6, _) => Err(NetError::Dns(DnsError::Other { name: name.to_owned(), why })),
        (7, _) if words.contains("unreachable") || words.contains("No route") => Err(NetError::Unreachable { address: name.to_owned(), why }),
        (7, _) => Err(NetError::Refused { address: name.to_owned() }),
        (28, _) => Err(NetError::Timeout { phase, after: within }),
        (35 | 51 | 60 | 77 | 83, _) => Err(NetError::Tls { class: class(words), message: why, chain: Vec::new() }),
        (18 | 52 | 55 | 56, _) => Err(NetError::Reset { phase, why }),
        _ => Err(NetError::Protocol(why)),
    }
}

/// Where it was when it ended, as far as curl tells.
fn phase(transfer: &Transfer) -> Phase {
    match (transfer.connected, &transfer.reply) {
        (_, Some(_)) => Phase::Body,
        (true, None) => Phase::FirstByte,
        (false, None) => Phase::Connect,
    }
}

/// OpenSSL's reasons in curl's words.
fn class(words: &str) -> TlsClass {
    let has = |needle: &str| words.contains(needle);
    if has("has expired") {
        TlsClass::Expired
    } else if has("not yet valid") {
        TlsClass::NotYetValid
    } else if has("subject name") || has("target host name") {
        TlsClass::WrongName
    } else if has("local issuer") || has("self-signed") || has("self signed") {
        TlsClass::UnknownIssuer
    } else {
        TlsClass::Other
    }
}

/// The expectation without what a pod's curl does not see, and what that is.
pub fn seen(expect: &Expect) -> (Expect, Vec<&'static str>) {
    let mut seen = expect.clone();
    let unseen = [("certificate-days", seen.more.certificate_days.take().is_some()), ("min-tls", seen.more.min_tls.take().is_some())];
    (seen, unseen.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codes::Code;
    use crate::domain::verify::want::{More, TlsVersion};

    #[test]
    fn each_end_is_the_agents_fault_of_the_same_kind() {
        let reply = || Some(Reply { status: 200, ..Reply::default() });
        let end = |code, words: &str| Transfer { code, words: words.to_owned(), connected: true, reply: None };
        for (transfer, code, words) in [
            (end(6, "Could not resolve host: alb"), Code::DnsUnresolved, "Could not resolve host"),
            (end(7, "Failed to connect to alb port 80: Couldn't connect to server"), Code::Refused, "alb refuses"),
            (end(7, "Failed to connect to alb port 80: Network is unreachable"), Code::Unreachable, "alb cannot be reached"),
            (Transfer { connected: false, ..end(28, "") }, Code::NoAnswer, "no answer within 10 s (while connecting)"),
            (end(28, ""), Code::NoAnswer, "first byte"),
            (Transfer { reply: reply(), ..end(28, "") }, Code::NoAnswer, "while reading the body"),
            (end(60, "SSL certificate problem: unable to get local issuer certificate"), Code::TlsUntrusted, "local issuer"),
            (end(60, "SSL: no alternative certificate subject name matches target host name 'h'"), Code::TlsName, "'h'"),
            (end(60, "SSL certificate problem: certificate has expired"), Code::TlsExpired, "expired"),
            (end(35, "TLS connect error: wrong version number"), Code::TlsProtocol, "wrong version"),
            (end(56, "Recv failure: Connection reset by peer"), Code::NoAnswer, "reset by peer"),
            (Transfer { reply: reply(), ..end(18, "end of response with 3 bytes missing") }, Code::NoAnswer, "3 bytes missing"),
            (end(1, "Received HTTP/0.9 when not allowed"), Code::HttpUnexpected, "HTTP/0.9"),
        ] {
            let fault = answer(transfer.clone(), "alb", Duration::from_secs(10)).expect_err("no answer").fault();
            assert_eq!(fault.code, code, "{transfer:?}");
            assert!(fault.message.contains(words), "{words}: {fault}");
        }
        let whole = answer(Transfer { reply: reply(), ..end(0, "") }, "alb", Duration::from_secs(10));
        assert_eq!(whole.map(|reply| reply.status), Ok(200));
    }

    #[test]
    fn what_curl_does_not_tell_is_named() {
        let more = More { certificate_days: Some(30), min_tls: Some(TlsVersion::V12), redirect_to: Some("https://h/".into()), ..More::default() };
        let (left, unseen) = seen(&Expect { more, ..Expect::default() });
        assert_eq!(unseen, ["certificate-days", "min-tls"]);
        assert!(left.more.redirect_to.is_some() && left.more.certificate_days.is_none() && left.more.min_tls.is_none());
        assert_eq!(seen(&Expect::default()), (Expect::default(), vec![]));
    }
}
