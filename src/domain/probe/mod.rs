//! A pod that asks from inside the cluster: its manifest, the command line of its one program, and what its log says.

pub mod curl;
pub mod pod;

pub use curl::{Request, Transfer};
pub use pod::Plan;
