//! One run of QEMU: the process, its QMP socket, what it prints, its serial line.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::Error;
use super::agent::Channel;
use super::ask::{NoAnswer, Question, UnderWay};
use super::serial::{Console, Line};
use crate::plan::machine::{Attempt, Handed, MachinePlan, ReadyMachine};
use crate::proto::lifecycle::Exit;
use crate::proto::qmp::{Client, Command, Event, Output, Reason};
use crate::sys::beneath::Beneath;
use crate::sys::child::{self, Child, Ended, Order, User};
use crate::sys::descriptors::send_with;
use crate::{config, confine};

/// Longest line of QEMU's own output that is kept whole.
const MAX_SAID_BYTES: usize = 1024;
/// Lines logged of one run of QEMU: a guest can make it print without end.
const MAX_SAID_LINES: u32 = 1000;
/// Last lines kept for an error message.
const LAST_SAID: usize = 3;
/// Read from the socket or the pipe at once.
const CHUNK_BYTES: usize = 4096;
/// Lines held back while it is not sure that the accelerator runs the guest: a dump of registers has some 30.
const MAX_HELD: usize = 100;
/// Reads of what an ended QEMU left in its socket and pipe: more than both hold.
const MAX_LAST_READS: u32 = 1000;
/// Commands QEMU has not read yet; it is stuck when there are more.
const MAX_UNSENT_BYTES: usize = 16 * 1024;

/// Nothing runs before it is told, whatever the stream says of the guest's state.
const INCOMING: [&str; 3] = ["-S", "-incoming", "defer"];

/// How it is started.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub attempt: &'a Attempt,
    /// For a saved guest.
    pub incoming: bool,
    /// It may end at once, and be started in another way.
    pub doubtful: bool,
}

#[derive(Debug)]
pub(super) struct Qemu {
    child: Child,
    stream: UnixStream,
    qmp_open: bool,
    client: Client,
    unsent: VecDeque<u8>,
    questions: UnderWay,
    output: pipe::Receiver,
    output_open: bool,
    said: Said,
    line: Line,
}

impl Qemu {
    /// Opens what is handed over and starts the program. `tap` is called when the plan hands tap queues. Our end to the
    /// guest's agent is `agent`'s.
    pub(super) fn start(
        ready: &ReadyMachine,
        run: Run<'_>,
        tap: &mut impl FnMut() -> io::Result<Vec<OwnedFd>>,
        agent: &Channel,
    ) -> Result<Self, Error> {
        let plan = &ready.plan;
        let (stream, qmp_end) = socket_pair().map_err(Error::Socket)?;
        let (serial, serial_end) = socket_pair().map_err(Error::Socket)?;
        let (to_agent, agent_end) = socket_pair().map_err(Error::Socket)?;
        let handed = open(plan, [qmp_end, serial_end, agent_end], tap)?;
        let Run { attempt, incoming, doubtful } = run;
        let mut words = ready.command(attempt);
        if incoming {
            words.extend(INCOMING.map(str::to_owned));
        }
        let user = plan.user.as_ref().map(|user| User {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups.clone(),
        });
        let start =
            |source| Error::Start { program: words.first().cloned().unwrap_or_default(), source };
        let confined = confine::qemu(plan).map_err(start)?;
        let order = Order { words: &words, handed, user, environment: config::of_qemu(), confined };
        let (child, output) = child::spawn(order).map_err(start)?;
        if plan.has_agent() {
            agent.begin(to_agent);
        }
        Ok(Self {
            child,
            stream,
            qmp_open: true,
            client: Client::default(),
            unsent: VecDeque::new(),
            questions: UnderWay::default(),
            output: pipe::Receiver::from_owned_fd(output).map_err(Error::Socket)?,
            output_open: true,
            said: Said { held: doubtful.then(Vec::new), ..Said::default() },
            line: Line::new(serial),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// The first line QEMU printed, which tends to say why, and the last ones.
    pub(super) fn last_said(&self) -> String {
        self.said.summary()
    }

    /// This run is given up for another: what it printed, in short. The lines held back are not logged.
    pub(super) fn fold(&mut self) -> String {
        self.said.held = Some(Vec::new());
        self.said.summary()
    }

    /// The accelerator runs the guest: what was printed meanwhile is logged.
    pub(super) fn trust(&mut self) {
        self.said.release();
    }

    /// Sends at once as much as the socket takes; [`Self::talk`] sends the rest.
    pub(super) fn send(&mut self, command: &Command) {
        self.client.send(command);
        self.transmit(&mut Vec::new());
    }

    /// Whether another question is taken now.
    pub(super) fn takes_questions(&mut self) -> bool {
        self.questions.forget();
        self.questions.takes()
    }

    /// Somebody's question: sent when the socket is free.
    pub(super) fn ask(&mut self, question: Question) {
        if !self.qmp_open || !self.client.is_ready() {
            return question.refuse(NoAnswer::NotRunning);
        }
        self.questions.add(question);
        self.transmit(&mut Vec::new());
    }

    /// Lines of QMP that were not understood so far.
    pub(super) fn misunderstood(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.client.reasons().iter().map(|(reason, count)| (*reason, *count))
    }

    /// Whether the process has ended; then all it left in its socket and pipe was read: the events come first.
    pub(super) fn ended(&mut self, events: &mut Vec<Event>) -> io::Result<Option<Exit>> {
        let Some(ended) = self.child.try_wait()? else {
            return Ok(None);
        };
        // The kernel is asked: the runtime may not have heard yet of what came just before SIGCHLD. Whoever QEMU left
        // behind may go on writing.
        let mut chunk = [0; CHUNK_BYTES];
        let mut left = MAX_LAST_READS;
        while self.qmp_open && left > 0 {
            let read = rustix::io::read(&self.stream, &mut chunk).map_err(io::Error::from);
            if !self.take_qmp(read, &chunk, events) {
                break;
            }
            left -= 1;
        }
        while self.output_open && left > 0 {
            let read = rustix::io::read(&self.output, &mut chunk).map_err(io::Error::from);
            if !self.take_output(read, &chunk) {
                break;
            }
            left -= 1;
        }
        Ok(Some(match ended {
            Ended::Code(code) => Exit::Code(code),
            Ended::Signal(signal) => Exit::Signal(signal),
        }))
    }

    /// Waits until QEMU says something on QMP or its output, takes what is unsent, or something is moved on the
    /// serial line. Cancel-safe.
    pub(super) async fn talk(&mut self, events: &mut Vec<Event>, console: &mut Console) {
        let writing = !self.unsent.is_empty();
        tokio::select! {
            () = self.line.relay(console) => {}
            _ = self.stream.readable(), if self.qmp_open => {
                self.read_qmp(events);
            }
            _ = self.stream.writable(), if writing && self.qmp_open => {
                self.transmit(events);
            }
            _ = self.output.readable(), if self.output_open => {
                self.read_output();
            }
        }
    }

    /// After the end: the guest's last words. A QEMU that still runs is killed.
    pub(super) async fn finish(mut self, console: &mut Console) {
        drop(self.child);
        self.said.release();
        for (reason, count) in self.client.reasons() {
            tracing::warn!(?reason, count, "QEMU said on QMP what was not understood");
        }
        self.line.drain(console).await;
    }

    fn read_qmp(&mut self, events: &mut Vec<Event>) {
        let mut chunk = [0; CHUNK_BYTES];
        let read = self.stream.try_read(&mut chunk);
        self.take_qmp(read, &chunk, events);
    }

    /// What a read of the socket brought. Whether there may be more at once.
    fn take_qmp(&mut self, read: io::Result<usize>, chunk: &[u8], events: &mut Vec<Event>) -> bool {
        match read {
            Ok(0) => self.qmp_open = false,
            Ok(length) => {
                self.client.receive(chunk.get(..length).unwrap_or_default());
                self.transmit(events);
                return true;
            }
            Err(error) if is_for_now(&error) => {}
            Err(_) => self.qmp_open = false,
        }
        false
    }

    fn transmit(&mut self, events: &mut Vec<Event>) {
        while let Some(output) = self.client.poll() {
            match output {
                Output::Event(event) => events.push(event),
                Output::Answer(id, answer) => self.questions.answered(id, answer),
                Output::Transmit(bytes) if self.unsent.len() + bytes.len() <= MAX_UNSENT_BYTES => {
                    self.unsent.extend(bytes);
                }
                Output::Transmit(_) => {}
            }
        }
        self.flush();
        while let Some(next) = self.questions.next(self.unsent.is_empty()) {
            let (id, line) = self.client.ask(next.command, next.arguments.clone());
            self.unsent.extend(line);
            if let Some(file) = &next.file {
                self.send_with(file);
            }
            let with_file = next.file.is_some();
            self.questions.sent(id, next, with_file);
            self.flush();
        }
    }

    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.try_write(self.unsent.make_contiguous()) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.unsent.clear(),
            }
        }
    }

    /// What is unsent, and a descriptor with its first octet. Where the socket takes nothing now, the command goes without,
    /// and QEMU says that it has none: whoever asked hears that.
    fn send_with(&mut self, file: &OwnedFd) {
        let (stream, bytes) = (&self.stream, self.unsent.make_contiguous());
        let sent = stream.try_io(Interest::WRITABLE, || send_with(stream, bytes, file));
        if let Ok(length) = sent {
            self.unsent.drain(..length);
        }
    }

    fn read_output(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        let read = self.output.try_read(&mut chunk);
        self.take_output(read, &chunk);
    }

    /// What a read of the pipe brought. Whether there may be more at once.
    fn take_output(&mut self, read: io::Result<usize>, chunk: &[u8]) -> bool {
        match read {
            Ok(0) => self.output_open = false,
            Ok(length) => {
                self.said.add(chunk.get(..length).unwrap_or_default());
                return true;
            }
            Err(error) if is_for_now(&error) => {}
            Err(_) => self.output_open = false,
        }
        if !self.output_open {
            self.said.add(b"\n");
        }
        false
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Both ends close-on-exec; the first is ours, the second blocks and is QEMU's.
fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

fn open(
    plan: &MachinePlan,
    sockets: [OwnedFd; 3],
    tap: &mut impl FnMut() -> io::Result<Vec<OwnedFd>>,
) -> Result<Vec<(i32, OwnedFd)>, Error> {
    let [mut qmp, mut serial, mut agent] = sockets.map(Some);
    let wants_tap = plan.handed.iter().any(|(_, file)| matches!(file, Handed::TapQueue(_)));
    let mut queues = if wants_tap { tap().map_err(Error::Tap)? } else { Vec::new() }.into_iter();
    let files = Beneath::new(plan.untrusted.iter().cloned());
    let missing = || Error::Tap(io::Error::other("fewer queues were opened than planned"));
    plan.handed
        .iter()
        .map(|(number, file)| {
            let fd = match file {
                Handed::Qmp => qmp.take().ok_or_else(missing)?,
                Handed::Serial => serial.take().ok_or_else(missing)?,
                Handed::Agent => agent.take().ok_or_else(missing)?,
                Handed::TapQueue(_) => queues.next().ok_or_else(missing)?,
                Handed::Disk { path, writable, .. } => child::open_disk(path, *writable, &files)
                    .map_err(|source| Error::Disk { path: path.clone(), source })?,
            };
            Ok((*number, fd))
        })
        .collect()
}

/// QEMU's own output, line by line, into our log. A guest can make QEMU print: lines are cut, and only the last
/// ones are kept.
#[derive(Debug, Default)]
struct Said {
    line: Vec<u8>,
    lines: u32,
    first: String,
    last: VecDeque<String>,
    /// Lines that are logged when the accelerator runs the guest; None once it does.
    held: Option<Vec<String>>,
}

impl Said {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() < MAX_SAID_BYTES {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
        if text.is_empty() {
            return;
        }
        self.lines = self.lines.saturating_add(1);
        match &mut self.held {
            Some(held) => {
                tracing::debug!(target: "qemu", "{text}");
                if held.len() < MAX_HELD {
                    held.push(text.clone());
                }
            }
            _ if self.lines <= MAX_SAID_LINES => tracing::warn!(target: "qemu", "{text}"),
            _ if self.lines == MAX_SAID_LINES + 1 => {
                tracing::warn!(target: "qemu", "says more than {MAX_SAID_LINES} lines; no more of them here");
            }
            _ => {}
        }
        if self.lines == 1 {
            self.first.clone_from(&text);
        }
        if self.last.len() >= LAST_SAID {
            self.last.pop_front();
        }
        self.last.push_back(text);
    }

    fn release(&mut self) {
        for text in self.held.take().unwrap_or_default() {
            tracing::warn!(target: "qemu", "{text}");
        }
    }

    fn summary(&self) -> String {
        let last = Vec::from(self.last.clone()).join("; ");
        match usize::try_from(self.lines).unwrap_or(usize::MAX) {
            0..=LAST_SAID => last,
            _ => format!("{}; …; {last}", self.first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runtime never gets its turn here: what was written before the end is heard all the same.
    #[tokio::test]
    async fn the_last_words_are_read_from_the_kernel() {
        let (stream, qmp_end) = socket_pair().unwrap();
        let (serial, _serial_end) = socket_pair().unwrap();
        let event = r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}}"#;
        let script = format!("echo '{event}' >&3; echo why; exit 4");
        let words = ["sh", "-c", &script].map(str::to_owned);
        let environment = vec![("PATH", "/usr/bin:/bin".into())];
        let order = Order {
            words: &words,
            handed: vec![(3, qmp_end)],
            user: None,
            environment,
            confined: None,
        };
        let (child, output) = child::spawn(order).unwrap();
        let mut qemu = Qemu {
            child,
            stream,
            qmp_open: true,
            client: Client::default(),
            unsent: VecDeque::new(),
            questions: UnderWay::default(),
            output: pipe::Receiver::from_owned_fd(output).unwrap(),
            output_open: true,
            said: Said::default(),
            line: Line::new(serial),
        };
        let mut events = Vec::new();
        let exit = loop {
            if let Some(exit) = qemu.ended(&mut events).unwrap() {
                break exit;
            }
            std::thread::yield_now();
        };
        assert_eq!((exit, qemu.last_said().as_str()), (Exit::Code(4), "why"));
        assert!(matches!(events.as_slice(), [Event::Shutdown { .. }]), "{events:?}");
    }

    #[test]
    fn what_qemu_prints_is_bounded_and_harmless() {
        let mut said = Said::default();
        said.add(&[b'x'; 100_000]);
        said.add(b"\nfirst\nsecond\n\n\x1b[31mthird\r\n");
        assert!(said.line.len() <= MAX_SAID_BYTES);
        let mut doubtful = Said { held: Some(Vec::new()), ..Said::default() };
        doubtful.add(&b"a line\n".repeat(100_000));
        assert_eq!(doubtful.held.as_ref().map(Vec::len), Some(MAX_HELD));
        assert_eq!(Vec::from(said.last.clone()), ["first", "second", "[31mthird"]);
        assert!(
            said.summary().starts_with("xxx")
                && said.summary().ends_with("x; …; first; second; [31mthird")
        );
    }
}
