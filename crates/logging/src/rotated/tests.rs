use super::{Names, Rotation, json};
use crate::{Config, Next, Options, ReadOptions, Reader, Sink, Stream};
use base::Timestamp;
use std::{fs, path::Path};

fn config(path: &Path, options: &[(&str, &str)]) -> Config {
    Config {
        driver: "json-file".into(),
        path: path.join("c-json.log"),
        options: Options(options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()),
        ..Config::default()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix(1_700_000_000 + second, 0)
}

fn drain(reader: &mut dyn Reader) -> (Vec<String>, bool) {
    let mut got = Vec::new();
    loop {
        match reader.next().unwrap() {
            Next::Entry(e) => got.push(String::from_utf8_lossy(e.line).into_owned()),
            Next::Idle => return (got, false),
            Next::End => return (got, true),
        }
    }
}

fn read(config: &Config, options: &ReadOptions) -> Vec<String> {
    let (got, ended) = drain(&mut *config.reader(options).unwrap());
    assert!(ended);
    got
}

fn numbered(sink: &mut dyn Sink, range: std::ops::Range<i64>) {
    for n in range {
        sink.write(Stream::Stdout, format!("line {n}\n").as_bytes(), at(n)).unwrap();
    }
}

#[test]
fn records_are_byte_equal_to_dockers() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &[]);
    let time = Timestamp::from_unix(1_700_000_000, 120_000_000);
    let mut sink = config.sink().unwrap();
    sink.write(Stream::Stdout, b"a\t\"<&>\\\r\n\xff\xe2\x80\xa8\xc3\xa9\x07", time).unwrap();
    sink.write(Stream::Stderr, b"oops\n", time).unwrap();
    sink.end(Stream::Stdout).unwrap();
    config.attrs.insert("tag".into(), "x".into());
    config.sink().unwrap().write(Stream::Stdout, b"t\n", time).unwrap();
    let want = concat!(
        r#"{"log":"a\u0009\"\u003c\u0026\u003e\\\r\n","stream":"stdout","time":"2023-11-14T22:13:20.12Z"}"#,
        "\n",
        r#"{"log":"oops\n","stream":"stderr","time":"2023-11-14T22:13:20.12Z"}"#,
        "\n",
        r#"{"log":"\ufffd\u2028é\u0007","stream":"stdout","time":"2023-11-14T22:13:20.12Z"}"#,
        "\n",
        r#"{"log":"t\n","stream":"stdout","attrs":{"tag":"x"},"time":"2023-11-14T22:13:20.12Z"}"#,
        "\n",
    );
    assert_eq!(fs::read_to_string(&config.path).unwrap(), want);
    let mut reader = config.reader(&ReadOptions { tail: Some(1), ..Default::default() }).unwrap();
    let Next::Entry(entry) = reader.next().unwrap() else { panic!("a record") };
    assert_eq!(entry.attrs, Some(r#"{"tag":"x"}"#));
    assert_eq!(entry.at(), time);
}

#[test]
fn tail_since_and_until_choose_records() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &[]);
    numbered(&mut *config.sink().unwrap(), 0..5000);
    let tail = |n| read(&config, &ReadOptions { tail: Some(n), ..Default::default() });
    assert_eq!(tail(0), Vec::<String>::new());
    assert_eq!(tail(2), ["line 4998\n", "line 4999\n"]);
    assert_eq!(tail(4999).len(), 4999);
    assert_eq!(tail(9999).len(), 5000);
    let some = ReadOptions { since: Some(at(10)), until: Some(at(12)), ..Default::default() };
    assert_eq!(read(&config, &some), ["line 10\n", "line 11\n", "line 12\n"]);
}

#[test]
fn rotated_files_are_kept_in_number_and_read_in_order() {
    for compress in ["false", "true"] {
        let folder = tempfile::tempdir().unwrap();
        let config =
            config(folder.path(), &[("max-size", "2k"), ("max-file", "4"), ("compress", compress)]);
        numbered(&mut *config.sink().unwrap(), 0..1000);
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(names[3].ends_with(".gz"), compress == "true");
        let all = read(&config, &ReadOptions::default());
        let first: i64 = all[0].trim().strip_prefix("line ").unwrap().parse().unwrap();
        let want: Vec<String> = (first..1000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(all, want);
        assert!(all.len() > 60);
        for n in [1, 30, 60] {
            let got = read(&config, &ReadOptions { tail: Some(n), ..Default::default() });
            assert_eq!(got, want[want.len() - n..]);
        }
        let since = ReadOptions { since: Some(at(990)), ..Default::default() };
        assert_eq!(read(&config, &since).len(), 10);
    }
}

#[test]
fn one_file_starts_over_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &[("max-size", "2k")]);
    numbered(&mut *config.sink().unwrap(), 0..1000);
    assert!(fs::metadata(&config.path).unwrap().len() < 2200);
    assert_eq!(read(&config, &ReadOptions::default()).last().unwrap(), "line 999\n");
}

#[test]
fn a_follower_sees_every_line_over_rotations() {
    for options in [
        vec![],
        vec![("max-size", "1k"), ("max-file", "3")],
        vec![("max-size", "1k"), ("max-file", "9"), ("compress", "true")],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), &options);
        let mut reader =
            config.reader(&ReadOptions { follow: true, ..Default::default() }).unwrap();
        assert!(matches!(reader.next().unwrap(), Next::Idle), "no file yet");
        let mut sink = config.sink().unwrap();
        let mut got = Vec::new();
        // 12 records make a file: 25 at a time are within what is kept.
        for part in 0..20 {
            numbered(&mut *sink, part * 25..(part + 1) * 25);
            let wake = reader.wake().unwrap();
            let mut poll = [rustix::event::PollFd::new(&wake, rustix::event::PollFlags::IN)];
            assert_eq!(rustix::event::poll(&mut poll, None).unwrap(), 1);
            reader.woken();
            let (more, ended) = drain(&mut *reader);
            assert!(!ended);
            got.extend(more);
        }
        sink.write(Stream::Stdout, b"last", at(1000)).unwrap();
        sink.end(Stream::Stdout).unwrap();
        reader.finish();
        let (more, ended) = drain(&mut *reader);
        assert!(ended);
        got.extend(more);
        let mut want: Vec<String> = (0..500).map(|n| format!("line {n}\n")).collect();
        want.push("last".into());
        assert_eq!(got, want, "{options:?}");
    }
}

#[test]
fn without_options_files_are_bounded() {
    let parse = |options: &[(&str, &str)]| {
        let options = Options(options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
        let default = Rotation { limit: Some(100), files: 3, compress: false };
        let names = Names { size: "max-size", files: "max-file", compress: "compress" };
        Rotation::parse(&options, &names, default).unwrap()
    };
    assert_eq!(parse(&[]), Rotation { limit: Some(100), files: 3, compress: false });
    assert_eq!(parse(&[("compress", "true")]).files, 3);
    assert_eq!(parse(&[("max-file", "7")]).limit, Some(100));
    assert_eq!(
        parse(&[("max-size", "5k")]),
        Rotation { limit: Some(5120), files: 1, compress: false }
    );
    assert_eq!(parse(&[("max-size", "-1")]), Rotation { limit: None, files: 1, compress: false });
}

#[test]
fn local_keeps_every_byte_and_reads_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &[("max-size", "4k"), ("max-file", "50")]);
    config.driver = "local".into();
    config.attrs.insert("a".into(), "b".into());
    let mut sink = config.sink().unwrap();
    sink.write(Stream::Stderr, b"\x00\xff <&> \"\\\r\n", at(0)).unwrap();
    numbered(&mut *sink, 1..600);
    sink.write(Stream::Stdout, b"last", at(600)).unwrap();
    sink.end(Stream::Stdout).unwrap();
    let mut reader = config.reader(&ReadOptions::default()).unwrap();
    let Next::Entry(first) = reader.next().unwrap() else { panic!("a record") };
    assert_eq!(first.line, b"\x00\xff <&> \"\\\r\n");
    assert_eq!(
        (first.stream, first.at(), first.attrs),
        (Stream::Stderr, at(0), Some("{\"a\":\"b\"}"))
    );
    let all = read(&config, &ReadOptions::default());
    assert_eq!((all.len(), all[600].as_str()), (601, "last"));
    let tail = ReadOptions { tail: Some(2), ..Default::default() };
    assert_eq!(read(&config, &tail), ["line 599\n", "last"]);
    let since = ReadOptions { since: Some(at(598)), ..Default::default() };
    assert_eq!(read(&config, &since).len(), 3);
    // Compressed but for the newest two (one is under way), none lost.
    let packed = fs::read_dir(folder.path())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".gz"));
    assert!(packed.count() >= 2);
}

#[test]
fn damage_costs_only_the_damaged_record() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &[]);
    let mut bytes = Vec::new();
    let mut good = |text: &str| {
        let tail = json::tail(Stream::Stdout, b"", &at(0).to_string());
        json::encode(&mut bytes, text.as_bytes(), true, &tail);
        bytes.len()
    };
    good("one");
    let torn = good("two");
    bytes.truncate(torn - 20);
    bytes.extend_from_slice(b"\0\0\0\n");
    bytes.extend_from_slice(
        b"{\"time\":\"2023-11-14T22:13:20Z\",\"stream\":\"stderr\",\"log\":\"\\ud83d\\ude00\\n\"}\n",
    );
    bytes.extend_from_slice(&vec![b'z'; super::reader::MAX_RECORD * 2]);
    bytes.extend_from_slice(b"\n{\"log\":\"half");
    fs::write(&config.path, &bytes).unwrap();
    assert_eq!(read(&config, &ReadOptions::default()), ["one\n", "😀\n"]);
    // The next writer closes the torn line.
    numbered(&mut *config.sink().unwrap(), 3..4);
    assert_eq!(read(&config, &ReadOptions::default()), ["one\n", "😀\n", "line 3\n"]);
}

#[test]
fn a_full_disk_leaves_no_half_record() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &[]);
    let mut sink = config.sink().unwrap();
    numbered(&mut *sink, 0..2);
    // RLIMIT_FSIZE would end other tests; a log on /dev/full fails each write.
    let full = Config { path: "/dev/full".into(), ..config.clone() };
    let mut broken = full.sink().unwrap();
    let err = broken.write(Stream::Stdout, b"x\n", at(0)).unwrap_err();
    assert_eq!(err.kind(), base::Kind::Exhausted);
    assert_eq!(read(&config, &ReadOptions::default()).len(), 2);
}

#[test]
fn options_are_checked_with_dockers_words() {
    let folder = tempfile::tempdir().unwrap();
    for (options, want) in [
        (vec![("nope", "1")], "unknown log opt 'nope' for json-file log driver"),
        (vec![("max-file", "0")], "max-file cannot be less than 1"),
        (vec![("max-size", "x")], "invalid size: 'x'"),
        (
            vec![("compress", "true"), ("max-size", "-1")],
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        (
            vec![("compress", "true"), ("max-size", "1m")],
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        (vec![("cache-max-file", "0")], "cache-max-file cannot be less than 1"),
        (
            vec![("max-buffer-size", "1m")],
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        (vec![("mode", "fast")], "logger: logging mode not supported: fast"),
    ] {
        let err = config(folder.path(), &options).check().unwrap_err();
        assert_eq!(err.to_string(), want);
    }
    let unknown = Config { driver: "x".into(), ..Config::default() };
    assert_eq!(
        unknown.check().unwrap_err().to_string(),
        "logger: no log driver named 'x' is registered"
    );
    let none = Config { driver: "none".into(), ..Config::default() };
    assert_eq!(
        none.reader(&ReadOptions::default()).unwrap_err().kind(),
        base::Kind::NotImplemented
    );
}

proptest::proptest! {
    #[test]
    fn what_is_written_is_read(lines in proptest::collection::vec("\\PC*", 1..20), stderr: bool) {
        let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
        for line in lines {
            let mut bytes = Vec::new();
            let tail = json::tail(stream, b"", "2023-11-14T22:13:20Z");
            json::encode(&mut bytes, line.as_bytes(), true, &tail);
            let mut text = Vec::new();
            let decoded = json::decode(&bytes[..bytes.len() - 1], &mut text).unwrap();
            proptest::prop_assert!(decoded.spare.is_none());
            proptest::prop_assert_eq!(decoded.stream, stream);
            proptest::prop_assert_eq!(text, format!("{line}\n").into_bytes());
        }
    }

    #[test]
    fn plain_bytes_are_counted_as_one_by_one(
        // Most lines are plain for long.
        bytes in proptest::collection::vec(proptest::sample::select(
            (0..=255).chain([b'a'; 2000]).collect::<Vec<u8>>(),
        ), 0..100),
    ) {
        let one_by_one = bytes
            .iter()
            .position(|b| !matches!(b, 0x20..0x80) || b"\"\\<>&".contains(b));
        proptest::prop_assert_eq!(json::plain(&bytes), one_by_one.unwrap_or(bytes.len()));
    }

    #[test]
    fn no_input_makes_the_reader_panic(bytes: Vec<u8>) {
        let mut text = Vec::new();
        json::decode(&bytes, &mut text);
        let mut start = b"{\"log\":\"".to_vec();
        start.extend_from_slice(&bytes);
        json::decode(&start, &mut text);
    }
}

#[test]
fn a_follower_reads_to_the_end_what_is_removed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("container");
    fs::create_dir(&own).unwrap();
    let config = config(&own, &[]);
    let mut sink = config.sink().unwrap();
    let mut reader = config.reader(&ReadOptions { follow: true, ..Default::default() }).unwrap();
    numbered(&mut *sink, 0..3);
    drop(sink);
    fs::remove_dir_all(&own).unwrap();
    let (got, ended) = drain(&mut *reader);
    assert_eq!((got.len(), ended), (3, false));
    reader.finish();
    assert_eq!(drain(&mut *reader), (Vec::new(), true));
}
