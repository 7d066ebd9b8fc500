//! The command by which a person asks the same question.

/// What a check asked, as far as curl needs it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub https: bool,
    pub host: &'a str,
    /// The port of the URL; the scheme's own is left out.
    pub port: u16,
    pub path: &'a str,
    /// The name or address that was connected to, with its port, when it is not the host's own.
    pub via: Option<(&'a str, u16)>,
    pub cacert: Option<&'a str>,
}

/// `curl -sS -i --connect-to …`: the right SNI and Host at the load balancer's address.
pub fn command(asked: Asked<'_>) -> String {
    let Asked { https, host, port, path, via, cacert } = asked;
    let scheme = if https { "https" } else { "http" };
    let own_port = if https { 443 } else { 80 };
    let shown_port = if port == own_port { String::new() } else { format!(":{port}") };
    let mut words = vec!["curl -sS -i".to_owned()];
    if path.contains(['[', ']', '{', '}']) {
        words.push("-g".to_owned());
    }
    if has_dots(path) {
        words.push("--path-as-is".to_owned());
    }
    if let Some((address, to)) = via {
        let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        words.push(quoted("--connect-to ", &format!("{host}:{port}:{address}:{to}")));
    }
    if let Some(file) = cacert {
        words.push(quoted("--cacert ", file));
    }
    words.push(quoted("", &format!("{scheme}://{host}{shown_port}{path}")));
    words.join(" ")
}

/// Segments that curl would resolve before it asks. A query has none.
fn has_dots(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn quoted(option: &str, word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,[]".contains(c);
    if word.chars().all(plain) && !word.contains('[') { format!("{option}{word}") } else { format!("{option}'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted() {
        let asked = Asked { https: true, host: "app1.public.domain", port: 443, path: "/a?b=1&c", via: Some(("k8s.elb", 443)), cacert: None };
        assert_eq!(command(asked), "curl -sS -i --connect-to app1.public.domain:443:k8s.elb:443 'https://app1.public.domain/a?b=1&c'");
        let asked = Asked { https: false, host: "h", port: 8080, path: "/", via: Some(("::1", 8080)), cacert: Some("my ca.pem") };
        assert_eq!(command(asked), "curl -sS -i --connect-to 'h:8080:[::1]:8080' --cacert 'my ca.pem' http://h:8080/");
    }

    #[test]
    fn curl_is_told_to_leave_a_path_as_it_is() {
        for (path, expected) in [
            ("/a?ids[]=1", "curl -sS -i -g 'http://h/a?ids[]=1'"),
            ("/{id}", "curl -sS -i -g 'http://h/{id}'"),
            ("/a/../b", "curl -sS -i --path-as-is http://h/a/../b"),
            ("/a/./[b]", "curl -sS -i -g --path-as-is 'http://h/a/./[b]'"),
            ("/a/..", "curl -sS -i --path-as-is http://h/a/.."),
            ("/a.b/..c?d=/../", "curl -sS -i 'http://h/a.b/..c?d=/../'"),
        ] {
            assert_eq!(command(Asked { https: false, host: "h", port: 80, path, via: None, cacert: None }), expected);
        }
    }
}
