//! The rules of the entries: what Istio rejects, what routes wrongly without a word, and what is odd.

use std::collections::HashMap;

use crate::base::finding::{Finding, tidy};
use crate::base::names::{is_cluster_host, is_dns_label};
use crate::base::place::Place;
use crate::domain::routes::{Document, Entry, Listed};

/// Everything that is wrong or odd with the entries of a file, sorted by place; the document's own errors and warnings included.
pub fn check(document: &Document) -> Vec<Finding> {
    let mut findings = document.errors();
    findings.extend(document.items.iter().flat_map(|item| item.warnings.clone()));
    findings.extend(check_entries(&document.listed()));
    for finding in &mut findings {
        mark(document, finding);
    }
    tidy(&mut findings);
    findings
}

/// The rules for entries from any file.
pub fn check_entries(entries: &[Listed]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = entries.iter().flat_map(check_entry).collect();
    findings.extend(same_names(entries));
    findings.extend(conflicts(entries));
    findings
}

/// Shows the line of a finding that only knows its place.
fn mark(document: &Document, finding: &mut Finding) {
    let line_of = |place: &Place| {
        let index = (place.line as usize).checked_sub(1)?;
        let line = document.source.line(index);
        let rest: String = line.chars().skip(place.column.max(1) as usize - 1).collect();
        let width = rest.split(" #").next().unwrap_or_default().trim_end_matches([' ', ',', ']', '}']).chars().count();
        Some(crate::base::finding::Mark { line: line.to_owned(), width: width.max(1) })
    };
    if finding.mark.is_none() {
        finding.mark = line_of(&finding.place);
    }
    for also in finding.also.iter_mut().filter(|also| also.mark.is_none()) {
        also.mark = line_of(&also.place);
    }
}

/// The rules that need no other entry.
pub fn check_entry(listed: &Listed) -> Vec<Finding> {
    let entry = &listed.entry;
    let mut findings = Vec::new();
    let mut error = |pointer: &str, message: String, hint: &str| findings.push(Finding::error(listed.place(pointer), message).hint(hint));
    if !is_dns_subdomain(&entry.virtual_name) {
        error("/virtualName", format!("`{}` is no name for a VirtualService", entry.virtual_name), "use lower-case letters, digits, `-` and `.`");
    }
    if !is_dns_label(&entry.name) {
        error("/name", format!("`{}` is no name of a Service", entry.name), "use lower-case letters, digits and `-`, at most 63");
    }
    if entry.port == 0 {
        error("/port", "`port` must be between 1 and 65535, but is 0".to_owned(), "give the Service's port");
    }
    if entry.namespaces.is_empty() {
        error("/namespaces", "`namespaces` is empty, so nothing is published".to_owned(), "add a namespace with its hosts, or remove the entry");
    }
    for (n, namespace) in entry.namespaces.iter().enumerate() {
        if !is_dns_label(&namespace.name) {
            error(
                &format!("/namespaces/{n}/name"),
                format!("`{}` is no name of a namespace", namespace.name),
                "use lower-case letters, digits and `-`, at most 63",
            );
        }
        if entry.namespaces[..n].iter().any(|other| other.name == namespace.name) {
            error(&format!("/namespaces/{n}"), format!("the namespace `{}` is given twice", namespace.name), "put its hosts together");
        }
        if namespace.hosts.is_empty() {
            error(
                &format!("/namespaces/{n}/hosts"),
                format!("the namespace `{}` has no hosts", namespace.name),
                "add a host, or remove the namespace",
            );
        }
        for (h, host) in namespace.hosts.iter().enumerate() {
            if let Err(why) = check_host(host) {
                error(&format!("/namespaces/{n}/hosts/{h}"), format!("`{host}` {}", why.0), why.1);
            }
        }
    }
    findings.extend(prefix_rules(listed));
    findings.extend(hosts_within(listed));
    findings.extend(internal_shapes(listed));
    findings
}

/// Is `host` what Istio takes as a host: DNS labels, a wildcard only as the whole first label?
/// The error says what is wrong and what helps.
pub fn check_host(host: &str) -> Result<(), (&'static str, &'static str)> {
    if host.contains("://") || host.contains('/') {
        return Err(("is an address, not a host", "leave out the scheme and the path"));
    }
    if host.contains(':') {
        return Err(("has a port", "leave out the port: hosts match on every port"));
    }
    if host == "*" {
        return Err(("takes every host away from the others", "name the hosts, or use `*.domain`"));
    }
    let rest = host.strip_prefix("*.").unwrap_or(host);
    if rest.contains('*') {
        return Err(("has a wildcard that is not the whole first label", "write `*.domain`"));
    }
    if host.len() > 255 {
        return Err(("is longer than 255 characters", "shorten it"));
    }
    let label = |l: &str| is_dns_label(&l.to_ascii_lowercase());
    if rest.is_empty() || !rest.trim_end_matches('.').split('.').all(label) || rest.ends_with('.') {
        return Err(("is no DNS name", "use labels of letters, digits and `-`, at most 63 each, with dots between"));
    }
    Ok(())
}

fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

fn prefix_rules(listed: &Listed) -> Vec<Finding> {
    let mut findings = Vec::new();
    let prefixes = listed.entry.prefixes.as_deref().unwrap_or_default();
    for (p, prefix) in prefixes.iter().enumerate() {
        let pointer = format!("/prefixes/{p}");
        let place = listed.place(&pointer);
        if !prefix.starts_with('/') || prefix.chars().any(|c| c.is_whitespace() || c.is_control()) || prefix.contains(['?', '#']) {
            findings.push(Finding::error(place, format!("the prefix `{prefix}` is no path")).hint("start it with `/`, without spaces, `?` and `#`"));
            continue;
        }
        let Some((earlier, shadow)) = prefixes[..p].iter().enumerate().find(|(_, earlier)| prefix.starts_with(earlier.as_str())) else { continue };
        let first = listed.place(&format!("/prefixes/{earlier}"));
        findings.push(if shadow == prefix {
            Finding::error(place, format!("the prefix `{prefix}` is given twice")).also(first, "first given here", None).hint("remove one of them")
        } else {
            // A chart may sort them, but a plain one does not: Istio drops all that follows a catch-all.
            Finding::warning(place, format!("the prefix `{prefix}` is never reached: `{shadow}` before it matches first"))
                .also(first, "this one matches first", None)
                .hint("put longer prefixes first")
        });
    }
    findings
}

/// Istio rejects a VirtualService whose hosts repeat or cover each other.
fn hosts_within(listed: &Listed) -> Vec<Finding> {
    let hosts: Vec<(String, Place)> = each_host(listed).map(|(pointer, host)| (host.to_ascii_lowercase(), listed.place(&pointer))).collect();
    let mut findings = Vec::new();
    for (index, (host, place)) in hosts.iter().enumerate() {
        let Some((other, first)) = hosts[..index].iter().find(|(other, _)| other == host || covers(other, host) || covers(host, other)) else {
            continue;
        };
        let message = if other == host {
            format!("the host `{host}` is given twice in this entry")
        } else {
            format!("`{host}` and `{other}` cover each other, which Istio rejects")
        };
        findings.push(Finding::error(place.clone(), message).also(first.clone(), "the other one", None).hint("keep one of them"));
    }
    findings
}

/// Does the wildcard `*.x` cover `host`?
fn covers(wildcard: &str, host: &str) -> bool {
    wildcard.strip_prefix('*').is_some_and(|suffix| host.len() > suffix.len() && host.ends_with(suffix))
}

/// Names inside the cluster follow from the Service: `name.namespace.svc.cluster.local`.
fn internal_shapes(listed: &Listed) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (n, namespace) in listed.entry.namespaces.iter().enumerate() {
        for (h, host) in namespace.hosts.iter().enumerate().filter(|(_, host)| is_cluster_host(host) && check_host(host).is_ok()) {
            let right = format!("{}.{}.svc.cluster.local", listed.entry.name, namespace.name);
            if *host == right {
                continue;
            }
            let place = listed.place(&format!("/namespaces/{n}/hosts/{h}"));
            let message = if host.contains('.') {
                format!("`{host}` is not the name of the Service `{}` in `{}`", listed.entry.name, namespace.name)
            } else {
                format!("`{host}` without a domain means another Service in each namespace")
            };
            findings.push(Finding::warning(place, message).hint(format!("probably `{right}` is meant")));
        }
    }
    findings
}

fn same_names(entries: &[Listed]) -> Vec<Finding> {
    let mut seen: HashMap<&str, &Listed> = HashMap::new();
    let mut findings = Vec::new();
    for listed in entries {
        if let Some(first) = seen.insert(&listed.entry.virtual_name, listed) {
            let finding = Finding::error(listed.place("/virtualName"), format!("the entry `{}` is given twice", listed.entry.virtual_name));
            findings.push(finding.also(first.place("/virtualName"), "first given here", None).hint("put them together, or rename one"));
        }
    }
    findings
}

/// The same host and prefix in two entries: Istio takes the older VirtualService without a word.
fn conflicts(entries: &[Listed]) -> Vec<Finding> {
    let mut seen: HashMap<(String, &str), (&Entry, Place)> = HashMap::new();
    let mut findings = Vec::new();
    for listed in entries {
        for (pointer, host) in each_host(listed) {
            for prefix in listed.entry.effective_prefixes() {
                let key = (host.to_ascii_lowercase(), prefix);
                let place = listed.place(&pointer);
                match seen.get(&key) {
                    Some((owner, first)) if owner.virtual_name != listed.entry.virtual_name => {
                        let message = format!("`{host}` with the prefix `{prefix}` {CONFLICT} `{}`", owner.virtual_name);
                        let finding = Finding::error(place, message).also(first.clone(), "first given here", None);
                        findings.push(finding.hint("give each host and prefix to one entry"));
                    }
                    Some(_) => {}
                    None => {
                        seen.insert(key, (&listed.entry, place));
                    }
                }
            }
        }
    }
    findings
}

/// Is this the finding of two entries that claim the same host and prefix?
pub fn is_conflict(finding: &Finding) -> bool {
    finding.is_error() && finding.message.contains(CONFLICT)
}

/// In the message of every conflict, and of no other finding.
const CONFLICT: &str = "belongs to another entry already:";

fn each_host(listed: &Listed) -> impl Iterator<Item = (String, &str)> {
    let namespaces = listed.entry.namespaces.iter().enumerate();
    namespaces
        .flat_map(|(n, namespace)| namespace.hosts.iter().enumerate().map(move |(h, host)| (format!("/namespaces/{n}/hosts/{h}"), host.as_str())))
}
