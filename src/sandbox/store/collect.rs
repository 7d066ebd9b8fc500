//! What follows from a deletion: finalizers, dependents by ownerReference, the content of namespaces and of custom kinds.

use serde_json::Value;

use super::meta::{deleting, finalizers, list, metadata, name, namespace, number, text, uid};
use super::{EventKind, Inner, Key, Propagation};

const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

impl Inner {
    fn keys(&self, wanted: impl Fn(&str, &Value) -> bool) -> Vec<Key> {
        let mut keys = Vec::new();
        for (resource, objects) in &self.objects {
            for ((ns, own), object) in objects {
                if wanted(resource, object) {
                    keys.push((resource.clone(), ns.clone(), own.clone()));
                }
            }
        }
        keys
    }

    fn dependents(&self, owner: &str) -> Vec<Key> {
        self.keys(|_, object| list(object, "/metadata/ownerReferences").iter().any(|r| text(r, "/uid") == owner))
    }

    pub(super) fn has_dependents(&self, owner: &str) -> bool {
        !self.dependents(owner).is_empty()
    }

    /// What a namespace or a custom kind still contains.
    fn content(&self, resource: &str, object: &Value) -> Vec<Key> {
        match resource {
            "namespaces" => self.keys(|_, inner| namespace(inner) == name(object)),
            DEFINITIONS => self.keys(|inner, _| inner == name(object)),
            _ => Vec::new(),
        }
    }

    /// Whether an object whose deletion has begun must stay for now.
    pub(super) fn held(&self, resource: &str, object: &Value) -> bool {
        !finalizers(object).is_empty()
            || (resource == "pods" && number(object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0) > 0)
            || !self.content(resource, object).is_empty()
    }

    /// Takes the owner out of its dependents' references.
    pub(super) fn orphan_dependents(&mut self, owner: &str) {
        for key in self.dependents(owner) {
            self.drop_reference(&key, owner);
        }
    }

    fn drop_reference(&mut self, key: &Key, owner: &str) {
        let Some(old) = self.get(&key.0, &key.1, &key.2) else { return };
        let mut new = (*old).clone();
        let left: Vec<Value> = list(&new, "/metadata/ownerReferences").iter().filter(|r| text(r, "/uid") != owner).cloned().collect();
        if left.is_empty() {
            metadata(&mut new).shift_remove("ownerReferences");
        } else {
            metadata(&mut new).insert("ownerReferences".into(), left.into());
        }
        self.put(EventKind::Modified, &key.0, new);
    }

    /// Deletes what only the vanished owner held; others lose the reference.
    pub(super) fn release_dependents(&mut self, owner: &str) {
        for key in self.dependents(owner) {
            let Some(object) = self.get(&key.0, &key.1, &key.2) else { continue };
            let others = list(&object, "/metadata/ownerReferences").iter().any(|r| text(r, "/uid") != owner && self.uids.contains(text(r, "/uid")));
            if others {
                self.drop_reference(&key, owner);
            } else if !deleting(&object) {
                self.begin_deletion(&key, Propagation::Background, None);
            }
        }
    }

    /// Carries every begun deletion as far as it goes.
    pub(super) fn settle(&mut self) {
        loop {
            let before = self.version;
            for key in self.pending.iter().cloned().collect::<Vec<_>>() {
                self.advance(&key);
            }
            if self.version == before {
                return;
            }
        }
    }

    fn advance(&mut self, key: &Key) {
        let Some(object) = self.get(&key.0, &key.1, &key.2) else { return };
        for inner in self.content(&key.0, &object) {
            if self.get(&inner.0, &inner.1, &inner.2).is_some_and(|o| !deleting(&o)) {
                self.begin_deletion(&inner, Propagation::Background, None);
            }
        }
        if finalizers(&object).contains(&"foregroundDeletion") {
            let dependents = self.dependents(uid(&object));
            for dependent in &dependents {
                if self.get(&dependent.0, &dependent.1, &dependent.2).is_some_and(|o| !deleting(&o)) {
                    self.begin_deletion(dependent, Propagation::Foreground, None);
                }
            }
            if dependents.is_empty() {
                let mut new = (*object).clone();
                let left: Vec<Value> = list(&new, "/metadata/finalizers").iter().filter(|f| *f != "foregroundDeletion").cloned().collect();
                metadata(&mut new).insert("finalizers".into(), left.into());
                self.put(EventKind::Modified, &key.0, new);
            }
        }
        let Some(object) = self.get(&key.0, &key.1, &key.2) else { return };
        if !self.held(&key.0, &object) {
            self.remove(key);
            self.release_dependents(uid(&object));
        }
    }
}
