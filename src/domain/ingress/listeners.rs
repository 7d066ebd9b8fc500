//! On which of the load balancer's listeners the hosts of an Ingress are served.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clients::http::Scheme;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub scheme: Scheme,
    pub port: u16,
}

/// What is meant where nothing is said.
pub const USUAL: [Listener; 2] = [Listener::usual(Scheme::Http), Listener::usual(Scheme::Https)];

impl Listener {
    /// The scheme's own port.
    pub const fn usual(scheme: Scheme) -> Self {
        Self { scheme, port: scheme.default_port() }
    }

    /// `HTTP` or `HTTPS`, as AWS and the annotation call it; others are not asked.
    pub fn of(protocol: &str, port: i64) -> Option<Self> {
        let scheme = match protocol.to_ascii_uppercase().as_str() {
            "HTTP" => Scheme::Http,
            "HTTPS" => Scheme::Https,
            _ => return None,
        };
        Some(Self { scheme, port: u16::try_from(port).ok()? })
    }

    /// The port as a URL shows it.
    pub fn shown_port(self) -> Option<u16> {
        (self != Self::usual(self.scheme)).then_some(self.port)
    }
}

/// The annotation `listen-ports`: `[{"HTTP": 80}, {"HTTPS": 443}]`; none if it is not that.
pub fn named(annotation: &str) -> Vec<Listener> {
    let Ok(Value::Array(entries)) = serde_json::from_str(annotation) else { return Vec::new() };
    let maps = entries.iter().filter_map(Value::as_object).flatten();
    maps.filter_map(|(protocol, port)| Listener::of(protocol, port.as_i64()?)).collect()
}

/// Those to ask, HTTP first: of what AWS has (`there`) those that the Ingress names, for others of its group have their own. Empty: not known.
pub fn to_ask(named: &[Listener], there: &[Listener]) -> Vec<Listener> {
    let ours = if named.is_empty() { &USUAL } else { named };
    let mut found: Vec<Listener> = there.iter().filter(|listener| ours.contains(listener)).copied().collect();
    if found.is_empty() {
        found = if named.is_empty() { there } else { named }.to_vec();
    }
    found.sort_by_key(|listener| (listener.scheme == Scheme::Https, listener.port));
    found
}

/// The usual ones where none is known.
pub fn or_usual(known: Vec<Listener>) -> Vec<Listener> {
    if known.is_empty() { USUAL.to_vec() } else { known }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(listeners: &[Listener]) -> String {
        listeners.iter().map(|l| format!("{}:{}", l.scheme.as_str(), l.port)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_annotation_is_read() {
        for (annotation, expected) in [
            (r#"[{"HTTP": 80}, {"HTTPS": 443}]"#, "http:80 https:443"),
            (r#"[{"HTTP":8080,"HTTPS":8443}]"#, "http:8080 https:8443"),
            (r#"[{"HTTP": 80}, {"TCP": 9000}, {"HTTP": 70000}]"#, "http:80"),
            ("80", ""),
            ("", ""),
        ] {
            assert_eq!(shown(&named(annotation)), expected, "{annotation}");
        }
    }

    #[test]
    fn the_ingresss_own_listeners_are_asked() {
        let all = |text: &str| -> Vec<Listener> {
            let one = |word: &str| word.split_once(':').and_then(|(scheme, port)| Listener::of(scheme, port.parse().ok()?));
            text.split_whitespace().filter_map(one).collect()
        };
        for (named, there, expected) in [
            ("", "https:443 http:80", "http:80 https:443"),
            ("", "https:443", "https:443"),
            ("http:8080", "http:8080 http:80", "http:8080"),
            ("http:80 https:443", "http:80", "http:80"),
            // Another Ingress of the group has its own.
            ("", "http:80 https:8443", "http:80"),
            // Named by the class's parameters, or not at all.
            ("", "http:8080", "http:8080"),
            ("https:8443 http:8080", "", "http:8080 https:8443"),
            ("", "", ""),
        ] {
            assert_eq!(shown(&to_ask(&all(named), &all(there))), expected, "{named} of {there}");
        }
        assert_eq!([all("http:80")[0].shown_port(), all("https:80")[0].shown_port()], [None, Some(80)]);
    }
}
