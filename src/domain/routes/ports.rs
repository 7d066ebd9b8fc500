//! Which route leads to a port that its Service does not have.

use crate::domain::routes::{Entry, Listed};

/// Where a route stands.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In `routes.upsert`, at this index.
    Upsert(usize),
    /// In the values file.
    Listed(&'a Listed),
}

/// The first route to a Service (name and namespace) whose port is none of `ports`. What `upsert` puts into the values file is not read there.
pub fn astray<'a>(upsert: &'a [Entry], listed: &'a [Listed], service: (&str, &str), ports: &[i32]) -> Option<(&'a Entry, Source<'a>)> {
    let kept = listed.iter().filter(|listed| upsert.iter().all(|entry| entry.virtual_name != listed.entry.virtual_name));
    let upsert = upsert.iter().enumerate().map(|(index, entry)| (entry, Source::Upsert(index)));
    upsert.chain(kept.map(|listed| (&listed.entry, Source::Listed(listed)))).find(|(entry, _)| {
        let here = entry.name == service.0 && entry.namespaces.iter().any(|namespace| namespace.name == service.1);
        here && !ports.contains(&i32::from(entry.port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::place::Places;
    use crate::domain::routes::EntryNamespace;

    #[test]
    fn a_route_to_a_port_that_is_not_there_is_found() {
        let entry = |virtual_name: &str, name: &str, namespace: &str, port| Entry {
            virtual_name: virtual_name.into(),
            name: name.into(),
            port,
            namespaces: vec![EntryNamespace { name: namespace.into(), hosts: Vec::new() }],
            prefixes: None,
        };
        let app = |port| entry("app-virtual-svc", "app", "prod", port);
        for (upsert, listed, expected) in [
            (vec![app(8000)], vec![], None),
            (vec![app(9000)], vec![], Some("upsert")),
            (vec![], vec![app(9000)], Some("listed")),
            (vec![], vec![app(8000)], None),
            // It is about to be replaced.
            (vec![app(8000)], vec![app(9000)], None),
            (vec![], vec![entry("app-virtual-svc", "app", "pre-prod", 9000), entry("other", "other", "prod", 9000)], None),
        ] {
            let listed: Vec<Listed> = listed.into_iter().map(|entry| Listed { entry, places: Places::default() }).collect();
            let found = astray(&upsert, &listed, ("app", "prod"), &[8000, 15021]).map(|(_, from)| match from {
                Source::Upsert(_) => "upsert",
                Source::Listed(_) => "listed",
            });
            assert_eq!(found, expected, "{upsert:?} {listed:?}");
        }
    }
}
