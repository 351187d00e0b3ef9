//! What the guest has to show (`BERTH_READY`), and whether it has in this run of QEMU.
//!
//! ```text
//! dhcp:   an ACK since QEMU's start ───────────┐
//! tcp:    a connection, looked at from time to time ─► seen: the start that it was seen in
//! serial: a match in what it writes ───────────┤
//! agent:  an answer, until it is silent ────────┘
//! ```
//!
//! Another run of QEMU has shown nothing, but one that takes up a guest that was suspended. A network half that is started anew does not know of the address that it gave
//! before; the machine half does.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use regex_lite::Regex;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::Ready;
use crate::console::{Chunk, Kind, Mode, Output, Request};
use crate::supervise::agent::Known;
use crate::supervise::{MachineStatus, Phase};

/// Between two looks at a port: until it takes connections, and after.
const DIAL: Duration = Duration::from_secs(2);
const DIAL_AGAIN: Duration = Duration::from_secs(10);
const DIAL_WITHIN: Duration = Duration::from_secs(2);
/// Looks in a row that find nobody, until it is not ready any more.
const MISSED: u32 = 3;
/// Octets of a line that are kept until there is more of it; the end of a longer one.
const MAX_LINE: usize = 4096;

/// In which run of QEMU it was seen: by its start.
pub(super) type Seen = watch::Sender<Option<Instant>>;

/// What is not there yet, in words.
pub(super) fn missing(
    ready: &Ready,
    machine: &MachineStatus,
    seen: Option<Instant>,
) -> Option<String> {
    if machine.pid.is_some() && seen.is_some() && seen == machine.started {
        return None;
    }
    // It took its address, and wrote what it writes, before it was suspended.
    if machine.is_resumed && matches!(ready, Ready::Dhcp | Ready::Serial(_)) {
        return None;
    }
    Some(match ready {
        Ready::Running => return None,
        Ready::Dhcp => "the guest has not taken its address by DHCP".to_owned(),
        Ready::Agent => "the guest's agent does not answer".to_owned(),
        Ready::Tcp(port) => format!("the guest takes no connection at TCP port {port}"),
        Ready::Serial(_) => {
            "the guest has not written what BERTH_READY waits for on its serial line".to_owned()
        }
    })
}

/// Follows when the guest was given its address, by this process's clock, for as long as the task lives.
pub(super) async fn dhcp(
    mut machine: watch::Receiver<MachineStatus>,
    mut acked: watch::Receiver<Option<Instant>>,
    seen: Seen,
) {
    loop {
        let started = machine.borrow_and_update().started;
        let acked_at = *acked.borrow_and_update();
        if let (Some(started), Some(acked_at)) = (started, acked_at)
            && acked_at >= started
        {
            seen.send_if_modified(|seen| seen.replace(started) != Some(started));
        }
        let changed = tokio::select! {
            changed = machine.changed() => changed,
            changed = acked.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Dials the guest, for as long as the task lives.
pub(super) async fn tcp(
    mut machine: watch::Receiver<MachineStatus>,
    (address, port): (Ipv4Addr, u16),
    seen: Seen,
) {
    let mut missed = 0;
    loop {
        let runs = |status: &MachineStatus| status.phase == Phase::Running && status.pid.is_some();
        let Ok(started) = machine.wait_for(runs).await.map(|status| status.started) else { return };
        let to = SocketAddr::from((address, port));
        let takes = matches!(timeout(DIAL_WITHIN, TcpStream::connect(to)).await, Ok(Ok(_)));
        if takes {
            missed = 0;
            seen.send_if_modified(|seen| std::mem::replace(seen, started) != started);
        } else {
            missed += 1;
            if missed >= MISSED {
                seen.send_if_modified(|seen| seen.take().is_some());
            }
        }
        sleep(if takes { DIAL_AGAIN } else { DIAL }).await;
    }
}

/// Follows whether the guest's agent answers, for as long as the task lives. One that is slow once is asked again before it counts
/// as silent.
pub(super) async fn agent(
    mut machine: watch::Receiver<MachineStatus>,
    mut known: watch::Receiver<Known>,
    seen: Seen,
) {
    loop {
        let answers = known.borrow_and_update().presence.answers();
        let started = machine.borrow_and_update().started.filter(|_| answers);
        seen.send_if_modified(|seen| std::mem::replace(seen, started) != started);
        let changed = tokio::select! {
            changed = machine.changed() => changed,
            changed = known.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Who asks the console for what the guest writes from now on.
pub(super) fn reader() -> Request {
    let who = "BERTH_READY".to_owned();
    Request { kind: Kind::Readiness, who, mode: Mode::ReadOnly, replay: 0 }
}

/// Looks for a pattern in what the guest writes, in each run of QEMU until it is found, until the stream ends: in
/// whole lines, and in the one that is not whole yet, as a prompt is.
pub(super) async fn serial(
    pattern: String,
    mut written: Output,
    machine: watch::Receiver<MachineStatus>,
    seen: Seen,
) {
    // What is none was refused before.
    let Ok(pattern) = Regex::new(&pattern) else { return };
    let mut line = Line::default();
    while let Some(chunk) = written.next().await {
        let started = machine.borrow().started;
        if line.of != started {
            line = Line { of: started, ..Line::default() };
        }
        match chunk {
            // What is lost may be the rest of the line.
            Chunk::Skipped(_) => line.begun.clear(),
            Chunk::Bytes(bytes) if !line.found && line.hear(&bytes, &pattern) => {
                line.found = true;
                seen.send_replace(started);
            }
            Chunk::Bytes(_) => {}
        }
    }
}

/// The line that is not whole yet, of the run of QEMU that was started then.
#[derive(Debug, Default)]
struct Line {
    of: Option<Instant>,
    begun: Vec<u8>,
    found: bool,
}

impl Line {
    fn hear(&mut self, bytes: &[u8], pattern: &Regex) -> bool {
        self.begun.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.begun);
        if text.split('\n').any(|line| pattern.is_match(line.trim_end_matches('\r'))) {
            return true;
        }
        let whole = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let excess = (self.begun.len() - whole).saturating_sub(MAX_LINE);
        self.begun.drain(..whole + excess);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console;

    fn started(at: Instant) -> MachineStatus {
        MachineStatus {
            phase: Phase::Running,
            pid: Some(1),
            started: Some(at),
            ..MachineStatus::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_prompt_is_seen_however_it_comes_and_in_each_run_anew() {
        let first = tokio::time::Instant::now().into_std();
        let machine = watch::Sender::new(started(first));
        let (seen, (hub, wire)) = (Seen::default(), console::new());
        let written = hub.attach(reader()).unwrap().output;
        let pause = async || sleep(Duration::from_secs(1)).await;
        let pattern = "^demo login: ?$".to_owned();
        let looking = tokio::spawn(serial(pattern, written, machine.subscribe(), seen.clone()));
        wire.write(b"not demo login: \r\nsome\r\ndemo lo");
        pause().await;
        assert_eq!(*seen.borrow(), None);
        wire.write(b"gin: ");
        pause().await;
        assert_eq!(*seen.borrow(), Some(first));
        let ready = Ready::Serial(String::new());
        assert_eq!(missing(&ready, &machine.borrow(), *seen.borrow()), None);
        let second = first + Duration::from_secs(1);
        machine.send_replace(started(second));
        assert!(missing(&ready, &machine.borrow(), *seen.borrow()).is_some(), "another run");
        wire.write(b"ok\ndemo login: \n");
        pause().await;
        assert_eq!(*seen.borrow(), Some(second));
        drop(wire);
        looking.await.unwrap();
    }

    #[test]
    fn a_guest_that_writes_without_end_costs_no_memory() {
        let mut line = Line::default();
        let pattern = Regex::new("never").unwrap();
        for _ in 0..100 {
            assert!(!line.hear(&[b'x'; 16 << 10], &pattern));
            assert!(!line.hear(&[0xff, b'\n', 0xff], &pattern));
            assert!(line.begun.len() <= MAX_LINE);
        }
        assert!(!line.hear(b"nev", &pattern) && line.hear(b"er", &pattern));
    }

    #[tokio::test]
    async fn an_address_counts_from_the_start_of_qemu_on() {
        let start = tokio::time::Instant::now().into_std();
        let machine = watch::Sender::new(MachineStatus::default());
        let (acked, seen) = (watch::Sender::new(Some(start)), Seen::default());
        let following = tokio::spawn(dhcp(machine.subscribe(), acked.subscribe(), seen.clone()));
        let later = start + Duration::from_secs(5);
        machine.send_replace(started(later));
        tokio::task::yield_now().await;
        assert_eq!(*seen.borrow(), None, "an address of another run");
        let mut heard = seen.subscribe();
        acked.send_replace(Some(later + Duration::from_secs(1)));
        assert_eq!(*heard.wait_for(Option::is_some).await.unwrap(), Some(later));
        // The half that gave it was started anew.
        acked.send_replace(None);
        tokio::task::yield_now().await;
        assert_eq!(*seen.borrow(), Some(later));
        following.abort();
    }
}
