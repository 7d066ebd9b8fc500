//! The command lines for helm. Pure, so that each flag's reason has a test.

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::releases::memory;
use crate::domain::releases::version::Version;

/// A release as a file wants it: the whole of its values every time.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub name: String,
    pub namespace: String,
    /// Folder of the chart.
    pub chart: PathBuf,
    pub values: Vec<PathBuf>,
    /// Single values on top of the files; always strings to helm.
    pub set: Vec<(String, String)>,
    /// Whose values these are; remembered in the release's description.
    pub team: Option<String>,
    /// How long helm may take for hooks and its own calls.
    pub timeout: Duration,
    pub create_namespace: bool,
    /// Take over objects that belong to something else.
    pub take_ownership: bool,
}

/// Install or upgrade. Never `--atomic` (on a failed install it deletes the objects, the load balancer among them), never `--wait`
/// (it waits for no Ingress, and rollouts are judged by this tool), always `--reset-values` (without any value helm would keep the old ones).
pub fn upgrade(wanted: &Wanted, version: Version) -> Vec<String> {
    let mut args = rendering(wanted);
    args.extend(["--timeout".to_owned(), format!("{}s", wanted.timeout.as_secs().max(1))]);
    if wanted.create_namespace {
        args.push("--create-namespace".to_owned());
    }
    if wanted.take_ownership && version.takes_ownership() {
        args.push("--take-ownership".to_owned());
    }
    if let Some(team) = &wanted.team {
        args.extend(["--description".to_owned(), memory::description(team)]);
    }
    args
}

/// What an install or upgrade would store, with the cluster asked but not touched.
pub fn dry_run(wanted: &Wanted, version: Version) -> Vec<String> {
    let mut args = rendering(wanted);
    args.push(version.dry_run().to_owned());
    if wanted.create_namespace {
        args.push("--create-namespace".to_owned());
    }
    if wanted.take_ownership && version.takes_ownership() {
        args.push("--take-ownership".to_owned());
    }
    args
}

/// What the chart renders to, with no cluster asked.
pub fn template(wanted: &Wanted) -> Vec<String> {
    let mut args: Vec<String> = ["template", &wanted.name].map(str::to_owned).into();
    args.extend([wanted.chart.display().to_string(), "--namespace".to_owned(), wanted.namespace.clone()]);
    given(wanted, &mut args);
    args
}

fn rendering(wanted: &Wanted) -> Vec<String> {
    let mut args: Vec<String> = ["upgrade", "--install", &wanted.name].map(str::to_owned).into();
    args.push(wanted.chart.display().to_string());
    args.extend(["--namespace".to_owned(), wanted.namespace.clone(), "--reset-values".to_owned(), "--output".to_owned(), "json".to_owned()]);
    given(wanted, &mut args);
    args
}

/// The values, the whole of them.
fn given(wanted: &Wanted, args: &mut Vec<String>) {
    for file in &wanted.values {
        args.extend(["--values".to_owned(), file.display().to_string()]);
    }
    for (key, value) in &wanted.set {
        args.extend(["--set-string".to_owned(), format!("{key}={}", escaped(value))]);
    }
}

/// Helm splits `--set` values at commas and reads braces as lists.
fn escaped(value: &str) -> String {
    value.chars().fold(String::new(), |mut out, c| {
        if matches!(c, '\\' | ',' | '{' | '}') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

pub fn version() -> Vec<String> {
    ["version", "--short"].map(str::to_owned).into()
}

pub fn status(namespace: &str, name: &str) -> Vec<String> {
    ["status", name, "--namespace", namespace, "--output", "json"].map(str::to_owned).into()
}

pub fn history(namespace: &str, name: &str) -> Vec<String> {
    ["history", name, "--namespace", namespace, "--output", "json"].map(str::to_owned).into()
}

pub fn list(namespace: &str, version: Version) -> Vec<String> {
    let mut args: Vec<String> = ["list", "--namespace", namespace, "--output", "json"].map(str::to_owned).into();
    args.extend(version.list_all().map(str::to_owned));
    args
}

pub fn values(namespace: &str, name: &str) -> Vec<String> {
    ["get", "values", name, "--namespace", namespace, "--output", "json"].map(str::to_owned).into()
}

pub fn manifest(namespace: &str, name: &str, revision: Option<u32>) -> Vec<String> {
    let mut args: Vec<String> = ["get", "manifest", name, "--namespace", namespace].map(str::to_owned).into();
    args.extend(revision.map(|r| format!("--revision={r}")));
    args
}

/// Back to `revision`, named always: helm's default target is blindly the one before.
pub fn rollback(namespace: &str, name: &str, revision: u32, timeout: Duration) -> Vec<String> {
    let mut args: Vec<String> = ["rollback", name].map(str::to_owned).into();
    args.push(revision.to_string());
    args.extend(["--namespace", namespace, "--timeout"].map(str::to_owned));
    args.push(format!("{}s", timeout.as_secs().max(1)));
    args
}

pub fn uninstall(namespace: &str, name: &str, timeout: Duration) -> Vec<String> {
    let mut args: Vec<String> = ["uninstall", name, "--namespace", namespace, "--ignore-not-found", "--timeout"].map(str::to_owned).into();
    args.push(format!("{}s", timeout.as_secs().max(1)));
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELM4: Version = Version { major: 4, minor: 3, patch: 1 };
    const HELM3_OLD: Version = Version { major: 3, minor: 8, patch: 0 };

    fn wanted() -> Wanted {
        Wanted {
            name: "alb-istio-ingress".into(),
            namespace: "istio-system".into(),
            chart: "mesh/alb-istio-helm".into(),
            values: vec!["mesh/a.yaml".into(), "mesh/b.yaml".into()],
            set: vec![("image.tag".into(), "1,2".into())],
            team: Some("bi".into()),
            timeout: Duration::from_secs(300),
            create_namespace: false,
            take_ownership: true,
        }
    }

    #[test]
    fn an_upgrade_carries_the_whole_set_and_never_waits_or_rolls_back() {
        let args = upgrade(&wanted(), HELM4).join(" ");
        assert_eq!(
            args,
            "upgrade --install alb-istio-ingress mesh/alb-istio-helm --namespace istio-system --reset-values --output json \
             --values mesh/a.yaml --values mesh/b.yaml --set-string image.tag=1\\,2 --timeout 300s --take-ownership \
             --description values of team bi"
        );
        for never in ["--atomic", "--rollback-on-failure", "--wait", "--force", "--reuse-values"] {
            assert!(!args.contains(never), "{never}");
        }
    }

    #[test]
    fn a_chart_is_rendered_with_the_same_values() {
        let args = template(&wanted()).join(" ");
        assert_eq!(
            args,
            "template alb-istio-ingress mesh/alb-istio-helm --namespace istio-system --values mesh/a.yaml --values mesh/b.yaml \
             --set-string image.tag=1\\,2"
        );
    }

    #[test]
    fn an_old_helm_gets_only_flags_it_knows() {
        let args = dry_run(&wanted(), HELM3_OLD);
        assert!(args.contains(&"--dry-run".to_owned()) && !args.iter().any(|a| a == "--take-ownership"), "{args:?}");
        assert!(list("a", HELM3_OLD).contains(&"--all".to_owned()) && !list("a", HELM4).contains(&"--all".to_owned()));
    }

    #[test]
    fn a_rollback_names_its_revision() {
        assert_eq!(rollback("prod", "app1", 3, Duration::from_secs(60)).join(" "), "rollback app1 3 --namespace prod --timeout 60s");
    }
}
