//! The certificate incident: read the evidence, name the cause, and say whether a restart cures it.

pub mod access_log;
pub mod agent_log;
pub mod cause;
pub mod evidence;
pub mod gather;
pub mod ground;
pub mod judge;
pub mod order;
pub mod restart;
pub mod root;
pub mod survey;

pub use cause::{Cause, Restart};
pub use evidence::{Evidence, PodEvidence};
pub use judge::{Judgement, judge};
