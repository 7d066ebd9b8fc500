//! The way to the hosts: the load balancer of the file's Ingress, and the schemes that it listens for.

use futures::future::join_all;
use k8s_openapi::api::networking::v1::Ingress as IngressObject;

use super::Scheme;
use super::ask::{Asker, Through};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::clients::aws::Listener;
use crate::clients::http::{NetError, Request};
use crate::domain::ingress::accepted::Seen;
use crate::domain::verify::Reply;
use crate::stages::{Shared, ingress};

/// What is known of it before anything is asked.
pub(super) struct Way {
    pub through: Through,
    /// Empty: AWS does not tell.
    schemes: Vec<Scheme>,
}

pub(super) async fn find(shared: &Shared) -> Result<Way> {
    let Some(params) = &shared.pipeline.ingress else { return Ok(Way { through: Through::Own, schemes: vec![Scheme::Http] }) };
    let cluster = shared.cluster().await?;
    let found = cluster.get::<IngressObject>(&params.namespace, &params.name).await?;
    let missing = |what: &str| Fault::new(Code::NeedsEarlier, format!("the Ingress {} in {} {what}", params.name, params.namespace));
    let object = found.ok_or_else(|| missing("does not exist").next("run the releases stage first: `meshstep releases`"))?;
    let seen = Seen::of(&serde_json::to_value(&object).unwrap_or_default());
    let name = seen.hostname().ok_or_else(|| missing("has no hostname yet").next("wait for it with `meshstep ingress`"))?.to_owned();
    let (mut schemes, mut scheme) = (Vec::new(), None);
    if let ingress::Account::Known(aws) = ingress::account(shared).await?
        && let Some(balancer) = aws.load_balancer(&name).await?
    {
        schemes = schemes_of(&aws.listeners(&balancer.arn).await?);
        scheme = Some(balancer.scheme);
    }
    Ok(Way { through: Through::Balancer { name, scheme }, schemes })
}

impl Way {
    /// The schemes to ask with: as AWS tells, else those whose port takes a connection; HTTP if none does, so that the checks say what happens.
    pub(super) async fn schemes(self, asker: &Asker) -> Vec<Scheme> {
        let (Through::Balancer { name, .. }, true) = (&self.through, self.schemes.is_empty()) else { return self.schemes };
        let probes = [Scheme::Http, Scheme::Https].map(|scheme| async move { asker.listens(scheme.into(), name).await.then_some(scheme) });
        let found: Vec<Scheme> = join_all(probes).await.into_iter().flatten().collect();
        if found.is_empty() { vec![Scheme::Http] } else { found }
    }
}

/// HTTP and HTTPS as the listeners on their usual ports are.
pub(in crate::stages) fn schemes_of(listeners: &[Listener]) -> Vec<Scheme> {
    let on = |protocol: &str, port: i32| listeners.iter().any(|l| l.protocol.eq_ignore_ascii_case(protocol) && l.port == port);
    [(Scheme::Http, on("HTTP", 80)), (Scheme::Https, on("HTTPS", 443))].into_iter().filter(|(_, on)| *on).map(|(scheme, _)| scheme).collect()
}

/// One plain request through the load balancer.
pub(in crate::stages) async fn once(shared: &Shared, scheme: Scheme, host: &str, path: &str, balancer: &str) -> Result<Reply, NetError> {
    let mut request = Request::get(scheme.into(), host, path);
    request.via = Some(balancer.to_owned());
    request.cacert.clone_from(&shared.options.cacert);
    shared.http.send(&request).await.map(Reply::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_follow_the_listeners() {
        let listener = |protocol: &str, port| Listener { protocol: protocol.into(), port, ..Listener::default() };
        assert_eq!(schemes_of(&[listener("HTTPS", 443), listener("HTTP", 80)]), [Scheme::Http, Scheme::Https]);
        assert_eq!(schemes_of(&[listener("HTTPS", 443)]), [Scheme::Https]);
        assert_eq!(schemes_of(&[listener("HTTP", 8080)]), []);
    }
}
