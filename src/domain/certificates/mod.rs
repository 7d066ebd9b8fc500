//! The certificate incident: read the evidence, name the cause, and say whether a restart cures it.

pub mod access_log;
pub mod agent_log;
pub mod judge;
pub mod root;

pub use judge::{Cause, Evidence, Judgement, judge};
