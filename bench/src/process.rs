//! Programs that are measured: started, ended with their owner, and what the kernel says of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, at};

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Without input and output.
pub fn started(what: &str, mut command: Command) -> Result<Running, Error> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    at(format!("starting {what}"), command.spawn()).map(Running)
}

/// By its id: `ip netns exec` and `unshare` become the program they run.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let pid = Pid::from_raw(self.0.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(kill_process(pid, signal)?)
    }

    /// User and system time of all its threads, to 10 ms.
    pub fn cpu(self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 =
            fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    pub fn rss_kib(self) -> Option<u64> {
        self.field("status", "VmRSS:")
    }

    /// The most it ever was.
    pub fn peak_rss_kib(self) -> Option<u64> {
        self.field("status", "VmHWM:")
    }

    pub fn pss_kib(self) -> Option<u64> {
        self.field("smaps_rollup", "Pss:")
    }

    pub fn threads(self) -> Option<u64> {
        self.field("status", "Threads:")
    }

    /// How often each of its threads went to sleep by itself: each time something had woken it.
    pub fn wake_ups(self) -> WakeUps {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.0)).into_iter().flatten().flatten();
        let of = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("status")).ok()?;
            Some((task.file_name(), value(&text, "voluntary_ctxt_switches:")?))
        };
        WakeUps(tasks.filter_map(of).collect())
    }

    fn field(self, file: &str, label: &str) -> Option<u64> {
        value(&std::fs::read_to_string(format!("/proc/{}/{file}", self.0)).ok()?, label)
    }
}

/// By thread.
#[derive(Debug)]
pub struct WakeUps(BTreeMap<OsString, u64>);

impl WakeUps {
    /// Those since an earlier look; a thread that has ended meanwhile is not counted.
    pub fn since(&self, before: &Self) -> u64 {
        let of = |(thread, count): (&OsString, &u64)| {
            count - before.0.get(thread).unwrap_or(&0).min(count)
        };
        self.0.iter().map(of).sum()
    }
}

fn value(text: &str, label: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(label))?.split_whitespace().next()?.parse().ok()
}
