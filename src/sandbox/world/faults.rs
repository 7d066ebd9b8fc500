//! What may go wrong at the borders: tokens, API server calls, AWS calls, load balancers and targets.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// What becomes of bearer tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenPolicy {
    /// A well signed EKS token and the kubeconfig's own token come in.
    #[default]
    Accept,
    /// No EKS token maps to a user: 401.
    Refuse,
}

/// A fault of the API server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ApiFault {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`; all when absent.
    pub verb: Option<String>,
    /// A regular expression on path and query.
    pub path: Option<String>,
    /// How often; for ever when absent.
    pub times: Option<u32>,
    pub delay: Time,
    /// The HTTP status to answer with; without it only the delay counts.
    pub status: Option<u16>,
    pub message: Option<String>,
    /// Close the connection without an answer.
    pub hangup: bool,
    /// A watch stays open and says nothing more after this long.
    pub mute: Option<Time>,
}

/// Calls of the API server that EKS users may not make: 403. Absent fields mean all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Denied {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: Option<String>,
    /// The plural, with its subresource if there is one: `pods`, `pods/log`.
    pub resource: Option<String>,
    pub namespace: Option<String>,
}

/// A fault of an AWS call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AwsFault {
    /// The operation's name, or `*`.
    pub op: String,
    /// A regular expression on the request's path and body.
    #[serde(default)]
    pub r#match: Option<String>,
    /// How often; for ever when absent.
    #[serde(default)]
    pub times: Option<u32>,
    #[serde(default)]
    pub delay: Time,
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub message: Option<String>,
    /// Close the connection without an answer.
    #[serde(default)]
    pub hangup: bool,
    /// Regular expressions and what replaces their matches in the answer.
    #[serde(default)]
    pub replace: Vec<(String, String)>,
}

/// What becomes of a new load balancer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LoadBalancerOutcome {
    /// The state after `provisioning`: `active` when absent, else `failed` or `active_impaired`.
    pub state: Option<String>,
    /// AWS's reason.
    pub reason: Option<String>,
}

/// An address of load balancers' names beside their own, behind which there is no load balancer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stray {
    pub address: IpAddr,
    #[serde(default)]
    pub connection: Connection,
}

/// What comes of a connection to such an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    /// Nothing listens.
    #[default]
    Refused,
    /// The network of who asks has no route there.
    Unrouted,
}

/// What stands between the load balancer and its targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TargetOutcome {
    /// The nodes' security group drops the load balancer's packets: health checks and requests time out.
    pub blocked: bool,
    /// States to report whatever the checks say, by instance number from 0; the last entry holds for the rest.
    pub states: Vec<Named>,
}

/// A target's state as DescribeTargetHealth words it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Named {
    pub state: String,
    pub reason: Option<String>,
    pub description: Option<String>,
    /// Anything else, for people.
    pub note: BTreeMap<String, String>,
}
