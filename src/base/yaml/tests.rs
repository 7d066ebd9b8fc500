//! Trees, syntax errors and schema mismatches, as tables.

use super::schema::Checker;
use super::*;
use crate::base::finding::{Level, render};

fn shown(text: &str) -> String {
    let (_, findings) = parse(&Source::new("f.yaml", text));
    render(&findings)
}

fn one(text: &str) -> Node {
    parse_one(&Source::new("f.yaml", text)).unwrap_or_else(|findings| panic!("{}", render(&findings))).expect("a value")
}

#[test]
fn every_node_knows_its_bytes() {
    let text = "a: ä\r\nb:\r\n  - x # c\r\n  - \"y\"\r\nc:\r\nd: [1, {e: f}]\r\n";
    let root = one(text);
    let bytes = |node: &Node| &text[node.span.clone()];
    let b = root.get("b").expect("b");
    assert_eq!(bytes(b), "- x # c\r\n  - \"y\"");
    assert_eq!(b.items().expect("items").iter().map(bytes).collect::<Vec<_>>(), ["x", "\"y\""]);
    assert_eq!(bytes(root.get("d").expect("d")), "[1, {e: f}]");
    let c = root.get("c").expect("c");
    assert!(c.is_null() && c.span.is_empty());
    assert_eq!(c.span.start, text.find("c:\r").expect("c") + 2);
    assert_eq!(bytes(root.get("a").expect("a")), "ä");
}

#[test]
fn documents_without_values_are_empty_and_two_are_one_too_many() {
    for text in ["", "# only a comment\n", "\u{feff}", "---\n"] {
        assert_eq!(parse_one(&Source::new("f", text)), Ok(None), "{text:?}");
    }
    let findings = parse_one(&Source::new("f", "a: 1\n---\nb: 1\n")).expect_err("two");
    assert_eq!((findings[0].place.line, findings[0].message.as_str()), (3, "a second document starts here"));
}

#[test]
fn syntax_errors_say_what_to_change() {
    for (text, message, place, hint) in [
        (
            "virtualServices:\n  - virtualName: a\n      name: b\n      port: 1\n",
            "`name` is indented deeper than `virtualName` on line 2, which has a value already",
            "3:7",
            "put `name` and the keys after it in column 5, below `virtualName`",
        ),
        ("a: 1\n b: 2\n", "`b` is indented deeper than `a` on line 1", "2:2", "put `b` in column 1"),
        ("a:\n  b: 1\n c: 2\n", "the indentation of `c` fits no line above", "3:2", "column 3 as `b`"),
        ("a:\n\tb: 1\n", "line 2 column 1 is indented with a tab", "2:1", "use spaces"),
        ("- virtualName: a\n  \tname: b\n", "line 2 column 3 is indented with a tab", "2:3", "use spaces"),
        ("a: {name: ${X}}\n", "`${X}` must be quoted inside braces or brackets", "1:11", "write \"${X}\""),
        ("a: 'x\n", "a quoted text starts here and does not end", "1:4", "close the quote"),
        ("a: [1, 2\nb: 1\n", "a `:` is not expected here", "2:2", "close the bracket"),
        ("a: b: c\n", "a `:` is not expected here", "1:5", "quote"),
        ("- a\nb: 1\n", "an item of the list above is expected here", "2:1", "`- `"),
        ("a: *x\n", "this alias names an anchor that does not exist", "1:4", "quote"),
        ("a: &a [*a]\n", "this alias stands for a value that contains it", "1:8", "write the value out"),
        ("a: @x\n", "`@` cannot start a value", "1:4", "quote"),
        ("a: 1\nbcd\n", "a `key: value` is expected here", "2:1", ":"),
        ("a: 1\nb: 2\na: 3\n", "`a` is given twice", "3:1", "remove one"),
        ("a: !thing 1\n", "the tag `!thing` has no meaning here", "1:4", "remove it"),
        ("{a: 1}: 2\n", "a key must be text", "1:1", "quote"),
        ("<<: 1\n", "`<<` merges maps", "1:5", "anchored map"),
        ("a: \u{7}\n", "control character U+0007", "1:4", "remove it"),
    ] {
        let (_, findings) = parse(&Source::new("f", text));
        let finding = findings.first().unwrap_or_else(|| panic!("nothing found in {text:?}"));
        assert!(finding.message.contains(message), "{text:?}: {}", finding.message);
        assert_eq!(finding.place.to_string(), format!("f:{place}"), "{text:?}");
        assert!(finding.hint.as_deref().is_some_and(|h| h.contains(hint)), "{text:?}: {:?}", finding.hint);
    }
}

#[test]
fn a_duplicate_key_shows_both_lines() {
    let shown = shown("name: a\nport: 1\nname: b\n");
    assert!(shown.contains("--> f.yaml:3:1") && shown.contains("::: f.yaml:1:1") && shown.contains("first given here"), "{shown}");
}

#[test]
fn aliases_and_merge_keys_are_resolved_within_a_budget() {
    let root = one("base: &base {a: 1, b: 2}\nx:\n  <<: *base\n  b: 3\ny: *base\n");
    assert_eq!(root.json(Rules::Core).expect("small")["x"], serde_json::json!({"b": 3, "a": 1}));
    assert_eq!(root.json(Rules::Core).expect("small")["y"], serde_json::json!({"a": 1, "b": 2}));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
    }
    assert_eq!(one(&bomb).json(Rules::Core), None);
}

#[test]
fn depth_is_limited() {
    let deep = "[".repeat(5000);
    assert!(shown(&deep).contains("nested too deep"), "{}", shown(&deep));
}

fn against(schema: serde_json::Value, text: &str, rules: Rules) -> Vec<String> {
    let source = Source::new("f", text);
    let node = parse_one(&source).expect("syntax").expect("a value");
    let shapes = [("^[0-9]+s$", "a duration such as 5s", (|t: &str| t.len() < 5) as fn(&str) -> bool)];
    let found = Checker { source: &source, schema: &schema, rules, unknown: Level::Error, shapes: &shapes }.check(&node, "the file");
    found.into_iter().map(|f| format!("{}:{} {} | {}", f.place.line, f.place.column, f.message, f.hint.unwrap_or_default())).collect()
}

#[test]
fn mismatches_are_told_with_what_is_expected_and_found() {
    let schema = serde_json::json!({
        "type": "object", "additionalProperties": false, "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "Name of it. More."},
            "port": {"type": "integer", "minimum": 1, "maximum": 65535},
            "wait": {"type": ["string", "null"], "pattern": "^[0-9]+s$"},
            "on-failure": {"oneOf": [{"const": "keep"}, {"const": "rollback"}]},
            "create": {"type": "boolean"},
            "list": {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Named"}]}},
            "cluster": {"anyOf": [{"$ref": "#/$defs/Named"}, {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}]},
        },
        "$defs": {"Named": {"type": "object", "additionalProperties": false, "required": ["name"], "properties": {"name": {"type": "string"}, "create": {"type": "boolean"}}}}
    });
    for (text, expected) in [
        ("name: a\nport: 80\nwait: 5s\nlist: [a, {name: b}]\non-failure: keep\nwait: 1s\n", ""),
        ("{}", "1:1 `name` is missing in the file | add `name:` (Name of it)"),
        ("nmae: a\nname: b", "1:1 unknown key `nmae` in the file | keys here: name, port, wait, on-failure, create, list, cluster"),
        ("name: b\nprot: 1", "2:1 unknown key `prot` in the file | did you mean `port`?"),
        ("name: b\nkangaroo: 1", "2:1 unknown key `kangaroo` in the file | keys here: name, port, wait, on-failure, create, list, cluster"),
        ("name: 12", "1:7 `name` must be text, but is the number 12 | quote it: \"12\""),
        ("name: true", "1:7 `name` must be text, but is true | quote it: \"true\""),
        ("name:\n", "1:1 `name` must be text, but is empty | give it a value, or remove the key"),
        ("name: on", "1:7 `name` is `on`, which older YAML readers take for a boolean | quote it: \"on\""),
        ("name: a\nport: 70000", "2:7 `port` must be between 1 and 65535, but is 70000 | "),
        ("name: a\nport: \"80\"", "2:7 `port` must be a whole number, but is the text `80` | remove the quotes"),
        ("name: a\nport: 1.5", "2:7 `port` must be a whole number, but is the number 1.5 | "),
        ("name: a\nport: 0080", "2:7 `port` is `0080`, which YAML readers take for octal or decimal | write 80, or quote it"),
        ("name: a\nwait: 5 minutes", "2:7 `wait` must be a duration such as 5s, but is the text `5 minutes` | "),
        ("name: a\nwait: 99999s", "2:7 `wait` must be a duration such as 5s, but is the text `99999s` | "),
        ("name: a\non-failure: kep", "2:13 `on-failure` must be one of `keep`, `rollback`, but is the text `kep` | did you mean `keep`?"),
        ("name: a\ncreate: yes", "2:9 `create` must be true or false, but is the text `yes` | write true"),
        ("name: a\nlist: a", "2:7 `list` must be a list, but is the text `a` | write it as a list: [a]"),
        ("name: a\nlist: []", "2:7 `list` needs at least 1 item | "),
        ("name: a\nlist: [[1]]", "2:8 an item of `list` must be text or a map with `name`, but is a list | "),
        ("name: a\nlist: [{create: true}]", "2:8 `name` is missing in an item of `list` | add `name:`"),
        ("name: a\ncluster: {context: 5}", "2:20 `context` must be text, but is the number 5 | quote it: \"5\""),
        ("name: a\ncluster: {}", "2:10 `cluster` must have `name`, or `context` | "),
        ("name: a\nno: 1", "2:1 the key `no` is a boolean to older YAML readers | quote it: \"no\""),
        ("- a", "1:1 the file must be a map with `name`, but is a list | "),
    ] {
        if expected.is_empty() {
            continue;
        }
        assert_eq!(against(schema.clone(), text, Rules::Core), [expected], "{text:?}");
    }
    let helm = against(schema, "name: off", Rules::Helm);
    assert_eq!(helm, ["1:7 `name` must be text, but Helm reads `off` as false | quote it: \"off\""]);
}
