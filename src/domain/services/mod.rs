//! Services of the team: their manifests, how their rollout is judged, and what runs afterwards.

pub mod image;
pub mod manifests;
pub mod rollout;
pub mod sidecar;
