//! The RAM image of a suspended guest: `NAME.ram` beside its disk. A core: octets in, octets out.
//!
//! ```text
//!  0      8   "berthRAM"
//!  8      4   version of this format
//!  12     4   octets of the body
//!  16     32  SHA-256 of the body
//!  48         the body: length and SHA-256 of the stream, generation, when it was saved, facts, notes
//!  …          zeros
//!  32768      QEMU's migration stream, to the end of the file
//! ```
//!
//! Numbers are big-endian. QEMU itself takes a stream with a bit flipped, one that lacks its last octet, one of another model
//! of processor and one that is older than the disk: the guest is dead then, or loses files. So every octet is covered by a
//! hash, everything the guest was saved with is a [`Fact`] that is compared, and an image is used once:
//!
//! **Before the guest may write, the generation on the volume differs from the one in any RAM image.**

mod body;
mod facts;

use std::fmt;

use sha2::{Digest, Sha256};

pub use facts::{Difference, Fact, Facts};

/// Before the stream.
pub const HEADER_BYTES: usize = 32 * 1024;
const MAGIC: &[u8; 8] = b"berthRAM";
const VERSION: u32 = 1;
/// Before the body.
const PREFIX: usize = 48;

/// Which of its lives the disk is in: 16 random octets, others in each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Generation(pub [u8; 16]);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower case, two digits an octet.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What is known of a stream when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// What stands before the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub stream: Stream,
    pub generation: Generation,
    /// Milliseconds since the Unix epoch: when the guest stopped.
    pub saved_at_ms: u64,
    /// What has to be the same.
    pub facts: Facts,
    /// What may be another, and is worth telling the guest then.
    pub notes: Facts,
}

/// Why an image is not resumed: it is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("the file has {found} octets, and its header alone {HEADER_BYTES}")]
    Short { found: u64 },
    #[error("it is no RAM image of berth's: it begins with {0}")]
    NotOurs(String),
    #[error("its format is {saved}, and this berth knows {VERSION}")]
    Version { saved: u32 },
    #[error("its header has the SHA-256 {found}, and was written with {said}")]
    Header { said: String, found: String },
    #[error("its header is malformed: {0}")]
    Malformed(&'static str),
    #[error("its stream has {found} octets, and was written with {said}")]
    Length { said: u64, found: u64 },
    #[error("its stream has the SHA-256 {found}, and was written with {said}")]
    Stream { said: String, found: String },
}

/// A header that does not fit its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the machine has too many devices and disks for the header of a RAM image: {0} octets")]
pub struct TooLarge(pub usize);

impl Header {
    /// Always [`HEADER_BYTES`] long.
    pub fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        framed(&body::encode(self))
    }

    /// The beginning of a file of so many octets. Nothing of it is believed before its hash holds, and nothing is left over.
    pub fn decode(head: &[u8], file_bytes: u64) -> Result<Self, Invalid> {
        let short = Invalid::Short { found: file_bytes.min(head.len() as u64) };
        let behind = file_bytes.checked_sub(HEADER_BYTES as u64);
        let (Some(head), Some(stream_bytes)) = (head.get(..HEADER_BYTES), behind) else {
            return Err(short);
        };
        let (prefix, rest) = head.split_at_checked(PREFIX).ok_or(short)?;
        let word = |at: usize| {
            let octets = prefix.get(at..at + 4).and_then(|octets| octets.try_into().ok());
            u32::from_be_bytes(octets.unwrap_or_default())
        };
        let magic = prefix.get(..8).unwrap_or_default();
        if magic != MAGIC {
            return Err(Invalid::NotOurs(hex(magic)));
        }
        if word(8) != VERSION {
            return Err(Invalid::Version { saved: word(8) });
        }
        let length = usize::try_from(word(12)).unwrap_or(usize::MAX);
        let (body, padding) =
            rest.split_at_checked(length).ok_or(Invalid::Malformed("its body does not fit"))?;
        let (said, found) = (prefix.get(16..).unwrap_or_default(), Sha256::digest(body));
        if said != found.as_slice() {
            return Err(Invalid::Header { said: hex(said), found: hex(&found) });
        }
        if padding.iter().any(|octet| *octet != 0) {
            return Err(Invalid::Malformed("something stands behind it"));
        }
        let header = body::decode(body)?;
        let said = header.stream.bytes;
        if said != stream_bytes {
            return Err(Invalid::Length { said, found: stream_bytes });
        }
        Ok(header)
    }

    /// Whether this is the stream that was written.
    pub fn check(&self, found: &Stream) -> Result<(), Invalid> {
        if found.bytes != self.stream.bytes {
            return Err(Invalid::Length { said: self.stream.bytes, found: found.bytes });
        }
        if found.sha256 != self.stream.sha256 {
            let (said, found) = (hex(&self.stream.sha256), hex(&found.sha256));
            return Err(Invalid::Stream { said, found });
        }
        Ok(())
    }
}

/// A body, whatever it says, in a header whose hash holds.
pub fn framed(body: &[u8]) -> Result<Vec<u8>, TooLarge> {
    let too_large = TooLarge(body.len());
    let length = u32::try_from(body.len()).map_err(|_| too_large)?;
    if body.len() > HEADER_BYTES - PREFIX {
        return Err(too_large);
    }
    let mut octets = Vec::with_capacity(HEADER_BYTES);
    octets.extend_from_slice(MAGIC);
    octets.extend_from_slice(&VERSION.to_be_bytes());
    octets.extend_from_slice(&length.to_be_bytes());
    octets.extend_from_slice(&Sha256::digest(body));
    octets.extend_from_slice(body);
    octets.resize(HEADER_BYTES, 0);
    Ok(octets)
}

#[cfg(test)]
mod tests;
