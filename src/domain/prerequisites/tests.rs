//! Version outputs as the tools print them, old and new.

use super::*;

#[test]
fn versions_are_read_from_what_each_tool_prints() {
    let kubectl = "{\n  \"clientVersion\": {\n    \"major\": \"1\",\n    \"minor\": \"32+\",\n    \"gitVersion\": \"v1.32.4-dispatcher\"\n  },\n  \"kustomizeVersion\": \"v5.5.0\"\n}\n";
    let istioctl = "{\n  \"clientVersion\": {\n    \"version\": \"1.31.0\",\n    \"revision\": \"eed52ebb66ad\",\n    \"status\": \"Clean\",\n    \"tag\": \"1.31.0\"\n  }\n}\n";
    let eksctl_old = r#"{"Version":"0.108.0","PreReleaseID":"","Metadata":{"BuildDate":"x","GitCommit":"y"},"EKSServerSupportedVersions":["1.19"]}"#;
    for (tool, stdout, stderr, expected) in [
        ("helm", "v4.3.1+gc0d08d0\n", "", Some("4.3.1")),
        ("helm", "v3.17.3+ge4da497\n", "", Some("3.17.3")),
        ("helm", "v4.2", "", Some("4.2.0")),
        ("helm", "WARNING: Kubernetes configuration file is group-readable\nv3.8.0+gd141386\n", "", Some("3.8.0")),
        ("helm", "Client: &version.Version{SemVer:\"v2.17.0\"}\n", "", None),
        ("istioctl", istioctl, "", Some("1.31.0")),
        ("istioctl", "client version: 1.30.3\n", "", Some("1.30.3")),
        ("istioctl", "{\"clientVersion\":{\"version\":\"1.31-alpha.abc\"}}", "", Some("1.31.0")),
        ("kubectl", kubectl, "", Some("1.32.4")),
        ("kubectl", "{\"clientVersion\":{\"gitVersion\":\"v1.29.1-eks-508b6b3\"}}", "", Some("1.29.1")),
        ("aws", "aws-cli/2.27.34 Python/3.13.3 Linux/6.12.25 exe/x86_64.amzn.2023\n", "", Some("2.27.34")),
        ("aws", "", "aws-cli/1.18.69 Python/2.7.18 Linux/5.4 botocore/1.16.19\n", Some("1.18.69")),
        ("aws", "aws-cli/1.46.3 Python/3.11.7 Linux/6.18.44-fc-v595 botocore/1.43.62\n", "", Some("1.46.3")),
        ("eksctl", r#"{"Version":"0.231.0","PreReleaseID":"","Metadata":{}}"#, "", Some("0.231.0")),
        ("eksctl", eksctl_old, "", Some("0.108.0")),
        ("eksctl", "0.231.0-dev+abc.2026-08-21\n", "", Some("0.231.0")),
        ("openssl", "OpenSSL 3.0.22 25 Aug 2026 (Library: OpenSSL 3.0.22 25 Aug 2026)\n", "", Some("3.0.22")),
        ("openssl", "OpenSSL 1.1.1w  11 Sep 2023\n", "", Some("1.1.1")),
        ("openssl", "LibreSSL 3.3.6\n", "", Some("3.3.6")),
        ("kubectl", "error: unknown flag\n", "", None),
        ("other", "1.2.3", "", None),
    ] {
        assert_eq!(version(tool, stdout, stderr).map(|version| version.to_string()).as_deref(), expected, "{tool}: {stdout}{stderr}");
    }
}

#[test]
fn the_runbooks_minimums_decide() {
    for (name, found, enough) in [
        ("helm", Version::new(3, 8, 0), true),
        ("helm", Version::new(3, 7, 9), false),
        ("helm", Version::new(4, 0, 0), true),
        ("istioctl", Version::new(1, 20, 9), false),
        ("istioctl", Version::new(1, 21, 0), true),
        ("kubectl", Version::new(1, 23, 17), false),
        ("aws", Version::new(1, 46, 3), false),
        ("eksctl", Version::new(0, 135, 9), false),
    ] {
        let judged = judge(tool(name).expect(name), found);
        assert_eq!(judged.is_ok(), enough, "{name} {found}");
        if let Err(fault) = judged {
            assert_eq!(fault.code, Code::ToolTooOld);
        }
    }
}
