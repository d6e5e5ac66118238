use super::*;
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// Compresses with the tool that people use, so that real streams are read.
fn compressed(tool: &[&str], data: &[u8]) -> Vec<u8> {
    let mut child = Command::new(tool[0])
        .args(&tool[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", tool[0]));
    let mut input = child.stdin.take().unwrap();
    let data = data.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&data).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

fn all(data: &[u8], limits: &Limits) -> Result<(Kind, Vec<u8>)> {
    let (kind, mut reader) = open(data, limits)?;
    let mut out = Vec::new();
    reader.read_to_end(&mut out).map_err(|e| unwrap("cannot decompress", e))?;
    Ok((kind, out))
}

const TOOLS: &[(Kind, &[&str])] = &[
    (Kind::Gzip, &["gzip", "-c"]),
    (Kind::Bzip2, &["bzip2", "-c"]),
    (Kind::Xz, &["xz", "-c"]),
    (Kind::Xz, &["xz", "-c", "--check=crc32"]),
    (Kind::Xz, &["xz", "-c", "--check=sha256"]),
    (Kind::Xz, &["xz", "-c", "--check=none", "--block-size=65536"]),
    (Kind::Zstd, &["zstd", "-q", "-c"]),
    (Kind::Zstd, &["zstd", "-q", "-c", "-19", "--long=27"]),
];

fn sample() -> Vec<u8> {
    (0..400_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect()
}

#[test]
fn what_the_common_tools_write_is_read() {
    let data = sample();
    for (kind, tool) in TOOLS {
        let packed = compressed(tool, &data);
        let (found, out) =
            all(&packed, &Limits::default()).unwrap_or_else(|e| panic!("{tool:?}: {}", e.chain()));
        assert_eq!(found, *kind);
        assert!(out == data, "{tool:?}");
        // Members or frames one after another are one stream.
        let (_, out) = all(&[packed.clone(), packed].concat(), &Limits::default()).unwrap();
        assert!(out.len() == 2 * data.len(), "{tool:?}");
    }
    assert_eq!(all(b"plain", &Limits::default()).unwrap(), (Kind::Plain, b"plain".to_vec()));
    assert_eq!(all(b"", &Limits::default()).unwrap(), (Kind::Plain, Vec::new()));
}

#[test]
fn truncated_and_damaged_streams_are_errors() {
    let data = sample();
    for (_, tool) in TOOLS {
        let packed = compressed(tool, &data);
        for cut in [7, 20, packed.len() / 2, packed.len() - 1] {
            assert!(all(&packed[..cut], &Limits::default()).is_err(), "{tool:?} cut at {cut}");
        }
        if tool.contains(&"--check=none") {
            continue;
        }
        let mut bent = packed.clone();
        bent[packed.len() / 2] ^= 0x55;
        match all(&bent, &Limits::default()) {
            Err(_) => {}
            Ok((_, out)) => panic!("{tool:?}: damage unseen, same: {}", out == data),
        }
    }
}

#[test]
fn bombs_hit_the_limits() {
    let zeros = vec![0; 32 << 20];
    for (_, tool) in TOOLS {
        let packed = compressed(tool, &zeros);
        let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
        let err = all(&packed, &limits).unwrap_err();
        assert!(err.to_string().contains("more than 1048576 bytes"), "{tool:?}: {err}");
        let limits = Limits { ratio: 100, ratio_from_bytes: 8 << 20, ..Limits::default() };
        let err = all(&packed, &limits).unwrap_err();
        assert!(err.to_string().contains("more than 100 bytes come out"), "{tool:?}: {err}");
    }
}

#[test]
fn windows_that_ask_for_too_much_memory_are_refused() {
    let data = sample();
    let packed = compressed(&["zstd", "-q", "-c", "--ultra", "-22", "--long=31"], &data);
    // A known size would shrink the window, so the tool is fed by a pipe and writes the full one.
    let err = all(&packed, &Limits::default()).unwrap_err();
    assert!(err.to_string().contains("window"), "{err}");
    let packed = compressed(&["xz", "-c", "--lzma2=dict=1GiB"], &data);
    let err = all(&packed, &Limits::default()).unwrap_err();
    assert!(err.to_string().contains("dictionary"), "{err}");
}

proptest::proptest! {
    #[test]
    fn no_input_makes_a_decoder_panic(
        kind in 0_usize..4,
        cut in 0_usize..2000,
        bends in proptest::collection::vec((0_usize..2000, 0_u8..), 0..6),
    ) {
        use std::sync::OnceLock;
        static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        let samples = SAMPLES.get_or_init(|| {
            let data: Vec<u8> = sample()[..20_000].to_vec();
            [0, 1, 2, 6].iter().map(|at: &usize| compressed(TOOLS[*at].1, &data)).collect()
        });
        let mut packed = samples[kind].clone();
        packed.truncate(cut.max(8));
        for (at, value) in bends {
            let len = packed.len();
            packed[at % len] = value;
        }
        let _ = all(&packed, &Limits { unpacked_bytes: 10 << 20, ..Limits::default() });
    }
}
