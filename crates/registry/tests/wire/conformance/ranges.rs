//! Parts of blobs.

use super::Cx;
use crate::image::noise;

/// Every range of the list, for blobs that are kept in either way.
#[test]
fn ranges_of_a_blob_are_cut_or_refused() {
    let cx = Cx::new();
    for length in [3000_usize, 70_000] {
        let bytes = noise("ranges", length);
        let digest = cx.client.push_blob(&cx.name, &bytes);
        let last = length - 1;
        for (range, want) in [
            ("500-1499".to_owned(), Some((500, 1499))),
            ("500-".to_owned(), Some((500, last))),
            ("-500".to_owned(), Some((length - 500, last))),
            (format!("2000-{}", length + 2000), Some((2000, last))),
            ("0-0".to_owned(), Some((0, 0))),
            ("500-0".to_owned(), None),
            (format!("{}-{}", length + 2000, length + 7000), None),
        ] {
            let ask =
                cx.client.ask("GET", &cx.blob(&digest)).header("Range", &format!("bytes={range}"));
            let got = ask.send();
            match want {
                Some((from, to)) => {
                    let got = got.is(206);
                    assert_eq!(got.header("content-range"), format!("bytes {from}-{to}/{length}"));
                    assert_eq!(got.header("content-length"), (to - from + 1).to_string());
                    assert!(got.body == bytes[from..=to], "{range}");
                }
                None => {
                    let got = got.is(416);
                    if cx.ours {
                        assert_eq!(got.header("content-range"), format!("bytes */{length}"));
                    }
                }
            }
        }
    }
}

#[test]
fn a_part_of_what_has_changed_is_the_whole() {
    let cx = Cx::new();
    let bytes = noise("if-range", 1000);
    let digest = cx.client.push_blob(&cx.name, &bytes);
    let ask = |tag: &str| {
        cx.client
            .ask("GET", &cx.blob(&digest))
            .header("Range", "bytes=0-9")
            .header("If-Range", tag)
            .send()
    };
    let tag = cx.client.head(&cx.blob(&digest)).header("etag").to_owned();
    ask(&tag).is(206);
    ask("\"another\"").is(200);
}
