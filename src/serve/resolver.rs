//! Follows resolv.conf by what it says, however it got there: written, replaced, behind links that are swapped, or in a
//! directory that appears later.
//!
//! A file that is gone or empty says nothing: servers stay as they are, and that is said once. (A resolver library would
//! turn to 127.0.0.1; we are the one that others turn to.)

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::exit::error_chain;
use crate::facts::Resolver;
use crate::sys::file_watch::FileWatch;
use crate::sys::probe;

/// How often the file is looked at, whatever inotify says: not every file system tells.
const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// A file that is being written is written in this time.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How long it may be gone or empty until that is worth a word.
const GONE_AFTER: Duration = Duration::from_secs(1);

pub(crate) struct ResolvConf<'a> {
    path: &'a Path,
    watch: Option<FileWatch>,
    poll: Interval,
    /// When it is read next, because something has happened.
    due: Option<Instant>,
    /// Since when it says nothing.
    silent: Option<Instant>,
    /// What is wrong with it, as it was said.
    trouble: Option<String>,
    says: Option<Resolver>,
}

impl<'a> ResolvConf<'a> {
    /// Follows the file from now on.
    pub fn new(path: &'a Path) -> Self {
        let watch = FileWatch::new(path);
        if let Err(error) = &watch {
            let path = path.display();
            tracing::warn!(%path, %error, "the file cannot be watched, it is looked at every minute (fs.inotify.max_user_watches, max_user_instances)");
        }
        let mut poll = interval_at(Instant::now() + POLL_INTERVAL, POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let found = probe::resolver_file(path);
        // Without a file there are no servers, which is said by who begins with none.
        let trouble = matches!(found, Ok(None)).then(|| missing(path));
        let due = found.is_err().then(Instant::now);
        Self {
            path,
            watch: watch.ok(),
            poll,
            due,
            silent: None,
            trouble,
            says: found.ok().flatten(),
        }
    }

    /// None: it says nothing.
    pub fn says(&self) -> Option<&Resolver> {
        self.says.as_ref()
    }

    /// Waits until it says something else. May be dropped while it waits.
    pub async fn changed(&mut self) -> Resolver {
        loop {
            let due = self.due;
            tokio::select! {
                () = happens(&mut self.watch) => self.due = due.or_else(|| Some(Instant::now() + DEBOUNCE)),
                _ = self.poll.tick() => self.due = due.or_else(|| Some(Instant::now())),
                () = at(due) => {
                    self.due = None;
                    if let Some(resolver) = self.read() {
                        return resolver;
                    }
                }
            }
        }
    }

    fn read(&mut self) -> Option<Resolver> {
        let trouble = match probe::resolver_file(self.path) {
            Ok(Some(resolver)) => {
                self.silent = None;
                if self.trouble.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the file can be read");
                }
                if self.says.as_ref() == Some(&resolver) {
                    return None;
                }
                self.says = Some(resolver.clone());
                return Some(resolver);
            }
            Ok(None) => missing(self.path),
            Err(error) => error_chain(&error),
        };
        let end = *self.silent.get_or_insert_with(Instant::now) + GONE_AFTER;
        if Instant::now() < end {
            self.due = Some(end);
        } else if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(
                "{trouble}: name servers and search domains stay as they are until it can be read"
            );
            self.trouble = Some(trouble);
        }
        None
    }
}

fn missing(path: &Path) -> String {
    format!("{} is not there or empty", path.display())
}

async fn happens(watch: &mut Option<FileWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(3);
    const QUIET: Duration = Duration::from_millis(300);

    async fn next(conf: &mut ResolvConf<'_>) -> Vec<String> {
        let resolver = timeout(SOON, conf.changed()).await.expect("a change that is noticed");
        resolver.nameservers.iter().map(ToString::to_string).collect()
    }

    /// Image layers, `cp -p` and reproducible mounts have files of one length and time.
    #[tokio::test]
    async fn a_file_of_the_same_length_and_time_is_another_when_it_says_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let then = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        for (name, server) in [("one", "10.0.0.1"), ("two", "10.0.0.2")] {
            fs::write(at(name), format!("nameserver {server}\n")).unwrap();
            fs::File::options().write(true).open(at(name)).unwrap().set_modified(then).unwrap();
        }
        symlink("one", at("resolv.conf")).unwrap();
        let path = at("resolv.conf");
        let mut conf = ResolvConf::new(&path);
        assert_eq!(conf.says().unwrap().nameservers.len(), 1);
        symlink("two", at("new")).unwrap();
        fs::rename(at("new"), &path).unwrap();
        assert_eq!(next(&mut conf).await, ["10.0.0.2"]);
        // One that says the same in other words is no news.
        fs::write(at("two"), "# again\nnameserver\t10.0.0.2\n").unwrap();
        assert!(timeout(QUIET, conf.changed()).await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_written_in_steps_is_read_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        let mut conf = ResolvConf::new(&path);
        let writes = {
            let path = path.clone();
            std::thread::spawn(move || {
                fs::write(&path, "").unwrap();
                std::thread::sleep(Duration::from_millis(400));
                fs::write(&path, "nameserver 10.0.0.2\n").unwrap();
            })
        };
        assert_eq!(next(&mut conf).await, ["10.0.0.2"]);
        assert_eq!(conf.trouble, None, "it was empty for a moment");
        writes.join().unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_gone_leaves_what_it_said_and_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        let mut conf = ResolvConf::new(&path);
        fs::remove_file(&path).unwrap();
        assert!(timeout(GONE_AFTER + QUIET, conf.changed()).await.is_err());
        assert!(conf.trouble.as_ref().unwrap().ends_with("resolv.conf is not there or empty"));
        assert_eq!(conf.says().unwrap().nameservers.len(), 1);
        fs::create_dir(&path).unwrap();
        assert!(timeout(GONE_AFTER, conf.changed()).await.is_err());
        assert!(conf.trouble.as_ref().unwrap().contains("a directory where a file is meant"));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        assert!(timeout(QUIET, conf.changed()).await.is_err(), "it says what it said");
        assert_eq!(conf.trouble, None);
        fs::write(&path, "nameserver 10.0.0.3\n").unwrap();
        assert_eq!(next(&mut conf).await, ["10.0.0.3"]);
    }

    #[tokio::test]
    async fn a_directory_that_appears_later_is_seen_soon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("systemd/resolve/resolv.conf");
        let mut conf = ResolvConf::new(&path);
        assert!(conf.says().is_none());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "nameserver 10.0.0.4\n").unwrap();
        assert_eq!(next(&mut conf).await, ["10.0.0.4"]);
    }
}
