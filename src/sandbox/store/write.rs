//! Create, update, modify and delete, with what the real server does to metadata.

use std::sync::{Arc, PoisonError};

use serde_json::Value;

use super::meta::{deleting, finalizers, list, metadata, name, namespace, new_uid, now, stamp, suffix, text, uid, version};
use crate::sandbox::schema::{defaults, validate};

use super::{EventKind, Inner, Operation, Resource, Review, Status, Store, User};

/// Which part of an object an update may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it: what the cluster's own controllers do.
    #[default]
    Whole,
    /// All but the status, if the kind has a status subresource.
    Main,
    /// The status alone.
    Status,
}

/// How a write is made. Without a user it is the cluster's own: trusted, not validated.
#[derive(Clone, Debug, Default)]
pub struct Write {
    pub user: Option<User>,
    pub dry_run: bool,
    pub part: Part,
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

/// How a delete is made.
#[derive(Clone, Debug, Default)]
pub struct Deletion {
    pub user: Option<User>,
    pub dry_run: bool,
    pub propagation: Propagation,
    /// For pods; `None` is the pod's own.
    pub grace_seconds: Option<i64>,
    /// Preconditions.
    pub uid: Option<String>,
    pub version: Option<u64>,
}

impl Deletion {
    /// Without grace: what the kubelet does when the containers have ended.
    pub fn now() -> Deletion {
        Deletion { grace_seconds: Some(0), ..Deletion::default() }
    }
}

/// What a delete came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Deleted {
    /// The object's last state.
    Gone(Arc<Value>),
    /// It is still there with a deletionTimestamp: finalizers, grace or its content hold it.
    Pending(Arc<Value>),
}

impl Store {
    /// Stores a new object. Namespace and name are those of its metadata; `generateName` is filled in.
    ///
    /// # Errors
    /// 404 for an unknown kind or a missing namespace, 409 if it exists, and what admission refuses.
    pub fn create(&self, resource: &str, object: Value) -> Result<Arc<Value>, Status> {
        self.create_with(resource, object, &Write::default())
    }

    /// `create` on behalf of somebody.
    ///
    /// # Errors
    /// As `create`.
    pub fn create_with(&self, resource: &str, mut object: Value, write: &Write) -> Result<Arc<Value>, Status> {
        let kind = self.resource(resource)?;
        let prefix = text(&object, "/metadata/generateName").to_owned();
        let meta = metadata(&mut object);
        if !prefix.is_empty() && meta.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
            meta.insert("name".into(), format!("{prefix}{}", suffix(5)).into());
        }
        for key in ["resourceVersion", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            meta.remove(key);
        }
        if !kind.namespaced {
            meta.remove("namespace");
        }
        meta.insert("uid".into(), new_uid().into());
        meta.insert("creationTimestamp".into(), now().into());
        if kind.generation {
            meta.insert("generation".into(), 1.into());
        }
        let (ns, own) = (namespace(&object).to_owned(), name(&object).to_owned());
        self.check_namespace(&kind, &ns, &own)?;
        let review = |operation| Review {
            operation,
            resource: &kind,
            subresource: "",
            namespace: &ns,
            name: &own,
            user: write.user.as_ref(),
            old: None,
            dry_run: write.dry_run,
        };
        defaults::apply(self, &kind, &mut object, None);
        self.review(&review(Operation::Create), &mut object)?;
        defaults::apply(self, &kind, &mut object, None);
        if write.user.is_some() {
            validate::check(&kind, &object, None)?;
        }
        let mut inner = self.lock();
        if inner.get(resource, &ns, &own).is_some() {
            return Err(Status::already_exists(&kind, &own));
        }
        if write.dry_run {
            return Ok(Arc::new(object));
        }
        let stored = inner.put(EventKind::Added, resource, object);
        self.announce(inner);
        Ok(stored)
    }

    fn check_namespace(&self, kind: &Resource, ns: &str, own: &str) -> Result<(), Status> {
        if !kind.namespaced {
            return Ok(());
        }
        let namespaces = self.resource("namespaces")?;
        let found = self.get("namespaces", "", ns).ok_or_else(|| Status::not_found(&namespaces, ns))?;
        if deleting(&found) {
            let why = format!("unable to create new content in namespace {ns} because it is being terminated");
            return Err(Status::forbidden(kind, own, &why));
        }
        Ok(())
    }

    fn review(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        let hooks = self.0.hooks.read().unwrap_or_else(PoisonError::into_inner).clone();
        for hook in &hooks {
            hook(self, review, object)?;
        }
        Ok(())
    }

    /// Replaces an object. A resourceVersion in its metadata must be the stored one; without one the write is unconditional.
    ///
    /// # Errors
    /// 404, 409 on a stale version, and what admission refuses.
    pub fn update(&self, resource: &str, object: Value) -> Result<Arc<Value>, Status> {
        self.update_with(resource, object, &Write::default())
    }

    /// `update` of the status alone.
    ///
    /// # Errors
    /// As `update`.
    pub fn update_status(&self, resource: &str, object: Value) -> Result<Arc<Value>, Status> {
        self.update_with(resource, object, &Write { part: Part::Status, ..Write::default() })
    }

    /// `update` on behalf of somebody, of a part.
    ///
    /// # Errors
    /// As `update`.
    pub fn update_with(&self, resource: &str, object: Value, write: &Write) -> Result<Arc<Value>, Status> {
        let expected = version(&object);
        loop {
            let kind = self.resource(resource)?;
            let (ns, own) = (namespace(&object).to_owned(), name(&object).to_owned());
            let old = self.get(resource, &ns, &own).ok_or_else(|| Status::not_found(&kind, &own))?;
            if expected != 0 && expected != version(&old) {
                return Err(Status::conflict(&kind, &own));
            }
            let mut new = merged(&kind, &old, object.clone(), write.part)?;
            let review = Review {
                operation: Operation::Update,
                resource: &kind,
                subresource: if write.part == Part::Status { "status" } else { "" },
                namespace: &ns,
                name: &own,
                user: write.user.as_ref(),
                old: Some(&old),
                dry_run: write.dry_run,
            };
            defaults::apply(self, &kind, &mut new, Some(&old));
            self.review(&review, &mut new)?;
            defaults::apply(self, &kind, &mut new, Some(&old));
            if write.user.is_some() && write.part != Part::Status {
                validate::check(&kind, &new, Some(&old))?;
            }
            if kind.generation && spec_changed(&old, &new) {
                let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0) + 1;
                metadata(&mut new).insert("generation".into(), generation.into());
            }
            let mut inner = self.lock();
            let current = inner.get(resource, &ns, &own).ok_or_else(|| Status::not_found(&kind, &own))?;
            if version(&current) != version(&old) {
                if expected != 0 {
                    return Err(Status::conflict(&kind, &own));
                }
                continue;
            }
            metadata(&mut new).insert("resourceVersion".into(), text(&old, "/metadata/resourceVersion").into());
            if write.dry_run {
                return Ok(Arc::new(new));
            }
            if new == *old {
                return Ok(old);
            }
            let stored = inner.put(EventKind::Modified, resource, new);
            inner.settle();
            self.announce(inner);
            return Ok(stored);
        }
    }

    /// Reads, changes and writes an object until nobody was in between. Status and everything else may be changed.
    ///
    /// # Errors
    /// 404, and what admission refuses.
    pub fn modify(&self, resource: &str, ns: &str, own: &str, mut change: impl FnMut(&mut Value)) -> Result<Arc<Value>, Status> {
        self.modify_with(resource, ns, own, &Write::default(), |object| {
            change(object);
            Ok(())
        })
    }

    /// `modify` on behalf of somebody, of a part; the change may refuse.
    ///
    /// # Errors
    /// As `modify`, and what `change` returns.
    pub fn modify_with(
        &self,
        resource: &str,
        ns: &str,
        own: &str,
        write: &Write,
        mut change: impl FnMut(&mut Value) -> Result<(), Status>,
    ) -> Result<Arc<Value>, Status> {
        loop {
            let kind = self.resource(resource)?;
            let old = self.get(resource, ns, own).ok_or_else(|| Status::not_found(&kind, own))?;
            let mut new = (*old).clone();
            change(&mut new)?;
            metadata(&mut new).insert("resourceVersion".into(), text(&old, "/metadata/resourceVersion").into());
            match self.update_with(resource, new, write) {
                Err(status) if status.reason == "Conflict" && self.get(resource, ns, own).is_some_and(|o| version(&o) != version(&old)) => {}
                done => return done,
            }
        }
    }

    /// Deletes an object in the background.
    ///
    /// # Errors
    /// 404, and what admission refuses.
    pub fn delete(&self, resource: &str, ns: &str, own: &str) -> Result<Deleted, Status> {
        self.delete_with(resource, ns, own, &Deletion::default())
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// 404, 409 if a precondition fails, and what admission refuses.
    pub fn delete_with(&self, resource: &str, ns: &str, own: &str, deletion: &Deletion) -> Result<Deleted, Status> {
        let kind = self.resource(resource)?;
        let old = self.get(resource, ns, own).ok_or_else(|| Status::not_found(&kind, own))?;
        if let Some(wanted) = deletion.uid.as_deref().filter(|wanted| *wanted != uid(&old)) {
            let hint = "The object might have been deleted and then recreated";
            return Err(Status::precondition_failed(&kind, own, "UID", wanted, uid(&old), hint));
        }
        if let Some(wanted) = deletion.version.filter(|wanted| *wanted != version(&old)) {
            let (asked, found) = (wanted.to_string(), version(&old).to_string());
            return Err(Status::precondition_failed(&kind, own, "ResourceVersion", &asked, &found, "The object might have been modified"));
        }
        let review = Review {
            operation: Operation::Delete,
            resource: &kind,
            subresource: "",
            namespace: ns,
            name: own,
            user: deletion.user.as_ref(),
            old: Some(&old),
            dry_run: deletion.dry_run,
        };
        self.review(&review, &mut (*old).clone())?;
        if deletion.dry_run {
            return Ok(Deleted::Gone(old));
        }
        let mut inner = self.lock();
        inner.begin_deletion(&(resource.to_owned(), ns.to_owned(), own.to_owned()), deletion.propagation, deletion.grace_seconds);
        inner.settle();
        let left = inner.get(resource, ns, own).filter(|left| uid(left) == uid(&old));
        let last = inner.log.iter().rev().find(|e| e.kind == EventKind::Deleted && uid(&e.object) == uid(&old)).map(|e| e.object.clone());
        self.announce(inner);
        Ok(match left {
            Some(object) => Deleted::Pending(object),
            None => Deleted::Gone(last.unwrap_or(old)),
        })
    }
}

/// The new state of an object of which only a part was sent to be changed.
fn merged(kind: &Resource, old: &Value, mut given: Value, part: Part) -> Result<Value, Status> {
    let own = name(old);
    let claimed = uid(&given);
    if !claimed.is_empty() && claimed != uid(old) {
        let place = format!("/registry/{}/{}/{own}", kind.plural, namespace(old));
        let failed = format!("Precondition failed: UID in precondition: {claimed}, UID in object meta: {}", uid(old));
        let why = format!("StorageError: invalid object, Code: 4, Key: {place}, ResourceVersion: 0, AdditionalErrorMsg: {failed}");
        return Err(Status::conflict_because(kind, own, &why));
    }
    if part == Part::Status {
        let mut new = old.clone();
        if let (Some(map), status) = (new.as_object_mut(), given.get_mut("status").map(Value::take)) {
            match status {
                Some(status) => map.insert("status".into(), status),
                None => map.remove("status"),
            };
        }
        if let Some(fields) = given.pointer("/metadata/managedFields") {
            metadata(&mut new).insert("managedFields".into(), fields.clone());
        }
        return Ok(new);
    }
    if part == Part::Main
        && kind.has("status")
        && let Some(map) = given.as_object_mut()
    {
        match old.get("status") {
            Some(status) => map.insert("status".into(), status.clone()),
            None => map.shift_remove("status"),
        };
    }
    if deleting(old) {
        let before = finalizers(old);
        let added: Vec<String> = finalizers(&given).iter().filter(|f| !before.contains(f)).map(|f| format!("{f:?}")).collect();
        if !added.is_empty() {
            let why = format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}", added.join(", "));
            return Err(Status::invalid(kind, own, &[super::Cause::forbidden("metadata.finalizers", &why)]));
        }
    }
    let meta = metadata(&mut given);
    // An empty map is none.
    for key in ["labels", "annotations"] {
        if meta.get(key).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
            meta.shift_remove(key);
        }
    }
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        match old.get("metadata").and_then(|m| m.get(key)) {
            Some(kept) => meta.insert(key.into(), kept.clone()),
            None => meta.shift_remove(key),
        };
    }
    Ok(given)
}

/// Whether anything but metadata and status differs.
fn spec_changed(old: &Value, new: &Value) -> bool {
    let rest = |v: &Value| -> Value {
        v.as_object().into_iter().flatten().filter(|(k, _)| *k != "metadata" && *k != "status").map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    rest(old) != rest(new)
}

impl Inner {
    /// Marks an object as being deleted, or removes it at once if nothing holds it.
    pub(super) fn begin_deletion(&mut self, key: &super::Key, propagation: Propagation, grace: Option<i64>) {
        let Some(old) = self.get(&key.0, &key.1, &key.2) else { return };
        let mut new = (*old).clone();
        let mut holds: Vec<Value> = list(&new, "/metadata/finalizers").to_vec();
        if propagation == Propagation::Orphan {
            self.orphan_dependents(uid(&old));
        }
        if propagation == Propagation::Foreground && !holds.iter().any(|f| f == "foregroundDeletion") && self.has_dependents(uid(&old)) {
            holds.push("foregroundDeletion".into());
        }
        let meta = metadata(&mut new);
        let mut seconds = 0;
        if key.0 == "pods" && self.graceful_pods && !text(&old, "/spec/nodeName").is_empty() {
            let own = old.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
            seconds = grace.unwrap_or(own).max(0);
        }
        if !holds.is_empty() {
            meta.insert("finalizers".into(), holds.into());
        }
        if !deleting(&old) {
            let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            meta.insert("deletionTimestamp".into(), stamp(at).into());
            meta.insert("deletionGracePeriodSeconds".into(), seconds.into());
        } else if seconds < meta.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) {
            meta.insert("deletionGracePeriodSeconds".into(), seconds.into());
        }
        if key.0 == "namespaces" {
            super::meta::child(&mut new, "status").insert("phase".into(), "Terminating".into());
        }
        if self.held(&key.0, &new) {
            if new != *old {
                self.put(EventKind::Modified, &key.0, new);
            }
        } else {
            self.remove(key);
            self.release_dependents(uid(&old));
        }
    }
}
