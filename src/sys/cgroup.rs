//! The control group we are in (`cgroups(7)`), as far as the kernel's killer of processes counts there.

use std::path::Path;

const ROOT: &str = "/sys/fs/cgroup";

/// How many processes of our memory cgroup were killed for want of memory so far: theirs, or the machine's. None where
/// that cannot be read.
pub(crate) fn oom_kills() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    count(&groups, &|path| std::fs::read_to_string(Path::new(ROOT).join(path)).ok())
}

/// Version 2 counts in `memory.events`, version 1 in `memory.oom_control`. A container may see its own group as the root
/// of the mount although its path is another one.
fn count(groups: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_matches('/'));
        let (mount, file) = match controllers {
            "" => ("", "memory.events"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("memory", "memory.oom_control")
            }
            _ => return None,
        };
        [path, ""].into_iter().find_map(|path| {
            let path =
                [mount, path, file].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
            let text = read(&path.join("/"))?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
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
}
