//! A first pipeline file: what a folder holds, and what runs in a cluster, written down as a file that a person then goes on with.

pub mod draft;
pub mod folder;
pub mod live;
pub mod write;

pub use draft::{Asked, Draft, draft};
pub use folder::Folder;
pub use live::Live;
