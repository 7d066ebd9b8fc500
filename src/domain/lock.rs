//! The lock of an environment: a Lease in the cluster that names its holder. Who may take it is a pure function.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

/// How long a lock stays valid without a renewal.
pub const LEASE_SECONDS: i32 = 60;
/// How often a holder renews it.
pub const RENEW_EVERY: Duration = Duration::from_secs(15);
/// Annotation with the holder's build, for people.
pub const BUILD_URL: &str = "meshstep.io/build-url";

/// Who has the lock, as seen by one who wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody, or its holder let go.
    Free,
    /// It is ours already: a stage of the same build, or a retry.
    Ours,
    Held {
        holder: String,
        since: String,
        build_url: Option<String>,
    },
    /// Its holder did not renew it for its whole duration while we watched: it is dead.
    Expired {
        holder: String,
    },
}

/// Judges a Lease. `unchanged_for`: how long this same renewal was seen by our own clock; clocks of two agents are never compared.
pub fn judge(lease: Option<&Lease>, ours: &str, unchanged_for: Duration) -> Claim {
    let Some(spec) = lease.and_then(|lease| lease.spec.as_ref()) else { return Claim::Free };
    let holder = spec.holder_identity.clone().unwrap_or_default();
    if holder.is_empty() {
        return Claim::Free;
    }
    if holder == ours {
        return Claim::Ours;
    }
    let duration = Duration::from_secs(spec.lease_duration_seconds.unwrap_or(LEASE_SECONDS).max(1).unsigned_abs().into());
    if unchanged_for >= duration {
        return Claim::Expired { holder };
    }
    let annotations = lease.and_then(|lease| lease.metadata.annotations.as_ref());
    Claim::Held {
        holder,
        since: spec.acquire_time.as_ref().map(|time| time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default(),
        build_url: annotations.and_then(|a| a.get(BUILD_URL)).cloned(),
    }
}

impl Claim {
    /// Who holds it and since when, for people.
    pub fn words(&self) -> String {
        match self {
            Claim::Free => "free".to_owned(),
            Claim::Ours => "ours".to_owned(),
            Claim::Expired { holder } => format!("left behind by {holder}"),
            Claim::Held { holder, since, build_url } => {
                let since = if since.is_empty() { String::new() } else { format!(" since {since}") };
                let url = build_url.as_ref().map(|url| format!(" ({url})")).unwrap_or_default();
                format!("held by {holder}{since}{url}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::LeaseSpec;

    fn lease(holder: Option<&str>) -> Lease {
        let spec = LeaseSpec { holder_identity: holder.map(str::to_owned), lease_duration_seconds: Some(60), ..LeaseSpec::default() };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn the_table_of_claims() {
        let held = Claim::Held { holder: "other".into(), since: String::new(), build_url: None };
        for (lease, unchanged, wanted) in [
            (None, 0, Claim::Free),
            (Some(lease(None)), 0, Claim::Free),
            (Some(lease(Some(""))), 0, Claim::Free),
            (Some(lease(Some("me"))), 0, Claim::Ours),
            (Some(lease(Some("me"))), 500, Claim::Ours),
            (Some(lease(Some("other"))), 0, held.clone()),
            (Some(lease(Some("other"))), 59, held),
            (Some(lease(Some("other"))), 60, Claim::Expired { holder: "other".into() }),
        ] {
            assert_eq!(judge(lease.as_ref(), "me", Duration::from_secs(unchanged)), wanted);
        }
    }
}
