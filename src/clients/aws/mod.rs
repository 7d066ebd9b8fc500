//! AWS: what is asked of EKS, STS, ELBv2 and the tagging API, with deadlines, the SDK's own retries, and faults in plain words.

mod token;

pub use self::token::Token;
