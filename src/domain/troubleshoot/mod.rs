//! What the answers of the runbook's probes from inside the cluster mean, and where the fault then lies.

pub mod conclude;
pub mod endpoints;
pub mod mtls;
pub mod said;

pub use conclude::{Conclusion, Facts, Place, conclude};
pub use said::Said;
