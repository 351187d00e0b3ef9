//! What berth and QEMU give up, in stages: each as early as what it takes can no longer be needed.
//!
//! ```text
//!  stage          who                     gives up                                  no longer needed, because
//!  0 `hide`       every verb, first of    being looked into by its uid              nobody debugs it; QEMU may have the
//!                 all                                                               same uid
//!  1 `begin`      the process, before     core files, new privileges                a core holds secrets; no program that
//!                 any other thread                                                  is started needs more
//!  2 `qemu`       the child, between      capabilities, bounding set, all paths     disks, tap, QMP and serial line are
//!                 fork and exec           but programs and libraries, TCP but       handed to it open; it opens KVM and
//!                                         VNC's port, connecting, all other         binds VNC by itself, and starts nothing
//!                                         sockets, others' signals, modes, owners
//!                                         and times of files, its tap's owner
//!  3 `ourselves`  all threads, once it    tracing, mounts, namespaces, modules,     neither it nor QEMU ever does; `net`
//!                 is known what is run    keys, bpf, io_uring; without a QEMU       and `serve` start no program
//!                                         executing as well
//!  4 `packets`    the thread that reads   capabilities; then all files but          its sockets are bound by the main
//!                 DHCP and DNS            resolv.conf and leases, binding TCP,      thread, for a bridge made anew too
//!                                         executing, sockets but UDP and TCP
//!    `idle`       threads of log and      capabilities                              theirs is open from the beginning
//!                 console
//!    `files`      threads that fetch and  capabilities of the network               they write files, as whoever owns them
//!                 make disks
//! ```
//!
//! QEMU's environment is an allow-list at all times (`config::of_qemu`). A kernel that lacks something is named once
//! in the log and shown by `berth status`, as is a plan that does without ([`MachinePlan::unconfined`]).

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::plan::machine::{Accelerator, MachinePlan, VNC_PORT};
use crate::sys::child::Confined;
use crate::sys::ffi;
use crate::sys::landlock::{self, Access, Allowed};
use crate::sys::privilege;
use crate::sys::syscalls::{self, Filter, Refused};

/// Where programs and their libraries are, and what they look at of the machine.
const PROGRAMS: [&str; 13] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/sys/dev/block",
    "/sys/devices",
    "/sys/kernel/mm",
];
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];
const KVM: &str = "/dev/kvm";

/// Where a resolv.conf may lead later: where systems keep theirs. Not the whole of /run, which holds a pod's secrets.
const RESOLV_CONFS: [&str; 5] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/connman",
];

/// Of Landlock, by the version that has it.
const LANDLOCK: [(u32, &str, &str); 5] = [
    (1, "5.13", "QEMU may open all that its uid may"),
    (3, "6.2", "QEMU may truncate what its uid may write"),
    (4, "6.7", "QEMU may wait on any TCP port"),
    (5, "6.10", "QEMU may use any device it may open"),
    (6, "6.12", "QEMU may signal whom its uid may"),
];

/// What a stage could not do, of any thread, for `berth status`.
static FAILED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn remember(failed: &str) {
    let mut all = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if all.iter().all(|known| known != failed) {
        all.push(failed.to_owned());
    }
}

/// Before anything else, whatever the verb: the environment may hold secrets, and QEMU may have this uid where it is not
/// confined. A program that is started is looked into again.
pub fn hide() {
    // Where it matters longer than an answer takes, `begin` tries again and tells.
    let _ = privilege::not_dumpable();
}

/// Stage 1. Returns what could not be done, and what cannot be done later.
pub fn begin() -> Vec<String> {
    let steps = [
        ("PR_SET_DUMPABLE", privilege::not_dumpable()),
        ("RLIMIT_CORE", privilege::no_core_files()),
        ("PR_SET_NO_NEW_PRIVS", privilege::no_new_privileges()),
    ];
    let failed = |(what, done): (&str, io::Result<()>)| {
        done.err().map(|error| {
            format!("{what} refused ({error}): berth is confined less than it could be")
        })
    };
    let failed: Vec<String> = steps.into_iter().filter_map(failed).collect();
    failed.iter().for_each(|failed| remember(failed));
    failed.into_iter().chain(lacking()).collect()
}

/// What this kernel lacks of the confinement.
fn lacking() -> impl Iterator<Item = String> {
    let version = landlock::version();
    let lacks: Vec<String> = LANDLOCK
        .iter()
        .filter(|(since, ..)| version < *since)
        .map(|(_, linux, what)| format!("{what} (Linux {linux})"))
        .collect();
    let landlock =
        (!lacks.is_empty()).then(|| format!("Landlock is not whole here: {}", lacks.join(", ")));
    let filters = (!ffi::has_filters())
        .then(|| "this kernel has no filters of system calls (CONFIG_SECCOMP_FILTER)".to_owned());
    landlock.into_iter().chain(filters)
}

/// What is not confined by plan, or for want of a kernel that does it: for `berth status`.
pub fn unconfined(plan: Option<&MachinePlan>) -> Vec<String> {
    let qemu = plan.and_then(|plan| plan.unconfined.as_ref()).map(|why| format!("QEMU: {why}"));
    qemu.into_iter().chain(lacking()).collect()
}

/// What is not confined because a stage failed, so far.
pub fn failed() -> Vec<String> {
    FAILED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Stage 2, besides what it inherits of stage 3.
pub fn qemu(plan: &MachinePlan) -> io::Result<Option<Confined>> {
    if plan.unconfined.is_some() {
        return Ok(None);
    }
    Ok(Some(Confined { rules: landlock::rules(&of_qemu(plan))?, filter: filter(&[QEMUS])? }))
}

/// None where the kernel has none.
fn filter(refused: &[&[Refused]]) -> io::Result<Option<Filter>> {
    ffi::has_filters().then(|| syscalls::filter(&refused.concat())).transpose()
}

fn of_qemu(plan: &MachinePlan) -> Allowed {
    let programs = PROGRAMS.iter().map(PathBuf::from).chain(installation(&plan.qemu));
    let kvm = plan.attempts.iter().any(|attempt| attempt.accelerator == Accelerator::Kvm);
    let devices = DEVICES.iter().copied().chain(kvm.then_some(KVM)).map(PathBuf::from);
    Allowed {
        files: programs
            .map(|path| (path, Access::Execute))
            .chain(devices.map(|path| (path, Access::Write)))
            .collect(),
        tcp_bind: plan.vnc.iter().map(|_| VNC_PORT).collect(),
        tcp_connect: Some(Vec::new()),
        others: false,
    }
}

/// The program, and where its data and libraries are when it is below a directory of its own, as /opt/qemu/bin.
fn installation(program: &Path) -> Vec<PathBuf> {
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let bin = real.parent().filter(|dir| dir.ends_with("bin"));
    let prefix = bin.and_then(Path::parent).filter(|prefix| {
        prefix.components().any(|component| matches!(component, Component::Normal(_)))
    });
    prefix.map(Path::to_owned).into_iter().chain([real.clone()]).collect()
}

/// Stage 3. `plan` is QEMU's; without one nothing is executed any more. What QEMU may not be refused is not refused here:
/// it inherits the filter.
pub fn ourselves(plan: Option<&MachinePlan>) -> Option<String> {
    let refused: &[&[Refused]] = match plan {
        Some(plan) if plan.unconfined.is_some() => return None,
        Some(_) => &[REFUSED],
        None => &[REFUSED, EXECUTES],
    };
    let bound =
        filter(refused).and_then(|filter| filter.iter().try_for_each(syscalls::restrict_all));
    let failed = bound.err().map(|error| {
        format!(
            "a filter of system calls refused ({error}): berth is confined less than it could be"
        )
    });
    failed.inspect(|failed| remember(failed))
}

/// Stage 4, of the calling thread: first its capabilities.
pub fn packets() -> io::Result<()> {
    privilege::no_new_privileges()?;
    privilege::drop_capabilities()
}

/// Then all but the files it follows or keeps; after those that it makes are there. `resolv_conf` may be a link, and lead
/// elsewhere later: to where the system keeps such files, or within the directory it is in. The directory of the leases may be
/// removed, and is made again: in the one above it.
pub fn packets_to(resolv_conf: Option<&Path>, lease_file: Option<&Path>) -> io::Result<()> {
    keep_only(resolv_conf, lease_file)
        .inspect_err(|error| remember(&format!("the thread that reads packets: {error}")))
}

fn keep_only(resolv_conf: Option<&Path>, lease_file: Option<&Path>) -> io::Result<()> {
    let system = RESOLV_CONFS.iter().map(PathBuf::from);
    let read =
        resolv_conf.into_iter().flat_map(|file| places(file).into_iter().chain(system.clone()));
    let leases: Vec<PathBuf> = lease_file.into_iter().flat_map(places).collect();
    let above: Vec<PathBuf> = leases.iter().filter_map(|dir| above(dir)).collect();
    let written = leases.into_iter().chain(above);
    let allowed = Allowed {
        files: read
            .map(|path| (path, Access::Read))
            .chain(written.map(|path| (path, Access::Write)))
            .collect(),
        ..Allowed::default()
    };
    if let Some(rules) = landlock::rules(&allowed)? {
        landlock::restrict(&rules)?;
    }
    filter(&[EXECUTES, NAME_SERVICE])?.iter().try_for_each(syscalls::restrict)
}

/// The directories of a file: as it was said, and where links lead. Of a file in the root, which is everything, itself: it is
/// read and written in place, and not found again once another one has its name.
fn places(file: &Path) -> Vec<PathBuf> {
    let said = std::path::absolute(file).ok();
    let real = file.canonicalize().ok();
    let files = [said, real].into_iter().flatten().filter(|path| path.file_name().is_some());
    files.map(|path| above(&path).unwrap_or(path)).collect()
}

/// The directory of a path, unless that is the root, by whatever name.
fn above(path: &Path) -> Option<PathBuf> {
    let is_root = |dir: &Path| dir.canonicalize().is_ok_and(|real| real == Path::new("/"));
    path.parent().filter(|dir| !is_root(dir)).map(Path::to_owned)
}

/// Of a thread that fetches images and makes disks.
pub fn files() {
    let _ = privilege::drop_network_capabilities();
}

/// A thread that writes or reads what is open already.
pub fn idle() {
    // One that keeps them does no harm by itself.
    let _ = privilege::drop_capabilities();
}

/// What neither berth nor QEMU ever calls, and who is in their place would.
const REFUSED: &[Refused] = &[
    // Other processes.
    Refused::Always(libc::SYS_ptrace),
    Refused::Always(libc::SYS_process_vm_readv),
    Refused::Always(libc::SYS_process_vm_writev),
    Refused::Always(libc::SYS_process_madvise),
    Refused::Always(libc::SYS_pidfd_getfd),
    Refused::Always(libc::SYS_kcmp),
    // Namespaces and mounts.
    Refused::Always(libc::SYS_unshare),
    Refused::Always(libc::SYS_setns),
    Refused::WithBits(libc::SYS_clone, 0, NAMESPACES),
    // Its flags are in memory, where a filter does not look; the C library makes threads by clone(2) then.
    Refused::Missing(libc::SYS_clone3),
    Refused::Always(libc::SYS_mount),
    Refused::Always(libc::SYS_umount2),
    Refused::Always(libc::SYS_pivot_root),
    Refused::Always(libc::SYS_chroot),
    Refused::Always(libc::SYS_fsopen),
    Refused::Always(libc::SYS_fsconfig),
    Refused::Always(libc::SYS_fsmount),
    Refused::Always(libc::SYS_fspick),
    Refused::Always(libc::SYS_move_mount),
    Refused::Always(libc::SYS_open_tree),
    Refused::Always(libc::SYS_mount_setattr),
    Refused::Always(libc::SYS_open_by_handle_at),
    Refused::Always(libc::SYS_name_to_handle_at),
    Refused::Always(libc::SYS_quotactl),
    Refused::Always(libc::SYS_fanotify_init),
    // Large parts of the kernel.
    Refused::Always(libc::SYS_bpf),
    Refused::Always(libc::SYS_perf_event_open),
    Refused::Always(libc::SYS_userfaultfd),
    Refused::Always(libc::SYS_io_uring_setup),
    Refused::Always(libc::SYS_io_uring_enter),
    Refused::Always(libc::SYS_io_uring_register),
    Refused::Always(libc::SYS_add_key),
    Refused::Always(libc::SYS_keyctl),
    Refused::Always(libc::SYS_request_key),
    // The machine.
    Refused::Always(libc::SYS_init_module),
    Refused::Always(libc::SYS_finit_module),
    Refused::Always(libc::SYS_delete_module),
    Refused::Always(libc::SYS_kexec_load),
    Refused::Always(libc::SYS_reboot),
    Refused::Always(libc::SYS_swapon),
    Refused::Always(libc::SYS_swapoff),
    Refused::Always(libc::SYS_acct),
    Refused::Always(libc::SYS_syslog),
    Refused::Always(libc::SYS_vhangup),
    Refused::Always(libc::SYS_sethostname),
    Refused::Always(libc::SYS_setdomainname),
    Refused::Always(libc::SYS_settimeofday),
    Refused::Always(libc::SYS_clock_settime),
    Refused::Always(libc::SYS_clock_adjtime),
    Refused::Always(libc::SYS_adjtimex),
];
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h).
const NAMESPACES: u32 = 0x7e02_0000;
/// What QEMU does not call besides, its disks, tap and monitor handed to it open.
const QEMUS: &[Refused] = &[
    // Of its tap, which outlives it, it sets offloads and the like. Owner, group, persistence, hardware address, and which
    // tap it is are berth's. What it opens itself is Landlock's.
    Refused::With(
        libc::SYS_ioctl,
        1,
        &[TUNSETOWNER, TUNSETGROUP, TUNSETPERSIST, TUNSETIFF, SIOCSIFHWADDR],
    ),
    // Its sockets are VNC's: TCP, bound to the port that Landlock leaves it, waiting for others. MPTCP and SCTP are not seen
    // by Landlock, nor are UNIX sockets in the file system.
    Refused::Unless(libc::SYS_socket, 0, &[INET, INET6]),
    Refused::Unless(libc::SYS_socket, 1, STREAMS),
    Refused::Unless(libc::SYS_socket, 2, &[0, TCP]),
    Refused::Always(libc::SYS_socketpair),
    Refused::Always(libc::SYS_connect),
    Refused::WithBits(libc::SYS_sendto, 3, FASTOPEN),
    Refused::WithBits(libc::SYS_sendmsg, 2, FASTOPEN),
    Refused::WithBits(libc::SYS_sendmmsg, 3, FASTOPEN),
    // Modes, owners, attributes and times of what its uid owns, which no rule of Landlock covers: the next start finds disks
    // and directories as they were. Writing what it was handed needs none of them.
    #[cfg(target_arch = "x86_64")]
    Refused::Always(libc::SYS_chmod),
    Refused::Always(libc::SYS_fchmod),
    Refused::Always(libc::SYS_fchmodat),
    Refused::Always(FCHMODAT2),
    #[cfg(target_arch = "x86_64")]
    Refused::Always(libc::SYS_chown),
    #[cfg(target_arch = "x86_64")]
    Refused::Always(libc::SYS_lchown),
    Refused::Always(libc::SYS_fchown),
    Refused::Always(libc::SYS_fchownat),
    Refused::Always(libc::SYS_setxattr),
    Refused::Always(libc::SYS_lsetxattr),
    Refused::Always(libc::SYS_fsetxattr),
    Refused::Always(SETXATTRAT),
    Refused::Always(libc::SYS_removexattr),
    Refused::Always(libc::SYS_lremovexattr),
    Refused::Always(libc::SYS_fremovexattr),
    Refused::Always(REMOVEXATTRAT),
    Refused::Always(FILE_SETATTR),
    #[cfg(target_arch = "x86_64")]
    Refused::Always(libc::SYS_utime),
    #[cfg(target_arch = "x86_64")]
    Refused::Always(libc::SYS_utimes),
    #[cfg(target_arch = "x86_64")]
    Refused::Always(libc::SYS_futimesat),
    Refused::Always(libc::SYS_utimensat),
    // Limits and scheduling of other processes of its uid: 0 is the caller. By a group or a uid they are meant, too.
    Refused::Unless(libc::SYS_prlimit64, 0, &[0]),
    Refused::Unless(libc::SYS_sched_setaffinity, 0, &[0]),
    Refused::Unless(libc::SYS_sched_setscheduler, 0, &[0]),
    Refused::Unless(libc::SYS_sched_setparam, 0, &[0]),
    Refused::Unless(libc::SYS_sched_setattr, 0, &[0]),
    Refused::Always(libc::SYS_setpriority),
    Refused::Always(libc::SYS_ioprio_set),
];
/// Since these every architecture has the same numbers, and the libc crate not all of them.
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const FILE_SETATTR: i64 = 469;
/// linux/if_tun.h, linux/sockios.h.
const TUNSETIFF: u32 = 0x4004_54ca;
const TUNSETPERSIST: u32 = 0x4004_54cb;
const TUNSETOWNER: u32 = 0x4004_54cc;
const TUNSETGROUP: u32 = 0x4004_54ce;
const SIOCSIFHWADDR: u32 = 0x8924;
/// socket(2): AF_INET, AF_INET6; SOCK_STREAM with and without SOCK_NONBLOCK and SOCK_CLOEXEC; IPPROTO_TCP. send(2):
/// MSG_FASTOPEN.
const INET: u32 = 2;
const INET6: u32 = 10;
const STREAMS: &[u32] = &[0x1, 0x801, 0x8_0001, 0x8_0801];
const TCP: u32 = 6;
const FASTOPEN: u32 = 0x2000_0000;
/// To name servers.
const NAME_SERVICE: &[Refused] = &[Refused::Unless(libc::SYS_socket, 0, &[INET, INET6])];
const EXECUTES: &[Refused] =
    &[Refused::Always(libc::SYS_execve), Refused::Always(libc::SYS_execveat)];

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel tries each instruction with each call there is, whenever QEMU starts.
    #[test]
    fn filters_are_short() {
        let lengths = [&[REFUSED][..], &[REFUSED, EXECUTES], &[QEMUS], &[EXECUTES, NAME_SERVICE]]
            .map(|refused| filter(refused).unwrap().unwrap().len());
        assert!(lengths.iter().all(|length| *length <= 160), "{lengths:?}");
    }

    #[test]
    fn the_place_of_a_file_is_its_directory_and_never_the_root() {
        let of = |file: &str| places(Path::new(file));
        assert_eq!(of("/no-such/file"), [PathBuf::from("/no-such")]);
        assert_eq!(of("/no-such-file"), [PathBuf::from("/no-such-file")]);
        assert_eq!(of("/usr/../no-such-file"), [PathBuf::from("/usr/../no-such-file")]);
        assert_eq!(of("/"), Vec::<PathBuf>::new());
        assert_eq!(of("no-such-file"), [std::env::current_dir().unwrap()]);
    }

    #[test]
    fn an_installation_is_its_prefix_and_never_the_root() {
        let of = |program: &str| installation(Path::new(program));
        assert_eq!(
            of("/opt/no-such/bin/qemu"),
            ["/opt/no-such", "/opt/no-such/bin/qemu"].map(PathBuf::from)
        );
        assert_eq!(of("/no-such/qemu"), [PathBuf::from("/no-such/qemu")]);
        assert_eq!(of("/bin/no-such"), [PathBuf::from("/bin/no-such")]);
    }
}
