//! Where the load balancer will stand: a subnet in each of two zones, found by its tags as AWS's controller finds it.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::text;
use crate::domain::doctor::rendered::Wants;
use crate::domain::doctor::{Verdict, listed};

const PUBLIC: &str = "kubernetes.io/role/elb";
const INTERNAL: &str = "kubernetes.io/role/internal-elb";
const CLUSTER: &str = "kubernetes.io/cluster/";
/// What a load balancer needs free in each of its subnets.
const FREE: u32 = 8;

/// A subnet of the cluster's VPC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subnet {
    pub id: String,
    pub zone: String,
    pub free: u32,
    pub tags: BTreeMap<String, String>,
}

/// `subnets`: all of the VPC.
pub fn judge(wants: &Wants, subnets: &[Subnet], cluster: &str) -> Verdict {
    if wants.subnets.is_empty() { by_tags(wants, subnets, cluster) } else { by_name(wants, subnets) }
}

fn by_name(wants: &Wants, subnets: &[Subnet]) -> Verdict {
    let named = |wanted: &&String| subnets.iter().find(|subnet| subnet.id == **wanted || subnet.tags.get("Name") == Some(wanted));
    let unknown: Vec<&String> = wants.subnets.iter().filter(|wanted| named(wanted).is_none()).collect();
    if !unknown.is_empty() {
        let message = format!(
            "Ingress {} names {} that the cluster's VPC does not have: {}",
            wants.ingress,
            text::count(unknown.len(), "subnet"),
            listed(&unknown)
        );
        let have: Vec<String> = subnets.iter().map(|subnet| format!("{} {}", subnet.id, subnet.zone)).collect();
        return failed(
            Fault::new(Code::SubnetsUnusable, message)
                .evidence("subnets of the VPC", have.join("\n"))
                .next("correct `alb.ingress.kubernetes.io/subnets` in the team's values"),
        );
    }
    let chosen: Vec<&Subnet> = wants.subnets.iter().filter_map(|wanted| named(&wanted)).collect();
    enough(&chosen, || {
        format!("name a subnet in another zone, too, in the annotation alb.ingress.kubernetes.io/subnets of Ingress {}", wants.ingress)
    })
}

fn by_tags(wants: &Wants, subnets: &[Subnet], cluster: &str) -> Verdict {
    let tag = if wants.internal { INTERNAL } else { PUBLIC };
    let scheme = if wants.internal { "an internal" } else { "an internet-facing" };
    let tagged: Vec<&Subnet> = subnets.iter().filter(|subnet| subnet.tags.get(tag).is_some_and(|value| value.is_empty() || value == "1")).collect();
    let ours: Vec<&Subnet> = tagged.iter().copied().filter(|subnet| !of_another(subnet, cluster)).collect();
    let command = |ids: &[&Subnet]| {
        let ids: Vec<&str> = ids.iter().map(|subnet| subnet.id.as_str()).collect();
        let ids = if ids.is_empty() { "SUBNET SUBNET".to_owned() } else { ids.join(" ") };
        format!("`aws ec2 create-tags --resources {ids} --tags Key={tag},Value=1`, for one subnet in each of two zones")
    };
    if tagged.is_empty() {
        // The controller then looks for routes to an internet gateway, which is right in many VPCs, so this alone is no fault.
        let mut verdict = Verdict::of("none is tagged");
        let all: Vec<&Subnet> = subnets.iter().collect();
        verdict.warnings.push(format!(
            "no subnet of the VPC is tagged {tag}=1: the controller guesses by routes where {scheme} load balancer may stand; {}",
            command(&all)
        ));
        return verdict;
    }
    if ours.is_empty() {
        let fault = Fault::new(
            Code::SubnetsUnusable,
            format!(
                "every subnet that is tagged for {scheme} load balancer is tagged for other clusters, too: {}",
                listed(&tagged.iter().map(|s| &s.id).collect::<Vec<_>>())
            ),
        );
        let ids: Vec<&str> = tagged.iter().map(|subnet| subnet.id.as_str()).collect();
        return failed(
            fault.next(format!("share them: `aws ec2 create-tags --resources {} --tags Key={CLUSTER}{cluster},Value=shared`", ids.join(" "))),
        );
    }
    let others: Vec<&Subnet> = subnets.iter().filter(|subnet| !ours.iter().any(|own| own.zone == subnet.zone)).collect();
    enough(&ours, || command(&others))
}

/// Tagged for clusters, but not for this one.
fn of_another(subnet: &Subnet, cluster: &str) -> bool {
    let mut clusters = subnet.tags.keys().filter_map(|key| key.strip_prefix(CLUSTER)).peekable();
    clusters.peek().is_some() && !clusters.any(|name| name == cluster)
}

fn enough(chosen: &[&Subnet], cure: impl Fn() -> String) -> Verdict {
    let zones: BTreeSet<&str> = chosen.iter().map(|subnet| subnet.zone.as_str()).collect();
    let zones: Vec<&str> = zones.into_iter().collect();
    if zones.len() < 2 {
        let message = format!(
            "the load balancer would have subnets in {} only ({}), and AWS wants two zones",
            listed(&zones),
            listed(&chosen.iter().map(|s| &s.id).collect::<Vec<_>>())
        );
        return failed(Fault::new(Code::SubnetsUnusable, message).next(cure()));
    }
    let mut verdict = Verdict::of(format!("{} in {}", text::count(chosen.len(), "subnet"), listed(&zones)));
    let full: Vec<String> = chosen.iter().filter(|subnet| subnet.free < FREE).map(|subnet| format!("{} ({} free)", subnet.id, subnet.free)).collect();
    if !full.is_empty() {
        verdict.warnings.push(format!(
            "a load balancer needs {FREE} free addresses in each of its subnets, and {} has fewer: free some, or tag another subnet",
            listed(&full)
        ));
    }
    verdict
}

fn failed(fault: Fault) -> Verdict {
    Verdict { faults: vec![fault], ..Verdict::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(id: &str, zone: &str, tags: &[(&str, &str)]) -> Subnet {
        Subnet { id: id.into(), zone: zone.into(), free: 200, tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() }
    }

    #[test]
    fn subnets_are_found_by_their_tags_as_the_controller_finds_them() {
        let elb = [(PUBLIC, "1")];
        let both = [(PUBLIC, ""), (INTERNAL, "1")];
        let foreign = [(PUBLIC, "1"), ("kubernetes.io/cluster/other", "owned")];
        let shared = [(PUBLIC, "1"), ("kubernetes.io/cluster/other", "shared"), ("kubernetes.io/cluster/shop-eks", "shared")];
        let full = |id: &str, zone: &str| Subnet { free: 3, ..subnet(id, zone, &elb) };
        for (what, internal, subnets, failed, warned) in [
            ("two zones", false, vec![subnet("s1", "a", &elb), subnet("s2", "b", &elb)], "", ""),
            ("an empty value counts, too", true, vec![subnet("s1", "a", &both), subnet("s2", "b", &both)], "", ""),
            ("one zone", false, vec![subnet("s1", "a", &elb), subnet("s2", "b", &[])], "in a only (s1)", ""),
            ("twice the same zone", false, vec![subnet("s1", "a", &elb), subnet("s2", "a", &elb)], "in a only (s1 and s2)", ""),
            ("none", false, vec![subnet("s1", "a", &[]), subnet("s2", "b", &[])], "", "guesses by routes"),
            ("the other scheme's tag", true, vec![subnet("s1", "a", &elb), subnet("s2", "b", &elb)], "", "internal-elb=1"),
            ("value 0", false, vec![subnet("s1", "a", &[(PUBLIC, "0")])], "", "no subnet"),
            ("another cluster's", false, vec![subnet("s1", "a", &foreign), subnet("s2", "b", &foreign)], "for other clusters", ""),
            ("shared with another cluster", false, vec![subnet("s1", "a", &shared), subnet("s2", "b", &shared)], "", ""),
            ("nearly full", false, vec![full("s1", "a"), subnet("s2", "b", &elb)], "", "s1 (3 free)"),
        ] {
            let wants = Wants { internal, ..Wants::default() };
            check(what, &judge(&wants, &subnets, "shop-eks"), failed, warned);
        }
    }

    #[test]
    fn named_subnets_must_be_there_in_two_zones() {
        let subnets = [subnet("s1", "a", &[("Name", "public-a")]), subnet("s2", "b", &[])];
        for (named, failed) in
            [(vec!["s1", "s2"], ""), (vec!["public-a", "s2"], ""), (vec!["s1", "s9"], "does not have: s9"), (vec!["s1"], "in a only")]
        {
            let wants = Wants { subnets: named.iter().map(|name| (*name).to_owned()).collect(), ..Wants::default() };
            check("named", &judge(&wants, &subnets, "shop-eks"), failed, "");
        }
    }

    #[test]
    fn the_command_names_the_subnets_that_lack_the_tag() {
        let wants = Wants { internal: true, ..Wants::default() };
        let fault = judge(&wants, &[subnet("s1", "a", &[(INTERNAL, "1")]), subnet("s2", "b", &[])], "c").fault().expect("a fault");
        assert!(fault.next[0].contains("--resources s2 --tags Key=kubernetes.io/role/internal-elb,Value=1"), "{fault:?}");
    }

    fn check(what: &str, verdict: &Verdict, failed: &str, warned: &str) {
        let told = verdict.fault();
        assert_eq!(told.is_some(), !failed.is_empty(), "{what}: {verdict:?}");
        assert!(told.is_none_or(|fault| fault.message.contains(failed) && !fault.next.is_empty()), "{what}: {verdict:?}");
        assert_eq!(verdict.warnings.is_empty(), warned.is_empty(), "{what}: {verdict:?}");
        assert!(verdict.warnings.iter().all(|w| w.contains(warned)), "{what}: {verdict:?}");
    }
}
