//! The lease file: a line of text for each change, the last one of an address counts (docs/leases.md).
//!
//! ```text
//! berth-leases 1
//! bound 10.0.0.7 1764000000 1/02:00:00:00:00:07 01020000000007 laptop 5e2f8a31
//! ```
//!
//! State, address, end in seconds since 1970 (`-`: none), hardware, client in hexadecimal, name, and the CRC-32 of
//! what is before it with its space. A line that was cut or spoiled says nothing. Version 2 has lines of IPv6 addresses
//! among those of IPv4; a client is a DUID with an IAID behind it there.

use std::fmt::Write;
use std::net::IpAddr;

use super::book::{Entry, FOR_EVER};
use super::{Address, ClientId, Hardware, Leases, State, seconds};
use crate::net::MacAddr;
use crate::proto::Now;

/// First line of the file, with its end.
pub const HEADER: &str = "berth-leases 1\n";
/// The same where IPv6 addresses are leased, too.
pub const HEADER6: &str = "berth-leases 2\n";
/// Octets of a client identifier: no request is longer.
const LONGEST_ID: usize = 8192;
const LONGEST_NAME: usize = 255;

/// What was found in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Lines that count.
    pub lines: usize,
    /// Lines that say nothing: spoiled, or cut in the middle of the file.
    pub damaged: usize,
    /// Lines of addresses for which there was no room.
    pub left_out: usize,
    /// Octets behind the last whole line.
    pub torn: usize,
}

impl<A: Address> Leases<A> {
    /// As the file tells of this family, under the clock of now; no more than `limit` addresses, the last ones.
    pub fn recover(now: Now, file: &[u8], limit: usize) -> (Self, Recovered) {
        let mut leases = Self::new(limit);
        leases.begin(now);
        let mut recovered = Recovered::default();
        let wall = seconds(now.wall);
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                None => recovered.torn = line.len(),
                Some(line) if line.is_empty() || is_header(line) => {}
                Some(line) => match parse(line, wall).map(Line::entry) {
                    // Of the other family.
                    Some(None) => {}
                    Some(Some(entry)) => {
                        recovered.lines += 1;
                        if leases.book.of_address(entry.address()).is_some()
                            || leases.make_room(now)
                        {
                            leases.insert(now, entry);
                        } else {
                            recovered.left_out += 1;
                        }
                    }
                    None => recovered.damaged += 1,
                },
            }
        }
        (leases, recovered)
    }
}

/// Whether a file is one of ours, however it was cut or spoiled: it begins as ours do, or has a line that counts. Zeros are
/// what a power cut leaves of one.
pub fn is_ours(file: &[u8]) -> bool {
    let begins =
        |header: &str| file.starts_with(header.as_bytes()) || header.as_bytes().starts_with(file);
    [HEADER, HEADER6].into_iter().any(begins)
        || file.iter().all(|octet| *octet == 0)
        || file.split(|octet| *octet == b'\n').any(|line| parse(line, 0).is_some())
}

/// Whether lines of IPv6 addresses belong into the file: an older one has such a header behind its own lines.
pub(crate) fn has_ipv6_header(file: &[u8]) -> bool {
    file.split(|octet| *octet == b'\n').any(|line| line == HEADER6.trim_end().as_bytes())
}

fn is_header(line: &[u8]) -> bool {
    [HEADER, HEADER6].iter().any(|header| header.trim_end().as_bytes() == line)
}

/// What a line says.
struct Line<'a> {
    state: State,
    address: IpAddr,
    /// Milliseconds from now.
    until: i64,
    hardware: Hardware,
    client: ClientId,
    name: Option<&'a str>,
}

impl Line<'_> {
    /// None: of the other family.
    fn entry<A: Address>(self) -> Option<Entry<A>> {
        let Line { state, address, until, hardware, client, name } = self;
        A::of(address).map(|address| Entry::new(address, &client, hardware, name, state, until))
    }
}

/// The line of an entry, whose end `wall` translates.
pub(super) fn line<A: Address>(entry: &Entry<A>, wall: impl Fn(i64) -> Option<i64>) -> Vec<u8> {
    let state = match entry.state {
        State::Released => "released",
        State::Declined => "declined",
        State::Bound | State::Offered => "bound",
    };
    let until = wall(entry.until).map_or_else(|| "-".to_owned(), |seconds| seconds.to_string());
    let Hardware { kind, address } = entry.hardware;
    let name = entry.name().filter(|name| is_plain(name)).unwrap_or("-");
    let mut line = format!(
        "{state} {} {until} {kind}/{address} {} {name} ",
        entry.address(),
        hex(&entry.client())
    );
    let _ = writeln!(line, "{:08x}", crc32fast::hash(line.as_bytes()));
    line.into_bytes()
}

fn parse(line: &[u8], wall: i64) -> Option<Line<'_>> {
    let line = std::str::from_utf8(line).ok()?;
    let (before, sum) = line.split_at_checked(line.len().checked_sub(8)?)?;
    if sum != format!("{:08x}", crc32fast::hash(before.as_bytes())) {
        return None;
    }
    let mut words = before.strip_suffix(' ')?.split(' ');
    let state = match words.next()? {
        "bound" => State::Bound,
        "released" => State::Released,
        "declined" => State::Declined,
        _ => return None,
    };
    let address: IpAddr = words.next()?.parse().ok()?;
    let until = match words.next()? {
        "-" => FOR_EVER,
        seconds => seconds
            .parse::<i64>()
            .ok()?
            .saturating_sub(wall)
            .saturating_mul(1000)
            .clamp(-LONGEST, LONGEST),
    };
    let (kind, mac) = words.next()?.split_once('/')?;
    // Whatever a client sent, no machine's address among it.
    let mac = unhex(&mac.replace(':', ""))?.try_into().ok()?;
    let hardware = Hardware { kind: kind.parse().ok()?, address: MacAddr(mac) };
    let client = ClientId::new(&unhex(words.next()?)?);
    let name = words.next()?;
    let name = (name != "-" && is_plain(name)).then_some(name);
    words.next().is_none().then_some(Line { state, address, until, hardware, client, name })
}

/// Milliseconds; longer than any lease that ends.
const LONGEST: i64 = 1 << 50;

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic();
    (1..=LONGEST_NAME).contains(&name.len()) && name != "-" && name.bytes().all(plain)
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text == "-" {
        return Some(Vec::new());
    }
    if !text.len().is_multiple_of(2) || text.len() > LONGEST_ID * 2 {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
