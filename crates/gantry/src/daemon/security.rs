//! Who may speak to the daemon over TCP: TLS, or plainly when that was asked for in so many words.
//!
//! Source: dockerd 28's rule that TCP without TLS needs `--tls=false` or `--tlsverify=false`.

use super::settings::Given;
use base::{Error, Result};
use server::tls::Files;
use std::path::PathBuf;

/// How TCP sockets are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// With these certificates.
    Tls(Files),
    /// By whoever can reach them: asked for.
    Open,
    /// Not at all.
    Unsaid,
}

impl Security {
    /// Reads the settings.
    ///
    /// # Errors
    /// `Invalid` when TLS is switched off and clients are to be verified.
    pub(super) fn new(given: &Given<'_>) -> Result<Self> {
        let (tls, verify) = (given.asked("tls"), given.asked("tlsverify"));
        if tls == Some(false) && verify == Some(true) {
            return Err(Error::invalid("--tlsverify needs TLS, which --tls=false switches off"));
        }
        if tls != Some(true) && verify != Some(true) {
            let said = tls == Some(false) || verify == Some(false);
            return Ok(if said { Self::Open } else { Self::Unsaid });
        }
        let home = std::env::var_os("DOCKER_CERT_PATH").filter(|v| !v.is_empty());
        let home = home.map_or_else(|| PathBuf::from("/root/.docker"), PathBuf::from);
        let file =
            |name: &str, standard: &str| given.path(name).unwrap_or_else(|| home.join(standard));
        let authority = (verify == Some(true)).then(|| file("tlscacert", "ca.pem"));
        let (certificate, key) = (file("tlscert", "cert.pem"), file("tlskey", "key.pem"));
        Ok(Self::Tls(Files { certificate, key, authority }))
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Fails for a TCP socket that nobody said may be open.
    ///
    /// # Errors
    /// `Invalid`, saying what to do.
    pub(crate) fn allow(&self, address: &str) -> Result<()> {
        match self {
            Self::Tls(_) => Ok(()),
            Self::Open => {
                tracing::warn!(
                    address,
                    "TCP without TLS gives root on this host to everyone who can reach it"
                );
                Ok(())
            }
            Self::Unsaid => Err(Error::invalid(format!(
                "tcp://{address} without TLS gives root on this host to everyone who can reach it: \
                 use --tlsverify with certificates, or --tls=false if that is meant"
            ))),
        }
    }
}
