//! A netlink socket: requests out, answers in.

use super::{
    Error, Result,
    message::{Message, Raw, messages, read_u32},
};
use rustix::{
    io::Errno,
    net::{
        self, AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt,
        sockopt::Timeout,
    },
};
use std::{
    num::NonZero,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

/// The kernel answers within the sending call, so a reply that is not there at once is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes; the kernel cuts its lists into datagrams of at most 32 KiB (`NLMSG_GOODSIZE` and above).
const BUFFER: usize = 64 * 1024;
/// How often a list that changed under our hands is asked for again.
const RETRIES: usize = 8;
/// Answers that may be outstanding at once: the receive buffer holds some 270 of them by default.
const WINDOW: usize = 64;

/// One thing to ask of the kernel.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) message: Message,
    pub(crate) what: String,
}

impl Request {
    /// A request, and what it tries, for the error's text.
    pub fn new(message: Message, what: impl Into<String>) -> Self {
        Self { message, what: what.into() }
    }
}

/// One message of a list: its kind and what follows the header.
#[derive(Clone, Debug)]
pub struct Reply {
    /// `RTM_NEW...` or the like.
    pub kind: u16,
    /// The fixed part and the attributes.
    pub payload: Vec<u8>,
}

/// A netlink socket of one protocol in one network namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket of a protocol (`NETLINK_...`) in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn open(protocol: libc::c_int) -> Result<Self> {
        let what = "open a netlink socket";
        let protocol = u32::try_from(protocol).ok().and_then(NonZero::new).map(Protocol::from_raw);
        let fd = net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(|errno| Error::new(what, errno))?;
        // Answers carry the error and the kernel's words, not our whole request.
        set_option(&fd, libc::NETLINK_CAP_ACK, 1).map_err(|errno| Error::new(what, errno))?;
        // Words are a nicety; old kernels have none.
        let _ = set_option(&fd, libc::NETLINK_EXT_ACK, 1);
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE))
            .map_err(|errno| Error::new(what, errno))?;
        Ok(Self { fd, sequence: 0, buffer: Vec::new() })
    }

    /// Joins a multicast group, whose messages [`Socket::next_event`] then hands out.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn subscribe(&self, group: u32) -> Result<()> {
        // A socket without an address of its own is passed over when the kernel tells all.
        bind(&self.fd)
            .map_err(|errno| Error::new(format!("bind for netlink group {group}"), errno))?;
        set_option(&self.fd, libc::NETLINK_ADD_MEMBERSHIP, group)
            .map_err(|errno| Error::new(format!("join netlink group {group}"), errno))
    }

    /// Runs all requests, in order, and returns one result for each; the kernel goes on after a failed one.
    ///
    /// # Errors
    /// When sending or receiving itself fails.
    pub fn run_all(&mut self, requests: &[Request]) -> Result<Vec<Result<()>>> {
        let mut results = Vec::with_capacity(requests.len());
        for window in requests.chunks(WINDOW) {
            let mut datagram = Vec::with_capacity(window.iter().map(|r| r.message.length()).sum());
            let first = self.sequence.wrapping_add(1);
            for request in window {
                let mut message = request.message.clone();
                message.add_flags(libc::NLM_F_ACK);
                self.sequence = self.sequence.wrapping_add(1);
                message.seal(self.sequence, &mut datagram);
            }
            self.send(&datagram, "send netlink requests")?;
            let mut answers: Vec<Option<Result<()>>> = window.iter().map(|_| None).collect();
            while answers.iter().any(Option::is_none) {
                self.receive("receive netlink answers", |raw| {
                    let index = raw.sequence.wrapping_sub(first) as usize;
                    if let Some((slot, request)) = answers.get_mut(index).zip(window.get(index))
                        && let Some(outcome) = outcome(raw)
                    {
                        *slot = Some(outcome.map_err(|(errno, detail)| Error {
                            what: request.what.clone(),
                            detail,
                            errno,
                        }));
                    }
                })?;
            }
            results.extend(answers.into_iter().flatten());
        }
        Ok(results)
    }

    /// Runs all requests, in order. All are tried; the first error is returned.
    ///
    /// # Errors
    /// The first one.
    pub fn run(&mut self, requests: &[Request]) -> Result<()> {
        self.run_all(requests)?.into_iter().collect()
    }

    /// Asks for a list. It is complete and of one moment, or an error.
    ///
    /// # Errors
    /// `EAGAIN` when the list kept changing; of the kernel otherwise.
    pub fn list(&mut self, request: &Request) -> Result<Vec<Reply>> {
        for _ in 0..RETRIES {
            if let Some(list) = self.list_once(request)? {
                return Ok(list);
            }
        }
        Err(Error::new(request.what.clone(), Errno::AGAIN))
    }

    fn list_once(&mut self, request: &Request) -> Result<Option<Vec<Reply>>> {
        let mut message = request.message.clone();
        message.add_flags(libc::NLM_F_DUMP);
        let mut list = Vec::new();
        let (mut whole, mut done) = (true, None);
        self.ask(&message, &request.what)?;
        let sequence = self.sequence;
        while done.is_none() {
            self.receive(&request.what, |raw| {
                if raw.sequence != sequence || done.is_some() {
                    return;
                }
                whole &= i32::from(raw.flags) & libc::NLM_F_DUMP_INTR == 0;
                if let Some(result) = outcome(raw) {
                    done = Some(result);
                } else {
                    list.push(Reply { kind: raw.kind, payload: raw.payload.to_vec() });
                }
            })?;
        }
        match done {
            Some(Err((errno, detail))) => Err(Error { what: request.what.clone(), detail, errno }),
            _ => Ok(whole.then_some(list)),
        }
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// `ENOENT`, `ENODEV` and others of the kernel.
    pub fn get(&mut self, request: &Request) -> Result<Reply> {
        self.ask(&request.message, &request.what)?;
        let sequence = self.sequence;
        let mut got = None;
        while got.is_none() {
            self.receive(&request.what, |raw| {
                if raw.sequence == sequence && got.is_none() {
                    got = Some(match outcome(raw) {
                        // Some kinds acknowledge beside the answer; what counts is the answer.
                        Some(Ok(())) => return,
                        Some(Err(error)) => Err(error),
                        None => Ok(Reply { kind: raw.kind, payload: raw.payload.to_vec() }),
                    });
                }
            })?;
        }
        match got {
            Some(Ok(reply)) => Ok(reply),
            Some(Err((errno, detail))) => Err(Error { what: request.what.clone(), detail, errno }),
            None => Err(Error::new(request.what.clone(), Errno::PROTO)),
        }
    }

    /// Sends a ready datagram whose last message alone asks for an answer, and waits for that or for an
    /// error of any; the second value of an error is the number of the message that failed.
    pub(crate) fn transact(
        &mut self,
        messages: &[Message],
        what: &str,
    ) -> Result<(), (Error, usize)> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(messages.iter().map(Message::length).sum());
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.seal(self.sequence, &mut datagram);
        }
        // The whole must fit into the send buffer at once; root may exceed the system's limit.
        if datagram.len() > 100_000 {
            sockopt::set_socket_send_buffer_size_force(&self.fd, datagram.len() + BUFFER)
                .map_err(|errno| (Error::new(what, errno), 0))?;
        }
        self.send(&datagram, what).map_err(|error| (error, 0))?;
        let count = messages.len();
        let mut answer = None;
        while answer.is_none() {
            self.receive(what, |raw| {
                let index = raw.sequence.wrapping_sub(first) as usize;
                if index < count && answer.is_none() {
                    answer = outcome(raw).map(|result| (result, index));
                }
            })
            .map_err(|error| (error, 0))?;
        }
        // A failed batch answers for each message that failed; later ones are leftovers of the first.
        self.drain();
        match answer {
            Some((Err((errno, detail)), index)) => {
                Err((Error { what: what.to_owned(), detail, errno }, index))
            }
            _ => Ok(()),
        }
    }

    /// Waits for the next message of a group. `Ok(None)` means that messages were lost for want of room.
    ///
    /// # Errors
    /// `EAGAIN` when nothing came in time; of the kernel otherwise.
    pub fn next_event(&mut self) -> Result<Option<Vec<Reply>>> {
        let mut events = Vec::new();
        match self.receive("wait for netlink events", |raw| {
            events.push(Reply { kind: raw.kind, payload: raw.payload.to_vec() });
        }) {
            Err(Error { errno: Errno::NOBUFS, .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(Some(events)),
        }
    }

    fn ask(&mut self, message: &Message, what: &str) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(message.length());
        message.seal(self.sequence, &mut datagram);
        self.send(&datagram, what)
    }

    fn send(&self, datagram: &[u8], what: &str) -> Result<()> {
        match rustix::io::retry_on_intr(|| net::send(&self.fd, datagram, SendFlags::empty())) {
            Ok(sent) if sent == datagram.len() => Ok(()),
            Ok(_) => Err(Error::new(what, Errno::MSGSIZE)),
            Err(errno) => Err(Error::new(what, errno)),
        }
    }

    fn receive(&mut self, what: &str, mut each: impl FnMut(Raw<'_>)) -> Result<()> {
        self.buffer.resize(BUFFER, 0);
        let received = rustix::io::retry_on_intr(|| {
            net::recv(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC)
        });
        match received {
            Ok((_, length)) if length > self.buffer.len() => Err(Error::new(what, Errno::MSGSIZE)),
            Ok((_, length)) => {
                messages(&self.buffer[..length]).for_each(&mut each);
                Ok(())
            }
            Err(errno) => Err(Error::new(what, errno)),
        }
    }

    fn drain(&mut self) {
        self.buffer.resize(BUFFER, 0);
        while net::recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT).is_ok() {}
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `None` for a message that is no answer but part of one.
fn outcome(raw: Raw<'_>) -> Option<Result<(), (Errno, Option<String>)>> {
    let done = match i32::from(raw.kind) {
        libc::NLMSG_ERROR => false,
        libc::NLMSG_DONE => true,
        _ => return None,
    };
    let code = read_u32(raw.payload).unwrap_or(0).cast_signed();
    if code == 0 {
        return Some(Ok(()));
    }
    let errno = Errno::from_raw_os_error(code.checked_neg().unwrap_or(libc::EPROTO));
    // NLMSG_ERROR repeats the header of the request (NETLINK_CAP_ACK leaves out the rest).
    let fixed = if done { 4 } else { 4 + super::message::HEADER };
    const MESSAGE: u16 = 1; // NLMSGERR_ATTR_MSG
    Some(Err((errno, super::Attributes::after(raw.payload, fixed).text(MESSAGE))))
}

fn set_option(fd: &OwnedFd, option: libc::c_int, value: u32) -> Result<(), Errno> {
    let length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: `fd` is open for the call, and the pointer and length describe `value`, which the kernel reads.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    check(result)
}

fn bind(fd: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: all fields of this plain structure may be zero.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: `fd` is open for the call, and the pointer and length describe `address`, which the kernel reads.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    check(result)
}

fn check(result: libc::c_int) -> Result<(), Errno> {
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}
