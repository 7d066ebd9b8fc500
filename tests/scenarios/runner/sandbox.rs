//! The sandbox as a side: each scenario has one of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use meshstep::cli::helm;
use meshstep::clients::settings::Settings;
use meshstep::clients::tools::Tools;
use meshstep::sandbox::world::{AwsFault, Certificate};
use meshstep::sandbox::{Sandbox as Running, start_with_tool, subnet_id};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{Part, Scenario, Side, Stage, objects};

/// What the cluster is called on both sides.
pub(crate) const CLUSTER: (&str, &str) = ("lab", "us-east-1");

pub(crate) struct Sandbox;

impl Side for Sandbox {
    type Stage = Simulated;

    fn words(&self) -> Vec<(&'static str, String)> {
        vec![("<certificate>", Certificate::default().arn), ("<subnet>", subnet_id(&format!("{}a", CLUSTER.1)))]
    }

    async fn arrange(&self, scenario: &Scenario) -> Result<Simulated, String> {
        let world = scenario.world_value(&json!({"cluster": {"name": CLUSTER.0, "region": CLUSTER.1}}));
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let sandbox = start_with_tool(&world.to_string(), folder.path(), Path::new(env!("CARGO_BIN_EXE_meshstep"))).await?;
        let mut env: BTreeMap<String, String> = sandbox.env().iter().cloned().collect();
        if scenario.shop.is_some() {
            let tools = Tools::new(Settings::from_process([]), CancellationToken::new());
            let helm = helm::provide(&tools, |line| println!("{line}")).await.map_err(|fault| fault.to_string())?;
            env.insert("MESHSTEP_HELM".to_owned(), helm.display().to_string());
        }
        let config = Kubeconfig::read_from(&env["KUBECONFIG"]).map_err(|error| error.to_string())?;
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.map_err(|error| error.to_string())?;
        let client = Client::try_from(config).map_err(|error| error.to_string())?;
        Ok(Simulated { sandbox, env, client, folder })
    }
}

/// A running sandbox.
pub(crate) struct Simulated {
    sandbox: Running,
    env: BTreeMap<String, String>,
    client: Client,
    folder: TempDir,
}

impl Stage for Simulated {
    fn cluster(&self) -> Value {
        json!({"name": CLUSTER.0, "region": CLUSTER.1})
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env_clear().envs(&self.env).env_remove("KUBECONFIG").env("HOME", self.folder.path());
        command.env("PATH", format!("{path}:{}", self.sandbox.tools().display()));
        command
    }

    async fn apply(&self, objects: &[Value]) -> Result<(), String> {
        for object in objects {
            objects::apply(&self.client, object).await?;
        }
        Ok(())
    }

    async fn delete(&self, object: &Value) -> Result<(), String> {
        objects::delete(&self.client, object).await
    }

    async fn aws(&self, faults: &[AwsFault]) -> Result<(), String> {
        self.sandbox.aws_faults(faults)
    }

    async fn refuse_token(&self) -> Result<(), String> {
        self.sandbox.refuse_tokens(true);
        Ok(())
    }

    async fn drop_strays(&self) -> Result<(), String> {
        self.sandbox.drop_strays();
        Ok(())
    }

    async fn part(&self, what: &str, part: Part) -> Result<(), String> {
        let server = self.sandbox.server().ok_or("the sandbox has no API server")?;
        match (what, part) {
            ("stop", Part::Apiserver) => server.pause(),
            ("start", Part::Apiserver) => server.resume().await?,
            // without its store an API server answers nobody
            ("freeze" | "thaw", Part::Apiserver | Part::Etcd) => server.freeze(what == "freeze"),
            ("freeze" | "thaw", Part::Aws) => self.sandbox.freeze_aws(what == "freeze"),
            ("stop" | "start", Part::Controller) => {
                let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "aws-load-balancer-controller", "namespace": "kube-system"}});
                let replicas = if what == "stop" { 0 } else { 2 };
                objects::change(&self.client, &deployment, &json!({"spec": {"replicas": replicas}})).await?;
            }
            _ => return Err(format!("the sandbox cannot {what} {part:?}")),
        }
        Ok(())
    }

    async fn end(self) -> Result<(), String> {
        self.sandbox.stop();
        Ok(())
    }
}
