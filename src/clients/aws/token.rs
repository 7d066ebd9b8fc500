//! A cluster's bearer token, and the presigned STS address that an EKS token is made of.

use jiff::Timestamp;
use secrecy::SecretString;

/// A bearer token for an API server. Its `Debug` does not show the secret.
#[derive(Clone, Debug)]
pub struct Token {
    pub secret: SecretString,
    /// When a client should have asked for a new one.
    pub expires: Timestamp,
}
