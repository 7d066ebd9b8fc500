//! From what was found to what the file will say. What cannot be known is left open, and marked for a person.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::init::folder::{Chart, Folder, Purpose};
use crate::domain::init::live::{self, Live};
use crate::domain::routes::Entry;

const SYSTEM: &str = "istio-system";
/// Names of namespaces that files are usually named by, where no route tells better ones; in the order in which a change travels.
const USUAL: [&str; 12] = ["dev", "test", "qa", "uat", "stage", "staging", "pre", "preprod", "pre-prod", "live", "production", "prod"];

/// What a person said.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub name: String,
    pub cluster: Option<String>,
    pub region: Option<String>,
    /// A kubeconfig context, when a cluster was looked at.
    pub context: Option<String>,
    pub team: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterLine {
    /// `None`: a person must say it.
    Eks {
        name: Option<String>,
        region: Option<String>,
    },
    Context(String),
}

/// Where a service's objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Chart(String),
    Manifests(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub namespace: String,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceDraft {
    pub name: String,
    pub source: Source,
    pub image: Option<String>,
    pub placed: Vec<Placed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseDraft {
    pub name: String,
    pub chart: String,
    pub values: Vec<String>,
    pub namespace: String,
    pub team: Option<String>,
    /// Whose values files are there as well.
    pub other_teams: Vec<String>,
}

/// A pipeline file to be.
#[derive(Clone, Debug)]
pub struct Draft {
    pub name: String,
    pub cluster: ClusterLine,
    pub gateway_type: String,
    /// Namespaces to label, and whether they are to be made.
    pub inject: Vec<(String, bool)>,
    pub common: Option<String>,
    pub gateway: Option<String>,
    pub services: Vec<ServiceDraft>,
    pub routes: Option<(String, Vec<Entry>)>,
    pub releases: Vec<ReleaseDraft>,
    pub ingress: Option<(String, String)>,
    /// What was found and has no place in the file, in words.
    pub left: Vec<String>,
}

pub fn draft(folder: &Folder, seen: Option<&Live>, asked: &Asked) -> Draft {
    let mut left = Vec::new();
    let services = services(folder, seen, &mut left);
    let (mut common, mut gateway) = (None, None);
    for file in &folder.manifests {
        let istio = |object: &crate::domain::services::manifests::Manifest| object.api_version().contains(".istio.io/");
        if file.objects.iter().any(|object| istio(object) && object.kind() == "Gateway") {
            gateway.get_or_insert_with(|| file.path.clone());
        } else if file.objects.iter().all(istio) && !file.objects.iter().any(|object| object.kind() == "VirtualService") {
            common.get_or_insert_with(|| file.path.clone());
        }
    }
    let releases = releases(folder, seen, asked, &mut left);
    let of_chart = folder.charts.iter().find(|chart| chart.purpose == Purpose::LoadBalancer).and_then(|chart| chart.ingress.clone());
    let ingress = seen.and_then(|live| live.ingresses.first().cloned()).or_else(|| of_chart.map(|name| (name, SYSTEM.to_owned())));
    Draft {
        name: asked.name.clone(),
        cluster: cluster(folder, asked),
        gateway_type: seen.and_then(|live| live.gateway.clone()).unwrap_or_else(|| "NodePort".to_owned()),
        inject: inject(&services, folder, seen),
        common,
        gateway,
        services,
        routes: folder.routes.clone(),
        releases,
        ingress,
        left,
    }
}

fn cluster(folder: &Folder, asked: &Asked) -> ClusterLine {
    let of_context = asked.context.as_deref().and_then(live::of_arn);
    match (&asked.context, of_context, &asked.cluster) {
        (_, Some((name, region)), None) => ClusterLine::Eks { name: Some(name), region: Some(region) },
        (Some(context), None, None) => ClusterLine::Context(context.clone()),
        _ => ClusterLine::Eks { name: asked.cluster.clone(), region: asked.region.clone().or_else(|| folder.regions.first().cloned()) },
    }
}

/// All namespaces that routes, services and the cluster speak of, in the order in which a change travels.
fn inject(services: &[ServiceDraft], folder: &Folder, seen: Option<&Live>) -> Vec<(String, bool)> {
    let of_routes = folder.routes.iter().flat_map(|(_, entries)| entries).flat_map(|entry| &entry.namespaces).map(|namespace| &namespace.name);
    let of_services = services.iter().flat_map(|service| &service.placed).map(|placed| &placed.namespace);
    let of_cluster = seen.iter().flat_map(|live| &live.injected);
    let all: BTreeSet<&String> = of_cluster.chain(of_services).chain(of_routes).collect();
    let mut all: Vec<&String> = all.into_iter().collect();
    all.sort_by_key(|name| rank(name));
    // What the cluster has is there; elsewhere nobody knows, and making what is there already does no harm.
    let missing = |name: &String| name != "default" && seen.is_none_or(|live| !live.namespaces.contains(name));
    all.into_iter().map(|name| (name.clone(), missing(name))).collect()
}

/// `default` first, then what is nearer to its users.
fn rank(namespace: &str) -> usize {
    if namespace == "default" { 0 } else { USUAL.iter().position(|usual| *usual == namespace).map_or(5, |at| at + 1) }
}

fn services(folder: &Folder, seen: Option<&Live>, left: &mut Vec<String>) -> Vec<ServiceDraft> {
    let entries: Vec<&Entry> = folder.routes.iter().flat_map(|(_, entries)| entries).collect();
    let mut namespaces: BTreeSet<&str> = USUAL.into_iter().collect();
    namespaces.extend(entries.iter().flat_map(|entry| &entry.namespaces).map(|namespace| namespace.name.as_str()));
    namespaces.extend(seen.iter().flat_map(|live| &live.namespaces).map(String::as_str));
    let mut names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    names.extend(seen.iter().flat_map(|live| &live.workloads).map(|workload| workload.name.clone()));
    let charts: Vec<&Chart> = folder.charts.iter().filter(|chart| chart.purpose == Purpose::Service).collect();
    let mut services: Vec<ServiceDraft> = Vec::new();
    for file in &folder.values {
        let Some((base, namespace)) = split(&file.stem, &namespaces) else { continue };
        match chart_of(base, &charts) {
            Some(chart) => place(&mut services, &full(base, &names), Source::Chart(chart.path.clone()), namespace, &file.path),
            None => left.push(format!("{} looks like values of {base} in {namespace}, but no chart of services was found", file.path)),
        }
    }
    for chart in &charts {
        for (variant, path) in chart.variants.iter().filter(|(variant, _)| namespaces.contains(variant.as_str())) {
            place(&mut services, &full(&chart.name, &names), Source::Chart(chart.path.clone()), variant, path);
        }
        if !services.iter().any(|service| service.source == Source::Chart(chart.path.clone())) {
            let name = full(&chart.name, &names);
            let placed = homes(&name, &entries, seen).into_iter().map(|namespace| Placed { namespace, values: Vec::new() }).collect();
            services.push(ServiceDraft { name, source: Source::Chart(chart.path.clone()), image: None, placed });
        }
    }
    for file in &folder.manifests {
        for object in file.objects.iter().filter(|object| matches!(object.kind(), "Deployment" | "StatefulSet")) {
            let name = full(object.name(), &names);
            if services.iter().any(|service| service.name == name) {
                continue;
            }
            let of_object = (!object.namespace().is_empty()).then(|| vec![object.namespace().to_owned()]);
            let placed =
                of_object.unwrap_or_else(|| homes(&name, &entries, seen)).into_iter().map(|namespace| Placed { namespace, values: Vec::new() });
            services.push(ServiceDraft { name, source: Source::Manifests(file.path.clone()), image: None, placed: placed.collect() });
        }
    }
    for service in &mut services {
        service.placed.sort_by_key(|placed| rank(&placed.namespace));
        service.image = seen.and_then(|live| live::image_of(&live.workloads, &service.name)).or_else(|| image(service, folder));
    }
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let here = |name: &str| services.iter().any(|service| service.name == name);
    let elsewhere: BTreeSet<&str> =
        seen.iter().flat_map(|live| &live.workloads).map(|workload| workload.name.as_str()).filter(|name| !here(name)).collect();
    left.extend(elsewhere.into_iter().map(|name| format!("{name} runs in the cluster, but neither its chart nor its manifests are in this folder")));
    services
}

/// `app1-pre-prod` is app1 in pre-prod, not app1-pre in prod.
fn split<'a>(stem: &'a str, namespaces: &BTreeSet<&'a str>) -> Option<(&'a str, &'a str)> {
    let fits = namespaces.iter().filter_map(|namespace| {
        let base = stem.strip_suffix(namespace)?.strip_suffix(['-', '.', '_'])?;
        (!base.is_empty()).then_some((base, *namespace))
    });
    fits.max_by_key(|(_, namespace)| namespace.len())
}

/// The service that a file calls by its short name: `app1` for `app1-service`.
fn full(base: &str, names: &[String]) -> String {
    let short = |name: &&String| [name.as_str(), name.trim_end_matches("-service"), name.trim_end_matches("-svc")].contains(&base);
    names.iter().find(short).cloned().unwrap_or_else(|| base.to_owned())
}

/// The one chart of services, or the one of this name.
fn chart_of<'a>(base: &str, charts: &[&'a Chart]) -> Option<&'a Chart> {
    match charts {
        [one] => Some(*one),
        _ => charts.iter().find(|chart| chart.name == base || chart.path.rsplit('/').next() == Some(base)).copied(),
    }
}

fn place(services: &mut Vec<ServiceDraft>, name: &str, source: Source, namespace: &str, values: &str) {
    let placed = Placed { namespace: namespace.to_owned(), values: vec![values.to_owned()] };
    match services.iter_mut().find(|service| service.name == name) {
        Some(service) => match service.placed.iter_mut().find(|known| known.namespace == namespace) {
            Some(known) => known.values.push(values.to_owned()),
            None => service.placed.push(placed),
        },
        None => services.push(ServiceDraft { name: name.to_owned(), source, image: None, placed: vec![placed] }),
    }
}

/// Where a service lives when no file says it: as routed, else as it runs, else in `default`.
fn homes(name: &str, entries: &[&Entry], seen: Option<&Live>) -> Vec<String> {
    let routed: Vec<String> = entries.iter().filter(|entry| entry.name == name).flat_map(|entry| &entry.namespaces).map(|n| n.name.clone()).collect();
    let running = || seen.iter().flat_map(|live| &live.workloads).filter(|workload| workload.name == name).map(|workload| workload.namespace.clone());
    let mut homes = if routed.is_empty() { running().collect() } else { routed };
    if homes.is_empty() {
        homes.push("default".to_owned());
    }
    homes
}

/// The image in a service's values, where the chart takes one text.
fn image(service: &ServiceDraft, folder: &Folder) -> Option<String> {
    let of = |values: &Value| values["image"].as_str().filter(|image| !image.is_empty()).map(str::to_owned);
    let files = service.placed.iter().flat_map(|placed| &placed.values);
    let given = files.filter_map(|path| folder.values.iter().find(|file| file.path == *path)).find_map(|file| of(&file.values));
    let chart = folder.charts.iter().find(|chart| service.source == Source::Chart(chart.path.clone()));
    given.or_else(|| of(&chart?.values))
}

fn releases(folder: &Folder, seen: Option<&Live>, asked: &Asked, left: &mut Vec<String>) -> Vec<ReleaseDraft> {
    let mut releases = Vec::new();
    let mut charts: Vec<&Chart> =
        folder.charts.iter().filter(|chart| matches!(chart.purpose, Purpose::VirtualServices | Purpose::LoadBalancer)).collect();
    // The routes are there before the load balancer sends anything.
    charts.sort_by_key(|chart| chart.purpose == Purpose::LoadBalancer);
    for chart in charts {
        let running = seen.and_then(|live| live.releases.iter().find(|release| release.chart == chart.name));
        let of_routes = folder.routes.iter().map(|(path, _)| path.clone()).filter(|_| chart.purpose == Purpose::VirtualServices);
        let mut release = ReleaseDraft {
            name: running.map_or_else(|| chart.name.clone(), |release| release.name.clone()),
            chart: chart.path.clone(),
            values: of_routes.collect(),
            namespace: running.map_or_else(|| SYSTEM.to_owned(), |release| release.namespace.clone()),
            team: None,
            other_teams: Vec::new(),
        };
        if chart.purpose == Purpose::LoadBalancer && !chart.variants.is_empty() {
            let wanted = asked.team.as_deref().or_else(|| running.and_then(|release| release.team.as_deref()));
            let chosen = wanted.and_then(|team| chart.variants.get_key_value(team)).or_else(|| chart.variants.first_key_value());
            if let Some((team, path)) = chosen {
                release.values = vec![path.clone()];
                release.team = Some(team.clone());
                release.other_teams = chart.variants.keys().filter(|other| *other != team).cloned().collect();
            }
        }
        releases.push(release);
    }
    for chart in folder.charts.iter().filter(|chart| chart.purpose == Purpose::Other) {
        left.push(format!("{} is a chart of neither a service, nor routes, nor a load balancer", chart.path));
    }
    releases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_tells_service_and_namespace() {
        let namespaces: BTreeSet<&str> = USUAL.into_iter().chain(["team-a"]).collect();
        for (stem, split_up) in [
            ("app1-pre-prod", Some(("app1", "pre-prod"))),
            ("app1-prod", Some(("app1", "prod"))),
            ("web.team-a", Some(("web", "team-a"))),
            ("prod", None),
            ("app1-values", None),
        ] {
            assert_eq!(split(stem, &namespaces), split_up, "{stem}");
        }
        let names = ["app1-service".to_owned(), "api-svc".to_owned()];
        assert_eq!((full("app1", &names).as_str(), full("api", &names).as_str(), full("x", &names).as_str()), ("app1-service", "api-svc", "x"));
    }

    #[test]
    fn a_change_travels_towards_its_users() {
        let mut names = ["prod", "default", "eu", "pre-prod", "staging", "dev"];
        names.sort_by_key(|name| rank(name));
        assert_eq!(names, ["default", "dev", "eu", "staging", "pre-prod", "prod"]);
    }

    #[test]
    fn the_cluster_is_what_was_said_or_seen() {
        let arn = "arn:aws:eks:eu-west-1:1:cluster/shop";
        let asked = |cluster: Option<&str>, context: Option<&str>| Asked {
            cluster: cluster.map(str::to_owned),
            context: context.map(str::to_owned),
            ..Asked::default()
        };
        let eks = |name: &str, region: &str| ClusterLine::Eks { name: Some(name.to_owned()), region: Some(region.to_owned()) };
        let folder = Folder { regions: vec!["ap-southeast-1".to_owned()], ..Folder::default() };
        assert_eq!(cluster(&folder, &asked(None, Some(arn))), eks("shop", "eu-west-1"));
        assert_eq!(cluster(&folder, &asked(None, Some("kind"))), ClusterLine::Context("kind".to_owned()));
        assert_eq!(cluster(&folder, &asked(Some("shop-eks"), None)), eks("shop-eks", "ap-southeast-1"));
        assert_eq!(cluster(&folder, &asked(None, None)), ClusterLine::Eks { name: None, region: Some("ap-southeast-1".to_owned()) });
    }
}
