//! The certificates that the load balancer will show: issued, in date, in its Region, and for every public host.

use jiff::{SignedDuration, Timestamp};

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::place::Place;
use crate::base::text;
use crate::domain::doctor::{Verdict, listed};

/// ACM renews 60 days ahead; what is still old this close to its end is not being renewed.
const NEAR: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A certificate as ACM describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    pub arn: String,
    /// `ISSUED`, `PENDING_VALIDATION`, `EXPIRED`, `FAILED`, …
    pub status: String,
    pub domains: Vec<String>,
    pub not_after: Option<Timestamp>,
    /// Why ACM could not issue or renew it.
    pub reason: String,
}

/// What became of asking for one ARN.
#[derive(Clone, Debug)]
pub enum Asked {
    Found(Certificate),
    NotFound,
    /// ACM may not be asked, or did not answer.
    Unknown(String),
}

/// The Region in an ARN of ACM; `None` for another service's (IAM keeps server certificates, too).
pub fn region_of(arn: &str) -> Option<&str> {
    let mut parts = arn.split(':');
    (parts.nth(2)? == "acm").then(|| parts.next()).flatten()
}

/// `hosts`: what `verify` and browsers will ask for, with their places.
pub fn judge(asked: &[(String, Asked)], hosts: &[(String, Place)], region: &str, now: Timestamp) -> Verdict {
    let mut verdict = Verdict::default();
    let mut known = Vec::new();
    let mut all_known = true;
    for (arn, asked) in asked {
        match asked {
            _ if region_of(arn).is_some_and(|of| of != region) => {
                let of = region_of(arn).unwrap_or_default();
                verdict.faults.push(
                    unusable(format!("certificate {arn} is in {of}, and the load balancer is in {region}, where it is not known")).next(format!(
                        "request or import it in {region}: `aws acm request-certificate --region {region} …`, and name it in the team's values"
                    )),
                );
            }
            Asked::Found(certificate) => {
                status(certificate, region, now, &mut verdict);
                known.push(certificate);
            }
            Asked::NotFound => verdict.faults.push(
                unusable(format!("certificate {arn} does not exist in this account: the load balancer would be made without its HTTPS listener"))
                    .next(format!("`aws acm list-certificates --region {region}` shows what there is; correct the team's values")),
            ),
            Asked::Unknown(why) => {
                all_known = false;
                verdict.warnings.push(format!("certificate {arn} was not looked at: {why}"));
            }
        }
    }
    // A certificate that could not be looked at may cover anything.
    if all_known && verdict.faults.is_empty() {
        covered(&known, hosts, &mut verdict);
    }
    verdict.note = format!("{}, {}", text::count(known.len(), "certificate"), text::count(hosts.len(), "host"));
    verdict
}

fn status(certificate: &Certificate, region: &str, now: Timestamp, verdict: &mut Verdict) {
    let Certificate { arn, status, reason, not_after, .. } = certificate;
    let expired = not_after.is_some_and(|end| end < now);
    if status != "ISSUED" || expired {
        let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        let word = if expired { "EXPIRED" } else { status };
        let fault = unusable(format!("certificate {arn} is {word}{why}, not ISSUED: no HTTPS listener can be made with it"));
        verdict.faults.push(match word {
            "PENDING_VALIDATION" => fault.next(format!(
                "set the DNS records that its DomainValidationOptions name: `aws acm describe-certificate --region {region} --certificate-arn {arn}`"
            )),
            _ => fault.next(format!("request or import another (`aws acm request-certificate --region {region} …`), and name it in the values")),
        });
    } else if let Some(end) = not_after.filter(|end| end.duration_since(now) < NEAR) {
        let days = end.duration_since(now).as_hours() / 24;
        verdict.warnings.push(format!(
            "certificate {arn} ends in {}, and ACM has not renewed it: see RenewalSummary in `aws acm describe-certificate --certificate-arn {arn}`",
            text::count(usize::try_from(days).unwrap_or(0), "day")
        ));
    }
}

fn covered(known: &[&Certificate], hosts: &[(String, Place)], verdict: &mut Verdict) {
    let open: Vec<&(String, Place)> =
        hosts.iter().filter(|(host, _)| !known.iter().any(|certificate| certificate.domains.iter().any(|domain| covers(domain, host)))).collect();
    let Some((_, place)) = open.first() else { return };
    let names: Vec<&str> = open.iter().map(|(host, _)| host.as_str()).collect();
    let domains: Vec<&str> = known.iter().flat_map(|certificate| &certificate.domains).map(String::as_str).collect();
    verdict.faults.push(
        unusable(format!(
            "no certificate of the load balancer is for {}: HTTPS to {} fails",
            listed(&names),
            if names.len() == 1 { "it" } else { "them" }
        ))
        .evidence("what the certificates are for", domains.join("\n"))
        .at(Some(place))
        .next("request one with these names, and add its ARN to the team's values: a listener takes several")
        .next("or give these routes a name that is covered"),
    );
}

/// Does a certificate's name cover a host? A wildcard stands for one label.
fn covers(domain: &str, host: &str) -> bool {
    let (domain, host) = (domain.to_ascii_lowercase(), host.to_ascii_lowercase());
    match domain.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == parent),
        None => domain == host,
    }
}

fn unusable(message: String) -> Fault {
    Fault::new(Code::CertificateUnusable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:acm:ap-southeast-1:123456789012:certificate/a";

    fn certificate(domains: &[&str], status: &str, days: i64) -> Asked {
        Asked::Found(Certificate {
            arn: ARN.into(),
            status: status.into(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            not_after: Some(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * (100 + days))),
            reason: String::new(),
        })
    }

    fn judged(asked: Vec<(&str, Asked)>, hosts: &[&str]) -> Verdict {
        let asked: Vec<(String, Asked)> = asked.into_iter().map(|(arn, asked)| (arn.to_owned(), asked)).collect();
        let hosts: Vec<(String, Place)> = hosts.iter().map(|host| ((*host).to_owned(), Place::new("values.yaml", 1, 1))).collect();
        judge(&asked, &hosts, "ap-southeast-1", Timestamp::UNIX_EPOCH + SignedDuration::from_hours(2400))
    }

    #[test]
    fn a_certificate_must_be_issued_in_date_in_its_region_and_for_the_hosts() {
        let wild = ["*.public.domain"];
        let elsewhere = "arn:aws:acm:us-east-1:123456789012:certificate/a";
        for (what, asked, hosts, failed, warned) in [
            ("all well", vec![(ARN, certificate(&wild, "ISSUED", 90))], vec!["app1.public.domain", "*.public.domain"], "", ""),
            ("pending", vec![(ARN, certificate(&wild, "PENDING_VALIDATION", 90))], vec![], "is PENDING_VALIDATION", ""),
            ("expired by status", vec![(ARN, certificate(&wild, "EXPIRED", -1))], vec![], "is EXPIRED", ""),
            ("expired by date", vec![(ARN, certificate(&wild, "ISSUED", -1))], vec![], "is EXPIRED", ""),
            ("near its end", vec![(ARN, certificate(&wild, "ISSUED", 13))], vec![], "", "ends in 13 days"),
            ("15 days are enough", vec![(ARN, certificate(&wild, "ISSUED", 15))], vec![], "", ""),
            ("another Region", vec![(elsewhere, certificate(&wild, "ISSUED", 90))], vec![], "is in us-east-1", ""),
            ("not there", vec![(ARN, Asked::NotFound)], vec![], "does not exist", ""),
            ("not asked", vec![(ARN, Asked::Unknown("no right".into()))], vec!["other.example"], "", "no right"),
            ("one label only", vec![(ARN, certificate(&wild, "ISSUED", 90))], vec!["a.b.public.domain"], "is for a.b.public.domain", ""),
            ("the parent itself", vec![(ARN, certificate(&wild, "ISSUED", 90))], vec!["public.domain"], "is for public.domain", ""),
            ("case", vec![(ARN, certificate(&["App1.x"], "ISSUED", 90))], vec!["aPP1.X"], "", ""),
            (
                "two together",
                vec![(ARN, certificate(&wild, "ISSUED", 90)), (ARN, certificate(&["x.example"], "ISSUED", 90))],
                vec!["x.example", "a.public.domain"],
                "",
                "",
            ),
            (
                "one of two unknown",
                vec![(ARN, certificate(&wild, "ISSUED", 90)), (ARN, Asked::Unknown("no right".into()))],
                vec!["x.example"],
                "",
                "no right",
            ),
        ] {
            let verdict = judged(asked, &hosts);
            let told = verdict.fault();
            assert_eq!(told.is_some(), !failed.is_empty(), "{what}: {verdict:?}");
            assert!(told.is_none_or(|fault| fault.message.contains(failed) && !fault.next.is_empty()), "{what}: {verdict:?}");
            assert_eq!(verdict.warnings.is_empty(), warned.is_empty(), "{what}: {verdict:?}");
            assert!(verdict.warnings.iter().all(|w| w.contains(warned)), "{what}: {verdict:?}");
        }
    }

    #[test]
    fn an_arn_tells_its_region() {
        assert_eq!(region_of(ARN), Some("ap-southeast-1"));
        assert_eq!(region_of("arn:aws:iam::123456789012:server-certificate/a"), None);
        assert_eq!(region_of("nonsense"), None);
    }
}
