//! The real helm, called with the command lines of `argv` and read by `parse` and `words`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::clients::tools::{Call, Finished, Tools};
use crate::domain::releases::argv::{self, Wanted};
use crate::domain::releases::parse::{self, Listed, Revision, Stored};
use crate::domain::releases::version::Version;
use crate::domain::releases::words::{self, Refusal};

/// Time for helm's own start and end beside its `--timeout`: when it is over, helm hangs.
const MARGIN: Duration = Duration::from_secs(60);
const READING: Duration = Duration::from_secs(90);

/// The helm of this agent, bound to one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Helm {
    tools: Tools,
    kubeconfig: PathBuf,
    version: Version,
}

impl Helm {
    /// Asks helm for its version, which selects its flags.
    ///
    /// # Errors
    /// `tool_missing` when there is no helm, `tool_failed` when its version is not readable.
    pub async fn open(tools: &Tools, kubeconfig: &Path) -> Result<Self> {
        let finished = tools.run(Call::new("helm").args(argv::version()).timeout(READING)).await?.ok()?;
        let version = Version::parse(&finished.stdout)
            .ok_or_else(|| Fault::new(Code::ToolFailed, format!("`helm version` is not readable: {}", finished.stdout.trim())))?;
        Ok(Self { tools: tools.clone(), kubeconfig: kubeconfig.to_owned(), version })
    }

    /// What a chart renders to with its values, without a cluster: what needs one (`lookup`, API versions) is as if nothing were there.
    pub async fn template(tools: &Tools, wanted: &Wanted) -> Result<String> {
        let finished = tools.run(Call::new("helm").args(argv::template(wanted)).timeout(READING)).await?;
        Ok(succeeded(finished, &wanted.name, Some(&wanted.chart.display().to_string()))?.stdout)
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The newest revision of a release; `None` when there is none.
    pub async fn stored(&self, namespace: &str, name: &str) -> Result<Option<Stored>> {
        let finished = self.run(argv::status(namespace, name), READING).await?;
        if !finished.success() && words::read(&finished.stderr) == Refusal::NotFound {
            return Ok(None);
        }
        let finished = succeeded(finished, name, None)?;
        parse::release(&finished.stdout).map(Some).map_err(|e| unreadable(&finished, &e))
    }

    /// The kept revisions, oldest first; empty when there is no such release.
    pub async fn history(&self, namespace: &str, name: &str) -> Result<Vec<Revision>> {
        let finished = self.run(argv::history(namespace, name), READING).await?;
        if !finished.success() && words::read(&finished.stderr) == Refusal::NotFound {
            return Ok(Vec::new());
        }
        let finished = succeeded(finished, name, None)?;
        parse::history(&finished.stdout).map_err(|e| unreadable(&finished, &e))
    }

    /// All releases of a namespace, in whatever state.
    pub async fn list(&self, namespace: &str) -> Result<Vec<Listed>> {
        let finished = succeeded(self.run(argv::list(namespace, self.version), READING).await?, "the list of releases", None)?;
        parse::list(&finished.stdout).map_err(|e| unreadable(&finished, &e))
    }

    /// The rendered manifest of a revision, by default the newest one.
    pub async fn manifest(&self, namespace: &str, name: &str, revision: Option<u32>) -> Result<String> {
        Ok(succeeded(self.run(argv::manifest(namespace, name, revision), READING).await?, name, None)?.stdout)
    }

    /// The values that were given to the newest revision.
    pub async fn values(&self, namespace: &str, name: &str) -> Result<serde_json::Value> {
        let finished = succeeded(self.run(argv::values(namespace, name), READING).await?, name, None)?;
        serde_json::from_str(&finished.stdout).map_err(|e| unreadable(&finished, &e.to_string()))
    }

    /// What an install or upgrade would store. The API server is asked, nothing is touched; a chart, schema or values fault is exit 3.
    pub async fn render(&self, wanted: &Wanted) -> Result<Stored> {
        self.checked_ownership(wanted)?;
        self.applied(argv::dry_run(wanted, self.version), wanted).await
    }

    /// Installs or upgrades, whatever the release's state.
    pub async fn upgrade(&self, wanted: &Wanted) -> Result<Stored> {
        self.checked_ownership(wanted)?;
        self.applied(argv::upgrade(wanted, self.version), wanted).await
    }

    /// Back to `revision`.
    pub async fn rollback(&self, namespace: &str, name: &str, revision: u32, timeout: Duration) -> Result<()> {
        let finished = self.run(argv::rollback(namespace, name, revision, timeout), timeout + MARGIN).await?;
        succeeded(finished, name, None).map(drop)
    }

    /// Removes a release and its objects; one that is not there is no error.
    pub async fn uninstall(&self, namespace: &str, name: &str, timeout: Duration) -> Result<()> {
        let finished = self.run(argv::uninstall(namespace, name, timeout), timeout + MARGIN).await?;
        succeeded(finished, name, None).map(drop)
    }

    async fn applied(&self, args: Vec<String>, wanted: &Wanted) -> Result<Stored> {
        let finished = self.run(args, wanted.timeout + MARGIN).await?;
        let chart = wanted.chart.display().to_string();
        let finished = succeeded(finished, &wanted.name, Some(&chart))?;
        parse::release(&finished.stdout).map_err(|e| unreadable(&finished, &e))
    }

    fn checked_ownership(&self, wanted: &Wanted) -> Result<()> {
        if wanted.take_ownership && !self.version.takes_ownership() {
            return Err(Fault::new(Code::ToolTooOld, format!("helm {} cannot take over objects; 3.17 or newer can", self.version)));
        }
        Ok(())
    }

    async fn run(&self, args: Vec<String>, timeout: Duration) -> Result<Finished> {
        self.tools.run(Call::new("helm").args(args).env("KUBECONFIG", self.kubeconfig.display().to_string()).timeout(timeout)).await
    }
}

fn succeeded(finished: Finished, release: &str, chart: Option<&str>) -> Result<Finished> {
    if finished.success() {
        return Ok(finished);
    }
    let said = if finished.stderr.trim().is_empty() { &finished.stdout } else { &finished.stderr };
    Err(words::fault(said, &finished.command, release, chart))
}

fn unreadable(finished: &Finished, error: &str) -> Fault {
    Fault::new(Code::ToolFailed, format!("helm's answer is not readable: {error}")).evidence("command", finished.command.clone())
}
