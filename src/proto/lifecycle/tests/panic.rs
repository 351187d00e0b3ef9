//! What follows a panic of the guest's kernel.

use super::*;

const PANICKED: Input = Input::Qmp(Event::GuestPanicked { runs: false });
const RESET: Input = Input::Qmp(Event::Reset { guest: false });

fn resetting() -> Life {
    let mut life = Life::new(1, false);
    life.core.settings.reset_on_panic = true;
    life.run()
}

/// As QEMU tells it with `-action panic=pause`.
fn panic(life: &mut Life) -> Vec<String> {
    assert_eq!(life.give(PANICKED), ["Panicked"]);
    assert_eq!(life.give(Input::Qmp(Event::Stop)), ["query-status"]);
    life.status(RunState::Other("guest-panicked"))
}

/// Until the guest runs again; how long it was paused.
fn comes_back(life: &mut Life) -> Duration {
    let since = life.now;
    let mut said = life.sleep().1;
    while said == ["query-status"] {
        assert_eq!(life.status(RunState::Other("guest-panicked")), [""; 0]);
        said = life.sleep().1;
    }
    assert_eq!(said, ["system_reset"]);
    let paused = life.now - since;
    assert_eq!(life.status(RunState::Other("guest-panicked")), [""; 0], "not yet reset");
    assert_eq!(life.give(RESET), ["cont"]);
    assert_eq!(life.give(Input::Qmp(Event::Resume)), ["Resumed"]);
    assert_eq!(life.core.halt(), None);
    paused
}

#[test]
fn a_panic_ends_the_machine_with_a_code_of_its_own() {
    for restart in [false, true] {
        let mut life = Life::new(2, restart).run();
        assert_eq!(life.give(PANICKED), ["Panicked"]);
        life.shutdown(Shutdown::Guest);
        assert_eq!(life.exit(Exit::Code(0)), ["end Panicked { times: 0 }"], "no power-off");
    }
    let ended = Outcome::Panicked { times: 0 };
    assert_eq!(
        (ended.exit_code(), ended.to_string().as_str()),
        (22, "the guest's kernel panicked")
    );
    // `-action panic=exit-failure` of the user's own.
    let mut life = Life::running(1);
    life.give(PANICKED);
    life.shutdown(Shutdown::Guest);
    assert_eq!(life.exit(Exit::Code(1)), ["end Panicked { times: 0 }"]);
}

#[test]
fn a_panicked_guest_stays_paused_for_a_debugger_and_ends_when_asked() {
    let mut life = Life::running(2);
    assert_eq!(panic(&mut life), ["Paused"]);
    assert_eq!(life.core.halt().map(Halt::to_string).as_deref(), Some("panicked"));
    // Another device says it too.
    assert_eq!(life.give(PANICKED), [""; 0]);
    let day = 24 * 60 * 60 * S;
    let said = life.pass(day, &RunState::Other("guest-panicked"));
    assert_eq!(said, ["Proven"]);
    assert_eq!(life.give(Input::Terminate), ["Stopping", "system_powerdown", "Quitting", "quit"]);
    life.shutdown(Shutdown::Host);
    assert_eq!(life.exit(Exit::Code(0)), ["end Stopped(Quit)"]);
}

/// The page has a button for it.
#[test]
fn a_guest_paused_for_its_panic_goes_on_when_somebody_resets_it() {
    let mut life = Life::running(1);
    panic(&mut life);
    life.pass(60 * S, &RunState::Other("guest-panicked"));
    assert_eq!(life.give(RESET), ["cont"]);
    assert_eq!(life.give(Input::Qmp(Event::Resume)), ["Resumed"]);
    life.shutdown(Shutdown::Guest);
    assert_eq!(life.exit(Exit::Code(0)), ["end Poweroff"]);
    let mut life = Life::running(1);
    assert_eq!(life.give(RESET), [""; 0], "it runs");
}

/// `-action panic=none` of the user's own: what the guest does then is its own end.
#[test]
fn a_guest_that_may_run_on_after_a_panic_is_left_alone() {
    for reset in [false, true] {
        let mut life = Life::running(1);
        life.core.settings.reset_on_panic = reset;
        let panicked = Input::Qmp(Event::GuestPanicked { runs: true });
        assert_eq!(life.give(panicked), ["Panicked"]);
        assert_eq!(life.pass(60 * S, &RunState::Running), [""; 0]);
        life.shutdown(Shutdown::Guest);
        assert_eq!(life.exit(Exit::Code(0)), ["end Poweroff"]);
    }
}

#[test]
fn a_guest_that_panics_is_reset_ever_later_and_given_up_at_the_sixth_in_a_row() {
    let mut life = resetting();
    for wait in [1, 2, 4, 8, 16] {
        assert_eq!(panic(&mut life), ["Paused", "Resetting"]);
        assert_eq!(comes_back(&mut life), wait * S);
        assert_eq!(life.pass(CALM - 20 * S, &RunState::Running), [""; 0]);
    }
    assert_eq!(panic(&mut life), ["Paused", "quit"]);
    life.shutdown(Shutdown::Host);
    assert_eq!(life.exit(Exit::Code(0)), ["end Panicked { times: 6 }"]);
    let told = Outcome::Panicked { times: 6 }.to_string();
    assert_eq!(
        told,
        "the guest's kernel panicked 6 times, each less than 10 min after the one before"
    );
}

#[test]
fn panics_that_are_far_apart_are_no_row() {
    let mut life = resetting();
    for _ in 0..20 {
        assert_eq!(panic(&mut life), ["Paused", "Resetting"]);
        assert_eq!(comes_back(&mut life), S);
        life.pass(CALM, &RunState::Running);
    }
}

#[test]
fn a_qemu_that_does_not_end_with_its_hopeless_guest_is_killed() {
    let mut life = resetting();
    for _ in 0..MAX_RESETS {
        panic(&mut life);
        comes_back(&mut life);
    }
    assert_eq!(panic(&mut life), ["Paused", "quit"]);
    let quit = life.now;
    assert_eq!(life.sleep().1, ["kill"]);
    assert_eq!(life.now, quit + GIVE_UP);
    assert_eq!(life.exit(Exit::Signal(9)), ["end Panicked { times: 6 }"]);
}

#[test]
fn a_stop_between_a_panic_and_its_reset_quits() {
    let mut life = resetting();
    panic(&mut life);
    assert_eq!(life.give(Input::Terminate), ["Stopping", "system_powerdown", "Quitting", "quit"]);
    let mut life = resetting();
    panic(&mut life);
    assert_eq!(life.sleep().1, ["system_reset"]);
    assert_eq!(life.give(Input::Terminate), ["Stopping", "system_powerdown", "Quitting", "quit"]);
    assert_eq!(life.give(RESET), [""; 0]);
}

#[test]
fn a_qemu_that_lacks_a_device_is_started_again_once_and_not_after_a_stop() {
    let lacks = Input::Lacking(Exit::Code(1));
    let mut life = Life::new(2, false);
    assert_eq!(life.give(Input::Start), ["spawn 0"]);
    assert_eq!(life.give(lacks.clone()), ["spawn 0"], "the same accelerator");
    life.give(Input::Qmp(Event::Ready(VERSION)));
    life.status(RunState::Running);
    let fault = failed(Fault::Exited(Exit::Code(1)), 0, true, false);
    assert_eq!(life.give(lacks.clone()), [fault]);
    let mut life = Life::new(1, false);
    life.give(Input::Start);
    life.give(Input::Terminate);
    assert_eq!(life.give(lacks), ["end Stopped(Guest)"]);
}
