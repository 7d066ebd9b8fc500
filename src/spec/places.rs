//! Where each value of a tree stands, by JSON pointer, and back.

use crate::base::place::Places;
use crate::base::yaml::{Kind, Node, Source, pointer};

pub(super) fn of(tree: &Node, source: &Source) -> Places {
    let mut places = Places::default();
    walk(tree, "", source, &mut places);
    places
}

/// The node at a JSON pointer, or its nearest ancestor that is there.
pub(super) fn find<'n>(tree: &'n Node, at: &str) -> &'n Node {
    let mut node = tree;
    for segment in at.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        let next = match &node.kind {
            Kind::List { items, .. } => segment.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => node.get(&segment),
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

fn walk(node: &Node, at: &str, source: &Source, places: &mut Places) {
    places.insert(at, source.place(node.span.start));
    for (index, item) in node.items().unwrap_or_default().iter().enumerate() {
        walk(item, &pointer(at, &index.to_string()), source, places);
    }
    for (key, value) in node.entries().unwrap_or_default() {
        let below = pointer(at, key.text().unwrap_or_default());
        walk(value, &below, source, places);
        if value.is_block_collection() || value.span.is_empty() {
            // What is written in the lines below is shown by its key.
            places.insert(below, source.place(key.span.start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::yaml::parse_one;

    #[test]
    fn values_are_found_by_pointer_and_have_places() {
        let source = Source::new("f", "a:\n  - b: 1\n    c/d: [x]\ne: {f: g}\n");
        let tree = parse_one(&source).expect("yaml").expect("a value");
        let places = of(&tree, &source);
        for (at, place, text) in [
            ("/a", "f:1:1", None),
            ("/a/0", "f:2:5", None),
            ("/a/0/c~1d/0", "f:3:11", Some("x")),
            ("/e/f", "f:4:8", Some("g")),
            ("/e/x", "f:4:4", None),
        ] {
            assert_eq!(places.at(at).map(ToString::to_string).as_deref(), Some(place), "{at}");
            assert_eq!(find(&tree, at).text(), text, "{at}");
        }
    }
}
