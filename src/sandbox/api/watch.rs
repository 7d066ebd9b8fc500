//! Watches: the initial state where it is asked for, then every change, bookmarks, and the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Api;
use super::answer::Answer;
use super::format::Format;
use super::select::Selector;
use super::serve::{Call, WatchEnd, thawed};
use crate::sandbox::store::{Cause, Event, EventKind, Resource, Status, Watcher};

/// A body made of what a task sends; an error cuts the connection.
pub(super) fn stream(media: &'static str, receiver: mpsc::Receiver<io::Result<Bytes>>) -> Answer {
    let frames = futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item.map(Frame::data), receiver)) });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

struct Feed {
    api: Arc<Api>,
    kind: Arc<Resource>,
    format: Format,
    selector: Selector,
    sender: mpsc::Sender<io::Result<Bytes>>,
    bookmarks: bool,
    header_due: bool,
}

impl Feed {
    async fn send(&self, kind: &str, object: Value) -> Option<()> {
        thawed(&self.api).await;
        let line = json!({"type": kind, "object": object}).to_string() + "\n";
        self.sender.send(Ok(line.into())).await.ok()
    }

    async fn change(&mut self, event: &Event) -> Option<()> {
        let now = event.kind != EventKind::Deleted && self.selector.matches(&event.object);
        let before = event.previous.as_deref().is_some_and(|p| self.selector.matches(p));
        let kind = match (before, now) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return Some(()),
        };
        // What leaves the selection is sent as it was when it still belonged to it.
        if let ("DELETED", Some(previous)) = (kind, event.previous.as_deref().filter(|_| event.kind != EventKind::Deleted)) {
            let mut last = previous.clone();
            last["metadata"]["resourceVersion"] = event.object["metadata"]["resourceVersion"].clone();
            return self.object(kind, &last).await;
        }
        self.object(kind, &event.object).await
    }

    async fn object(&mut self, kind: &str, object: &Value) -> Option<()> {
        let object = self.format.one(&self.kind, object, std::mem::take(&mut self.header_due));
        self.send(kind, object).await
    }

    async fn follow(&mut self, mut watcher: Watcher, until: Instant) -> Option<()> {
        let started_at = watcher.version();
        let mut bookmark = tokio::time::interval(Duration::from_secs(60));
        bookmark.reset();
        loop {
            let next = tokio::select! {
                next = watcher.next() => next,
                _ = bookmark.tick(), if self.bookmarks => {
                    let object = self.format.bookmark(&self.kind, watcher.version(), None);
                    self.send("BOOKMARK", object).await?;
                    continue;
                }
                () = tokio::time::sleep_until(until) => {
                    // Nothing has happened anywhere: there is nothing to mark.
                    if self.bookmarks && watcher.version() > started_at {
                        let object = self.format.bookmark(&self.kind, watcher.version(), None);
                        self.send("BOOKMARK", object).await?;
                    }
                    return None;
                }
                () = self.sender.closed() => return None,
            };
            match next {
                Ok(event) => self.change(&event).await?,
                Err(status) => {
                    self.send("ERROR", status.body()).await?;
                    return None;
                }
            }
        }
    }
}

/// Answers a watch.
pub(super) fn answer(call: &Call, kind: Arc<Resource>, selector: Selector) -> Result<Answer, Status> {
    let store = &call.api.store;
    let asked = call.query.get("resourceVersion");
    let since: u64 = if asked.is_empty() {
        0
    } else {
        asked.parse().map_err(|_| {
            Status::new(500, "", format!("resourceVersion: Invalid value: {asked:?}: strconv.ParseUint: parsing {asked:?}: invalid syntax"))
        })?
    };
    let initial = call.query.on("sendInitialEvents");
    if initial && call.query.get("resourceVersionMatch") != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(Status::invalid_options("ListOptions", &Cause::forbidden("resourceVersionMatch", why)));
    }
    too_large(since, store.version())?;
    let (sender, receiver) = mpsc::channel(64);
    let mut feed = Feed {
        api: call.api.clone(),
        format: Format::of(call, &kind),
        selector,
        sender: sender.clone(),
        bookmarks: call.query.on("allowWatchBookmarks"),
        header_due: true,
        kind,
    };
    let id = feed.kind.id();
    let namespace = call.seen.namespace.clone();
    let (state, from) = if initial || since == 0 { store.list_at(&id, &namespace) } else { (Vec::new(), since) };
    let watcher = store.watch(&id, &namespace, from);
    let seconds = call.query.number("timeoutSeconds").and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(2700);
    let until = Instant::now() + Duration::from_secs(seconds);
    let end = call.watch_end;
    tokio::spawn(async move {
        let feeding = async {
            for object in &state {
                if feed.selector.matches(object) {
                    feed.object("ADDED", object).await?;
                }
            }
            if initial && feed.bookmarks {
                let object = feed.format.bookmark(&feed.kind, from, Some(json!({"k8s.io/initial-events-end": "true"})));
                feed.send("BOOKMARK", object).await?;
            }
            match watcher {
                Ok(watcher) => feed.follow(watcher, until).await,
                Err(status) => feed.send("ERROR", status.body()).await,
            }
        };
        match end {
            WatchEnd::Never => {
                feeding.await;
            }
            WatchEnd::Cut(after) => {
                if tokio::time::timeout(after, feeding).await.is_err() {
                    // Nobody listens any more: then there is nothing to cut.
                    let _ = sender.send(Err(io::Error::other("cut"))).await;
                }
            }
            WatchEnd::Mute(after) => {
                if tokio::time::timeout(after, feeding).await.is_err() {
                    sender.closed().await;
                }
            }
        }
    });
    Ok(stream("application/json", receiver))
}

/// The real server's answer to a version from the future.
pub(super) fn too_large(asked: u64, current: u64) -> Result<(), Status> {
    if asked <= current {
        return Ok(());
    }
    let mut status = Status::new(504, "Timeout", format!("Timeout: Too large resource version: {asked}, current: {current}"));
    status.details =
        Some(Box::new(json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1})));
    status.retry_after = Some(1);
    Err(status)
}
