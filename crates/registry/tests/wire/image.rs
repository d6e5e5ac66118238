//! Things to push: blobs and manifests.

use crate::http::{Answer, Client};
use base::Digest;
use serde_json::{Value, json};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Bytes that nobody has pushed before, the same for the same words.
pub fn noise(word: &str, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut state = Digest::sha256(format!("{word} {}", std::process::id()).as_bytes());
    while bytes.len() < length {
        bytes.extend_from_slice(state.hex().as_bytes());
        state = Digest::sha256(state.as_str().as_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn sha512(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    format!("sha512:{}", base::hex(&sha2::Sha512::digest(bytes))).parse().unwrap()
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len()})
}

/// An image of one config and these layers.
pub fn manifest(config: &[u8], layers: &[&[u8]]) -> Value {
    let layers: Vec<Value> = layers.iter().map(|l| descriptor(OCI_LAYER, l)).collect();
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, config),
        "layers": layers,
    })
}

/// An artifact without a config of its own.
pub fn artifact(kind: &str, layers: &[&[u8]]) -> Value {
    let layers: Vec<Value> =
        layers.iter().map(|l| descriptor("application/octet-stream", l)).collect();
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
        "config": descriptor(EMPTY, b"{}"), "layers": layers,
    })
}

pub fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
}

impl Client {
    /// Pushes a blob in two requests.
    #[track_caller]
    pub fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        self.push_blob_as(name, bytes, &digest).is(201);
        digest
    }

    #[track_caller]
    pub fn push_blob_as(&self, name: &str, bytes: &[u8], digest: &Digest) -> Answer {
        let begun = self.post(&format!("/v2/{name}/blobs/uploads/"));
        let begun = begun.is(202);
        let url = and(begun.header("location"), &format!("digest={digest}"));
        self.ask("PUT", &url).header("Content-Type", "application/octet-stream").body(bytes).send()
    }

    pub fn put_manifest(&self, name: &str, reference: &str, value: &Value) -> Answer {
        let kind = value["mediaType"].as_str().unwrap_or(OCI_MANIFEST).to_owned();
        self.put_manifest_bytes(name, reference, &kind, value.to_string().as_bytes())
    }

    pub fn put_manifest_bytes(
        &self,
        name: &str,
        reference: &str,
        kind: &str,
        bytes: &[u8],
    ) -> Answer {
        self.ask("PUT", &format!("/v2/{name}/manifests/{reference}"))
            .header("Content-Type", kind)
            .body(bytes)
            .send()
    }

    /// Pushes an image of one config and one layer; its digest.
    #[track_caller]
    pub fn push_image(&self, name: &str, tag: &str, word: &str, layer: usize) -> Digest {
        let config = format!(r#"{{"architecture":"amd64","os":"linux","word":"{word}"}}"#);
        let layer = noise(word, layer);
        self.push_blob(name, config.as_bytes());
        self.push_blob(name, &layer);
        let value = manifest(config.as_bytes(), &[&layer]);
        self.put_manifest(name, tag, &value).is(201);
        Digest::sha256(value.to_string().as_bytes())
    }

    /// Whether the image is there with all its bytes.
    pub fn has_image(&self, name: &str, reference: &str) -> bool {
        let found = self.get(&format!("/v2/{name}/manifests/{reference}"));
        if found.status != 200 {
            return false;
        }
        let value = found.json();
        let layers = value["layers"].as_array().cloned().unwrap_or_default();
        std::iter::once(&value["config"]).chain(&layers).all(|wanted| {
            let digest = wanted["digest"].as_str().unwrap_or_default();
            let blob = self.get(&format!("/v2/{name}/blobs/{digest}"));
            blob.status == 200 && Digest::sha256(&blob.body).as_str() == digest
        })
    }
}

/// Adds to a location's query.
pub fn and(location: &str, query: &str) -> String {
    let sign = if location.contains('?') { '&' } else { '?' };
    format!("{location}{sign}{query}")
}
