//! TLS on TCP: the server's certificate, clients' certificates, and the way of a connection through it.
//!
//! A secured connection is served through a pair of sockets: one side is HTTP's, which treats sockets as
//! sockets (peeks, takes over, sees hang-ups), the other is copied to and from TLS.
//! Invariants: certificates that cannot be used change nothing; a handshake has [`HANDSHAKE`]; with an
//! authority no byte of a client without a certificate of it reaches HTTP.
//! Source: dockerd's `--tls`, `--tlsverify`, `--tlscacert`, `--tlscert`, `--tlskey`.

use crate::socket::Stream;
use base::{Error, Principal, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::net::{TcpStream, UnixStream};

/// A client has this long for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The files, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate, its chain after it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Clients must have a certificate of this authority; `None` takes every client.
    pub authority: Option<PathBuf>,
}

/// What secured listeners share; can be read again while connections go on.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    now: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// `Invalid`, naming the file that cannot be used.
    pub fn new(files: Files) -> Result<Self> {
        let now = RwLock::new(Arc::new(read(&files)?));
        Ok(Self { files, now })
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// As [`Tls::new`]; what was read before stays in use.
    pub fn reload(&self) -> Result<()> {
        let new = Arc::new(read(&self.files)?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Shakes hands; gives the connection that HTTP is spoken on, who is at the other end, and the copying
    /// that has to be driven meanwhile.
    pub(crate) async fn accept(
        &self,
        tcp: TcpStream,
    ) -> std::io::Result<(Stream, Principal, impl Future<Output = ()> + Send + use<>)> {
        let config = Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner));
        let shake = tokio_rustls::TlsAcceptor::from(config).accept(tcp);
        let mut secured = tokio::time::timeout(HANDSHAKE, shake).await??;
        let chain = secured.get_ref().1.peer_certificates().unwrap_or_default();
        let name = chain.first().and_then(|c| common_name(c)).unwrap_or_default();
        let certificates = chain.iter().map(|c| pem(c)).collect();
        let by = Principal { name, ..Principal::default() };
        let (ours, mut inner) = UnixStream::pair()?;
        let copying = async move {
            // Either end may go at any time; the other then sees it go.
            let _ = tokio::io::copy_bidirectional(&mut secured, &mut inner).await;
        };
        Ok((Stream::Secured(ours, certificates), by, copying))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(files: &Files) -> Result<ServerConfig> {
    let bad = |path: &Path, why: String| {
        Error::invalid(format!("cannot use {} for TLS", path.display())).caused_by(why)
    };
    let chain = certificates(&files.certificate).map_err(|w| bad(&files.certificate, w))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|err| bad(&files.key, err.to_string()))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|err| Error::internal("cannot set up TLS").caused_by(err))?;
    let builder = match &files.authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path).map_err(|w| bad(path, w))? {
                roots.add(certificate).map_err(|err| bad(path, err.to_string()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|err| bad(path, err.to_string()))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|err| bad(&files.certificate, err.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|err| err.to_string())?;
    if all.is_empty() { Err("it holds no certificate".into()) } else { Ok(all) }
}

/// A certificate as text.
fn pem(der: &[u8]) -> String {
    const COLUMNS: usize = 64;
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(COLUMNS)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The common name of a certificate's subject. The certificate was verified before.
///
/// Source: RFC 5280, `TBSCertificate`: version, serial, algorithm, issuer, validity, subject.
fn common_name(der: &[u8]) -> Option<String> {
    const VERSION: u8 = 0xa0;
    const NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (_, subject, _) = element(rest)?;
    let mut sets = subject;
    let mut found = None;
    while let Some((_, set, after)) = element(sets) {
        let (_, pair, _) = element(set)?;
        if let Some(value) = pair.strip_prefix(&NAME[..]) {
            let (_, text, _) = element(value)?;
            found = Some(String::from_utf8_lossy(text).chars().take(256).collect());
        }
        sets = after;
    }
    found
}

/// Tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        let (bytes, rest) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
        (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_s_common_name_is_the_client_s() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["other.example".into()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Org");
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(common_name(certificate.der()).as_deref(), Some("alice"));
        let read = CertificateDer::from_pem_slice(pem(certificate.der()).as_bytes()).unwrap();
        assert_eq!(&read, certificate.der());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pem");
        let files = Files { certificate: path.clone(), key: path.clone(), authority: None };
        let text = Tls::new(files.clone()).unwrap_err().to_string();
        assert_eq!(text, format!("cannot use {} for TLS", path.display()));
        std::fs::write(&path, "nothing").unwrap();
        assert!(Tls::new(files).unwrap_err().chain().contains("it holds no certificate"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_a_name_or_none(bytes: Vec<u8>) {
            let _ = common_name(&bytes);
        }
    }
}
