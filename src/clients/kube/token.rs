//! Holds the current bearer token and renews it in time, or when the server refuses it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::base::fault::Result;
use crate::base::secrets;
use crate::clients::aws::Token;

/// EKS tokens live for 15 minutes; older than this they are replaced before use.
const RENEW_AFTER: Duration = Duration::from_secs(10 * 60);

type Fetch = Arc<dyn Fn() -> BoxFuture<'static, Result<Token>> + Send + Sync>;

/// Where tokens come from. Clones share the token they hold.
#[derive(Clone)]
pub struct TokenSource {
    fetch: Fetch,
    held: Arc<Mutex<Option<(SecretString, Instant)>>>,
    renew_after: Duration,
}

impl TokenSource {
    pub fn new<F, Fut>(fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Token>> + Send + 'static,
    {
        let fetch: Fetch = Arc::new(move || Box::pin(fetch()));
        Self { fetch, held: Arc::default(), renew_after: RENEW_AFTER }
    }

    /// The token to send now.
    pub(super) async fn current(&self) -> Result<SecretString> {
        let mut held = self.held.lock().await;
        match held.as_ref() {
            Some((secret, since)) if since.elapsed() < self.renew_after => Ok(secret.clone()),
            _ => self.renew(&mut held).await,
        }
    }

    /// Another token than `refused`: a new one, unless another call has fetched it meanwhile.
    pub(super) async fn instead_of(&self, refused: &SecretString) -> Result<SecretString> {
        let mut held = self.held.lock().await;
        match held.as_ref() {
            Some((secret, _)) if secret.expose_secret() != refused.expose_secret() => Ok(secret.clone()),
            _ => self.renew(&mut held).await,
        }
    }

    async fn renew(&self, held: &mut Option<(SecretString, Instant)>) -> Result<SecretString> {
        let secret = (self.fetch)().await?.secret;
        secrets::learn(secret.expose_secret());
        *held = Some((secret.clone(), Instant::now()));
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counting() -> TokenSource {
        let count = Arc::new(AtomicUsize::new(0));
        TokenSource::new(move || {
            let n = count.fetch_add(1, Ordering::SeqCst);
            async move { Ok(Token { secret: format!("token-{n}").into(), expires: jiff::Timestamp::UNIX_EPOCH }) }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_used_for_ten_minutes_and_replaced_once_when_refused() {
        let source = counting();
        let first = source.current().await.expect("a token");
        tokio::time::advance(Duration::from_secs(599)).await;
        assert_eq!(source.current().await.expect("a token").expose_secret(), "token-0");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(source.current().await.expect("a token").expose_secret(), "token-1");
        // Another call was refused with the first token meanwhile: no third fetch.
        assert_eq!(source.instead_of(&first).await.expect("a token").expose_secret(), "token-1");
        let second = source.current().await.expect("a token");
        assert_eq!(source.instead_of(&second).await.expect("a token").expose_secret(), "token-2");
    }
}
