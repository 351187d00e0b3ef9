//! What the kernel tells of a process and of its threads (proc(5)), and of connections. `stat`, `status` and `schedstat` are
//! for everybody; `io` and `smaps` of a process of another uid are not, and are not read.

use std::fs;
use std::io;
use std::path::Path;

/// A process: processor time in ticks, memory in octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Process {
    /// Of all its threads, in [`ticks_per_second`].
    pub user_ticks: u64,
    pub system_ticks: u64,
    pub anon_bytes: u64,
    /// Of files and of shared memory.
    pub file_bytes: u64,
    pub threads: u64,
}

/// `sysconf(3)`, `_SC_CLK_TCK`.
pub fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

/// The process with this number; None: berth itself.
pub fn process(pid: Option<u32>) -> io::Result<Process> {
    let dir = pid.map_or_else(|| "/proc/self".to_owned(), |pid| format!("/proc/{pid}"));
    let read = |name: &str| fs::read_to_string(Path::new(&dir).join(name));
    parse(&read("stat")?, &read("status")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A thread of a process: how long it ran, and how long it waited for a processor, in ns.
pub fn thread(pid: u32, tid: u64) -> io::Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat"))?;
    let mut fields = text.split_whitespace().map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(run)), Some(Ok(wait))) => Ok((run, wait)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Connections in the namespace's table, and how many it takes. None: conntrack is not loaded.
pub fn conntrack() -> Option<(u64, u64)> {
    let read = |name: &str| {
        let text = fs::read_to_string(Path::new("/proc/sys/net/netfilter").join(name)).ok()?;
        text.trim().parse().ok()
    };
    Some((read("nf_conntrack_count")?, read("nf_conntrack_max")?))
}

/// Octets of a file system, and how many of them are free for us (statvfs(3)).
pub fn volume(path: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(path)?;
    Ok((
        found.f_blocks.saturating_mul(found.f_frsize),
        found.f_bavail.saturating_mul(found.f_frsize),
    ))
}

fn parse(stat: &str, status: &str) -> Option<Process> {
    // The name may hold anything, brackets and spaces too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse);
    let (user_ticks, system_ticks) = (fields.next()?.ok()?, fields.next()?.ok()?);
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let kib = |name: &str| line(name).map(|kib| kib.saturating_mul(1024));
    Some(Process {
        user_ticks,
        system_ticks,
        anon_bytes: kib("RssAnon")?,
        file_bytes: kib("RssFile")?.saturating_add(kib("RssShmem")?),
        threads: line("Threads")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 17 5 0 0 20 0 3 0 100 1000 200";
        let status = "Name:\ta\nVmRSS:\t 30 kB\nRssAnon:\t 10 kB\nRssFile:\t 19 kB\nRssShmem:\t 1 kB\nThreads:\t3\n";
        let wanted = Process {
            user_ticks: 17,
            system_ticks: 5,
            anon_bytes: 10_240,
            file_bytes: 20_480,
            threads: 3,
        };
        assert_eq!(parse(stat, status), Some(wanted));
        // A zombie has no memory.
        assert_eq!(parse(stat, "Name:\ta\nThreads:\t1\n"), None);
        assert_eq!(parse("42 (a S 1", status), None);
    }

    #[test]
    fn berth_itself_and_its_volume_are_there() {
        let found = process(None).unwrap();
        assert!(found.threads >= 1 && found.anon_bytes > 0, "{found:?}");
        assert!(process(Some(std::process::id())).unwrap().file_bytes > 0);
        let (size, free) = volume(Path::new("/")).unwrap();
        assert!(size >= free && size > 0);
        assert!(process(Some(u32::MAX)).is_err());
    }
}
