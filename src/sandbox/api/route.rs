//! From a path to what it means.

use percent::decode;

use super::options::Seen;

/// The query's pairs, decoded, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: &str) -> Query {
        Query(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The first value of a key, empty if it is missing.
    pub(super) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v)
    }

    /// Every value of a key.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Whether a key is set to something true.
    pub(super) fn on(&self, key: &str) -> bool {
        matches!(self.get(key), "true" | "1" | "t" | "True" | "TRUE")
    }

    /// A number, if it is one.
    pub(super) fn number(&self, key: &str) -> Option<i64> {
        self.get(key).parse().ok()
    }

    pub(super) fn dry_run(&self) -> bool {
        self.all("dryRun").any(|v| v == "All")
    }
}

mod percent {
    /// `%2F` and the like in a path segment.
    pub(super) fn decode(segment: &str) -> String {
        let bytes = segment.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
            match (bytes[at], hex(at + 1), hex(at + 2)) {
                (b'%', Some(high), Some(low)) => {
                    out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    at += 3;
                }
                (byte, ..) => {
                    out.push(byte);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Reads method and path. `resource` stays empty for discovery and other paths.
pub(super) fn seen(method: &http::Method, path_and_query: &str, query: &Query) -> Seen {
    let path = path_and_query.split('?').next().unwrap_or_default();
    let mut seen = Seen { path: path_and_query.to_owned(), verb: method.as_str().to_lowercase(), ..Seen::default() };
    let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let rest = match segments.as_slice() {
        ["api", version, rest @ ..] => {
            seen.version = (*version).to_owned();
            rest
        }
        ["apis", group, version, rest @ ..] => {
            seen.group = (*group).to_owned();
            seen.version = (*version).to_owned();
            rest
        }
        _ => return seen,
    };
    let rest = match rest {
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => rest,
        ["namespaces", ns, inner @ ..] => {
            seen.namespace = (*ns).to_owned();
            inner
        }
        other => other,
    };
    match rest {
        [] => return seen,
        [plural] => seen.resource = (*plural).to_owned(),
        [plural, name] => (seen.resource, seen.name) = ((*plural).to_owned(), (*name).to_owned()),
        [plural, name, sub, ..] => (seen.resource, seen.name, seen.subresource) = ((*plural).to_owned(), (*name).to_owned(), (*sub).to_owned()),
    }
    let verb = match (method.as_str(), seen.name.is_empty()) {
        ("GET" | "HEAD", _) if query.on("watch") && seen.subresource.is_empty() => "watch",
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => return seen,
    };
    seen.verb = verb.to_owned();
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_the_real_server_reads_them() {
        let rows = [
            ("GET", "/version", "get", "", "", "", ""),
            ("GET", "/api/v1/namespaces", "list", "namespaces", "", "", ""),
            ("GET", "/api/v1/namespaces/prod", "get", "namespaces", "", "prod", ""),
            ("PUT", "/api/v1/namespaces/prod/finalize", "update", "namespaces", "", "prod", "finalize"),
            ("GET", "/api/v1/namespaces/prod/pods?watch=true", "watch", "pods", "prod", "", ""),
            ("GET", "/api/v1/namespaces/prod/pods/a/log?container=c", "get", "pods", "prod", "a", "log"),
            ("POST", "/api/v1/namespaces/prod/pods/a/portforward", "create", "pods", "prod", "a", "portforward"),
            ("DELETE", "/apis/apps/v1/namespaces/prod/deployments", "deletecollection", "deployments", "prod", "", ""),
            ("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/a%3Ab", "patch", "clusterroles", "", "a:b", ""),
        ];
        for (method, path, verb, resource, namespace, name, subresource) in rows {
            let query = Query::parse(path.split('?').nth(1).unwrap_or_default());
            let seen = seen(&method.parse().unwrap(), path, &query);
            let got = (seen.verb.as_str(), seen.resource.as_str(), seen.namespace.as_str(), seen.name.as_str(), seen.subresource.as_str());
            assert_eq!(got, (verb, resource, namespace, name, subresource), "{method} {path}");
        }
    }
}
