//! The runbook's probes from inside the cluster: what a probe pod asks, what its answers mean, and where the fault then lies.

pub mod conclude;
pub mod endpoints;
pub mod mtls;
pub mod pod;
pub mod probe;

pub use conclude::{Conclusion, Facts, Place, conclude};
pub use probe::{Request, Said};
