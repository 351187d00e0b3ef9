//! The life of the machine: which accelerator to try, when to press the power button, when to stop waiting.
//!
//! A core under a virtual clock: inputs say what happened to QEMU or was asked of us, outputs say what to do.
//! It starts nothing, kills nothing and never looks at a clock; `supervise` does that. QMP is `qmp`'s matter.

mod halt;
mod outcome;
mod pulse;
mod relink;
mod report;
mod reset;
mod stop;
mod suspend;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::qmp::{Command, Event, RunState, Shutdown, Version};
pub use halt::{ANSWER_WITHIN, DiskError, Halt};
pub use outcome::{By, CALM, Exit, Fault, NOT_RESUMED, Outcome, PANICKED};
use pulse::Pulse;
pub use pulse::{ASK_EVERY, CONTINUE_EVERY, ERRORS_EVERY, LASTS};
pub use relink::LINK_DOWN;
pub use report::Report;
use reset::Resets;
pub use reset::{MAX_RESETS, REBOOT};
use stop::Stop;
pub use suspend::RESERVE;
use suspend::Suspend;

/// An accelerator that gives up (`internal-error`) this soon after QEMU was ready gives way to the next one.
pub(crate) const WATCH: Duration = Duration::from_secs(30);
/// QEMU must take commands this soon after its start; it needs some 20 ms.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two runs of a guest that powers itself off: doubled from the first to the last of these.
pub(crate) const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// After SIGKILL we wait this long for the process to be gone, then end without it.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(5);

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Number of accelerators to try, at least 1.
    pub attempts: usize,
    pub restart_on_poweroff: bool,
    /// QEMU pauses a guest that panics, and it is reset.
    pub reset_on_panic: bool,
    /// From being asked to stop to the moment QEMU must be gone.
    pub grace: Duration,
    /// QEMU is quit this long before `grace` ends.
    pub margin: Duration,
    /// A guest that is to stop is saved instead, where that can be.
    pub suspend_on_stop: bool,
    /// The first run of QEMU takes a saved guest up.
    pub resume: bool,
    /// When that cannot be, it is the end.
    pub resume_required: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Begin. Only the first one counts.
    Start,
    Qmp(Event),
    /// QEMU ended; everything it said on QMP was handed in before.
    Exited(Exit),
    /// QEMU ended at once for want of a device that can be done without, as it is from now on.
    Lacking(Exit),
    /// The guest's addresses are others now: it is to ask for them.
    Relink,
    /// SIGTERM: stop in order.
    Terminate,
    /// Save the guest, and end QEMU.
    Suspend,
    /// After [`Output::Save`]: the image is whole.
    Saved,
    /// There is none. `may_run`: none is left either that the disk could be taken for.
    NotSaved {
        may_run: bool,
    },
    /// After [`Output::Load`]: the guest is as it was saved, and the image is used up. `anew`: its network is another.
    Loaded {
        anew: bool,
    },
    NotLoaded,
    /// SIGINT: the first is as SIGTERM, the second quits QEMU, the third kills it.
    Interrupt,
    /// The deadline has come.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Start QEMU with this accelerator.
    Spawn {
        attempt: usize,
        /// For a saved guest: its processors stand still.
        incoming: bool,
    },
    Send(Command),
    /// Stop the guest and write its image, then say [`Input::Saved`] or [`Input::NotSaved`].
    Save,
    /// Give the image to QEMU, then say [`Input::Loaded`] or [`Input::NotLoaded`].
    Load,
    /// Save or load is to end, and say how.
    GiveUp,
    /// SIGKILL to QEMU.
    Kill,
    Report(Report),
    /// Nothing comes after this.
    End(Outcome),
}

/// ```text
///            Start                  Ready                    guest powers off, restart wanted
///   Idle ───────────► Starting ───────────────► Running ───────────────────────────────► Pausing
///                      ▲  │ fault, next attempt   │ │ fault within WATCH, next attempt     │
///                      │  ▼                       ▼ │                                      │
///                      └ Failing (Kill sent) ◄────┘ │ exit                                 │
///                      ▲                            ▼                                      │
///                      │                          Ended ◄── exit, GIVE_UP ── any state     │
///                      └───────────────────────────────────────────── backoff over ───────┘
///
///   Terminate, in any state: the power button at once (or as soon as Ready), again every POWERDOWN_EVERY,
///   Quit at grace − margin (Kill when not Ready), Kill at grace, Ended at the latest GIVE_UP later.
/// ```
#[derive(Debug)]
pub struct Lifecycle {
    settings: Settings,
    state: State,
    attempt: usize,
    /// When this run of QEMU was started.
    started: Instant,
    /// When it took commands for the first time.
    ready: Option<Instant>,
    stop: Option<Stop>,
    /// SIGKILL was sent to this run of QEMU.
    killed: Option<Instant>,
    /// What QEMU said about its end.
    shutdown: Option<Shutdown>,
    panicked: bool,
    version: Option<Version>,
    /// The guest's processors have run.
    ran: bool,
    /// [`Report::Proven`] was said.
    proven: bool,
    pulse: Pulse,
    /// The guest's link is down until then.
    relink_at: Option<Instant>,
    resets: Resets,
    suspend: Suspend,
    /// The next run of QEMU is for a saved guest.
    incoming: bool,
    backoff: Duration,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// QEMU runs, QMP is not ready.
    Starting,
    /// QMP takes commands.
    Running,
    /// This run is given up; QEMU's exit is awaited.
    Failing(Fault),
    /// QEMU is not running; the next run begins then.
    Pausing(Instant),
    Ended,
}

impl Lifecycle {
    /// Nothing runs until [`Input::Start`].
    pub fn new(now: Instant, settings: Settings) -> Self {
        Self {
            settings,
            state: State::Idle,
            attempt: 0,
            started: now,
            ready: None,
            stop: None,
            killed: None,
            shutdown: None,
            panicked: false,
            version: None,
            ran: false,
            proven: false,
            pulse: Pulse::default(),
            relink_at: None,
            resets: Resets::default(),
            suspend: Suspend::No,
            incoming: settings.resume,
            backoff: BACKOFF.0,
            outputs: VecDeque::new(),
        }
    }

    /// One thing happened. Then drain [`Self::poll`] and sleep until [`Self::deadline`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.state == State::Ended {
            return;
        }
        match input {
            Input::Start if self.state == State::Idle => self.spawn(now),
            Input::Start | Input::Tick => {}
            Input::Qmp(event) => self.qmp(now, event),
            Input::Lacking(_) if self.state == State::Starting && self.stop.is_none() => {
                self.spawn(now);
            }
            Input::Exited(exit) | Input::Lacking(exit) => self.exited(now, exit),
            Input::Relink => self.relink(now),
            Input::Terminate => self.terminate(now),
            Input::Suspend => self.suspend(now),
            Input::Saved => self.saved(now),
            Input::NotSaved { may_run } => self.not_saved(now, may_run),
            Input::Loaded { anew } => self.loaded(now, anew),
            Input::NotLoaded => self.not_loaded(now),
            Input::Interrupt => self.interrupt(now),
        }
        self.run_timers(now);
    }

    /// The next thing to do; None when all is done.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due; None: only something that happens can change anything.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if let Some(killed) = self.killed {
            return Some(killed + GIVE_UP);
        }
        match (self.state, self.stop) {
            (State::Idle | State::Ended, _) => None,
            (State::Pausing(until), _) => Some(until),
            (State::Starting, None) => Some(self.started + READY_WITHIN),
            (State::Running, None) => {
                let all = [self.tend_at(), self.proven_at(), self.relink_at, self.save_at()];
                all.into_iter().flatten().min()
            }
            (State::Failing(_), None) => None,
            (_, Some(stop)) if stop.quit_sent => Some(stop.kill_at),
            (State::Running, Some(stop)) if self.is_suspending() => {
                self.sooner(self.save_at().map_or(stop.quit_at, |at| at.min(stop.quit_at)))
            }
            (State::Running, Some(stop)) => self.sooner(stop.next_powerdown.min(stop.quit_at)),
            (_, Some(stop)) => Some(stop.quit_at),
        }
    }

    /// How long this run of QEMU has lasted.
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Whether the guest has run long enough for the accelerator to be beyond suspicion.
    fn is_proven(&self, now: Instant) -> bool {
        self.ready.is_some_and(|ready| now.saturating_duration_since(ready) >= WATCH)
    }

    /// When the accelerator is beyond suspicion; None where there is no other to try.
    fn proven_at(&self) -> Option<Instant> {
        let another = self.attempt + 1 < self.settings.attempts;
        self.ready.filter(|_| another && !self.proven).map(|ready| ready + WATCH)
    }

    fn spawn(&mut self, now: Instant) {
        self.state = State::Starting;
        self.started = now;
        self.ready = None;
        self.killed = None;
        self.shutdown = None;
        self.panicked = false;
        self.ran = false;
        self.proven = false;
        (self.pulse, self.relink_at) = (Pulse::default(), None);
        self.resets.begin();
        let (attempt, incoming) = (self.attempt, self.incoming);
        self.suspend = if incoming { Suspend::Loading } else { Suspend::No };
        self.outputs.push_back(Output::Spawn { attempt, incoming });
    }

    fn qmp(&mut self, now: Instant, event: Event) {
        match event {
            Event::Ready(version) if self.state == State::Starting => {
                self.state = State::Running;
                self.ready = Some(now);
                self.version = Some(version);
                self.report(Report::Ready);
                if self.suspend == Suspend::Loading {
                    return self.outputs.push_back(Output::Load);
                }
                self.ask(now);
                self.powerdown(now);
            }
            Event::Ready(_) => {}
            Event::Status(RunState::InternalError) => self.fail(now, Fault::InternalError),
            Event::Status(state) if self.state == State::Running => self.status(now, state),
            Event::Shutdown(shutdown) => self.shutdown = Some(shutdown),
            Event::Reset { guest: true } => self.reset(now),
            Event::GuestPanicked { runs } => self.panics(runs),
            Event::Refused { command, why } => {
                self.report(Report::Refused { command, why });
                if command == Command::Cont.name() {
                    self.set_going(now);
                }
            }
            Event::Powerdown => self.report(Report::Pressed),
            Event::Reset { guest: false } => self.was_reset(),
            event if self.state == State::Running => self.pulse(now, event),
            _ => {}
        }
    }

    fn first_run(&mut self, now: Instant) {
        if let (false, Some(version)) = (self.ran, self.version) {
            self.ran = true;
            self.report(Report::Running { version, after: self.age(now) });
        }
    }

    fn fail(&mut self, now: Instant, fault: Fault) {
        if matches!(self.state, State::Starting | State::Running) {
            self.state = State::Failing(fault);
            self.kill(now);
        }
    }

    fn exited(&mut self, now: Instant, exit: Exit) {
        let state = self.state;
        match state {
            State::Idle | State::Pausing(_) | State::Ended => return,
            State::Starting | State::Running | State::Failing(_) => {}
        }
        let killed = self.killed.take().is_some();
        if self.ended_suspended(now) {
            return;
        }
        let fault = match state {
            State::Failing(fault) => Some(fault),
            _ if killed => None,
            _ if self.shutdown.is_none() => Some(Fault::Exited(exit)),
            // QEMU announced its end and then failed at it.
            _ if exit != Exit::Code(0) && !self.panicked => Some(Fault::Exited(exit)),
            _ => None,
        };
        match (fault, self.stop) {
            (Some(fault), None) if self.next_attempt(now, fault) => {
                self.report(Report::FallBack { from: self.attempt, why: fault });
                self.attempt += 1;
                self.spawn(now);
            }
            (Some(fault), Some(_)) if state == State::Starting || self.next_attempt(now, fault) => {
                self.end(Outcome::Stopped(By::Guest));
            }
            (Some(fault), _) => self.end(self.failed(now, fault)),
            (None, Some(_)) if killed => self.end(Outcome::Stopped(By::Kill)),
            (None, Some(stop)) => {
                let guest = matches!(self.shutdown, Some(Shutdown::Guest | Shutdown::GuestReset));
                self.end(Outcome::Stopped(if guest || !stop.quit_sent {
                    By::Guest
                } else {
                    By::Quit
                }));
            }
            (None, None) => self.guest_ended(now, exit),
        }
    }

    /// Whether there is another accelerator, and the one in use is to blame.
    fn next_attempt(&self, now: Instant, fault: Fault) -> bool {
        self.attempt + 1 < self.settings.attempts && self.is_suspect(now, fault)
    }

    /// Whether the accelerator may be to blame. One that has run the guest is only where it says so itself, soon.
    fn is_suspect(&self, now: Instant, fault: Fault) -> bool {
        match fault {
            Fault::InternalError => !self.is_proven(now),
            Fault::NeverReady => true,
            Fault::Exited(exit) => !self.ran && !exit.is_from_outside(),
        }
    }

    fn failed(&self, now: Instant, fault: Fault) -> Outcome {
        let suspect = self.is_suspect(now, fault);
        Outcome::Failed { fault, attempt: self.attempt, running: self.ran, suspect }
    }

    /// QEMU ended in order, and nobody asked us to end it.
    fn guest_ended(&mut self, now: Instant, exit: Exit) {
        match self.shutdown.take() {
            _ if self.panicked => return self.end(self.panicked_end()),
            None => return self.end(self.failed(now, Fault::Exited(exit))),
            Some(Shutdown::GuestReset) => return self.end(Outcome::Reboot),
            Some(Shutdown::Guest) if self.settings.restart_on_poweroff => {}
            Some(Shutdown::Guest | Shutdown::Host) => return self.end(Outcome::Poweroff),
        }
        if self.age(now) > BACKOFF.1 {
            self.backoff = BACKOFF.0;
        }
        self.report(Report::Restarting { after: self.backoff });
        self.state = State::Pausing(now + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    fn run_timers(&mut self, now: Instant) {
        if let Some(killed) = self.killed {
            if now >= killed + GIVE_UP {
                self.give_up(now);
            }
            return;
        }
        match self.state {
            State::Idle | State::Ended | State::Failing(_) => return,
            State::Pausing(until) if now >= until => self.spawn(now),
            State::Pausing(_) => return,
            State::Starting if self.stop.is_none() && self.age(now) >= READY_WITHIN => {
                self.fail(now, Fault::NeverReady);
            }
            State::Starting | State::Running => {}
        }
        self.link_is_back(now);
        self.powerdown(now);
        self.tend_save(now);
        self.end_of_grace(now);
        if self.state != State::Running || self.stop.is_some() {
            return;
        }
        self.tend(now);
        if self.proven_at().is_some_and(|at| now >= at) {
            self.proven = true;
            self.report(Report::Proven);
        }
    }

    fn kill(&mut self, now: Instant) {
        if self.killed.is_none()
            && !matches!(self.state, State::Idle | State::Pausing(_) | State::Ended)
        {
            self.killed = Some(now);
            if self.stop.is_some() {
                self.report(Report::Killing);
            }
            self.outputs.push_back(Output::Kill);
        }
    }

    /// The kernel does not let go of the killed process: a device it waits for, most likely.
    fn give_up(&mut self, now: Instant) {
        self.end(match self.state {
            _ if self.suspend == Suspend::Saved => Outcome::Suspended,
            State::Failing(fault) => self.failed(now, fault),
            _ if self.panicked && self.stop.is_none() => self.panicked_end(),
            _ => Outcome::Stopped(By::Kill),
        });
    }

    fn end(&mut self, outcome: Outcome) {
        self.state = State::Ended;
        self.killed = None;
        self.outputs.push_back(Output::End(outcome));
    }

    fn send(&mut self, command: Command) {
        self.outputs.push_back(Output::Send(command));
    }

    fn report(&mut self, report: Report) {
        self.outputs.push_back(Output::Report(report));
    }
}

#[cfg(test)]
mod tests;
