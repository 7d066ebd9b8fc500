//! A simulated cluster, AWS and gateway behind real loopback HTTP(S). It uses nothing of ours: it speaks only HTTP, else it proves nothing.

mod admission;
pub mod api;
mod auth;
mod aws;
mod controllers;
mod dns;
mod gateway;
mod istio;
mod kubelet;
mod lbc;
mod outside;
pub mod pki;
mod run;
mod schema;
mod seed;
mod sim;
pub mod store;
mod tool;
pub mod world;

pub use aws::state::subnet_id;
pub use istio::istioctl;
pub use run::{Sandbox, start, start_with_tool};
