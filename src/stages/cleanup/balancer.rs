//! Proves that a load balancer is gone, from the Ingress down to the last security group; says what holds it when it is not.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::api::networking::v1::Ingress as IngressObject;
use serde_json::Value;

use super::look;
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::names::ObjectName;
use crate::base::text;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::aws::Aws;
use crate::clients::kube::Cluster;
use crate::domain::cleanup::left::{self, CLUSTER, Item, Stack, Tagged};
use crate::domain::cleanup::stuck::{self, Controller, Diagnosis, Held};
use crate::domain::cleanup::title;
use crate::domain::ingress::binding::{STACK, STACK_NAME, STACK_NAMESPACE};
use crate::engine::record::{Case, Done};
use crate::stages::Shared;
use crate::stages::ingress::{self, Account, Pace};

const BINDINGS: [&str; 2] = ["elbv2.k8s.aws/v1beta1", "eks.amazonaws.com/v1"];
const CONTROLLER: &str = "app.kubernetes.io/name=aws-load-balancer-controller";
/// How long deletion takes when nothing is wrong; only then is it asked what is.
const USUAL: Duration = Duration::from_secs(2);
/// What has lost its Ingress is removed by nobody; AWS's list of tags is late by less than this.
const LATE: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(600);
const LOG_LINES: i64 = 500;

/// An Ingress whose load balancer must go.
#[derive(Clone, Debug)]
pub(super) struct AlbIngress {
    pub stack: Stack,
    pub is_there: bool,
    pub hostname: Option<String>,
}

impl AlbIngress {
    pub(super) fn title(&self) -> String {
        format!("Ingress {} in {}", self.stack.ingress, self.stack.namespace)
    }
}

/// How the proof ended when the case did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The API objects are still there: nothing more may be taken away.
    InCluster,
    /// The cluster has let go of it; only AWS still has something.
    InAws,
}

/// The proof for one Ingress.
pub(super) struct Proof<'a> {
    pub shared: &'a Shared,
    pub cluster: &'a Cluster,
    pub account: &'a Account,
    /// The name in the controller's tags.
    pub tag: Option<String>,
    pub alb: &'a AlbIngress,
    /// What was seen last.
    pub held: Mutex<Holder>,
}

enum Left {
    Nothing,
    InCluster(String),
    InAws(Vec<Item>),
}

impl Proof<'_> {
    /// Waits until nothing is left; an Ingress that lost its release is deleted first.
    pub(super) async fn gone(&self, case: &Case) -> Result<Done> {
        let start = Instant::now();
        let limit = self.shared.pipeline.ingress.as_ref().map_or(LIMIT, |i| i.timeout.0);
        let nudge = self.cluster.watch::<IngressObject>(&self.alb.stack.namespace, "");
        let (pace, orphaned) = (Pace::of_aws(self.shared), Mutex::new(None::<Instant>));
        let deleted = self.delete_orphan().await?;
        let wake = || {
            let sleep = pace.sleep();
            let nudge = &nudge;
            async move { _ = tokio::time::timeout_at(sleep.deadline(), nudge.next()).await }
        };
        let look = || async {
            let left = match ingress::asked(self.left().await, &pace)? {
                Ok(left) => left,
                Err(reason) => return Ok(Poll::NotYet(reason)),
            };
            match left {
                Left::Nothing => Ok(Poll::Ready(())),
                Left::InCluster(reason) => {
                    self.set(Holder::InCluster);
                    if start.elapsed() >= USUAL {
                        self.delete_orphaned_bindings().await?;
                        let held = self.held().await;
                        case.observed("stuck-deletion", &held);
                        let diagnosis = stuck::diagnose(&held);
                        if start.elapsed() >= diagnosis.patience {
                            return Err(self.stuck(diagnosis, &reason).await);
                        }
                        return Ok(Poll::NotYet(format!("{reason}: {}", diagnosis.words)));
                    }
                    Ok(Poll::NotYet(reason))
                }
                Left::InAws(items) => {
                    self.set(Holder::InAws);
                    case.observed("left-in-aws", &items);
                    let since = *lock(&orphaned).get_or_insert_with(Instant::now);
                    if since.elapsed() >= LATE { Err(left_behind(&items)) } else { Ok(Poll::NotYet(format!("AWS still has {}", names(&items)))) }
                }
            }
        };
        let waited = wait::until(Patience::new(limit, 2 * ingress::AWS_SLOWEST), |reason| case.progress(reason), wake, look).await;
        if let Err(error) = waited {
            return Err(match error {
                wait::WaitError::Failed(fault) => *fault,
                wait::WaitError::TimedOut(timed_out) => self.timed_out(&timed_out.last_reason).await,
            });
        }
        self.told(case, deleted).await
    }

    fn set(&self, held: Holder) {
        *lock(&self.held) = held;
    }

    /// What the proof was able to see, and the security group that the controller tends to forget.
    async fn told(&self, case: &Case, deleted: bool) -> Result<Done> {
        let own = if self.alb.stack.shared { "our part of the load balancer is" } else { "load balancer, target groups and security groups are" };
        let note = match self.account {
            Account::Unknown(reason) => {
                case.warn(reason);
                "the Ingress and its TargetGroupBindings are gone".to_owned()
            }
            Account::Known(_) if self.tag.is_none() => {
                case.warn("the file names a kubeconfig context, not an EKS cluster, so AWS was not searched for what may be left");
                "the Ingress and its TargetGroupBindings are gone".to_owned()
            }
            Account::Known(aws) => {
                if let Ok(Some(all)) = self.tagged(aws).await
                    && let Some(group) = left::orphaned_backend_group(&all, aws.region())
                {
                    case.warn(format!("the controller left its {}, which no load balancer needs any more: `{}`", group.name, group.command));
                }
                format!("{own} gone")
            }
        };
        Ok(if self.alb.is_there || deleted { Done::changed((), note) } else { Done::unchanged((), format!("not there: {note}")) })
    }

    /// An Ingress of ours whose release is gone from helm's records: helm was killed, or its Secret was deleted.
    async fn delete_orphan(&self) -> Result<bool> {
        let Stack { namespace, ingress, .. } = &self.alb.stack;
        let found: Option<IngressObject> = self.cluster.get(namespace, ingress).await?;
        if found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()) {
            return Ok(false);
        }
        self.cluster.delete_object(&ObjectName::new("Ingress", namespace, ingress), "networking.k8s.io/v1").await
    }

    /// Bindings whose Ingress is gone, because somebody stripped its finalizer: deleted in order, so that the controller lets go of them.
    async fn delete_orphaned_bindings(&self) -> Result<()> {
        let Stack { namespace, ingress, .. } = &self.alb.stack;
        if self.cluster.get::<IngressObject>(namespace, ingress).await?.is_some() {
            return Ok(());
        }
        let text = |b: &Value, pointer: &str| b.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        for binding in self.bindings().await?.iter().filter(|b| b.pointer("/metadata/deletionTimestamp").is_none()) {
            let name = ObjectName::new("TargetGroupBinding", text(binding, "/metadata/namespace"), text(binding, "/metadata/name"));
            self.cluster.delete_object(&name, &text(binding, "/apiVersion")).await?;
        }
        Ok(())
    }

    async fn left(&self) -> Result<Left> {
        let Stack { namespace, ingress, .. } = &self.alb.stack;
        if self.cluster.get::<IngressObject>(namespace, ingress).await?.is_some() {
            return Ok(Left::InCluster(format!("{} is being deleted", self.alb.title())));
        }
        let bindings = self.bindings().await?;
        if let Some(binding) = bindings.first() {
            let name = binding.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            return Ok(Left::InCluster(format!("TargetGroupBinding {name} is still there")));
        }
        let Account::Known(aws) = self.account else { return Ok(Left::Nothing) };
        let Some(all) = self.tagged(aws).await? else { return Ok(Left::Nothing) };
        let mut items = Vec::new();
        for item in left::of_stack(&all, &self.alb.stack, aws.region()) {
            // The list of tags is late; a load balancer or target group can be asked for itself.
            let is_elb = item.arn.contains(":elasticloadbalancing:");
            if !is_elb || aws.tags_of(&item.arn).await?.is_some() {
                items.push(item);
            }
        }
        Ok(if items.is_empty() { Left::Nothing } else { Left::InAws(items) })
    }

    /// Everything of the cluster in AWS; `None`: its name in the tags is not known.
    async fn tagged(&self, aws: &Aws) -> Result<Option<Vec<Tagged>>> {
        let Some(tag) = &self.tag else { return Ok(None) };
        let found = aws.by_tags(&[(CLUSTER, tag)]).await?;
        Ok(Some(found.into_iter().map(|(arn, tags): (String, BTreeMap<String, String>)| Tagged { arn, tags }).collect()))
    }

    /// The bindings of our stack; of a shared group only the gateway's Service would tell ours, and that stays until the mesh goes.
    async fn bindings(&self) -> Result<Vec<Value>> {
        let Stack { namespace, ingress, group, shared } = &self.alb.stack;
        if *shared {
            return Ok(Vec::new());
        }
        let selector = match group {
            Some(group) => format!("{STACK}={group}"),
            None => format!("{STACK_NAMESPACE}={namespace},{STACK_NAME}={ingress}"),
        };
        for api_version in BINDINGS {
            let found = look::list(self.cluster, api_version, "TargetGroupBinding", "", &selector).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// What can be seen of the reason. What cannot be read is left out: this is evidence, not the work itself.
    async fn held(&self) -> Held {
        let Stack { namespace, ingress, group, .. } = &self.alb.stack;
        let live: Option<IngressObject> = self.cluster.get(namespace, ingress).await.ok().flatten();
        let finalizers = live.and_then(|i| i.metadata.finalizers).unwrap_or_default();
        let controller = if finalizers.iter().any(|f| f.starts_with("eks.amazonaws.com/")) { Controller::AutoMode } else { self.controller().await };
        let errors = if controller == Controller::Runs { self.errors(namespace, ingress, group.as_deref()).await } else { Vec::new() };
        let said = |b: &Value| {
            let name = b.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let conditions = b.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
            let words: Vec<&str> = conditions.iter().filter_map(|c| c.get("message").and_then(Value::as_str)).collect();
            format!("{name} {}", words.join("; ")).trim_end().to_owned()
        };
        Held {
            ingress: format!("{namespace}/{ingress}"),
            controller,
            errors,
            protected: self.protected().await,
            members: self.broken_members().await,
            bindings: self.bindings().await.unwrap_or_default().iter().map(said).collect(),
        }
    }

    async fn controller(&self) -> Controller {
        let found = match look::list(self.cluster, "apps/v1", "Deployment", "", CONTROLLER).await {
            Ok(found) => found,
            Err(fault) => return Controller::Unknown(fault.message),
        };
        let Some(deployment) = found.first() else { return Controller::Gone };
        let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        if number("/status/availableReplicas") > 0 {
            return Controller::Runs;
        }
        let text = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let wanted = i32::try_from(number("/spec/replicas")).unwrap_or(0);
        Controller::Down(format!("{}/{}", text("/metadata/namespace"), text("/metadata/name")), wanted)
    }

    async fn errors(&self, namespace: &str, ingress: &str, group: Option<&str>) -> Vec<String> {
        let pods: Vec<Pod> = self.cluster.list("", CONTROLLER).await.unwrap_or_default();
        let mut errors = Vec::new();
        for pod in pods {
            let (home, name) = (pod.metadata.namespace.unwrap_or_default(), pod.metadata.name.unwrap_or_default());
            let container = pod.spec.and_then(|s| s.containers.into_iter().next()).map(|c| c.name).unwrap_or_default();
            if let Ok(log) = self.cluster.logs(&home, &name, &container, false, LOG_LINES).await {
                errors.extend(stuck::errors_about(&log, namespace, ingress, group));
            }
        }
        errors
    }

    async fn protected(&self) -> Vec<String> {
        let Account::Known(aws) = self.account else { return Vec::new() };
        let Ok(Some(all)) = self.tagged(aws).await else { return Vec::new() };
        let mut protected = Vec::new();
        for item in left::of_stack(&all, &self.alb.stack, aws.region()).into_iter().filter(|i| i.arn.contains(":loadbalancer/")) {
            if aws.is_protected(&item.arn).await.unwrap_or(false) {
                protected.push(item.name);
            }
        }
        protected
    }

    /// The other members of the group with a newest event that says they cannot be built.
    async fn broken_members(&self) -> Vec<(String, String)> {
        let Stack { namespace, ingress, group, .. } = &self.alb.stack;
        let Some(group) = group else { return Vec::new() };
        let ingresses: Vec<IngressObject> = self.cluster.list("", "").await.unwrap_or_default();
        let mut broken = Vec::new();
        for other in ingresses {
            let annotations = other.metadata.annotations.unwrap_or_default();
            let (home, name) = (other.metadata.namespace.unwrap_or_default(), other.metadata.name.unwrap_or_default());
            let is_member = annotations.get("alb.ingress.kubernetes.io/group.name") == Some(group);
            if !is_member || (home == *namespace && name == *ingress) || other.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let events: Vec<Event> = self.cluster.list(&home, "").await.unwrap_or_default();
            let about = events.into_iter().filter(|e| {
                e.involved_object.kind.as_deref() == Some("Ingress")
                    && e.involved_object.name.as_deref() == Some(&name)
                    && e.reason.as_deref().is_some_and(|r| r.starts_with("Failed") || r == "SuccessfullyReconciled")
            });
            let newest = about.max_by_key(|e| e.last_timestamp.clone().map(|t| t.0).or(e.event_time.clone().map(|t| t.0)));
            if let Some(event) = newest.filter(|e| e.reason.as_deref() != Some("SuccessfullyReconciled")) {
                broken.push((format!("{home}/{name}"), event.message.unwrap_or_default()));
            }
        }
        broken
    }

    /// The deletion does not end, and waiting is pointless.
    async fn stuck(&self, diagnosis: Diagnosis, reason: &str) -> Fault {
        let items = match self.account {
            Account::Known(aws) => match self.tagged(aws).await {
                Ok(Some(all)) => left::of_stack(&all, &self.alb.stack, aws.region()),
                _ => Vec::new(),
            },
            Account::Unknown(_) => Vec::new(),
        };
        let mut fault = Fault::new(Code::LeftBehind, format!("{reason} and does not go: {}", diagnosis.words));
        for step in diagnosis.next {
            fault = fault.next(step);
        }
        let Stack { namespace, ingress, .. } = &self.alb.stack;
        let held = match self.cluster.get::<IngressObject>(namespace, ingress).await {
            Ok(None) => self.bindings().await.unwrap_or_default().iter().map(title).collect(),
            _ => vec![self.alb.title()],
        };
        let left: Vec<String> = held.into_iter().chain(items.iter().map(|item| format!("{}: {}", item.name, item.arn))).collect();
        fault = fault.evidence("left behind", left.join("\n"));
        if items.is_empty() {
            return fault;
        }
        let commands: Vec<String> = items.into_iter().map(|item| item.command).collect();
        fault.evidence("if the controller never comes back, remove these first, then the Ingress's finalizer", commands.join("\n"))
    }

    async fn timed_out(&self, reason: &str) -> Fault {
        match self.left().await {
            Ok(Left::InCluster(reason)) => {
                let diagnosis = stuck::diagnose(&self.held().await);
                self.stuck(diagnosis, &reason).await
            }
            Ok(Left::InAws(items)) => {
                self.set(Holder::InAws);
                left_behind(&items)
            }
            Ok(Left::Nothing) | Err(_) => Fault::new(Code::LeftBehind, format!("not in time: {reason}")).next("run cleanup again"),
        }
    }
}

fn names(items: &[Item]) -> String {
    items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn left_behind(items: &[Item]) -> Fault {
    let message = format!("AWS still has {} that no Ingress holds any more: {}", text::count(items.len(), "thing"), names(items));
    let fault = Fault::new(Code::LeftBehind, message);
    items.iter().fold(fault, |fault, item| fault.next(format!("`{}`", item.command)))
}

/// AWS as the run may ask it.
pub(super) async fn account(shared: &Shared) -> Result<Account> {
    ingress::account(shared).await
}

/// The cluster's name in the tags of the load balancer that serves this Ingress now.
pub(super) async fn tag_of(account: &Account, ingresses: &[AlbIngress]) -> Option<String> {
    let Account::Known(aws) = account else { return None };
    for hostname in ingresses.iter().filter_map(|i| i.hostname.as_deref()) {
        let found = aws.load_balancer(hostname).await.ok().flatten();
        if let Some(found) = found
            && let Ok(Some(tags)) = aws.tags_of(&found.arn).await
            && let Some(name) = tags.get(CLUSTER)
        {
            return Some(name.clone());
        }
    }
    None
}
