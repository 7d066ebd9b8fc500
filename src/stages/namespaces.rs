//! The namespaces that the file names: which of them may be missing, and the check that nothing is touched while one is.

use k8s_openapi::api::core::v1::Namespace;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::place::Place;
use crate::clients::kube::Cluster;
use crate::engine::Ctx;
use crate::stages::Shared;

/// A namespace of the file, and who makes it when it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) place: Option<&'a Place>,
    /// `create: true` where it is named.
    pub(super) create: bool,
    /// The mesh stage labels it.
    pub(super) injected: bool,
    /// `mesh.inject` has it with `create: true`.
    pub(super) by_mesh: bool,
}

/// The chosen namespaces of `mesh.inject`.
pub(super) fn of_mesh(shared: &Shared) -> Vec<Named<'_>> {
    let inject = shared.pipeline.mesh.iter().flat_map(|mesh| &mesh.inject).enumerate();
    inject
        .filter(|(_, namespace)| shared.filters.namespace(namespace.name()))
        .map(|(index, namespace)| Named {
            name: namespace.name(),
            place: shared.place(&format!("/mesh/inject/{index}")),
            create: namespace.create(),
            injected: true,
            by_mesh: namespace.create(),
        })
        .collect()
}

/// The chosen namespaces of the chosen services, each once.
pub(super) fn of_services(shared: &Shared) -> Vec<Named<'_>> {
    let inject = || shared.pipeline.mesh.iter().flat_map(|mesh| &mesh.inject);
    let mut all: Vec<Named> = Vec::new();
    for (index, service) in shared.pipeline.services.iter().enumerate().filter(|(_, service)| shared.filters.service(&service.name)) {
        for (at, namespace) in service.namespaces.iter().enumerate().filter(|(_, namespace)| shared.filters.namespace(namespace.name())) {
            match all.iter_mut().find(|known| known.name == namespace.name()) {
                Some(known) => known.create |= namespace.create(),
                None => all.push(Named {
                    name: namespace.name(),
                    place: shared.place(&format!("/services/{index}/namespaces/{at}")),
                    create: namespace.create(),
                    injected: inject().any(|injected| injected.name() == namespace.name()),
                    by_mesh: inject().any(|injected| injected.name() == namespace.name() && injected.create()),
                }),
            }
        }
    }
    all
}

/// The fault of one that is missing and that nobody makes.
pub(super) fn missing(namespace: &Named) -> Fault {
    let name = namespace.name;
    let fault = Fault::new(Code::NamespaceMissing, format!("namespace {name} does not exist")).at(namespace.place);
    let fault = if namespace.by_mesh { fault.next("the mesh stage makes it: run `meshstep mesh` first") } else { fault };
    fault.next(format!("create it (`kubectl create namespace {name}`), or write `{{name: {name}, create: true}}`"))
}

/// Looks for all of them before anything is touched. Each that is missing, and that nobody makes, is a failed case; `false`: there was one.
pub(super) async fn all_there(ctx: &Ctx<Shared>, cluster: &Cluster, named: &[Named<'_>]) -> Result<bool> {
    let mut there = true;
    for namespace in named.iter().filter(|namespace| !(namespace.create || namespace.by_mesh && ctx.dry_run)) {
        if cluster.get::<Namespace>("", namespace.name).await?.is_none() {
            ctx.record.case(format!("namespace {}", namespace.name)).place(namespace.place).fail(missing(namespace));
            there = false;
        }
    }
    Ok(there)
}
