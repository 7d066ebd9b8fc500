//! What an admission hook is told about a write.

use serde_json::Value;

use super::{Resource, Status, Store};

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
}

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// A write on its way into the store.
#[derive(Debug)]
pub struct Review<'a> {
    pub operation: Operation,
    pub resource: &'a Resource,
    /// Empty, or such as `status`.
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// `None` for the cluster's own controllers.
    pub user: Option<&'a User>,
    /// The stored object; `None` on a create.
    pub old: Option<&'a Value>,
    pub dry_run: bool,
}

/// May change the object, or refuse the write. On a delete it sees a copy of the stored object.
pub type Hook = dyn Fn(&Store, &Review<'_>, &mut Value) -> Result<(), Status> + Send + Sync;
