//! The machine with a real QEMU (TCG): boot sectors of a few bytes play the guest.
//!
//! Each test starts this test program again as the supervisor, in a network namespace of its own, so that signals,
//! stdout and exit codes are those of a real process.

mod guests;
mod supervisor;

use crate::support::{self, until};

use std::path::{Path, PathBuf};
use std::time::Duration;

use berth::plan::machine;
use berth::proto::lifecycle::{By, Exit, Fault, Outcome};
use berth::supervise::{self, Console, Signals};
use guests::*;
use rustix::event::{PollFd, PollFlags, Timespec};
use supervisor::*;
use tokio::sync::watch;

/// Not a test by itself: the process that the tests below start.
#[test]
fn supervisor() {
    let Ok(wanted) = std::env::var("MACHINE_TEST_WANTED") else {
        return;
    };
    let wanted: Wanted = serde_json::from_str(&wanted).unwrap();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let config = wanted.config();
    let plan = machine::plan(&config, &wanted.facts(), &wanted.link(), &wanted.disks()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen().unwrap();
        let mut console = Console::stdio(berth::console::new().1, false);
        let queues = wanted.queues;
        let outcome = supervise::run(
            &plan.ready(None),
            &config.lifecycle,
            || Ok(open_tap(queues)),
            &mut console,
            &mut signals,
            supervise::Others {
                own: watch::channel(Vec::new()).1,
                questions: &mut supervise::Questions::none(),
                status: &watch::Sender::default(),
                agent: &supervise::agent::start().1,
                suspension: None,
            },
        )
        .await;
        console.close().await;
        outcome
    });
    match &outcome {
        Ok(outcome) => eprintln!("OUTCOME {outcome:?}"),
        Err(error) => eprintln!("ERROR {error}"),
    }
    std::process::exit(match outcome {
        Ok(outcome) => outcome.exit_code().into(),
        Err(_) => 99,
    });
}

fn failed(exit: Exit, running: bool, suspect: bool) -> Outcome {
    Outcome::Failed { fault: Fault::Exited(exit), attempt: 0, running, suspect }
}

#[test]
fn what_the_guest_writes_to_its_serial_line_arrives_on_stdout() {
    let directory = tempfile::tempdir().unwrap();
    let mut running =
        Running::start(&Wanted::of(disk(directory.path(), &says("hello from the guest", IDLE))));
    let serial = running.await_serial("hello from the guest");
    assert!(serial.contains("SeaBIOS"), "the firmware speaks there too: {serial}");
}

#[test]
fn a_guest_boots_through_an_overlay_whose_files_qemu_could_not_open() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let base = disk(directory.path(), &says("booted from the base", POWEROFF));
    let wanted = Wanted { overlay: Some(overlay(directory.path())), ..Wanted::of(base) };
    let mut running = Running::start(&wanted);
    running.await_serial("booted from the base");
    let (status, log) = running.end();
    assert_outcome(&log, Outcome::Poweroff);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn qemu_has_no_privilege_and_only_its_own_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &says("up", IDLE))));
    running.await_serial("up");
    let qemu = running.qemu();
    let status = std::fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid:"), "65534 65534 65534 65534");
    assert_eq!(field("Gid:"), "65534 65534 65534 65534");
    assert_eq!(field("Groups:"), "");
    assert_eq!(field("CapEff:"), "0000000000000000");
    assert_eq!(field("CapPrm:"), "0000000000000000");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("NoNewPrivs:"), "1");
    let group = std::fs::read_to_string(format!("/proc/{qemu}/stat")).unwrap();
    let group = group.rsplit_once(')').unwrap().1.split_whitespace().nth(2).unwrap().to_owned();
    assert_eq!(group, qemu.to_string(), "a process group of its own");
    let mut files: Vec<String> = std::fs::read_dir(format!("/proc/{qemu}/fd"))
        .unwrap()
        .map(|entry| {
            std::fs::read_link(entry.unwrap().path()).unwrap().to_string_lossy().into_owned()
        })
        .filter(|file| file.starts_with('/') && !file.starts_with("/dev/null"))
        .collect();
    files.sort();
    // QEMU opens a member of an fd set by duplicating it.
    files.dedup();
    assert_eq!(files, ["/dev/net/tun".to_owned(), wanted_disk(directory.path())]);
}

fn wanted_disk(directory: &Path) -> String {
    directory.join("root.img").to_string_lossy().into_owned()
}

#[test]
fn a_guest_that_powers_itself_off_ends_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    let (status, log) = Running::start(&Wanted::of(disk(directory.path(), POWEROFF))).end();
    assert_outcome(&log, Outcome::Poweroff);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_guest_that_powers_itself_off_is_run_again_when_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let wanted =
        Wanted { restart: true, ..Wanted::of(disk(directory.path(), &says("run", POWEROFF))) };
    let mut running = Running::start(&wanted);
    running.await_serial("run");
    running.await_log("started again");
    running.await_serial("run");
    running.await_log("started again");
    running.signal("-TERM");
    let (status, log) = running.end();
    assert_outcome(&log, Outcome::Stopped(By::Guest));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_reboot_resets_the_guest_or_ends_the_machine_as_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let root = disk(directory.path(), &says("again", REBOOT));
    let mut running = Running::start(&Wanted::of(root.clone()));
    for _ in 0..3 {
        running.await_serial("again");
    }
    running.signal("-INT");
    running.await_log("asked to stop");
    running.signal("-INT");
    assert_outcome(&running.end().1, Outcome::Stopped(By::Quit));
    let (status, log) = Running::start(&Wanted { exit_on_reboot: true, ..Wanted::of(root) }).end();
    assert_outcome(&log, Outcome::Reboot);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn sigterm_presses_the_power_button_within_50_ms_and_the_guest_powers_off() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &waits_for_the_button())));
    running.await_serial("waiting");
    let asked = running.signal("-TERM");
    // That is QEMU's event, so the way to QEMU and back.
    let pressed = running.await_log("power button pressed") - asked;
    let (status, log) = running.end();
    let ended = asked.elapsed();
    assert_outcome(&log, Outcome::Stopped(By::Guest));
    assert_eq!(status.code(), Some(0));
    println!("SIGTERM to power button {pressed:?}, to the end of the supervisor {ended:?}");
    assert!(pressed < Duration::from_millis(50), "{pressed:?}");
    assert!(ended < Duration::from_millis(1000), "{ended:?}: the first press was missed");
}

#[test]
fn sigterm_while_qemu_is_starting_is_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &waits_for_the_button())));
    running.await_log("QEMU started");
    running.signal("-TERM");
    let (status, log) = running.end();
    assert_outcome(&log, Outcome::Stopped(By::Guest));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_guest_that_ignores_acpi_is_quit_at_grace_minus_margin() {
    let directory = tempfile::tempdir().unwrap();
    let wanted = Wanted {
        grace_ms: 3000,
        margin_ms: 1000,
        ..Wanted::of(disk(directory.path(), &says("deaf", IDLE)))
    };
    let mut running = Running::start(&wanted);
    running.await_serial("deaf");
    let asked = running.signal("-TERM");
    let (status, log) = running.end();
    let after = asked.elapsed();
    assert_outcome(&log, Outcome::Stopped(By::Quit));
    assert_eq!(status.code(), Some(0));
    assert!((1.95..2.8).contains(&after.as_secs_f64()), "{after:?}:\n{log}");
}

#[test]
fn a_stopped_qemu_is_killed_at_the_end_of_the_grace() {
    let directory = tempfile::tempdir().unwrap();
    let wanted = Wanted {
        grace_ms: 1500,
        margin_ms: 500,
        ..Wanted::of(disk(directory.path(), &says("deaf", IDLE)))
    };
    let mut running = Running::start(&wanted);
    running.await_serial("deaf");
    support::run("kill", &["-STOP", &running.qemu().to_string()]);
    let asked = running.signal("-TERM");
    let (status, log) = running.end();
    let after = asked.elapsed();
    assert_outcome(&log, Outcome::Stopped(By::Kill));
    assert_eq!(status.code(), Some(137));
    assert!((1.45..2.3).contains(&after.as_secs_f64()), "{after:?}:\n{log}");
}

#[test]
fn a_second_sigint_quits_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &says("deaf", IDLE))));
    running.await_serial("deaf");
    running.signal("-INT");
    running.await_log("power button");
    let asked = running.signal("-INT");
    let (_, log) = running.end();
    assert_outcome(&log, Outcome::Stopped(By::Quit));
    assert!(asked.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_word_that_qemu_refuses_is_named_with_what_it_said() {
    let directory = tempfile::tempdir().unwrap();
    let wanted =
        Wanted { extra: vec!["-bogus".to_owned()], ..Wanted::of(disk(directory.path(), IDLE)) };
    let (status, log) = Running::start(&wanted).end();
    assert_eq!(status.code(), Some(99));
    let said = "ERROR QEMU does not start (qemu-system-x86_64: -bogus: invalid option): mend the words after --";
    assert!(log.contains(said), "{log}");
}

#[test]
fn a_killed_qemu_is_128_and_its_signal() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &says("up", IDLE))));
    running.await_serial("up");
    support::run("kill", &["-KILL", &running.qemu().to_string()]);
    let (status, log) = running.end();
    assert_outcome(&log, failed(Exit::Signal(9), true, false));
    assert_eq!(status.code(), Some(137));
}

#[test]
fn no_qemu_outlives_a_supervisor_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &says("up", IDLE))));
    running.await_serial("up");
    let qemu = PathBuf::from(format!("/proc/{}/exe", running.qemu()));
    running.signal("-KILL");
    until("QEMU's end", || qemu.read_link().is_err());
}

#[test]
fn several_queues_of_a_multiqueue_tap_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let wanted = Wanted { queues: 2, ..Wanted::of(disk(directory.path(), &says("up", POWEROFF))) };
    let (_, log) = Running::start(&wanted).end();
    assert_outcome(&log, Outcome::Poweroff);
}

#[test]
fn a_launcher_is_put_before_qemu() {
    let directory = tempfile::tempdir().unwrap();
    let launcher = vec!["env".to_owned(), "LAUNCHED=with these words".to_owned()];
    let mut running = Running::start(&Wanted {
        launcher,
        ..Wanted::of(disk(directory.path(), &says("up", IDLE)))
    });
    running.await_serial("up");
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", running.qemu())).unwrap();
    assert!(environment.split('\0').any(|entry| entry == "LAUNCHED=with these words"));
}

#[test]
fn a_stdout_that_nobody_reads_does_not_hold_up_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    // jmp to the beginning of the boot sector: for ever.
    let chatty = says(
        &"all work and no play makes a dull guest\r\n".repeat(8),
        &[0xea, 0x00, 0x7c, 0x00, 0x00],
    );
    let wanted =
        Wanted { grace_ms: 2000, margin_ms: 1000, ..Wanted::of(disk(directory.path(), &chatty)) };
    let mut running = Running::start(&wanted);
    running.await_log("QEMU runs the guest");
    let path = format!("/proc/{}/fd/1", running.process.id());
    let pipe = std::fs::File::options().write(true).open(path).unwrap();
    let takes_more = || {
        rustix::event::poll(&mut [PollFd::new(&pipe, PollFlags::OUT)], Some(&Timespec::default()))
            .unwrap()
    };
    until("a pipe that is full", || takes_more() == 0);
    drop(pipe);
    let asked = running.signal("-TERM");
    let pressed = running.await_log("power button pressed") - asked;
    let (_, log) = running.end();
    assert_outcome(&log, Outcome::Stopped(By::Quit));
    println!("SIGTERM to power button, stdout blocked: {pressed:?}");
    assert!(pressed < Duration::from_secs(1), "{pressed:?}");
    // A second for the relay, a second for stdout.
    assert!(asked.elapsed() < Duration::from_millis(4000), "{:?}", asked.elapsed());
}

#[test]
fn as_pid_1_it_buries_orphans_and_still_learns_of_qemus_end() {
    let directory = tempfile::tempdir().unwrap();
    let code = waits_for_the_button();
    let orphans = "(sleep 0.01 & sleep 0.02 &) ; exec \"$@\"";
    let launcher = ["sh", "-c", orphans, "sh"].map(str::to_owned).to_vec();
    let wanted = Wanted { pid1: true, launcher, ..Wanted::of(disk(directory.path(), &code)) };
    let mut running = Running::start(&wanted);
    running.await_serial("waiting");
    let [supervisor] = children(running.process.id())[..] else { panic!("unshare has one child") };
    until("nothing but QEMU", || children(supervisor).len() == 1);
    support::run("kill", &["-TERM", &supervisor.to_string()]);
    let (status, log) = running.end();
    assert_outcome(&log, Outcome::Stopped(By::Guest));
    assert_eq!(status.code(), Some(0));
}

/// Every device there is on one command line: their PCI addresses must not clash.
#[test]
fn vnc_with_its_password_extra_disks_and_a_cdrom_start_together() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let wanted = Wanted {
        queues: 2,
        vnc_password: Some(file("password", b"sesame\nignored\n")),
        extra_disks: vec![file("a b.img", &[0; 4096]), file("c.img", &[0; 4096])],
        seed: Some(file("seed.iso", &[0; 65536])),
        ..Wanted::of(disk(directory.path(), &says("up", IDLE)))
    };
    let mut running = Running::start(&wanted);
    running.await_log("QEMU runs the guest");
    running.await_serial("up");
    let netns = &running.netns;
    let vnc = "import socket;s=socket.create_connection(('127.0.0.1',5900));print(s.recv(12));\
        s.send(b'RFB 003.008\\n');print(s.recv(9))";
    let said = support::checked(netns.command("python3").args(["-c", vnc]));
    assert!(
        said.contains("RFB 003.008") && said.contains(r"\x01\x02"),
        "one way in, by password: {said}"
    );
    running.signal("-INT");
    running.await_log("asked to stop");
    running.signal("-INT");
    let (_, log) = running.end();
    assert!(!log.contains("refused"), "{log}");
}

/// KVM that does not work, whatever the machine of the test has: a launcher that fails when it is asked for.
fn broken_kvm(directory: &Path, how: &str) -> Vec<String> {
    let script = directory.join("launcher");
    std::fs::write(
        &script,
        format!("#!/bin/sh\ncase \"$*\" in *'-accel kvm'*) {how};; esac\nexec \"$@\"\n"),
    )
    .unwrap();
    support::run("chmod", &["755", script.to_str().unwrap()]);
    support::run("chmod", &["755", directory.to_str().unwrap()]);
    vec![script.to_string_lossy().into_owned()]
}

#[test]
fn a_kvm_that_aborts_gives_way_to_tcg_with_one_warning() {
    let directory = tempfile::tempdir().unwrap();
    let launcher =
        broken_kvm(directory.path(), "echo 'error: failed to set MSR' >&2; kill -ABRT $$");
    let root = disk(directory.path(), &says("runs", POWEROFF));
    let wanted = Wanted {
        accel: "auto".to_owned(),
        kvm: true,
        launcher: launcher.clone(),
        ..Wanted::of(root)
    };
    let mut running = Running::start(&wanted);
    running.await_serial("runs");
    let (status, log) = running.end();
    assert_outcome(&log, Outcome::Poweroff);
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.matches("kvm does not run the guest here").count(), 1, "{log}");

    let (status, log) = Running::start(&Wanted { accel: "kvm".to_owned(), ..wanted }).end();
    assert_eq!(status.code(), Some(99));
    assert!(
        log.contains("ERROR kvm does not run the guest here: QEMU ended with signal 6 (error: failed to set MSR); BERTH_ACCEL=auto"),
        "{log}"
    );
}

/// On a machine with a KVM that works this is the plain KVM run; with one that is broken, the fallback. Three ways
/// to be broken: QEMU aborts (`-cpu host` and MSR 0x10a), QEMU stops the guest with an internal error (the same
/// without `arch-capabilities`), QEMU may not open the device. Says what it was; with BERTH_TEST_KVM set it has to work.
#[test]
fn whatever_kvm_is_like_here_auto_runs_the_guest() {
    let directory = tempfile::tempdir().unwrap();
    let no_arch_capabilities =
        broken_kvm(directory.path(), "exec \"$@\" -cpu host,-arch-capabilities");
    for (uid, launcher) in [(0, vec![]), (0, no_arch_capabilities), (65534, vec![])] {
        let root = disk(directory.path(), &says("runs", POWEROFF));
        let wanted =
            Wanted { accel: "auto".to_owned(), kvm: true, uid, launcher, ..Wanted::of(root) };
        let (status, log) = Running::start(&wanted).end();
        println!("{log}");
        assert_outcome(&log, Outcome::Poweroff);
        assert_eq!(status.code(), Some(0));
        let gave_way = log.matches("does not run the guest here").count();
        assert!(gave_way <= 1, "{log}");
        println!(
            "uid {uid}: {}",
            if gave_way == 1 { "KVM gave way to TCG" } else { "KVM ran the guest" }
        );
        if uid == 0 && std::env::var_os("BERTH_TEST_KVM").is_some() {
            assert_eq!(gave_way, 0, "KVM works here, as BERTH_TEST_KVM says: {log}");
        }
    }
}

/// A KVM that works, on any machine: a launcher that makes QEMU emulate what it is to virtualize.
const EMULATED_KVM: &str = "for word do shift; case $word in kvm) word=tcg;; host) word=max;; esac; set -- \"$@\" \"$word\"; done; exec \"$@\"";

/// kata#4419: whoever kills QEMU, the guest does not come back emulated.
#[test]
fn a_qemu_that_is_killed_under_auto_does_not_come_back_on_tcg() {
    let directory = tempfile::tempdir().unwrap();
    let launcher = broken_kvm(directory.path(), EMULATED_KVM);
    let root = disk(directory.path(), &says("up", IDLE));
    let wanted = Wanted { accel: "auto".to_owned(), kvm: true, launcher, ..Wanted::of(root) };
    for (signal, number) in [("-KILL", 9), ("-SEGV", 11)] {
        let mut running = Running::start(&wanted);
        running.await_serial("up");
        running.await_log("QEMU runs the guest");
        support::run("kill", &[signal, &running.qemu().to_string()]);
        let (status, log) = running.end();
        assert_outcome(&log, failed(Exit::Signal(number), true, false));
        assert_eq!(status.code(), Some(128 + number));
        assert!(!log.contains("trying tcg"), "{log}");
        assert_eq!(log.contains("QEMU was killed by SIGKILL"), number == 9, "{log}");
    }
}

/// 29 lines of registers at each start.
#[test]
fn what_qemu_prints_about_a_kvm_that_fails_is_one_warning() {
    let directory = tempfile::tempdir().unwrap();
    let dump = "{ echo 'KVM: entry failed, hardware error 0x80000021'; for n in $(seq 28); do echo EAX=$n; done; } >&2; kill -ABRT $$";
    let launcher = broken_kvm(directory.path(), dump);
    let root = disk(directory.path(), &says("runs", POWEROFF));
    let wanted = Wanted { accel: "auto".to_owned(), kvm: true, launcher, ..Wanted::of(root) };
    let (_, log) = Running::start(&wanted).end();
    assert_outcome(&log, Outcome::Poweroff);
    // One that the launcher of this test is to blame for, beside it.
    let is_meant = |line: &&str| line.contains("WARN") && !line.contains("QEMU is not confined");
    let warnings: Vec<_> = log.lines().filter(is_meant).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    for word in ["kvm does not run the guest here", "hardware error 0x80000021", "EAX=28"] {
        assert!(warnings[0].contains(word), "{word}: {log}");
    }
}

/// A QEMU that ends in order and never ran a guest: `-version`, a launcher that goes to the background, `/bin/true`.
#[test]
fn a_qemu_that_ends_with_0_before_there_was_a_guest_is_no_success() {
    let directory = tempfile::tempdir().unwrap();
    let root = disk(directory.path(), IDLE);
    for wanted in [
        Wanted { extra: vec!["-version".to_owned()], ..Wanted::of(root.clone()) },
        Wanted { launcher: vec!["true".to_owned()], ..Wanted::of(root) },
    ] {
        let (status, log) = Running::start(&wanted).end();
        assert_eq!(status.code(), Some(99));
        assert!(log.contains("ERROR QEMU ended with exit code 0 before the guest ran"), "{log}");
    }
}

#[test]
fn sighup_and_sigquit_are_as_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let code = waits_for_the_button();
    let root = disk(directory.path(), &code);
    for signal in ["-HUP", "-QUIT"] {
        let mut running = Running::start(&Wanted::of(root.clone()));
        running.await_serial("waiting");
        running.signal(signal);
        let (status, log) = running.end();
        assert_outcome(&log, Outcome::Stopped(By::Guest));
        assert_eq!(status.code(), Some(0));
    }
}

/// minimega#342.
#[test]
fn a_vnc_port_that_is_taken_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, "sesame").unwrap();
    // Another program of the pod is there first.
    let holds = "import socket,os,sys\ns=socket.socket()\ns.bind(('127.0.0.1',5900))\ns.listen()\n\
        os.set_inheritable(s.fileno(), True)\nos.execvp(sys.argv[1], sys.argv[1:])";
    let wanted =
        Wanted { vnc_password: Some(password), ..Wanted::of(disk(directory.path(), IDLE)) };
    let (status, log) = Running::start_under(&wanted, &["python3", "-c", holds]).end();
    assert_eq!(status.code(), Some(99));
    assert!(
        log.contains("ERROR port 5900 of 127.0.0.1 is taken") && log.contains("BERTH_VNC=off"),
        "{log}"
    );
    assert!(!log.contains("QEMU started"), "{log}");
}

/// A QEMU whose KVM stops the guest and stays: `STOP`, then run state `internal-error`, no exit.
const STOPS_WITH_INTERNAL_ERROR: &str = r#"
import re, socket, sys, json, time
qmp = socket.socket(fileno=int(re.search(r"id=qmp0,fd=(\d+)", " ".join(sys.argv)).group(1)))
tell = lambda **message: qmp.sendall(json.dumps(message).encode() + b"\r\n")
tell(QMP={"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []})
states = ["running", "internal-error"]
for line in qmp.makefile():
    asked = json.loads(line)
    if asked["execute"] == "query-status":
        tell(id=asked["id"], **{"return": {"status": states.pop(0)}})
        if states:
            tell(event="STOP")
    else:
        tell(id=asked["id"], **{"return": {}})
"#;

/// A QEMU that somebody took over: events, lines without end, its output and its serial line, all as fast as they go; it
/// ends by SIGKILL only, and leaves a child that goes on.
const FLOODS: &str = r#"
import os, re, signal, socket, sys, json, threading
words = " ".join(sys.argv)
qmp = socket.socket(fileno=int(re.search(r"id=qmp0,fd=(\d+)", words).group(1)))
serial = socket.socket(fileno=int(re.search(r"id=serial0,fd=(\d+)", words).group(1)))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
tell = lambda **message: json.dumps(message).encode() + b"\r\n"
qmp.sendall(tell(QMP={"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}))
error = dict(device="disk0", operation="write", reason="x" * 60, nospace=False)
names = ["STOP", "RESUME", "SUSPEND", "WAKEUP", "POWERDOWN", "GUEST_PANICKED"]
events = b"".join(
    [tell(event=name, data={}) for name in names]
    + [tell(event="RESET", data={"guest": True})]
    + [tell(event="BLOCK_IO_ERROR", data=dict(error, action=action)) for action in ["report", "stop"]]
)
def flood(write, octets):
    while True:
        write(octets)
threading.Thread(target=flood, args=(serial.sendall, b"serial " * 600 + b"\n"), daemon=True).start()
threading.Thread(target=flood, args=(lambda octets: os.write(2, octets), b"stderr\n" * 600), daemon=True).start()
if LEAVES:
    if os.fork() == 0:
        flood(qmp.sendall, events)
    os._exit(0)
def answer():
    for line in qmp.makefile():
        asked = json.loads(line)
        status = {"status": "running"} if asked["execute"] == "query-status" else {}
        qmp.sendall(tell(id=asked["id"], **{"return": status}))
threading.Thread(target=answer, daemon=True).start()
flood(qmp.sendall, events * 20 + b"x" * 200000 + b"\n")
"#;

/// RSS at its highest, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Security review, L1: 127 MB of log in 14 s.
#[test]
fn a_qemu_that_floods_costs_neither_the_log_nor_memory_nor_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("qemu.py");
    std::fs::write(&script, FLOODS.replace("LEAVES", "False")).unwrap();
    support::run("chmod", &["755", directory.path().to_str().unwrap()]);
    let launcher = vec!["python3".to_owned(), script.display().to_string()];
    let wanted = Wanted {
        launcher,
        grace_ms: 2000,
        margin_ms: 500,
        ..Wanted::of(disk(directory.path(), IDLE))
    };
    let mut running = Running::start(&wanted);
    running.await_log("too many QEMU events");
    std::thread::sleep(Duration::from_secs(2));
    let peak = peak_kib(running.process.id());
    let told = running.signal("-TERM");
    let (status, log) = running.end();
    let took = told.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert!(status.code().is_some(), "{status:?}");
    assert!(log.contains("asked to stop"), "{log}");
    assert!(log.len() < 400 << 10, "{} octets of log", log.len());
    let events = log.lines().filter(|line| !line.contains("qemu:")).count();
    assert!(events < 60, "{events} lines");
    assert!(peak < 64 << 10, "{peak} KiB");

    // Whoever it leaves behind has its socket, and is nobody to wait for.
    std::fs::write(&script, FLOODS.replace("LEAVES", "True")).unwrap();
    let (status, log) = Running::start(&wanted).end();
    assert!(status.code().is_some() && log.contains("before the guest ran"), "{status:?} {log}");
}

#[test]
fn a_kvm_that_stops_the_guest_with_an_internal_error_gives_way_to_tcg() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("qemu.py");
    std::fs::write(&script, STOPS_WITH_INTERNAL_ERROR).unwrap();
    let launcher =
        broken_kvm(directory.path(), &format!("exec python3 {} \"$@\"", script.display()));
    let root = disk(directory.path(), &says("runs", POWEROFF));
    let wanted = Wanted { accel: "auto".to_owned(), kvm: true, launcher, ..Wanted::of(root) };
    let (_, log) = Running::start(&wanted).end();
    assert_outcome(&log, Outcome::Poweroff);
    assert_eq!(
        log.matches("kvm does not run the guest here: QEMU stopped the guest").count(),
        1,
        "{log}"
    );
    let (status, log) = Running::start(&Wanted { accel: "kvm".to_owned(), ..wanted }).end();
    assert_eq!(status.code(), Some(99));
    assert!(log.contains(
        "ERROR kvm does not run the guest here: QEMU stopped the guest with an internal error"
    ));
}
