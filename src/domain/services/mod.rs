//! Services of the team: their manifests, how their rollout is judged, and what runs afterwards.

pub mod rollout;
