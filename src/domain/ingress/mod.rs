//! From an Ingress's name to the first answer of the gateway: one pure judge for each link of the chain.

pub mod accepted;
pub mod answer;
pub mod balancer;
pub mod binding;
pub mod events;
pub mod listeners;
pub mod look;
pub mod targets;

use crate::base::fault::Fault;

/// What a judge says of a link.
#[derive(Clone, Debug)]
pub enum Link<T> {
    /// It holds; with what a person should know all the same.
    Holds(T, Vec<String>),
    /// Not yet; the reason is what a person wants to read meanwhile.
    NotYet(String),
    /// Waiting is pointless.
    Broken(Box<Fault>),
}

impl<T> Link<T> {
    pub fn holds(value: T) -> Self {
        Link::Holds(value, Vec::new())
    }

    pub fn broken(fault: Fault) -> Self {
        Link::Broken(Box::new(fault))
    }
}
