//! Our stdout and stderr as plain descriptors (`write(2)`).
//!
//! Those of the standard library have a lock and a buffer that is flushed when the process ends: with a pipe that
//! nobody reads, the end would never come. Both block here too: write on a thread that nobody waits for.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// One of the two. Unbuffered.
#[derive(Debug)]
pub struct Output(BorrowedFd<'static>);

/// Descriptor 1.
pub fn stdout() -> Output {
    Output(rustix::stdio::stdout())
}

/// Descriptor 2.
pub fn stderr() -> Output {
    Output(rustix::stdio::stderr())
}

impl Output {
    /// Waits until nobody can read it any more: a pipe without a reader, a terminal that hung up. Of a file that is never.
    pub fn until_gone(&self) -> io::Result<()> {
        let mut output = [PollFd::new(&self.0, PollFlags::empty())];
        rustix::io::retry_on_intr(|| poll(&mut output, None))?;
        Ok(())
    }

    /// What there is room for at once: for words that nobody waits to be read.
    pub fn try_write(&self, octets: &[u8]) -> io::Result<usize> {
        let mut ready = [PollFd::new(&self.0, PollFlags::OUT)];
        match poll(&mut ready, Some(&Timespec::default()))? {
            0 => Ok(0),
            _ => Ok(rustix::io::write(self.0, octets)?),
        }
    }

    /// Columns of the terminal that it is; None when it is none.
    pub fn columns(&self) -> Option<u16> {
        rustix::termios::tcgetwinsize(self.0)
            .ok()
            .map(|size| size.ws_col)
            .filter(|columns| *columns > 0)
    }
}

impl Write for Output {
    /// Waits also where whoever shares the descriptor has made it non-blocking.
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(self.0, octets) {
                Err(rustix::io::Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None);
                }
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
