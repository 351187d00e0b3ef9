//! The part of the header that its hash covers.

use super::facts::{MAX_FACTS, MAX_VALUE};
use super::{Fact, Facts, Generation, Header, Invalid, Stream};

pub(super) fn encode(header: &Header) -> Vec<u8> {
    let Header { stream, generation, saved_at_ms, facts, notes } = header;
    let mut body = Vec::new();
    body.extend_from_slice(&stream.bytes.to_be_bytes());
    body.extend_from_slice(&stream.sha256);
    body.extend_from_slice(&generation.0);
    body.extend_from_slice(&saved_at_ms.to_be_bytes());
    for facts in [facts, notes] {
        body.extend_from_slice(&length(facts.all().len()));
        for Fact { what, value } in facts.all() {
            for text in [what, value] {
                body.extend_from_slice(&length(text.len()));
                body.extend_from_slice(text.as_bytes());
            }
        }
    }
    body
}

/// Facts are bounded where they are made.
fn length(octets: usize) -> [u8; 2] {
    u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes()
}

pub(super) fn decode(body: &[u8]) -> Result<Header, Invalid> {
    let mut rest = Rest(body);
    let stream = Stream { bytes: u64::from_be_bytes(rest.array()?), sha256: rest.array()? };
    let generation = Generation(rest.array()?);
    let saved_at_ms = u64::from_be_bytes(rest.array()?);
    let (facts, notes) = (rest.facts()?, rest.facts()?);
    if !rest.0.is_empty() {
        return Err(Invalid::Malformed("octets are left over"));
    }
    Ok(Header { stream, generation, saved_at_ms, facts, notes })
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, octets: usize) -> Result<&'a [u8], Invalid> {
        let (taken, rest) =
            self.0.split_at_checked(octets).ok_or(Invalid::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        self.take(N)?.try_into().map_err(|_| Invalid::Malformed("it ends too early"))
    }

    fn length(&mut self, most: usize) -> Result<usize, Invalid> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        if length > most {
            return Err(Invalid::Malformed("a number is too large"));
        }
        Ok(length)
    }

    fn text(&mut self) -> Result<String, Invalid> {
        let length = self.length(MAX_VALUE)?;
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned).map_err(|_| Invalid::Malformed("a text is not UTF-8"))
    }

    fn facts(&mut self) -> Result<Facts, Invalid> {
        let mut facts = Facts::default();
        for _ in 0..self.length(MAX_FACTS)? {
            let (what, value) = (self.text()?, self.text()?);
            if facts.of(&what).is_some() {
                return Err(Invalid::Malformed("a fact is there twice"));
            }
            facts.push(what, value);
        }
        Ok(facts)
    }
}
