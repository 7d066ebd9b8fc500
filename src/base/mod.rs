//! The leaf room: failure codes, places, findings, YAML with places, waiting, secrets, names and text. It knows nothing of the rest.

pub mod codes;
pub mod fault;
pub mod finding;
pub mod mutex;
pub mod names;
pub mod place;
pub mod secrets;
pub mod text;
pub mod wait;
pub mod yaml;
