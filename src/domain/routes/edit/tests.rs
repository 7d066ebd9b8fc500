//! Edits of the values file, before and after, byte for byte.

use super::*;
use crate::domain::routes::EntryNamespace;

pub(super) fn entry(name: &str, port: u16, namespaces: &[(&str, &[&str])], prefixes: Option<&[&str]>) -> Entry {
    let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    Entry {
        virtual_name: format!("{name}-virtual-svc"),
        name: format!("{name}-service"),
        port,
        namespaces: namespaces.iter().map(|(n, hosts)| EntryNamespace { name: (*n).to_owned(), hosts: texts(hosts) }).collect(),
        prefixes: prefixes.map(texts),
    }
}

fn app1() -> Entry {
    entry("app1", 8000, &[("prod", &["app1.public.domain", "app1-service.prod.svc.cluster.local"])], Some(&["/"]))
}

fn app2() -> Entry {
    entry("app2", 8001, &[("on", &["*.wild.domain"])], None)
}

const SHOP: &str = "\
# head ä
other: 1
virtualServices:
  # team bi
  - virtualName: app1-virtual-svc # keep
    name: app1-service
    port: 8000   # the port
    namespaces:
      - name: prod # live
        hosts:
          - app1.public.domain # public
          - app1-service.prod.svc.cluster.local
    prefixes:
      - /
      # - /old

# tail
z: 1
";

/// The lines that an edit takes out and puts in.
fn changes(before: &str, edited: &Edited) -> Vec<String> {
    let diff = similar::TextDiff::from_lines(before, &edited.text);
    let signed = diff.iter_all_changes().filter(|c| c.tag() != similar::ChangeTag::Equal);
    signed.map(|c| format!("{}{}", if c.tag() == similar::ChangeTag::Delete { '-' } else { '+' }, c.value().trim_end_matches('\n'))).collect()
}

fn upserted(text: &str, entry: &Entry) -> Edited {
    let edited = upsert(text, "values.yaml", None, entry).unwrap_or_else(|fault| panic!("{fault:?}"));
    let again = upsert(&edited.text, "values.yaml", None, entry).unwrap_or_else(|fault| panic!("{fault:?}"));
    assert_eq!((again.effect, &again.text), (Effect::Unchanged, &edited.text), "a second upsert changes nothing");
    edited
}

#[test]
fn an_entry_that_says_the_same_keeps_every_byte() {
    let mut other_order = app1();
    other_order.namespaces[0].hosts.reverse();
    let mut without_prefixes = app1();
    without_prefixes.prefixes = None;
    for entry in [app1(), other_order, without_prefixes] {
        let edited = upserted(SHOP, &entry);
        assert_eq!((edited.effect, edited.text.as_str()), (Effect::Unchanged, SHOP));
    }
}

#[test]
fn an_update_touches_the_lines_that_say_something_else() {
    type Change = fn(&mut Entry);
    let table: [(Change, &[&str]); 8] = [
        (|e| e.port = 9000, &["-    port: 8000   # the port", "+    port: 9000   # the port"]),
        (|e| e.name = "on".into(), &["-    name: app1-service", "+    name: \"on\""]),
        (|e| e.namespaces[0].hosts.push("x.public.domain".into()), &["+          - x.public.domain"]),
        (|e| e.namespaces[0].hosts.truncate(1), &["-          - app1-service.prod.svc.cluster.local"]),
        (|e| drop(e.namespaces[0].hosts.remove(0)), &["-          - app1.public.domain # public"]),
        (
            |e| e.namespaces.insert(0, EntryNamespace { name: "pre-prod".into(), hosts: vec!["app1-pre.public.domain".into()] }),
            &["+      - name: pre-prod", "+        hosts:", "+          - app1-pre.public.domain"],
        ),
        (|e| e.prefixes = Some(vec!["/api".into(), "/".into()]), &["+      - /api"]),
        (|e| e.prefixes = Some(vec!["/api".into()]), &["-      - /", "+      - /api"]),
    ];
    for (change, expected) in table {
        let mut entry = app1();
        change(&mut entry);
        let edited = upserted(SHOP, &entry);
        assert_eq!(edited.effect, Effect::Updated);
        assert_eq!(changes(SHOP, &edited), expected, "{entry:?}");
    }
}

#[test]
fn prefixes_that_change_places_take_their_comments_along() {
    let text = SHOP.replace("      - /\n", "      - / # all\n      - /api # machines\n");
    let mut entry = app1();
    entry.prefixes = Some(vec!["/api".into(), "/".into()]);
    let edited = upserted(&text, &entry);
    assert!(edited.text.contains("    prefixes:\n      - /api # machines\n      - / # all\n      # - /old\n"), "{}", edited.text);
}

#[test]
fn a_new_entry_stands_behind_the_last_one_in_the_files_own_style() {
    let lines = ["+  - virtualName: app2-virtual-svc", "+    name: app2-service", "+    port: 8001", "+    namespaces:"];
    let below = ["+      - name: \"on\"", "+        hosts:", "+          - \"*.wild.domain\""];
    assert_eq!(changes(SHOP, &upserted(SHOP, &app2())), [&lines[..], &below[..]].concat());
    // No indentation of lists, wide dashes, quotes, empty lines between the entries, nested below another key.
    let item = |name: &str| {
        format!(
            "  -   virtualName: '{name}'\n      name: '{name}'\n      port: 1\n      namespaces:\n      - name: 'prod'\n        hosts: [\"{name}.domain\"]\n"
        )
    };
    let text = format!("gateway:\n  virtualServices:\n{}\n{}", item("a"), item("b"));
    let expected = "\n  -   virtualName: 'app2-virtual-svc'\n      name: 'app2-service'\n      port: 8001\n      namespaces:\n      - name: 'on'\n        hosts: [\"*.wild.domain\"]\n";
    assert_eq!(upserted(&text, &app2()).text, format!("{text}{expected}"));
}

const NEW: &str = "  - virtualName: app2-virtual-svc\n    name: app2-service\n    port: 8001\n    namespaces:\n      - name: \"on\"\n        hosts:\n          - \"*.wild.domain\"\n";

#[test]
fn a_list_that_is_not_there_yet_is_made() {
    for (before, after) in [
        ("", format!("virtualServices:\n{NEW}")),
        ("# only a comment\n", format!("# only a comment\nvirtualServices:\n{NEW}")),
        ("a: 1\n", format!("a: 1\nvirtualServices:\n{NEW}")),
        ("a: 1", format!("a: 1\nvirtualServices:\n{}", NEW.trim_end())),
        ("virtualServices: []  # none\nb: 1\n", format!("virtualServices:  # none\n{NEW}b: 1\n")),
        ("virtualServices: # none\n# - x\nb: 1", format!("virtualServices: # none\n{NEW}# - x\nb: 1")),
        ("virtualServices: null\n", format!("virtualServices:\n{NEW}")),
        ("\u{feff}virtualServices: ~\r\nb: ä\r\n", format!("\u{feff}virtualServices:\n{NEW}").replace('\n', "\r\n") + "b: ä\r\n"),
    ] {
        let edited = upserted(before, &app2());
        assert_eq!((edited.effect, edited.text), (Effect::Inserted, after), "{before:?}");
    }
}

#[test]
fn entries_in_brackets_stay_in_brackets() {
    let before = "virtualServices: [{virtualName: app1-virtual-svc, name: b, port: 1, namespaces: [{name: prod, hosts: [a.b, c.d]}, {name: x, hosts: [ d.e ]}]}] # all\n";
    let new = "{virtualName: app2-virtual-svc, name: app2-service, port: 8001, namespaces: [{name: \"on\", hosts: [\"*.wild.domain\"]}]}";
    assert_eq!(upserted(before, &app2()).text, before.replace("}] # all", &format!("}}, {new}] # all")));
    let wanted = entry("app1", 2, &[("prod", &["c.d", "f.g"]), ("z", &["y.z"])], Some(&["/a"]));
    let after = "virtualServices: [{virtualName: app1-virtual-svc, name: app1-service, port: 2, namespaces: [{name: prod, hosts: [c.d, f.g]}, {name: z, hosts: [y.z]}], prefixes: [/a]}] # all\n";
    assert_eq!(upserted(before, &wanted).text, after);
}

#[test]
fn line_breaks_of_windows_and_a_missing_last_one_are_kept() {
    let text = SHOP.replace('\n', "\r\n");
    let edited = upserted(&text, &app2());
    assert!(!edited.text.replace("\r\n", "").contains(['\r', '\n']), "{:?}", edited.text);
    let short = SHOP.split("      # - /old").next().expect("head").trim_end();
    let edited = upserted(short, &app2());
    assert_eq!(edited.text, format!("{short}\n{}", NEW.trim_end()));
}

#[test]
fn keys_that_the_tool_does_not_know_are_kept() {
    let text = SHOP.replace("    prefixes:", "    timeout: 10s # theirs\n    prefixes:");
    let mut entry = app1();
    entry.port = 1;
    assert_eq!(changes(&text, &upserted(&text, &entry)).len(), 2);
}

#[test]
fn what_cannot_be_edited_surely_is_refused_with_its_place() {
    let mut changed = app1();
    changed.port = 1;
    changed.namespaces[0].hosts = vec!["new.domain".into()];
    for (text, line, why) in [
        (SHOP.replace("- virtualName", "- &a\n    virtualName"), 6, "anchor"),
        (SHOP.replace("          - app1.public.domain # public\n", "          - &h app1.public.domain\n"), 5, "anchor"),
        (SHOP.replace("port: 8000 ", "port: !!int 8000"), 7, "tag"),
        (
            SHOP.replace(
                "hosts:\n          - app1.public.domain # public\n          - app1-service.prod.svc.cluster.local",
                "hosts: [app1.public.domain,\n          x.y]",
            ),
            10,
            "several lines",
        ),
        (format!("{SHOP}more:\n  - virtualName: b\n"), 20, "several lists"),
        (format!("{SHOP}---\na: 1\n"), 20, "second document"),
        (SHOP.replace("    name: app1-service", "    name: on"), 6, "Helm reads `on` as true"),
        (SHOP.replace("    port: 8000", "    port: 70000"), 7, "between 1 and 65535"),
        (SHOP.replace("    name: app1-service", "\tname: app1-service"), 6, "indented with a tab"),
        (SHOP.replace("    name: app1-service", "      name: app1-service"), 6, "indented deeper than `virtualName`"),
        (format!("virtualServices: {{a: 1}}\n{}", "b: 1"), 1, "must be a list"),
        ("{virtualServices: }".to_owned(), 1, "in braces"),
    ] {
        let fault = upsert(&text, "values.yaml", None, &changed).expect_err(why);
        assert!(fault.message.contains(why), "{why}: {}", fault.message);
        assert_eq!((fault.code, fault.place.as_ref().map(|p| p.line)), (Code::FileInvalid, Some(line)), "{why}: {fault:?}");
    }
}

#[test]
fn an_entry_without_sense_is_refused() {
    for bad in [entry("a", 0, &[("p", &["a.b"])], None), entry("a", 1, &[], None), entry("a", 1, &[("p", &["a b"])], None)] {
        assert_eq!(upsert("", "v", None, &bad).expect_err("refused").code, Code::FileInvalid);
    }
}

#[test]
fn an_entry_is_removed_with_its_lines_alone() {
    let two = upserted(SHOP, &app2()).text;
    let without = |text: &str, name: &str| remove(text, "v", None, name).unwrap_or_else(|fault| panic!("{fault:?}"));
    assert_eq!(without(&two, "app2-virtual-svc").text, SHOP);
    let gone = without(SHOP, "app1-virtual-svc");
    let expected = "# head ä\nother: 1\nvirtualServices: []\n  # team bi\n\n# tail\nz: 1\n";
    assert_eq!((gone.effect, gone.text.as_str()), (Effect::Removed, expected));
    assert_eq!(without(SHOP, "none").effect, Effect::Unchanged);
    let flow = "virtualServices: [{virtualName: a, x: 1}, {virtualName: b}]\n";
    assert_eq!(without(flow, "a").text, "virtualServices: [{virtualName: b}]\n");
    assert_eq!(without(flow, "b").text, "virtualServices: [{virtualName: a, x: 1}]\n");
}

#[test]
fn a_difference_is_shown_as_a_unified_diff() {
    let diff = diff("mesh/values.yaml", "a: 1\n", "a: 2\n");
    assert_eq!(diff, "--- a/mesh/values.yaml\n+++ b/mesh/values.yaml\n@@ -1 +1 @@\n-a: 1\n+a: 2\n");
    assert_eq!(super::diff("f", "a", "a"), "");
}
