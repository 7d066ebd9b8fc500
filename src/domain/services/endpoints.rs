//! Has each port of a Service these pods as ready endpoints, and does each route lead to one of its ports?

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::{Deserialize, Serialize};

use crate::base::text;

/// What the endpoints of a Service are judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub service: String,
    pub ports: Vec<Port>,
    pub slices: Vec<Slice>,
    /// That must be behind each port.
    pub pods: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    pub number: i32,
}

/// The names of a slice's ports, and its ready pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    pub ports: Vec<String>,
    pub ready: Vec<String>,
}

/// The routes to a Service, and its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    pub service: String,
    pub ports: Vec<i32>,
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub name: String,
    pub port: i32,
}

impl Seen {
    pub fn of(service: &Service, slices: &[EndpointSlice], pods: &[&str]) -> Self {
        let port = |p: &k8s_openapi::api::core::v1::ServicePort| Port { name: p.name.clone().unwrap_or_default(), number: p.port };
        let slice = |slice: &EndpointSlice| {
            let with_number = slice.ports.iter().flatten().filter(|p| p.port.is_some());
            let ready = slice.endpoints.iter().flatten().filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
            Slice {
                ports: with_number.map(|p| p.name.clone().unwrap_or_default()).collect(),
                ready: ready.filter_map(|e| e.target_ref.as_ref()?.name.clone()).collect(),
            }
        };
        Self {
            service: service.metadata.name.clone().unwrap_or_default(),
            ports: service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(port).collect(),
            slices: slices.iter().map(slice).collect(),
            pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
        }
    }

    /// What the slices lack: every port needs every pod as a ready endpoint.
    pub fn lack(&self) -> Option<String> {
        if self.ports.is_empty() {
            return Some("it has no ports".to_owned());
        }
        self.ports.iter().find_map(|port| {
            let behind = |pod: &String| self.slices.iter().any(|slice| slice.ports.contains(&port.name) && slice.ready.contains(pod));
            let missing = self.pods.iter().find(|pod| !behind(pod))?;
            let of = if port.name.is_empty() { port.number.to_string() } else { format!("{} ({})", port.number, port.name) };
            let there = self.pods.iter().filter(|pod| behind(pod)).count();
            Some(format!("{there} of {} behind port {of}, {missing} is missing", text::count(self.pods.len(), "pod")))
        })
    }

    /// `app1:8000 has 2 pods`
    pub fn words(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(|port| port.number.to_string()).collect();
        format!("{}:{} has {}", self.service, ports.join(","), text::count(self.pods.len(), "pod"))
    }
}

impl Routes {
    /// The first route, by its place in the list, that leads to a port which the Service has not.
    pub fn astray(&self) -> Option<usize> {
        self.routes.iter().position(|route| !self.ports.contains(&route.port))
    }

    /// `route app1 leads to port 80 of service app1, which has 8000`
    pub fn words(&self, astray: usize) -> String {
        let Route { name, port } = &self.routes[astray];
        let has = self.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("route {name} leads to port {port} of service {}, which has {has}", self.service)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn every_port_needs_every_pod() {
        let service: Service = of(json!({"metadata": {"name": "app1"}, "spec": {"ports": [{"name": "http", "port": 8000}]}}));
        let slice = |port: &str, endpoints: Value| -> EndpointSlice {
            of(json!({"metadata": {}, "addressType": "IPv4", "ports": [{"name": port, "port": 8000}], "endpoints": endpoints}))
        };
        let endpoint =
            |pod: &str, ready: bool| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}});
        let lack = |slices: &[EndpointSlice]| Seen::of(&service, slices, &["a", "b"]).lack();
        assert_eq!(lack(&[slice("http", json!([endpoint("a", true), endpoint("b", true)]))]), None);
        assert_eq!(lack(&[slice("http", json!([endpoint("a", true)])), slice("http", json!([endpoint("b", true)]))]), None);
        for slices in [
            vec![],
            vec![slice("http", json!([endpoint("a", true)]))],
            vec![slice("http", json!([endpoint("a", true), endpoint("b", false)]))],
            vec![slice("grpc", json!([endpoint("a", true), endpoint("b", true)]))],
        ] {
            assert!(lack(&slices).is_some());
        }
        let lacks_one = lack(&[slice("http", json!([endpoint("a", true)]))]);
        assert_eq!(lacks_one.as_deref(), Some("1 of 2 pods behind port 8000 (http), b is missing"));
    }

    #[test]
    fn a_route_leads_to_one_of_the_ports() {
        let routes = |ports: &[i32]| Routes {
            service: "app1".to_owned(),
            ports: ports.to_vec(),
            routes: vec![Route { name: "a".to_owned(), port: 8000 }, Route { name: "b".to_owned(), port: 8080 }],
        };
        assert_eq!(routes(&[8000, 8080]).astray(), None);
        assert_eq!(routes(&[8000]).astray(), Some(1));
        assert_eq!(routes(&[8000]).words(1), "route b leads to port 8080 of service app1, which has 8000");
    }
}
