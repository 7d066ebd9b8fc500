//! What helm's messages mean. Every failure of helm is exit 1: only its words tell a missing release from a refused call.

use std::sync::LazyLock;

use regex::Regex;

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault};
use crate::base::place::Place;
use crate::base::text;
use crate::clients::kube;

/// What a failed helm call was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such release.
    NotFound,
    /// Another operation is in progress, or one was killed.
    Pending,
    /// An object belongs to something else: its kind, name and namespace, and the owner if helm names one.
    Foreign {
        kind: String,
        name: String,
        namespace: String,
        owner: Option<String>,
    },
    Forbidden,
    Unreachable,
    NamespaceMissing {
        namespace: String,
    },
    /// A kind of the chart is not known to the API server: `VirtualService`.
    KindMissing {
        kind: String,
    },
    /// A values file, the chart's schema or a template: the file's own fault. Template places are `chart/templates/x.yaml`.
    File {
        place: Option<Place>,
        what: &'static str,
    },
    TimedOut,
    Cancelled,
    Other,
}

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($text).expect("the pattern is valid"));
    };
}

pattern!(
    FOREIGN,
    r#"(\S+) "([^"]+)" in namespace "([^"]*)" exists and cannot be imported into the current release(?:.*current value is "([^"]*)")?"#
);
pattern!(NAMESPACE, r#"namespaces "([^"]+)" not found"#);
pattern!(KIND_MISSING, r#"no matches for kind "([^"]+)""#);
pattern!(TEMPLATE, r"(?:template: )?([\w./-]+/templates/[\w./-]+):(\d+)(?::(\d+))?");
pattern!(VALUES_PARSE, r"(?:failed to parse|cannot (?:load|unmarshal)[^:]*) ([^\s:]+):(?:.*?line (\d+))?");
pattern!(VALUES_OPEN, r"open ([^\s:]+): no such file or directory");

/// Reads the words of a failed call.
pub fn read(stderr: &str) -> Refusal {
    let lower = stderr.to_lowercase();
    let has = |needle: &str| lower.contains(needle);
    if let Some(found) = FOREIGN.captures(stderr) {
        let part = |i: usize| found.get(i).map_or(String::new(), |m| m.as_str().to_owned());
        let owner = found.get(4).map(|m| m.as_str().to_owned()).filter(|o| !o.is_empty());
        return Refusal::Foreign { kind: part(1), name: part(2), namespace: part(3), owner };
    }
    if has("another operation (install/upgrade/rollback) is in progress") {
        return Refusal::Pending;
    }
    if has("release: not found") {
        return Refusal::NotFound;
    }
    if has("forbidden") || has("unauthorized") || has("must be logged in to the server") || has("asked for the client to provide credentials") {
        return Refusal::Forbidden;
    }
    if has("cluster unreachable") || has("connection refused") || has("no such host") || has("i/o timeout") || has("tls handshake timeout") {
        return Refusal::Unreachable;
    }
    if let Some(found) = NAMESPACE.captures(stderr) {
        return Refusal::NamespaceMissing { namespace: found[1].to_owned() };
    }
    if let Some(found) = KIND_MISSING.captures(stderr) {
        return Refusal::KindMissing { kind: found[1].to_owned() };
    }
    if has("context canceled") || has("has been cancelled") {
        return Refusal::Cancelled;
    }
    if has("context deadline exceeded") || has("timed out waiting") {
        return Refusal::TimedOut;
    }
    file(stderr, &lower).unwrap_or(Refusal::Other)
}

fn file(stderr: &str, lower: &str) -> Option<Refusal> {
    let number = |m: Option<regex::Match>| m.and_then(|m| m.as_str().parse().ok()).unwrap_or(0);
    if let Some(found) = VALUES_OPEN.captures(stderr) {
        return Some(Refusal::File { place: Some(Place::new(&found[1], 0, 0)), what: "does not exist" });
    }
    if let Some(found) = VALUES_PARSE.captures(stderr) {
        return Some(Refusal::File { place: Some(Place::new(&found[1], number(found.get(2)), 0)), what: "is not readable as YAML" });
    }
    if lower.contains("don't meet the specifications of the schema") {
        return Some(Refusal::File { place: None, what: "the values do not meet the chart's schema" });
    }
    if let Some(found) = TEMPLATE.captures(stderr) {
        let place = Place::new(&found[1], number(found.get(2)), number(found.get(3)));
        return Some(Refusal::File { place: Some(place), what: "does not render" });
    }
    None
}

/// The fault of a failed helm call. `chart` is the chart's folder: helm names templates from the chart's own name on.
pub fn fault(stderr: &str, command: &str, release: &str, chart: Option<&str>) -> Fault {
    let last = last_words(stderr);
    let fault = match read(stderr) {
        Refusal::NotFound => Fault::new(Code::ReleaseFailed, format!("there is no release {release}")),
        Refusal::Pending => Fault::new(Code::ReleasePending, format!("another helm operation on {release} is in progress")),
        Refusal::Foreign { kind, name, namespace, owner } => foreign(release, &kind, &name, &namespace, owner.as_deref()),
        Refusal::Forbidden if stderr.to_lowercase().contains("forbidden") => {
            let lacking = kube::refused(last_error(stderr), &format!("helm at work on {release}"));
            lacking.unwrap_or_else(|| Fault::new(Code::Forbidden, format!("helm lacks a right for {release}: {last}")))
        }
        Refusal::Forbidden => Fault::new(Code::Unauthorized, format!("the API server refuses helm's credentials: {last}")),
        Refusal::Unreachable => Fault::new(Code::ApiUnreachable, format!("helm cannot reach the API server: {last}")),
        Refusal::NamespaceMissing { namespace } => {
            Fault::new(Code::NamespaceMissing, format!("{release} goes into the namespace {namespace}, which does not exist"))
        }
        Refusal::KindMissing { kind } => Fault::new(Code::NeedsEarlier, format!("the cluster does not know the kind {kind} that {release} needs"))
            .next(match kind.as_str() {
                "VirtualService" | "Gateway" | "DestinationRule" | "PeerAuthentication" | "Telemetry" => {
                    "install Istio first: `meshstep mesh`".to_owned()
                }
                _ => format!("install the CustomResourceDefinition of {kind} first"),
            }),
        Refusal::File { place, what } => {
            let message = match &place {
                Some(place) if what != "does not render" => format!("{} {what}: {last}", place.file),
                Some(_) => format!("the chart of {release} {what}: {last}"),
                None => format!("{what}: {last}"),
            };
            let place = place.map(|p| Place { file: in_folder(&p.file, chart), ..p });
            Fault::new(Code::FileInvalid, message).at(place.as_ref())
        }
        Refusal::TimedOut => Fault::new(Code::ReleaseFailed, format!("helm gave up on {release}: {last}")).class(Class::TimedOut),
        Refusal::Cancelled => Fault::new(Code::Cancelled, format!("helm was interrupted; {release} is marked failed and the next run upgrades it")),
        Refusal::Other => Fault::new(Code::ReleaseFailed, format!("helm could not apply {release}: {last}")),
    };
    fault.evidence(format!("helm's last lines ({command})"), text::tail_lines(stderr.trim(), 25))
}

fn foreign(release: &str, kind: &str, name: &str, namespace: &str, owner: Option<&str>) -> Fault {
    let object = format!("{kind} {name} in {namespace}");
    let by = match owner {
        Some(owner) => format!("belongs to the release {owner}"),
        None => "was not made by helm".to_owned(),
    };
    let fault = Fault::new(Code::ReleaseForeign, format!("{object} {by}, not to {release}"));
    match owner {
        Some(owner) => {
            fault.next(format!("the object's name is fixed in the chart: keep one release with all values files, or uninstall {owner} first"))
        }
        None => fault,
    }
    .next("take it over with `--take-ownership`")
}

/// `h/templates/x.yaml` in the folder of the chart `h`.
fn in_folder(file: &str, chart: Option<&str>) -> String {
    match (file.split_once('/'), chart) {
        (Some((_, rest)), Some(chart)) if rest.starts_with("templates/") => format!("{}/{rest}", chart.trim_end_matches('/')),
        _ => file.to_owned(),
    }
}

fn last_error(stderr: &str) -> &str {
    stderr.rfind("Error: ").map_or(stderr, |at| &stderr[at + "Error: ".len()..])
}

/// The message that counts: from helm's last `Error:` on, without hints, as one line.
pub fn last_words(stderr: &str) -> String {
    let lines = last_error(stderr).lines().filter(|l| !l.starts_with("Use --debug") && !l.trim().is_empty());
    let line = text::one_line(&lines.collect::<Vec<_>>().join(" "));
    text::head(line.trim_start_matches("UPGRADE FAILED: ").trim_start_matches("INSTALLATION FAILED: "), 400).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_both_majors_are_told_apart() {
        let foreign =
            Refusal::Foreign { kind: "Ingress".into(), name: "gw-ingress".into(), namespace: "istio-system".into(), owner: Some("alb".into()) };
        let template = |line, column| Refusal::File { place: Some(Place::new("h/templates/cm.yaml", line, column)), what: "does not render" };
        for (stderr, meaning) in [
            ("Error: release: not found", Refusal::NotFound),
            ("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", Refusal::Pending),
            (
                "Error: Unable to continue with install: Ingress \"gw-ingress\" in namespace \"istio-system\" exists and cannot be imported into the current release: invalid ownership metadata; annotation validation error: key \"meta.helm.sh/release-name\" must equal \"other\": current value is \"alb\"",
                foreign,
            ),
            (
                "Error: unable to continue with install: ConfigMap \"b\" in namespace \"n\" exists and cannot be imported into the current release: invalid ownership metadata; label validation error: missing key \"app.kubernetes.io/managed-by\": must be set to \"Helm\"",
                Refusal::Foreign { kind: "ConfigMap".into(), name: "b".into(), namespace: "n".into(), owner: None },
            ),
            ("Error: query: failed to query with labels: secrets is forbidden: User \"nobody\" cannot list resource \"secrets\"", Refusal::Forbidden),
            (
                "Error: Kubernetes cluster unreachable: Get \"http://localhost:8080/version\": dial tcp 127.0.0.1:8080: connect: connection refused",
                Refusal::Unreachable,
            ),
            ("Error: kubernetes cluster unreachable: Get \"http://x/version\": dial tcp: lookup x: no such host", Refusal::Unreachable),
            (
                "Error: UPGRADE FAILED: resource mapping not found for name: \"v1\" namespace: \"\" from \"\": no matches for kind \"VirtualService\" in version \"networking.istio.io/v1\"\nensure CRDs are installed first",
                Refusal::KindMissing { kind: "VirtualService".into() },
            ),
            (
                "Error: h/templates/cm.yaml:7:15\n  executing \"h/templates/cm.yaml\" at <.Values.y.z>:\n    nil pointer evaluating interface {}.z\n\nUse --debug flag to render out invalid YAML",
                template(7, 15),
            ),
            ("Error: create: failed to create: namespaces \"x\" not found", Refusal::NamespaceMissing { namespace: "x".into() }),
            ("Error: template: h/templates/cm.yaml:7:15: executing \"h/templates/cm.yaml\" at <.Values.y.z>: nil pointer", template(7, 15)),
            (
                "Error: values don't meet the specifications of the schema(s) in the following chart(s):\nh:\n- at '/port': maximum: got 70,000, want 65,535",
                Refusal::File { place: None, what: "the values do not meet the chart's schema" },
            ),
            (
                "Error: open nofile.yaml: no such file or directory",
                Refusal::File { place: Some(Place::new("nofile.yaml", 0, 0)), what: "does not exist" },
            ),
            (
                "Error: failed to parse bad.yaml: cannot unmarshal yaml document: error converting YAML to JSON: yaml: line 2: found character that cannot start any token",
                Refusal::File { place: Some(Place::new("bad.yaml", 2, 0)), what: "is not readable as YAML" },
            ),
            ("Release p has been cancelled.\nError: context canceled", Refusal::Cancelled),
            ("Error: UPGRADE FAILED: context deadline exceeded", Refusal::TimedOut),
            ("Error: UPGRADE FAILED: post-upgrade hooks failed", Refusal::Other),
        ] {
            assert_eq!(read(stderr), meaning, "{stderr}");
        }
    }

    #[test]
    fn a_fault_says_where_and_keeps_helms_words() {
        let fault = fault("Error: template: h/templates/cm.yaml:7:15: executing: nil pointer", "helm upgrade h", "h", Some("charts/app"));
        assert_eq!(fault.place.map(|p| p.to_string()).as_deref(), Some("charts/app/templates/cm.yaml:7:15"));
        assert_eq!(fault.class, Class::Invalid);
        assert!(fault.evidence[0].text.contains("nil pointer"));
        let said = r#"Error: query: failed to query with labels: secrets is forbidden: User "ci" cannot list resource "secrets" in API group "" in the namespace "prod""#;
        let fault = self::fault(said, "helm upgrade h", "h", None);
        assert_eq!((fault.code, fault.message.as_str()), (Code::Forbidden, "helm at work on h: this identity may not list secrets in prod"));
        assert_eq!(fault.next, [r#"add to a Role in namespace prod: - {apiGroups: [""], resources: [secrets], verbs: [list]}"#]);
        assert_eq!(last_words("warn\nError: UPGRADE FAILED: no room\nUse --debug flag to x"), "no room");
    }
}
