//! A server that speaks TLS and that nobody trusts, for webhooks: `<stranger>` is its address, `<other-ca>` an authority that did not sign it.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use meshstep::sandbox::pki::Authority;
use tokio_rustls::TlsAcceptor;

/// What takes the place of its words; must be called within a runtime, which serves it as long as it lives.
pub(crate) fn words() -> Vec<(&'static str, String)> {
    static ONE: OnceLock<(String, String)> = OnceLock::new();
    let (address, authority) = ONE.get_or_init(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let address = listener.local_addr().expect("an address").to_string();
        let own = Authority::new("stranger").expect("an authority").server(&["127.0.0.1"], &["http/1.1"]).expect("a certificate");
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(own))));
        let other = Authority::new("somebody else").expect("an authority");
        (address, base64::engine::general_purpose::STANDARD.encode(other.pem()))
    });
    vec![("<stranger>", address.clone()), ("<other-ca>", authority.clone())]
}

/// Shakes hands, and says nothing.
async fn serve(listener: TcpListener, tls: TlsAcceptor) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
    while let Ok((stream, _)) = listener.accept().await {
        let tls = tls.clone();
        // whoever does not trust it ends the connection
        tokio::spawn(async move { drop(tls.accept(stream).await) });
    }
}
