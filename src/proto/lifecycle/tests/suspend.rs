//! Suspend and resume under the virtual clock: what is told to QEMU, and when the guest may run.

use super::*;

fn suspending() -> Life {
    let mut life = Life::running(1);
    life.core.settings.suspend_on_stop = true;
    life
}

fn resuming() -> Life {
    let mut life = Life::new(2, false);
    life.core.settings.resume = true;
    life.core.incoming = true;
    assert_eq!(life.give(Input::Start), ["spawn 0 incoming"]);
    assert_eq!(life.give(Input::Qmp(Event::Ready(VERSION))), ["Ready", "load"]);
    life
}

#[test]
fn a_guest_that_is_to_stop_is_saved_and_its_button_left_alone() {
    let mut life = suspending();
    assert_eq!(life.give(Input::Terminate), ["Stopping", "save"]);
    // What QEMU says of a guest that we stopped is no news.
    assert_eq!(life.give(Input::Qmp(Event::Stop)), [""; 0]);
    assert_eq!(life.pass(3 * S, &RunState::Other("postmigrate")), [""; 0]);
    assert_eq!(life.give(Input::Terminate), [""; 0]);
    assert_eq!(life.give(Input::Saved), ["Saved", "quit"]);
    life.shutdown(Shutdown::Host);
    assert_eq!(life.exit(Exit::Code(0)), ["end Suspended"]);
}

#[test]
fn a_save_that_fails_leaves_the_ladder_what_is_left_of_the_grace_period() {
    let mut life = suspending();
    life.give(Input::Terminate);
    life.now += 2 * S;
    let told = life.give(Input::NotSaved { may_run: true });
    assert_eq!(told, ["cont", "query-status", "system_powerdown"]);
    assert_eq!(life.pass(25 * S - MS, &RunState::Running), ["system_powerdown"; 12]);
    assert_eq!(life.pass(2 * MS, &RunState::Running), ["Quitting", "quit"]);
}

#[test]
fn a_save_that_is_not_done_in_time_is_given_up_and_then_quit() {
    let mut life = suspending();
    life.give(Input::Terminate);
    let asked = life.now;
    let (_, told) = life.sleep();
    // Of 27 s half are the power button's.
    assert_eq!((life.now - asked, told), (13_500 * MS, vec!["give up".to_owned()]));
    let (_, told) = life.sleep();
    assert_eq!((life.now - asked, told), (27 * S, vec!["Quitting".to_owned(), "quit".to_owned()]));
    assert_eq!(life.give(Input::Interrupt), [""; 0]);
}

#[test]
fn a_link_that_is_down_for_a_moment_is_up_in_what_is_saved() {
    let mut life = suspending();
    assert_eq!(life.give(Input::Relink), ["Relinking", "set_link"]);
    assert_eq!(life.give(Input::Terminate), ["Stopping", "set_link", "save"]);
    assert_eq!(life.give(Input::Relink), [""; 0]);
}

#[test]
fn a_guest_whose_image_stays_does_not_run_on() {
    let mut life = suspending();
    life.give(Input::Terminate);
    assert_eq!(life.give(Input::NotSaved { may_run: false }), ["quit"]);
    // Not even where QEMU says that it is paused, and it is asked to stop.
    assert_eq!(life.status(RunState::IoError), [""; 0]);
    life.shutdown(Shutdown::Host);
    assert!(life.exit(Exit::Code(0))[0].starts_with("end Stopped"));
}

#[test]
fn a_guest_that_does_not_run_is_not_saved() {
    let mut life = suspending();
    life.give(Input::Qmp(disk_error(true)));
    life.status(RunState::IoError);
    assert!(!life.core.can_suspend());
    assert_eq!(life.give(Input::Terminate), ["Stopping", "cont", "system_powerdown"]);
    assert_eq!(life.give(Input::Suspend), [""; 0]);
}

#[test]
fn who_asks_for_a_save_without_a_signal_has_a_guest_that_runs_on_when_it_fails() {
    let mut life = Life::running(1);
    assert_eq!(life.give(Input::Suspend), ["save"]);
    assert_eq!(life.give(Input::NotSaved { may_run: true }), ["cont", "query-status"]);
    assert_eq!(life.status(RunState::Running), [""; 0]);
    assert_eq!(life.give(Input::Suspend), ["save"]);
    // A signal that comes meanwhile is content with it.
    assert_eq!(life.give(Input::Terminate), ["Stopping"]);
    assert_eq!(life.give(Input::Saved), ["Saved", "quit"]);
    // QEMU hangs: what is saved stays saved.
    assert_eq!(life.sleep().1, ["Killing", "kill"]);
    assert_eq!(life.sleep().1, ["end Suspended"]);
}

#[test]
fn a_saved_guest_runs_when_it_is_loaded_and_not_before() {
    let mut life = resuming();
    assert_eq!(life.status(RunState::Other("inmigrate")), [""; 0]);
    assert_eq!(life.give(Input::Qmp(Event::Resume)), [""; 0]);
    assert_eq!(life.give(Input::Loaded { anew: false }), ["cont", "query-status"]);
    assert_eq!(life.status(RunState::Running), ["Running"]);
    let mut elsewhere = resuming();
    let told = elsewhere.give(Input::Loaded { anew: true });
    assert_eq!(told, ["cont", "query-status", "Relinking", "set_link"]);
}

#[test]
fn a_guest_that_is_not_loaded_is_booted_by_the_first_accelerator() {
    let mut life = resuming();
    assert_eq!(life.give(Input::NotLoaded), ["kill"]);
    assert_eq!(life.exit(Exit::Signal(9)), ["NotResumed", "spawn 0"]);
    assert_eq!(life.give(Input::NotLoaded), [""; 0], "too late");
    // QEMU found out by itself.
    let mut life = resuming();
    assert_eq!(life.exit(Exit::Code(1)), ["NotResumed", "spawn 0"]);
    assert_eq!(life.give(Input::Loaded { anew: false }), [""; 0], "too late");
}

#[test]
fn a_resume_that_is_required_is_the_end_when_it_fails() {
    let mut life = resuming();
    life.core.settings.resume_required = true;
    assert_eq!(life.exit(Exit::Code(1)), ["NotResumed", "end NotResumed"]);
    assert_eq!(Outcome::NotResumed.exit_code(), 23);
}

#[test]
fn asked_to_stop_while_it_loads_it_stays_suspended() {
    let mut life = resuming();
    assert_eq!(life.give(Input::Terminate), ["Stopping", "give up"]);
    assert_eq!(life.give(Input::NotLoaded), ["Killing", "kill"]);
    assert_eq!(life.exit(Exit::Signal(9)), ["end Suspended"]);
    // Too late for that: it goes on, and is stopped as any.
    let mut life = resuming();
    life.give(Input::Terminate);
    assert_eq!(
        life.give(Input::Loaded { anew: false }),
        ["cont", "query-status", "system_powerdown"]
    );
}

/// What the shell still owes an answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    Save,
    Load,
}

fn answer(owed: Owed, good: bool, may_run: bool) -> Option<Input> {
    match (owed, good) {
        (Owed::Nothing, _) => None,
        (Owed::Save, true) => Some(Input::Saved),
        (Owed::Save, false) => Some(Input::NotSaved { may_run }),
        (Owed::Load, true) => Some(Input::Loaded { anew: may_run }),
        (Owed::Load, false) => Some(Input::NotLoaded),
    }
}

proptest! {
    /// Whatever happens, and whatever a save or a load comes to, or if it never does: a guest that is being loaded or saved is
    /// not told to run before that is said to be safe, and the end comes in time.
    #[test]
    fn no_guest_runs_while_an_image_may_fit_its_disk(
        resume: bool, require: bool,
        happenings in proptest::collection::vec((happening(), 0_u8..4, any::<(bool, bool)>()), 0..60),
    ) {
        let mut life = Life::new(2, false);
        life.core.settings.suspend_on_stop = true;
        life.core.settings.resume_required = require;
        life.core.incoming = resume;
        let (mut owed, mut stands, mut alive, mut ended) = (Owed::Nothing, resume, true, false);
        life.give(Input::Start);
        let mut queue: VecDeque<(u32, Input, u8, (bool, bool))> = happenings
            .into_iter()
            .map(|((after, input), kind, said)| (after, input, kind, said))
            .chain(std::iter::once((0, Input::Terminate, 0, (true, true))))
            .collect();
        let mut last = life.now;
        for _ in 0..500 {
            let input = match queue.pop_front() {
                Some((_, Input::Exited(_), 0, _)) if !alive => continue,
                Some((after, input, kind, (good, may_run))) => {
                    life.now += MS * after;
                    last = life.now;
                    match kind {
                        1 => Input::Suspend,
                        2 => answer(owed, good, may_run).unwrap_or(input),
                        _ => input,
                    }
                }
                None if ended => break,
                None => {
                    life.now = life.core.deadline().expect("asked to stop").max(life.now);
                    Input::Tick
                }
            };
            match &input {
                Input::Exited(_) if !alive => continue,
                Input::Exited(_) => (alive, owed) = (false, Owed::Nothing),
                Input::Saved | Input::NotLoaded => owed = Owed::Nothing,
                Input::Loaded { .. } => (owed, stands) = (Owed::Nothing, false),
                Input::NotSaved { may_run } => (owed, stands) = (Owed::Nothing, !may_run),
                _ => {}
            }
            let outputs = life.give(input);
            for output in &outputs {
                prop_assert!(!ended, "after the end: {output}");
                match output.as_str() {
                    "save" => (owed, stands) = (Owed::Save, true),
                    "load" => owed = Owed::Load,
                    "cont" | "system_wakeup" | "system_reset" => {
                        prop_assert!(!stands, "{outputs:?} too early");
                    }
                    spawn if spawn.starts_with("spawn") => {
                        (alive, stands) = (true, spawn.ends_with("incoming"));
                    }
                    _ => {}
                }
                ended |= output.starts_with("end");
            }
        }
        prop_assert!(ended);
        prop_assert!(life.now <= last + 30 * S + GIVE_UP, "ended {:?} later", life.now - last);
    }
}
