//! SPDY/3.1 as far as `kubectl port-forward` speaks it: two streams for each connection, one for data and one for errors.

use std::collections::HashMap;
use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::options::Forwarded;

/// The words of the protocol's compression dictionary; each follows its length.
const WORDS: &str = "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|allow|authorization|cache-co\
     ntrol|connection|content-base|content-encoding|content-language|content-length|content-location|content-md5|content-range|content-type|\
     date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-for\
     wards|pragma|proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|user-agent|va\
     ry|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|keep-alive|origin";
/// What follows the words.
const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Conte\
     nt301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service\
     \x20UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png\
     ,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf\
     -8charset=iso-8859-1,utf-,*,enq=0.";
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const FIN: u8 = 1;
/// No frame that kubectl sends is larger.
const FRAME_LIMIT: usize = 4 * 1024 * 1024;

fn dictionary() -> Vec<u8> {
    let mut out = Vec::new();
    for word in WORDS.split('|') {
        out.extend(u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
        out.extend(word.as_bytes());
    }
    out.extend(REST.as_bytes());
    out
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(8 + payload.len());
    frame.extend((0x8000_u16 | 3).to_be_bytes());
    frame.extend(kind.to_be_bytes());
    frame.extend(head(flags, payload.len()));
    frame.extend(payload);
    frame
}

fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(8 + payload.len());
    frame.extend(stream.to_be_bytes());
    frame.extend(head(flags, payload.len()));
    frame.extend(payload);
    frame
}

fn head(flags: u8, length: usize) -> [u8; 4] {
    let mut head = u32::try_from(length).unwrap_or_default().to_be_bytes();
    head[0] = flags;
    head
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Header blocks share one compression history for the whole connection.
struct Headers {
    inflate: Decompress,
    deflate: Compress,
    dictionary: Vec<u8>,
}

impl Headers {
    fn new() -> io::Result<Headers> {
        let dictionary = dictionary();
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(&dictionary).map_err(io::Error::other)?;
        Ok(Headers { inflate: Decompress::new(true), deflate, dictionary })
    }

    fn read(&mut self, block: &[u8]) -> io::Result<HashMap<String, String>> {
        let mut out = Vec::with_capacity(4096);
        let start = self.inflate.total_in();
        loop {
            let at = usize::try_from(self.inflate.total_in() - start).map_err(io::Error::other)?;
            let before = self.inflate.total_out();
            match self.inflate.decompress_vec(&block[at..], &mut out, FlushDecompress::Sync) {
                Err(e) if e.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&self.dictionary).map_err(io::Error::other)?;
                }
                Err(e) => return Err(io::Error::other(e)),
                Ok(_) if out.len() == out.capacity() => out.reserve(4096),
                Ok(_) if self.inflate.total_out() == before || self.inflate.total_in() - start == block.len() as u64 => break,
                Ok(_) => {}
            }
        }
        Ok(pairs(&out).unwrap_or_default())
    }

    /// A block without headers.
    fn empty(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(256);
        self.deflate.compress_vec(&0_u32.to_be_bytes(), &mut out, FlushCompress::Sync).map_err(io::Error::other)?;
        Ok(out)
    }
}

fn pairs(block: &[u8]) -> Option<HashMap<String, String>> {
    let mut at = 4;
    let mut text = || -> Option<String> {
        let length = usize::try_from(number(block, at)?).ok()?;
        let text = String::from_utf8_lossy(block.get(at + 4..at + 4 + length)?).into_owned();
        at += 4 + length;
        Some(text)
    };
    let count = number(block, 0)?;
    (0..count).map(|_| Some((text()?.to_lowercase(), text()?))).collect()
}

/// Serves one port-forward connection until the client leaves.
///
/// # Errors
/// The client broke the protocol or the connection.
pub(super) async fn serve<S>(socket: S, pod: &str, connect: impl Fn(u16) -> Forwarded) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(socket);
    let (frames, mut outgoing) = mpsc::channel::<Vec<u8>>(256);
    let writing = tokio::spawn(async move {
        while let Some(frame) = outgoing.recv().await {
            if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
        // The client may have closed first.
        let _ = writer.shutdown().await;
    });
    let mut headers = Headers::new()?;
    let mut errors: HashMap<String, u32> = HashMap::new();
    let mut inputs: HashMap<u32, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    loop {
        let mut head = [0_u8; 8];
        if reader.read_exact(&mut head).await.is_err() {
            break;
        }
        let length = usize::try_from(u32::from_be_bytes([0, head[5], head[6], head[7]])).map_err(io::Error::other)?;
        if length > FRAME_LIMIT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload).await?;
        if head[0] & 0x80 == 0 {
            let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            if let Some(input) = inputs.get(&stream) {
                // A pod that no longer reads does not end the other streams.
                let _ = input.send(payload).await;
            }
            if head[4] & FIN != 0 {
                inputs.remove(&stream);
            }
            continue;
        }
        let stream = number(&payload, 0).unwrap_or_default() & 0x7fff_ffff;
        match u16::from_be_bytes([head[2], head[3]]) {
            SYN_STREAM => {
                let named = headers.read(payload.get(10..).unwrap_or_default())?;
                let mut reply = stream.to_be_bytes().to_vec();
                reply.extend(headers.empty()?);
                frames.send(control(SYN_REPLY, 0, &reply)).await.map_err(|_| gone())?;
                let request = named.get("requestid").cloned().unwrap_or_default();
                let port = named.get("port").and_then(|p| p.parse().ok()).unwrap_or_default();
                if named.get("streamtype").is_some_and(|kind| kind == "error") {
                    errors.insert(request, stream);
                    continue;
                }
                let (input, received) = mpsc::channel(64);
                inputs.insert(stream, input);
                let error = errors.remove(&request).unwrap_or_default();
                tokio::spawn(forward(connect(port), Ends { data: stream, error, port, pod: pod.to_owned() }, received, frames.clone()));
            }
            RST_STREAM => {
                inputs.remove(&stream);
            }
            PING => frames.send(control(PING, 0, &payload)).await.map_err(|_| gone())?,
            _ => {}
        }
    }
    writing.abort();
    Ok(())
}

struct Ends {
    data: u32,
    error: u32,
    port: u16,
    pod: String,
}

/// Carries bytes both ways; ends quietly when either side is gone.
async fn forward(connecting: Forwarded, ends: Ends, mut received: mpsc::Receiver<Vec<u8>>, frames: mpsc::Sender<Vec<u8>>) {
    match connecting.await {
        Err(why) => {
            let message = format!("error forwarding port {} to pod {}, uid : {why}", ends.port, ends.pod);
            let _ = frames.send(data(ends.error, FIN, message.as_bytes())).await;
        }
        Ok(connection) => {
            let (mut from, mut to) = tokio::io::split(connection);
            let out = frames.clone();
            let sending = async move {
                let mut buffer = vec![0; 16 * 1024];
                while let Ok(n @ 1..) = from.read(&mut buffer).await {
                    if out.send(data(ends.data, 0, &buffer[..n])).await.is_err() {
                        return;
                    }
                }
            };
            let receiving = async move {
                while let Some(bytes) = received.recv().await {
                    if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                        return;
                    }
                }
                let _ = to.shutdown().await;
            };
            let receiving = tokio::spawn(receiving);
            sending.await;
            receiving.abort();
            let _ = frames.send(data(ends.error, FIN, b"")).await;
        }
    }
    let _ = frames.send(data(ends.data, FIN, b"")).await;
}
