//! `meshstep routes upsert|remove|list|check`: the values file alone, from flags.

use crate::base::codes::Code;
use crate::base::fault::{Class, Result};
use crate::base::finding;
use crate::cli::args::{OnlyLook, Output, RoutesCommand, UpsertArgs, ValuesFile};
use crate::cli::{print, print_error, runtime};
use crate::domain::routes::check::check;
use crate::domain::routes::{Edited, Effect, Entry, EntryNamespace, diff, document, file, list, remove, upsert};
use crate::engine::outcome::exit_code;

/// Returns the exit code.
pub(super) fn run(command: RoutesCommand) -> Result<u8> {
    match command {
        RoutesCommand::Upsert(args) => {
            let entry = entry(&args);
            edited(&args.file, args.only_look, &entry.virtual_name.clone(), |text, shown, key| upsert(text, shown, key, &entry))
        }
        RoutesCommand::Remove { file, only_look, virtual_name } => {
            edited(&file, only_look, &virtual_name, |text, shown, key| remove(text, shown, key, &virtual_name))
        }
        RoutesCommand::List { file } => listed(&file),
        RoutesCommand::Check { file } => checked(&file),
    }
}

fn entry(args: &UpsertArgs) -> Entry {
    let hosts = |hosts: &str| hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned).collect();
    Entry {
        virtual_name: args.virtual_name.clone(),
        name: args.name.clone(),
        port: args.port,
        namespaces: args.routes.iter().map(|(name, list)| EntryNamespace { name: name.clone(), hosts: hosts(list) }).collect(),
        prefixes: (!args.prefixes.is_empty()).then(|| args.prefixes.clone()),
    }
}

/// Edits the file, or only shows the difference with `--dry-run` or `--check`.
fn edited(args: &ValuesFile, flags: OnlyLook, name: &str, edit: impl FnOnce(&str, &str, Option<&str>) -> Result<Edited>) -> Result<u8> {
    let shown = args.values.display().to_string();
    let key = args.list_key.as_deref();
    let only_look = flags.dry_run || flags.check;
    let (before, edited) = runtime().block_on(file::edit(&args.values, &shown, |text| {
        let edited = edit(text, &shown, key)?;
        let new = if only_look { text.to_owned() } else { edited.text.clone() };
        Ok(((text.to_owned(), edited), new))
    }))?;
    let difference = diff(&shown, &before, &edited.text);
    let done = match (edited.effect, only_look) {
        (Effect::Unchanged, _) => "unchanged",
        (Effect::Inserted, false) => "inserted",
        (Effect::Updated, false) => "updated",
        (Effect::Removed, false) => "removed",
        (Effect::Inserted, true) => "would be inserted",
        (Effect::Updated, true) => "would be updated",
        (Effect::Removed, true) => "would be removed",
    };
    match args.console.output {
        Output::Json => print(&serde_json::json!({"file": shown, "entry": name, "effect": done, "diff": difference}).to_string()),
        Output::Text => {
            print(&format!("{shown}: {name} {done}"));
            if !difference.is_empty() && !args.console.quiet {
                print(&difference);
            }
        }
    }
    Ok(if flags.check && edited.effect != Effect::Unchanged { exit_code(Class::Pending) } else { 0 })
}

fn listed(args: &ValuesFile) -> Result<u8> {
    let shown = args.values.display().to_string();
    let entries = list(&file::read(&args.values, &shown)?, &shown, args.list_key.as_deref())?;
    match args.console.output {
        Output::Json => {
            let entries: Vec<&Entry> = entries.iter().map(|listed| &listed.entry).collect();
            print(&serde_json::to_string_pretty(&entries).unwrap_or_default());
        }
        Output::Text => {
            for listed in &entries {
                let Entry { virtual_name, name, port, namespaces, .. } = &listed.entry;
                print(&format!("{virtual_name}  {name}:{port}  {}", listed.entry.effective_prefixes().join(" ")));
                for namespace in namespaces {
                    print(&format!("  {:12} {}", namespace.name, namespace.hosts.join(" ")));
                }
            }
        }
    }
    Ok(0)
}

fn checked(args: &ValuesFile) -> Result<u8> {
    let shown = args.values.display().to_string();
    let text = file::read(&args.values, &shown)?;
    let findings = match document(&text, &shown, args.list_key.as_deref()) {
        Ok(document) => check(&document),
        Err(findings) => findings,
    };
    let wrong = findings.iter().any(finding::Finding::is_error);
    match args.console.output {
        Output::Json => print(&finding::json(&findings)),
        Output::Text if findings.is_empty() => print(&format!("{shown}: no findings")),
        Output::Text => print_error(finding::render(&findings).trim_end()),
    }
    Ok(if wrong { exit_code(Code::FileInvalid.info().class) } else { 0 })
}
