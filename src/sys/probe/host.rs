//! QEMU, and what this container may use of the machine.

use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use super::Error;
use crate::config::Config;
use crate::facts::Host;
use crate::sys::{cgroup, ffi, privilege};

/// linux/kvm.h: the same for ever.
const KVM_API_VERSION: u32 = 12;

pub(super) fn host(config: &Config) -> Result<Host, Error> {
    let opens = |path| OpenOptions::new().read(true).write(true).open(path).is_ok();
    Ok(Host {
        qemu: program(&config.machine.qemu, &config.machine.search_path)?,
        cpus: cpus(),
        kvm: is_kvm(),
        vhost_net: opens("/dev/vhost-net"),
        uid: rustix::process::geteuid().as_raw(),
        kvm_gid: fs::metadata("/dev/kvm").ok().map(|metadata| metadata.gid()),
        can_kill: privilege::has(CapabilitySet::KILL),
        memory_limit_bytes: cgroup::memory().and_then(|memory| memory.limit_bytes),
    })
}

/// What opens and is something else would be found out by QEMU, in words of its own.
fn is_kvm() -> bool {
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    kvm.is_ok_and(|kvm| ffi::kvm_api_version(&kvm).is_ok_and(|version| version == KVM_API_VERSION))
}

/// CPUs this process may run on (`sched_getaffinity(2)`); 0 when they cannot be counted.
fn cpus() -> u32 {
    rustix::thread::sched_getaffinity(None).map_or(0, |set| set.count())
}

/// As `execvp(3)` looks a program up.
fn program(name: &Path, search_path: &[PathBuf]) -> Result<PathBuf, Error> {
    let executable = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    };
    let candidates: Vec<PathBuf> = if name.as_os_str().as_bytes().contains(&b'/') {
        vec![name.to_owned()]
    } else {
        search_path.iter().map(|dir| dir.join(name)).collect()
    };
    candidates.into_iter().find(executable).ok_or_else(|| Error::NoQemu(name.to_owned()))
}
