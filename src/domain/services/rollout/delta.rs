//! What changed between two snapshots: a run's log holds the first one whole and then only changes, so that a long rollout of many
//! pods stays small.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::services::rollout::seen::{Around, Event, Pod, Snapshot, Workload};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Delta {
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workload: Option<Workload>,
    /// The API server answered 404.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    workload_gone: bool,
    /// New or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pods: Vec<Pod>,
    /// By uid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pods_gone: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<Event>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events_gone: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    around: Option<Around>,
}

impl Delta {
    pub fn between(from: &Snapshot, to: &Snapshot) -> Self {
        let (pods, pods_gone) = changes(&from.pods, &to.pods, |pod| &pod.uid);
        let (events, events_gone) = changes(&from.events, &to.events, |event| &event.uid);
        Self {
            at: to.at,
            workload: to.workload.clone().filter(|_| from.workload != to.workload),
            workload_gone: to.workload.is_none(),
            pods,
            pods_gone,
            events,
            events_gone,
            around: (from.around != to.around).then(|| to.around.clone()),
        }
    }

    /// The later snapshot, from the earlier one.
    pub fn applied_to(&self, from: &Snapshot) -> Snapshot {
        let mut pods = merged(&from.pods, &self.pods, &self.pods_gone, |pod| &pod.uid);
        pods.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
        let mut events = merged(&from.events, &self.events, &self.events_gone, |event| &event.uid);
        events.sort_by(|a, b| (a.last, &a.uid).cmp(&(b.last, &b.uid)));
        Snapshot {
            at: self.at,
            workload: if self.workload_gone { None } else { self.workload.clone().or_else(|| from.workload.clone()) },
            pods,
            events,
            around: self.around.clone().unwrap_or_else(|| from.around.clone()),
        }
    }
}

fn changes<T: Clone + PartialEq>(from: &[T], to: &[T], uid: impl Fn(&T) -> &String) -> (Vec<T>, Vec<String>) {
    let before: BTreeMap<&String, &T> = from.iter().map(|item| (uid(item), item)).collect();
    let changed = to.iter().filter(|item| before.get(uid(item)) != Some(item)).cloned().collect();
    let gone = from.iter().map(&uid).filter(|known| !to.iter().any(|item| uid(item) == *known)).cloned().collect();
    (changed, gone)
}

fn merged<T: Clone>(from: &[T], changed: &[T], gone: &[String], uid: impl Fn(&T) -> &String) -> Vec<T> {
    let kept = from.iter().filter(|item| !gone.contains(uid(item)) && !changed.iter().any(|new| uid(new) == uid(item)));
    kept.chain(changed).cloned().collect()
}
