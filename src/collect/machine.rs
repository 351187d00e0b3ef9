//! The machine half: QMP, /proc of QEMU and of berth, the container's memory, the volume.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant as Clock;

use super::single::Single;
use super::{Machine, Planned, Sources, fetch};
use crate::console::{self, Kind};
use crate::metrics::{
    Agent, Balloon, Memory, Process, Qemu, Snapshot, Volume, balloon, blocks, stats, vcpus,
};
use crate::supervise::agent::{self, FileSystem};
use crate::supervise::{MachineStatus, Monitor, NoAnswer, Phase};
use crate::sys::{cgroup, process};

/// Seconds between two looks of the balloon at its guest.
const POLL_SECONDS: u64 = 10;

/// Answers that may come late, and what is known of this QEMU.
#[derive(Debug, Default)]
pub(super) struct State {
    process: Single<Option<Process>>,
    memory: Single<Option<Memory>>,
    qemu: Single<Option<Times>>,
    volume: Single<Option<Volume>>,
    qmp: Single<Option<Replies>>,
    known: Known,
}

/// QEMU, and of each virtual processor its number, how long it ran, and how long it waited, in ns.
type Times = (Process, Vec<(u64, u64, u64)>);

/// Of the QEMU that was started then.
#[derive(Debug, Default)]
struct Known {
    started: Option<Instant>,
    balloon: Device,
    /// Thread ids by virtual processor: QEMU may be silent later.
    threads: Vec<(u64, u64)>,
}

/// The balloon's path in QEMU's object model.
#[derive(Debug, Default, PartialEq, Eq)]
enum Device {
    #[default]
    Unknown,
    None,
    At(String),
}

/// What was told; None in an answer: not in time.
#[derive(Debug)]
pub(super) struct Told {
    status: MachineStatus,
    /// None: there is no QEMU to ask.
    qmp: Option<Option<Qemu>>,
    qemu: Option<Option<Times>>,
    volume: Option<Option<Volume>>,
}

/// The machine half's answers, if there is one, and berth's own.
type Answers = (Option<Told>, Option<Process>, Option<Option<Memory>>);

impl State {
    pub async fn ask(&mut self, machine: Option<&Machine>, deadline: Clock) -> Answers {
        let Self { process, memory, qemu, volume, qmp, known } = self;
        let own = process.blocking(deadline, || process::process(None).ok().map(of_process));
        let memory = memory.blocking(deadline, || cgroup::memory().map(of_cgroup));
        let told = async {
            let machine = machine?;
            let status = machine.status.borrow().clone();
            let planned = machine.planned.borrow().clone();
            let path = planned.and_then(|planned| planned.volume);
            let volume = async {
                let path = path?;
                Some(volume.blocking(deadline, move || of_volume(&path)).await.flatten())
            };
            let of_qemu = async {
                let pid = status.pid?;
                let qmp = ask_qemu(machine, &status, (known, qmp), deadline).await;
                let threads = known.threads.clone();
                let times = qemu.blocking(deadline, move || times(pid, &threads)).await.flatten();
                Some((qmp, times))
            };
            let (volume, of_qemu) = tokio::join!(volume, of_qemu);
            let (qmp, qemu) = of_qemu.unzip();
            Some(Told { status, qmp, qemu, volume })
        };
        let (told, own, memory) = tokio::join!(told, own, memory);
        (told, own.flatten(), memory)
    }
}

fn of_process(found: process::Process) -> Process {
    let per_second = process::ticks_per_second() as f64;
    Process {
        user_seconds: found.user_ticks as f64 / per_second,
        system_seconds: found.system_ticks as f64 / per_second,
        anon_bytes: found.anon_bytes,
        file_bytes: found.file_bytes,
        threads: found.threads,
    }
}

fn of_cgroup(found: cgroup::Memory) -> Memory {
    Memory {
        current_bytes: found.current_bytes,
        limit_bytes: found.limit_bytes,
        events: found.events.into_iter().collect(),
    }
}

fn of_volume(path: &std::path::Path) -> Option<Volume> {
    let (size_bytes, free_bytes) = process::volume(path).ok()?;
    Some(Volume { size_bytes, free_bytes })
}

/// Of QEMU, and of its threads that are virtual processors: none where QEMU is a child of a launcher's.
fn times(pid: u32, threads: &[(u64, u64)]) -> Option<Times> {
    let of = |(vcpu, tid): &(u64, u64)| {
        process::thread(pid, *tid).ok().map(|(run, wait)| (*vcpu, run, wait))
    };
    let qemu = process::process(Some(pid)).ok()?;
    Some((of_process(qemu), threads.iter().filter_map(of).collect()))
}

/// A command of QMP, and its arguments.
type Question = (&'static str, Option<Value>);

/// In the order of the questions; None: it was refused.
type Replies = Vec<Option<Value>>;

/// Those to all questions. The first is asked alone: of a QEMU that hangs nothing more is asked. None: there is no QEMU, or not all is answered.
async fn answers(monitor: Monitor, questions: Vec<Question>) -> Option<Replies> {
    let monitor = &monitor;
    let ask = |(command, arguments): Question| async move {
        match monitor.ask(command, arguments, None).await {
            Ok(answer) => Some(Some(answer)),
            Err(NoAnswer::Refused(_)) => Some(None),
            Err(_) => None,
        }
    };
    let mut questions = questions.into_iter();
    let first = ask(questions.next()?).await?;
    let others = join_all(questions.map(ask)).await;
    std::iter::once(Some(first)).chain(others).collect()
}

/// Half of the time is QEMU's at most, so that a silent one leaves enough for its threads.
async fn ask_qemu(
    machine: &Machine,
    status: &MachineStatus,
    (known, asked): (&mut Known, &mut Single<Option<Replies>>),
    deadline: Clock,
) -> Option<Qemu> {
    if known.started != status.started {
        *known = Known { started: status.started, ..Known::default() };
    }
    let deadline = deadline - super::DEADLINE / 5;
    let mut questions = vec![
        ("query-blockstats", None),
        ("query-block", None),
        ("query-cpus-fast", None),
        ("query-memory-size-summary", None),
        ("query-balloon", None),
    ];
    match &known.balloon {
        Device::Unknown => {
            for path in ["/machine/peripheral", "/machine/peripheral-anon"] {
                questions.push(("qom-list", Some(json!({"path": path}))));
            }
        }
        Device::At(path) => {
            let arguments = json!({"path": path, "property": "guest-stats"});
            questions.push(("qom-get", Some(arguments)));
        }
        Device::None => {}
    }
    let monitor = || machine.monitor.clone();
    let answered = asked.get(deadline, || answers(monitor(), questions)).await??;
    let mut answered = answered.into_iter();
    let mut next = || answered.next().flatten();
    let mut qemu = Qemu::default();
    next().iter().for_each(|answer| stats(answer, &mut qemu.disks));
    next().iter().for_each(|answer| blocks(answer, &mut qemu.disks));
    next().iter().for_each(|answer| known.threads = vcpus(answer));
    let summary = next();
    qemu.memory_bytes = summary.and_then(|summary| summary.get("base-memory")?.as_u64());
    let actual = next();
    if known.balloon == Device::Unknown {
        known.balloon = find(&[next(), next()]);
        if let Device::At(path) = &known.balloon {
            let property = "guest-stats-polling-interval";
            let arguments = json!({"path": path, "property": property, "value": POLL_SECONDS});
            let set = vec![("qom-set", Some(arguments))];
            // Where it does not want to, there are no figures.
            let _ = asked.get(deadline, || answers(monitor(), set)).await;
        }
    }
    qemu.balloon = of_balloon(known, actual.as_ref(), next().as_ref());
    Some(qemu)
}

#[expect(clippy::disallowed_methods, reason = "a verb: how old the guest's figures are")]
fn of_balloon(known: &Known, actual: Option<&Value>, stats: Option<&Value>) -> Option<Balloon> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    matches!(known.balloon, Device::At(_)).then(|| balloon(actual, stats, now.as_secs()))
}

/// The balloon among QEMU's devices, by the answers to qom-list for devices with and without an id.
fn find(answers: &[Option<Value>; 2]) -> Device {
    for (answer, at) in answers.iter().zip(["/machine/peripheral", "/machine/peripheral-anon"]) {
        for device in answer.iter().filter_map(Value::as_array).flatten() {
            let text = |key| device.get(key).and_then(Value::as_str).unwrap_or_default();
            if text("type").starts_with("child<virtio-balloon") && text("name").len() <= 128 {
                return Device::At(format!("{at}/{}", text("name")));
            }
        }
    }
    // A silent QEMU has said nothing of its devices.
    if answers.iter().all(Option::is_some) { Device::None } else { Device::Unknown }
}

/// Puts the answers where they are told.
pub(super) fn fill(
    snapshot: &mut Snapshot,
    sources: &Sources,
    state: &mut super::State,
    (told, own, memory): Answers,
) {
    snapshot.process = state.heard("process", own);
    snapshot.memory = state.heard("cgroup", memory).flatten();
    let (Some(told), Some(machine)) = (told, &sources.machine) else { return };
    if let Some(qmp) = told.qmp {
        snapshot.qemu = state.heard("qmp", qmp);
    }
    if let Some((process, times)) = told.qemu.and_then(|found| state.heard("proc", found)) {
        snapshot.qemu_process = Some(process);
        snapshot.vcpu_times = times;
    }
    snapshot.volume = told.volume.and_then(|volume| state.heard("volume", volume));
    snapshot.fetch = machine.fetch.borrow().map(fetch);
    let planned = machine.planned.borrow().clone();
    if let Some(planned) = &planned {
        snapshot.vm.clone_from(&planned.vm);
    }
    snapshot.agent = machine.agent.as_ref().map(|known| of_agent(&known.borrow()));
    snapshot.console = of_console(&machine.console.counts());
    snapshot.machine = Some(of_machine(sources, &told.status, planned.as_ref()));
}

fn of_agent(known: &agent::Known) -> Agent {
    let of = |system: &FileSystem| {
        let FileSystem { mountpoint, kind, used_bytes, total_bytes } = system.clone();
        (mountpoint, kind, used_bytes, total_bytes)
    };
    let file_systems = known.file_systems.iter().map(of).collect();
    Agent { answers: known.presence.answers(), file_systems }
}

/// By kind: sessions, and octets skipped.
fn of_console(counts: &console::Counts) -> BTreeMap<&'static str, (u64, u64)> {
    let of = |counts: &BTreeMap<Kind, u64>, kind| counts.get(&kind).copied().unwrap_or_default();
    let both = |kind| (of(&counts.sessions, kind), of(&counts.skipped_bytes, kind));
    Kind::ALL.into_iter().map(|kind| (kind.as_str(), both(kind))).collect()
}

fn of_machine(
    sources: &Sources,
    status: &MachineStatus,
    planned: Option<&Planned>,
) -> crate::metrics::Machine {
    let state = match status.phase {
        Phase::Stopping => "stopping",
        _ if status.is_panicked => "panicked",
        Phase::Paused if status.is_io_error => "io_error",
        phase => phase.as_str(),
    };
    let counts = &status.counts;
    let mut misunderstood = BTreeMap::new();
    for (reason, count) in counts.misunderstood.iter().chain(&status.misunderstood) {
        *misunderstood.entry(reason.label()).or_default() += *count;
    }
    crate::metrics::Machine {
        state,
        qemu_version: status.version.map(|version| version.to_string()),
        accelerator: status.accelerator.map(crate::plan::machine::Accelerator::as_str),
        vcpus: planned.map_or(0, |planned| planned.vcpus),
        memory_bytes: planned.map_or(0, |planned| planned.memory_bytes),
        starts: counts.starts,
        guest_resets: counts.guest_resets,
        host_resets: counts.host_resets,
        panics: counts.panics,
        backups: counts.backups,
        failed_backups: counts.failed_backups,
        last_backup: status.last_backup.map(|at| sources.wall(at)),
        started: status.started.filter(|_| status.pid.is_some()).map(|at| sources.wall(at)),
        exec_after: status.first_started.map(|at| sources.after(at)),
        running_after: status.first_ran.map(|at| sources.after(at)),
        misunderstood,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU was asked seven questions by each page, which all waited when it went on.
    #[tokio::test(start_paused = true)]
    async fn a_qemu_that_hangs_has_one_question_however_often_a_page_is_wanted() {
        let (monitor, _hangs) = Monitor::new();
        let mut asked = Single::default();
        let questions = || vec![("query-blockstats", None), ("query-block", None)];
        for _ in 0..8 {
            let deadline = Clock::now() + super::super::DEADLINE;
            let answer = asked.get(deadline, || answers(monitor.clone(), questions())).await;
            assert_eq!(answer, None);
        }
        let waiting: Vec<_> = (0..16)
            .map(|_| {
                let monitor = monitor.clone();
                tokio::spawn(async move { monitor.ask("query-status", None, None).await })
            })
            .collect();
        let mut busy = 0;
        for answer in waiting {
            busy += u32::from(answer.await.unwrap() == Err(NoAnswer::Busy));
        }
        assert_eq!(busy, 1, "of sixteen places one was taken");
    }

    #[test]
    fn the_balloon_is_found_with_and_without_an_id() {
        let net = json!([{"name": "virtio-disk0", "type": "child<virtio-blk-pci>"}]);
        let named = json!([{"name": "b0", "type": "child<virtio-balloon-pci>"}]);
        let anonymous = json!([{"name": "device[1]", "type": "child<virtio-balloon-pci>"}]);
        let of = |a: &Value, b: &Value| find(&[Some(a.clone()), Some(b.clone())]);
        assert_eq!(of(&named, &net), Device::At("/machine/peripheral/b0".to_owned()));
        let wanted = Device::At("/machine/peripheral-anon/device[1]".to_owned());
        assert_eq!(of(&net, &anonymous), wanted);
        assert_eq!(of(&net, &net), Device::None);
        assert_eq!(find(&[None, Some(net)]), Device::Unknown);
    }
}
