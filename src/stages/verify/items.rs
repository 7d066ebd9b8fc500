//! What is to be asked: the hosts of the values file, and the checks of the pipeline file.

use super::ask::Question;
use super::hop::covers;
use super::{AskedFrom, Verify, strict};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::is_cluster_host;
use crate::base::place::Place;
use crate::clients::http::Scheme;
use crate::domain::ingress::listeners::Listener;
use crate::domain::routes::{self, Listed, PublicHost};
use crate::domain::verify::{Expect, inside};
use crate::engine::Ctx;
use crate::stages::Shared;

/// One thing to check: a question, and whose it is.
#[derive(Clone, Debug)]
pub struct Item {
    pub question: Question,
    /// Service, namespace; unknown for a check of a host that no route names.
    pub service: Option<(String, String)>,
    pub place: Option<Place>,
    /// What is wanted of the answer, and not seen by who asks.
    pub unseen: Vec<&'static str>,
}

/// The public hosts of the values file; none when the file has no `routes:`.
///
/// # Errors
/// When the values file cannot be read or is not what it must be.
pub fn public_hosts(shared: &Shared) -> Result<Vec<PublicHost>> {
    Ok(routes::public_hosts(&listed(shared)?))
}

/// The entries of the values file; none when the file has no `routes:`.
pub(in crate::stages) fn listed(shared: &Shared) -> Result<Vec<Listed>> {
    let Some(params) = &shared.pipeline.routes else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(shared.path(&params.values)).map_err(|error| {
        Fault::new(Code::FileUnreadable, format!("cannot read the values file `{}`: {error}", params.values)).at(shared.place("/routes/values"))
    })?;
    routes::list(&text, &shared.shown(&params.values), params.list_key.as_deref())
}

/// The hosts that the file judges, whatever the filters say: those of the routes, which may be wildcards, and those of the checks.
pub(super) fn hosts(shared: &Shared, params: &Verify) -> Result<Vec<String>> {
    let of_routes = public_hosts(shared)?.into_iter().map(|host| host.host);
    Ok(of_routes.chain(params.checks.iter().map(|check| check.host.clone())).collect())
}

/// Each public host with each prefix, at each listener, and the checks in place of those they name. From inside, the names
/// that only the cluster knows as well: at the Service itself, on its own port.
pub(super) async fn all(ctx: &Ctx<Shared>, params: &Verify, listeners: &[Listener]) -> Result<Vec<Item>> {
    let shared = &ctx.shared;
    if params.hosts.is_some() && shared.pipeline.routes.is_none() {
        let fault = Fault::new(Code::FileInvalid, "`verify.hosts: from-routes` needs a `routes:` section that names the values file");
        return Err(fault.at(shared.place("/verify/hosts")));
    }
    let entries = listed(shared)?;
    let mut hosts = routes::public_hosts(&entries);
    if params.from == AskedFrom::Cluster {
        hosts.extend(routes::cluster_hosts(&entries));
    }
    let mut items = checks(shared, params, &hosts, listeners);
    if params.hosts.is_some() {
        listed_items(ctx, &hosts, listeners, &mut items);
    }
    if params.from == AskedFrom::Agent {
        return Ok(items);
    }
    for item in &mut items {
        (item.question.expect, item.unseen) = inside::seen(&item.question.expect);
    }
    strict::without(ctx, items).await
}

fn checks(shared: &Shared, params: &Verify, hosts: &[PublicHost], listeners: &[Listener]) -> Vec<Item> {
    let filters = &shared.filters;
    let mut items = Vec::new();
    for (index, check) in params.checks.iter().enumerate() {
        let owner = hosts.iter().find(|h| covers(&h.host, &check.host));
        let passes = |h: &PublicHost| filters.service(&h.service) && filters.namespace(&h.namespace);
        if !filters.host(&check.host) || !owner.map_or(filters.services.is_empty() && filters.namespaces.is_empty(), passes) {
            continue;
        }
        let place = shared.place(&format!("/verify/checks/{index}")).cloned();
        let own = (params.from == AskedFrom::Cluster && is_cluster_host(&check.host)).then(|| owner.map_or(80, |owner| owner.port));
        for listener in at(listeners, own, check.scheme.map(Scheme::from)) {
            let question = question(listener, &check.host, &check.path, own, check.expect());
            let service = owner.map(|h| (h.service.clone(), h.namespace.clone()));
            items.push(Item { question, service, place: place.clone(), unseen: Vec::new() });
        }
    }
    items
}

fn listed_items(ctx: &Ctx<Shared>, hosts: &[PublicHost], listeners: &[Listener], items: &mut Vec<Item>) {
    let filters = &ctx.shared.filters;
    for host in hosts.iter().filter(|h| filters.service(&h.service) && filters.namespace(&h.namespace) && filters.host(&h.host)) {
        if let Some(why) = no_name(host) {
            ctx.record.case(format!("GET {}", host.host)).service(&host.service).place(Some(&host.place)).skip(why);
            continue;
        }
        let own = is_cluster_host(&host.host).then_some(host.port);
        for prefix in &host.prefixes {
            for listener in at(listeners, own, None) {
                let question = question(listener, &host.host, prefix, own, Expect::default());
                if !items.iter().any(|known| known.question.title() == question.title()) {
                    let service = Some((host.service.clone(), host.namespace.clone()));
                    items.push(Item { question, service, place: Some(host.place.clone()), unseen: Vec::new() });
                }
            }
        }
    }
}

/// Where a host is asked: at each listener, or at those of one scheme (the usual one if there is none). A Service has no listeners.
fn at(listeners: &[Listener], own: Option<u16>, scheme: Option<Scheme>) -> Vec<Listener> {
    let scheme = scheme.or(own.map(|_| Scheme::Http));
    let found: Vec<Listener> = listeners.iter().filter(|l| own.is_none() && scheme.is_none_or(|scheme| scheme == l.scheme)).copied().collect();
    if found.is_empty() { scheme.map(Listener::usual).into_iter().collect() } else { found }
}

fn question(listener: Listener, host: &str, path: &str, port: Option<u16>, expect: Expect) -> Question {
    Question { scheme: listener.scheme, host: host.to_owned(), path: path.to_owned(), port, listener: listener.shown_port(), expect }
}

/// Why a host of the routes cannot be asked by its name.
fn no_name(host: &PublicHost) -> Option<&'static str> {
    if host.is_wildcard() {
        return Some("a wildcard is no name to ask for: add a check with a name below it");
    }
    let short = is_cluster_host(&host.host) && strict::service_of(&host.host).is_none();
    short.then_some("a short name is another Service in each namespace: write it as NAME.NAMESPACE.svc.cluster.local")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_asked_at_each_listener_or_at_those_of_one_scheme() {
        let on = |scheme, port| Listener { scheme, port };
        let all = [on(Scheme::Http, 8080), on(Scheme::Https, 443), on(Scheme::Https, 8443)];
        assert_eq!(at(&all, None, None), all);
        assert_eq!(at(&all, None, Some(Scheme::Https)), all[1..]);
        assert_eq!(at(&all[1..], None, Some(Scheme::Http)), [on(Scheme::Http, 80)]);
        assert_eq!(at(&all, Some(8000), None), [on(Scheme::Http, 80)]);
        assert_eq!(at(&all, Some(8000), Some(Scheme::Https)), [on(Scheme::Https, 443)]);
    }
}
