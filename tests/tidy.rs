//! The house rules: who may import whom, how long a file may be, what may not be written. Read from the sources themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// For each room, the rooms and parts of rooms it may use. A part is a path below `crate::`.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("base", &[]),
    ("engine", &["base"]),
    ("clients", &["base"]),
    ("domain", &["base", "clients"]),
    ("stages", &["base", "engine", "domain", "clients"]),
    ("report", &["base", "engine::event", "engine::outcome", "engine::record::Reporter"]),
    ("spec", &["base", "stages", "domain"]),
    ("sandbox", &[]),
    ("cli", &["base", "engine", "clients", "domain", "stages", "report", "spec", "sandbox"]),
];

const LONGEST_FILE: usize = 700;
const MEDIAN_FILE: usize = 250;

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> BTreeMap<PathBuf, String> {
    fn walk(folder: &Path, into: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(folder).expect("src is readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.insert(path.clone(), std::fs::read_to_string(&path).expect("UTF-8"));
            }
        }
    }
    let mut sources = BTreeMap::new();
    walk(&src(), &mut sources);
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

/// `src/domain/routes/mod.rs` is in the room `domain`; files directly in `src` have none.
fn room(path: &Path) -> Option<String> {
    let mut parts = path.strip_prefix(src()).expect("in src").iter();
    let first = parts.next()?.to_string_lossy().into_owned();
    parts.next().map(|_| first)
}

/// The paths after `crate::` in a source. Braces directly behind the first segments are opened: `crate::engine::{event, record}` gives both.
fn crate_paths(source: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (start, _) in source.match_indices("crate::") {
        let rest = &source[start + "crate::".len()..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        let (stem, behind) = (rest[..end].trim_end_matches(':'), &rest[end..]);
        match behind.strip_prefix('{') {
            Some(group) if rest[..end].ends_with("::") => paths.extend(group_items(group).map(|item| format!("{stem}::{item}"))),
            _ if !stem.is_empty() => paths.push(stem.to_owned()),
            _ => {}
        }
    }
    paths
}

/// The first name of each item of a brace group (without what its own braces hold).
fn group_items(group: &str) -> impl Iterator<Item = String> {
    let (mut depth, mut items, mut item) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ if depth == 0 && !c.is_whitespace() => item.push(c),
            _ => {}
        }
    }
    items.push(item);
    items.into_iter().map(|item| item.trim_end_matches(':').to_owned()).filter(|item| !item.is_empty())
}

fn allowed(room: &str, path: &str) -> bool {
    let may = MAY_USE.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("a room without rules: {room}")).1;
    let is_below = |part: &str| path == part || path.strip_prefix(part).is_some_and(|rest| rest.starts_with("::"));
    is_below(room) || may.iter().any(|part| is_below(part))
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for (file, source) in sources() {
        let Some(room) = room(&file) else { continue };
        wrong.extend(crate_paths(&source).into_iter().filter(|path| !allowed(&room, path)).map(|path| format!("{}: crate::{path}", file.display())));
    }
    assert!(wrong.is_empty(), "imports that the house does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_braces() {
    let source = "use crate::engine::{event::Event, record::{Case, Recorder}, Ctx};\nuse crate::base::fault::Fault;\ncrate::cli::run();";
    assert_eq!(crate_paths(source), ["engine::event::Event", "engine::record", "engine::Ctx", "base::fault::Fault", "cli::run"]);
    assert!(allowed("report", "engine::event::Event") && !allowed("report", "engine::runner") && !allowed("sandbox", "base::text"));
}

#[test]
fn files_are_of_readable_length() {
    let mut lengths: Vec<(usize, PathBuf)> = sources().into_iter().map(|(path, source)| (source.lines().count(), path)).collect();
    lengths.sort();
    let long: Vec<String> = lengths.iter().filter(|(n, _)| *n > LONGEST_FILE).map(|(n, path)| format!("{}: {n} lines", path.display())).collect();
    assert!(long.is_empty(), "files over {LONGEST_FILE} lines:\n{}", long.join("\n"));
    let median = lengths[lengths.len() / 2].0;
    assert!(median <= MEDIAN_FILE, "the median file has {median} lines, more than {MEDIAN_FILE}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> =
        sources().into_iter().filter(|(_, source)| !source.starts_with("//!")).map(|(path, _)| path.display().to_string()).collect();
    assert!(silent.is_empty(), "files without a `//!` line:\n{}", silent.join("\n"));
}

#[test]
fn what_is_never_written() {
    const NEVER: [&str; 5] = ["#[ignore", "thread::sleep", "#[allow(", "todo!(", "unimplemented!("];
    const PRINTING: [&str; 4] = ["println!(", "eprintln!(", "print!(", "eprint!("];
    let mut found = Vec::new();
    for (file, source) in sources() {
        let may_print = room(&file).as_deref() == Some("cli");
        for (number, line) in source.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if NEVER.iter().any(|n| line.contains(n)) || (!may_print && PRINTING.iter().any(|p| line.contains(p))) {
                found.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
