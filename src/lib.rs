//! meshstep: the step runner that a CI job calls. Modules in reading order; no promise of a stable library interface.

pub mod base;
pub mod cli;
pub mod clients;
pub mod domain;
pub mod engine;
pub mod report;
pub mod sandbox;
pub mod spec;
pub mod stages;
