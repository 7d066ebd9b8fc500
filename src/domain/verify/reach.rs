//! What cannot be reached from here says nothing about the host: an internal load balancer from outside its network, an address of a
//! family that this machine has no route for.

use std::net::{IpAddr, Ipv4Addr};

use crate::clients::http::{NetError, Phase};

/// How an address took a connection; of several attempts the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tried {
    /// The network has no way there.
    NoRoute,
    /// Not a word within the time.
    Silent,
    /// Something came back, if only a refusal.
    Heard,
}

impl Tried {
    pub fn of(error: Option<&NetError>) -> Self {
        match error {
            Some(NetError::Unreachable { .. }) => Tried::NoRoute,
            Some(NetError::Timeout { phase: Phase::Connect, .. }) => Tried::Silent,
            _ => Tried::Heard,
        }
    }
}

/// Why nothing is judged from here; `None`: what was heard, or not heard, is judged. `scheme`: the load balancer's, where AWS told it;
/// `name`: what was looked up.
pub fn unreached(scheme: Option<&str>, name: &str, tried: &[(IpAddr, Tried)]) -> Option<String> {
    if tried.is_empty() || tried.iter().any(|(_, tried)| *tried == Tried::Heard) {
        return None;
    }
    let routed: Vec<&(IpAddr, Tried)> = tried.iter().filter(|(address, tried)| address.is_ipv4() || *tried == Tried::Silent).collect();
    let Some((first, how)) = routed.first() else {
        return Some(format!("{name} has IPv6 addresses only, and there is no IPv6 route from here"));
    };
    let internal = match scheme {
        Some(scheme) => scheme == "internal",
        // AWS names internal load balancers so.
        None => name.starts_with("internal-") || routed.iter().all(|(address, _)| is_private(*address)),
    };
    let how = if *how == Tried::Silent { "does not answer here" } else { "cannot be reached from here" };
    let others = if routed.len() > 1 { format!(", like {} more", routed.len() - 1) } else { String::new() };
    internal.then(|| {
        format!(
            "{name} is internal, and {first} {how}{others}: ask from inside, with `verify --from cluster`, or from an agent whose network leads there"
        )
    })
}

/// The same for a name whose addresses were not asked one by one: a request to it ended so at whichever was taken.
pub fn unreached_name(scheme: Option<&str>, name: &str, addresses: &[IpAddr], tried: Tried) -> Option<String> {
    unreached(scheme, name, &addresses.iter().map(|address| (*address, tried)).collect::<Vec<_>>())
}

/// An address that no public network leads to.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || is_shared(v4),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// 100.64.0.0/10, which EKS clusters take for pods and load balancers too.
fn is_shared(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    a == 100 && (64..128).contains(&b)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ALB: &str = "k8s-shop.elb.amazonaws.com";
    const PUBLIC: &str = "203.0.113.7";

    #[test]
    fn only_what_cannot_be_reached_from_here_is_left_out() {
        use Tried::{Heard, NoRoute, Silent};
        for (scheme, name, tried, reason) in [
            (Some("internal"), ALB, vec![("10.0.1.5", Silent), ("10.0.2.5", Silent)], Some("10.0.1.5 does not answer here, like 1 more")),
            (Some("internal"), ALB, vec![("10.0.1.5", NoRoute)], Some("10.0.1.5 cannot be reached from here")),
            // It is reached: whatever it answers is judged, and so is a refusal.
            (Some("internal"), ALB, vec![("10.0.1.5", Heard)], None),
            (Some("internal"), ALB, vec![("10.0.1.5", Silent), ("10.0.2.5", Heard)], None),
            (Some("internet-facing"), ALB, vec![(PUBLIC, Silent)], None),
            (Some("internet-facing"), ALB, vec![(PUBLIC, NoRoute)], None),
            // A name of a split horizon: public by its scheme, so that it does not answer is a fault.
            (Some("internet-facing"), ALB, vec![("10.0.1.5", Silent)], None),
            // AWS was not asked: the name, or addresses that no public network leads to.
            (None, "internal-k8s-shop.elb.amazonaws.com", vec![(PUBLIC, Silent)], Some("is internal")),
            (None, ALB, vec![("172.16.0.9", NoRoute)], Some("is internal")),
            (None, ALB, vec![("100.64.3.1", Silent)], Some("is internal")),
            (None, ALB, vec![("100.128.3.1", Silent)], None),
            (None, ALB, vec![("10.0.1.5", Silent), (PUBLIC, Silent)], None),
            (None, ALB, vec![(PUBLIC, Silent)], None),
            (None, ALB, vec![("fd00::5", Silent)], Some("is internal")),
            // An address of a family without a route, alone and beside others.
            (Some("internet-facing"), ALB, vec![("2001:db8::1", NoRoute)], Some("no IPv6 route")),
            (None, ALB, vec![("fd00::5", NoRoute), ("fd00::6", NoRoute)], Some("no IPv6 route")),
            (Some("internet-facing"), ALB, vec![("2001:db8::1", Silent)], None),
            (Some("internet-facing"), ALB, vec![("2001:db8::1", NoRoute), (PUBLIC, Silent)], None),
            (Some("internal"), ALB, vec![("2001:db8::1", NoRoute), ("10.0.1.5", Silent)], Some("10.0.1.5 does not answer here:")),
            (None, ALB, vec![], None),
        ] {
            let tried: Vec<(IpAddr, Tried)> = tried.into_iter().map(|(address, tried)| (address.parse().expect("an address"), tried)).collect();
            let found = unreached(scheme, name, &tried);
            assert_eq!(found.is_some(), reason.is_some(), "{scheme:?} {name} {tried:?}: {found:?}");
            assert!(found.as_deref().unwrap_or_default().contains(reason.unwrap_or_default()), "{reason:?}: {found:?}");
        }
    }

    #[test]
    fn a_refusal_and_a_late_answer_came_back() {
        let timeout = |phase| NetError::Timeout { phase, after: Duration::from_secs(10) };
        for (error, tried) in [
            (None, Tried::Heard),
            (Some(NetError::Refused { address: "10.0.1.5:80".into() }), Tried::Heard),
            (Some(timeout(Phase::FirstByte)), Tried::Heard),
            (Some(timeout(Phase::Connect)), Tried::Silent),
            (Some(NetError::Unreachable { address: "10.0.1.5:80".into(), why: "Network is unreachable".into() }), Tried::NoRoute),
        ] {
            assert_eq!(Tried::of(error.as_ref()), tried, "{error:?}");
        }
    }
}
