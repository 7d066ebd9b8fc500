//! Adding and removing items of a list, written in lines or in brackets.

use crate::base::yaml::{Kind, Node, Source};
use crate::domain::routes::edit::patch::Patch;
use crate::domain::routes::edit::render;
use crate::domain::routes::edit::style::{Layout, Quote, dash};
use crate::domain::routes::{Entry, EntryNamespace};

/// A new item.
#[derive(Clone, Debug)]
pub(super) enum Fresh<'e> {
    Text(&'e str, Quote),
    /// An item that only moves: as it was written, with its comment.
    Moved(usize),
    Namespace(&'e EntryNamespace),
    Entry(&'e Entry),
}

/// What happens to a list: items to drop, and new ones behind an item that stays (`None`: at the start).
#[derive(Debug, Default)]
pub(super) struct Plan<'e> {
    pub(super) drop: Vec<usize>,
    pub(super) add: Vec<(Option<usize>, Vec<Fresh<'e>>)>,
}

impl<'e> Plan<'e> {
    /// From these texts to those. Without an order, what stays keeps its place and new texts follow.
    pub(super) fn texts(now: &[String], wanted: &'e [String], ordered: bool, quote: Quote) -> Self {
        let stays = if ordered { common(now, wanted) } else { first_uses(now, wanted) };
        let mut plan = Plan { drop: (0..now.len()).filter(|i| !stays.contains(i)).collect(), add: Vec::new() };
        let mut behind = if ordered { None } else { stays.last().copied() };
        let mut left = stays.iter().copied().peekable();
        let mut fresh = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        for text in wanted {
            if ordered && left.peek().is_some_and(|&i| now[i] == *text) {
                if !fresh.is_empty() {
                    plan.add.push((behind, std::mem::take(&mut fresh)));
                }
                behind = left.next();
            } else if ordered || (!now.contains(text) && !seen.contains(&text.as_str())) {
                let moved = plan.drop.iter().copied().find(|&i| now[i] == *text).filter(|_| ordered && !seen.contains(&text.as_str()));
                fresh.push(moved.map_or(Fresh::Text(text, quote), Fresh::Moved));
            }
            seen.push(text);
        }
        if !fresh.is_empty() {
            plan.add.push((behind, fresh));
        }
        plan
    }

    pub(super) fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.add.is_empty()
    }
}

/// The first item of each wanted text.
fn first_uses(now: &[String], wanted: &[String]) -> Vec<usize> {
    (0..now.len()).filter(|&i| wanted.contains(&now[i]) && !now[..i].contains(&now[i])).collect()
}

/// The items of `now` in a longest common subsequence with `wanted`.
fn common(now: &[String], wanted: &[String]) -> Vec<usize> {
    let mut best = vec![vec![0usize; wanted.len() + 1]; now.len() + 1];
    for i in (0..now.len()).rev() {
        for j in (0..wanted.len()).rev() {
            best[i][j] = if now[i] == wanted[j] { best[i + 1][j + 1] + 1 } else { best[i + 1][j].max(best[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut stays) = (0, 0, Vec::new());
    while i < now.len() && j < wanted.len() {
        if now[i] == wanted[j] {
            stays.push(i);
            (i, j) = (i + 1, j + 1);
        } else if best[i + 1][j] >= best[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    stays
}

/// Why a list is not edited.
pub(super) type Refusal = (usize, String);

/// The patches that carry out a plan.
pub(super) fn edit(source: &Source, list: &Node, plan: &Plan<'_>, layout: &Layout) -> Result<Vec<Patch>, Refusal> {
    if plan.is_empty() {
        return Ok(Vec::new());
    }
    match &list.kind {
        Kind::List { flow: true, items } => in_brackets(source, list, items, plan, layout),
        Kind::List { flow: false, items } => in_lines(source, list, items, plan, layout),
        _ => Err((list.span.start, "the list is not written out here".to_owned())),
    }
}

fn in_lines(source: &Source, list: &Node, items: &[Node], plan: &Plan<'_>, layout: &Layout) -> Result<Vec<Patch>, Refusal> {
    let mut dashes = Vec::new();
    for item in items {
        let at = dash(source, item).filter(|&dash| source.text[source.line_range(source.line_index(dash)).start..dash].bytes().all(|b| b == b' '));
        dashes.push(at.ok_or((item.span.start, "this item does not start on a line of its own with a dash".to_owned()))?);
    }
    let Some((&first_dash, first)) = dashes.first().zip(items.first()) else { return Err((list.span.start, "the list has no items".to_owned())) };
    let (column, gap) = (source.indent(first_dash), first.span.start - first_dash);
    let spaced = items.len() > 1 && (1..items.len()).all(|i| gap_lines(source, &items[i - 1], dashes[i], column));
    let mut patches = Vec::new();
    for &index in &plan.drop {
        let mut first = source.line_index(dashes[index]);
        if spaced && index > 0 && source.line(first - 1).trim().is_empty() {
            // The empty line between entries goes with the entry behind it.
            first -= 1;
        }
        let last = last_line(source, &items[index], column);
        patches.push(Patch::replace(source.line_range(first).start..source.line_range(last).end, ""));
    }
    for (behind, fresh) in &plan.add {
        let mut lines = Vec::new();
        for new in fresh {
            if spaced && matches!(new, Fresh::Entry(_) | Fresh::Namespace(_)) {
                lines.push(String::new());
            }
            lines.extend(match new {
                Fresh::Text(text, quote) => vec![render::text_block(&render::scalar(text, *quote, false), column, gap)],
                Fresh::Moved(index) => vec![source.line(source.line_index(dashes[*index])).to_owned()],
                Fresh::Namespace(namespace) => render::namespace_block(namespace, column, gap, layout),
                Fresh::Entry(entry) => render::entry_block(entry, column, layout),
            });
        }
        patches.push(match behind {
            Some(index) => Patch::lines_after(source, last_line(source, &items[*index], column), &lines),
            None => Patch::lines_before(source, source.line_index(first_dash), &lines),
        });
    }
    Ok(patches)
}

/// The last line of an item: that of its last value, and comments behind it that are indented deeper than the dash.
pub(super) fn last_line(source: &Source, item: &Node, dash_column: usize) -> usize {
    let end = item.span.start + source.text[item.span.clone()].trim_end().len();
    let mut line = source.line_index(end);
    while line + 1 < source.line_count() {
        let next = source.line(line + 1);
        let body = next.trim_start_matches(' ');
        if !(body.starts_with('#') && next.len() - body.len() > dash_column) {
            break;
        }
        line += 1;
    }
    line
}

/// Is there an empty line between an item and the next one's dash?
fn gap_lines(source: &Source, item: &Node, next_dash: usize, column: usize) -> bool {
    (last_line(source, item, column) + 1..source.line_index(next_dash)).any(|line| source.line(line).trim().is_empty())
}

fn in_brackets(source: &Source, list: &Node, items: &[Node], plan: &Plan<'_>, layout: &Layout) -> Result<Vec<Patch>, Refusal> {
    let inner = list.span.start + 1..list.span.end - 1;
    let mut patches = Vec::new();
    let mut index = 0;
    while index < items.len() {
        if !plan.drop.contains(&index) {
            index += 1;
            continue;
        }
        let first = index;
        while index < items.len() && plan.drop.contains(&index) {
            index += 1;
        }
        let range = if index < items.len() {
            items[first].span.start..items[index].span.start
        } else {
            let from = if first == 0 { items[0].span.start } else { items[first - 1].span.end };
            from..items[index - 1].span.end
        };
        if source.text[range.clone()].contains('\n') {
            return Err((range.start, "an item cannot be taken out of brackets over several lines".to_owned()));
        }
        patches.push(Patch::replace(range, ""));
    }
    let nothing_stays = plan.drop.len() == items.len();
    for (behind, fresh) in &plan.add {
        let texts: Vec<String> = fresh
            .iter()
            .map(|new| match new {
                Fresh::Text(text, quote) => render::scalar(text, *quote, true),
                Fresh::Moved(index) => source.text[items[*index].span.clone()].to_owned(),
                Fresh::Namespace(namespace) => render::namespace_flow(namespace, layout),
                Fresh::Entry(entry) => render::entry_flow(entry, layout),
            })
            .collect();
        let joined = texts.join(", ");
        patches.push(match behind {
            Some(index) => Patch::insert(items[*index].span.end, format!(", {joined}")),
            None if nothing_stays => Patch::insert(items.first().map_or(inner.start, |item| item.span.start), joined),
            None => Patch::insert(items[0].span.start, format!("{joined}, ")),
        });
    }
    Ok(patches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &str) -> Vec<String> {
        list.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_plan_touches_as_few_items_as_it_can() {
        for (now, wanted, ordered, drop, add) in [
            ("a b", "b a", false, "[]", "[]"),
            ("a b", "a c b", false, "[]", "[(Some(1), [c])]"),
            ("a b", "a c b", true, "[]", "[(Some(0), [c])]"),
            ("a b c", "c", false, "[0, 1]", "[]"),
            ("/ /api", "/api /", true, "[0]", "[(Some(1), [moved 0])]"),
            ("a", "b c", true, "[0]", "[(None, [b, c])]"),
            ("a a b", "a b", false, "[1]", "[]"),
            ("", "a", true, "[]", "[(None, [a])]"),
        ] {
            let (now, wanted) = (texts(now), texts(wanted));
            let plan = Plan::texts(&now, &wanted, ordered, Quote::None);
            let name = |fresh: &Fresh<'_>| match fresh {
                Fresh::Text(text, _) => (*text).to_owned(),
                Fresh::Moved(index) => format!("moved {index}"),
                other => format!("{other:?}"),
            };
            let added: Vec<String> =
                plan.add.iter().map(|(behind, fresh)| format!("({behind:?}, [{}])", fresh.iter().map(name).collect::<Vec<_>>().join(", "))).collect();
            assert_eq!((format!("{:?}", plan.drop), format!("[{}]", added.join(", "))), (drop.to_owned(), add.to_owned()), "{now:?} to {wanted:?}");
        }
    }
}
