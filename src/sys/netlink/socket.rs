//! One NETLINK_NETFILTER socket: a datagram out, every answer in (netlink(7)).

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket as Netlink, SocketAddr};
use rustix::net::sockopt;

use crate::nft::attr::{Attributes, Message, Messages, array};

/// The kernel fills a dump's datagrams up to the size of the buffer they are read with.
const BUFFER_LEN: usize = 64 * 1024;
/// Octets of socket buffers without asking for more (net.core.wmem_default is at least this).
const SEND_BUFFER_LEN: usize = 128 * 1024;
/// Answers to a commit of thousands of messages that all fail, or to a thousand deletions.
const RECEIVE_BUFFER_LEN: usize = 4 * 1024 * 1024;
/// Octets an answer may have altogether; a ruleset of a million rules stays below.
const ANSWER_MAX: usize = 1 << 30;

/// How long the kernel may take from one datagram of a dump to the next.
const TIMEOUT: Duration = Duration::from_secs(5);

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Attributes of an error: text, offset.
const NLMSGERR_MSG: u16 = 1;
const NLMSGERR_OFFS: u16 = 2;

/// A netlink socket of NETLINK_NETFILTER, with buffers for large batches.
#[derive(Debug)]
pub struct Socket {
    netlink: Netlink,
    sequence: u32,
    send_buffer_len: usize,
    buffer: Vec<u8>,
}

impl Socket {
    /// Binds in the namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut netlink = Netlink::new(NETLINK_NETFILTER)?;
        netlink.bind_auto()?;
        netlink.connect(&SocketAddr::new(0, 0))?;
        netlink.set_ext_ack(true)?;
        netlink.set_cap_ack(true)?;
        // Without the privilege the default has to do: only enormous rulesets need more.
        let _ = sockopt::set_socket_recv_buffer_size_force(&netlink, RECEIVE_BUFFER_LEN);
        sockopt::set_socket_timeout(&netlink, sockopt::Timeout::Recv, Some(TIMEOUT))?;
        let buffer = Vec::with_capacity(BUFFER_LEN);
        Ok(Self { netlink, sequence: 1, send_buffer_len: SEND_BUFFER_LEN, buffer })
    }

    /// The number the next message is to have.
    pub(crate) fn next_sequence(&self) -> u32 {
        self.sequence
    }

    /// So many numbers have been given away.
    pub fn used(&mut self, messages: usize) {
        self.sequence =
            self.sequence.wrapping_add(u32::try_from(messages).unwrap_or(u32::MAX)).max(1);
    }

    /// Sends a datagram and reads what is queued when the kernel is done with it.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<Answers> {
        self.send(request)?;
        let mut answers = Answers::default();
        while self.receive(&mut answers, libc::MSG_DONTWAIT)? {}
        Ok(answers)
    }

    /// Sends a request for a dump and reads until the kernel says that it is the end, or refuses.
    pub fn dump(&mut self, request: &[u8]) -> io::Result<Answers> {
        self.send(request)?;
        let mut answers = Answers::default();
        while !answers.ended() {
            self.receive_next(&mut answers)?;
        }
        Ok(answers)
    }

    /// The next datagram of a dump that was asked for with `send`.
    pub fn next(&mut self) -> io::Result<Answers> {
        let mut answers = Answers::default();
        self.receive_next(&mut answers)?;
        Ok(answers)
    }

    fn receive_next(&mut self, answers: &mut Answers) -> io::Result<()> {
        if self.receive(answers, 0)? { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    /// Sends a datagram; what is left of answers to others is dropped.
    pub fn send(&mut self, request: &[u8]) -> io::Result<()> {
        // The kernel counts its own overhead against the buffer; twice the bytes is its rule of thumb.
        if request.len() * 2 > self.send_buffer_len {
            sockopt::set_socket_send_buffer_size_force(&self.netlink, request.len() * 2)?;
            self.send_buffer_len = request.len() * 2;
        }
        // Answers to an earlier request that was given up are not answers to this one.
        while self.receive(&mut Answers::default(), libc::MSG_DONTWAIT)? {}
        loop {
            match self.netlink.send(request, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(drop),
            }
        }
    }

    /// Whether there was something to read.
    fn receive(&mut self, answers: &mut Answers, flags: libc::c_int) -> io::Result<bool> {
        loop {
            self.buffer.clear();
            match self.netlink.recv(&mut self.buffer, flags | libc::MSG_TRUNC) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
                Ok(length) if length > self.buffer.len() || answers.bytes.len() > ANSWER_MAX => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "an answer larger than expected",
                    ));
                }
                Ok(_) => {
                    answers.add(&self.buffer);
                    return Ok(true);
                }
            }
        }
    }
}

/// The datagrams that answered one request, one after another.
#[derive(Debug, Default)]
pub struct Answers {
    bytes: Vec<u8>,
    last_kind: u16,
    interrupted: bool,
}

/// How one message of the request fared.
#[derive(Debug)]
pub struct Answer {
    pub sequence: u32,
    /// None: it was taken.
    pub refusal: Option<Refusal>,
}

#[derive(Debug)]
pub(crate) struct Refusal {
    pub error: io::Error,
    /// Octets from the beginning of the message to the attribute that was not liked.
    pub offset: Option<u32>,
    pub message: Option<String>,
}

impl Answers {
    fn add(&mut self, datagram: &[u8]) {
        for message in Messages(datagram) {
            self.last_kind = message.kind;
            self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
        }
        self.bytes.extend_from_slice(datagram);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Whether the dump's last message is in it (NLMSG_DONE).
    pub fn ended(&self) -> bool {
        matches!(self.last_kind, NLMSG_DONE | NLMSG_ERROR)
    }

    /// Whether the kernel said that what it dumped changed meanwhile.
    pub fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// The messages of the datagram, each cut at its own length.
    pub fn messages(&self) -> Messages<'_> {
        Messages(&self.bytes)
    }

    /// Acknowledgements and errors, in the order of the messages they answer.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = Answer> {
        self.messages().filter_map(|message| outcome(&message))
    }
}

fn outcome(message: &Message<'_>) -> Option<Answer> {
    let code = i32::from_ne_bytes(array(message.body, 0)?);
    let refused = match message.kind {
        NLMSG_ERROR => code != 0,
        // A dump that went wrong says so at its end.
        NLMSG_DONE if code < 0 => true,
        _ => return None,
    };
    let refusal = refused.then(|| {
        let attributes = extended(message).unwrap_or(Attributes(&[]));
        Refusal {
            error: io::Error::from_raw_os_error(code.saturating_neg()),
            offset: attributes
                .value(NLMSGERR_OFFS)
                .and_then(|bytes| Some(u32::from_ne_bytes(array(bytes, 0)?))),
            message: attributes.text(NLMSGERR_MSG),
        }
    });
    Some(Answer { sequence: message.sequence, refusal })
}

/// Attributes behind the error code and the message it quotes (its header only, when capped).
fn extended<'a>(message: &Message<'a>) -> Option<Attributes<'a>> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let quoted = match message.flags & NLM_F_CAPPED {
        0 => usize::try_from(u32::from_ne_bytes(array(message.body, 4)?)).ok()?.next_multiple_of(4),
        _ => 16,
    };
    Some(Attributes(message.body.get(4 + quoted..)?))
}
