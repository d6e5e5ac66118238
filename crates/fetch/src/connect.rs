//! From a URL to a connection: names, addresses, proxies, TLS.

use crate::{Error, Failure, Proxies, proxy::Proxy, tls, url};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tower_service::Service;

/// How long one address may take to answer, and the whole of names, TLS and proxy.
const DIAL: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(30);
/// Bytes of a proxy's answer to CONNECT.
const PROXY_ANSWER: usize = 16 << 10;

/// Which addresses a client may connect to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// All but link-local ones, where clouds keep their credentials.
    #[default]
    NotLinkLocal,
    /// Neither link-local nor this machine: for places that somebody outside has named.
    Outside,
    /// All.
    All,
}

impl Addresses {
    fn refusal(self, address: &SocketAddr) -> Option<&'static str> {
        let ip = match address.ip() {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
            v4 @ IpAddr::V4(_) => v4,
        };
        let link_local = match ip {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        match self {
            Self::All => None,
            _ if link_local => Some("link-local addresses are not allowed"),
            Self::Outside if ip.is_loopback() || ip.is_unspecified() => {
                Some("addresses of this machine are not allowed")
            }
            _ => None,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) proxies: Proxies,
    pub(crate) addresses: Addresses,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, plain or not.
pub(crate) struct Stream {
    io: TokioIo<Box<dyn Io>>,
    /// A plain proxy wants whole URLs.
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(CONNECT, this.open(&uri)).await {
                Ok(done) => done,
                Err(_) => Err(Error::new(Failure::Connect, format!("dial tcp {}", place(&uri)))
                    .because("i/o timeout")),
            }
        })
    }
}

fn place(uri: &Uri) -> String {
    format!("{}:{}", uri.host().unwrap_or_default(), url::port(uri))
}

impl Connector {
    async fn open(&self, uri: &Uri) -> Result<Stream, Error> {
        let secure = uri.scheme_str() == Some("https");
        let Some(proxy) = self.proxies.proxy_for(uri)? else {
            let tcp = dial(uri, self.addresses).await?;
            let io: Box<dyn Io> =
                if secure { Box::new(self.secured(uri, tcp).await?) } else { Box::new(tcp) };
            return Ok(Stream { io: TokioIo::new(io), proxied: false });
        };
        // The proxy stands where its owner put it; what it reaches is its business.
        let failed = |e: Error| {
            let text = format!("proxyconnect to {}", place(&proxy.uri));
            Error::new(e.failure(), text).because(e)
        };
        let tcp = dial(&proxy.uri, Addresses::All).await.map_err(failed)?;
        let mut io: Box<dyn Io> = if proxy.uri.scheme_str() == Some("https") {
            Box::new(self.secured(&proxy.uri, tcp).await.map_err(failed)?)
        } else {
            Box::new(tcp)
        };
        if !secure {
            return Ok(Stream { io: TokioIo::new(io), proxied: true });
        }
        tunnel(&mut io, uri, &proxy).await.map_err(failed)?;
        let io: Box<dyn Io> = Box::new(self.secured(uri, io).await?);
        Ok(Stream { io: TokioIo::new(io), proxied: false })
    }

    async fn secured<S: Io>(
        &self,
        uri: &Uri,
        stream: S,
    ) -> Result<tokio_rustls::client::TlsStream<S>, Error> {
        let name = ServerName::try_from(url::host(uri).to_owned())
            .map_err(|e| Error::new(Failure::Invalid, "invalid host name").because(e))?;
        tokio_rustls::TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(|e| Error::new(Failure::Tls, tls::reason(&e)))
    }
}

async fn dial(uri: &Uri, allowed: Addresses) -> Result<TcpStream, Error> {
    let (host, port) = (url::host(uri), url::port(uri));
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(|_| {
        Error::new(Failure::Connect, format!("dial tcp: lookup {host}")).because("no such host")
    })?;
    let mut last =
        Error::new(Failure::Connect, format!("dial tcp: lookup {host}")).because("no such host");
    for address in addresses {
        let failed = |kind| Error::new(kind, format!("dial tcp {address}"));
        if let Some(why) = allowed.refusal(&address) {
            last = failed(Failure::Forbidden).because(why);
            continue;
        }
        match tokio::time::timeout(DIAL, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are small and answers are waited for.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(err)) => {
                let text = err.to_string().to_ascii_lowercase();
                let text = text.split(" (os error").next().unwrap_or_default().to_owned();
                last = failed(Failure::Connect).because(format!("connect: {text}"));
            }
            Err(_) => last = failed(Failure::Connect).because("i/o timeout"),
        }
    }
    Err(last)
}

/// Asks a proxy for a connection to `uri`'s host.
async fn tunnel(io: &mut Box<dyn Io>, uri: &Uri, proxy: &Proxy) -> Result<(), Error> {
    let broken = |e: io::Error| Error::new(Failure::Connect, "CONNECT").because(e);
    let place = place(uri);
    let mut head = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
    if let Some(value) = &proxy.authorization {
        head.push_str(&format!("Proxy-Authorization: {value}\r\n"));
    }
    head.push_str("\r\n");
    io.write_all(head.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the head belongs to TLS already.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > PROXY_ANSWER {
            return Err(Error::new(Failure::Connect, "the proxy's answer to CONNECT is too long"));
        }
        answer.push(io.read_u8().await.map_err(broken)?);
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(Error::new(Failure::Connect, "CONNECT").because(line.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        let refused = |rule: Addresses, text: &str| rule.refusal(&text.parse().unwrap()).is_some();
        for local in ["169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.1.1]:80"] {
            assert!(refused(Addresses::NotLinkLocal, local), "{local}");
            assert!(!refused(Addresses::All, local), "{local}");
        }
        for own in ["127.0.0.1:80", "[::1]:80", "0.0.0.0:80", "[::ffff:127.0.0.1]:80"] {
            assert!(!refused(Addresses::NotLinkLocal, own), "{own}");
            assert!(refused(Addresses::Outside, own), "{own}");
        }
        assert!(!refused(Addresses::Outside, "192.0.2.1:443"));
    }
}
