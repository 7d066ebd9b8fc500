//! Link 3: the load balancer's state in AWS.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault};
use crate::domain::ingress::Link;

/// How long AWS may not know a load balancer that the Ingress names: the API is eventually consistent.
const UNKNOWN_GRACE: Duration = Duration::from_secs(60);

/// What AWS says of a load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `provisioning`, `active`, `active_impaired`, `failed`
    pub state: String,
    pub reason: Option<String>,
}

/// Is it active? `seen` is `None` while AWS knows no load balancer of this DNS name.
pub fn active(seen: Option<&Seen>, dns_name: &str, waited: Duration) -> Link<()> {
    let Some(seen) = seen else {
        if waited < UNKNOWN_GRACE {
            return Link::NotYet(format!("AWS does not know {dns_name} yet"));
        }
        let message = format!("no load balancer of this account and Region has the name {dns_name}");
        let fault = Fault::new(Code::AlbFailed, message).class(Class::Environment);
        return Link::broken(
            fault
                .next("check `cluster.region` and the account of the credentials")
                .next("touch the Ingress if the load balancer was deleted by hand"),
        );
    };
    let reason = seen.reason.as_deref().filter(|r| !r.is_empty());
    let with = |text: &str| reason.map_or_else(|| text.to_owned(), |reason| format!("{text}: {reason}"));
    match seen.state.as_str() {
        "active" => Link::holds(()),
        "active_impaired" => Link::Holds((), vec![with("the load balancer serves, but cannot scale (active_impaired)")]),
        "failed" => Link::broken(
            Fault::new(Code::AlbFailed, with("AWS reports the load balancer as failed"))
                .evidence("state reason", reason.unwrap_or_default())
                .next("correct what AWS names (often subnets without free addresses or a quota); then delete the load balancer and touch the Ingress, and the controller makes a new one"),
        ),
        other => Link::NotYet(with(&format!("the load balancer is {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_verdict() {
        let seen = |state: &str, reason: Option<&str>| Some(Seen { state: state.into(), reason: reason.map(str::to_owned) });
        for (seen, waited, expected) in [
            (seen("active", None), 0, "holds 0"),
            (seen("active_impaired", Some("no addresses")), 0, "holds 1"),
            (seen("provisioning", None), 900, "not yet the load balancer is provisioning"),
            (
                seen("failed", Some("Insufficient free addresses")),
                0,
                "alb_failed AWS reports the load balancer as failed: Insufficient free addresses",
            ),
            (None, 59, "not yet AWS does not know a.elb yet"),
            (None, 60, "alb_failed no load balancer of this account and Region has the name a.elb"),
        ] {
            let found = match active(seen.as_ref(), "a.elb", Duration::from_secs(waited)) {
                Link::Holds((), warnings) => format!("holds {}", warnings.len()),
                Link::NotYet(reason) => format!("not yet {reason}"),
                Link::Broken(fault) => format!("{} {}", fault.code, fault.message),
            };
            assert_eq!(found, expected);
        }
    }
}
