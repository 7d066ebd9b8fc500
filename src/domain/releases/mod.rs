//! Helm releases: which helm, its command lines, its words, the state of a release, and whether an upgrade would change anything.

pub mod argv;
pub mod compare;
pub mod decide;
pub mod helm;
pub mod memory;
pub mod parse;
pub mod plan;
pub mod version;
pub mod words;
