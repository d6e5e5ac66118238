//! Certificates for tests: an authority, a server for `localhost` and 127.0.0.1, a client; and servers with them.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Files `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key` in a folder.
pub struct Pki {
    dir: PathBuf,
}

/// A server's half of TLS.
#[derive(Clone)]
pub struct Server(Arc<ServerConfig>);

impl Pki {
    pub fn new(dir: &Path) -> Self {
        let pki = Self { dir: dir.to_owned() };
        pki.renew();
        pki
    }

    /// Makes everything anew, with another authority.
    pub fn renew(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        self.write("ca.pem", &ca.pem());
        for (name, hosts) in
            [("server", vec!["localhost", "127.0.0.1"]), ("client", vec!["client"])]
        {
            let key = KeyPair::generate().unwrap();
            let hosts: Vec<String> = hosts.into_iter().map(str::to_owned).collect();
            let mut params = CertificateParams::new(hosts).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let cert = params.signed_by(&key, &ca).unwrap();
            self.write(&format!("{name}.pem"), &cert.pem());
            self.write(&format!("{name}.key"), &key.serialize_pem());
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn certs(&self, name: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(self.path(name)).unwrap().map(Result::unwrap).collect()
    }

    /// A server that may ask clients for a certificate of the authority.
    pub fn server(&self, asks: bool) -> Server {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks {
            let mut roots = rustls::RootCertStore::empty();
            self.certs("ca.pem").into_iter().for_each(|c| roots.add(c).unwrap());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        Server(Arc::new(builder.with_single_cert(self.certs("server.pem"), key).unwrap()))
    }
}

impl Server {
    pub fn accept(&self, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
        StreamOwned::new(ServerConnection::new(Arc::clone(&self.0)).unwrap(), stream)
    }
}
