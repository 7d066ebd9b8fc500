//! Which routes lead to a Service.

use crate::domain::routes::{Entry, Listed};

/// Where a route stands.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In `routes.upsert`, at this index.
    Upsert(usize),
    /// In the values file.
    Listed(&'a Listed),
}

/// The routes to a Service (name and namespace), each with where it stands. What `upsert` puts into the values file is not read there.
pub fn leading_to<'a>(upsert: &'a [Entry], listed: &'a [Listed], service: (&str, &str)) -> Vec<(&'a Entry, Source<'a>)> {
    let kept = listed.iter().filter(|listed| upsert.iter().all(|entry| entry.virtual_name != listed.entry.virtual_name));
    let upsert = upsert.iter().enumerate().map(|(index, entry)| (entry, Source::Upsert(index)));
    let all = upsert.chain(kept.map(|listed| (&listed.entry, Source::Listed(listed))));
    all.filter(|(entry, _)| entry.name == service.0 && entry.namespaces.iter().any(|namespace| namespace.name == service.1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::place::Places;
    use crate::domain::routes::EntryNamespace;

    #[test]
    fn the_file_is_read_but_for_what_is_about_to_be_replaced() {
        let entry = |virtual_name: &str, name: &str, namespace: &str| Entry {
            virtual_name: virtual_name.into(),
            name: name.into(),
            port: 8000,
            namespaces: vec![EntryNamespace { name: namespace.into(), hosts: Vec::new() }],
            prefixes: None,
        };
        let app = || entry("app-virtual-svc", "app", "prod");
        for (upsert, listed, expected) in [
            (vec![app()], vec![], "upsert"),
            (vec![], vec![app()], "listed"),
            (vec![app()], vec![app()], "upsert"),
            (vec![app()], vec![entry("app-old", "app", "prod")], "upsert listed"),
            (vec![], vec![entry("app-virtual-svc", "app", "pre-prod"), entry("other", "other", "prod")], ""),
        ] {
            let listed: Vec<Listed> = listed.into_iter().map(|entry| Listed { entry, places: Places::default() }).collect();
            let found = leading_to(&upsert, &listed, ("app", "prod")).into_iter().map(|(_, from)| match from {
                Source::Upsert(_) => "upsert",
                Source::Listed(_) => "listed",
            });
            assert_eq!(found.collect::<Vec<_>>().join(" "), expected, "{upsert:?} {listed:?}");
        }
    }
}
