//! The certificate incident: read the evidence, name the cause, and say whether a restart cures it.

pub mod access_log;
pub mod agent_log;
pub mod gather;
pub mod judge;
pub mod restart;
pub mod root;

pub use judge::{Cause, Evidence, Judgement, judge};
