//! Where a redirect of the load balancer or the gateway leads, and at which address that is asked.

use std::net::SocketAddr;
use std::sync::Arc;

use url::Url;

use super::ask::{Question, Through};
use super::vantage::Target;
use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::clients::http::Scheme;
use crate::domain::verify::Expect;

/// The hosts that are judged here: names, and wildcards of the routes.
#[derive(Clone, Debug, Default)]
pub(super) struct Ours(Arc<[String]>);

impl Ours {
    pub(super) fn new(hosts: impl IntoIterator<Item = String>) -> Self {
        Self(hosts.into_iter().collect())
    }

    fn have(&self, host: &str) -> bool {
        // A route for every name tells of none.
        self.0.iter().any(|pattern| pattern != "*" && covers(pattern, host))
    }
}

/// Does a host of the routes, which may be a wildcard, serve this name?
pub(super) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(rest) => host.len() > rest.len() && host.to_ascii_lowercase().ends_with(&rest.to_ascii_lowercase()),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// What becomes of a redirect that is not the answer itself.
#[derive(Debug)]
pub(super) enum Hop {
    /// It is asked there.
    Ask(Box<Question>, Target),
    /// To a host that is none of ours, and nothing is stated about its answer.
    Away(String),
    /// To what was asked already.
    Itself,
    /// To a port that the given address does not have.
    NotThere(Box<Question>),
    /// To nothing that can be asked.
    Nowhere,
}

/// Follows a redirect of `question`, which was asked at `target`.
pub(super) fn hop(through: &Through, ours: &Ours, target: Target, question: &Question, location: &str) -> Hop {
    let Some((asked, url)) = question.url().and_then(|asked| Some((asked.clone(), asked.join(location).ok()?))) else { return Hop::Nowhere };
    let Some(next) = next(question, &url) else { return Hop::Nowhere };
    if is_same(&asked, &url) {
        return Hop::Itself;
    }
    if !next.host.eq_ignore_ascii_case(&question.host) && !ours.have(&next.host) {
        return if question.expect == Expect::default() { Hop::Away(next.host) } else { Hop::Ask(Box::new(next), Target::Own) };
    }
    match again(through, target, question, &next) {
        Some(target) => Hop::Ask(Box::new(next), target),
        None => Hop::NotThere(Box::new(next)),
    }
}

/// The question that a redirect asks.
fn next(question: &Question, url: &Url) -> Option<Question> {
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    // A URL does not have its scheme's own port.
    Some(Question { scheme, host: url.host_str()?.to_owned(), path, port: None, listener: url.port(), expect: question.expect.clone() })
}

/// A fragment is never asked for.
fn is_same(asked: &Url, url: &Url) -> bool {
    let mut url = url.clone();
    url.set_fragment(None);
    *asked == url
}

/// Where a host of ours is asked after a redirect: at the same address, on its own port. `None`: the address has a forwarded port, which leads
/// to no other.
fn again(through: &Through, target: Target, question: &Question, next: &Question) -> Option<Target> {
    let Target::At(address) = target else { return Some(target) };
    match through {
        Through::Address(..) if next.url_port() == question.url_port() => Some(target),
        Through::Address(_, port) if *port != question.url_port() => None,
        _ => Some(Target::At(SocketAddr::new(address.ip(), next.url_port()))),
    }
}

pub(super) fn not_there(status: u16, location: &str, next: &Question) -> Fault {
    let message = format!("got {status}, which sends to {location}: the address that was given has another port");
    Fault::new(Code::HttpUnexpected, message)
        .next(format!("ask that in its own right, with the address of its port: `--scheme {} --address HOST:PORT`", next.scheme.as_str()))
        .next(format!("or state that the redirect is the right answer: `--status {status}`"))
}

/// A redirect to what was asked already. A gateway behind a load balancer that ends TLS sees plain HTTP only, and sends to HTTPS for ever.
pub(super) fn itself(status: u16, location: &str, question: &Question, by_gateway: bool) -> Fault {
    let fault = Fault::new(Code::HttpUnexpected, format!("got {status}, and it redirects to itself: {location}"));
    if by_gateway && question.scheme == Scheme::Https {
        return fault.next("the load balancer ends TLS: remove httpsRedirect from the Gateway's servers");
    }
    fault.next(if by_gateway { "correct the redirect of the VirtualService" } else { "correct the redirect of the Ingress" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(host: &str, path: &str) -> Question {
        Question { scheme: Scheme::Http, host: host.into(), path: path.into(), port: None, listener: None, expect: Expect::default() }
    }

    fn balancer() -> Through {
        Through::Balancer { name: "k8s.elb".into(), scheme: None }
    }

    fn at(port: u16) -> Target {
        Target::At(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    /// What becomes of it, in words.
    fn shown(hop: Hop) -> String {
        match hop {
            Hop::Ask(next, Target::At(address)) => format!("{} at {}", next.title(), address.port()),
            Hop::Ask(next, target) => format!("{} at {target:?}", next.title()),
            Hop::Away(host) => format!("away to {host}"),
            Hop::Itself => "itself".to_owned(),
            Hop::NotThere(next) => format!("{} is not there", next.title()),
            Hop::Nowhere => "nowhere".to_owned(),
        }
    }

    #[test]
    fn a_redirect_is_another_question() {
        let on_8080 = Question { listener: Some(8080), ..question("h.example", "/a") };
        let usual = question("H.example", "/a?b=1");
        for (question, location, expected) in [
            (&usual, "https://h.example:443/a?b=1", "GET https://h.example/a?b=1 at 443"),
            (&usual, "https://h.example:8443/a?b=1", "GET https://h.example:8443/a?b=1 at 8443"),
            (&usual, "http://h.example:8080/a?b=1", "GET h.example:8080/a?b=1 at 8080"),
            (&usual, "/login", "GET h.example/login at 80"),
            (&usual, "http://h.example/a?b=1", "itself"),
            (&usual, "http://h.example:80/a?b=1#top", "itself"),
            (&usual, "ftp://h.example/", "nowhere"),
            (&usual, "https://", "nowhere"),
            (&on_8080, "/login", "GET h.example:8080/login at 8080"),
            (&on_8080, "http://h.example/a", "GET h.example/a at 80"),
            (&on_8080, "http://h.example:8080/a", "itself"),
        ] {
            assert_eq!(shown(hop(&balancer(), &Ours::default(), at(question.url_port()), question, location)), expected, "{location}");
        }
    }

    #[test]
    fn only_hosts_of_the_file_are_judged_after_a_redirect() {
        let ours = Ours::new(["h.example", "new.example", "*.shop.example", "*"].map(str::to_owned));
        let plain = question("h.example", "/");
        let stated = Question { expect: Expect { body_contains: Some("ok".into()), ..Expect::default() }, ..plain.clone() };
        for (question, target, location, expected) in [
            (&plain, at(80), "https://New.example/", "GET https://new.example/ at 443"),
            (&plain, at(80), "https://a.shop.example/", "GET https://a.shop.example/ at 443"),
            (&plain, Target::Balancer, "https://new.example/", "GET https://new.example/ at Balancer"),
            (&plain, at(80), "https://login.elsewhere.example/?next=h.example", "away to login.elsewhere.example"),
            (&plain, at(80), "https://shop.example/", "away to shop.example"),
            (&plain, at(80), "https://h.example/", "GET https://h.example/ at 443"),
            // Who states what the answer must be wants it judged, wherever it is.
            (&stated, at(80), "https://login.elsewhere.example/", "GET https://login.elsewhere.example/ at Own"),
        ] {
            assert_eq!(shown(hop(&balancer(), &ours, target, question, location)), expected, "{location}");
        }
    }

    #[test]
    fn a_redirect_is_asked_at_the_port_that_it_names() {
        let given = |port| Through::Address("192.0.2.1".into(), port);
        for (through, from, location, expected) in [
            (&balancer(), at(80), "https://h.example:443/", "GET https://h.example/ at 443"),
            (&balancer(), at(80), "https://h.example:8443/", "GET https://h.example:8443/ at 8443"),
            (&balancer(), at(80), "/login", "GET h.example/login at 80"),
            (&balancer(), Target::Balancer, "https://h.example:8443/", "GET https://h.example:8443/ at Balancer"),
            (&Through::Own, Target::Own, "https://h.example/", "GET https://h.example/ at Own"),
            // An address with the URL's own port is the load balancer's; another port is forwarded, and leads nowhere else.
            (&given(80), at(80), "https://h.example/", "GET https://h.example/ at 443"),
            (&given(8080), at(8080), "/login", "GET h.example/login at 8080"),
            (&given(8080), at(8080), "http://h.example/login", "GET h.example/login at 8080"),
            (&given(8080), at(8080), "https://h.example/", "GET https://h.example/ is not there"),
            (&given(8080), at(8080), "http://h.example:8080/", "GET h.example:8080/ is not there"),
        ] {
            let found = hop(through, &Ours::default(), from, &question("h.example", "/"), location);
            assert_eq!(shown(found), expected, "{through:?} {location}");
        }
    }

    #[test]
    fn a_redirect_to_itself_names_its_cause() {
        let secure = Question { scheme: Scheme::Https, ..question("h.example", "/") };
        let next = |question: &Question, by_gateway| itself(301, "https://h.example/", question, by_gateway).next[0].clone();
        assert!(next(&secure, true).contains("remove httpsRedirect"));
        assert!(!next(&secure, false).contains("httpsRedirect") && !next(&question("h.example", "/"), true).contains("httpsRedirect"));
    }

    #[test]
    fn a_wildcard_covers_names_below_it() {
        assert!(covers("*.public.domain", "app1.public.domain") && covers("App1.x", "app1.X"));
        assert!(!covers("*.public.domain", ".public.domain") && !covers("a.b", "c.b"));
    }
}
