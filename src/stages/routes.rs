//! Stage `routes`: the services' entries in the virtual-services values file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::routes::Entry;

/// `routes:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Routes {
    /// The values file of the virtual-services chart.
    pub values: String,
    /// Key of the list; by default the one list whose items have `virtualName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_key: Option<String>,
    /// Entries to insert, or to bring up to date by `virtualName`.
    #[serde(default)]
    pub upsert: Vec<Entry>,
}
