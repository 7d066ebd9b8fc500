//! Why an image could not be pulled, from the kubelet's and the runtime's words.

use std::sync::LazyLock;

use regex::Regex;

use crate::base::codes::Code;

/// What the words of a failed pull mean; `None` when they say nothing of the cause.
pub fn cause(reason: &str, message: &str, image: &str) -> Option<Code> {
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" => return Some(Code::ImageNotFound),
        _ => {}
    }
    let words = plain(message, image);
    let is = |pattern: &Regex| pattern.is_match(&words);
    if is(&PLATFORM) {
        Some(Code::ImageWrongPlatform)
    } else if is(&NETWORK) {
        Some(Code::ImageUnreachable)
    } else if is(&DENIED) {
        Some(Code::ImageDenied)
    } else if is(&ABSENT) {
        Some(Code::ImageNotFound)
    } else {
        // A full disk, a broken layer: it does not come, whatever that is.
        (!is(&SILENT)).then_some(Code::ImageUnreachable)
    }
}

/// Is it the registry or the way to it that does not answer?
pub fn is_network(message: &str, image: &str) -> bool {
    NETWORK.is_match(&plain(message, image))
}

/// Names and addresses may hold any word, so they are taken out.
fn plain(message: &str, image: &str) -> String {
    QUOTED.replace_all(message, " ").replace(image, " ").to_lowercase()
}

/// Is this a reason of a container that waits for its image?
pub fn is_pull_reason(reason: &str) -> bool {
    matches!(reason, "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "ImageInspectError" | "RegistryUnavailable")
}

static QUOTED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"\\?"[^"]*\\?""#).expect("a valid pattern"));
static SILENT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*(?:error:|back-off pulling image)?[\s:]*(?:errimagepull|imagepullbackoff)?[\s:]*$").expect("a valid pattern"));
static PLATFORM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"no match for platform|no matching manifest for|image operating system|exec format error").expect("a valid pattern")
});
static NETWORK: LazyLock<Regex> = LazyLock::new(|| {
    let network =
        r"no such host|server misbehaving|dial tcp|i/o timeout|timeout|timed out|deadline exceeded|connection (?:refused|reset)|no route to host";
    let server = r"network is unreachable|unexpected eof|\beof\b|too ?many ?requests|\b429\b|rate limit|\b50[0-9]\b|service unavailable|bad gateway";
    let tls = r"x509|tls:|certificate|http response to https client";
    Regex::new(&format!("{network}|{server}|{tls}")).expect("a valid pattern")
});
static DENIED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"denied|unauthorized|no basic auth|authentication required|authorization failed|failed to authorize|forbidden|\b40[13]\b|credential")
        .expect("a valid pattern")
});
static ABSENT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"not found|notfound|manifest unknown|name unknown|\b404\b|does not exist|invalid reference|could not parse reference|not present with pull policy")
        .expect("a valid pattern")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_runtimes_and_registries() {
        use Code::*;
        let image = "registry.example/denied-503:404";
        for (words, code) in [
            (
                r#"rpc error: code = NotFound desc = failed to pull and unpack image "registry.example/denied-503:404": failed to resolve reference "registry.example/denied-503:404": registry.example/denied-503:404: not found"#,
                Some(ImageNotFound),
            ),
            (
                r#"Back-off pulling image "registry.example/denied-503:404": ErrImagePull: rpc error: code = NotFound desc = x: not found"#,
                Some(ImageNotFound),
            ),
            (
                "Error response from daemon: manifest for registry.example/denied-503:404 not found: manifest unknown: manifest unknown",
                Some(ImageNotFound),
            ),
            ("Error response from daemon: pull access denied for app1, repository does not exist or may require 'docker login'", Some(ImageDenied)),
            (
                r#"failed to resolve reference "x": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"#,
                Some(ImageDenied),
            ),
            (
                r#"failed to resolve reference "x": failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://auth/token: 401 Unauthorized"#,
                Some(ImageDenied),
            ),
            (
                r#"failed to resolve reference "x": unexpected status from HEAD request to https://1.dkr.ecr/v2/app/manifests/1: 403 Forbidden"#,
                Some(ImageDenied),
            ),
            ("no basic auth credentials", Some(ImageDenied)),
            (r#"failed to do request: Head "https://registry.example/v2/": dial tcp: lookup registry.example: no such host"#, Some(ImageUnreachable)),
            (
                r#"failed to do request: Head "https://registry.example/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority"#,
                Some(ImageUnreachable),
            ),
            (r#"failed to authorize: failed to fetch oauth token: Post "https://auth": net/http: TLS handshake timeout"#, Some(ImageUnreachable)),
            ("toomanyrequests: You have reached your pull rate limit", Some(ImageUnreachable)),
            ("unexpected status from HEAD request to https://r/v2/a/manifests/1: 503 Service Unavailable", Some(ImageUnreachable)),
            (r#"failed to pull and unpack image "x": no match for platform in manifest: not found"#, Some(ImageWrongPlatform)),
            ("no matching manifest for linux/arm64/v8 in the manifest list entries", Some(ImageWrongPlatform)),
            ("write /var/lib/containerd/io.containerd.content.v1.content/ingest/1/data: no space left on device", Some(ImageUnreachable)),
            ("unexpected media type text/html for sha256:0a1b", Some(ImageUnreachable)),
            ("commit failed: unexpected commit digest sha256:0a1b, expected sha256:2c3d: failed precondition", Some(ImageUnreachable)),
            (r#"Back-off pulling image "registry.example/denied-503:404""#, None),
            (r#"Back-off pulling image "registry.example/denied-503:404": ErrImagePull"#, None),
            ("Error: ImagePullBackOff", None),
            ("", None),
        ] {
            assert_eq!(cause("ErrImagePull", words, image), code, "{words}");
        }
        assert_eq!(cause("InvalidImageName", "", "App:1"), Some(ImageNotFound));
        assert_eq!(cause("ErrImageNeverPull", "", "app:1"), Some(ImageNotFound));
    }
}
