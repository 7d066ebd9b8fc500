//! A tree against a JSON Schema as schemars writes it: every mismatch at once, in words for people.

use regex::Regex;
use serde_json::Value;

use crate::base::finding::{Finding, Level};
use crate::base::text;
use crate::base::yaml::{Kind, Node, Rules, Source, Style, is_ambiguous_number, is_yaml11_boolean};

/// A pattern of the schema, what it stands for (`a duration such as 5m`), and a finer test than the pattern.
pub type Shape = (&'static str, &'static str, fn(&str) -> bool);

/// How a tree is checked.
pub struct Checker<'a> {
    pub source: &'a Source,
    pub schema: &'a Value,
    pub rules: Rules,
    /// How an unknown key is reported.
    pub unknown: Level,
    pub shapes: &'a [Shape],
}

impl Checker<'_> {
    /// The findings of a tree without aliases ([`Node::expand`]). `name`: what messages call the whole.
    pub fn check(&self, node: &Node, name: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.node(node, self.schema, name, node, &mut findings);
        findings
    }

    fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let mut schema = schema;
        for _ in 0..8 {
            let target = schema.get("$ref").and_then(Value::as_str).and_then(|r| self.schema.pointer(r.trim_start_matches('#')));
            match target {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    fn node(&self, node: &Node, schema: &Value, name: &str, at: &Node, findings: &mut Vec<Finding>) {
        let schema = self.resolve(schema);
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.node(node, part, name, at, findings);
        }
        if let Some(branches) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            self.branches(node, branches, name, at, findings);
            return;
        }
        if let Some(allowed) = allowed_words(schema) {
            self.word(node, &allowed, name, at, findings);
            return;
        }
        if !admits(schema, node, self.rules) {
            findings.push(self.mismatch(node, &expected(schema), name, at));
            return;
        }
        match &node.kind {
            Kind::Map { entries, .. } => self.map(node, entries, schema, name, at, findings),
            Kind::List { items, .. } => self.list(node, items, schema, name, findings),
            _ => self.scalar(node, schema, name, findings),
        }
    }

    fn map(&self, node: &Node, entries: &[(Node, Node)], schema: &Value, name: &str, at: &Node, findings: &mut Vec<Finding>) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let known: Vec<&str> = properties.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let additional = schema.get("additionalProperties");
        for (key, value) in entries {
            let Some(text) = key.text() else { continue };
            if key.style() == Some(Style::Plain) && is_yaml11_boolean(text) {
                findings.push(
                    self.source
                        .error(&key.span, format!("the key `{text}` is a boolean to older YAML readers"))
                        .hint(format!("quote it: \"{text}\"")),
                );
            } else if let Some(property) = properties.and_then(|p| p.get(text)) {
                self.node(value, property, &format!("`{text}`"), nonempty(value, key), findings);
            } else if additional == Some(&Value::Bool(false)) {
                findings.push(self.unknown_key(key, text, &known, entries, name));
            } else if let Some(schema) = additional.filter(|a| a.is_object()) {
                self.node(value, schema, &format!("`{text}`"), nonempty(value, key), findings);
            }
        }
        for missing in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if node.get(missing).is_none() {
                let why = properties.and_then(|p| p.get(missing)).and_then(|p| p.get("description")).and_then(Value::as_str);
                let finding = self.source.error(&first_line(self.source, at), format!("`{missing}` is missing in {name}"));
                findings.push(match why {
                    Some(why) => finding.hint(format!("add `{missing}:` ({})", words(why))),
                    None => finding.hint(format!("add `{missing}:`")),
                });
            }
        }
    }

    fn unknown_key(&self, key: &Node, text: &str, known: &[&str], entries: &[(Node, Node)], name: &str) -> Finding {
        let free: Vec<&str> = known.iter().copied().filter(|k| !entries.iter().any(|(key, _)| key.text() == Some(k))).collect();
        let message = format!("unknown key `{text}` in {name}");
        let finding = match self.unknown {
            Level::Error => self.source.error(&key.span, message),
            Level::Warning => self.source.warning(&key.span, message),
        };
        match text::nearest(text, free) {
            Some(near) => finding.hint(format!("did you mean `{near}`?")),
            None => finding.hint(format!("keys here: {}", known.join(", "))),
        }
    }

    fn list(&self, node: &Node, items: &[Node], schema: &Value, name: &str, findings: &mut Vec<Finding>) {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        if let Some(min) = bound("minItems").filter(|&min| items.len() < min) {
            findings.push(self.source.error(&node.span, format!("{name} needs at least {}", text::count(min, "item"))));
        }
        if let Some(max) = bound("maxItems").filter(|&max| items.len() > max) {
            findings.push(self.source.error(&node.span, format!("{name} may have at most {}", text::count(max, "item"))));
        }
        let Some(schema) = schema.get("items") else { return };
        for item in items {
            self.node(item, schema, &format!("an item of {name}"), item, findings);
        }
    }

    fn scalar(&self, node: &Node, schema: &Value, name: &str, findings: &mut Vec<Finding>) {
        let written = node.text().unwrap_or_default();
        let quoted = node.style() != Some(Style::Plain);
        let value = node.scalar(self.rules).unwrap_or_default();
        if !quoted && is_ambiguous_number(written) && value.is_number() {
            let plain = written.trim_start_matches(['+', '-']).trim_start_matches('0');
            let finding = self.source.error(&node.span, format!("{name} is `{written}`, which YAML readers take for octal or decimal"));
            findings.push(finding.hint(format!("write {}, or quote it", if plain.is_empty() { "0" } else { plain })));
            return;
        }
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        if let Some(number) = value.as_f64() {
            let (min, max) = (bound("minimum"), bound("maximum"));
            if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
                let range = match (min, max) {
                    (Some(min), Some(max)) if min >= max => format!("must be {min}"),
                    (Some(min), Some(max)) => format!("must be between {min} and {max}"),
                    (Some(min), None) => format!("must be at least {min}"),
                    (_, max) => format!("must be at most {}", max.unwrap_or_default()),
                };
                findings.push(self.source.error(&node.span, format!("{name} {range}, but is {written}")));
            }
        }
        let Some(text) = value.as_str() else { return };
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
            let shape = self.shapes.iter().find(|(p, ..)| *p == pattern);
            let fits = Regex::new(pattern).is_ok_and(|regex| regex.is_match(text)) && shape.is_none_or(|(_, _, test)| test(text));
            if !fits {
                let expected = shape.map_or_else(|| format!("of the form {pattern}"), |(_, words, _)| (*words).to_owned());
                findings.push(self.source.error(&node.span, format!("{name} must be {expected}, but is {}", seen(node, self.rules))));
            }
        }
        let length = text.chars().count() as f64;
        if bound("minLength").is_some_and(|min| length < min) {
            findings.push(self.source.error(&node.span, format!("{name} is too short")));
        }
        if bound("maxLength").is_some_and(|max| length > max) {
            findings.push(self.source.error(&node.span, format!("{name} is too long")));
        }
        if !quoted && self.rules == Rules::Core && is_yaml11_boolean(text) {
            let finding = self.source.warning(&node.span, format!("{name} is `{text}`, which older YAML readers take for a boolean"));
            findings.push(finding.hint(format!("quote it: \"{text}\"")));
        }
    }

    /// The branch that fits, else the findings of the one that was most likely meant.
    fn branches(&self, node: &Node, branches: &[Value], name: &str, at: &Node, findings: &mut Vec<Finding>) {
        let branches: Vec<&Value> = branches.iter().map(|branch| self.resolve(branch)).collect();
        let words: Vec<String> = branches.iter().filter_map(|b| allowed_words(b)).flatten().collect();
        if !words.is_empty() && branches.iter().all(|b| allowed_words(b).is_some() || is_null_schema(b)) {
            let nullable = branches.iter().any(|b| is_null_schema(b));
            if !(nullable && node.is_null()) {
                self.word(node, &words, name, at, findings);
            }
            return;
        }
        let mut tried: Vec<(usize, usize, Vec<Finding>, &Value)> = Vec::new();
        for &branch in branches.iter().filter(|branch| admits(branch, node, self.rules)) {
            let mut found = Vec::new();
            self.node(node, branch, name, at, &mut found);
            let errors = found.iter().filter(|f| f.is_error()).count();
            if errors == 0 {
                findings.extend(found);
                return;
            }
            let known = node
                .entries()
                .unwrap_or_default()
                .iter()
                .filter(|(k, _)| branch.pointer(&format!("/properties/{}", k.text().unwrap_or_default())).is_some());
            tried.push((known.count(), errors, found, branch));
        }
        // A branch that names the node's type was more likely meant than one that admits anything.
        tried.sort_by_key(|(known, errors, _, branch)| (std::cmp::Reverse(*known), branch.get("type").is_none(), *errors));
        let undecided = tried.len() > 1 && tried[0].0 == 0 && node.entries().is_some();
        match tried.into_iter().next() {
            None => {
                let kinds: Vec<String> = branches.iter().filter(|b| !is_null_schema(b)).map(|b| expected(b)).collect();
                findings.push(self.mismatch(node, &kinds.join(" or "), name, at));
            }
            Some(_) if undecided => {
                let sets: Vec<String> = branches.iter().map(|b| required(b)).filter(|set| !set.is_empty()).collect();
                findings.push(self.source.error(&first_line(self.source, at), format!("{name} must have {}", sets.join(", or "))));
            }
            Some((.., found, _)) => findings.extend(found),
        }
    }

    fn word(&self, node: &Node, allowed: &[String], name: &str, at: &Node, findings: &mut Vec<Finding>) {
        let value = node.scalar(self.rules);
        let given = value.as_ref().and_then(Value::as_str);
        if given.is_some_and(|given| allowed.iter().any(|word| word == given)) {
            return;
        }
        let list: Vec<String> = allowed.iter().map(|word| format!("`{word}`")).collect();
        let one_of = if list.len() == 1 { format!("must be {}", list[0]) } else { format!("must be one of {}", list.join(", ")) };
        let span = if node.span.is_empty() { &at.span } else { &node.span };
        let finding = self.source.error(span, format!("{name} {one_of}, but is {}", seen(node, self.rules)));
        findings.push(match given.and_then(|given| text::nearest(given, allowed.iter().map(String::as_str))) {
            Some(near) => finding.hint(format!("did you mean `{near}`?")),
            None => finding,
        });
    }

    fn mismatch(&self, node: &Node, expected: &str, name: &str, at: &Node) -> Finding {
        let plain = node.style() == Some(Style::Plain);
        let written = node.text().unwrap_or_default();
        let value = node.scalar(self.rules);
        let span = if node.span.is_empty() {
            at.span.clone()
        } else if node.style().is_some() {
            node.span.clone()
        } else {
            first_line(self.source, node)
        };
        let found = if plain && self.rules == Rules::Helm && is_yaml11_boolean(written) {
            format!("Helm reads `{written}` as {}", value.clone().unwrap_or_default())
        } else {
            format!("is {}", seen(node, self.rules))
        };
        let finding = self.source.error(&span, format!("{name} must be {expected}, but {found}"));
        match value {
            Some(Value::Number(_) | Value::Bool(_)) if expected.contains("text") => finding.hint(format!("quote it: \"{written}\"")),
            Some(Value::String(text)) if expected.contains("number") && text.parse::<i64>().is_ok() && !plain => finding.hint("remove the quotes"),
            Some(Value::String(text)) if expected.contains("true or false") && is_yaml11_boolean(&text) => {
                finding.hint(format!("write {}", ["y", "yes", "on"].contains(&text.to_ascii_lowercase().as_str())))
            }
            Some(Value::String(text)) if expected.starts_with("a list") => finding.hint(format!("write it as a list: [{text}]")),
            Some(Value::Null) => finding.hint("give it a value, or remove the key"),
            None if expected == "text" && node.items().is_none() => {
                finding.hint("is something below it indented too deep? Quote the text if it starts with a brace")
            }
            _ => finding,
        }
    }
}

/// Does the type of the node fit the schema's?
fn admits(schema: &Value, node: &Node, rules: Rules) -> bool {
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => return true,
    };
    let is = |name: &str| types.contains(&name);
    match (&node.kind, node.scalar(rules)) {
        (Kind::List { .. }, _) => is("array"),
        (Kind::Map { .. }, _) => is("object"),
        (_, Some(Value::Null)) => is("null"),
        (_, Some(Value::Bool(_))) => is("boolean"),
        (_, Some(Value::String(_))) => is("string"),
        (_, Some(Value::Number(n))) => is("number") || (is("integer") && !n.is_f64()),
        _ => false,
    }
}

/// The words of an `enum` or `const` of texts.
fn allowed_words(schema: &Value) -> Option<Vec<String>> {
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![word.to_owned()]);
    }
    let words = schema.get("enum")?.as_array()?;
    words.iter().map(|word| word.as_str().map(str::to_owned)).collect()
}

fn is_null_schema(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// What a schema wants, in words.
fn expected(schema: &Value) -> String {
    let word = |name: &str| match name {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a map",
        _ => "empty",
    };
    let described = |name: &str| match required(schema) {
        keys if name == "object" && !keys.is_empty() => format!("a map with {keys}"),
        _ => word(name).to_owned(),
    };
    match schema.get("type") {
        Some(Value::String(one)) => described(one),
        Some(Value::Array(many)) => {
            many.iter().filter_map(Value::as_str).filter(|name| *name != "null").map(described).collect::<Vec<_>>().join(" or ")
        }
        _ => "something else".to_owned(),
    }
}

/// `name` and `region`: the keys that a map must have.
fn required(schema: &Value) -> String {
    let keys = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    keys.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ")
}

/// What stands in the file, in words.
fn seen(node: &Node, rules: Rules) -> String {
    match (&node.kind, node.scalar(rules)) {
        (Kind::List { .. }, _) => "a list".to_owned(),
        (Kind::Map { .. }, _) => "a map".to_owned(),
        (_, Some(Value::Null)) => "empty".to_owned(),
        (_, Some(Value::Bool(b))) => b.to_string(),
        (_, Some(Value::Number(n))) => format!("the number {n}"),
        (_, Some(Value::String(s))) => format!("the text `{}`", text::head(&s, 60)),
        _ => "something else".to_owned(),
    }
}

/// An empty value is shown by its key.
fn nonempty<'n>(value: &'n Node, key: &'n Node) -> &'n Node {
    if value.span.is_empty() || value.is_block_collection() { key } else { value }
}

/// The part of a node that is on its first line.
fn first_line(source: &Source, node: &Node) -> std::ops::Range<usize> {
    let line = source.line_index(node.span.start);
    let end = source.line_range(line).start + source.line(line).len();
    node.span.start..node.span.end.min(end).max(node.span.start)
}

/// A description's first sentence, without its full stop.
fn words(description: &str) -> String {
    let one = text::one_line(description);
    let end = one.match_indices(". ").find(|(at, _)| one[at + 2..].starts_with(char::is_uppercase)).map_or(one.len(), |(at, _)| at);
    one[..end].trim_end_matches('.').to_owned()
}
