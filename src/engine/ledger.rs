//! Intents, on disk before anything is created: what a killed run may have left behind.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::names::ObjectName;

/// One intent: this object is about to be created by this run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub at: Timestamp,
    pub run_id: String,
    pub stage: String,
    pub object: ObjectName,
}

/// An append-only file of intents, one JSON object a line. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Ledger {
    file: Arc<Mutex<Option<File>>>,
    run_id: String,
    stage: &'static str,
}

impl Ledger {
    /// Opens or creates the ledger at `path`.
    pub fn open(path: &Path, run_id: &str) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|e| Fault::new(Code::FileUnreadable, format!("cannot open the ledger {}: {e}", path.display())))?;
        Ok(Self { file: Arc::new(Mutex::new(Some(file))), run_id: run_id.to_owned(), stage: "" })
    }

    /// A ledger that keeps nothing, for dry runs.
    pub fn none() -> Self {
        Self { file: Arc::default(), run_id: String::new(), stage: "" }
    }

    /// The same file, for what this stage intends.
    pub fn for_stage(&self, stage: &'static str) -> Self {
        Self { stage, ..self.clone() }
    }

    /// Writes the intent to disk; only then may the object be created.
    pub fn intend(&self, object: &ObjectName) -> Result<()> {
        let mut file = lock(&self.file);
        let Some(file) = file.as_mut() else { return Ok(()) };
        let intent = Intent { at: Timestamp::now(), run_id: self.run_id.clone(), stage: self.stage.to_owned(), object: object.clone() };
        let mut line = serde_json::to_vec(&intent).map_err(|e| Fault::new(Code::Defect, e.to_string()))?;
        line.push(b'\n');
        let written = file.write_all(&line).and_then(|()| file.sync_data());
        written.map_err(|e| Fault::new(Code::FileUnreadable, format!("cannot write the ledger, so {object} is not created: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that a kill cut short are left out.
    fn read(path: &Path) -> Vec<Intent> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    #[test]
    fn intents_survive_and_a_half_line_does_no_harm() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ledger.jsonl");
        let object = ObjectName::new("pod", "default", "probe");
        Ledger::open(&path, "r1").expect("open").for_stage("troubleshoot").intend(&object).expect("written");
        std::fs::OpenOptions::new().append(true).open(&path).expect("open").write_all(b"{\"at\":").expect("written");
        let intents = read(&path);
        assert_eq!(intents.len(), 1);
        assert_eq!((intents[0].stage.as_str(), &intents[0].object), ("troubleshoot", &object));
    }
}
