//! The ways to AWS and to the API server: proxies, private authorities, an assumed role, a web identity; against the served sandbox.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use meshstep::sandbox::pki::Authority;

use crate::support::{Served, Workspace};

const FILE: &str = "pipelines/meshstep.yaml";

/// A proxy as agents have one. It keeps what it was asked for, and passes everything on.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || pass(client, &kept));
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self, words: &str) -> bool {
        self.asked.lock().expect("lock").iter().any(|line| line.contains(words))
    }
}

/// `CONNECT host:port` opens a tunnel; any other request goes to the host of its absolute address as it is.
fn pass(mut client: TcpStream, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next()?.to_owned();
    asked.lock().expect("lock").push(line.clone());
    let (method, rest) = line.split_once(' ')?;
    let host = rest.trim_start_matches("http://").split(['/', ' ']).next()?;
    let mut server = TcpStream::connect(host).ok()?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    } else {
        server.write_all(&head).ok()?;
    }
    let (mut from_client, mut to_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        let _closed = std::io::copy(&mut from_client, &mut to_server);
        let _closed = to_server.shutdown(std::net::Shutdown::Write);
    });
    let _closed = std::io::copy(&mut server, &mut client);
    client.shutdown(std::net::Shutdown::Write).ok()
}

/// AWS behind TLS with a private authority: what a proxy that opens TLS looks like. Passes everything on to the sandbox's AWS.
fn tls_front(authority: &Authority, upstream: &str) -> String {
    let config = authority.server(&["localhost"], &["http/1.1"]).expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let upstream = upstream.trim_start_matches("http://").to_owned();
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            told.send(listener.local_addr().expect("an address")).expect("told");
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
                tokio::spawn(async move {
                    let mut client = acceptor.accept(client).await.ok()?;
                    let mut server = tokio::net::TcpStream::connect(upstream).await.ok()?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok()
                });
            }
        });
    });
    format!("https://localhost:{}", address.recv().expect("an address").port())
}

fn value(served: &Served, name: &str) -> String {
    served.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_else(|| panic!("no {name}"))
}

/// A workspace with what the sandbox exports, but for `without`, and with `more`.
fn workspace(served: &Served, without: &[&str], more: &[(&str, String)]) -> Workspace {
    let mut workspace = Workspace::new();
    let kept: Vec<(String, String)> = served.env.iter().filter(|(name, _)| !without.contains(&name.as_str())).cloned().collect();
    workspace.set(&kept);
    workspace.set(&more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Vec<_>>());
    workspace
}

fn serve(world: &str) -> (Workspace, Served) {
    let workspace = Workspace::new();
    workspace.write("world.yaml", &format!("name: ways\nabout: the ways in\n{world}\n"));
    let served = Served::start(&workspace, Some("world.yaml"));
    (workspace, served)
}

#[test]
fn proxies_are_used_unless_no_proxy_names_the_host() {
    let (_folder, served) = serve("");
    let proxy = Proxy::start();
    let through = [("HTTPS_PROXY", proxy.url()), ("HTTP_PROXY", proxy.url())];
    let open = workspace(&served, &["NO_PROXY"], &through);
    open.run(&["connect", "-f", FILE]).exits(0);
    assert!(proxy.asked("CONNECT 127.0.0.1:"), "the API server was not asked through the proxy: {:?}", proxy.asked);
    assert!(proxy.asked("GET http://127.0.0.1:") && proxy.asked("/clusters/shop-eks"), "AWS was not asked through the proxy: {:?}", proxy.asked);
    let told = open.run(&["doctor", "-f", FILE]).exits(0);
    assert!(told.case("network")["note"].as_str().is_some_and(|note| note.contains(&format!("proxy {}, for the API server too", proxy.url()))));

    let quiet = Proxy::start();
    let exempt = [("HTTPS_PROXY", quiet.url()), ("HTTP_PROXY", quiet.url()), ("NO_PROXY", "10.0.0.0/8,127.0.0.0/8".to_owned())];
    let closed = workspace(&served, &[], &exempt);
    let told = closed.run(&["doctor", "-f", FILE]).exits(0);
    assert!(quiet.asked.lock().expect("lock").is_empty(), "NO_PROXY was not heard: {:?}", quiet.asked);
    assert!(told.case("network")["note"].as_str().is_some_and(|note| note.contains("the API server 127.0.0.1 without it (NO_PROXY)")));
}

#[test]
fn a_private_authority_is_trusted_only_when_it_is_named() {
    let (folder, served) = serve("");
    let authority = Authority::new("agents' private CA").expect("an authority");
    let front = tls_front(&authority, &value(&served, "AWS_ENDPOINT_URL"));
    folder.write("private-ca.pem", authority.pem());
    let file = folder.path("private-ca.pem").display().to_string();
    let aws = ("AWS_ENDPOINT_URL", front);
    let without = workspace(&served, &[], std::slice::from_ref(&aws));
    let run = without.run(&["connect", "-f", FILE]).exits(7);
    let case = run.case("describe cluster shop-eks");
    assert_eq!(case["code"], "aws_unreachable", "{}", run.stdout);
    assert!(case["next"].to_string().contains("AWS_CA_BUNDLE"), "{case}");
    for variable in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
        let trusting = workspace(&served, &[], &[aws.clone(), (variable, file.clone())]);
        let told = trusting.run(&["doctor", "-f", FILE]).exits(0);
        assert!(told.case("network")["note"].as_str().is_some_and(|note| note.contains(variable)), "{}", told.stdout);
    }
    let run = workspace(&served, &[], &[aws, ("AWS_CA_BUNDLE", "/no/such/ca.pem".to_owned())]).run(&["connect", "-f", FILE]).exits(3);
    assert!(run.stdout.contains("AWS_CA_BUNDLE `/no/such/ca.pem`"), "{}", run.stdout);
}

#[test]
fn a_role_of_the_file_is_assumed_first() {
    let role = "cluster: {name: shop-eks, region: ap-southeast-1, role-arn: 'arn:aws:iam::123456789012:role/deployer'}";
    let with_role = |workspace: &Workspace| {
        let text = workspace.read(FILE);
        workspace.write(FILE, &text.replacen("cluster: {name: shop-eks, region: ap-southeast-1}", role, 1));
    };
    let (_folder, served) = serve("");
    let may = workspace(&served, &[], &[]);
    with_role(&may);
    may.run(&["doctor", "-f", FILE]).exits(0);

    let (_folder, served) = serve("aws: {calls: [{op: AssumeRole, match: 'role%2Fdeployer', status: 403, code: AccessDenied, message: not you}]}");
    let may_not = workspace(&served, &[], &[]);
    with_role(&may_not);
    let run = may_not.run(&["connect", "-f", FILE]).exits(7);
    assert_eq!(run.case("describe cluster shop-eks")["code"], "aws_credentials", "{}", run.stdout);
    assert!(run.case("describe cluster shop-eks").to_string().contains("not you"), "{}", run.stdout);
}

#[test]
fn a_web_identity_is_enough() {
    let (folder, served) = serve("");
    folder.write("token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjaSJ9.c2ln");
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let role = ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ci".to_owned());
    let token = |name: &str| ("AWS_WEB_IDENTITY_TOKEN_FILE", folder.path(name).display().to_string());
    let workspace_with = |more: &[(&str, String)]| workspace(&served, &keys, more);
    workspace_with(&[role.clone(), token("token")]).run(&["doctor", "-f", FILE]).exits(0);

    folder.write("broken", "no token");
    let broken = workspace_with(&[role.clone(), token("broken")]);
    let run = broken.run(&["connect", "-f", FILE]).exits(7);
    assert_eq!(run.case("describe cluster shop-eks")["code"], "aws_credentials", "{}", run.stdout);
    let nobody = workspace_with(&[]);
    let run = nobody.run(&["connect", "-f", FILE]).exits(7);
    assert!(run.case("describe cluster shop-eks")["message"].as_str().is_some_and(|m| m.contains("there are no AWS credentials")), "{}", run.stdout);
}
