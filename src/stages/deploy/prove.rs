//! What is proven of a service in a namespace after its rollout: image, sidecars, endpoints, an answer.

use k8s_openapi::api::core::v1::Service as KubeService;
use serde_json::json;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::text;
use crate::domain::routes::{self, Entry, Source};
use crate::domain::services::proof;
use crate::domain::services::rollout::seen::Pod;
use crate::domain::services::sidecar::Judgement;
use crate::domain::services::watch::{Follower, Success, Target};
use crate::domain::services::{endpoints, image};
use crate::engine::record::{Case, Done};
use crate::stages::deploy::{Put, Step};
use crate::stages::verify;

/// What is proven after a rollout, in this order.
#[derive(Clone, Copy)]
pub(super) enum Proof {
    Image,
    Sidecar,
    Endpoints,
    Answer,
}

impl Proof {
    pub(super) fn word(self) -> &'static str {
        match self {
            Proof::Image => "image",
            Proof::Sidecar => "sidecar",
            Proof::Endpoints => "endpoints",
            Proof::Answer => "answer",
        }
    }
}

impl Step<'_> {
    pub(super) async fn prove(&self, what: Proof, put: &Put, done: &[Success], case: Case) -> Result<Done> {
        let running = |success: &'_ Success| -> Vec<Pod> { success.last.newest().filter(|p| !p.is_finished()).cloned().collect() };
        let pods: Vec<Vec<Pod>> = done.iter().map(running).collect();
        if pods.iter().all(Vec::is_empty) {
            return Ok(Done::Skipped("nothing runs".to_owned()));
        }
        match what {
            Proof::Image => self.prove_image(&pods, &case),
            Proof::Sidecar => self.prove_sidecars(put, &pods, &case).await,
            Proof::Endpoints => self.prove_endpoints(put, &pods, &case).await,
            Proof::Answer => self.prove_answer(put, &pods).await,
        }
    }

    fn prove_image(&self, pods: &[Vec<Pod>], case: &Case) -> Result<Done> {
        let Some(asked) = &self.service.image else {
            return Ok(Done::Skipped("the service names no image".to_owned()));
        };
        let all: Vec<&Pod> = pods.iter().flatten().collect();
        let facts = image::Seen::of(asked, &all);
        let proof = facts.judge();
        case.observed("image", &json!({"facts": facts, "verdict": proof}));
        match proof {
            image::Proof::Runs { containers, digests, warnings } => {
                digests.iter().for_each(|digest| case.property("image.digest", digest));
                warnings.into_iter().for_each(|warning| case.warn(warning));
                Ok(Done::unchanged((), format!("{asked} in {}", text::count(containers, "container"))))
            }
            image::Proof::Differs { words } => Err(Fault::new(Code::WrongImage, format!("{asked} was asked for, but {words}")).at(self.place())),
            image::Proof::Nothing => Ok(Done::Skipped("nothing runs".to_owned())),
        }
    }

    async fn prove_sidecars(&self, put: &Put, pods: &[Vec<Pod>], case: &Case) -> Result<Done> {
        let name = self.namespace.name();
        let in_file = self.ctx.shared.pipeline.mesh.iter().flat_map(|m| &m.inject).any(|n| n.name() == name);
        let running = put.followers.iter().zip(pods).filter(|(_, pods)| !pods.is_empty());
        let workloads: Vec<(&Target, &[Pod])> = running.map(|(follower, pods)| (follower.target(), pods.as_slice())).collect();
        let facts = proof::sidecars(self.cluster, &workloads, in_file).await?;
        let judgement = facts.judge();
        case.observed("sidecar", &json!({"facts": facts, "verdict": judgement}));
        match judgement {
            Judgement::Proven { note } => Ok(Done::unchanged((), note)),
            Judgement::NotDue { why } => Ok(Done::Skipped(format!("no sidecar is due: {why}"))),
            Judgement::Unlabelled { why } => Err(Fault::new(Code::SidecarMissing, format!("`mesh.inject` names {name}, but {why}"))
                .at(self.place())
                .next("run `meshstep mesh`, then restart the workloads of the namespace")),
            Judgement::Missing { workload, pods, why } => Err(proof::without_sidecar(workloads[workload].0, &pods, &why)),
        }
    }

    /// The Services of this deployment that select a workload's pods.
    async fn services(&self, put: &Put, follower: &Follower) -> Result<Vec<KubeService>> {
        let labels = proof::template_labels(self.cluster, follower.target()).await?;
        proof::services(self.cluster, &follower.target().namespace, &put.services, &labels).await
    }

    async fn prove_endpoints(&self, put: &Put, pods: &[Vec<Pod>], case: &Case) -> Result<Done> {
        let shared = &self.ctx.shared;
        let upsert: Vec<Entry> = shared.pipeline.routes.iter().flat_map(|r| r.upsert.clone()).collect();
        // A values file that cannot be read is for `routes` to tell.
        let listed = verify::listed(shared).unwrap_or_default();
        let mut notes = Vec::new();
        for (follower, pods) in put.followers.iter().zip(pods).filter(|(_, pods)| !pods.is_empty()) {
            for service in self.services(put, follower).await? {
                let name = service.metadata.name.as_deref().unwrap_or_default();
                let routes = routes::leading_to(&upsert, &listed, (name, self.namespace.name()));
                self.routed_ports(&service, &routes, case)?;
                let names: Vec<&str> = pods.iter().map(|p| p.name.as_str()).collect();
                let hear = |facts: &endpoints::Seen| case.observed("endpoints", &json!({"facts": facts, "verdict": {"lack": facts.lack()}}));
                notes.push(proof::endpoints(self.cluster, &service, &names, |reason| case.progress(reason), hear).await?);
            }
        }
        Ok(if notes.is_empty() {
            Done::Skipped("no Service of this deployment selects its pods".to_owned())
        } else {
            Done::unchanged((), notes.join(", "))
        })
    }

    /// A port that a route leads to must be one of the Service's.
    fn routed_ports(&self, service: &KubeService, here: &[(&Entry, Source<'_>)], case: &Case) -> Result<()> {
        if here.is_empty() {
            return Ok(());
        }
        let (shared, name) = (&self.ctx.shared, service.metadata.name.clone().unwrap_or_default());
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten()).map(|p| p.port).collect();
        let routes = here.iter().map(|(entry, _)| endpoints::Route { name: entry.virtual_name.clone(), port: entry.port.into() }).collect();
        let facts = endpoints::Routes { service: name, ports, routes };
        let astray = facts.astray();
        case.observed("route-ports", &json!({"facts": facts, "verdict": {"astray": astray}}));
        astray.map_or(Ok(()), |astray| {
            let place = match here[astray].1 {
                Source::Upsert(index) => shared.place(&format!("/routes/upsert/{index}/port")).cloned(),
                Source::Listed(listed) => Some(listed.place("/port")),
            };
            let fault = Fault::new(Code::ServiceNoEndpoints, facts.words(astray)).at(place.as_ref());
            Err(fault.next("make the route's port and the Service's port the same"))
        })
    }

    /// One ready pod is asked; that it cannot be asked from here is no verdict on the service.
    async fn prove_answer(&self, put: &Put, pods: &[Vec<Pod>]) -> Result<Done> {
        for (follower, pods) in put.followers.iter().zip(pods) {
            // The last look may be older than the readiness that ended the wait.
            let Some(pod) = pods.iter().find(|p| p.ready).or(pods.first()) else { continue };
            if let Some(service) = self.services(put, follower).await?.first() {
                return Ok(match proof::answer(self.cluster, service, &pod.name).await {
                    Ok(note) => Done::unchanged((), note),
                    Err(reason) => Done::Skipped(text::one_line(&reason)),
                });
            }
        }
        Ok(Done::Skipped("no Service of this deployment selects its pods".to_owned()))
    }
}
