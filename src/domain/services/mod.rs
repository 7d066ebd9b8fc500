//! Services of the team: their manifests, how their rollout is judged, and what runs afterwards.

pub mod apply;
pub mod around;
pub mod endpoints;
pub mod evidence;
pub mod image;
pub mod lag;
pub mod manifests;
pub mod mirror;
pub mod preflight;
pub mod proof;
pub mod rollout;
pub mod sidecar;
pub mod watch;
