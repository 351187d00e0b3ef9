//! Starting QEMU and hearing of its end: the only place that executes a program.
//!
//! The child gets exactly the descriptors it is handed, at the numbers its command line names, its own process
//! group (a terminal's Ctrl-C is ours to translate), no stdin, default signals, the environment it is given, no way to gain privileges, and
//! dies with the thread that started it (`prctl(2)`, PR_SET_PDEATHSIG): that thread must live as long as the
//! child is to. Signals are not sent by pid alone: `std::process::Child` never signals a pid it has reaped.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Gid, Pid, Uid, WaitOptions};

use super::beneath::Beneath;
pub use super::ffi::Confined;
use super::ffi::{BeforeExec, before_exec, ended_child};

/// What to start.
#[derive(Debug)]
pub struct Order<'a> {
    /// The program, looked up in `PATH` when it has no slash, and its arguments. Not empty.
    pub words: &'a [String],
    /// Open files by the number they are to have in the child; closed here once it is started.
    pub handed: Vec<(RawFd, OwnedFd)>,
    /// None: the child keeps our uid, groups and capabilities.
    pub user: Option<User>,
    /// The whole of its environment.
    pub environment: Vec<(&'static str, OsString)>,
    /// What it gives up.
    pub confined: Option<Confined>,
}

/// Whom the child runs as. Needs CAP_SETUID and CAP_SETGID; a uid other than 0 leaves it no capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
}

/// How a child ended: its exit code, or the signal that killed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

/// Starts the program. The second value is the pipe its stdout and stderr go to.
///
/// # Errors
/// Those of pipe, fork, the changes of identity and exec; a missing program is `NotFound`.
pub fn spawn(order: Order<'_>) -> io::Result<(Child, OwnedFd)> {
    let Some((program, arguments)) = order.words.split_first() else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let (output, input) = io::pipe()?;
    #[expect(clippy::disallowed_methods, reason = "the one place that executes a program")]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input)
        .process_group(0);
    command.env_clear().envs(order.environment);
    let (raised, reserved) = reserve(&order.handed)?;
    let confined = order.confined.map(|confined| above(&order.handed, confined)).transpose()?;
    let stat = File::open("/proc/thread-self/stat")?;
    let thread = rustix::io::fcntl_dupfd_cloexec(stat, first_free(&order.handed))?.into();
    before_exec(
        &mut command,
        BeforeExec {
            descriptors: raised.iter().map(|(number, fd)| (fd.as_raw_fd(), *number)).collect(),
            user: order.user.map(|user| {
                let groups = user.groups.into_iter().map(Gid::from_raw).collect();
                (Uid::from_raw(user.uid), Gid::from_raw(user.gid), groups)
            }),
            parent: rustix::process::getpid(),
            thread,
            confined,
        },
    );
    let inner = command.spawn()?;
    drop((raised, reserved));
    Ok((Child { inner }, output.into()))
}

/// Asks this process to stop, as whoever started it would.
pub fn terminate_ourselves() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
}

/// Copies of the descriptors above all numbers wanted, and something open at each of these numbers: so that
/// one dup2 does not overwrite the source of another, nor a pipe that `Command` opens for itself.
#[expect(clippy::type_complexity, reason = "two lists that live until the child is started")]
fn reserve(handed: &[(RawFd, OwnedFd)]) -> io::Result<(Vec<(RawFd, OwnedFd)>, Vec<OwnedFd>)> {
    let above = first_free(handed);
    let mut raised = Vec::new();
    let mut reserved = Vec::new();
    for (number, fd) in handed {
        raised.push((*number, rustix::io::fcntl_dupfd_cloexec(fd, above)?));
        reserved.push(rustix::io::fcntl_dupfd_cloexec(fd, *number)?);
    }
    Ok((raised, reserved))
}

fn first_free(handed: &[(RawFd, OwnedFd)]) -> RawFd {
    handed.iter().map(|(number, _)| number + 1).max().unwrap_or(0)
}

/// Its rules are above all numbers wanted, too.
fn above(handed: &[(RawFd, OwnedFd)], confined: Confined) -> io::Result<Confined> {
    let raise = |rules: OwnedFd| rustix::io::fcntl_dupfd_cloexec(rules, first_free(handed));
    Ok(Confined { rules: confined.rules.map(raise).transpose()?, ..confined })
}

impl Child {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// SIGKILL. Does nothing to a child that has ended. Needs CAP_KILL when the child has another uid.
    pub fn kill(&mut self) -> io::Result<()> {
        self.inner.kill()
    }

    /// How it ended, or None while it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<Ended>> {
        let Some(status) = self.inner.try_wait()? else {
            return Ok(None);
        };
        Ok(Some(match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Code(code),
            (None, signal) => Ended::Signal(signal.unwrap_or(0)),
        }))
    }
}

impl Drop for Child {
    /// No QEMU without a supervisor: a child that is let go is killed. It is not waited for: the kernel may not
    /// let go of it, and only its zombie would be left.
    fn drop(&mut self) {
        if matches!(self.inner.try_wait(), Ok(None)) {
            let _ = self.inner.kill();
        }
    }
}

/// As PID 1, buries every process that was left to us, except `child`: its status is not ours to take.
/// Call on SIGCHLD, after [`Child::try_wait`]. Does nothing unless we are PID 1.
pub(crate) fn reap_orphans(child: Option<&Child>) {
    if !rustix::process::getpid().is_init() {
        return;
    }
    let ours = child.and_then(|child| Pid::from_raw(i32::try_from(child.pid()).ok()?));
    while let Some(dead) = ended_child() {
        // Our child ended since `try_wait`: a SIGCHLD for it is under way, and the rest is buried then.
        if Some(dead) == ours || rustix::process::waitpid(Some(dead), WaitOptions::NOHANG).is_err()
        {
            return;
        }
    }
}

/// Whether this process ignores a signal (`SigIgn` of proc_pid_status(5)): before a handler is set, whoever started us
/// wanted it so.
pub(crate) fn ignores(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).unwrap_or(0) & 1 == 1)
}

/// Opens a disk for handing over. Regular files and block devices; a read-only one is never written.
pub(crate) fn open_disk(path: &Path, writable: bool, files: &Beneath) -> io::Result<OwnedFd> {
    let file = if writable { files.write(path) } else { files.read(path) };
    file.map(OwnedFd::from)
}

/// Becomes another program (`execvp(3)`); returns only the reason why not.
#[expect(clippy::disallowed_methods, reason = "the one place that executes a program")]
pub fn become_program(program: &str, arguments: &[OsString]) -> io::Error {
    Command::new(program).args(arguments).exec()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn file(content: &str) -> OwnedFd {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(content.as_bytes()).unwrap();
        reader.into()
    }

    fn run(words: &[&str], handed: Vec<(RawFd, OwnedFd)>) -> io::Result<(Ended, String)> {
        run_confined(words, handed, None)
    }

    fn run_confined(
        words: &[&str],
        handed: Vec<(RawFd, OwnedFd)>,
        confined: Option<Confined>,
    ) -> io::Result<(Ended, String)> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let environment = vec![("PATH", "/usr/bin:/bin".into())];
        let (mut child, output) =
            spawn(Order { words: &words, handed, user: None, environment, confined })?;
        let mut text = String::new();
        File::from(output).read_to_string(&mut text).unwrap();
        loop {
            if let Some(ended) = child.try_wait().unwrap() {
                return Ok((ended, text));
            }
            std::thread::yield_now();
        }
    }

    /// The rules are moved out of the way, and nothing that is opened later takes their number.
    #[test]
    fn a_number_wanted_may_be_that_of_the_rules() {
        use crate::sys::landlock::{Access, Allowed, rules};
        let files = vec![("/".into(), Access::Execute)];
        let allowed = Allowed { files, others: true, ..Allowed::default() };
        let Some(rules) = rules(&allowed).unwrap() else {
            return println!("no Landlock here: nothing to move");
        };
        let number = rules.as_raw_fd();
        let handed = (number..number + 4).map(|number| (number, file("x"))).collect();
        let confined = Confined { rules: Some(rules), filter: None };
        // Not sh: Debian's knows numbers of one digit alone.
        let words = ["bash", "-c", &format!("cat <&{number}")];
        let ran = run_confined(&words, handed, Some(confined)).unwrap();
        assert_eq!(ran, (Ended::Code(0), "x".to_owned()));
    }

    #[test]
    fn descriptors_that_want_each_others_numbers_arrive() {
        let (a, b) = (file("a"), file("b"));
        let (number_a, number_b) = (a.as_raw_fd(), b.as_raw_fd());
        let paths = [number_b, number_a].map(|number| format!("/proc/self/fd/{number}"));
        let got = run(&["cat", &paths[0], &paths[1]], vec![(number_b, a), (number_a, b)]).unwrap();
        assert_eq!(got, (Ended::Code(0), "ab".to_owned()));
    }

    #[test]
    fn nothing_but_what_is_handed_over_is_open_in_the_child() {
        let _unrelated = file("not for the child");
        let (ended, text) =
            run(&["ls", "/proc/self/fd"], vec![(20, file("a")), (21, file("b"))]).unwrap();
        // 3 is the directory that ls reads.
        assert_eq!((ended, text.as_str()), (Ended::Code(0), "0\n1\n2\n20\n21\n3\n"));
    }

    #[test]
    fn the_childs_environment_is_what_it_is_given() {
        let (_, text) = run(&["cat", "/proc/self/environ"], vec![]).unwrap();
        assert_eq!(text, "PATH=/usr/bin:/bin\0");
    }

    #[test]
    fn a_missing_program_is_told_by_the_system_whatever_numbers_are_wanted() {
        let handed = (3..60).map(|number| (number, file(""))).collect();
        let error = run(&["/nonexistent/qemu"], handed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn stdout_and_stderr_share_a_pipe_and_the_end_is_told() {
        let (ended, text) = run(&["sh", "-c", "echo out; echo err >&2; exit 3"], vec![]).unwrap();
        assert_eq!((ended, text.as_str()), (Ended::Code(3), "out\nerr\n"));
        let (ended, _) = run(&["sh", "-c", "kill -SEGV $$"], vec![]).unwrap();
        assert_eq!(ended, Ended::Signal(11));
    }
}
