//! The tools of the runbook: how each tells its version, which version is old enough to fail, and which stages need it.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::Fault;

/// A version, as far as minimums care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A tool of the runbook.
#[derive(Debug)]
pub struct Tool {
    /// Its command.
    pub name: &'static str,
    /// What makes it tell its version.
    pub args: &'static [&'static str],
    /// The runbook's minimum.
    pub minimum: Version,
    pub install: &'static str,
}

/// All tools of the runbook. This tool itself calls only helm and istioctl; the others are for people.
pub const TOOLS: [Tool; 6] = [
    Tool {
        name: "helm",
        args: &["version", "--short"],
        minimum: Version::new(3, 8, 0),
        install: "install helm 3.8 or newer (helm 4 works too): https://helm.sh/docs/intro/install/",
    },
    Tool {
        name: "istioctl",
        args: &["version", "--remote=false", "-o", "json"],
        minimum: Version::new(1, 21, 0),
        install: "install the istioctl of the Istio version that the cluster runs: https://istio.io/latest/docs/ops/diagnostic-tools/istioctl/",
    },
    Tool {
        name: "kubectl",
        args: &["version", "--client", "-o", "json"],
        minimum: Version::new(1, 24, 0),
        install: "install kubectl within one minor version of the cluster",
    },
    Tool { name: "aws", args: &["--version"], minimum: Version::new(2, 7, 0), install: "install the AWS CLI version 2" },
    Tool { name: "eksctl", args: &["version", "-o", "json"], minimum: Version::new(0, 136, 0), install: "install eksctl 0.136 or newer" },
    Tool { name: "openssl", args: &["version"], minimum: Version::new(1, 1, 0), install: "install OpenSSL" },
];

/// The tool of this name.
pub fn tool(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// Reads a tool's version from what it printed. `None`: it is not there to be read.
pub fn version(tool: &str, stdout: &str, stderr: &str) -> Option<Version> {
    match tool {
        "helm" => first(stdout, r"(?m)^v(\d+)\.(\d+)(?:\.(\d+))?"),
        "istioctl" => json(stdout, "/clientVersion/version").or_else(|| first(stdout, r"(?m)^client version: v?(\d+)\.(\d+)(?:\.(\d+))?")),
        "kubectl" => json(stdout, "/clientVersion/gitVersion"),
        // Version 1 on Python 2 printed to stderr.
        "aws" => first(stdout, AWS).or_else(|| first(stderr, AWS)),
        "eksctl" => json(stdout, "/Version").or_else(|| first(stdout, r"(?m)^v?(\d+)\.(\d+)\.(\d+)")),
        "openssl" => first(stdout, r"(?m)^(?:OpenSSL|LibreSSL) (\d+)\.(\d+)\.(\d+)"),
        _ => None,
    }
}

const AWS: &str = r"(?m)^aws-cli/(\d+)\.(\d+)\.(\d+)";

fn first(text: &str, pattern: &str) -> Option<Version> {
    let found = Regex::new(pattern).expect("the patterns are constants").captures(text)?;
    let part = |n: usize| found.get(n).map_or(Some(0), |part| part.as_str().parse().ok());
    Some(Version::new(part(1)?, part(2)?, part(3)?))
}

/// A version inside JSON, which may stand behind warnings: `v1.32.4-eks-1a2b`, `1.30`, `0.231.0`.
fn json(text: &str, pointer: &str) -> Option<Version> {
    static START: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^v?(\d+)\.(\d+)(?:\.(\d+))?").expect("the pattern is valid"));
    let object: Value = serde_json::Deserializer::from_str(&text[text.find('{')?..]).into_iter().next()?.ok()?;
    let found = START.captures(object.pointer(pointer)?.as_str()?)?;
    let part = |n: usize| found.get(n).map_or(Some(0), |part| part.as_str().parse().ok());
    Some(Version::new(part(1)?, part(2)?, part(3)?))
}

/// Is this version new enough?
pub fn judge(tool: &Tool, version: Version) -> Result<(), Fault> {
    if version >= tool.minimum {
        return Ok(());
    }
    let Version { major, minor, .. } = tool.minimum;
    let message = format!("`{}` is {version}, the runbook needs {major}.{minor} or newer", tool.name);
    Err(Fault::new(Code::ToolTooOld, message).next(tool.install))
}

/// The fault of a tool whose version cannot be read.
pub fn unreadable(tool: &Tool, said: &str) -> Fault {
    Fault::new(Code::ToolFailed, format!("`{} {}` does not tell a version", tool.name, tool.args.join(" ")))
        .evidence("what it printed", said)
        .next(tool.install)
}
