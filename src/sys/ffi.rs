//! The only `unsafe` code: system calls no crate wraps safely. One operation per block, each with its reason.
#![allow(unsafe_code)]

// ── spawn ──

use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Pid, Signal, Uid};

/// What a child does to itself between fork and exec.
#[derive(Debug)]
pub struct BeforeExec {
    /// (open descriptor, number it must have in the program). Both kept open by the caller until the spawn.
    pub descriptors: Vec<(RawFd, RawFd)>,
    /// uid, gid, supplementary groups.
    pub user: Option<(Uid, Gid, Vec<Gid>)>,
    /// Whose death is the child's.
    pub parent: Pid,
}

/// Makes `command` do `setup` in the child, in an order that matters: uid last of the identity, since only
/// root may change the rest, and PR_SET_PDEATHSIG after it, since a change of uid clears it (`prctl(2)`).
pub fn before_exec(command: &mut Command, setup: BeforeExec) {
    let closure = move || in_child(&setup);
    // SAFETY: the closure runs between fork and exec of a process that may have threads. It makes system calls
    // only: no allocation, no lock, nothing of another thread.
    unsafe { command.pre_exec(closure) };
}

fn in_child(setup: &BeforeExec) -> std::io::Result<()> {
    // Whoever started us may have left descriptors open. A kernel before 5.11 refuses: then those stay.
    // SAFETY: changes flags of descriptors only; none is closed before exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    for (open, number) in &setup.descriptors {
        // SAFETY: dup2 reads no memory. `open` is held open by the caller of `before_exec`; `number` is reserved
        // by it, so that no descriptor of the standard library (its exec-error pipe) is overwritten.
        if unsafe { libc::dup2(*open, *number) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    for signal in 1..=31 {
        // SAFETY: SIG_DFL is a valid disposition and no handler is replaced that anyone in this process, about
        // to become another program, relies on. SIGKILL and SIGSTOP refuse; that is no harm.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    if let Some((uid, gid, groups)) = &setup.user {
        rustix::thread::set_thread_groups(groups)?;
        rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
        rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(setup.parent) {
        // The parent died before the line above could see it.
        return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// The pid of a child that has ended and is not reaped yet, if there is one; it stays unreaped.
pub fn ended_child() -> Option<Pid> {
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
