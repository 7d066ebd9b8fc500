//! The way to the hosts: the load balancer of the file's Ingress, and its listeners.

use futures::future::join_all;
use k8s_openapi::api::networking::v1::Ingress as IngressObject;

use super::ask::{Asker, Through};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::clients::aws;
use crate::clients::http::{NetError, Request, Scheme};
use crate::domain::ingress::accepted::Seen;
use crate::domain::ingress::listeners::{self, Listener};
use crate::domain::verify::Reply;
use crate::stages::{Shared, ingress};

/// What is known of it before anything is asked.
pub(super) struct Way {
    pub through: Through,
    /// Empty: neither the Ingress nor AWS tells.
    listeners: Vec<Listener>,
    /// Why AWS told nothing of it: the hosts can be asked all the same.
    pub untold: Option<String>,
}

pub(super) async fn find(shared: &Shared) -> Result<Way> {
    let Some(params) = &shared.pipeline.ingress else {
        return Ok(Way { through: Through::Own, listeners: vec![Listener::usual(Scheme::Http)], untold: None });
    };
    let cluster = shared.cluster().await?;
    let found = cluster.get::<IngressObject>(&params.namespace, &params.name).await?;
    let missing = |what: &str| Fault::new(Code::NeedsEarlier, format!("the Ingress {} in {} {what}", params.name, params.namespace));
    let object = found.ok_or_else(|| missing("does not exist").next("run the releases stage first: `meshstep releases`"))?;
    let seen = Seen::of(&serde_json::to_value(&object).unwrap_or_default());
    let name = seen.hostname().ok_or_else(|| missing("has no hostname yet").next("wait for it with `meshstep ingress`"))?.to_owned();
    let (mut there, mut scheme) = (Vec::new(), None);
    let told: Result<()> = async {
        if let ingress::Account::Known(aws) = ingress::account(shared).await?
            && let Some(balancer) = aws.load_balancer(&name).await?
        {
            scheme = Some(balancer.scheme);
            there = in_aws(&aws.listeners(&balancer.arn).await?);
        }
        Ok(())
    }
    .await;
    let untold = told.err().map(|fault| fault.message);
    Ok(Way { through: Through::Balancer { name, scheme }, listeners: listeners::to_ask(&seen.listeners, &there), untold })
}

impl Way {
    /// The listeners to ask: as the Ingress and AWS tell, else the usual ones that take a connection; HTTP if none does, so that the checks
    /// say what happens.
    pub(super) async fn listeners(self, asker: &Asker) -> Vec<Listener> {
        let (Through::Balancer { name, .. }, true) = (&self.through, self.listeners.is_empty()) else { return self.listeners };
        let probes = listeners::USUAL.map(|listener| async move { asker.listens(listener, name).await.then_some(listener) });
        let found: Vec<Listener> = join_all(probes).await.into_iter().flatten().collect();
        if found.is_empty() { vec![Listener::usual(Scheme::Http)] } else { found }
    }
}

/// The listeners as AWS tells them.
pub(in crate::stages) fn in_aws(all: &[aws::Listener]) -> Vec<Listener> {
    all.iter().filter_map(|l| Listener::of(&l.protocol, l.port.into())).collect()
}

/// One plain request through the load balancer.
pub(in crate::stages) async fn once(shared: &Shared, listener: Listener, host: &str, path: &str, balancer: &str) -> Result<Reply, NetError> {
    let mut request = Request::get(listener.scheme, host, path);
    request.port = listener.port;
    request.via = Some(balancer.to_owned());
    request.cacert.clone_from(&shared.options.cacert);
    shared.http.send(&request).await.map(Reply::from)
}
