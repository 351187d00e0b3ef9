//! A download: what to ask for, what of the answer to believe, when to try again.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::client::{Answer, Client};
use super::range::{Extent, Resume, validator};
use super::save::{Keep, save};
use super::stream::Stream;
use super::{End, Error, Progress, Request, at};
use crate::config::Url;

pub(super) fn from_url(
    request: &Request<'_>,
    url: &Url,
    part: &Path,
    note: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(at("making what waits for the download of", request.target))?;
    let fetched = Client::new(request, &runtime).and_then(|client| {
        let (name, identity) = (url.to_string(), url.fingerprint());
        // A volume that was unplugged or whose node lost power may have lost any of the part's octets.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned();
        Download { request, client, url, name, identity, boot, part, note }.run(progress)
    });
    // A look-up that hangs does not keep us.
    runtime.shutdown_background();
    fetched
}

struct Download<'a> {
    request: &'a Request<'a>,
    client: Client<'a>,
    url: &'a Url,
    /// The URL as it may be shown.
    name: String,
    /// What the note says instead of the URL.
    identity: String,
    /// This boot of the machine (`random(4)`): what was not synced is sure to be there for as long.
    boot: String,
    part: &'a Path,
    note: &'a Path,
}

/// A pass that did not get all.
struct Cut {
    /// Where it ended.
    reached: u64,
    /// It ended where the server had said.
    as_told: bool,
    total: Option<u64>,
    end: End,
}

impl Download<'_> {
    fn run(&self, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        let mut tries = Tries::new(self.request.timing.tries);
        let mut resume = self.resume(None);
        loop {
            let Err(Cut { reached, as_told, total, end }) = self.pass(&resume, progress) else {
                return Ok(());
            };
            let error = match end {
                End::Broken(error) => error,
                End::Final(error) => {
                    self.tidy(&error);
                    return Err(error);
                }
            };
            match tries.failed(reached, as_told) {
                Next::GiveUp => return Err(tries.unreachable(&self.name, &error)),
                Next::AskOn => {
                    tracing::debug!(url = self.name, reached, "the server sends it in parts");
                }
                Next::Pause => {
                    tracing::warn!(url = self.name, reached, error = %error, "download interrupted, trying again");
                    std::thread::sleep(tries.pause(self.request.timing.backoff));
                }
            }
            resume = self.resume(total);
        }
    }

    fn resume(&self, total: Option<u64>) -> Resume {
        let files = self.request.access.files;
        let mut note = String::new();
        let read =
            files.read(self.note).and_then(|file| file.take(MAX_NOTE).read_to_string(&mut note));
        match files.metadata(self.part) {
            // Another name's file is not ours to write on.
            Ok(part) if read.is_ok() && part.nlink() == 1 => {
                Resume::noted(&note, &self.identity, &self.boot, part.len(), total)
            }
            _ => Resume::NOTHING,
        }
    }

    /// Nothing of a bad file is worth keeping, and a full disk needs the room. What a server or proxy refused to go on
    /// with is as good as before.
    fn tidy(&self, error: &Error) {
        let refused =
            matches!(error, Error::Status { .. } | Error::Refused { .. } | Error::Untrusted { .. });
        if !(refused && self.resume(None).range().is_some()) {
            let _ = self.request.access.files.remove(self.part);
            self.forget();
        }
    }

    fn forget(&self) {
        let _ = self.request.access.files.remove(self.note);
    }

    /// One answer, saved.
    fn pass(&self, resume: &Resume, progress: &mut dyn FnMut(Progress)) -> Result<(), Cut> {
        let unanswered = |end| Cut { reached: 0, as_told: false, total: resume.total, end };
        let (Answer { headers, body, route, .. }, extent) = self.ask(resume).map_err(unanswered)?;
        let Extent { start, end, total } = extent;
        let validator = validator(&headers);
        let validator = validator.as_deref();
        let keep =
            Keep { url: &self.identity, note: self.note, boot: &self.boot, validator, total };
        // Of a part no more than was said of it.
        let body = body.take(end.map_or(u64::MAX, |end| end - start));
        let mut stream = Stream::new(Box::new(body), total, self.request.checksum);
        let replayed = if start > 0 {
            stream.replay(self.part, start, self.request.access.files).map_err(End::Final)
        } else {
            Ok(())
        };
        let saved = replayed.and_then(|()| {
            save(self.request, &self.name, &mut stream, self.part, Some(&keep), progress)
        });
        let reached = stream.done;
        let as_told = start > 0 && Some(reached) == end;
        saved.map_err(|end| Cut { reached, as_told, total, end: end.on(&route) })
    }

    fn ask(&self, resume: &Resume) -> Result<(Answer<'_>, Extent), End> {
        let answer = self.client.get(self.url, resume)?;
        match answer.status.as_u16() {
            200 => {
                let extent = Extent::whole(&answer.headers);
                Ok((answer, extent))
            }
            206 => match Extent::part(&answer.headers, resume) {
                Ok(extent) => Ok((answer, extent)),
                Err(why) => {
                    self.forget();
                    Err(End::Broken(io::Error::other(why)).on(&answer.route))
                }
            },
            // The part is as long as the file, or longer: then it is of another one, and read anew.
            416 => match Extent::nothing_left(&answer.headers, resume) {
                Some(extent) => Ok((answer, extent)),
                None if resume.range().is_some() => {
                    self.forget();
                    self.ask(&Resume::NOTHING)
                }
                None => Err(answer.bad_status()),
            },
            _ => Err(answer.bad_status()),
        }
    }
}

/// A fingerprint, a validator as long as a header may be, a boot's id, a length.
const MAX_NOTE: u64 = 512 << 10;

/// New octets that are worth a try for themselves.
const MUCH: u64 = 1 << 20;
/// Tries that brought little: so a file of any size ends some time.
const MAX_SMALL: u32 = 1000;

/// Counts what is in vain. Progress is what goes past the furthest point ever reached: where nothing can be taken
/// up, each try begins at zero, and would look like progress otherwise.
struct Tries {
    /// That may follow each other without progress.
    limit: u32,
    all: u32,
    idle: u32,
    small: u32,
    furthest: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// At once: the server sends as much at a time as it likes.
    AskOn,
    Pause,
    GiveUp,
}

impl Tries {
    fn new(limit: u32) -> Self {
        Self { limit, all: 0, idle: 0, small: 0, furthest: 0 }
    }

    /// One more ended, that far.
    fn failed(&mut self, reached: u64, as_told: bool) -> Next {
        let new = reached.saturating_sub(self.furthest);
        self.furthest = self.furthest.max(reached);
        self.all = self.all.saturating_add(1);
        self.idle = if new > 0 { 1 } else { self.idle + 1 };
        if new < MUCH {
            self.small += 1;
        }
        match new {
            _ if self.idle >= self.limit || self.small >= MAX_SMALL => Next::GiveUp,
            1.. if as_told => Next::AskOn,
            _ => Next::Pause,
        }
    }

    /// Doubled while nothing comes.
    fn pause(&self, first: Duration) -> Duration {
        first.saturating_mul(1 << self.idle.saturating_sub(1).min(10)).min(Duration::from_secs(10))
    }

    fn unreachable(&self, url: &str, last: &io::Error) -> Error {
        let Self { all: tries, idle, furthest, .. } = *self;
        Error::Unreachable { url: url.to_owned(), tries, idle, furthest, last: last.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries_until_given_up(mut reached: impl FnMut(u32) -> u64) -> Option<u32> {
        let mut tries = Tries::new(6);
        (1..100_000).find(|number| tries.failed(reached(*number), false) == Next::GiveUp)
    }

    #[test]
    fn progress_is_what_goes_past_the_furthest_point() {
        assert_eq!(tries_until_given_up(|_| 0), Some(6));
        // Broken at the same place each time: the first got somewhere.
        assert_eq!(tries_until_given_up(|_| 5000), Some(6));
        assert_eq!(tries_until_given_up(|number| 5000 + u64::from(number % 3)), Some(7));
        assert_eq!(tries_until_given_up(|number| [9, 5, 7, 6][number as usize % 4]), Some(9));
        // Little by little goes on for long, but not for ever; much is always worth it.
        assert_eq!(tries_until_given_up(u64::from), Some(MAX_SMALL));
        assert_eq!(tries_until_given_up(|number| u64::from(number) * MUCH), None);
    }

    #[test]
    fn the_pause_grows_while_nothing_comes_and_no_part_waits_for_the_next() {
        let mut tries = Tries::new(6);
        let mut pause = |reached, as_told| {
            let next = tries.failed(reached, as_told);
            (next, tries.pause(Duration::from_millis(500)).as_millis())
        };
        assert_eq!(pause(0, false), (Next::Pause, 500));
        assert_eq!(pause(0, false), (Next::Pause, 1000));
        assert_eq!(pause(10, false), (Next::Pause, 500));
        assert_eq!(pause(20, true), (Next::AskOn, 500));
        assert_eq!(pause(20, true), (Next::Pause, 1000));
        assert_eq!(pause(5, false), (Next::Pause, 2000));
    }
}
