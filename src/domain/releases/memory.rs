//! Which team's values a release was installed with: remembered in the description of its revisions, which every helm since 3.0 keeps,
//! shows in `helm history`, and lets nobody overwrite by accident.

use serde_json::Value;

use crate::domain::releases::parse::Revision;

const PREFIX: &str = "values of team ";

/// The description of a revision with the values of `team`.
pub fn description(team: &str) -> String {
    format!("{PREFIX}{team}")
}

/// The team of the values that are in force: that of the newest revision that tells, a hand-made rollback followed to its target;
/// else what the stored values say under `team`.
pub fn team(history: &[Revision], values: &Value) -> Option<String> {
    let mut newest_first: Vec<&Revision> = history.iter().collect();
    newest_first.sort_by_key(|r| std::cmp::Reverse(r.revision));
    let mut below = u32::MAX;
    for revision in newest_first {
        if revision.revision > below {
            continue;
        }
        if let Some(team) = revision.description.strip_prefix(PREFIX) {
            return Some(team.trim().to_owned());
        }
        if let Some(target) = revision.description.strip_prefix("Rollback to ").and_then(|n| n.trim().parse().ok()) {
            below = target;
        }
    }
    values.get("team").and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_team_is_that_of_the_values_in_force() {
        let cases: [(&[&str], Value, Option<&str>); 6] = [
            (&["values of team bi"], json!({}), Some("bi")),
            (&["values of team bi", "values of team dpl"], json!({}), Some("dpl")),
            (&["values of team bi", "values of team dpl", "Rollback to 1"], json!({}), Some("bi")),
            (&["values of team bi", "Upgrade \"x\" failed: timed out"], json!({}), Some("bi")),
            (&["Install complete"], json!({"team": "protocol"}), Some("protocol")),
            (&["Install complete"], json!({"port": 1}), None),
        ];
        for (descriptions, values, expected) in cases {
            let history: Vec<Revision> = (1..)
                .zip(descriptions)
                .map(|(revision, text)| Revision { revision, status: "deployed".into(), chart: String::new(), description: (*text).to_owned() })
                .collect();
            assert_eq!(team(&history, &values).as_deref(), expected, "{descriptions:?}");
        }
    }
}
