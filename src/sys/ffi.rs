//! The only `unsafe` code: system calls no crate wraps safely. One operation per block, each with its reason.
#![allow(unsafe_code)]

// ── tun ──

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `struct ifreq` as the tun driver reads it (linux/if.h): a name, then 16-bit flags, 40 octets in all.
#[repr(C)]
struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// TUNSETIFF (linux/if_tun.h): makes or joins the tap `name` with these flags.
pub fn tun_set_iff(tun: &File, name: &str, flags: u16) -> io::Result<()> {
    let mut request = IfReq { name: [0; libc::IFNAMSIZ], flags, rest: [0; 22] };
    for (slot, byte) in request.name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *slot = byte;
    }
    // SAFETY: the descriptor is open for the call, and `request` is a whole, initialised ifreq the driver
    // reads and writes within its 40 octets.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// TUNSETPERSIST: the tap stays when its last descriptor closes.
pub(crate) fn tun_set_persist(tun: &File) -> io::Result<()> {
    // SAFETY: the argument is a plain number; nothing is read from memory.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST, 1) })
}

/// TUNSETOWNER: this uid may attach without CAP_NET_ADMIN.
pub(crate) fn tun_set_owner(tun: &File, uid: u32) -> io::Result<()> {
    // SAFETY: the argument is a plain number; nothing is read from memory.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOWNER, libc::c_ulong::from(uid)) })
}

/// TUNGETFEATURES (linux/if_tun.h): what the driver can do; an error where it is no TUN device.
pub(crate) fn tun_features(tun: &File) -> io::Result<u32> {
    let mut features: libc::c_uint = 0;
    // SAFETY: the descriptor is open for the call, and `features` is the unsigned int that the driver writes.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETFEATURES, &raw mut features) })?;
    Ok(features)
}

/// KVM_GET_API_VERSION (linux/kvm.h): 12 for ever; an error where it is no KVM device.
pub(crate) fn kvm_api_version(kvm: &File) -> io::Result<u32> {
    // SAFETY: the argument is a plain number; nothing is read from memory.
    let version = unsafe { libc::ioctl(kvm.as_raw_fd(), KVM_GET_API_VERSION, 0) };
    check(version)?;
    Ok(u32::try_from(version).unwrap_or(0))
}

/// _IO(KVMIO, 0)
const KVM_GET_API_VERSION: libc::Ioctl = 0xae00;

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// ── files ──

/// Whether another open file description holds a lock of the given file that conflicts with a write lock on all
/// of it (F_OFD_GETLK, fcntl(2)).
pub(crate) fn locked_by_another(file: &File) -> io::Result<bool> {
    let write = libc::c_short::try_from(libc::F_WRLCK).unwrap_or(1);
    let free = libc::c_short::try_from(libc::F_UNLCK).unwrap_or(2);
    // The kernel wants l_pid zero; a length of zero reaches to the end of the file, however far.
    let mut wanted = libc::flock { l_type: write, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    // SAFETY: the descriptor is open for the call, and `wanted` is a whole flock the kernel reads and writes.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut wanted) })?;
    Ok(wanted.l_type != free)
}

// ── sockets ──

/// SO_NO_CHECK (socket(7)): datagrams go out with the checksum zero, which means that there is none.
pub(crate) fn set_no_check(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` is a whole int and its length is given; the kernel reads it during the call only.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4),
        )
    })
}

/// Binds a packet socket to one link (packet(7)), to send whole frames and to receive those of one protocol; with 0
/// none.
pub fn bind_packet(socket: &impl AsRawFd, link: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: every field of sockaddr_ll is a number; all zero is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(link).unwrap_or(0);
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    // SAFETY: `address` is initialised and lives through the call; its true length is given.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })
}

// ── descriptors ──

/// A descriptor whose readiness is awaited.
pub(crate) fn awaited(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open as long as it lives, and is the same descriptor all the while.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

// ── malloc ──

/// No memory of its own for each thread (M_ARENA_MAX, mallopt(3)): ours allocate little at a time, and seldom two at once.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two numbers; before the first thread it changes nothing that is in use.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

// ── Landlock ──

use std::os::fd::BorrowedFd;

/// The version of Landlock's interface (landlock_create_ruleset(2)); 0 where the kernel has none.
pub(crate) fn landlock_version() -> u32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel reads no memory and makes no descriptor.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, VERSION) };
    u32::try_from(version).unwrap_or(0)
}

/// landlock_restrict_self(2). A system call only: a child may do it before its exec.
pub(crate) fn landlock_restrict(rules: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: two numbers; the descriptor is open for the call.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// ── seccomp ──

/// Whether filters of system calls can be had (SECCOMP_GET_ACTION_AVAIL, seccomp(2)).
pub(crate) fn has_filters() -> bool {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads the action, a whole u32 that lives through the call, and nothing else.
    unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0
    }
}

// ── spawn ──

use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{privilege, syscalls};
use rustix::process::{Gid, Pid, Signal, Uid};

/// What a child does to itself between fork and exec.
#[derive(Debug)]
pub(crate) struct BeforeExec {
    /// (open descriptor, number it must have in the program). Both kept open by the caller until the spawn.
    pub descriptors: Vec<(RawFd, RawFd)>,
    /// uid, gid, supplementary groups.
    pub user: Option<(Uid, Gid, Vec<Gid>)>,
    /// Whose death is the child's.
    pub parent: Pid,
    /// `/proc/thread-self/stat` of the thread that starts it; above all numbers of `descriptors`.
    pub thread: File,
    /// What it gives up; None: what our uid and capabilities allow is the child's too.
    pub confined: Option<Confined>,
}

/// What a child gives up before it becomes the program.
#[derive(Debug)]
pub struct Confined {
    /// Landlock's rules, where there are any.
    pub rules: Option<OwnedFd>,
    /// Its system calls.
    pub filter: Option<syscalls::Filter>,
}

/// Makes `command` do `setup` in the child, in an order that matters: uid last of the identity, since only
/// root may change the rest, PR_SET_PDEATHSIG after it, since a change of uid clears it (`prctl(2)`), and the filter of system
/// calls last.
pub(crate) fn before_exec(command: &mut Command, setup: BeforeExec) {
    let closure = move || in_child(&setup);
    // SAFETY: the closure runs between fork and exec of a process that may have threads. It makes system calls
    // only: no allocation, no lock, nothing of another thread.
    unsafe { command.pre_exec(closure) };
}

fn in_child(setup: &BeforeExec) -> io::Result<()> {
    // Whoever started us may have left descriptors open. A kernel before 5.11 refuses: then those stay.
    // SAFETY: changes flags of descriptors only; none is closed before exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    for (open, number) in &setup.descriptors {
        // SAFETY: dup2 reads no memory. `open` is held open by the caller of `before_exec`; `number` is reserved
        // by it, so that no descriptor of the standard library (its exec-error pipe) is overwritten.
        if unsafe { libc::dup2(*open, *number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    for signal in 1..=31 {
        // SAFETY: SIG_DFL is a valid disposition and no handler is replaced that anyone in this process, about
        // to become another program, relies on. SIGKILL and SIGSTOP refuse; that is no harm.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    if setup.confined.is_some() {
        privilege::empty_bounding_set();
    }
    if let Some((uid, gid, groups)) = &setup.user {
        rustix::thread::set_thread_groups(groups)?;
        rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
        rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if let Some(Confined { rules, filter }) = &setup.confined {
        privilege::drop_capabilities()?;
        rules.as_ref().map_or(Ok(()), |rules| landlock_restrict(rules.as_fd()))?;
        filter.iter().try_for_each(syscalls::restrict)?;
    }
    // The parent may have died before its death was the child's. Its threads end one by one: whoever is left inherits the
    // child, and may not be allowed to send it the signal. Looked at last, since a thread is a zombie a moment after that.
    if rustix::process::getppid() != Some(setup.parent) || has_ended(&setup.thread) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Whether the thread of an open `/proc/PID/task/TID/stat` has ended (proc_pid_stat(5)): a leader stays as a zombie until the
/// other threads have. Allocates nothing.
fn has_ended(stat: &File) -> bool {
    let mut text = [0; 128];
    let Ok(length) = rustix::io::pread(stat, &mut text, 0) else {
        return true;
    };
    let line = text.get(..length).unwrap_or_default();
    // Behind the name, which may have any character in it. No later field has a bracket.
    let state = line.iter().rposition(|&byte| byte == b')').and_then(|end| line.get(end + 2));
    matches!(state, None | Some(b'Z' | b'X'))
}

/// The pid of a child that has ended and is not reaped yet, if there is one; it stays unreaped.
pub(crate) fn ended_child() -> Option<Pid> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: siginfo_t is plain data of the kernel's; all zero is the value waitid leaves for "no child".
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a valid siginfo_t that outlives the call; P_ALL ignores the id.
    if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) } < 0 {
        return None;
    }
    // SAFETY: waitid succeeded, so the SIGCHLD part of the union is what the kernel filled in, or still zero.
    Pid::from_raw(unsafe { info.si_pid() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_ended_when_it_is_gone_or_a_zombie() {
        let ours = || File::open("/proc/thread-self/stat").unwrap();
        assert!(!has_ended(&ours()));
        let named = std::thread::Builder::new().name("a) Z (b".to_owned());
        let thread = named.spawn(move || {
            let stat = ours();
            assert!(!has_ended(&stat));
            stat
        });
        let stat = thread.unwrap().join().unwrap();
        // The kernel may need a moment after the thread's last word.
        while !has_ended(&stat) {
            std::thread::yield_now();
        }
        #[expect(clippy::disallowed_methods, reason = "its end is what is looked at")]
        let mut child = Command::new("true").spawn().unwrap();
        let stat = File::open(format!("/proc/{}/stat", child.id())).unwrap();
        while !has_ended(&stat) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(has_ended(&stat));
    }

    #[test]
    fn a_child_whose_thread_has_ended_does_not_become_the_program() {
        let stat = || File::open("/proc/thread-self/stat").unwrap();
        let started = |thread| {
            #[expect(clippy::disallowed_methods, reason = "what is done before exec")]
            let mut command = Command::new("true");
            let parent = rustix::process::getpid();
            let (descriptors, user, confined) = (Vec::new(), None, None);
            before_exec(&mut command, BeforeExec { descriptors, user, parent, thread, confined });
            command.spawn().and_then(|mut child| child.wait())
        };
        assert!(started(stat()).unwrap().success());
        let ended = std::thread::spawn(stat).join().unwrap();
        while !has_ended(&ended) {
            std::thread::yield_now();
        }
        assert_eq!(started(ended).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
