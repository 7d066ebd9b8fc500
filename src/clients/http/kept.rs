//! Connections of plain HTTP that stay open for the next request to their address, whatever its Host. TLS has none: a connection is one
//! host's there, and each host's handshake is to be seen.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

use tokio::net::TcpStream;

use super::Answer;
use super::send::Http1;
use crate::base::mutex::lock;

/// The idle ones, by where they lead.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<SocketAddr, Vec<Http1<TcpStream>>>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Http1<TcpStream>>>> {
        lock(&self.0)
    }

    /// One to any of these addresses.
    pub(super) fn take(&self, addresses: &[SocketAddr]) -> Option<(Http1<TcpStream>, SocketAddr)> {
        let mut kept = self.lock();
        addresses.iter().find_map(|address| Some((kept.get_mut(address)?.pop()?, *address)))
    }

    /// Keeps one if what it brought was whole and no error: behind an address may be many, and whoever asks again after an error is to be
    /// free to reach another of them.
    pub(super) fn put(&self, connection: Http1<TcpStream>, peer: SocketAddr, answer: &Answer) {
        if !answer.truncated && answer.status < 400 && connection.is_open() {
            self.lock().entry(peer).or_default().push(connection);
        }
    }
}
