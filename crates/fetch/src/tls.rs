//! Whom a client trusts over TLS: the system's authorities, further ones, a certificate of its own.

use crate::{Error, Failure};
use rustls::{
    ClientConfig, RootCertStore,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

/// Trust beyond the system's authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Files of further authorities, PEM.
    pub authorities: Vec<PathBuf>,
    /// The client's own certificate and key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Believe every certificate: for registries that were named insecure, and only those.
    pub anyone: bool,
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// The system's authorities, read once: some 140 certificates.
fn system() -> &'static RootCertStore {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for err in &found.errors {
            tracing::debug!(err = err.to_string(), "an authority of the system was passed over");
        }
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

impl Trust {
    /// The configuration of connections.
    ///
    /// # Errors
    /// `Invalid` when a file cannot be read or is no PEM.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let fail = |path: &PathBuf, why: String| {
            Error::new(Failure::Invalid, format!("cannot use {}", path.display())).because(why)
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::new(Failure::Tls, "cannot set up TLS").because(e))?;
        let builder = if self.anyone {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider())))
        } else {
            let mut roots = system().clone();
            for path in &self.authorities {
                let certs = CertificateDer::pem_file_iter(path)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|e| fail(path, e.to_string()))?;
                for cert in certs {
                    roots.add(cert).map_err(|e| fail(path, e.to_string()))?;
                }
            }
            builder.with_root_certificates(roots)
        };
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = CertificateDer::pem_file_iter(cert)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|e| fail(cert, e.to_string()))?;
                let private =
                    PrivateKeyDer::from_pem_file(key).map_err(|e| fail(key, e.to_string()))?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|e| fail(cert, e.to_string()))?
            }
        };
        Ok(Arc::new(config))
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What went wrong in a handshake, in the words that people search for.
pub(crate) fn reason(err: &std::io::Error) -> String {
    use rustls::{CertificateError as Cert, Error as Tls};
    let tls = err.get_ref().and_then(|inner| inner.downcast_ref::<Tls>());
    match tls {
        Some(Tls::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            "http: server gave HTTP response to HTTPS client".into()
        }
        Some(Tls::InvalidCertificate(Cert::UnknownIssuer)) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
                .into()
        }
        Some(Tls::InvalidCertificate(why)) => {
            format!("tls: failed to verify certificate: x509: {why}")
        }
        _ => format!("tls: {err}"),
    }
}
