//! What time it is at the API server: the `Date` header of whatever it answers.

use std::time::Instant;

use http::Request;
use http::header::DATE;
use jiff::Timestamp;
use kube::client::Body;

use super::{Cluster, fault};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};

impl Cluster {
    /// The API server's time and ours at the same moment. A refusal tells it as well as an answer: a wrong clock is itself a reason for one.
    pub async fn times(&self) -> Result<(Timestamp, Timestamp)> {
        let doing = "asking the API server for its time";
        let request = Request::get("/version").body(Body::empty());
        let request = request.map_err(|error| Fault::new(Code::Defect, format!("{doing}: {error}")))?;
        let (begun, clock) = (Timestamp::now(), Instant::now());
        let answer = self.client.send(request).await.map_err(|error| fault(error, doing))?;
        let middle = begun + clock.elapsed() / 2;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(read);
        let date = date.ok_or_else(|| Fault::new(Code::ApiFailed, format!("{doing}: its answer has no Date")))?;
        Ok((date, middle))
    }
}

/// `Tue, 15 Nov 1994 08:12:31 GMT`
fn read(date: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(date).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(read("Tue, 15 Nov 1994 08:12:31 GMT").map(|time| time.to_string()).as_deref(), Some("1994-11-15T08:12:31Z"));
        assert_eq!(read("yesterday"), None);
    }
}
