//! What is there in the account: the VPC's parts from the world, load balancers and target groups as the controller makes them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::sandbox::world::World;

pub(crate) type Tags = BTreeMap<String, String>;

/// Everything that can change.
pub(crate) struct State {
    pub region: String,
    pub account: String,
    pub vpc: String,
    pub subnets: Vec<Subnet>,
    pub load_balancers: Vec<LoadBalancer>,
    pub target_groups: Vec<TargetGroup>,
    pub security_groups: Vec<SecurityGroup>,
}

#[derive(Clone, Debug)]
pub(crate) struct Subnet {
    pub id: String,
    pub zone: String,
    /// For internet-facing load balancers.
    pub tagged: bool,
    /// For internal ones.
    pub internal: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct SecurityGroup {
    pub id: String,
    pub name: String,
    pub tags: Tags,
}

#[derive(Clone, Debug)]
pub(crate) struct LoadBalancer {
    pub arn: String,
    pub name: String,
    pub dns_name: String,
    pub scheme: String,
    pub created: Instant,
    pub created_at: jiff::Timestamp,
    pub subnets: Vec<Subnet>,
    pub security_groups: Vec<String>,
    pub tags: Tags,
    pub attributes: BTreeMap<String, String>,
    pub listeners: Vec<Listener>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listener {
    pub arn: String,
    pub port: u16,
    /// `HTTP` or `HTTPS`.
    pub protocol: String,
    pub certificates: Vec<String>,
    /// Which TLS versions it speaks, by its name.
    pub policy: String,
    pub default: Action,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    pub arn: String,
    pub priority: u32,
    pub hosts: Vec<String>,
    pub paths: Vec<String>,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Forward { target_group: String },
    Fixed { status: u16, content_type: String, body: String },
    Redirect { protocol: String, host: String, port: String, path: String, query: String, status: u16 },
}

#[derive(Clone, Debug)]
pub(crate) struct TargetGroup {
    pub arn: String,
    pub name: String,
    pub protocol: String,
    pub port: u16,
    /// `instance` or `ip`.
    pub target_type: String,
    pub check: HealthCheck,
    pub targets: Vec<Target>,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HealthCheck {
    pub protocol: String,
    pub port: String,
    pub path: String,
    pub codes: String,
    pub interval: u32,
    pub timeout: u32,
    pub healthy: u32,
    pub unhealthy: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub id: String,
    pub port: u16,
    pub registered: Instant,
    pub health: Health,
}

/// A target's health as AWS words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub state: String,
    pub reason: Option<String>,
    pub description: Option<String>,
}

impl Health {
    pub(crate) fn new(state: &str, reason: &str, description: &str) -> Self {
        let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
        Self { state: state.to_owned(), reason: text(reason), description: text(description) }
    }
}

impl LoadBalancer {
    /// State and reason, `age` after its creation.
    pub(crate) fn state(&self, world: &World, age: Duration) -> (String, Option<String>) {
        if age < world.times.load_balancer.0 {
            return ("provisioning".to_owned(), None);
        }
        let outcome = &world.aws.load_balancer;
        (outcome.state.clone().unwrap_or_else(|| "active".to_owned()), outcome.reason.clone())
    }

    /// Whether it takes requests now.
    pub(crate) fn serves(&self, world: &World) -> bool {
        self.state(world, self.created.elapsed()).0.starts_with("active")
    }

    /// Whether its name is in the DNS now.
    pub(crate) fn named(&self, world: &World) -> bool {
        self.serves(world) && self.created.elapsed() >= world.times.load_balancer.0 + world.times.dns.0
    }
}

/// The subnet of a zone, such as `us-east-1a`.
pub fn subnet_id(zone: &str) -> String {
    format!("subnet-{}", &digest(zone)[..17])
}

impl State {
    pub(crate) fn new(world: &World) -> Self {
        let region = world.cluster.region.clone();
        let tagged = world.aws.tagged_subnets.unwrap_or(usize::MAX);
        let internal = world.aws.internal_subnets.unwrap_or(usize::MAX);
        let subnets = world.cluster.zones.iter().enumerate().map(|(i, zone)| {
            let zone = format!("{region}{zone}");
            Subnet { id: subnet_id(&zone), zone, tagged: i < tagged, internal: i < internal }
        });
        Self {
            vpc: format!("vpc-{}", &digest(&world.cluster.name)[..17]),
            account: world.cluster.account.clone(),
            subnets: subnets.collect(),
            region,
            load_balancers: Vec::new(),
            target_groups: Vec::new(),
            security_groups: Vec::new(),
        }
    }

    /// An ARN of Elastic Load Balancing in this account.
    pub(crate) fn elb_arn(&self, rest: &str) -> String {
        format!("arn:aws:elasticloadbalancing:{}:{}:{rest}", self.region, self.account)
    }

    pub(crate) fn target_group(&self, arn: &str) -> Option<&TargetGroup> {
        self.target_groups.iter().find(|group| group.arn == arn)
    }

    /// The load balancers whose listeners or rules forward to a target group.
    pub(crate) fn users_of(&self, target_group: &str) -> Vec<&LoadBalancer> {
        let forwards = |action: &Action| matches!(action, Action::Forward { target_group: arn } if arn == target_group);
        let uses = |listener: &Listener| forwards(&listener.default) || listener.rules.iter().any(|rule| forwards(&rule.action));
        self.load_balancers.iter().filter(|lb| lb.listeners.iter().any(uses)).collect()
    }

    /// Every taggable ARN with its tags.
    pub(crate) fn tagged(&self) -> Vec<(String, &Tags)> {
        let lbs = self.load_balancers.iter().map(|lb| (lb.arn.clone(), &lb.tags));
        let groups = self.target_groups.iter().map(|group| (group.arn.clone(), &group.tags));
        let sgs = self
            .security_groups
            .iter()
            .map(|group| (format!("arn:aws:ec2:{}:{}:security-group/{}", self.region, self.account, group.id), &group.tags));
        lbs.chain(groups).chain(sgs).collect()
    }
}

/// Hex of SHA-256, for names that stay the same from run to run.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// The id of the EC2 instance behind a node.
pub(crate) fn instance_id(node: &str) -> String {
    format!("i-{}", &digest(node)[..17])
}
