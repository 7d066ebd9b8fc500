//! The only four ways out: the Kubernetes API, AWS, HTTP and child processes, each with deadlines and error classes.

pub mod aws;
pub mod http;
pub mod kube;
pub mod settings;
pub mod tools;

pub use settings::Settings;

/// Installs the one TLS crypto provider of the whole binary. Call it once, before anything opens a connection; again is harmless.
pub fn install_crypto_provider() {
    // An error means that it is installed already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
