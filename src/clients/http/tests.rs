//! The checks' client against small servers of its own: plain, TLS with good and bad certificates, DNS.

use std::convert::Infallible;
use std::sync::Mutex;

use bytes::Bytes;
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType, rdata::A};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::base::codes::Code;

fn http(vars: &[(&str, String)]) -> Http {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Http::new(&Settings::from_vars(vars, [])).expect("a client")
}

fn request(scheme: Scheme, address: SocketAddr) -> Request {
    Request { connect: Some(address), timeout: Duration::from_secs(5), ..Request::get(scheme, "app1.public.domain", "/x?y=1") }
}

/// Answers with what it was asked, over whatever HTTP version the client speaks.
async fn echo(request: hyper::Request<hyper::body::Incoming>) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let host = request.uri().authority().map(ToString::to_string);
    let host = host.or_else(|| request.headers().get("host").map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned())).unwrap_or_default();
    let body = format!("{} {host} {:?}", request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(), request.version());
    let mut response = hyper::Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert("Server", "istio-envoy".parse().expect("a value"));
    Ok(response)
}

async fn plain(answer: &'static [u8], close: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 1024];
            _ = stream.read(&mut asked).await;
            _ = stream.write_all(answer).await;
            if !close {
                kept.push(stream);
            }
        }
    });
    address
}

struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("valid");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("signed");
    Authority { certificate, issuer: rcgen::Issuer::new(params, key) }
}

/// A TLS server with a certificate for `names`, valid in these years.
async fn tls(authority: &Authority, names: &[&str], years: (i32, i32)) -> SocketAddr {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("valid");
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    serve(&params.signed_by(&key, &authority.issuer).expect("signed"), &key).await
}

/// A TLS server with a certificate that it signed itself.
async fn self_signed(names: &[&str], is_ca: rcgen::IsCa) -> SocketAddr {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("valid");
    params.is_ca = is_ca;
    serve(&params.self_signed(&key).expect("signed"), &key).await
}

async fn serve(certificate: &rcgen::Certificate, key: &KeyPair) -> SocketAddr {
    crate::clients::install_crypto_provider();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            tokio::spawn(async move { auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(echo)).await });
        }
    });
    address
}

fn cacert(authority: &Authority) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), authority.certificate.pem()).expect("written");
    file
}

#[tokio::test]
async fn the_host_asked_for_is_sent_to_the_address_given() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(echo)).await });
        }
    });
    let answer = http(&[]).send(&request(Scheme::Http, address)).await.expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "/x?y=1 app1.public.domain HTTP/1.1"));
    assert_eq!((answer.header("SERVER"), answer.peer, answer.truncated), (Some("istio-envoy"), Some(address), false));
    assert!(answer.timings.total >= answer.timings.first_byte && answer.tls.is_none());
    // The same through the map, by the load balancer's name: nothing is looked up.
    let map = http(&[("MESHSTEP_CONNECT_TO", format!("alb.example:80:127.0.0.1:{}", address.port()))]);
    let through = Request { via: Some("alb.example".into()), connect: None, ..request(Scheme::Http, address) };
    assert_eq!(map.send(&through).await.expect("an answer").text(), answer.text());
}

#[tokio::test]
async fn a_long_body_is_cut_at_the_cap() {
    let server = wiremock::MockServer::start().await;
    let long = wiremock::ResponseTemplate::new(503).set_body_bytes(vec![b'x'; 10 * 1024 * 1024]);
    wiremock::Mock::given(wiremock::matchers::any()).respond_with(long).mount(&server).await;
    let answer = http(&[]).send(&Request { body_cap: 1000, ..request(Scheme::Http, *server.address()) }).await.expect("an answer");
    assert_eq!((answer.status, answer.body.len(), answer.truncated), (503, 1000, true));
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_host_while_it_brings_no_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        for n in 1.. {
            let Ok((stream, _)) = listener.accept().await else { break };
            // The status is asked for; the body tells which connection it is.
            let answer = move |asked: hyper::Request<hyper::body::Incoming>| async move {
                let status = asked.uri().path()[1..].parse::<u16>().expect("a status");
                hyper::Response::builder().status(status).body(Full::new(Bytes::from(format!("connection {n}"))))
            };
            tokio::spawn(async move { auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(answer)).await });
        }
    });
    let http = http(&[]);
    for (host, path, keep, connection) in [
        ("app1.example", "/200", true, 1),
        ("app2.example", "/200", true, 1),
        ("app1.example", "/200", false, 2),
        ("app1.example", "/503", true, 1),
        ("app1.example", "/200", true, 3),
    ] {
        let request = Request { host: host.into(), path: path.into(), keep, ..request(Scheme::Http, address) };
        assert_eq!(http.send(&request).await.expect("an answer").text(), format!("connection {connection}"), "{host}{path} {keep}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_is_no_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 1024];
            _ = stream.read(&mut asked).await;
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            // Closed when the next request is there.
            _ = stream.read(&mut asked).await;
        }
    });
    let (http, request) = (http(&[]), Request { keep: true, ..request(Scheme::Http, address) });
    for _ in 0..3 {
        assert_eq!(http.send(&request).await.expect("an answer").text(), "ok");
    }
}

#[tokio::test]
async fn tls_shows_its_chain_and_speaks_http_2() {
    let authority = authority();
    let (address, file) = (tls(&authority, &["app1.public.domain"], (2020, 2090)).await, cacert(&authority));
    let answer = http(&[]).send(&Request { cacert: Some(file.path().into()), ..request(Scheme::Https, address) }).await.expect("an answer");
    assert_eq!(answer.text(), format!("/x?y=1 app1.public.domain HTTP/2.0"));
    let tls = answer.tls.expect("TLS");
    assert_eq!((tls.version.as_str(), tls.alpn.as_str(), tls.chain.len()), ("TLSv1.3", "h2", 1));
    assert_eq!(tls.chain[0].sans, ["app1.public.domain"]);
    assert!(answer.timings.tls > Duration::ZERO);
}

#[tokio::test]
async fn each_bad_certificate_has_its_class_and_is_still_shown() {
    let (authority, other) = (authority(), self::authority());
    let (trusted, foreign) = (cacert(&authority), cacert(&other));
    let host = "app1.public.domain";
    for (names, years, file, class, code) in [
        ([host], (2020, 2021), &trusted, TlsClass::Expired, Code::TlsExpired),
        ([host], (2080, 2090), &trusted, TlsClass::NotYetValid, Code::TlsExpired),
        (["other.example"], (2020, 2090), &trusted, TlsClass::WrongName, Code::TlsName),
        ([host], (2020, 2090), &foreign, TlsClass::UnknownIssuer, Code::TlsUntrusted),
    ] {
        let address = tls(&authority, &names, years).await;
        let error = http(&[]).send(&Request { cacert: Some(file.path().into()), ..request(Scheme::Https, address) }).await.expect_err("refused");
        let NetError::Tls { class: found, chain, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*found, chain.len(), error.fault().code), (class, 1, code), "{error:?}");
        assert_eq!(chain[0].sans, names);
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_not_trusted() {
    let host = "app1.public.domain";
    for (is_ca, advised) in [(rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained), true), (rcgen::IsCa::NoCa, false)] {
        let address = self_signed(&[host], is_ca).await;
        let error = http(&[]).send(&request(Scheme::Https, address)).await.expect_err("refused");
        let NetError::Tls { class, chain, .. } = &error else { panic!("{error:?}") };
        let fault = error.fault();
        assert_eq!((*class, chain.len(), fault.code), (TlsClass::UnknownIssuer, 1, Code::TlsUntrusted), "{error:?}");
        assert_eq!(fault.next.iter().any(|step| step.contains("CA:TRUE")), advised, "{fault:?}");
    }
}

#[tokio::test]
async fn a_port_without_tls_or_without_http_says_so() {
    let address = plain(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", false).await;
    let error = http(&[]).send(&request(Scheme::Https, address)).await.expect_err("no TLS");
    assert_eq!(error.fault().code, Code::TlsProtocol, "{error:?}");
    let address = plain(b"220 mail.example ESMTP\r\n", false).await;
    let error = http(&[]).send(&request(Scheme::Http, address)).await.expect_err("no HTTP");
    assert!(matches!(error, NetError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn refusals_silence_and_breaks_are_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("bound");
    let error = http(&[]).send(&request(Scheme::Http, closed)).await.expect_err("refused");
    assert_eq!(error, NetError::Refused { address: closed.to_string() });
    let silent = plain(b"", false).await;
    let patience = Duration::from_millis(200);
    let error = http(&[]).send(&Request { timeout: patience, ..request(Scheme::Http, silent) }).await.expect_err("silent");
    assert_eq!(error, NetError::Timeout { phase: Phase::FirstByte, after: patience });
    let error = http(&[]).send(&Request { timeout: patience, ..request(Scheme::Https, silent) }).await.expect_err("silent");
    assert_eq!(error, NetError::Timeout { phase: Phase::Tls, after: patience });
    let broken = plain(b"", true).await;
    let error = http(&[]).send(&request(Scheme::Http, broken)).await.expect_err("broken");
    assert!(matches!(error, NetError::Reset { phase: Phase::FirstByte, .. }), "{error:?}");
    let short = plain(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", true).await;
    let error = http(&[]).send(&request(Scheme::Http, short)).await.expect_err("short");
    assert!(matches!(error, NetError::Reset { phase: Phase::Body, .. }), "{error:?}");
}

/// A resolver: `alb.example` has an address the second time it is asked for one, `empty.example` none, `lame.example` is refused.
async fn dns() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let address = socket.local_addr().expect("bound");
    let asked = Mutex::new(0);
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let Ok(query) = Message::from_vec(&packet[..length]) else { continue };
            let question = query.queries[0].clone();
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            answer.metadata.message_type = MessageType::Response;
            answer.metadata.recursion_available = true;
            answer.add_query(question.clone());
            match (question.name().to_string().as_str(), question.query_type()) {
                ("alb.example.", RecordType::A) => {
                    let mut asked = asked.lock().expect("lock");
                    *asked += 1;
                    if *asked == 1 {
                        answer.metadata.response_code = ResponseCode::NXDomain;
                    } else {
                        answer.add_answer(Record::from_rdata(question.name().clone(), 60, RData::A(A::new(127, 0, 0, 9))));
                    }
                }
                ("alb.example." | "empty.example.", _) => {}
                ("lame.example.", _) => answer.metadata.response_code = ResponseCode::Refused,
                _ => answer.metadata.response_code = ResponseCode::NXDomain,
            }
            _ = socket.send_to(&answer.to_vec().expect("encoded"), from).await;
        }
    });
    address
}

#[tokio::test]
async fn names_are_asked_for_afresh_and_their_absence_told_apart() {
    let http = http(&[("MESHSTEP_DNS", dns().await.to_string())]);
    let own = str::to_owned;
    assert_eq!(http.resolve("no.such.example").await, Err(DnsError::NoSuchName(own("no.such.example"))));
    assert_eq!(http.resolve("empty.example").await, Err(DnsError::NoAddress(own("empty.example"))));
    assert!(matches!(http.resolve("lame.example").await, Err(DnsError::Refused { .. })));
    assert!(http.resolve("alb.example").await.is_err(), "not yet there");
    assert_eq!(http.resolve("alb.example").await, Ok(vec![IpAddr::from([127, 0, 0, 9])]), "a former no is not remembered");
    assert_eq!(http.resolve("127.0.0.7").await, Ok(vec![IpAddr::from([127, 0, 0, 7])]));
}

#[test]
fn a_wrong_resolver_is_named() {
    let fault = Http::new(&Settings::from_vars([("MESHSTEP_DNS".to_owned(), "nowhere".to_owned())], [])).err().expect("a fault");
    assert!(fault.message.contains("nowhere"), "{fault}");
}
