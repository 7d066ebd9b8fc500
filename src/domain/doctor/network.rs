//! Which way out is taken: proxies, and private certificate authorities, as the environment says.

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault};
use crate::domain::doctor::Verdict;

/// What the environment says. `None`: not set.
#[derive(Clone, Debug, Default)]
pub struct Ways<'a> {
    /// The proxy for HTTPS, and whether NO_PROXY exempts the API server's host.
    pub proxy: Option<&'a str>,
    pub api_server: Option<(&'a str, bool)>,
    /// AWS_CA_BUNDLE, SSL_CERT_FILE, … : the variable, its file, and what is wrong with that file.
    pub authorities: Vec<(&'a str, &'a str, Option<String>)>,
}

pub fn judge(ways: &Ways) -> Verdict {
    let mut words = Vec::new();
    let mut verdict = Verdict::default();
    match ways.proxy {
        None => words.push("no proxy".to_owned()),
        Some(proxy) => {
            let shown = without_password(proxy);
            words.push(match ways.api_server {
                Some((host, true)) => format!("proxy {shown}, the API server {host} without it (NO_PROXY)"),
                Some((_, false)) => format!("proxy {shown}, for the API server too"),
                None => format!("proxy {shown}"),
            });
            if proxy.split_once("://").is_some_and(|(scheme, _)| !matches!(scheme, "http" | "https")) {
                let fault = Fault::new(Code::AwsUnreachable, format!("the proxy {shown} is no HTTP proxy, and no other kind is known here"));
                verdict.faults.push(fault.class(Class::Prerequisite).next("name an HTTP proxy in HTTPS_PROXY, e.g. http://proxy.example:3128"));
            }
        }
    }
    for (variable, file, wrong) in &ways.authorities {
        words.push(format!("{variable} {file}"));
        if let Some(wrong) = wrong {
            let fault = Fault::new(Code::FileUnreadable, format!("{variable} names `{file}`, {wrong}: no TLS connection can be verified with it"));
            verdict.faults.push(fault.class(Class::Prerequisite).next(format!("correct {variable}, or unset it to trust the system's authorities")));
        }
    }
    verdict.note = words.join(", ");
    verdict
}

/// A proxy's address without the name and password that may be in it.
fn without_password(proxy: &str) -> String {
    match proxy.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://***@{host}"),
            None => format!("***@{host}"),
        },
        None => proxy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_are_told_without_passwords() {
        let api = Some(("x.eks.amazonaws.com", false));
        for (ways, note) in [
            (Ways::default(), "no proxy"),
            (
                Ways { proxy: Some("http://me:secret@proxy:3128"), api_server: api, ..Ways::default() },
                "proxy http://***@proxy:3128, for the API server too",
            ),
            (
                Ways { proxy: Some("proxy:3128"), api_server: Some(("h", true)), ..Ways::default() },
                "proxy proxy:3128, the API server h without it (NO_PROXY)",
            ),
            (Ways { authorities: vec![("AWS_CA_BUNDLE", "/ca.pem", None)], ..Ways::default() }, "no proxy, AWS_CA_BUNDLE /ca.pem"),
        ] {
            let verdict = judge(&ways);
            assert_eq!((verdict.note.as_str(), verdict.fault()), (note, None));
        }
    }

    #[test]
    fn what_cannot_work_is_failed() {
        let socks = judge(&Ways { proxy: Some("socks5://proxy:1080"), ..Ways::default() });
        assert!(socks.fault().is_some_and(|fault| fault.class == Class::Prerequisite));
        let missing = judge(&Ways { authorities: vec![("SSL_CERT_FILE", "/ca.pem", Some("which does not exist".into()))], ..Ways::default() });
        assert!(missing.fault().is_some_and(|fault| fault.message.contains("SSL_CERT_FILE names `/ca.pem`, which does not exist")));
    }
}
