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

/// What QEMU is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    QueryStatus,
    /// Presses the ACPI power button.
    SystemPowerdown,
    /// Ends the sleep of a guest that suspended itself.
    SystemWakeup,
    /// Flushes the disks and ends QEMU.
    Quit,
    /// Lets a paused guest run on.
    Cont,
    /// Sets VNC's password; only the first 8 characters count.
    SetVncPassword(String),
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
            Self::Quit => "quit",
            Self::Cont => "cont",
            Self::SetVncPassword(_) => "set_password",
            Self::BlockResize { .. } => "block_resize",
        }
    }

    fn arguments(&self) -> Option<Value> {
        match self {
            Self::SetVncPassword(password) => Some(json!({"protocol": "vnc", "password": password})),
            Self::BlockResize { device, size_bytes } => Some(json!({"device": device, "size": size_bytes})),
            Self::QueryStatus | Self::SystemPowerdown | Self::SystemWakeup | Self::Quit | Self::Cont => None,
        }
    }
}

/// What QEMU says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Commands are taken from now on.
    Ready(Version),
    Status(RunState),
    /// The machine is about to end.
    Shutdown {
        guest: bool,
        reason: String,
    },
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
    GuestPanicked,
    /// A disk of the guest could not be read or written.
    BlockIoError {
        device: String,
        operation: String,
        reason: String,
        no_space: bool,
        /// The guest is paused for it, instead of being told.
        stops: bool,
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
    pub const OLDEST: Self = Self { major: 7, minor: 2, micro: 0 };
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

/// One thing to do after [`Client::receive`] or [`Client::send`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Transmit(Vec<u8>),
    Event(Event),
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
        let number = |key| greeting.pointer(&format!("/version/qemu/{key}")).and_then(Value::as_u64);
        let version =
            (|| Some(Version { major: number("major")?, minor: number("minor")?, micro: number("micro")? }))(
            )
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
        if let Some(error) = error {
            let command = match asked {
                Asked::Capabilities => "qmp_capabilities",
                Asked::Status => Command::QueryStatus.name(),
                Asked::Named(name) => name,
            };
            let why: String = error
                .get("desc")
                .and_then(Value::as_str)
                .unwrap_or("no reason given")
                .chars()
                .take(200)
                .collect();
            return self.event(Event::Refused { command, why });
        }
        match (asked, self.version) {
            (Asked::Capabilities, Some(version)) => self.event(Event::Ready(version)),
            (Asked::Status, _) => {
                let state = answer.and_then(|answer| answer.get("status")).and_then(Value::as_str);
                self.event(Event::Status(run_state(state.ok_or(Reason::NotQmp)?)))
            }
            (Asked::Capabilities | Asked::Named(_), _) => Ok(()),
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
        self.outputs.push_back(Output::Transmit(format!("{message}\r\n").into_bytes()));
    }

    fn count(&mut self, reason: Reason) {
        *self.reasons.entry(reason).or_default() += 1;
    }
}

fn event(name: &str, data: &Value) -> Option<Event> {
    let flag = |key| data.get(key).and_then(Value::as_bool).unwrap_or(false);
    let word = |key| data.get(key).and_then(Value::as_str).unwrap_or_default();
    let text = |key| word(key).chars().filter(|c| !c.is_control()).take(64).collect();
    Some(match name {
        "SHUTDOWN" => Event::Shutdown { guest: flag("guest"), reason: text("reason") },
        "RESET" => Event::Reset { guest: flag("guest") },
        "STOP" => Event::Stop,
        "RESUME" => Event::Resume,
        "SUSPEND" => Event::Suspend,
        "WAKEUP" => Event::Wakeup,
        "POWERDOWN" => Event::Powerdown,
        "GUEST_PANICKED" => Event::GuestPanicked,
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
        name => RunState::Other(OTHERS.into_iter().find(|known| *known == name).unwrap_or("unknown")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GREETING: &[u8] = b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"Debian\"}, \"capabilities\": [\"oob\"]}}\r\n";

    fn drain(client: &mut Client) -> Vec<String> {
        std::iter::from_fn(|| client.poll())
            .map(|output| match output {
                Output::Transmit(bytes) => String::from_utf8(bytes).unwrap().trim_end().to_owned(),
                Output::Event(event) => format!("{event:?}"),
            })
            .collect()
    }

    fn ready() -> Client {
        let mut client = Client::default();
        client.receive(GREETING);
        client.receive(b"{\"return\": {}, \"id\": 0}\r\n");
        drain(&mut client);
        client
    }

    #[test]
    fn greets_and_is_ready_when_capabilities_are_agreed() {
        let mut client = Client::default();
        client.receive(GREETING);
        assert_eq!(drain(&mut client), [r#"{"execute":"qmp_capabilities","id":0}"#]);
        client.receive(b"{\"return\": {}, \"id\": 0}\r\n");
        assert_eq!(drain(&mut client), ["Ready(Version { major: 7, minor: 2, micro: 22 })"]);
    }

    #[test]
    fn commands_carry_their_arguments_and_answers_find_their_question() {
        let mut client = ready();
        client.send(&Command::SetVncPassword("se\"cret".to_owned()));
        client.send(&Command::BlockResize { device: "disk0".to_owned(), size_bytes: 1 << 30 });
        client.send(&Command::QueryStatus);
        assert_eq!(
            drain(&mut client),
            [
                r#"{"execute":"set_password","id":1,"arguments":{"protocol":"vnc","password":"se\"cret"}}"#,
                r#"{"execute":"block_resize","id":2,"arguments":{"device":"disk0","size":1073741824}}"#,
                r#"{"execute":"query-status","id":3}"#,
            ]
        );
        client.receive(b"{\"return\": {\"status\": \"internal-error\", \"running\": false}, \"id\": 3}\n");
        client.receive(b"{\"id\": 1, \"error\": {\"class\": \"GenericError\", \"desc\": \"no vnc\"}}\n");
        assert_eq!(
            drain(&mut client),
            ["Status(InternalError)", "Refused { command: \"set_password\", why: \"no vnc\" }"]
        );
    }

    #[test]
    fn events_are_understood_in_any_cut() {
        let text = b"{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"POWERDOWN\"}\r\n\
            {\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 0}}\r\n\
            {\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\r\n";
        let want = ["Powerdown", "Shutdown { guest: true, reason: \"guest-shutdown\" }"];
        for cut in 0..text.len() {
            let mut client = ready();
            let (head, tail) = text.split_at(cut);
            client.receive(head);
            client.receive(tail);
            assert_eq!(drain(&mut client), want, "cut at {cut}");
        }
    }

    #[test]
    fn an_error_of_a_disk_says_which_and_what_became_of_it() {
        let mut client = ready();
        client.receive(
            b"{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"device\": \"disk0\", \"node-name\": \"#block1\", \
            \"nospace\": true, \"reason\": \"No space left\\u001b on device\", \"operation\": \"write\", \"action\": \"stop\"}}\r\n\
            {\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"device\": \"\", \"node-name\": \"data\", \
            \"nospace\": false, \"reason\": \"Input/output error\", \"operation\": \"read\", \"action\": \"report\"}}\r\n\
            {\"event\": \"SUSPEND\"}\r\n{\"event\": \"WAKEUP\"}\r\n",
        );
        assert_eq!(
            drain(&mut client),
            [
                r#"BlockIoError { device: "disk0", operation: "write", reason: "No space left on device", no_space: true, stops: true }"#,
                r#"BlockIoError { device: "data", operation: "read", reason: "Input/output error", no_space: false, stops: false }"#,
                "Suspend",
                "Wakeup"
            ]
        );
        assert_eq!(run_state("suspended"), RunState::Suspended);
        assert_eq!(run_state("prelaunch"), RunState::Other("prelaunch"));
        assert_eq!(run_state("of the future"), RunState::Other("unknown"));
    }

    #[test]
    fn a_line_without_end_does_not_grow_memory_and_the_next_is_understood() {
        let mut client = ready();
        for _ in 0..64 {
            client.receive(&[b'x'; 4096]);
            assert!(client.line.len() <= MAX_LINE_BYTES);
        }
        client.receive(b"\n{\"event\": \"STOP\"}\n");
        assert_eq!(drain(&mut client), ["Stop"]);
        assert_eq!(client.reasons().get(&Reason::LineTooLong), Some(&1));
    }

    #[test]
    fn a_flood_of_events_is_bounded() {
        let mut client = ready();
        for _ in 0..10_000 {
            client.receive(b"{\"event\": \"RESUME\"}\n");
        }
        assert_eq!(drain(&mut client).len(), MAX_EVENTS);
        assert_eq!(client.reasons().get(&Reason::Flood), Some(&(10_000 - MAX_EVENTS as u64)));
    }

    proptest! {
        #[test]
        fn no_bytes_end_or_grow_it(chunks in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                Just(GREETING.to_vec()),
                "\\{\"(event|return|error|QMP)\": (null|1|\"[A-Z]{0,9}\"|\\{\\})(, \"id\": [0-9]{1,20})?\\}\n".prop_map(String::into_bytes),
            ], 0..40)) {
            let mut client = Client::default();
            for chunk in &chunks {
                client.receive(chunk);
                prop_assert!(client.line.len() <= MAX_LINE_BYTES && client.in_flight.len() <= MAX_IN_FLIGHT);
                while client.poll().is_some() {}
            }
        }
    }
}
