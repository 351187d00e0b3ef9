//! QMP, QEMU's control protocol, client side (QEMU docs/interop/qmp-spec.txt): JSON objects, one per line.
//!
//! A core: bytes in, bytes and events out. It knows the handful of commands a launcher needs and the events
//! that say how the guest is; all others are ignored. A guest that breaks out of QEMU speaks to us here, so
//! every buffer has a bound and no line is an error: what makes no sense is counted by its [`Reason`].

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

/// Longest line taken; QEMU's own are some hundred bytes.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Commands without an answer yet.
const MAX_IN_FLIGHT: usize = 64;
/// Events not yet polled; further ones are counted as [`Reason::Flood`].
const MAX_EVENTS: usize = 256;

/// The id of the guest's `-netdev`.
pub const NETDEV: &str = "net0";
/// The id of the port that the guest's agent has.
pub const AGENT_PORT: &str = "agent0";

/// What QEMU is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    QueryStatus,
    /// Presses the ACPI power button.
    SystemPowerdown,
    /// Ends the sleep of a guest that suspended itself.
    SystemWakeup,
    /// Presses the reset button. A guest that is paused stays so.
    SystemReset,
    /// Flushes the disks and ends QEMU.
    Quit,
    /// Lets a paused guest run on.
    Cont,
    /// Sets VNC's password; only the first 8 characters count.
    SetVncPassword(String),
    /// Takes the link of the guest's network card away, or gives it back.
    SetLink {
        up: bool,
    },
    /// Tells the guest that the disk with this id has another size now.
    BlockResize {
        device: String,
        size_bytes: u64,
    },
}

impl Command {
    /// QMP's name of it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::QueryStatus => "query-status",
            Self::SystemPowerdown => "system_powerdown",
            Self::SystemWakeup => "system_wakeup",
            Self::SystemReset => "system_reset",
            Self::Quit => "quit",
            Self::Cont => "cont",
            Self::SetVncPassword(_) => "set_password",
            Self::SetLink { .. } => "set_link",
            Self::BlockResize { .. } => "block_resize",
        }
    }

    fn arguments(&self) -> Option<Value> {
        match self {
            Self::SetVncPassword(password) => {
                Some(json!({"protocol": "vnc", "password": password}))
            }
            Self::BlockResize { device, size_bytes } => {
                Some(json!({"device": device, "size": size_bytes}))
            }
            Self::SetLink { up } => Some(json!({"name": NETDEV, "up": up})),
            Self::QueryStatus
            | Self::SystemPowerdown
            | Self::SystemWakeup
            | Self::SystemReset
            | Self::Quit
            | Self::Cont => None,
        }
    }
}

/// Who ended the machine: `ShutdownCause` of QEMU (qapi/run-state.json), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// The guest powered off, or panicked.
    Guest,
    /// The guest rebooted, and QEMU runs with `-no-reboot`.
    GuestReset,
    /// A command, a signal, or QEMU itself.
    Host,
}

/// What QEMU says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Commands are taken from now on.
    Ready(Version),
    Status(RunState),
    /// The machine is about to end.
    Shutdown(Shutdown),
    Reset {
        guest: bool,
    },
    Stop,
    Resume,
    /// The guest went to sleep (ACPI S3), or woke up. Neither is told as `Stop` or `Resume`.
    Suspend,
    Wakeup,
    /// The power button was pressed, at our command.
    Powerdown,
    /// `runs`: QEMU lets the guest do what it likes then.
    GuestPanicked {
        runs: bool,
    },
    /// A disk of the guest could not be read or written.
    BlockIoError {
        device: String,
        operation: String,
        reason: String,
        no_space: bool,
        /// The guest is paused for it, instead of being told.
        stops: bool,
    },
    /// The guest opened the agent's port, or closed it.
    AgentPort {
        open: bool,
    },
    /// A command was refused.
    Refused {
        command: &'static str,
        why: String,
    },
}

/// QEMU's version, from its greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
    pub micro: u64,
}

impl Version {
    /// The oldest one tested.
    pub(crate) const OLDEST: Self = Self { major: 7, minor: 2, micro: 0 };
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// `RunState` of qapi/run-state.json, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    Running,
    /// The accelerator gave up; the guest will never run again.
    InternalError,
    /// Paused by a disk error (`werror`, `rerror`); `cont` tries again.
    IoError,
    /// ACPI S3.
    Suspended,
    /// Paused, starting, ending: by its name. The processors stand still in each of them.
    Other(&'static str),
}

/// Why a line was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    LineTooLong,
    NotJson,
    /// JSON, but neither greeting, answer nor event.
    NotQmp,
    /// An answer to no question of ours.
    UnknownId,
    /// More events than are polled.
    Flood,
}

impl Reason {
    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::LineTooLong => "line_too_long",
            Self::NotJson => "not_json",
            Self::NotQmp => "not_qmp",
            Self::UnknownId => "unknown_id",
            Self::Flood => "flood",
        }
    }
}

/// One thing to do after [`Client::receive`] or [`Client::send`].
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    Transmit(Vec<u8>),
    Event(Event),
    /// To the question of this number ([`Client::ask`]); an error is in QEMU's words.
    Answer(u64, Result<Value, String>),
}

/// ```text
///   greeting ──► qmp_capabilities ──► its answer: Ready ──► commands, answers, events
/// ```
#[derive(Debug, Default)]
pub struct Client {
    line: Vec<u8>,
    /// The rest of a line that was too long is skipped.
    skipping: bool,
    version: Option<Version>,
    ready: bool,
    next_id: u64,
    in_flight: BTreeMap<u64, Asked>,
    outputs: VecDeque<Output>,
    reasons: BTreeMap<Reason, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Capabilities,
    Status,
    Named(&'static str),
    Question,
}

impl Client {
    /// Takes what came from the socket.
    pub fn receive(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            self.extend_line(head);
            let line = std::mem::take(&mut self.line);
            if !std::mem::take(&mut self.skipping)
                && let Err(reason) = self.line(&line)
            {
                self.count(reason);
            }
            bytes = tail.get(1..).unwrap_or_default();
        }
        self.extend_line(bytes);
    }

    /// Asks QEMU; must not be called before [`Event::Ready`]. Dropped when too many answers are outstanding.
    pub fn send(&mut self, command: &Command) {
        let asked = match command {
            Command::QueryStatus => Asked::Status,
            other => Asked::Named(other.name()),
        };
        self.transmit(command.name(), command.arguments(), asked);
    }

    /// Whether [`Event::Ready`] was said.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Asks anything: the line to send, and the number of its [`Output::Answer`]. Must not be called before
    /// [`Event::Ready`]. Whoever asks bounds how many are under way, and forgets those that have no answer.
    pub fn ask(&mut self, name: &str, arguments: Option<Value>) -> (u64, Vec<u8>) {
        self.message(name, arguments, Asked::Question)
    }

    /// The next thing to do; None when all is done.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many lines were not understood, by reason.
    pub fn reasons(&self) -> &BTreeMap<Reason, u64> {
        &self.reasons
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        if self.line.len() + bytes.len() > MAX_LINE_BYTES {
            self.line.clear();
            self.skipping = true;
            self.count(Reason::LineTooLong);
            return;
        }
        self.line.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Reason> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(line).map_err(|_| Reason::NotJson)?;
        if let Some(greeting) = value.get("QMP") {
            return self.greeted(greeting);
        }
        if let Some(name) = value.get("event").and_then(Value::as_str) {
            return match event(name, value.get("data").unwrap_or(&Value::Null)) {
                Some(event) => self.event(event),
                None => Ok(()),
            };
        }
        self.answered(&value)
    }

    fn greeted(&mut self, greeting: &Value) -> Result<(), Reason> {
        let number =
            |key| greeting.pointer(&format!("/version/qemu/{key}")).and_then(Value::as_u64);
        let version = (|| {
            Some(Version {
                major: number("major")?,
                minor: number("minor")?,
                micro: number("micro")?,
            })
        })()
        .ok_or(Reason::NotQmp)?;
        if self.version.replace(version).is_none() {
            self.transmit("qmp_capabilities", None, Asked::Capabilities);
        }
        Ok(())
    }

    fn answered(&mut self, value: &Value) -> Result<(), Reason> {
        let error = value.get("error");
        let answer = value.get("return");
        if error.is_none() && answer.is_none() {
            return Err(Reason::NotQmp);
        }
        let id = value.get("id").and_then(Value::as_u64).ok_or(Reason::UnknownId)?;
        let asked = self.in_flight.remove(&id).ok_or(Reason::UnknownId)?;
        if asked == Asked::Question {
            let answer = match error {
                Some(error) => Err(why(error)),
                None => Ok(answer.cloned().unwrap_or_default()),
            };
            self.outputs.push_back(Output::Answer(id, answer));
            return Ok(());
        }
        if let Some(error) = error {
            let command = match asked {
                Asked::Capabilities => "qmp_capabilities",
                Asked::Status => Command::QueryStatus.name(),
                Asked::Named(name) => name,
                Asked::Question => return Ok(()),
            };
            return self.event(Event::Refused { command, why: why(error) });
        }
        match (asked, self.version) {
            (Asked::Capabilities, Some(version)) => {
                self.ready = true;
                self.event(Event::Ready(version))
            }
            (Asked::Status, _) => {
                let state = answer.and_then(|answer| answer.get("status")).and_then(Value::as_str);
                self.event(Event::Status(run_state(state.ok_or(Reason::NotQmp)?)))
            }
            (Asked::Capabilities | Asked::Named(_) | Asked::Question, _) => Ok(()),
        }
    }

    fn event(&mut self, event: Event) -> Result<(), Reason> {
        if self.outputs.len() >= MAX_EVENTS {
            return Err(Reason::Flood);
        }
        self.outputs.push_back(Output::Event(event));
        Ok(())
    }

    fn transmit(&mut self, name: &str, arguments: Option<Value>, asked: Asked) {
        let (_, line) = self.message(name, arguments, asked);
        self.outputs.push_back(Output::Transmit(line));
    }

    fn message(&mut self, name: &str, arguments: Option<Value>, asked: Asked) -> (u64, Vec<u8>) {
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            // Answers that never came are given up, oldest first: a power button must still be pressed.
            self.in_flight.pop_first();
        }
        let id = self.next_id;
        self.next_id += 1;
        let mut message = json!({"execute": name, "id": id});
        if let (Some(arguments), Some(object)) = (arguments, message.as_object_mut()) {
            object.insert("arguments".to_owned(), arguments);
        }
        self.in_flight.insert(id, asked);
        (id, format!("{message}\r\n").into_bytes())
    }

    fn count(&mut self, reason: Reason) {
        *self.reasons.entry(reason).or_default() += 1;
    }
}

/// QEMU's own words, cut.
fn why(error: &Value) -> String {
    let text = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn event(name: &str, data: &Value) -> Option<Event> {
    let flag = |key| data.get(key).and_then(Value::as_bool).unwrap_or(false);
    let word = |key| data.get(key).and_then(Value::as_str).unwrap_or_default();
    let text = |key| word(key).chars().filter(|c| !c.is_control()).take(64).collect();
    Some(match name {
        "SHUTDOWN" => Event::Shutdown(match (word("reason"), flag("guest")) {
            ("guest-reset", _) => Shutdown::GuestReset,
            (_, true) => Shutdown::Guest,
            (_, false) => Shutdown::Host,
        }),
        "RESET" => Event::Reset { guest: flag("guest") },
        "STOP" => Event::Stop,
        "RESUME" => Event::Resume,
        "SUSPEND" => Event::Suspend,
        "WAKEUP" => Event::Wakeup,
        "POWERDOWN" => Event::Powerdown,
        "GUEST_PANICKED" => Event::GuestPanicked { runs: word("action") == "run" },
        "VSERPORT_CHANGE" if word("id") == AGENT_PORT => Event::AgentPort { open: flag("open") },
        "BLOCK_IO_ERROR" => Event::BlockIoError {
            device: text(if word("device").is_empty() { "node-name" } else { "device" }),
            operation: text("operation"),
            reason: text("reason"),
            no_space: flag("nospace"),
            stops: word("action") == "stop",
        },
        _ => return None,
    })
}

/// All other members of `RunState`, QEMU 6 to 10.
const OTHERS: [&str; 13] = [
    "colo",
    "debug",
    "finish-migrate",
    "guest-panicked",
    "inmigrate",
    "paused",
    "postmigrate",
    "prelaunch",
    "preconfig",
    "restore-vm",
    "save-vm",
    "shutdown",
    "watchdog",
];

fn run_state(name: &str) -> RunState {
    match name {
        "running" => RunState::Running,
        "internal-error" => RunState::InternalError,
        "io-error" => RunState::IoError,
        "suspended" => RunState::Suspended,
        name => {
            RunState::Other(OTHERS.into_iter().find(|known| *known == name).unwrap_or("unknown"))
        }
    }
}

#[cfg(test)]
mod tests;
