//! Times compressing a file as a push does: `cargo run --release -p gantry-image --example compress -- FILE`.
#![allow(clippy::print_stdout, reason = "a tool for the terminal")]

use gantry_image::compress::{Form, parallel};
use std::time::Instant;

struct Count(u64);

impl std::io::Write for Count {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn main() -> base::Result<()> {
    let path =
        std::env::args().nth(1).ok_or_else(|| base::Error::invalid("usage: compress FILE"))?;
    let data = std::fs::read(path).map_err(|e| base::Error::io("cannot read the file", e))?;
    for form in [Form::Gzip, Form::Zstd] {
        let (mut out, began) = (Count(0), Instant::now());
        parallel(form, &mut out, |w| {
            w.write_all(&data).map_err(|e| base::Error::io("cannot compress", e))
        })?;
        println!("{form:?}: {} bytes in {:?}", out.0, began.elapsed());
    }
    Ok(())
}
