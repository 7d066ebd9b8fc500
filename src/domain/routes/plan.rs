//! All entries of a run against the values file at once: nothing is written unless every one of them can be.

use crate::base::codes::Code;
use crate::base::fault::Result;
use crate::base::finding::{Finding, fault};
use crate::base::place::Place;
use crate::domain::routes::check::{check, is_conflict};
use crate::domain::routes::document::{Document, document};
use crate::domain::routes::edit::{Edited, upsert};
use crate::domain::routes::{Entry, Listed};

/// An entry that the values file should hold, and where that is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub entry: Entry,
    pub place: Option<Place>,
}

/// What would be done to the file.
#[derive(Debug)]
pub struct Planned {
    /// Things to know about the file that stop nothing.
    pub warnings: Vec<Finding>,
    /// For each wanted entry, in order: the text before and its edit, or why it cannot be.
    pub steps: Vec<Result<Step>>,
    /// The entries as they will be, all of the file.
    pub entries: Vec<Listed>,
}

/// One entry's edit.
#[derive(Clone, Debug)]
pub struct Step {
    pub before: String,
    pub edited: Edited,
}

/// Edits the text in memory, entry by entry, and judges the rules on the result.
///
/// # Errors
/// The file cannot be read, or breaks a rule in entries that are not wanted here.
pub fn plan(text: &str, file: &str, list_key: Option<&str>, wanted: &[Wanted]) -> Result<Planned> {
    let now = document(text, file, list_key).map_err(|findings| fault(Code::FileInvalid, &findings))?;
    let (others, mut warnings): (Vec<Finding>, Vec<Finding>) =
        check(&now).into_iter().filter(|finding| owner(&now, wanted, finding).is_none()).partition(Finding::is_error);
    if !others.is_empty() {
        return Err(fault(if others.iter().all(is_conflict) { Code::RouteConflict } else { Code::FileInvalid }, &others));
    }
    let mut steps = Vec::new();
    let mut current = text.to_owned();
    for Wanted { entry, place } in wanted {
        let step = upsert(&current, file, list_key, entry).map(|edited| Step { before: current.clone(), edited });
        if let Ok(step) = &step {
            current.clone_from(&step.edited.text);
        }
        steps.push(step.map_err(|fault| fault.at(place.as_ref())));
    }
    let then = document(&current, file, list_key).map_err(|findings| fault(Code::Defect, &findings))?;
    for finding in check(&then) {
        let Some(index) = owner(&then, wanted, &finding) else { continue };
        if !finding.is_error() {
            warnings.push(finding);
        } else if steps[index].is_ok() {
            let code = if is_conflict(&finding) { Code::RouteConflict } else { Code::FileInvalid };
            let mut broken = finding.into_fault(code);
            // The line numbers are those of a file that will not be written.
            broken.place = wanted[index].place.clone();
            steps[index] = Err(broken);
        }
    }
    Ok(Planned { warnings, steps, entries: then.listed() })
}

/// One entry alone, judged by the same rules.
///
/// # Errors
/// As [`plan`], and the entry's own fault.
pub fn upsert_judged(text: &str, file: &str, list_key: Option<&str>, entry: &Entry) -> Result<Edited> {
    let planned = plan(text, file, list_key, &[Wanted { entry: entry.clone(), place: None }])?;
    planned.steps.into_iter().next().map_or_else(|| upsert(text, file, list_key, entry), |step| step.map(|step| step.edited))
}

/// Which wanted entry a finding is about: by its place or the places it compares with.
fn owner(document: &Document, wanted: &[Wanted], finding: &Finding) -> Option<usize> {
    let lines = std::iter::once(finding.place.line).chain(finding.also.iter().map(|also| also.place.line));
    let names: Vec<&str> = lines.filter_map(|line| entry_at(document, line)).collect();
    wanted.iter().rposition(|w| names.contains(&w.entry.virtual_name.as_str()))
}

fn entry_at(document: &Document, line: u32) -> Option<&str> {
    let line_of = |at: usize| document.source.place(at).line;
    let item = document.items.iter().find(|item| (line_of(item.node.span.start)..=line_of(item.node.span.end)).contains(&line))?;
    Some(&item.virtual_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::routes::{Effect, EntryNamespace};

    const FILE: &str = "virtualServices:\n  - virtualName: a\n    name: a\n    port: 1\n    namespaces:\n      - name: prod\n        hosts:\n          - a.public.domain\n";

    fn wanted(name: &str, host: &str) -> Wanted {
        let namespaces = vec![EntryNamespace { name: "prod".into(), hosts: vec![host.into()] }];
        let entry = Entry { virtual_name: name.into(), name: name.into(), port: 1, namespaces, prefixes: None };
        Wanted { entry, place: Some(Place::new("meshstep.yaml", 7, 5)) }
    }

    #[test]
    fn entries_are_planned_one_after_the_other() {
        let planned =
            plan(FILE, "v", None, &[wanted("a", "a.public.domain"), wanted("b", "b.public.domain"), wanted("c", "c.public.domain")]).expect("a plan");
        let effects: Vec<Effect> = planned.steps.iter().map(|s| s.as_ref().expect("a step").edited.effect).collect();
        assert_eq!(effects, [Effect::Unchanged, Effect::Inserted, Effect::Inserted]);
        assert_eq!(planned.entries.len(), 3);
        assert!(planned.warnings.is_empty());
    }

    #[test]
    fn a_conflict_of_a_wanted_entry_is_its_own_fault_at_its_own_place() {
        let planned = plan(FILE, "v", None, &[wanted("b", "A.public.domain"), wanted("c", "c.public.domain")]).expect("a plan");
        let broken = planned.steps[0].as_ref().expect_err("a conflict");
        assert_eq!((broken.code, broken.place.as_ref().map(|p| p.line)), (Code::RouteConflict, Some(7)));
        assert!(planned.steps[1].is_ok());
        let alone = upsert_judged(FILE, "v", None, &wanted("b", "A.public.domain").entry).expect_err("a conflict");
        assert_eq!(alone.code, Code::RouteConflict);
    }

    #[test]
    fn a_rule_broken_elsewhere_in_the_file_is_the_files_fault_with_its_line() {
        let text = format!(
            "{FILE}  - virtualName: b\n    name: b\n    port: 1\n    namespaces:\n      - name: prod\n        hosts:\n          - a.public.domain\n"
        );
        let broken = plan(&text, "v", None, &[wanted("c", "c.public.domain")]).expect_err("a conflict");
        assert_eq!((broken.code, broken.place), (Code::RouteConflict, Some(Place::new("v", 15, 13))));
    }

    #[test]
    fn an_upsert_may_cure_the_conflict_that_its_entry_has() {
        let text = format!(
            "{FILE}  - virtualName: b\n    name: b\n    port: 1\n    namespaces:\n      - name: prod\n        hosts:\n          - a.public.domain\n"
        );
        let planned = plan(&text, "v", None, &[wanted("b", "b.public.domain")]).expect("a plan");
        assert!(planned.steps[0].is_ok(), "{:?}", planned.steps[0]);
    }

    #[test]
    fn a_file_that_cannot_be_read_says_where() {
        let broken = plan("virtualServices:\n  - virtualName: a\n      name: b\n", "v", None, &[]).expect_err("broken");
        assert_eq!(broken.place, Some(Place::new("v", 3, 7)));
        assert!(broken.next[0].contains("column 5"), "{:?}", broken.next);
    }
}
