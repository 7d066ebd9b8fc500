//! The laws of the edit, for files of many styles: idempotence, nothing else touched, line breaks kept, the meaning as asked for.

use proptest::prelude::*;

use crate::domain::routes::edit::{Effect, remove, upsert};
use crate::domain::routes::{Entry, EntryNamespace, list};

/// How a generated file is written.
#[derive(Clone, Debug)]
struct Written {
    crlf: bool,
    list_indent: usize,
    inner_indent: usize,
    gap: usize,
    hosts_in_brackets: bool,
    quote: &'static str,
    comments: bool,
    blank_between: bool,
    last_break: bool,
    head: &'static str,
    tail: &'static str,
}

fn written() -> impl Strategy<Value = Written> {
    let heads = prop_oneof![Just(""), Just("# köpf\n\n"), Just("other: {a: [1, 2]}\ntext: |\n  - virtualName\n\n  b\n"), Just("---\n# x\n")];
    let tails = prop_oneof![Just(""), Just("\n# tail\nz: ü\n"), Just("# tail\nz:\n  - 1\n"), Just("\n\n")];
    let quotes = prop_oneof![Just(""), Just("\""), Just("'")];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (flags, prop_oneof![Just(0usize), Just(2), Just(4)], prop_oneof![Just(0usize), Just(2)], prop_oneof![Just(2usize), Just(4)], quotes, heads, tails)
        .prop_map(|((crlf, hosts_in_brackets, comments, blank_between, last_break), list_indent, inner_indent, gap, quote, head, tail)| Written {
            crlf,
            list_indent,
            inner_indent,
            gap,
            hosts_in_brackets,
            quote,
            comments,
            blank_between,
            last_break,
            head,
            tail,
        })
}

fn entry(name: String) -> impl Strategy<Value = Entry> {
    let hosts = || {
        prop::collection::btree_set("[a-z]{1,6}\\.(public|on|ü0)?[a-z]{2}", 1..4)
            .prop_map(|set| set.into_iter().map(|h| h.replace('ü', "u")).collect::<Vec<_>>())
    };
    let namespaces = prop::collection::vec(hosts(), 1..4);
    let prefixes = prop::option::of(prop::sample::subsequence(vec!["/api/v1", "/api", "/no", "/"], 1..4));
    (Just(name), 1u16.., namespaces, prefixes.prop_shuffle_inner()).prop_map(|(name, port, namespaces, prefixes)| Entry {
        virtual_name: format!("{name}-vs"),
        name,
        port,
        namespaces: namespaces
            .into_iter()
            .zip(["prod", "pre-prod", "on"])
            .map(|(hosts, n)| EntryNamespace { name: n.to_owned(), hosts: apart(hosts, n) })
            .collect(),
        prefixes,
    })
}

/// Hosts of one entry must not repeat over its namespaces.
fn apart(hosts: Vec<String>, namespace: &str) -> Vec<String> {
    hosts.into_iter().map(|host| format!("{namespace}.{host}")).collect()
}

/// Shuffles what is in an option.
trait Shuffled {
    fn prop_shuffle_inner(self) -> BoxedStrategy<Option<Vec<String>>>;
}

impl<S: Strategy<Value = Option<Vec<&'static str>>> + 'static> Shuffled for S {
    fn prop_shuffle_inner(self) -> BoxedStrategy<Option<Vec<String>>> {
        (self, any::<bool>())
            .prop_map(|(texts, turned)| {
                texts.map(|mut texts| {
                    if turned {
                        texts.reverse();
                    }
                    texts.into_iter().map(str::to_owned).collect()
                })
            })
            .boxed()
    }
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    (1usize..4).prop_flat_map(|n| (0..n).map(|i| entry(format!("app{i}"))).collect::<Vec<_>>())
}

/// One entry as a person may have written it.
fn block(entry: &Entry, w: &Written) -> String {
    let q = |text: &str| if text == "on" && w.quote.is_empty() { "'on'".to_owned() } else { format!("{0}{text}{0}", w.quote) };
    let (dash, key) = (w.list_indent, w.list_indent + w.gap);
    let gap = " ".repeat(w.gap - 1);
    let pad = |n: usize| " ".repeat(n);
    let note = |text: &str| if w.comments { format!(" # {text} ä") } else { String::new() };
    let mut out = format!("{}-{gap}virtualName: {}{}\n", pad(dash), q(&entry.virtual_name), note("the name"));
    out += &format!("{}port: {}{}\n{}name: {}\n", pad(key), entry.port, note("the port"), pad(key), q(&entry.name));
    out += &format!("{}extra: {{keep: [me, 0777]}}\n{}namespaces:{}\n", pad(key), pad(key), note("where"));
    for namespace in &entry.namespaces {
        let at = key + w.inner_indent;
        out += &format!("{}- name: {}{}\n", pad(at), q(&namespace.name), note("live"));
        if w.hosts_in_brackets {
            out += &format!("{}hosts: [{}]{}\n", pad(at + 2), namespace.hosts.iter().map(|h| q(h)).collect::<Vec<_>>().join(", "), note("all"));
        } else {
            out += &format!("{}hosts:\n", pad(at + 2));
            for host in &namespace.hosts {
                out += &format!("{}- {}{}\n", pad(at + 2 + w.inner_indent), q(host), note("public"));
            }
        }
    }
    if let Some(prefixes) = &entry.prefixes {
        out += &format!("{}prefixes:\n", pad(key));
        for prefix in prefixes {
            out += &format!("{}- {}\n", pad(key + w.inner_indent), q(prefix));
        }
        if w.comments {
            out += &format!("{}# - /old\n", pad(key));
        }
    }
    out
}

/// The file in three parts: all before the entry at `index`, the entry, all behind it.
fn file(entries: &[Entry], w: &Written, index: usize) -> [String; 3] {
    let blocks: Vec<String> = entries.iter().map(|e| block(e, w)).collect();
    let between = if w.blank_between { "\n" } else { "" };
    let before = blocks[..index].iter().map(|b| format!("{b}{between}")).collect::<String>();
    let after = blocks[index + 1..].iter().map(|b| format!("{between}{b}")).collect::<String>();
    let mut parts = [format!("{}virtualServices:\n{before}", w.head), blocks[index].clone(), format!("{after}{}", w.tail)];
    if !w.last_break {
        let last = if parts[2].is_empty() { 1 } else { 2 };
        parts[last] = parts[last].trim_end_matches('\n').to_owned();
    }
    if w.crlf { parts.map(|part| part.replace('\n', "\r\n")) } else { parts }
}

fn kept_breaks(text: &str, w: &Written) -> bool {
    !w.crlf || !text.replace("\r\n", "").contains(['\n', '\r'])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_update_touches_its_entry_alone(entries in entries(), w in written(), pick in any::<prop::sample::Index>(), new in entry("fresh".to_owned())) {
        let index = pick.index(entries.len());
        let [before, old, after] = file(&entries, &w, index);
        let text = format!("{before}{old}{after}");
        let wanted = Entry { virtual_name: entries[index].virtual_name.clone(), name: entries[index].name.clone(), ..new };
        let edited = upsert(&text, "v", None, &wanted).map_err(|fault| TestCaseError::fail(format!("{fault:?}\n{text}")))?;
        prop_assert!(edited.text.starts_with(&before), "{}", edited.text);
        prop_assert!(edited.text.ends_with(&after), "{}", edited.text);
        prop_assert!(kept_breaks(&edited.text, &w), "{:?}", edited.text);
        let again = upsert(&edited.text, "v", None, &wanted).expect("again");
        prop_assert_eq!((again.effect, &again.text), (Effect::Unchanged, &edited.text));
        let listed = list(&edited.text, "v", None).expect("entries");
        for (i, listed) in listed.iter().enumerate() {
            let right = if i == index { &wanted } else { &entries[i] };
            prop_assert!(listed.entry.same_meaning(right), "{:?}", listed.entry);
        }
    }

    #[test]
    fn what_is_there_already_changes_no_byte(entries in entries(), w in written(), pick in any::<prop::sample::Index>()) {
        let index = pick.index(entries.len());
        let text = file(&entries, &w, index).concat();
        let same = upsert(&text, "v", None, &entries[index]).map_err(|fault| TestCaseError::fail(format!("{fault:?}\n{text}")))?;
        prop_assert_eq!((same.effect, same.text), (Effect::Unchanged, text));
    }

    #[test]
    fn an_insert_adds_lines_and_its_removal_gives_the_file_back(entries in entries(), w in written(), new in entry("fresh".to_owned())) {
        let [before, last, after] = file(&entries, &w, entries.len() - 1);
        let text = format!("{before}{last}{after}");
        let edited = upsert(&text, "v", None, &new).map_err(|fault| TestCaseError::fail(format!("{fault:?}\n{text}")))?;
        prop_assert_eq!(edited.effect, Effect::Inserted);
        prop_assert!(edited.text.starts_with(&format!("{before}{last}")) && edited.text.ends_with(&after), "{}", edited.text);
        prop_assert!(kept_breaks(&edited.text, &w), "{:?}", edited.text);
        prop_assert!(list(&edited.text, "v", None).expect("entries").last().is_some_and(|l| l.entry.same_meaning(&new)));
        let back = remove(&edited.text, "v", None, &new.virtual_name).map_err(|fault| TestCaseError::fail(format!("{fault:?}\n{}", edited.text)))?;
        // Only a last line break that was not there stays.
        prop_assert_eq!(back.text.trim_end(), text.trim_end());
    }

    #[test]
    fn no_text_makes_the_edit_panic_or_change_what_it_does_not_say(text in "(virtualServices:|  - virtualName: [ab]|  - |    name: [ab]|    port: 1|- |#|\\[|\\]|\\{|\\}|: |'|\"|&a |\\*a|\n|\r\n|  |\t|ä){0,40}", new in entry("fresh".to_owned())) {
        if let Ok(edited) = upsert(&text, "v", None, &new) {
            prop_assert_eq!(upsert(&edited.text, "v", None, &new).expect("again").effect, Effect::Unchanged);
        }
        let _either = remove(&text, "v", None, "a");
    }
}
