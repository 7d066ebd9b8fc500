//! Istio: what is installed, whether that is what the file asks for, and what istioctl does not wait for.

pub mod argv;
pub mod decide;
pub mod labels;
pub mod look;
pub mod ready;
pub mod version;
