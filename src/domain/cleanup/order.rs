//! The order of a cleanup. The load balancer goes first: its controller needs the API objects, and the gateway's Service, to let go of it.

use crate::domain::releases::compare;

/// A release of the file as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    pub name: String,
    pub namespace: String,
    /// The manifest that helm keeps; empty when there is none.
    pub manifest: String,
}

impl Installed {
    /// Namespace and name of the Ingresses that it made.
    pub fn ingresses(&self) -> Vec<(String, String)> {
        let objects = compare::objects(&self.manifest).into_iter().filter(|o| o.kind == "Ingress");
        objects.map(|o| (if o.namespace.is_empty() { self.namespace.clone() } else { o.namespace }, o.name)).collect()
    }
}

/// First the releases with an Ingress, then the others; each group against the file's order, in which they were installed.
pub fn releases(mut of_file: Vec<Installed>) -> Vec<Installed> {
    of_file.reverse();
    of_file.sort_by_key(|release| release.ingresses().is_empty());
    of_file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(name: &str, manifest: &str) -> Installed {
        Installed { name: name.into(), namespace: "istio-system".into(), manifest: manifest.into() }
    }

    #[test]
    fn load_balancers_go_before_routes_whatever_the_files_order() {
        let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: gw-ingress}\n";
        let routes = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n";
        let names = |of_file: Vec<Installed>| releases(of_file).into_iter().map(|r| r.name).collect::<Vec<_>>();
        assert_eq!(names(vec![release("vs", routes), release("alb", ingress)]), ["alb", "vs"]);
        assert_eq!(names(vec![release("alb", ingress), release("vs", routes), release("other", "")]), ["alb", "other", "vs"]);
        assert_eq!(release("alb", ingress).ingresses(), [("istio-system".to_owned(), "gw-ingress".to_owned())]);
    }
}
