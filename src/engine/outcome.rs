//! How a case ended, and which exit code many endings make.

use serde::{Deserialize, Serialize};

use crate::base::fault::{Class, Fault};

/// What a case did to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It only looked, or found everything as it should be.
    None,
    Changed,
    /// A dry run or `--check` found that it would change something.
    WouldChange,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// `note` says in a few words what was found or done: `revision 3`, `2/2 ready`.
    Passed {
        change: Change,
        note: String,
    },
    /// A proven fault was cured. `story`: what was seen, what proved it, what was done, what proves the cure.
    Repaired {
        story: String,
    },
    Failed(Box<Fault>),
    Skipped {
        reason: String,
    },
}

impl Outcome {
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Outcome::Failed(fault) => Some(fault),
            _ => None,
        }
    }

    pub fn is_failed(&self) -> bool {
        self.fault().is_some()
    }
}

/// Is a fault of this class a JUnit `failure` (judged and found wrong) rather than an `error` (could not be judged)?
pub fn is_failure(class: Class) -> bool {
    matches!(class, Class::Broken | Class::TimedOut | Class::Pending | Class::LeftBehind | Class::Approval)
}

/// The exit code of one class. A cancelled run exits with the signal's own code, which the runner knows.
pub fn exit_code(class: Class) -> u8 {
    match class {
        Class::Defect => 1,
        Class::Usage => 2,
        Class::Invalid => 3,
        Class::Prerequisite => 4,
        Class::Broken => 5,
        Class::TimedOut => 6,
        Class::Environment => 7,
        Class::LeftBehind => 8,
        Class::Held => 9,
        Class::Pending => 10,
        Class::Approval => 11,
        Class::Cancelled => 143,
    }
}

/// Classes from the most to the least telling.
const ORDER: [Class; 12] = [
    Class::Cancelled,
    Class::Defect,
    Class::LeftBehind,
    Class::Held,
    Class::Usage,
    Class::Invalid,
    Class::Prerequisite,
    Class::Broken,
    Class::Environment,
    Class::TimedOut,
    Class::Approval,
    Class::Pending,
];

/// Where a class stands among all: the smaller, the more telling.
pub fn rank(class: Class) -> usize {
    ORDER.iter().position(|c| *c == class).unwrap_or(ORDER.len())
}

/// The exit code of several faults: the most telling one wins.
pub fn worst(classes: impl IntoIterator<Item = Class>) -> u8 {
    classes.into_iter().min_by_key(|class| rank(*class)).map_or(0, exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_class_decides() {
        use Class::*;
        for (classes, code) in [
            (vec![], 0),
            (vec![TimedOut, Environment], 7),
            (vec![Environment, Broken, TimedOut], 5),
            (vec![Broken, Held], 9),
            (vec![Broken, LeftBehind, Held], 8),
            (vec![LeftBehind, Defect], 1),
            (vec![Defect, Cancelled], 143),
            (vec![Pending], 10),
            (vec![Approval, Pending], 11),
        ] {
            assert_eq!(worst(classes.iter().copied()), code, "{classes:?}");
        }
    }
}
