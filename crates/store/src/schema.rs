//! The schema and its migrations: one entry per version, applied in order, each in its own transaction.

pub(crate) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE containers (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL, created INTEGER NOT NULL,
        doc TEXT NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE images (
        id TEXT PRIMARY KEY, seen INTEGER NOT NULL, used INTEGER NOT NULL, parent TEXT, doc TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX images_parent ON images (parent);
    CREATE TABLE layers (
        id TEXT PRIMARY KEY, diff_id TEXT NOT NULL, size INTEGER NOT NULL, doc TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX layers_diff ON layers (diff_id);
    CREATE TABLE image_layers (
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE, position INTEGER NOT NULL,
        layer TEXT NOT NULL, PRIMARY KEY (image, position)
    ) WITHOUT ROWID;
    CREATE INDEX image_layers_layer ON image_layers (layer);
    CREATE TABLE tags (
        reference TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images (id), since INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX tags_image ON tags (image);
    CREATE TABLE tag_history (
        reference TEXT NOT NULL, image TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL
    );
    CREATE INDEX tag_history_image ON tag_history (image);

    CREATE TABLE volumes (name TEXT PRIMARY KEY, created INTEGER NOT NULL, doc TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT NOT NULL, doc TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX networks_name ON networks (name);

    CREATE TABLE builds (
        id TEXT PRIMARY KEY, started INTEGER NOT NULL, image TEXT, doc TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX builds_image ON builds (image);
    CREATE TABLE build_cache (
        key TEXT PRIMARY KEY, image TEXT, used INTEGER NOT NULL, doc TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX build_cache_image ON build_cache (image);

    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, action TEXT NOT NULL,
        object TEXT NOT NULL, doc TEXT NOT NULL, hash TEXT NOT NULL
    );
    CREATE INDEX events_at ON events (at);

    CREATE TABLE leases (
        holder TEXT NOT NULL, kind TEXT NOT NULL, object TEXT NOT NULL, since INTEGER NOT NULL,
        PRIMARY KEY (holder, kind, object)
    ) WITHOUT ROWID;
    CREATE TABLE journal (
        id TEXT PRIMARY KEY, operation TEXT NOT NULL, subject TEXT NOT NULL, since INTEGER NOT NULL,
        doc TEXT NOT NULL
    ) WITHOUT ROWID;
    ",
    // What registries bring: compressed layers and where they are, one name for several platforms, what an
    // unfinished pull keeps for a while.
    "
    ALTER TABLE leases ADD COLUMN until INTEGER;
    ALTER TABLE tags ADD COLUMN target TEXT;
    CREATE TABLE variants (
        reference TEXT NOT NULL REFERENCES tags (reference) ON DELETE CASCADE,
        image TEXT NOT NULL REFERENCES images (id), PRIMARY KEY (reference, image)
    ) WITHOUT ROWID;
    CREATE INDEX variants_image ON variants (image);
    CREATE TABLE blobs (
        digest TEXT PRIMARY KEY, diff_id TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX blobs_diff ON blobs (diff_id);
    CREATE TABLE blob_places (
        digest TEXT NOT NULL, registry TEXT NOT NULL, repository TEXT NOT NULL, seen INTEGER NOT NULL,
        PRIMARY KEY (digest, registry, repository)
    ) WITHOUT ROWID;
    ",
    // What BuildKit's clients ask of builds that are over.
    "
    CREATE TABLE build_history (
        reference TEXT PRIMARY KEY, created INTEGER NOT NULL, doc BLOB NOT NULL
    ) WITHOUT ROWID;
    ",
    // Managed plugins.
    "
    CREATE TABLE plugins (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, doc TEXT NOT NULL
    ) WITHOUT ROWID;
    ",
    // Rows may reach the disk before the files that they point to.
    "
    CREATE TABLE unsettled (
        kind TEXT NOT NULL, object TEXT NOT NULL, boot TEXT NOT NULL, PRIMARY KEY (kind, object)
    ) WITHOUT ROWID;
    ",
];
