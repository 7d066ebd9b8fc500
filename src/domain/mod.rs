//! The knowledge of the field. Judgement is pure functions with tables of tests.

pub mod certificates;
pub mod cleanup;
pub mod doctor;
pub mod eks;
pub mod ingress;
pub mod init;
pub mod lock;
pub mod mesh;
pub mod prerequisites;
pub mod probe;
pub mod releases;
pub mod replay;
pub mod routes;
pub mod services;
pub mod troubleshoot;
pub mod verify;
