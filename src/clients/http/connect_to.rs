//! `MESHSTEP_CONNECT_TO`, as curl's `--connect-to`: `HOST:PORT:ADDRESS:PORT`, comma-separated; an empty HOST or PORT means any.

use std::net::SocketAddr;

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectTo(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    host: String,
    port: Option<u16>,
    to: SocketAddr,
}

impl ConnectTo {
    pub(super) fn parse(text: &str) -> Result<Self> {
        text.split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| parse(entry).ok_or_else(|| wrong(entry)))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Where a connection to any of `names` on `port` goes instead; the first entry that fits decides.
    pub(super) fn find(&self, names: &[&str], port: u16) -> Option<SocketAddr> {
        let fits = |entry: &&Entry| {
            entry.port.is_none_or(|wanted| wanted == port)
                && (entry.host.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(&entry.host)))
        };
        self.0.iter().find(fits).map(|entry| entry.to)
    }
}

/// From the right: the address may be an IPv6 one in brackets.
fn parse(entry: &str) -> Option<Entry> {
    let (rest, to_port) = entry.rsplit_once(':')?;
    let (rest, address) = match rest.strip_suffix(']') {
        Some(rest) => rest.rsplit_once(":[")?,
        None => rest.rsplit_once(':')?,
    };
    let to = SocketAddr::new(address.parse().ok()?, to_port.parse().ok()?);
    let (host, port) = rest.rsplit_once(':')?;
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    Some(Entry { host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port, to })
}

fn wrong(entry: &str) -> Fault {
    Fault::new(Code::FileInvalid, format!("MESHSTEP_CONNECT_TO: `{entry}` is not HOST:PORT:ADDRESS:PORT")).class(Class::Usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_curl_reads_them() {
        let map = ConnectTo::parse("alb.example:80:127.0.0.1:8080, :443:[::1]:8443,x.example::10.0.0.1:1").expect("valid");
        for (host, port, to) in [
            ("ALB.example", 80, Some("127.0.0.1:8080")),
            ("alb.example", 81, None),
            ("any.example", 443, Some("[::1]:8443")),
            ("x.example", 7, Some("10.0.0.1:1")),
        ] {
            assert_eq!(map.find(&[host], port).map(|to| to.to_string()).as_deref(), to, "{host}:{port}");
        }
    }

    #[test]
    fn a_wrong_entry_is_named() {
        for entry in ["a", "a:80", "a:80:b:80", "a:80:127.0.0.1:99999", "a:x:127.0.0.1:80"] {
            let fault = ConnectTo::parse(entry).expect_err(entry);
            assert!(fault.message.contains(entry), "{fault}");
        }
    }
}
