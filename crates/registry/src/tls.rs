//! The server's certificate, which can be replaced while it runs.
//!
//! The files are read again on SIGHUP and when they have changed; a pair that does not fit leaves the old one
//! in force.

use base::{Error, Result};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};
use tokio_rustls::TlsAcceptor;

/// A certificate chain with its key, from two PEM files.
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    held: Arc<Held>,
    read: Mutex<Option<(SystemTime, SystemTime)>>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Held(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Held {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Makes our cryptography that of all libraries in this process.
pub fn install() {
    // Only the first call counts, and they are all alike.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Certificates {
    /// Reads both files.
    ///
    /// # Errors
    /// `Invalid` when one is no PEM file, or they do not belong together.
    pub fn open(certificate: PathBuf, key: PathBuf) -> Result<Self> {
        let held = Arc::new(Held(RwLock::new(load(&certificate, &key)?)));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::internal("cannot set TLS up").caused_by(e))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&held) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let certificates = Self { certificate, key, held, read: Mutex::new(None), acceptor };
        certificates.note_times();
        Ok(certificates)
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Reads both files again.
    ///
    /// # Errors
    /// As [`Certificates::open`]; the old pair stays.
    pub fn reload(&self) -> Result<()> {
        self.note_times();
        let fresh = load(&self.certificate, &self.key)?;
        *self.held.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Reads both files again if one has changed; whether it did.
    ///
    /// # Errors
    /// As [`Certificates::reload`].
    pub fn reload_if_changed(&self) -> Result<bool> {
        if self.times() == *self.read.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }

    fn times(&self) -> Option<(SystemTime, SystemTime)> {
        let time = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        Some((time(&self.certificate)?, time(&self.key)?))
    }

    fn note_times(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = self.times();
    }
}

fn load(certificate: &PathBuf, key: &PathBuf) -> Result<Arc<CertifiedKey>> {
    let bad = |what: &str, path: &PathBuf, e: &dyn std::fmt::Display| {
        Error::invalid(format!("cannot use the {what} {}: {e}", path.display()))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|e| bad("certificate", certificate, &e))?;
    if chain.is_empty() {
        return Err(bad("certificate", certificate, &"it holds none"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| bad("key", key, &e))?;
    let pair =
        CertifiedKey::from_der(chain, secret, &provider()).map_err(|e| bad("key", key, &e))?;
    Ok(Arc::new(pair))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_bad_pair_leaves_the_old_one_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (first, second) = (pair(), pair());
        fs::write(&cert, first.cert.pem()).unwrap();
        assert!(Certificates::open(cert.clone(), key.clone()).is_err());
        fs::write(&key, first.signing_key.serialize_pem()).unwrap();
        let held = Certificates::open(cert.clone(), key.clone()).unwrap();
        let now = || Arc::clone(&held.held.0.read().unwrap());
        let before = now();
        assert!(!held.reload_if_changed().unwrap());
        fs::write(&cert, second.cert.pem()).unwrap();
        assert!(held.reload().is_err(), "certificate and key do not fit");
        assert!(Arc::ptr_eq(&before, &now()));
        fs::write(&key, second.signing_key.serialize_pem()).unwrap();
        held.reload().unwrap();
        assert!(!Arc::ptr_eq(&before, &now()));
    }
}
