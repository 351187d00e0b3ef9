//! The ladder under a virtual clock, and random lives.

use proptest::prelude::*;

use super::*;

mod panic;
mod suspend;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const VERSION: Version = Version { major: 7, minor: 2, micro: 22 };

/// A lifecycle and its clock.
struct Life {
    core: Lifecycle,
    start: Instant,
    now: Instant,
}

impl Life {
    fn new(attempts: usize, restart_on_poweroff: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
        let now = Instant::now();
        let (grace, margin) = (30 * S, 3 * S);
        let settings = Settings {
            attempts,
            restart_on_poweroff,
            reset_on_panic: false,
            grace,
            margin,
            suspend_on_stop: false,
            resume: false,
            resume_required: false,
        };
        Self { core: Lifecycle::new(now, settings), start: now, now }
    }

    /// One that runs its guest.
    fn running(attempts: usize) -> Self {
        Self::new(attempts, false).run()
    }

    fn run(self) -> Self {
        let mut life = self;
        assert_eq!(life.give(Input::Start), ["spawn 0"]);
        life.now += 25 * MS;
        assert_eq!(life.give(Input::Qmp(Event::Ready(VERSION))), ["Ready", "query-status"]);
        assert_eq!(life.status(RunState::Running), ["Running"]);
        life
    }

    fn status(&mut self, state: RunState) -> Vec<String> {
        self.give(Input::Qmp(Event::Status(state)))
    }

    /// `wait` goes by. QEMU answers at once how it is.
    fn pass(&mut self, wait: Duration, state: &RunState) -> Vec<String> {
        let end = self.now + wait;
        let mut all = Vec::new();
        while let Some(next) = self.core.deadline().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            let outputs = self.give(Input::Tick);
            let asked = outputs.iter().any(|output| output == "query-status");
            all.extend(outputs.into_iter().filter(|output| output != "query-status"));
            if asked {
                all.extend(self.status(*state));
            }
        }
        self.now = end;
        all
    }

    fn give(&mut self, input: Input) -> Vec<String> {
        self.core.handle(self.now, input);
        std::iter::from_fn(|| self.core.poll()).map(|output| short(&output)).collect()
    }

    /// Sleeps until something is to be done; tells the time since `new` in ms and what.
    fn sleep(&mut self) -> (u128, Vec<String>) {
        self.now = self.core.deadline().expect("a deadline").max(self.now);
        let outputs = self.give(Input::Tick);
        ((self.now - self.start).as_millis(), outputs)
    }

    fn exit(&mut self, exit: Exit) -> Vec<String> {
        self.give(Input::Exited(exit))
    }

    fn shutdown(&mut self, shutdown: Shutdown) {
        let quiet = self.give(Input::Qmp(Event::Shutdown(shutdown)));
        assert_eq!(quiet, [""; 0]);
    }
}

fn short(output: &Output) -> String {
    match output {
        Output::Spawn { attempt, incoming: false } => format!("spawn {attempt}"),
        Output::Spawn { attempt, incoming: true } => format!("spawn {attempt} incoming"),
        Output::Save => "save".to_owned(),
        Output::Load => "load".to_owned(),
        Output::GiveUp => "give up".to_owned(),
        Output::Send(command) => command.name().to_owned(),
        Output::Kill => "kill".to_owned(),
        Output::Report(report) => {
            let text = format!("{report:?}");
            text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
        }
        Output::End(outcome) => format!("end {outcome:?}"),
    }
}

fn failed(fault: Fault, attempt: usize, running: bool, suspect: bool) -> String {
    short(&Output::End(Outcome::Failed { fault, attempt, running, suspect }))
}

fn disk_error(stops: bool) -> Event {
    Event::BlockIoError {
        device: "disk0".to_owned(),
        operation: "write".to_owned(),
        reason: "Input/output error".to_owned(),
        no_space: false,
        stops,
    }
}

#[test]
fn the_whole_ladder_for_a_deaf_guest() {
    let mut life = Life::running(1);
    assert_eq!(life.give(Input::Terminate), ["Stopping", "system_powerdown"]);
    for press in 1..=13 {
        assert_eq!(life.sleep(), (25 + press * 2000, vec!["system_powerdown".to_owned()]));
    }
    assert_eq!(life.sleep(), (27_025, vec!["Quitting".to_owned(), "quit".to_owned()]));
    assert_eq!(life.sleep(), (30_025, vec!["Killing".to_owned(), "kill".to_owned()]));
    assert_eq!(life.exit(Exit::Signal(9)), ["end Stopped(Kill)"]);
    assert_eq!(life.core.deadline(), None);
}

#[test]
fn a_process_the_kernel_does_not_let_go_of_is_given_up() {
    let mut life = Life::running(1);
    life.give(Input::Terminate);
    while life.sleep().1 != ["Killing", "kill"] {}
    assert_eq!(life.sleep(), (35_025, vec!["end Stopped(Kill)".to_owned()]));
}

#[test]
fn a_stop_before_qemu_is_ready_presses_the_button_as_soon_as_it_is() {
    let mut life = Life::new(2, false);
    life.give(Input::Start);
    assert_eq!(life.give(Input::Terminate), ["Stopping"]);
    life.now += 20 * MS;
    assert_eq!(
        life.give(Input::Qmp(Event::Ready(VERSION))),
        ["Ready", "query-status", "system_powerdown"]
    );
}

#[test]
fn a_qemu_that_is_never_ready_is_killed_where_it_would_be_quit() {
    let mut life = Life::new(2, false);
    life.give(Input::Start);
    life.give(Input::Terminate);
    assert_eq!(life.sleep(), (27_000, vec!["Killing".to_owned(), "kill".to_owned()]));
    assert_eq!(life.exit(Exit::Signal(9)), ["end Stopped(Kill)"]);
}

#[test]
fn further_signals_press_again_quit_and_kill() {
    let mut life = Life::running(1);
    life.give(Input::Terminate);
    life.now += 100 * MS;
    assert_eq!(life.give(Input::Terminate), ["system_powerdown"]);
    assert_eq!(life.give(Input::Interrupt), ["system_powerdown"]);
    assert_eq!(life.give(Input::Interrupt), ["Quitting", "quit"]);
    assert_eq!(life.give(Input::Interrupt), ["Killing", "kill"]);
}

#[test]
fn a_link_that_goes_down_comes_back_whatever_else_there_is() {
    let mut life = Life::running(1);
    assert_eq!(life.give(Input::Relink), ["Relinking", "set_link"]);
    life.now += 100 * MS;
    assert_eq!(life.give(Input::Relink), [""; 0], "once at a time");
    assert_eq!(life.sleep().1, ["set_link"]);
    assert_eq!(life.give(Input::Relink), ["Relinking", "set_link"]);
    assert_eq!(life.give(Input::Terminate), ["Stopping", "system_powerdown"]);
    assert_eq!(life.give(Input::Relink), [""; 0], "a guest that ends asks nothing");
    assert_eq!(life.sleep().1, ["set_link"]);
    let mut starting = Life::new(1, false);
    starting.give(Input::Start);
    assert_eq!(starting.give(Input::Relink), [""; 0], "one that starts asks anyway");
}

#[test]
fn each_fault_of_an_accelerator_leads_to_the_next() {
    let faults: [fn(&mut Life) -> Vec<String>; 5] = [
        |life| life.exit(Exit::Signal(6)),
        |life| life.exit(Exit::Code(1)),
        |life| life.exit(Exit::Code(0)),
        |life| {
            life.give(Input::Qmp(Event::Ready(VERSION)));
            assert_eq!(life.give(Input::Qmp(Event::Stop)), ["query-status"]);
            assert_eq!(life.status(RunState::InternalError), ["kill"]);
            life.exit(Exit::Signal(9))
        },
        |life| {
            life.give(Input::Qmp(Event::Ready(VERSION)));
            life.status(RunState::Running);
            life.now += 29 * S;
            assert_eq!(life.status(RunState::InternalError), ["kill"]);
            life.exit(Exit::Signal(9))
        },
    ];
    for fault in faults {
        let mut life = Life::new(2, false);
        life.give(Input::Start);
        assert_eq!(fault(&mut life), ["FallBack", "spawn 1"]);
        assert_eq!(
            life.exit(Exit::Code(1)),
            [failed(Fault::Exited(Exit::Code(1)), 1, false, true)]
        );
    }
}

/// kata#4419: QEMU killed, for memory most likely, came back emulated.
#[test]
fn what_is_no_fault_of_the_accelerator_does_not_lead_to_the_next() {
    for signal in [1, 2, 9, 10, 13, 14, 15, 24, 25] {
        let mut life = Life::new(2, false);
        life.give(Input::Start);
        let want = failed(Fault::Exited(Exit::Signal(signal)), 0, false, false);
        assert_eq!(life.exit(Exit::Signal(signal)), [want], "{signal}");
    }
    for exit in [Exit::Signal(9), Exit::Signal(6), Exit::Signal(11), Exit::Code(1), Exit::Code(0)] {
        let mut life = Life::running(2);
        life.now += S;
        assert_eq!(life.exit(exit), [failed(Fault::Exited(exit), 0, true, false)], "{exit}");
    }
}

#[test]
fn the_only_accelerator_or_a_late_fault_ends_the_machine() {
    let mut life = Life::running(1);
    assert_eq!(life.status(RunState::InternalError), ["kill"]);
    assert_eq!(life.exit(Exit::Signal(9)), [failed(Fault::InternalError, 0, true, true)]);

    let mut life = Life::running(2);
    assert_eq!(life.pass(31 * S, &RunState::Running), ["Proven"]);
    assert_eq!(life.status(RunState::InternalError), ["kill"]);
    assert_eq!(life.exit(Exit::Signal(9)), [failed(Fault::InternalError, 0, true, false)]);
}

#[test]
fn a_qemu_that_says_nothing_is_given_up_for_the_next_accelerator() {
    let mut life = Life::new(2, false);
    life.give(Input::Start);
    assert_eq!(life.sleep(), (60_000, vec!["kill".to_owned()]));
    assert_eq!(life.exit(Exit::Signal(9)), ["FallBack", "spawn 1"]);
}

#[test]
fn the_guests_own_end_is_told_apart() {
    for (shutdown, want) in [
        (Shutdown::Guest, "end Poweroff"),
        (Shutdown::GuestReset, "end Reboot"),
        (Shutdown::Host, "end Poweroff"),
    ] {
        let mut life = Life::running(2);
        life.shutdown(shutdown);
        assert_eq!(life.exit(Exit::Code(0)), [want]);
    }
}

#[test]
fn restarts_back_off_and_a_long_run_forgives() {
    let mut life = Life::new(1, true);
    life.give(Input::Start);
    let mut waits = Vec::new();
    for run in 0..9 {
        life.give(Input::Qmp(Event::Ready(VERSION)));
        life.pass(if run == 8 { 61 * S } else { S }, &RunState::Running);
        life.shutdown(Shutdown::Guest);
        assert_eq!(life.exit(Exit::Code(0)), ["Restarting"]);
        let before = life.now;
        assert_eq!(life.sleep().1, ["spawn 0"]);
        waits.push((life.now - before).as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 1]);
    life.give(Input::Qmp(Event::Ready(VERSION)));
    life.shutdown(Shutdown::Guest);
    life.exit(Exit::Code(0));
    assert_eq!(life.give(Input::Terminate), ["end Stopped(Guest)"]);
}

#[test]
fn a_disk_that_fails_pauses_the_guest_until_it_does_not_and_is_told_once() {
    let mut life = Life::running(1);
    assert_eq!(life.give(Input::Qmp(disk_error(true))), [""; 0]);
    assert_eq!(life.give(Input::Qmp(Event::Stop)), ["query-status"]);
    assert_eq!(life.status(RunState::IoError), ["Paused"]);
    let want = Halt::Disk(Some(DiskError {
        device: "disk0".to_owned(),
        operation: "write".to_owned(),
        reason: "Input/output error".to_owned(),
        no_space: false,
    }));
    assert_eq!(life.core.halt(), Some(&want));
    for _ in 0..20 {
        assert_eq!(life.pass(CONTINUE_EVERY, &RunState::IoError), ["cont"]);
        // It goes on for as long as the request takes to fail again: that is not running.
        assert_eq!(life.give(Input::Qmp(Event::Resume)), [""; 0]);
        life.now += 3 * MS;
        life.give(Input::Qmp(disk_error(true)));
        assert_eq!(life.give(Input::Qmp(Event::Stop)), ["query-status"]);
        assert_eq!(life.status(RunState::IoError), [""; 0]);
    }
    assert_eq!(life.pass(CONTINUE_EVERY, &RunState::IoError), ["cont"]);
    assert_eq!(life.give(Input::Qmp(Event::Resume)), [""; 0]);
    assert_eq!(life.pass(LASTS, &RunState::Running), ["Resumed"]);
    assert_eq!(life.core.halt(), None);
    assert_eq!(life.pass(100 * S, &RunState::Running), [""; 0]);
}

/// Every member of QEMU's `RunState`: the guest runs in one of them.
#[test]
fn a_guest_is_paused_in_every_run_state_but_running() {
    let others = [
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
        "unknown",
    ];
    for state in
        [RunState::IoError, RunState::Suspended].into_iter().chain(others.map(RunState::Other))
    {
        // From the beginning (`-S`, `-incoming`), and later.
        let mut life = Life::new(1, false);
        life.give(Input::Start);
        life.give(Input::Qmp(Event::Ready(VERSION)));
        assert_eq!(life.status(state), ["Paused"], "{state:?}");
        let mut life = Life::running(1);
        assert_eq!(life.give(Input::Qmp(Event::Stop)), ["query-status"]);
        assert_eq!(life.status(state), ["Paused"], "{state:?}");
        assert_eq!(life.status(state), [""; 0], "{state:?}");
        life.give(Input::Qmp(Event::Resume));
        life.pass(LASTS, &RunState::Running);
        assert_eq!(life.core.halt(), None, "{state:?}");
    }
    let mut life = Life::running(1);
    assert_eq!(life.give(Input::Qmp(Event::Suspend)), ["Paused"]);
    assert_eq!(life.give(Input::Qmp(Event::Wakeup)), ["Resumed"]);
}

#[test]
fn a_qemu_that_does_not_answer_any_more_is_told_and_so_is_its_return() {
    let mut life = Life::running(1);
    assert_eq!(life.sleep(), (10_025, vec!["query-status".to_owned()]));
    assert_eq!(life.sleep(), (20_025, vec!["Paused".to_owned(), "query-status".to_owned()]));
    assert_eq!(life.core.halt(), Some(&Halt::Silent));
    for asked in 3..10 {
        assert_eq!(life.sleep(), (asked * 10_000 + 25, vec!["query-status".to_owned()]));
    }
    assert_eq!(life.status(RunState::Running), ["Resumed"]);
    // Asked to stop, it is asked for nothing else.
    life.give(Input::Terminate);
    assert_eq!(life.sleep().1, ["system_powerdown"]);
}

/// kubevirt PR#15405: the power button of a paused guest moves nothing.
#[test]
fn a_stop_sets_a_paused_guest_going_once_or_quits() {
    // Set going, it powers off.
    for state in [RunState::IoError, RunState::Other("paused"), RunState::Other("watchdog")] {
        let mut life = Life::running(1);
        life.status(state);
        assert_eq!(life.give(Input::Terminate), ["Stopping", "cont", "system_powerdown"]);
        assert_eq!(life.give(Input::Qmp(Event::Resume)), ["Resumed"]);
        assert_eq!(life.sleep().1, ["system_powerdown"]);
        life.shutdown(Shutdown::Guest);
        assert_eq!(life.exit(Exit::Code(0)), ["end Stopped(Guest)"]);
    }
    // Set going, the disk fails as before.
    let mut life = Life::running(1);
    life.status(RunState::IoError);
    life.give(Input::Terminate);
    life.give(Input::Qmp(Event::Resume));
    life.now += 3 * MS;
    assert_eq!(life.give(Input::Qmp(Event::Stop)), ["query-status"]);
    assert_eq!(life.status(RunState::IoError), ["Paused", "Quitting", "quit"]);
    // QEMU refuses.
    let mut life = Life::running(1);
    life.status(RunState::Other("paused"));
    life.give(Input::Terminate);
    let refused = Event::Refused { command: "cont", why: "no".to_owned() };
    assert_eq!(life.give(Input::Qmp(refused)), ["Refused", "Quitting", "quit"]);
    // Nothing to set going.
    let mut life = Life::running(1);
    life.status(RunState::Other("guest-panicked"));
    assert_eq!(life.give(Input::Terminate), ["Stopping", "system_powerdown", "Quitting", "quit"]);
    // Paused on the way.
    let mut life = Life::running(1);
    life.give(Input::Terminate);
    assert_eq!(life.status(RunState::IoError), ["Paused", "cont"]);
    assert_eq!(life.status(RunState::IoError), ["Quitting", "quit"]);
    // A guest that sleeps is woken.
    let mut life = Life::running(1);
    life.give(Input::Qmp(Event::Suspend));
    assert_eq!(life.give(Input::Terminate), ["Stopping", "system_wakeup", "system_powerdown"]);
}

#[test]
fn errors_told_to_the_guest_are_told_at_most_once_a_minute() {
    let mut life = Life::running(1);
    assert_eq!(life.give(Input::Qmp(disk_error(false))), ["DiskError"]);
    for _ in 0..1000 {
        life.now += MS;
        assert_eq!(life.give(Input::Qmp(disk_error(false))), [""; 0]);
    }
    life.pass(ERRORS_EVERY, &RunState::Running);
    life.core.handle(life.now, Input::Qmp(disk_error(false)));
    let Some(Output::Report(Report::DiskError { more, .. })) = life.core.poll() else {
        panic!("no report")
    };
    assert_eq!(more, 1000);
    assert_eq!(life.core.halt(), None);
}

/// kubevirt#6885: the firmware resets once more, some 32 ms after the guest.
#[test]
fn a_reboot_is_told_once() {
    let mut life = Life::running(1);
    for _ in 0..3 {
        assert_eq!(life.give(Input::Qmp(Event::Reset { guest: true })), ["Reset"]);
        life.now += 32 * MS;
        assert_eq!(life.give(Input::Qmp(Event::Reset { guest: true })), [""; 0]);
        life.pass(5 * S, &RunState::Running);
    }
}

#[test]
fn exit_codes_are_qemus_own_or_the_signals() {
    let failed = |exit| {
        Outcome::Failed { fault: Fault::Exited(exit), attempt: 0, running: true, suspect: false }
            .exit_code()
    };
    assert_eq!(failed(Exit::Code(0)), 1);
    assert_eq!(failed(Exit::Code(3)), 3);
    assert_eq!(failed(Exit::Signal(6)), 134);
    assert_eq!(Outcome::Stopped(By::Kill).exit_code(), 137);
    assert_eq!(Outcome::Stopped(By::Quit).exit_code(), 0);
    assert_eq!(Outcome::Poweroff.exit_code(), 0);
}

/// Something that may happen, and after how long.
fn happening() -> impl Strategy<Value = (u32, Input)> {
    let input = prop_oneof![
        3 => Just(Input::Tick),
        2 => Just(Input::Qmp(Event::Ready(VERSION))),
        1 => Just(Input::Terminate),
        1 => Just(Input::Qmp(Event::Stop)),
        1 => Just(Input::Qmp(Event::Resume)),
        1 => Just(Input::Qmp(Event::Status(RunState::InternalError))),
        2 => Just(Input::Qmp(Event::Status(RunState::Running))),
        1 => Just(Input::Qmp(Event::Status(RunState::IoError))),
        1 => Just(Input::Qmp(Event::Status(RunState::Other("guest-panicked")))),
        1 => Just(Input::Qmp(Event::Suspend)),
        1 => Just(Input::Qmp(Event::Wakeup)),
        1 => Just(Input::Qmp(disk_error(true))),
        1 => any::<bool>().prop_map(|runs| Input::Qmp(Event::GuestPanicked { runs })),
        1 => any::<bool>().prop_map(|guest| Input::Qmp(Event::Reset { guest })),
        1 => any::<bool>().prop_map(|guest| {
            Input::Qmp(Event::Shutdown(if guest { Shutdown::Guest } else { Shutdown::Host }))
        }),
        1 => (0..3).prop_map(|code| Input::Exited(Exit::Code(code))),
        1 => Just(Input::Exited(Exit::Signal(6))),
    ];
    (0_u32..5000, input)
}

proptest! {
    /// Whatever happens: nothing comes after the end; once asked to stop, the button is pressed in the same poll
    /// when QEMU is ready, no quit of a guest that runs and no unprovoked kill comes before grace − margin, and the end
    /// comes.
    #[test]
    fn every_life_ends_and_no_guest_is_cut_short(
        attempts in 1_usize..3, restart: bool, reset: bool, happenings in proptest::collection::vec(happening(), 0..60),
    ) {
        let mut life = Life::new(attempts, restart);
        life.core.settings.reset_on_panic = reset;
        life.give(Input::Start);
        let mut asked: Option<Instant> = None;
        let (mut ended, mut ready, mut alive, mut internal) = (false, false, true, false);
        let happenings = happenings.into_iter().chain(std::iter::once((0, Input::Terminate)));
        let mut queue: VecDeque<_> = happenings.collect();
        let mut last = life.now;
        for _ in 0..500 {
            let input = match queue.pop_front() {
                // Nothing exits that does not run.
                Some((_, Input::Exited(_))) if !alive => continue,
                Some((after, input)) => {
                    life.now += MS * after;
                    last = life.now;
                    input
                }
                None if ended => break,
                None => {
                    life.now = life.core.deadline().expect("asked to stop, so there is a deadline").max(life.now);
                    Input::Tick
                }
            };
            match &input {
                Input::Exited(_) => (alive, ready) = (false, false),
                Input::Qmp(Event::Ready(_)) if alive => ready = true,
                Input::Qmp(Event::Status(RunState::InternalError)) => internal = true,
                _ => {}
            }
            let first = input == Input::Terminate && asked.is_none();
            if first {
                asked = Some(life.now);
            }
            let was_ended = ended;
            let outputs = life.give(input);
            prop_assert!(!was_ended || outputs.is_empty(), "after the end: {outputs:?}");
            for output in &outputs {
                prop_assert!(!ended, "after the end: {output}");
                if output.starts_with("spawn") {
                    (alive, ready, internal) = (true, false, false);
                    prop_assert!(asked.is_none(), "started although asked to stop");
                }
                let early = asked.is_some_and(|asked| life.now < asked + 27 * S);
                let paused = life.core.halt().is_some();
                // A guest that panics again and again is given up.
                let hopeless = reset && life.core.panicked;
                prop_assert!(
                    output != "quit" || (asked.is_some() && (!early || paused)) || hopeless,
                    "quit too early"
                );
                let slow = life.core.started + READY_WITHIN <= life.now;
                prop_assert!(output != "kill" || internal || slow || hopeless || (asked.is_some() && !early), "killed too early");
                ended |= output.starts_with("end");
            }
            if first && ready && alive && !ended && !internal {
                prop_assert!(outputs.iter().any(|output| output == "system_powerdown"), "{outputs:?}");
            }
        }
        prop_assert!(ended);
        prop_assert!(life.now <= last + 30 * S + GIVE_UP, "asked to stop, ended {:?} later", life.now - last);
    }
}
