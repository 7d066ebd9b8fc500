//! Which Ingresses are the controller's.

use serde_json::Value;

use crate::sandbox::controllers::INGRESS_CLASSES;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{self, text};

const CONTROLLER: &str = "ingress.k8s.aws/alb";
const PREFIX: &str = "alb.ingress.kubernetes.io/";

/// Whether an Ingress belongs to the controller.
pub(super) enum Ours {
    Yes,
    No,
    /// Its class does not exist: the event's message.
    Invalid(String),
}

/// One of the controller's annotations, without its prefix.
pub(super) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    meta::annotation(object, &format!("{PREFIX}{key}"))
}

/// The annotation decides; without it the class does.
pub(super) fn of(sim: &Sim, ingress: &Value) -> Ours {
    if let Some(class) = meta::annotation(ingress, "kubernetes.io/ingress.class") {
        return if class == "alb" { Ours::Yes } else { Ours::No };
    }
    let class = text(ingress, "/spec/ingressClassName");
    if class.is_empty() {
        return Ours::No;
    }
    match sim.store.get(INGRESS_CLASSES, "", class) {
        Some(class) if text(&class, "/spec/controller") == CONTROLLER => Ours::Yes,
        Some(_) => Ours::No,
        None => Ours::Invalid(format!("failed load groupID due to invalid ingress class: IngressClass.networking.k8s.io \"{class}\" not found")),
    }
}
