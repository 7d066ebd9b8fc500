//! Which workload is restarted first: pre-prod before prod, and within a namespace callees before their callers.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::names::ObjectName;

/// A workload to restart, as far as the order needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// The Services in front of it, as namespace and name.
    pub services: BTreeSet<(String, String)>,
    /// The Services that it calls, where its access log tells.
    pub calls: BTreeSet<(String, String)>,
}

/// The order. `turn` tells the place of a namespace. A caller whose callee is restarted later would lose it meanwhile: the new pod trusts
/// only the current root. Who calls whom in a circle stays in the order of names.
pub fn order(stops: &BTreeMap<ObjectName, Stop>, turn: impl Fn(&str) -> usize) -> Vec<ObjectName> {
    let mut names: Vec<&ObjectName> = stops.keys().collect();
    names.sort_by_key(|name| (turn(&name.namespace), (*name).clone()));
    let mut done = Vec::new();
    let mut seen = BTreeSet::new();
    for name in names.clone() {
        visit(name, &names, stops, &mut seen, &mut done);
    }
    // Callees come first only within their own turn: prod never overtakes pre-prod.
    done.sort_by_key(|name: &ObjectName| turn(&name.namespace));
    done
}

fn visit<'a>(
    name: &'a ObjectName,
    names: &[&'a ObjectName],
    stops: &'a BTreeMap<ObjectName, Stop>,
    seen: &mut BTreeSet<&'a ObjectName>,
    done: &mut Vec<ObjectName>,
) {
    if !seen.insert(name) {
        return;
    }
    let calls = stops.get(name).map(|stop| &stop.calls);
    let callee = |other: &ObjectName| stops.get(other).zip(calls).is_some_and(|(stop, calls)| !stop.services.is_disjoint(calls));
    for other in names.iter().filter(|other| **other != name && callee(other)) {
        visit(other, names, stops, seen, done);
    }
    done.push(name.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(rows: &[(&str, &str, &[&str])]) -> Vec<String> {
        let stops = rows.iter().map(|(namespace, name, calls)| {
            let own = |name: &str| ((*namespace).to_owned(), name.to_owned());
            let stop = Stop { services: [own(name)].into(), calls: calls.iter().map(|call| own(call)).collect() };
            (ObjectName::new("Deployment", *namespace, *name), stop)
        });
        let turn = |namespace: &str| ["pre-prod", "prod"].iter().position(|n| *n == namespace).unwrap_or(usize::MAX);
        order(&stops.collect(), turn).into_iter().map(|name| format!("{}/{}", name.namespace, name.name)).collect()
    }

    #[test]
    fn callees_come_before_callers_and_pre_prod_before_prod() {
        assert_eq!(
            ordered(&[("prod", "a", &["b"]), ("prod", "b", &["c"]), ("prod", "c", &[]), ("pre-prod", "z", &[])]),
            ["pre-prod/z", "prod/c", "prod/b", "prod/a"]
        );
        assert_eq!(ordered(&[("prod", "b", &[]), ("prod", "a", &[])]), ["prod/a", "prod/b"], "unknown calls: by name");
        assert_eq!(ordered(&[("prod", "a", &["b"]), ("prod", "b", &["a"])]), ["prod/b", "prod/a"], "a circle ends");
        assert_eq!(ordered(&[("other", "a", &[]), ("prod", "b", &[])]), ["prod/b", "other/a"], "a namespace that is not in the file comes last");
    }
}
