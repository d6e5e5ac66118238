use super::*;
use crate::storage::{Files, Objects};
use std::os::unix::fs::FileExt as _;

const GRACE: Grace = Grace(Duration::from_secs(3600));

struct Room {
    dir: tempfile::TempDir,
    database: Arc<Database>,
    storage: Arc<dyn Storage>,
}

impl Room {
    fn files() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = Arc::new(Files::open(&dir.path().join("blobs")).unwrap());
        Self::of(dir, storage)
    }

    /// An object store that takes parts of 64 KiB.
    fn objects() -> Self {
        let storage = Arc::new(Objects::memory().with_part_bytes(64 << 10));
        Self::of(tempfile::tempdir().unwrap(), storage)
    }

    fn of(dir: tempfile::TempDir, storage: Arc<dyn Storage>) -> Self {
        let database = Arc::new(Database::open(&dir.path().join("r.db")).unwrap());
        Self { dir, database, storage }
    }

    /// As after a start of the server: nothing is known but what is on disk.
    fn uploads(&self) -> Uploads {
        self.limited(Limits {
            sessions: 10,
            reserve_bytes: 0,
            expiry: Duration::from_secs(3600),
            blob_bytes: 1 << 30,
        })
    }

    fn limited(&self, limits: Limits) -> Uploads {
        let spool = self.dir.path().join("spool");
        let (database, storage) = (Arc::clone(&self.database), Arc::clone(&self.storage));
        Uploads::open(&spool, database, storage, limits, GRACE).unwrap()
    }

    fn spooled(&self) -> usize {
        fs::read_dir(self.dir.path().join("spool")).unwrap().count()
    }

    async fn bytes_of(&self, digest: &Digest) -> Option<Vec<u8>> {
        use crate::{meta::Place, storage::Content};
        use futures_util::TryStreamExt as _;
        let wanted = digest.clone();
        let blob = self.database.read(move |tx| tx.blob("team/app", &wanted)).await.unwrap()?;
        Some(match blob.place {
            Place::Inline => {
                self.database.read(move |tx| tx.blob_bytes(blob.id)).await.unwrap().unwrap()
            }
            Place::Stored(place) => match self.storage.read(&place, 0..blob.size).await.unwrap() {
                Content::File(file, range) => {
                    let mut bytes = vec![0; range.end as usize];
                    file.read_exact_at(&mut bytes, 0).unwrap();
                    bytes
                }
                Content::Stream(stream) => {
                    stream.try_collect::<Vec<Bytes>>().await.unwrap().concat()
                }
            },
        })
    }
}

fn nothing() -> With {
    Box::new(|_| Ok(()))
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

async fn append(uploads: &Uploads, lease: &mut Lease, bytes: &[u8]) {
    uploads.append(lease, vec![Bytes::copy_from_slice(bytes)]).await.unwrap();
}

async fn taken(uploads: &Uploads, id: &UploadId) -> Lease {
    uploads.check_out(id).await.unwrap().unwrap()
}

async fn every_size_goes_through_restarts(room: &Room, length: usize) {
    let bytes = noise(length);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = algorithm.digest(&bytes);
        let mut uploads = room.uploads();
        let id = uploads.begin("team/app", algorithm).await.unwrap();
        for chunk in bytes.chunks(length.div_ceil(3).max(1)) {
            let mut lease = taken(&uploads, &id).await;
            append(&uploads, &mut lease, chunk).await;
            let offset = lease.offset();
            drop(lease);
            drop(uploads);
            uploads = room.uploads();
            assert_eq!(uploads.came(&id).await.unwrap(), Some(offset), "{length} bytes");
        }
        let lease = taken(&uploads, &id).await;
        uploads.finish(lease, "team/app", &digest, nothing()).await.unwrap();
        assert_eq!(room.bytes_of(&digest).await.as_deref(), Some(bytes.as_slice()));
        assert!(uploads.check_out(&id).await.unwrap().is_none());
        assert_eq!((room.spooled(), uploads.count()), (0, 0));
    }
}

const SIZES: [usize; 8] =
    [0, 1, INLINE as usize, INLINE as usize + 1, 64 << 10, (64 << 10) + 1, 3 * (64 << 10), 500_000];

#[tokio::test]
async fn uploads_into_files_go_on_after_a_restart() {
    for size in SIZES {
        every_size_goes_through_restarts(&Room::files(), size).await;
    }
}

#[tokio::test]
async fn uploads_into_an_object_store_go_on_after_a_restart() {
    for size in SIZES {
        every_size_goes_through_restarts(&Room::objects(), size).await;
    }
}

#[tokio::test]
async fn a_wrong_digest_leaves_nothing() {
    for room in [Room::files(), Room::objects()] {
        for length in [10, 200_000] {
            let uploads = room.uploads();
            let id = uploads.begin("team/app", Algorithm::Sha256).await.unwrap();
            let mut lease = taken(&uploads, &id).await;
            append(&uploads, &mut lease, &noise(length)).await;
            let other = Digest::sha256(b"other");
            let err = uploads.finish(lease, "team/app", &other, nothing()).await.unwrap_err();
            assert_eq!(err.kind(), base::Kind::Invalid);
            assert_eq!(room.bytes_of(&other).await, None);
            assert!(uploads.check_out(&id).await.unwrap().is_none());
            assert_eq!((room.spooled(), uploads.count()), (0, 0));
            assert_eq!(room.database.read_now(|tx| tx.totals()).unwrap(), (0, 0));
        }
    }
}

#[tokio::test]
async fn a_newer_request_takes_the_session_over() {
    let room = Room::files();
    let uploads = room.uploads();
    let id = uploads.begin("team/app", Algorithm::Sha256).await.unwrap();
    let mut first = taken(&uploads, &id).await;
    append(&uploads, &mut first, b"0123").await;
    assert_eq!(uploads.came(&id).await.unwrap(), Some(4), "looking takes nothing away");
    assert!(!first.stop().is_cancelled());
    let (second, ()) = tokio::join!(uploads.check_out(&id), async {
        first.stop().cancelled().await;
        drop(first);
    });
    assert_eq!(second.unwrap().unwrap().offset(), 4);
}

#[tokio::test]
async fn the_same_blob_twice_is_one_object() {
    let room = Room::files();
    let uploads = room.uploads();
    let bytes = noise(100_000);
    let digest = Digest::sha256(&bytes);
    for repository in ["team/app", "team/other", "team/app"] {
        let id = uploads.begin(repository, Algorithm::Sha256).await.unwrap();
        let mut lease = taken(&uploads, &id).await;
        append(&uploads, &mut lease, &bytes).await;
        uploads.finish(lease, repository, &digest, nothing()).await.unwrap();
    }
    use futures_util::StreamExt as _;
    assert_eq!(room.storage.list().count().await, 1);
    assert_eq!(room.database.read_now(|tx| tx.totals()).unwrap(), (1, 100_000));
}

#[tokio::test]
async fn sessions_are_bounded_expire_and_belong_to_one_repository() {
    for room in [Room::files(), Room::objects()] {
        let limits =
            Limits { sessions: 2, reserve_bytes: 0, expiry: Duration::ZERO, blob_bytes: 1 << 30 };
        let uploads = room.limited(limits);
        let id = uploads.begin("team/app", Algorithm::Sha256).await.unwrap();
        assert_eq!(UploadId::parse(id.as_str(), "team/app"), Some(id.clone()));
        for (text, repository) in [
            (id.as_str(), "team/other"),
            ("../../../../etc/passwd", "team/app"),
            ("", "team/app"),
            (&id.as_str()[1..], "team/app"),
            (&id.as_str().to_uppercase(), "team/app"),
        ] {
            assert_eq!(UploadId::parse(text, repository), None, "{text} {repository}");
        }
        let mut lease = taken(&uploads, &id).await;
        append(&uploads, &mut lease, &noise(200_000)).await;
        drop(lease);
        uploads.begin("team/app", Algorithm::Sha256).await.unwrap();
        let err = uploads.begin("team/app", Algorithm::Sha256).await.unwrap_err();
        assert_eq!(err.kind(), base::Kind::Exhausted);
        assert_eq!(uploads.sweep().await.unwrap(), 2);
        assert_eq!((room.spooled(), uploads.count()), (0, 0));
        assert!(room.database.read_now(|tx| tx.multipart_uploads()).unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_full_disk_is_said_before_it_is_full() {
    let room = Room::files();
    let limits = Limits {
        sessions: 2,
        reserve_bytes: u64::MAX,
        expiry: Duration::ZERO,
        blob_bytes: 1 << 30,
    };
    let err = room.limited(limits).begin("a", Algorithm::Sha256).await.unwrap_err();
    assert_eq!(err.kind(), base::Kind::Exhausted);
    assert_eq!(room.spooled(), 0);
}
