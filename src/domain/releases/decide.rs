//! What to do with a release in the state it is in.

use std::time::Duration;

use jiff::Timestamp;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::text;
use crate::domain::releases::parse::{Revision, Status, Stored};

/// What an install or upgrade has to do first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Install,
    /// Upgrade, if anything would change.
    UpgradeIfChanged,
    /// Upgrade in any case: the last operation did not end well.
    Upgrade,
    /// The pending operation is dead: roll back to this revision, then upgrade.
    RollBack(u32),
    /// The pending operation is dead and nothing was ever deployed: forget its record (its objects stay and are taken over), then install.
    Forget(u32),
}

/// Younger pending operations may still be running whatever their timeout.
const YOUNGEST_DEAD: Duration = Duration::from_secs(300);

/// Decides from the stored state; `recover` is the flag without which a pending release is never touched.
pub fn next(name: &str, stored: Option<&Stored>, history: &[Revision], now: Timestamp, timeout: Duration, recover: bool) -> Result<Next, Fault> {
    let Some(stored) = stored else { return Ok(Next::Install) };
    match &stored.status {
        Status::Uninstalled => Ok(Next::Install),
        Status::Deployed => Ok(Next::UpgradeIfChanged),
        Status::Failed | Status::Superseded | Status::Unknown(_) => Ok(Next::Upgrade),
        Status::Uninstalling => Err(Fault::new(Code::ReleasePending, format!("{name} is being uninstalled{}", since(stored, now)))
            .next(format!("wait for it; if no helm runs any more, finish it with `helm uninstall {name}`"))),
        Status::PendingInstall | Status::PendingUpgrade | Status::PendingRollback => pending(name, stored, history, now, timeout, recover),
    }
}

/// Before a release is taken away: another helm may still be at work on it. An uninstallation that was killed is simply finished.
pub fn still_runs(name: &str, stored: &Stored, now: Timestamp, timeout: Duration) -> Option<Fault> {
    let dead = age(stored, now).is_none_or(|age| age > timeout.max(YOUNGEST_DEAD));
    let fault = || {
        Fault::new(Code::ReleasePending, format!("{name} is {}{}", stored.status, since(stored, now)))
            .next(format!("wait for the job that runs it; if there is none, `helm uninstall {name}` or run again later"))
    };
    (stored.status.is_pending() && !dead).then(fault)
}

fn pending(name: &str, stored: &Stored, history: &[Revision], now: Timestamp, timeout: Duration, recover: bool) -> Result<Next, Fault> {
    let fault = |what: String| Fault::new(Code::ReleasePending, format!("{name} is {}{}{what}", stored.status, since(stored, now)));
    let gate = timeout.max(YOUNGEST_DEAD);
    let old_enough = age(stored, now).is_none_or(|age| age > gate);
    match (recover, old_enough) {
        (false, false) => Err(fault(String::new()).next("wait for the job that runs it")),
        (false, true) => Err(fault(", longer than any helm of ours runs".to_owned())
            .next("make sure that no other job works on it, then run again with `--recover-pending`")),
        (true, false) => Err(fault(format!(", too young to be taken for dead (less than {})", text::seconds(gate)))
            .next("wait for the job that runs it, or run again later with `--recover-pending`")),
        (true, true) => Ok(match target(stored, history) {
            Some(revision) => Next::RollBack(revision),
            None => Next::Forget(stored.revision),
        }),
    }
}

/// The newest deployed revision, else the newest superseded one.
fn target(stored: &Stored, history: &[Revision]) -> Option<u32> {
    let newest = |status: &str| history.iter().filter(|r| r.status == status && r.revision != stored.revision).map(|r| r.revision).max();
    newest("deployed").or_else(|| newest("superseded"))
}

fn age(stored: &Stored, now: Timestamp) -> Option<Duration> {
    stored.since.and_then(|since| Duration::try_from(now.duration_since(since)).ok())
}

fn since(stored: &Stored, now: Timestamp) -> String {
    age(stored, now).map_or(String::new(), |age| format!(" for {}", text::seconds(age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(status: &str, revision: u32) -> Stored {
        Stored {
            revision,
            status: Status::parse(status),
            since: Some(Timestamp::UNIX_EPOCH),
            description: String::new(),
            values: serde_json::json!({}),
            manifest: String::new(),
            hooks: vec![],
            chart: None,
        }
    }

    #[test]
    fn only_a_young_pending_release_is_left_to_its_helm() {
        let at = |minutes: i64| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_mins(minutes);
        for (status, minutes, runs) in [
            ("pending-upgrade", 1, true),
            ("pending-install", 1, true),
            ("pending-upgrade", 11, false),
            ("uninstalling", 1, false),
            ("deployed", 1, false),
            ("failed", 1, false),
        ] {
            assert_eq!(still_runs("a", &stored(status, 1), at(minutes), Duration::from_secs(600)).is_some(), runs, "{status} {minutes}");
        }
    }

    fn history(statuses: &[&str]) -> Vec<Revision> {
        let revision = |(n, s): (u32, &&str)| Revision { revision: n, status: (*s).to_owned(), chart: String::new(), description: String::new() };
        (1..).zip(statuses).map(revision).collect()
    }

    #[test]
    fn each_state_has_its_step() {
        type Case = (Option<&'static str>, &'static [&'static str], i64, bool, Option<Next>);
        let cases: [Case; 13] = [
            (None, &[], 0, false, Some(Next::Install)),
            (Some("uninstalled"), &["uninstalled"], 0, false, Some(Next::Install)),
            (Some("deployed"), &["deployed"], 0, false, Some(Next::UpgradeIfChanged)),
            (Some("failed"), &["failed"], 0, false, Some(Next::Upgrade)),
            (Some("superseded"), &["superseded"], 0, false, Some(Next::Upgrade)),
            (Some("uninstalling"), &["uninstalling"], 9999, true, None),
            (Some("pending-install"), &["pending-install"], 10, false, None),
            (Some("pending-install"), &["pending-install"], 9999, false, None),
            (Some("pending-install"), &["pending-install"], 10, true, None),
            (Some("pending-install"), &["pending-install"], 301, true, Some(Next::Forget(1))),
            (Some("pending-upgrade"), &["superseded", "deployed", "pending-upgrade"], 301, true, Some(Next::RollBack(2))),
            (Some("pending-upgrade"), &["superseded", "superseded", "failed", "pending-upgrade"], 301, true, Some(Next::RollBack(2))),
            (Some("pending-rollback"), &["failed", "pending-rollback"], 301, true, Some(Next::Forget(2))),
        ];
        for (status, revisions, age, recover, expected) in cases {
            let stored = status.map(|s| stored(s, u32::try_from(revisions.len()).expect("few")));
            let now = Timestamp::from_second(age).expect("a time");
            let found = next("app1", stored.as_ref(), &history(revisions), now, Duration::from_secs(60), recover);
            match (found, expected) {
                (Ok(found), Some(expected)) => assert_eq!(found, expected, "{status:?} {age} {recover}"),
                (Err(fault), None) => assert_eq!(fault.code, Code::ReleasePending, "{status:?}"),
                (found, expected) => panic!("{status:?} {age} {recover}: {found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn a_pending_release_says_since_when() {
        let now = Timestamp::from_second(400).expect("a time");
        let fault = next("app1", Some(&stored("pending-upgrade", 1)), &[], now, Duration::from_secs(60), false).expect_err("pending");
        assert_eq!(fault.message, "app1 is pending-upgrade for 6 min 40 s, longer than any helm of ours runs");
    }
}
