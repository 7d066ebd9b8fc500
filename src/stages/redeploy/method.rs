//! The other ways to make a workload's pods anew: the service's own deployment, and the team's own command.

use k8s_openapi::api::core::v1::Pod;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::ObjectName;
use crate::base::secrets;
use crate::clients::kube::Cluster;
use crate::clients::tools::Call;
use crate::domain::certificates::root::KeyHash;
use crate::domain::services::image::{self, Reference};
use crate::engine::record::Case;
use crate::stages::Shared;
use crate::stages::deploy;
use crate::stages::redeploy::cure::{Cure, Stale};
use crate::stages::redeploy::one::evidence;
use crate::stages::redeploy::{Method, Redeploy, TeamCommand};

/// What can be known of the method before anything is touched.
///
/// # Errors
/// When there is no command to run, or its command line would show a secret.
pub(super) fn check(shared: &Shared, redeploy: &Redeploy) -> Result<()> {
    if redeploy.method == Method::Command {
        command(shared, redeploy)?;
    }
    Ok(())
}

fn command<'r>(shared: &Shared, redeploy: &'r Redeploy) -> Result<&'r TeamCommand> {
    let place = shared.place("/redeploy/command").or_else(|| shared.place("/redeploy/method"));
    let Some(command) = redeploy.command.as_ref().filter(|command| !command.run.is_empty()) else {
        let fault = Fault::new(Code::FileInvalid, "`redeploy.method: command` needs `redeploy.command`").at(place);
        return Err(fault.next("write it as `command: {run: [ci/redeploy.sh], timeout: 15m}`"));
    };
    if command.run.iter().any(|word| secrets::redact(word) != word.as_str()) {
        let fault = Fault::new(Code::FileInvalid, "the command line of `redeploy.command` would show a secret to everybody on the agent").at(place);
        return Err(fault.next("let the command read it from its environment"));
    }
    Ok(command)
}

impl Cure<'_> {
    /// The pods are being made anew by the annotation already; the deployment goes over them with the image that they run.
    pub(super) async fn deploy_again(&self, cluster: &Cluster, workload: &ObjectName, stale: &Stale, case: &Case) -> Result<&'static str> {
        let shared = &self.ctx.shared;
        let name = stale.called(workload);
        let Some(service) = shared.pipeline.services.iter().find(|s| s.name == name) else {
            let message = format!("`redeploy.method` is deploy, and no item of `services:` deploys {name}: it was only restarted");
            case.warn(message);
            return Ok("restarted");
        };
        let running = match &service.image {
            Some(asked) => self.running(cluster, workload, stale, asked).await,
            None => None,
        };
        if let Some(image) = &running {
            case.property("image", image);
        }
        case.progress("deploying it again");
        deploy::again(self.ctx, name, &workload.namespace, running).await?;
        Ok("deployed again")
    }

    /// The image that runs now, by its digest where the runtime tells it.
    async fn running(&self, cluster: &Cluster, workload: &ObjectName, stale: &Stale, asked: &str) -> Option<String> {
        let asked = Reference::parse(asked)?;
        let pods = evidence(cluster, workload, stale).await.pods;
        let oldest = pods.iter().filter(|p| p.owner.as_ref() == Some(workload)).min_by_key(|p| p.started)?;
        let pod: Pod = cluster.get(&workload.namespace, &oldest.name).await.ok()??;
        let ours = |image: &str| Reference::parse(image).is_some_and(|r| r.repository == asked.repository);
        let written = pod.spec?.containers.into_iter().find(|c| c.image.as_deref().is_some_and(ours))?;
        let image = written.image?;
        let status = pod.status?.container_statuses.unwrap_or_default().into_iter().find(|s| s.name == written.name)?;
        let name = image.split('@').next().unwrap_or(&image);
        let name = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name);
        Some(image::running_digest(&status.image_id).map_or_else(|| image.clone(), |digest| format!("{name}@{digest}")))
    }

    /// The team's own command, with what it is about in its environment.
    pub(super) async fn run_command(&self, workload: &ObjectName, stale: &Stale, root: &KeyHash, case: &Case) -> Result<&'static str> {
        let shared = &self.ctx.shared;
        let command = command(shared, &self.params)?;
        let (program, args) = command.run.split_first().ok_or_else(|| Fault::new(Code::Defect, "an empty command was let through"))?;
        let path = std::path::absolute(shared.path(program)).ok().filter(|_| program.contains('/'));
        let program = path.map_or_else(|| program.clone(), |path| path.display().to_string());
        let call = Call::new(&program)
            .args(args)
            .cwd(if shared.dir.as_os_str().is_empty() { ".".into() } else { shared.dir.clone() })
            .timeout(command.timeout.0)
            .env("MESHSTEP_SERVICE", stale.called(workload).to_owned())
            .env("MESHSTEP_NAMESPACE", workload.namespace.clone())
            .env("MESHSTEP_WORKLOAD", format!("{}/{}", workload.kind.to_lowercase(), workload.name))
            .env("MESHSTEP_ROOT", root.to_string())
            .env("KUBECONFIG", shared.cluster().await?.kubeconfig().display().to_string());
        case.progress(format!("running `{}`", call.command_line()));
        let finished = shared.tools.run(call).await?.ok()?;
        case.output(&format!("$ {}\n{}", finished.command, finished.shown(40)));
        Ok("redeployed by the team's command")
    }
}
