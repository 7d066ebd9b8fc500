//! The last link: asks through the load balancer until Envoy answers.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Chain, Pace, in_ms, poll, whole_ms};
use crate::base::fault::Result;
use crate::base::mutex::lock;
use crate::base::wait::Poll;
use crate::domain::ingress::answer;
use crate::domain::ingress::listeners::Listener;
use crate::domain::ingress::look::Look;
use crate::domain::routes::PublicHost;
use crate::domain::verify::reach::{Tried, unreached_name};
use crate::domain::verify::retry::Cause;
use crate::engine::record::{Case, Done};
use crate::stages::verify;

/// How long a load balancer may be silent before it is taken for one that does not answer here.
const SILENCE: Duration = Duration::from_secs(10);

impl Chain<'_> {
    /// Over HTTP first.
    pub(super) async fn first_answer(&self, case: Case, hostname: &str, scheme: Option<&str>, listeners: &[Listener]) -> Result<Done<()>> {
        let (start, case, pace) = (Instant::now(), &case, &Pace::growing());
        let named = self.named()?;
        let (host, nameless) = (named.as_deref().unwrap_or(hostname), named.is_none());
        let causes = &Mutex::new(BTreeMap::<u16, Cause<_>>::new());
        let said = self
            .wait(
                6,
                case,
                || pace.sleep(),
                || async move {
                    let (mut reason, mut tried) = (String::new(), Tried::NoRoute);
                    let (mut answered, mut errors) = (false, Vec::new());
                    for &listener in listeners {
                        let begun = whole_ms(start);
                        match verify::once(&self.ctx.shared, listener, host, "/", hostname).await {
                            Ok(reply) => {
                                (tried, answered) = (Tried::Heard, true);
                                lock(causes).remove(&listener.port);
                                let waited = whole_ms(start);
                                let (link, asked) = (answer::first(&reply, waited, nameless, Some(host)), Some(host.to_owned()));
                                self.record(case, Look::FirstAnswer { reply: reply.essence(), host: asked, waited_ms: in_ms(waited), nameless });
                                match poll(case, link)? {
                                    Poll::Ready(said) => return Ok(Poll::Ready(Ok(said))),
                                    Poll::NotYet(why) => reason = why,
                                }
                            }
                            Err(error) => {
                                tried = tried.max(Tried::of(Some(&error)));
                                let lasted = lock(causes).entry(listener.port).or_default().lasts(error.fault().code, begun, whole_ms(start));
                                errors.push((error, lasted));
                            }
                        }
                    }
                    // Not before all of them were asked: any other may have had an answer of the mesh.
                    for (error, lasted) in errors {
                        let link = answer::unanswered(&error, lasted, nameless, answered);
                        self.record(case, Look::NoAnswer { error, lasted_ms: in_ms(lasted), nameless, answered });
                        match poll(case, link)? {
                            Poll::Ready(said) => return Ok(Poll::Ready(Ok(said))),
                            Poll::NotYet(why) => reason = why,
                        }
                    }
                    // Nobody heard anything: that says nothing about a load balancer that does not answer here at all.
                    if tried < Tried::Heard
                        && start.elapsed() >= SILENCE
                        && let Ok(addresses) = self.ctx.shared.http.resolve(hostname).await
                        && let Some(unreached) = unreached_name(scheme, hostname, &addresses, tried)
                    {
                        return Ok(Poll::Ready(Err(unreached)));
                    }
                    Ok(Poll::NotYet(reason))
                },
            )
            .await?;
        Ok(match said {
            Ok(said) => Done::unchanged((), said),
            Err(unreached) => Done::Skipped(unreached),
        })
    }

    /// A host that is known: of the routes, or of a check.
    fn named(&self) -> Result<Option<String>> {
        let filters = &self.ctx.shared.filters;
        let chosen = |h: &PublicHost| filters.service(&h.service) && filters.namespace(&h.namespace) && filters.host(&h.host);
        let named = verify::public_hosts(&self.ctx.shared)?.into_iter().find(|h| !h.is_wildcard() && chosen(h)).map(|h| h.host);
        let checks = self.ctx.shared.pipeline.verify.iter().flat_map(|verify| &verify.checks);
        Ok(named.or_else(|| checks.map(|check| &check.host).find(|host| filters.host(host)).cloned()))
    }
}
