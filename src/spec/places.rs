//! Where each value of a tree stands, by JSON pointer.

use crate::base::place::Places;
use crate::base::yaml::{Kind, Node, Source, pointer};

pub(super) fn of(tree: &Node, source: &Source) -> Places {
    let mut places = Places::default();
    walk(tree, "", source, &mut places);
    places
}

fn walk(node: &Node, at: &str, source: &Source, places: &mut Places) {
    places.insert(at, source.place(node.span.start));
    match &node.kind {
        Kind::List { items, .. } => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &pointer(at, &index.to_string()), source, places);
            }
        }
        Kind::Map { entries, .. } => {
            for (key, value) in entries {
                walk(value, &pointer(at, key.text().unwrap_or_default()), source, places);
            }
        }
        Kind::Scalar { .. } | Kind::Alias(_) => {}
    }
}
