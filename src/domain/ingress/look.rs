//! One look at a link of the chain, with all that its verdict is drawn from: it is recorded, and `replay` draws the verdict again.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::clients::http::NetError;
use crate::domain::ingress::balancer;
use crate::domain::ingress::binding::{self, Around, Binding};
use crate::domain::ingress::targets::{self, Target};
use crate::domain::ingress::{Link, accepted, answer};
use crate::domain::verify::Reply;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "link")]
pub enum Look {
    Accepted {
        seen: accepted::Seen,
        now: Timestamp,
        waited_ms: u64,
    },
    Hostname {
        seen: accepted::Seen,
        now: Timestamp,
        waited_ms: u64,
    },
    Active {
        seen: Option<balancer::Seen>,
        hostname: String,
        waited_ms: u64,
    },
    Bound {
        bindings: Vec<Binding>,
        around: Around,
        waited_ms: u64,
    },
    Healthy {
        /// The target group's name, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        targets: Vec<Target>,
        /// The load balancer's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        zones: Vec<String>,
        min: usize,
        stuck_ms: u64,
    },
    FirstAnswer {
        reply: Reply,
        /// Who was asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        waited_ms: u64,
        /// No host is known, so nothing can be asked over TLS.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        nameless: bool,
    },
    /// In its place: what a request ended in, and for how long it has.
    NoAnswer {
        error: NetError,
        lasted_ms: u64,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        nameless: bool,
        /// Another listener gave some answer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        answered: bool,
    },
}

/// A link's verdict, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Told {
    Holds {
        value: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    NotYet {
        reason: String,
    },
    Broken {
        code: Code,
        message: String,
    },
}

impl Told {
    pub fn words(&self) -> String {
        match self {
            Told::Holds { value, .. } => format!("holds: {value}"),
            Told::NotYet { reason } => format!("not yet: {reason}"),
            Told::Broken { code, message } => format!("{code}: {message}"),
        }
    }
}

impl Look {
    pub fn name(&self) -> &'static str {
        match self {
            Look::Accepted { .. } => "ingress accepted",
            Look::Hostname { .. } => "hostname",
            Look::Active { .. } => "load balancer active",
            Look::Bound { .. } => "target group binding",
            Look::Healthy { .. } => "targets healthy",
            Look::FirstAnswer { .. } => "first answer",
            Look::NoAnswer { .. } => "no first answer",
        }
    }

    /// What it looked at, apart from others of the same link.
    pub fn part(&self) -> Option<&str> {
        if let Look::Healthy { group, .. } = self { group.as_deref() } else { None }
    }

    pub fn judge(&self) -> Told {
        let ms = Duration::from_millis;
        match self {
            Look::Accepted { seen, now, waited_ms } => told(accepted::accepted(seen, *now, ms(*waited_ms)), |by| by),
            Look::Hostname { seen, now, waited_ms } => told(accepted::hostname(seen, *now, ms(*waited_ms)), |name| name),
            Look::Active { seen, hostname, waited_ms } => told(balancer::active(seen.as_ref(), hostname, ms(*waited_ms)), |()| "active".to_owned()),
            Look::Bound { bindings, around, waited_ms } => told(binding::bound(bindings, around, ms(*waited_ms)), |arns| arns.join(" ")),
            Look::Healthy { targets, zones, min, stuck_ms, .. } => told(targets::healthy(targets, zones, *min, ms(*stuck_ms)), |n| n.to_string()),
            Look::FirstAnswer { reply, host, waited_ms, nameless } => {
                told(answer::first(reply, ms(*waited_ms), *nameless, host.as_deref()), |said| said)
            }
            Look::NoAnswer { error, lasted_ms, nameless, answered } => {
                told(answer::unanswered(error, ms(*lasted_ms), *nameless, *answered), |said| said)
            }
        }
    }
}

fn told<T>(link: Link<T>, value: impl FnOnce(T) -> String) -> Told {
    match link {
        Link::Holds(held, warnings) => Told::Holds { value: value(held), warnings },
        Link::NotYet(reason) => Told::NotYet { reason },
        Link::Broken(fault) => Told::Broken { code: fault.code, message: fault.message },
    }
}
