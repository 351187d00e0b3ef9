//! Decoders that go to the end of their stream: what is left when one frame ends is another frame, padding the format
//! allows, or an error. The decoders' own end is not the stream's.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// gzip (RFC 1952 §2.2): members one after another, zeros after the last one as on tapes.
pub(super) struct Gzip<R> {
    state: Member<R>,
}

enum Member<R> {
    Inside(GzDecoder<R>),
    Ended,
}

impl<R: BufRead> Gzip<R> {
    /// Reads zstd frames one after another.
    pub fn new(source: R) -> Self {
        Self { state: Member::Inside(GzDecoder::new(source)) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Member::Inside(member) = &mut self.state else { return Ok(0) };
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Member::Inside(member) = std::mem::replace(&mut self.state, Member::Ended) else {
                return Ok(0);
            };
            let mut source = member.into_inner();
            match source.fill_buf()?.first() {
                None => {}
                Some(0) => only_zeros(&mut source)?,
                Some(_) => self.state = Member::Inside(GzDecoder::new(source)),
            }
        }
    }
}

fn only_zeros(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let block = source.fill_buf()?;
        if block.iter().any(|&octet| octet != 0) {
            return Err(invalid("something follows the last member"));
        }
        match block.len() {
            0 => return Ok(()),
            octets => source.consume(octets),
        }
    }
}

/// zstd (RFC 8878 §3): frames one after another, skippable ones among them. Each frame's checksum and size are held
/// against what came out.
pub(super) struct Zstd<R> {
    source: R,
    frame: FrameDecoder,
    inside: bool,
    /// Octets out of this frame.
    out: u64,
}

impl<R: BufRead> Zstd<R> {
    /// No frame may want a window of more than `window` octets.
    pub fn new(source: R, window: u64) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(window);
        Self { source, frame, inside: false, out: 0 }
    }

    /// Begins the next frame; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.source) {
                Ok(()) => {
                    (self.inside, self.out) = (true, 0);
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error @ FrameDecoderError::WindowSizeTooBig { .. }) => {
                    return Err(io::Error::new(io::ErrorKind::OutOfMemory, error));
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.inside = false;
        let told = self.frame.get_checksum_from_data();
        if told.is_some() && told != self.frame.get_calculated_checksum() {
            return Err(invalid("a wrong checksum"));
        }
        match self.frame.content_size() {
            0 => Ok(()),
            size if size == self.out => Ok(()),
            _ => Err(invalid("a frame of another size than it says")),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.inside && !self.next_frame()? {
                return Ok(0);
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.frame.decode_blocks(&mut self.source, one).map_err(io::Error::other)?;
            }
            let read = self.frame.read(buffer)?;
            self.out += read as u64;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.end_frame()?;
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
