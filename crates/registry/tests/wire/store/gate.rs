//! A gate before a store: lets through, refuses, slows down or cuts what goes to and from it.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

pub const OPEN: u8 = 0;
/// Connections are refused, and those that are there are cut.
pub const SHUT: u8 = 1;
/// Everything is answered with 503.
pub const BUSY: u8 = 2;
/// Every piece takes its time.
pub const SLOW: u8 = 3;
/// The next answer breaks off in its middle; then it is open again.
pub const CUT: u8 = 4;
/// What is asked goes through; its answers are not heard.
pub const DEAF: u8 = 5;
/// Bytes of an answer that is cut.
const HALF: usize = 50_000;

/// The gate before one store.
pub struct Gate {
    pub address: SocketAddr,
    state: Arc<AtomicU8>,
}

impl Gate {
    /// Opens one on a free port, for as long as the test's process lives.
    pub fn before(store: SocketAddr) -> Self {
        let state = Arc::new(AtomicU8::new(OPEN));
        Self { address: gate(store, Arc::clone(&state)), state }
    }

    pub fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    pub fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::SeqCst) == state
    }

    /// What sets it from another thread.
    pub fn state(&self) -> Arc<AtomicU8> {
        Arc::clone(&self.state)
    }
}

/// Passes bytes on as the state says.
fn gate(to: SocketAddr, state: Arc<AtomicU8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            match state.load(Ordering::SeqCst) {
                SHUT => continue,
                BUSY => {
                    std::thread::spawn(move || refuse(client));
                    continue;
                }
                _ => {}
            }
            let Ok(server) = TcpStream::connect(to) else { continue };
            for (from, to, answers) in [(&client, &server, false), (&server, &client, true)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let state = Arc::clone(&state);
                std::thread::spawn(move || pass(from, to, answers, &state));
            }
        }
    });
    address
}

/// Answers as S3 does when it has too much to do; the status says the same to clients of other stores.
fn refuse(mut client: TcpStream) {
    let mut head = [0; 16 << 10];
    let _ = client.read(&mut head);
    let body = "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
    let length = body.len();
    let _ = write!(
        client,
        "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

fn pass(mut from: TcpStream, mut to: TcpStream, answers: bool, state: &AtomicU8) {
    let mut piece = vec![0; 64 << 10];
    let mut passed = 0;
    while let Ok(mut count) = from.read(&mut piece) {
        let now = state.load(Ordering::SeqCst);
        if now == SLOW {
            std::thread::sleep(Duration::from_millis(50));
        }
        let cut = answers && now == CUT && passed + count > HALF;
        if cut {
            count = HALF.saturating_sub(passed);
            state.store(OPEN, Ordering::SeqCst);
        }
        passed += count;
        // Its answers come once what was asked was done.
        let over = count == 0 || matches!(now, SHUT | BUSY) || (answers && now == DEAF);
        if over || to.write_all(&piece[..count]).is_err() || cut {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
