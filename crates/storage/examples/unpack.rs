//! Times unpacking a tar into a layer, writing it again, and committing an upper folder.
//!
//! `cargo run --release -p gantry-storage --example unpack -- FILE.tar FOLDER [ROUNDS]`
#![allow(clippy::print_stdout, reason = "a tool for the terminal")]

use gantry_storage::{Commit, Layers, Limits, Snapshots, Trash};
use std::{fs::File, path::Path, time::Instant};

fn main() -> base::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [tar, folder, rest @ ..] = &args[..] else {
        return Err(base::Error::invalid("usage: unpack FILE.tar FOLDER [ROUNDS]"));
    };
    let rounds = rest.first().and_then(|n| n.parse().ok()).unwrap_or(5);
    let root = Path::new(folder);
    let trash = Trash::open(root)?;
    let layers = Layers::open(root, &trash, Limits::default())?;
    let snapshots = Snapshots::open(root, &layers, &trash)?;
    for _ in 0..rounds {
        let mut file = File::open(tar).map_err(|e| base::Error::io("cannot open the tar", e))?;
        let (begin, busy) = (Instant::now(), busy());
        let applied = layers.apply(&[], &mut file)?;
        let (unpacked, busy) = (begin.elapsed(), self::busy().saturating_sub(busy));
        let begin = Instant::now();
        layers.write_tar(&applied.layer, &mut std::io::sink())?;
        let written = begin.elapsed();
        let begin = Instant::now();
        let small = snapshots.prepare_build("bench", std::slice::from_ref(&applied.layer))?;
        let prepared = begin.elapsed();
        let begin = Instant::now();
        let mount = snapshots.mount(&small)?;
        let mounted = begin.elapsed();
        drop(mount.create("a-new-file", 0o644));
        let begin = Instant::now();
        drop(mount);
        let unmounted = begin.elapsed();
        let begin = Instant::now();
        let commit = snapshots.commit(&small, Commit::Take)?;
        let committed = begin.elapsed();
        let begin = Instant::now();
        layers.sync()?;
        let synced = begin.elapsed();
        println!(
            "unpack {unpacked:?} (cpu {busy} ms) write {written:?} prepare {prepared:?} mount {mounted:?} unmount {unmounted:?} commit {committed:?} sync {synced:?}"
        );
        snapshots.remove(&small)?;
        layers.remove(&commit.layer)?;
        layers.remove(&applied.layer)?;
        trash.settle();
    }
    Ok(())
}

/// Milliseconds that all our threads were on a processor, to the hundredth of a second.
fn busy() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>() * 10
}
