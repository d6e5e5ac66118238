//! Azurite, Microsoft's server for tests that speaks Azure's blob protocol and checks shared keys and signed
//! addresses. `scripts/setup --tests` installs it.
//!
//! What it holds is looked at by its own REST interface and not by the client under test.
//! Source: "Azurite" and "Create an account SAS" of Microsoft's documentation.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// The account that Azurite has without being told.
pub const ACCOUNT: &str = "devstoreaccount1";
/// Its key, which is in Azurite's documentation.
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// A server that says nothing for this time has failed.
const START: Duration = Duration::from_secs(60);

/// A running server with one container, `bucket`.
pub struct Azurite {
    pub address: SocketAddr,
    child: Child,
}

impl Azurite {
    /// Starts one on a free port, with its data in `dir`; `None` when it is not installed.
    pub fn start(dir: &Path) -> Option<Self> {
        let program =
            testkit::image::cache_dir().join("azurite/node_modules/azurite/dist/src/blob/main.js");
        if !program.exists() {
            println!(
                "passed over: Azurite is not installed; scripts/setup --tests does it where npm is"
            );
            return None;
        }
        let mut child = Command::new("node")
            .arg(program)
            .args([
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                "0",
                "--disableTelemetry",
                "--location",
            ])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (told, hear) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("listens on http://") {
                    let _ = told.send(address.trim().parse());
                }
            }
        });
        let mut started = Self { address: ([127, 0, 0, 1], 0).into(), child };
        started.address = hear.recv_timeout(START).expect("Azurite does not start").unwrap();
        ureq::put(started.url("restype=container")).send_empty().unwrap();
        Some(started)
    }

    /// Names of the blobs below `prefix`; with `uncommitted` also of those that have nothing but parts.
    pub fn blobs(&self, prefix: &str, uncommitted: bool) -> Vec<String> {
        let include = if uncommitted { "&include=uncommittedblobs" } else { "" };
        let url = self.url(&format!("restype=container&comp=list&prefix={prefix}{include}"));
        let listed = ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap();
        let names = listed.split("<Name>").skip(1);
        names.filter_map(|rest| rest.split_once('<')).map(|(name, _)| name.to_owned()).collect()
    }

    /// The container's address with a signature of the account for everything.
    fn url(&self, query: &str) -> String {
        let (version, ends) = ("2018-11-09", "2099-01-01T00:00:00Z");
        let signed = format!("{ACCOUNT}\nrwdlac\nb\nsco\n\n{ends}\n\nhttps,http\n{version}\n");
        let key =
            ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &BASE64_STANDARD.decode(KEY).unwrap());
        let signature = BASE64_STANDARD.encode(ring::hmac::sign(&key, signed.as_bytes()));
        let signature: String = form_urlencoded::byte_serialize(signature.as_bytes()).collect();
        format!(
            "http://{}/{ACCOUNT}/bucket?{query}&sv={version}&ss=b&srt=sco&sp=rwdlac&se={ends}&spr=https,http&sig={signature}",
            self.address
        )
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
