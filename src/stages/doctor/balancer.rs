//! What the load balancer will need: somebody who answers for its Ingress, its certificates, its subnets. Asked of the chart as it renders
//! with the chosen team's values, before anything is installed.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment as DeploymentObject;
use k8s_openapi::api::networking::v1::IngressClass as IngressClassObject;

use super::told;
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::is_cluster_host;
use crate::base::place::Place;
use crate::clients::aws::{self, Aws};
use crate::clients::kube::Cluster;
use crate::domain::doctor::certificate::{self, Asked, Certificate};
use crate::domain::doctor::controller::{self, Deployment, IngressClass, Seen};
use crate::domain::doctor::rendered::{self, Wants};
use crate::domain::doctor::subnets::{self, Subnet};
use crate::domain::releases::argv::Wanted;
use crate::domain::releases::helm::Helm;
use crate::engine::Ctx;
use crate::engine::record::{Case, Done};
use crate::stages::ingress::{self, Account};
use crate::stages::releases::Release;
use crate::stages::{Shared, connect, verify};

const CONTROLLER: &str = "app.kubernetes.io/name=aws-load-balancer-controller";
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// The cases of every Ingress that the file's releases make.
pub(super) async fn balancer(ctx: &Ctx<Shared>, cluster: &Cluster) {
    let shared = &ctx.shared;
    for (index, release) in shared.pipeline.releases.iter().enumerate() {
        let place = shared.place(&format!("/releases/{index}"));
        if !brings_ingress(&shared.path(&release.chart)) {
            continue;
        }
        let case = |name: &str| ctx.record.case(name).service(&release.name).place(place);
        let wants = match wants(shared, release).await {
            Ok(wants) => wants,
            // It may be fine on the cluster; the releases stage renders it there, and says what is wrong.
            Err(fault) => {
                case("ingress class").skip(format!("the chart does not render without a cluster: {}", fault.message));
                continue;
            }
        };
        for wants in &wants {
            case("ingress class").run(|case| class(shared, cluster, wants, case)).await;
            let account = match ingress::account(shared).await {
                Ok(account) => account,
                Err(fault) => {
                    case("subnets").fail(fault);
                    continue;
                }
            };
            let aws = match &account {
                Account::Known(aws) => aws,
                Account::Unknown(reason) => {
                    case("subnets").skip(reason);
                    continue;
                }
            };
            if !wants.certificates.is_empty() {
                case("certificate").run(|case| certificates(shared, aws, wants, case)).await;
            }
            case("subnets").run(|case| subnets(shared, aws, wants, case)).await;
        }
    }
}

/// Is there an Ingress among the chart's templates? Rendering is worth its time only then.
fn brings_ingress(path: &Path) -> bool {
    if let Ok(entries) = std::fs::read_dir(path) {
        return entries.flatten().any(|entry| brings_ingress(&entry.path()));
    }
    path.extension().is_some_and(|end| end == "tgz")
        || std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.trim() == "kind: Ingress"))
}

async fn wants(shared: &Shared, release: &Release) -> Result<Vec<Wants>> {
    let wanted = Wanted {
        name: release.name.clone(),
        namespace: release.namespace.clone(),
        chart: shared.path(&release.chart),
        values: release.values.iter().map(|file| shared.path(file)).collect(),
        ..Wanted::default()
    };
    rendered::wants(&Helm::template(&shared.tools, &wanted).await?, &release.namespace)
}

async fn class(shared: &Shared, cluster: &Cluster, wants: &Wants, case: Case) -> Result<Done> {
    let classes: Vec<IngressClassObject> = match cluster.list("", "").await {
        Ok(classes) => classes,
        Err(fault) if fault.code == Code::Forbidden => return Ok(Done::Skipped("this identity may not list IngressClasses".to_owned())),
        Err(fault) => return Err(fault),
    };
    let controllers: Option<Vec<DeploymentObject>> = match cluster.list("", CONTROLLER).await {
        Ok(controllers) => Some(controllers),
        Err(fault) if fault.code == Code::Forbidden => None,
        Err(fault) => return Err(fault),
    };
    let info = connect::described(shared);
    let seen = Seen {
        classes: classes.into_iter().map(class_of).collect(),
        controllers: controllers.map(|found| found.into_iter().map(deployment_of).collect()),
        auto_mode: info.map(|info| info.auto_mode),
        cluster: info.map(|info| info.name.clone()),
    };
    told(&case, controller::judge(wants, &seen))
}

fn class_of(class: IngressClassObject) -> IngressClass {
    let default = class.metadata.annotations.iter().flatten().any(|(key, value)| key == DEFAULT_CLASS && value == "true");
    let controller = class.spec.and_then(|spec| spec.controller).unwrap_or_default();
    IngressClass { name: class.metadata.name.unwrap_or_default(), controller, default }
}

fn deployment_of(deployment: DeploymentObject) -> Deployment {
    Deployment {
        namespace: deployment.metadata.namespace.unwrap_or_default(),
        name: deployment.metadata.name.unwrap_or_default(),
        available: deployment.status.and_then(|status| status.available_replicas).unwrap_or(0),
        wanted: deployment.spec.replicas.unwrap_or(1),
    }
}

async fn certificates(shared: &Shared, aws: &Aws, wants: &Wants, case: Case) -> Result<Done> {
    let hosts = hosts(shared)?;
    let mut asked = Vec::new();
    for arn in &wants.certificates {
        asked.push((arn.clone(), one_certificate(aws, arn).await?));
    }
    if let [(_, Asked::Unknown(why)), rest @ ..] = &asked[..]
        && rest.iter().all(|(_, asked)| matches!(asked, Asked::Unknown(_)))
    {
        return Ok(Done::Skipped(why.clone()));
    }
    told(&case, certificate::judge(&asked, &hosts, aws.region(), Timestamp::now()))
}

async fn one_certificate(aws: &Aws, arn: &str) -> Result<Asked> {
    match certificate::region_of(arn) {
        // ACM knows only what is in its Region, and that it is elsewhere is what matters.
        Some(region) if region != aws.region() => return Ok(Asked::NotFound),
        None => return Ok(Asked::Unknown("it is none of ACM's".to_owned())),
        Some(_) => {}
    }
    Ok(match aws.certificate(arn).await {
        Ok(Some(found)) => {
            let aws::Certificate { arn, status, domains, not_after, reason } = found;
            Asked::Found(Certificate { arn, status, domains, not_after, reason })
        }
        Ok(None) => Asked::NotFound,
        Err(fault) => Asked::Unknown(not_asked(fault)?),
    })
}

/// A right or an answer that doctor lacks is nothing that the stages need; credentials that do not work are.
fn not_asked(fault: Fault) -> Result<String> {
    if matches!(fault.code, Code::AwsDenied | Code::AwsFailed | Code::AwsUnreachable) { Ok(fault.message) } else { Err(fault) }
}

/// The public hosts of the values file and of the entries to come, as far as the filters choose them.
fn hosts(shared: &Shared) -> Result<Vec<(String, Place)>> {
    let filters = &shared.filters;
    let chosen = |service: &str, namespace: &str, host: &str| filters.service(service) && filters.namespace(namespace) && filters.host(host);
    let listed = verify::public_hosts(shared)?;
    let mut hosts: Vec<(String, Place)> =
        listed.into_iter().filter(|host| chosen(&host.service, &host.namespace, &host.host)).map(|host| (host.host, host.place)).collect();
    let upsert = shared.pipeline.routes.iter().flat_map(|routes| &routes.upsert).enumerate();
    for (index, entry) in upsert {
        let Some(place) = shared.place(&format!("/routes/upsert/{index}")) else { continue };
        for namespace in &entry.namespaces {
            for host in namespace.hosts.iter().filter(|host| !is_cluster_host(host) && chosen(&entry.name, &namespace.name, host)) {
                if !hosts.iter().any(|(known, _)| known.eq_ignore_ascii_case(host)) {
                    hosts.push((host.clone(), place.clone()));
                }
            }
        }
    }
    Ok(hosts)
}

async fn subnets(shared: &Shared, aws: &Aws, wants: &Wants, case: Case) -> Result<Done> {
    let Some(info) = connect::described(shared).filter(|info| !info.vpc.is_empty()) else {
        return Ok(Done::Skipped("the cluster's VPC is not known: the file names a kubeconfig context".to_owned()));
    };
    let found = match aws.subnets(&info.vpc).await {
        Ok(found) => found,
        Err(fault) => return Ok(Done::Skipped(not_asked(fault)?)),
    };
    let all: Vec<Subnet> =
        found.into_iter().map(|subnet| Subnet { id: subnet.id, zone: subnet.zone, free: subnet.free_addresses, tags: subnet.tags }).collect();
    told(&case, subnets::judge(wants, &all, &info.name))
}
