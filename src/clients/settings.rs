//! What the environment says, handed to every client explicitly, so that a sandbox can overlay it without touching the process.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Environment variables: the process's own, with an overlay. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    env: Arc<BTreeMap<String, String>>,
    overlay: Arc<BTreeMap<String, String>>,
}

impl Settings {
    /// The process's environment, with `overlay` on top of it.
    pub fn from_process(overlay: impl IntoIterator<Item = (String, String)>) -> Self {
        let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::from_vars(env, overlay)
    }

    /// `env` with `overlay` on top of it, and nothing of the process.
    pub fn from_vars(env: impl IntoIterator<Item = (String, String)>, overlay: impl IntoIterator<Item = (String, String)>) -> Self {
        let overlay: BTreeMap<String, String> = overlay.into_iter().collect();
        let mut env: BTreeMap<String, String> = env.into_iter().collect();
        env.extend(overlay.clone());
        Self { env: Arc::new(env), overlay: Arc::new(overlay) }
    }

    /// The variable's value; an empty one counts as unset, as the tools of this field read it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value only if the overlay sets it.
    pub fn overlaid(&self, name: &str) -> Option<&str> {
        self.overlay.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Everything, as child processes get it.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// What differs from the process's own environment.
    pub fn overlay(&self) -> &BTreeMap<String, String> {
        &self.overlay
    }

    /// The proxy for HTTPS requests to `host`, from HTTPS_PROXY and NO_PROXY (also in lower case).
    pub fn https_proxy(&self, host: &str) -> Option<&str> {
        let proxy = self.get("HTTPS_PROXY").or_else(|| self.get("https_proxy"))?;
        let exempt = self.get("NO_PROXY").or_else(|| self.get("no_proxy")).unwrap_or_default();
        (!no_proxy_names(exempt, host)).then_some(proxy)
    }
}

/// Does a NO_PROXY list exempt `host`? Entries: `*`, a name (with its subdomains, a leading dot allowed), an address or a CIDR.
pub fn no_proxy_names(list: &str, host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry =
            entry.rsplit_once(':').filter(|(name, port)| !name.contains(':') && port.parse::<u16>().is_ok()).map_or(entry.as_str(), |(name, _)| name);
        let name = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*" || host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')) || in_cidr(&host, entry)
    })
}

fn in_cidr(host: &str, entry: &str) -> bool {
    use std::net::IpAddr;
    let Some((network, bits)) = entry.split_once('/') else { return false };
    let (Ok(host), Ok(network), Ok(bits)) = (host.parse::<IpAddr>(), network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (host, network) {
        (IpAddr::V4(host), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            host.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(host), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            host.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_lists_are_read_as_curl_reads_them() {
        for (list, host, exempt) in [
            ("", "a.example", false),
            ("*", "a.example", true),
            ("example", "a.example", true),
            (".example", "a.example", true),
            ("ample", "a.example", false),
            ("localhost, 127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1:8080", "127.0.0.1", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("fd00::/8", "[fd00::1]", true),
            ("169.254.169.254,.eks.amazonaws.com", "X.gr7.eks.amazonaws.com", true),
        ] {
            assert_eq!(no_proxy_names(list, host), exempt, "{list} {host}");
        }
    }

    #[test]
    fn an_overlay_wins_and_empty_is_unset() {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let settings = Settings::from_vars([own("A", "1"), own("B", "2")], [own("A", "3"), own("C", "")]);
        assert_eq!((settings.get("A"), settings.get("B"), settings.get("C")), (Some("3"), Some("2"), None));
        assert_eq!((settings.overlaid("A"), settings.overlaid("B")), (Some("3"), None));
    }
}
