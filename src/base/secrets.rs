//! Keeps tokens, keys and passwords out of every text that leaves the tool.

use std::borrow::Cow;
use std::sync::{LazyLock, RwLock};

use aho_corasick::AhoCorasick;
use regex::Regex;

/// Values that must never be shown, learnt as the run meets them.
static KNOWN: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Shapes that are secret whoever made them, with the words that each has in it.
const SHAPES: [(&[&str], &str); 6] = [
    (&["k8s-aws-v1."], r"k8s-aws-v1\.[A-Za-z0-9_-]+"),
    (&["bearer"], r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}"),
    (&["x-amz-"], r"(?i)x-amz-(?:signature|security-token|credential)=[^&\s]+"),
    (&["eyJ"], r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    (&["PRIVATE KEY"], r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)"),
    (&["AKIA", "ASIA"], r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
];

static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
    let shapes = SHAPES.map(|(_, shape)| shape).join("|");
    Regex::new(&shapes).expect("the shapes are valid")
});

/// Few texts have any of the words, and looking for those costs far less than for the shapes.
static SIGN: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let signs = SHAPES.iter().flat_map(|(signs, _)| *signs);
    AhoCorasick::builder().ascii_case_insensitive(true).build(signs).expect("the words are few")
});

pub const MASK: &str = "[redacted]";

/// Remembers a secret value. Values under 6 characters are not masked: they would blot out ordinary words.
pub fn learn(value: &str) {
    let value = value.trim();
    if value.len() >= 6 {
        let mut known = KNOWN.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !known.iter().any(|old| old == value) {
            known.push(value.to_owned());
            known.sort_by_key(|v| std::cmp::Reverse(v.len()));
        }
    }
}

/// Learns what the environment calls a secret: Jenkins' `X_PSW`, and names that end like one.
pub fn learn_environment<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) {
    const ENDS: [&str; 8] = ["_PSW", "PASSWORD", "SECRET", "TOKEN", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "API_KEY", "PRIVATE_KEY"];
    for (name, value) in variables {
        let name = name.to_uppercase();
        if ENDS.iter().any(|end| name.ends_with(end)) {
            learn(value);
        }
    }
}

/// `text` without any secret that is known or has a secret's shape.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut out = if SIGN.is_match(text) { SHAPE.replace_all(text, MASK) } else { Cow::Borrowed(text) };
    let known = KNOWN.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    for secret in known.iter() {
        if out.contains(secret.as_str()) {
            out = Cow::Owned(out.replace(secret.as_str(), MASK));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_known_values_are_masked() {
        learn("hunter2hunter2");
        for text in [
            "token k8s-aws-v1.aHR0cHM6Ly9zdHM end",
            "Authorization: Bearer abcdefghijklmnop",
            "https://sts/?X-Amz-Signature=abcdef&x=1",
            "password hunter2hunter2 given",
            "X-AMZ-credential=abc",
            "id ASIAABCDEFGHIJKLMNOP end",
            "jwt eyJhbGciOiJub25lIn0.eyJhbGciOiJub25lIn0.x",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        ] {
            let redacted = redact(text);
            assert!(redacted.contains(MASK), "{redacted}");
            assert!(!redacted.contains("hunter2") && !redacted.contains("MIIE") && !redacted.contains("aHR0"), "{redacted}");
        }
        assert_eq!(redact("nothing to hide"), "nothing to hide");
    }

    #[test]
    fn environment_names_that_end_like_secrets_are_learnt() {
        learn_environment([("REGISTRY_PSW", "p4ssw0rd-x"), ("HOME", "/home/agent-home")]);
        assert_eq!(redact("p4ssw0rd-x at /home/agent-home"), format!("{MASK} at /home/agent-home"));
    }
}
