//! The upper bound for pulls of large blobs: a loop that only answers with a file by sendfile.

use super::{LARGE, Link};
use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::sendfile,
    time::{ClockId, clock_gettime},
};
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Has `clients` pull for `time`: the rate, and the processor time of the sending side.
pub(super) fn measure(clients: usize, time: Duration) -> Result<String> {
    let file = tempfile::tempfile().context("make a file")?;
    (&file).write_all(&super::fresh(9, LARGE))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let began = Instant::now();
    let (bytes, spent) = thread::scope(|scope| -> Result<(u64, Duration)> {
        let pulling: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(move || -> Result<u64> {
                    let (mut link, mut pulled) = (Link::new(address)?, 0);
                    while began.elapsed() < time {
                        pulled += link.get("/v2/")? as u64;
                    }
                    Ok(pulled)
                })
            })
            .collect();
        let mut sending = Vec::new();
        for _ in 0..clients {
            let (stream, _) = listener.accept()?;
            sending.push(scope.spawn(|| answer(stream, &file)));
        }
        let (mut bytes, mut spent) = (0, Duration::ZERO);
        for one in pulling {
            bytes += one.join().unwrap_or_else(|_| bail!("a client panicked"))?;
        }
        for one in sending {
            spent += one.join().unwrap_or_else(|_| bail!("a sender panicked"))?;
        }
        Ok((bytes, spent))
    })?;
    let gigabytes = bytes as f64 / 1e9;
    Ok(format!(
        "a bare loop of sendfile, {clients} clients: {:.0} MB/s, {:.0} ms/GB",
        gigabytes * 1000.0 / began.elapsed().as_secs_f64(),
        spent.as_secs_f64() * 1000.0 / gigabytes
    ))
}

/// Answers until the client goes: the processor time that it took.
fn answer(stream: TcpStream, file: &File) -> Result<Duration> {
    stream.set_nodelay(true)?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            stream.get_mut().write_all(head.as_bytes())?;
            let mut at = 0;
            while at < LARGE as u64 {
                let left = LARGE - at as usize;
                sendfile(stream.get_ref(), file, Some(&mut at), left)?;
            }
        }
        line.clear();
    }
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Ok(Duration::new(spent.tv_sec.try_into()?, spent.tv_nsec.try_into()?))
}
