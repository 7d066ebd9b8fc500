//! EKS: whether a cluster can be used, its kubeconfig, the exec credential, and what an unreachable API server means here.

pub mod credential;
pub mod kubeconfig;
pub mod reach;
