//! TLS to an engine: `--tls`, `--tlsverify` and the files that go with them, as docker's command line has them.
//!
//! The rest of the client wants a socket: a thread copies between TLS and one end of a pair.
//! Invariant: with `--tlsverify` only the authority of `--tlscacert` is believed, never the system's.

use crate::{
    error::{Fail, Result},
    flags::Given,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How an engine is spoken to under TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Believed authority, PEM; `None` believes every server.
    authority: Option<PathBuf>,
    /// Own certificate and key, PEM.
    identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Reads flags and variables; `None` when plain TCP is meant.
    pub(crate) fn choose(global: &Given) -> Result<Option<Self>> {
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let verify = global.is("tlsverify") || variable("DOCKER_TLS_VERIFY").is_some();
        if !verify && !global.is("tls") && variable("DOCKER_TLS").is_none() {
            return Ok(None);
        }
        let folder = variable("DOCKER_CERT_PATH")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".docker")));
        let folder = folder.unwrap_or_default();
        let file = |flag: &str, standard: &str| match global.text(flag).filter(|t| !t.is_empty()) {
            Some(path) => (PathBuf::from(path), true),
            None => (folder.join(standard), false),
        };
        let (cert, key) = (file("tlscert", "cert.pem"), file("tlskey", "key.pem"));
        let asked = cert.1 || key.1;
        let there = cert.0.exists() && key.0.exists();
        if asked && !there {
            return Err(Fail::new(format!(
                "could not read X509 key pair: {} and {}",
                cert.0.display(),
                key.0.display()
            )));
        }
        Ok(Some(Self {
            authority: verify.then(|| file("tlscacert", "ca.pem").0),
            identity: there.then_some((cert.0, key.0)),
        }))
    }

    fn config(&self) -> io::Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let bad = |path: &Path, why: &dyn std::fmt::Display| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cannot use {}: {why}", path.display()),
            )
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = match &self.authority {
            None => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            }
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for cert in CertificateDer::pem_file_iter(path).map_err(|e| bad(path, &e))? {
                    let cert = cert.map_err(|e| bad(path, &e))?;
                    roots.add(cert).map_err(|e| bad(path, &e))?;
                }
                builder.with_root_certificates(roots)
            }
        };
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((cert, key)) => {
                let chain = CertificateDer::pem_file_iter(cert)
                    .and_then(Iterator::collect)
                    .map_err(|e| bad(cert, &e))?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, &e))?;
                builder.with_client_auth_cert(chain, private).map_err(|e| bad(cert, &e))
            }
        }
    }

    /// Connects to `host:port` and shakes hands.
    pub(crate) fn connect(&self, address: &str) -> io::Result<UnixStream> {
        let name = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.config()?));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let mut secured = runtime.block_on(async {
            let tcp = tokio::net::TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            connector.connect(name, tcp).await
        })?;
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        std::thread::Builder::new().name("tls".into()).spawn(move || {
            runtime.block_on(async {
                // The other side sees its end close, whatever the reason.
                if let Ok(mut inner) = tokio::net::UnixStream::from_std(theirs) {
                    let _ = tokio::io::copy_bidirectional(&mut inner, &mut secured).await;
                }
            });
        })?;
        Ok(ours)
    }
}

/// Believes who the server says it is; signatures are still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
