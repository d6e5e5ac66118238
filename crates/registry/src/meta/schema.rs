//! The schema and its migrations: one entry per version, applied in order, each in its own transaction.
//!
//! Times are nanoseconds since 1970, UTC.

pub(crate) const MIGRATIONS: &[&str] = &["
    CREATE TABLE facts (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

    CREATE TABLE repositories (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,
        description TEXT NOT NULL DEFAULT ''
    );
    -- A blob's bytes are in blob_bytes, or in storage at its place.
    CREATE TABLE blobs (
        id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, place TEXT UNIQUE,
        created INTEGER NOT NULL, damaged INTEGER
    );
    CREATE TABLE blob_bytes (blob INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE, bytes BLOB NOT NULL);
    -- In which repositories a blob is. A blob without a link is gone with the transaction that took the last.
    CREATE TABLE links (
        repository INTEGER NOT NULL REFERENCES repositories (id), blob INTEGER NOT NULL REFERENCES blobs (id),
        created INTEGER NOT NULL, PRIMARY KEY (repository, blob)
    ) WITHOUT ROWID;
    CREATE INDEX links_blob ON links (blob);

    CREATE TABLE manifests (
        id INTEGER PRIMARY KEY, repository INTEGER NOT NULL REFERENCES repositories (id), digest TEXT NOT NULL,
        media_type TEXT NOT NULL, artifact_type TEXT NOT NULL, subject TEXT, annotations TEXT NOT NULL,
        size INTEGER NOT NULL, pushed INTEGER NOT NULL, pushed_by TEXT NOT NULL, pushed_with TEXT NOT NULL,
        pulled INTEGER, pulls INTEGER NOT NULL DEFAULT 0, damaged INTEGER, UNIQUE (repository, digest)
    );
    CREATE INDEX manifests_subject ON manifests (repository, subject, digest) WHERE subject IS NOT NULL;
    CREATE TABLE manifest_bytes (
        manifest INTEGER PRIMARY KEY REFERENCES manifests (id) ON DELETE CASCADE, bytes BLOB NOT NULL
    );
    CREATE TABLE manifest_blobs (
        repository INTEGER NOT NULL, blob INTEGER NOT NULL REFERENCES blobs (id),
        manifest INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
        PRIMARY KEY (repository, blob, manifest)
    ) WITHOUT ROWID;
    CREATE INDEX manifest_blobs_manifest ON manifest_blobs (manifest);
    CREATE INDEX manifest_blobs_blob ON manifest_blobs (blob);
    CREATE TABLE manifest_children (
        repository INTEGER NOT NULL, child TEXT NOT NULL,
        parent INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
        PRIMARY KEY (repository, child, parent)
    ) WITHOUT ROWID;
    CREATE INDEX manifest_children_parent ON manifest_children (parent);
    CREATE TABLE tags (
        repository INTEGER NOT NULL REFERENCES repositories (id), name TEXT NOT NULL,
        manifest INTEGER NOT NULL REFERENCES manifests (id), since INTEGER NOT NULL, set_by TEXT NOT NULL,
        PRIMARY KEY (repository, name)
    ) WITHOUT ROWID;
    CREATE INDEX tags_manifest ON tags (manifest);
    CREATE TABLE tag_history (
        repository INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, since INTEGER NOT NULL,
        until INTEGER NOT NULL, set_by TEXT NOT NULL
    );
    CREATE INDEX tag_history_tag ON tag_history (repository, name, until);

    -- Garbage collection: links to look at again, and the log of objects to delete from storage.
    CREATE TABLE reviews (
        repository INTEGER NOT NULL, blob INTEGER NOT NULL, due INTEGER NOT NULL, PRIMARY KEY (repository, blob)
    ) WITHOUT ROWID;
    CREATE INDEX reviews_due ON reviews (due);
    CREATE TABLE trash (place TEXT PRIMARY KEY, since INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;

    -- Uploads of which an object store holds parts already.
    CREATE TABLE uploads (
        id TEXT PRIMARY KEY, place TEXT NOT NULL, multipart TEXT NOT NULL, created INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE upload_parts (
        upload TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE, number INTEGER NOT NULL,
        etag TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (upload, number)
    ) WITHOUT ROWID;

    CREATE TABLE users (
        name TEXT PRIMARY KEY, password TEXT NOT NULL, created INTEGER NOT NULL, changed INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE rules (
        who TEXT NOT NULL, pattern TEXT NOT NULL, actions INTEGER NOT NULL, created INTEGER NOT NULL,
        PRIMARY KEY (who, pattern)
    ) WITHOUT ROWID;
    CREATE TABLE refresh_tokens (
        hash TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE, service TEXT NOT NULL,
        client TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX refresh_tokens_user ON refresh_tokens (user);

    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, action TEXT NOT NULL, repository TEXT NOT NULL,
        reference TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, who TEXT NOT NULL,
        address TEXT NOT NULL, client TEXT NOT NULL, request TEXT NOT NULL
    );
    CREATE INDEX audit_at ON audit (at);
    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, endpoint TEXT NOT NULL, body TEXT NOT NULL, created INTEGER NOT NULL
    );
    CREATE INDEX outbox_endpoint ON outbox (endpoint, seq);
    "];
