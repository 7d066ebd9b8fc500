//! Which helm answers, and which flags it knows.

use std::sync::LazyLock;

use regex::Regex;

/// A helm version; a missing patch (unstamped builds print `v4.2`) counts as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

static SHORT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^v(\d+)\.(\d+)(?:\.(\d+))?").expect("the pattern is valid"));

impl Version {
    /// Reads `helm version --short`; warnings before the line do no harm.
    pub fn parse(output: &str) -> Option<Self> {
        let found = SHORT.captures(output)?;
        let part = |i: usize| found.get(i).map_or(Some(0), |m| m.as_str().parse().ok());
        Some(Self { major: part(1)?, minor: part(2)?, patch: part(3)? })
    }

    fn at_least(self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }

    /// The flag that simulates with lookups in the cluster: since 3.13 it takes a value, before that it always asked the server.
    pub fn dry_run(self) -> &'static str {
        if self.at_least(3, 13) { "--dry-run=server" } else { "--dry-run" }
    }

    /// Helm 4 lists every state by default and has no flag for it; helm 3 shows pending ones only with `--all`.
    pub fn list_all(self) -> Option<&'static str> {
        (self.major < 4).then_some("--all")
    }

    /// Can it take over objects of another owner (`--take-ownership`, since 3.17)?
    pub fn takes_ownership(self) -> bool {
        self.at_least(3, 17)
    }

    /// The flags that wait for a rollback's objects: a boolean in helm 3, a strategy in helm 4.
    pub fn wait(self) -> &'static str {
        if self.major < 4 { "--wait" } else { "--wait=watcher" }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_selects_the_flags() {
        for (output, version, dry_run, list_all, take) in [
            ("v3.8.0+gd141386\n", "3.8.0", "--dry-run", Some("--all"), false),
            ("WARNING: Kubernetes configuration file is group-readable\nv3.17.3+ge4da497", "3.17.3", "--dry-run=server", Some("--all"), true),
            ("v4.3.1+gc0d08d0", "4.3.1", "--dry-run=server", None, true),
            ("v4.2", "4.2.0", "--dry-run=server", None, true),
        ] {
            let found = Version::parse(output).expect(output);
            assert_eq!((found.to_string().as_str(), found.dry_run(), found.list_all(), found.takes_ownership()), (version, dry_run, list_all, take));
        }
        assert_eq!(Version::parse("Client: v2"), None);
    }
}
