//! Do the versions of the cluster, of Istio and of the tools go together?

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::domain::doctor::Verdict;
use crate::domain::prerequisites::Version;

/// What is there; `None` where it is not needed or not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    pub server: Option<Version>,
    pub helm: Option<Version>,
    pub istioctl: Option<Version>,
    /// Only people need it, so it is asked for when doctor runs alone.
    pub kubectl: Option<Version>,
    /// The control plane that runs.
    pub plane: Option<Version>,
}

/// A minor version of Istio: the Kubernetes minors it is tested with, and the one below which istioctl itself says no (but goes on).
struct Istio {
    minor: u32,
    tested: (u32, u32),
    minimum: u32,
}

/// Istio's table of supported Kubernetes versions, and `MinK8SVersion` of its sources. What is not confirmed has no row.
const ISTIO: [Istio; 11] = [
    row(21, (26, 29), 0),
    row(22, (27, 30), 0),
    row(23, (27, 30), 0),
    row(24, (28, 31), 28),
    row(25, (29, 32), 28),
    row(26, (29, 33), 29),
    row(27, (29, 33), 29),
    row(28, (30, 34), 29),
    row(29, (31, 35), 30),
    row(30, (32, 36), 32),
    // Its row of tested versions was not published when this was written.
    row(31, (0, 0), 32),
];

const fn row(minor: u32, tested: (u32, u32), minimum: u32) -> Istio {
    Istio { minor, tested, minimum }
}

/// The Kubernetes minor that a helm is built for; it supports the three before it, too.
fn built_for(helm: Version) -> Option<u32> {
    match helm.major {
        3 => Some(helm.minor + 15),
        4 => Some(helm.minor + 34),
        _ => None,
    }
}

/// Reads `v1.34.2-eks-1a2b`.
pub fn of_server(git_version: &str) -> Option<Version> {
    let mut numbers = git_version.trim_start_matches('v').split(['.', '-', '+']).map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Version::new(next()?, next()?, next().unwrap_or(0)))
}

pub fn judge(versions: &Versions) -> Verdict {
    let mut verdict = Verdict::of(note(versions));
    if let Some(server) = versions.server {
        helm(versions.helm, server, &mut verdict);
        kubectl(versions.kubectl, server, &mut verdict);
        istio(versions, server, &mut verdict);
    }
    skew(versions, &mut verdict);
    verdict
}

fn note(versions: &Versions) -> String {
    let short = |version: Version| format!("{}.{}", version.major, version.minor);
    let words = [
        versions.server.map(|v| format!("Kubernetes {}", short(v))),
        versions.plane.map(|v| format!("Istio {v}")),
        versions.istioctl.map(|v| format!("istioctl {v}")),
        versions.helm.map(|v| format!("helm {v}")),
        versions.kubectl.map(|v| format!("kubectl {v}")),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn helm(helm: Option<Version>, server: Version, verdict: &mut Verdict) {
    let Some((helm, newest)) = helm.and_then(|helm| Some((helm, built_for(helm)?))) else { return };
    let oldest = newest.saturating_sub(3);
    if (oldest..=newest).contains(&server.minor) {
        return;
    }
    let cure = if server.minor > newest { "a newer helm" } else { "an older helm" };
    verdict.warnings.push(format!(
        "helm {helm} is built for Kubernetes 1.{oldest} to 1.{newest}, the cluster runs 1.{}: charts with newer or removed API versions may be \
         misread; install {cure} (https://helm.sh/docs/topics/version_skew/)",
        server.minor
    ));
}

fn kubectl(kubectl: Option<Version>, server: Version, verdict: &mut Verdict) {
    if let Some(kubectl) = kubectl.filter(|kubectl| kubectl.minor.abs_diff(server.minor) > 1) {
        verdict.warnings.push(format!(
            "kubectl {kubectl} is more than one minor version from the cluster's 1.{}: no stage calls it, but the commands that reports print may \
             behave otherwise; install kubectl 1.{}",
            server.minor, server.minor
        ));
    }
}

/// What is about to be installed, or what runs, on this Kubernetes.
fn istio(versions: &Versions, server: Version, verdict: &mut Verdict) {
    let Some(version) = versions.plane.or(versions.istioctl) else { return };
    let Some(row) = ISTIO.iter().find(|row| version.major == 1 && row.minor == version.minor) else { return };
    let (oldest, newest) = row.tested;
    let known = newest > 0;
    let range = if known { format!(" (it is tested with 1.{oldest} to 1.{newest})") } else { String::new() };
    if server.minor < row.minimum {
        let message = format!("Istio 1.{} needs Kubernetes 1.{} or newer, the cluster runs 1.{}{range}", row.minor, row.minimum, server.minor);
        if versions.plane.is_some() {
            verdict.warnings.push(format!("{message}, and it runs there all the same: upgrade the cluster before Istio's next change"));
        } else {
            // istioctl only logs this and goes on, so it would break later and elsewhere.
            let fault = Fault::new(Code::VersionUnsupported, message);
            verdict.faults.push(fault.next(format!(
                "use an istioctl that supports Kubernetes 1.{}{}, or upgrade the cluster",
                server.minor,
                fitting(server.minor).map(|minor| format!(", e.g. 1.{minor}")).unwrap_or_default()
            )));
        }
    } else if known && !(oldest..=newest).contains(&server.minor) {
        let cure = if server.minor > newest { "upgrade Istio" } else { "upgrade the cluster" };
        verdict.warnings.push(format!(
            "Istio 1.{} is not tested with Kubernetes 1.{}{range}: {cure} (https://istio.io/latest/docs/releases/supported-releases/)",
            row.minor, server.minor
        ));
    }
}

/// The newest minor of Istio that is tested with this Kubernetes.
fn fitting(server: u32) -> Option<u32> {
    ISTIO.iter().rev().find(|row| (row.tested.0..=row.tested.1).contains(&server)).map(|row| row.minor)
}

/// istioctl against the control plane: the same minor, or the next one for an upgrade that is meant.
fn skew(versions: &Versions, verdict: &mut Verdict) {
    let (Some(istioctl), Some(plane)) = (versions.istioctl, versions.plane) else { return };
    if istioctl.minor > plane.minor + 1 || istioctl.minor < plane.minor {
        verdict.warnings.push(format!(
            "istioctl is {istioctl} and Istio {plane} is running: Istio is upgraded one minor version at a time and never back; use istioctl 1.{}",
            plane.minor
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Option<Version> {
        of_server(text)
    }

    #[test]
    fn server_versions_are_read_with_whatever_follows() {
        for (text, read) in [("v1.34.2-eks-1a2b", Some("1.34.2")), ("v1.37.2", Some("1.37.2")), ("1.29+", Some("1.29.0")), ("v1", None), ("", None)] {
            assert_eq!(of_server(text).map(|v| v.to_string()).as_deref(), read, "{text}");
        }
    }

    #[test]
    fn what_goes_together_and_what_does_not() {
        // server, helm, istioctl, kubectl, control plane; what is failed and what is warned of
        for (server, helm, istioctl, kubectl, plane, failed, warned) in [
            ("v1.34.1", "3.19.0", "1.28.2", "1.34.0", "", "", ""),
            ("v1.34.1", "4.0.0", "1.28.2", "1.33.9", "1.28.2", "", ""),
            ("v1.37.2", "4.3.1", "1.31.0", "1.36.0", "", "", ""),
            ("v1.37.2", "3.17.3", "", "", "", "", "helm 3.17.3 is built for Kubernetes 1.29 to 1.32"),
            ("v1.28.0", "3.17.3", "", "", "", "", "an older helm"),
            ("v1.34.1", "", "", "1.32.4", "", "", "kubectl 1.32.4 is more than one"),
            ("v1.34.1", "", "", "1.35.0", "", "", ""),
            ("v1.31.0", "", "1.30.3", "", "", "Istio 1.30 needs Kubernetes 1.32 or newer", ""),
            ("v1.31.0", "", "1.31.0", "", "", "Istio 1.31 needs Kubernetes 1.32 or newer", ""),
            ("v1.32.0", "", "1.31.0", "", "", "", ""),
            ("v1.31.0", "", "", "", "1.30.3", "", "it runs there all the same"),
            ("v1.36.0", "", "1.28.2", "", "", "", "Istio 1.28 is not tested with Kubernetes 1.36 (it is tested with 1.30 to 1.34): upgrade Istio"),
            ("v1.29.0", "", "1.28.2", "", "", "", "upgrade the cluster"),
            ("v1.34.0", "", "1.29.1", "", "1.28.2", "", ""),
            ("v1.34.0", "", "1.30.1", "", "1.28.2", "", "one minor version at a time"),
            ("v1.34.0", "", "1.27.1", "", "1.28.2", "", "use istioctl 1.28"),
            ("", "3.17.3", "1.31.0", "", "", "", ""),
        ] {
            let versions = Versions { server: v(server), helm: v(helm), istioctl: v(istioctl), kubectl: v(kubectl), plane: v(plane) };
            let verdict = judge(&versions);
            let row = format!("{versions:?}\n{verdict:?}");
            match verdict.fault() {
                Some(fault) => assert!(!failed.is_empty() && fault.message.contains(failed), "{row}"),
                None => assert!(failed.is_empty(), "{row}"),
            }
            assert_eq!(verdict.warnings.is_empty(), warned.is_empty(), "{row}");
            assert!(verdict.warnings.iter().all(|warning| warning.contains(warned)), "{row}");
        }
    }

    #[test]
    fn a_refusal_names_a_version_that_fits() {
        let fault = judge(&Versions { server: v("1.31.0"), istioctl: v("1.30.3"), ..Versions::default() }).fault().expect("a fault");
        assert!(fault.next[0].contains("e.g. 1.29"), "{fault:?}");
    }
}
