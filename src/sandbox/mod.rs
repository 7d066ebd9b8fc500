//! A simulated cluster, AWS and gateway behind real loopback HTTP(S). It uses nothing of ours: it speaks only HTTP, else it proves nothing.

pub mod api;
pub mod pki;
mod schema;
pub mod store;
