//! A guest of one sector that writes on its serial line for ever, and the count of what arrives.

use std::io::Read;
use std::process::ChildStdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{Error, at};

/// 16-bit code: lines of the printable characters to COM1 (0x3f8), each when the line status (0x3fd) has bit 5,
/// "transmitter holding register empty".
const WRITER: [u8; 35] = [
    0xfa, // cli
    0xb3, 0x20, // mov bl, ' '
    0xba, 0xfd, 0x03, // next: mov dx, 0x3fd
    0xec, // wait: in al, dx
    0xa8, 0x20, // test al, 0x20
    0x74, 0xfb, // jz wait
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0x88, 0xd8, // mov al, bl
    0xee, // out dx, al
    0xfe, 0xc3, // inc bl
    0x80, 0xfb, 0x0b, 0x75, 0x02, 0xb3, 0x20, // after the newline the first one again
    0x80, 0xfb, 0x7f, 0x75, 0x02, 0xb3, 0x0a, // after the last one the newline
    0xeb, 0xe0, // jmp next
];
/// What a BIOS looks for at the end of the sector it starts.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
const DISK: usize = 1 << 20;

/// Its disk, raw.
pub fn writing() -> Result<tempfile::NamedTempFile, Error> {
    let mut disk = vec![0; DISK];
    for (to, from) in disk.iter_mut().zip(WRITER) {
        *to = from;
    }
    for (to, from) in disk.iter_mut().skip(510).zip(SIGNATURE) {
        *to = from;
    }
    let file =
        at("making a disk", tempfile::Builder::new().prefix("writer").suffix(".img").tempfile())?;
    at("writing a disk", std::fs::write(file.path(), disk))?;
    Ok(file)
}

/// Reads all that comes, and counts it.
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Until the end of `output`.
    pub fn start(mut output: ChildStdout) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                counted.fetch_add(u64::try_from(read).unwrap_or(0), Ordering::Relaxed);
            }
        });
        Self(count)
    }

    /// Octets a second.
    pub fn rate(&self, during: Duration) -> Result<f64, Error> {
        let (began, before) = (Instant::now(), self.0.load(Ordering::Relaxed));
        std::thread::sleep(during);
        let octets = self.0.load(Ordering::Relaxed) - before;
        if octets == 0 {
            return Err(Error::Step("the guest writes nothing".into()));
        }
        #[expect(clippy::cast_precision_loss, reason = "figures for reading")]
        Ok(octets as f64 / began.elapsed().as_secs_f64())
    }
}
