//! A program in QEMU's place: it greets as QMP does, answers every command, and then floods its monitor or its console.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::{Error, at};

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}"#;
/// Events that a launcher says something of.
const EVENTS: [&str; 3] = [
    r#""RESET", "data": {"guest": true, "reason": "guest-reset"}"#,
    r#""BLOCK_IO_ERROR", "data": {"device": "", "node-name": "disk0", "operation": "write", "action": "report", "reason": "Input/output error", "nospace": false}"#,
    r#""STOP", "data": {}"#,
];
/// Of the console.
const LINE: &[u8] =
    b"\x1b[31ma line of a guest that has much to say, and says it again and again\x1b[0m\r\n";

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Flood {
    Quiet,
    Events,
    Console,
}

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, value_enum)]
    flood: Flood,
    /// Milliseconds of good behaviour first
    #[arg(long)]
    after_ms: u64,
}

/// Standard input is QMP's socket, in both directions; standard output is the console's.
pub fn run(options: &Options) -> Result<(), Error> {
    let own = |fd: std::os::fd::BorrowedFd<'_>| at("a descriptor", fd.try_clone_to_owned());
    let qmp = UnixStream::from(own(rustix::stdio::stdin())?);
    let mut console = std::fs::File::from(own(rustix::stdio::stdout())?);
    // Whole lines, whoever writes.
    let monitor = Arc::new(Mutex::new(at("QMP", qmp.try_clone())?));
    let say = |monitor: &Mutex<UnixStream>, text: &str| {
        monitor.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes())
    };
    at("greeting", say(&monitor, &format!("{GREETING}\r\n")))?;
    let events = Arc::clone(&monitor);
    let (flood, begins) = (options.flood, Instant::now() + Duration::from_millis(options.after_ms));
    std::thread::spawn(move || {
        std::thread::sleep(begins.saturating_duration_since(Instant::now()));
        let burst = EVENTS
            .map(|event| {
                format!("{{\"timestamp\": {{\"seconds\": 1, \"microseconds\": 2}}, \"event\": {event}}}\r\n")
            })
            .concat();
        // As fast as it is read.
        loop {
            let written = match flood {
                Flood::Quiet => return,
                Flood::Events => say(&events, &burst),
                Flood::Console => console.write_all(LINE),
            };
            if written.is_err() {
                return;
            }
        }
    });
    for line in BufReader::new(qmp).lines() {
        let line = at("QMP", line)?;
        let asked: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let result = match asked.get("execute").and_then(serde_json::Value::as_str) {
            Some("query-status") => {
                serde_json::json!({"status": "running", "singlestep": false, "running": true})
            }
            _ => serde_json::json!({}),
        };
        let answer = serde_json::json!({"return": result, "id": asked.get("id")});
        at("answering", say(&monitor, &format!("{answer}\r\n")))?;
        // It does not power off when it is asked to, and goes when it is told to.
        if asked.get("execute").is_some_and(|command| command == "quit") {
            break;
        }
    }
    Ok(())
}
