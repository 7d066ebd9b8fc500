//! The public hosts of the entries: what `verify` asks through the load balancer.

use crate::base::names::is_cluster_host;
use crate::base::place::Place;
use crate::domain::routes::Listed;

/// A host that the gateway serves, with the prefixes it serves it under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicHost {
    /// As written; `*.example.com` for a wildcard.
    pub host: String,
    /// In the order of the entry, at least one.
    pub prefixes: Vec<String>,
    /// Name of the Kubernetes Service behind it.
    pub service: String,
    pub namespace: String,
    /// The Service's port.
    pub port: u16,
    /// Where the host stands in the values file.
    pub place: Place,
}

impl PublicHost {
    /// A wildcard can be asked only with a name in its place.
    pub fn is_wildcard(&self) -> bool {
        self.host.starts_with('*')
    }
}

/// Every host outside the cluster's own names, in the order of the file.
pub fn public_hosts(entries: &[Listed]) -> Vec<PublicHost> {
    hosts(entries, |host| !is_cluster_host(host))
}

/// The names that only the cluster knows.
pub fn cluster_hosts(entries: &[Listed]) -> Vec<PublicHost> {
    hosts(entries, is_cluster_host)
}

fn hosts(entries: &[Listed], wanted: impl Fn(&str) -> bool) -> Vec<PublicHost> {
    let mut found = Vec::new();
    for listed in entries {
        for (n, namespace) in listed.entry.namespaces.iter().enumerate() {
            for (h, host) in namespace.hosts.iter().enumerate().filter(|(_, host)| wanted(host)) {
                found.push(PublicHost {
                    host: host.clone(),
                    prefixes: listed.entry.effective_prefixes().into_iter().map(str::to_owned).collect(),
                    service: listed.entry.name.clone(),
                    namespace: namespace.name.clone(),
                    port: listed.entry.port,
                    place: listed.place(&format!("/namespaces/{n}/hosts/{h}")),
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::routes::list;

    #[test]
    fn public_hosts_come_with_prefixes_service_and_place() {
        let text = "virtualServices:\n  - virtualName: app1-virtual-svc\n    name: app1-service\n    port: 8000\n    namespaces:\n      - name: prod\n        hosts:\n          - app1.public.domain\n          - app1-service.prod.svc.cluster.local\n          - \"*.wild.domain\"\n    prefixes: [/api, /]\n";
        let entries = list(text, "values.yaml", None).expect("entries");
        let inside: Vec<String> = cluster_hosts(&entries).into_iter().map(|host| host.host).collect();
        assert_eq!(inside, ["app1-service.prod.svc.cluster.local"]);
        let public = public_hosts(&entries);
        assert_eq!(public.len(), 2);
        assert_eq!(
            public[0],
            PublicHost {
                host: "app1.public.domain".into(),
                prefixes: vec!["/api".into(), "/".into()],
                service: "app1-service".into(),
                namespace: "prod".into(),
                port: 8000,
                place: Place::new("values.yaml", 8, 13),
            }
        );
        assert!(public[1].is_wildcard());
    }
}
