//! The control group we are in (`cgroups(7)`), as far as the kernel's killer of processes counts there.

use std::path::Path;

const ROOT: &str = "/sys/fs/cgroup";

/// How many processes of our memory cgroup were killed for want of memory so far: theirs, or the machine's. None where
/// that cannot be read.
pub(crate) fn oom_kills() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    count(&groups, &|path| std::fs::read_to_string(Path::new(ROOT).join(path)).ok())
}

/// What our memory cgroup says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    pub current_bytes: Option<u64>,
    /// None: there is no limit.
    pub limit_bytes: Option<u64>,
    /// `oom`, `oom_kill`, `max`, `high`, as far as this version counts them.
    pub events: Vec<(&'static str, u64)>,
}

/// None: there is no such cgroup here, or it cannot be read.
pub fn memory() -> Option<Memory> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    of_memory(&groups, &|path| std::fs::read_to_string(Path::new(ROOT).join(path)).ok())
}

/// In how many of its periods the container was stopped for its CPU limit, and of how many (`cpu.stat`). None: there is no
/// such limit, or it is not seen here.
pub fn throttled() -> Option<(u64, u64)> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    of_cpu(&groups, &|path| std::fs::read_to_string(Path::new(ROOT).join(path)).ok())
}

fn of_cpu(groups: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<(u64, u64)> {
    let (_, text) = of_controller("cpu", groups, ["cpu.stat", "cpu.stat"], read)?;
    let of = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    of("nr_throttled ").zip(of("nr_periods "))
}

/// From here on version 1 means without a limit: it rounds what it is told down to pages.
const UNLIMITED: u64 = i64::MAX as u64 - 0xffff;

fn of_memory(groups: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<Memory> {
    let number = |text: String| text.trim().parse::<u64>().ok();
    let line = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    let (version, text) = file(groups, ["memory.events", "memory.oom_control"], read)?;
    let mut memory = Memory::default();
    let of = |name: &str| file(groups, [name, name], read).map(|(_, text)| text);
    let names = match version {
        Version::Two => ["memory.current", "memory.max"],
        Version::One => ["memory.usage_in_bytes", "memory.limit_in_bytes"],
    };
    memory.current_bytes = names.first().and_then(|name| of(name)).and_then(number);
    let limit = names.last().and_then(|name| of(name)).and_then(number);
    memory.limit_bytes = limit.filter(|limit| *limit < UNLIMITED);
    for event in ["oom", "oom_kill", "max", "high"] {
        memory.events.extend(line(&text, event).map(|count| (event, count)));
    }
    if version == Version::One {
        memory.events.extend(of("memory.failcnt").and_then(number).map(|count| ("max", count)));
    }
    Some(memory)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Version 2 counts in `memory.events`, version 1 in `memory.oom_control`.
fn count(groups: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let (_, text) = file(groups, ["memory.events", "memory.oom_control"], read)?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The file of our memory cgroup, which has these names in version 2 and 1. A container may see its own group as the root
/// of the mount although its path is another one.
fn file(
    groups: &str,
    names: [&str; 2],
    read: &dyn Fn(&str) -> Option<String>,
) -> Option<(Version, String)> {
    of_controller("memory", groups, names, read)
}

/// The same of any controller.
fn of_controller(
    controller: &str,
    groups: &str,
    [two, one]: [&str; 2],
    read: &dyn Fn(&str) -> Option<String>,
) -> Option<(Version, String)> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_matches('/'));
        let (version, mount, file) = match controllers {
            "" => (Version::Two, "", two),
            _ if controllers.split(',').any(|name| name == controller) => {
                (Version::One, controller, one)
            }
            _ => return None,
        };
        [path, ""].into_iter().find_map(|path| {
            let path =
                [mount, path, file].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
            Some((version, read(&path.join("/"))?))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_in_either_version_whatever_is_mounted() {
        let events = "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n";
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        for (groups, path, text, want) in [
            ("0::/kubepods/pod1/c1\n", "kubepods/pod1/c1/memory.events", events, Some(1)),
            ("0::/\n", "memory.events", events, Some(1)),
            ("0::/../../c1\n", "memory.events", events, Some(1)),
            (
                "9:cpu:/a\n4:memory:/docker/c1\n0::/\n",
                "memory/docker/c1/memory.oom_control",
                control,
                Some(3),
            ),
            ("4:cpu,memory:/docker/c1\n", "memory/memory.oom_control", control, Some(3)),
            ("4:memory:/\n", "memory/memory.oom_control", "oom_kill_disable 0\n", None),
            ("4:pids:/\n", "memory.events", events, None),
            ("", "memory.events", events, None),
        ] {
            let read = |wanted: &str| (wanted == path).then(|| text.to_owned());
            assert_eq!(count(groups, &read), want, "{groups}{path}");
        }
    }

    #[test]
    fn throttling_is_told_in_either_version() {
        let text = "nr_periods 40\nnr_throttled 30\nthrottled_time 12\n";
        for (groups, path) in [
            ("0::/kubepods/c1\n", "kubepods/c1/cpu.stat"),
            ("3:cpu,cpuacct:/docker/c1\n0::/\n", "cpu/docker/c1/cpu.stat"),
        ] {
            let read = |wanted: &str| (wanted == path).then(|| text.to_owned());
            assert_eq!(of_cpu(groups, &read), Some((30, 40)), "{groups}");
            let without = |wanted: &str| (wanted == path).then(|| "usage_usec 7\n".to_owned());
            assert_eq!(of_cpu(groups, &without), None);
        }
    }

    #[test]
    fn memory_is_told_in_either_version() {
        let of = |files: &[(&str, &str)], groups: &str| {
            of_memory(groups, &|wanted| {
                files.iter().find(|(path, _)| *path == wanted).map(|(_, text)| (*text).to_owned())
            })
        };
        let two = [
            ("memory.events", "low 0\nhigh 3\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n"),
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
        ];
        let events = vec![("oom", 2), ("oom_kill", 1), ("max", 12), ("high", 3)];
        let wanted = Memory { current_bytes: Some(1000), limit_bytes: None, events };
        assert_eq!(of(&two, "0::/\n"), Some(wanted));
        let one = [
            ("memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            ("memory/a/memory.usage_in_bytes", "4096\n"),
            ("memory/a/memory.limit_in_bytes", "8192\n"),
            ("memory/a/memory.failcnt", "7\n"),
        ];
        let events = vec![("oom_kill", 3), ("max", 7)];
        let wanted = Memory { current_bytes: Some(4096), limit_bytes: Some(8192), events };
        assert_eq!(of(&one, "4:memory:/a\n"), Some(wanted));
        let unlimited = [one[0], ("memory/a/memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(of(&unlimited, "4:memory:/a\n").unwrap().limit_bytes, None);
        assert_eq!(of(&[], "0::/\n"), None);
    }
}
