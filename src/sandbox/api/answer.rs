//! Answers: JSON, failures and streams.

use std::io;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde_json::Value;

use crate::sandbox::store::Status;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(super) type Answer = Response<Body>;

/// A body that is known already.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A text of some media type.
pub(super) fn text(code: u16, media: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(text));
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}

/// A JSON document.
pub(super) fn json(code: u16, value: &Value) -> Answer {
    text(code, "application/json", value.to_string())
}

/// A failure.
pub(super) fn failure(status: &Status) -> Answer {
    if status.code == 404 && status.reason.is_empty() {
        return text(404, "text/plain; charset=utf-8", status.message.clone());
    }
    let mut answer = json(status.code, &status.body());
    if let Some(seconds) = status.retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Adds a `Warning` header, as the real server does for deprecated or unknown fields.
pub(super) fn warn(answer: &mut Answer, text: &str) {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
        answer.headers_mut().append(header::WARNING, value);
    }
}

/// The time of an answer, for a server whose clock is ahead; without it hyper writes its own.
pub(super) fn date(ahead: std::time::Duration) -> Option<HeaderValue> {
    let now = jiff::Timestamp::now() + ahead;
    HeaderValue::from_str(&now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()).ok()
}
