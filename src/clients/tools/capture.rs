//! Reads a child's output to its end and keeps the last bytes, so that a chatty tool never blocks and never fills the memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;

use crate::base::mutex::lock;

/// The last bytes of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Captured {
    bytes: Vec<u8>,
    pub(super) truncated: bool,
}

impl Captured {
    fn push(&mut self, more: &[u8], cap: usize) {
        self.bytes.extend_from_slice(more);
        // Cut only now and then: cutting at each read would copy the whole tail each time.
        if self.bytes.len() > cap.saturating_mul(2).max(64 * 1024) {
            self.cut(cap);
        }
    }

    fn cut(&mut self, cap: usize) {
        if self.bytes.len() > cap {
            self.bytes.drain(..self.bytes.len() - cap);
            self.truncated = true;
        }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

pub(super) struct Capture {
    captured: Arc<Mutex<Captured>>,
    reader: JoinHandle<()>,
    cap: usize,
}

/// Starts reading `stream`.
pub(super) fn capture(stream: Option<impl AsyncRead + Send + Unpin + 'static>, cap: usize) -> Capture {
    let captured = Arc::new(Mutex::new(Captured::default()));
    let into = Arc::clone(&captured);
    let reader = tokio::spawn(async move {
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            lock(&into).push(&buffer[..n], cap);
        }
    });
    Capture { captured, reader, cap }
}

impl Capture {
    /// What was read. Waits at most `drain` for the stream's end.
    pub(super) async fn take(mut self, drain: Duration) -> Captured {
        if tokio::time::timeout(drain, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        let mut captured = std::mem::take(&mut *lock(&self.captured));
        captured.cut(self.cap);
        captured
    }
}
