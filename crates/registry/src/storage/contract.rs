//! What every kind of storage must do, run for each of them.

use super::{Content, Files, Multipart, Objects, Storage};
use base::Digest;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use std::{io::Write as _, os::unix::fs::FileExt as _, path::Path};

async fn all(content: Content) -> Vec<u8> {
    match content {
        Content::File(file, range) => {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start).unwrap();
            bytes
        }
        Content::Stream(stream) => stream.try_collect::<Vec<Bytes>>().await.unwrap().concat(),
    }
}

async fn objects_come_and_go_whole(storage: &dyn Storage, dir: &Path) {
    let digest = Digest::sha256(b"0123456789");
    let upload = "00112233445566778899aabbccddeeff";
    let place = storage.place(&digest, upload);
    assert_ne!(place, storage.place(&digest, "10112233445566778899aabbccddeeff"));
    assert_eq!(storage.size(&place).await.unwrap(), None);
    assert!(storage.read(&place, 0..10).await.is_err());
    storage.remove(&place).await.unwrap();

    let spool = dir.join("spool");
    std::fs::File::create(&spool).unwrap().write_all(b"0123456789").unwrap();
    storage.keep(&spool, &place).await.unwrap();
    assert!(!spool.exists(), "the spool is used up");
    assert_eq!(storage.size(&place).await.unwrap(), Some(10));
    assert_eq!(all(storage.read(&place, 0..10).await.unwrap()).await, b"0123456789");
    assert_eq!(all(storage.read(&place, 3..7).await.unwrap()).await, b"3456");
    let listed: Vec<_> = storage.list().try_collect().await.unwrap();
    assert_eq!(
        listed.iter().map(|o| (o.place.as_str(), o.size)).collect::<Vec<_>>(),
        [(&*place, 10)]
    );
    storage.check().await.unwrap();

    storage.remove(&place).await.unwrap();
    assert_eq!(storage.size(&place).await.unwrap(), None);
    assert!(storage.list().try_collect::<Vec<_>>().await.unwrap().is_empty());
}

async fn parts_become_one_object(storage: &dyn Storage, parts: &dyn Multipart) {
    let place = parts.place("00112233445566778899aabbccddeeff");
    let id = parts.begin(&place).await.unwrap();
    let mut names = Vec::new();
    let large = vec![7; parts.part_bytes() as usize];
    for (number, bytes) in [large.clone(), large.clone(), b"end".to_vec()].into_iter().enumerate() {
        names.push(parts.put(&place, &id, number, bytes.into()).await.unwrap());
    }
    assert_eq!(storage.size(&place).await.unwrap(), None, "nothing is visible before the end");
    parts.complete(&place, &id, names).await.unwrap();
    let size = 2 * parts.part_bytes() + 3;
    assert_eq!(storage.size(&place).await.unwrap(), Some(size));
    assert_eq!(all(storage.read(&place, size - 3..size).await.unwrap()).await, b"end");
    storage.remove(&place).await.unwrap();

    let id = parts.begin(&place).await.unwrap();
    parts.put(&place, &id, 0, large.into()).await.unwrap();
    parts.abort(&place, &id).await.unwrap();
    assert_eq!(storage.size(&place).await.unwrap(), None);
}

#[tokio::test]
async fn files() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Files::open(&dir.path().join("blobs")).unwrap();
    objects_come_and_go_whole(&storage, dir.path()).await;
    for bad in ["../x", "/etc/passwd", "a/../b", "", "a//b", ".x"] {
        assert!(storage.remove(bad).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn memory() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Objects::memory().with_part_bytes(100);
    objects_come_and_go_whole(&storage, dir.path()).await;
    parts_become_one_object(&storage, &storage).await;
}
