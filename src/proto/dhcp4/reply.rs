//! A reply's bytes: what is always said, then what was asked for in its order, within the client's size; what does
//! not fit goes into the fields `file` and `sname` (RFC 2132 §9.3), and then nowhere.

use std::net::Ipv4Addr;
use std::ops::Deref;

use dhcproto::v4::MessageType;

use super::request::{MAX_MESSAGE, Request, field};
use super::{COOKIE, FIXED, INFINITE, code};

/// BOOTP's size (RFC 1542 §2.1): some clients drop what is shorter.
const MIN_MESSAGE: usize = 300;
const FILE: usize = 128;
const SNAME: usize = 64;
/// Of option 52, code and length included.
const OVERLOAD: usize = 3;

/// The fixed fields that are not the request's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fixed<'a> {
    pub broadcast: bool,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
    pub file: &'a [u8],
}

impl Fixed<'_> {
    /// The fields that a reply takes over from its request (RFC 2131 table 3).
    pub fn of(request: &Request) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self { broadcast: request.broadcast, ciaddr: none, yiaddr: none, siaddr: none, file: &[] }
    }
}

/// Options to be sent, most important first.
#[derive(Debug)]
pub(super) struct Options<'a>(Vec<Item<'a>>);

#[derive(Debug)]
struct Item<'a> {
    code: u8,
    value: Value<'a>,
    must: bool,
}

/// Most are laid out already, or small.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    Word([u8; 4]),
    Octet([u8; 1]),
}

impl Deref for Value<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(value) => value,
            Self::Owned(value) => value,
            Self::Word(value) => value,
            Self::Octet(value) => value,
        }
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Borrowed(value)
    }
}

impl Item<'_> {
    /// Octets, in parts of 255 (RFC 3396).
    fn length(&self) -> usize {
        self.value.len() + 2 * self.value.len().div_ceil(255).max(1)
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.value.is_empty() {
            out.extend([self.code, 0]);
        }
        for part in self.value.chunks(255) {
            out.extend([self.code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            out.extend_from_slice(part);
        }
    }
}

impl<'a> Options<'a> {
    /// A reply of this type, with server identifier and what is echoed.
    pub fn new(request: &'a Request, kind: MessageType, server: Ipv4Addr) -> Self {
        let mut options = Self(Vec::with_capacity(24));
        options.must(code::MESSAGE_TYPE, Value::Octet([kind.into()]));
        options.must(code::SERVER, Value::Word(server.octets()));
        // RFC 6842.
        if let Some(id) = request.option(code::CLIENT_ID) {
            options.must(code::CLIENT_ID, id);
        }
        options
    }

    /// Without the header of DHCP: BOOTP.
    pub fn bare() -> Self {
        Self(Vec::new())
    }

    /// 51, 58 and 59 (RFC 2131 §4.4.5: half of it, and seven eighths).
    pub fn lease(&mut self, secs: u32) {
        self.must(code::LEASE_TIME, Value::Word(secs.to_be_bytes()));
        if secs != INFINITE {
            self.must(code::T1, Value::Word((secs / 2).to_be_bytes()));
            self.must(code::T2, Value::Word((secs - secs.div_ceil(8)).to_be_bytes()));
        }
    }

    /// An option that is sent whatever the room.
    pub fn must(&mut self, code: u8, value: impl Into<Value<'a>>) {
        self.add(code, value.into(), true);
    }

    /// An option that is left out when there is no room.
    pub fn may(&mut self, code: u8, value: impl Into<Value<'a>>) {
        self.add(code, value.into(), false);
    }

    /// The first one of a code counts.
    fn add(&mut self, code: u8, value: Value<'a>, must: bool) {
        if !self.0.iter().any(|item| item.code == code) {
            self.0.push(Item { code, value, must });
        }
    }

    /// The reply, of at most `max` octets without what the relay gets back, and `whole` with it. And whether it gets
    /// it back: 82 comes last, and not out of the client's share (RFC 3046 §2.2).
    pub(crate) fn lay_out(
        self,
        request: &Request,
        fixed: Fixed,
        max: usize,
        whole: usize,
    ) -> (Vec<u8>, bool) {
        let max = max.min(whole);
        let areas = self
            .place(max.saturating_sub(FIXED + 1), !fixed.file.is_empty() || request.kind.is_none());
        let mut out = Vec::with_capacity(max.clamp(MIN_MESSAGE, MAX_MESSAGE));
        header(&mut out, request, fixed, &areas);
        out.extend_from_slice(&areas.main);
        let relayed = request.option(code::RELAY_INFORMATION).map(|value| Item {
            code: code::RELAY_INFORMATION,
            value: value.into(),
            must: false,
        });
        let echoed = match &relayed {
            Some(item) if out.len() + item.length() < whole => {
                item.write(&mut out);
                true
            }
            other => other.is_none(),
        };
        if request.cookie {
            out.push(code::END);
        }
        out.resize(out.len().max(MIN_MESSAGE), 0);
        (out, echoed)
    }

    fn place(self, room: usize, file_taken: bool) -> Areas {
        let mut areas = Areas::default();
        let whole: usize = self.0.iter().map(Item::length).sum();
        // BOOTP has no option 52, and a name in `file` leaves its place to nothing else.
        let overload = whole > room && self.0.iter().any(|item| item.code == code::MESSAGE_TYPE);
        let room = if overload { room.saturating_sub(OVERLOAD) } else { room };
        let mut owed: usize = self.0.iter().filter(|item| item.must).map(Item::length).sum();
        for item in &self.0 {
            let length = item.length();
            if item.must {
                owed -= length;
            }
            if areas.main.len() + length + owed <= room {
                item.write(&mut areas.main);
            } else if overload && !file_taken && areas.file.len() + length < FILE {
                item.write(&mut areas.file);
            } else if overload && areas.sname.len() + length < SNAME {
                item.write(&mut areas.sname);
            }
        }
        let used = u8::from(!areas.file.is_empty()) | u8::from(!areas.sname.is_empty()) << 1;
        if used != 0 {
            areas.main.extend([code::OVERLOAD, 1, used]);
            for area in
                [&mut areas.file, &mut areas.sname].into_iter().filter(|area| !area.is_empty())
            {
                area.push(code::END);
            }
        }
        areas
    }
}

/// Options by the field they are in; the end option is written already, except for `main`.
#[derive(Debug, Default)]
struct Areas {
    main: Vec<u8>,
    file: Vec<u8>,
    sname: Vec<u8>,
}

/// RFC 2131 table 3.
fn header(out: &mut Vec<u8>, request: &Request, fixed: Fixed, areas: &Areas) {
    let copied = |from, to| request.header.get(from..to).unwrap_or_default();
    out.push(2);
    out.extend_from_slice(copied(1, 8));
    out.extend([0, 0, if fixed.broadcast { 0x80 } else { 0 }, 0]);
    out.extend(fixed.ciaddr.octets());
    out.extend(fixed.yiaddr.octets());
    out.extend(fixed.siaddr.octets());
    out.extend_from_slice(copied(24, 44));
    out.extend_from_slice(&areas.sname);
    out.resize(108, 0);
    let file = if fixed.file.is_empty() { areas.file.as_slice() } else { fixed.file };
    out.extend_from_slice(file);
    out.resize(FIXED - COOKIE.len(), 0);
    out.extend(
        field::<4>(request.header, FIXED - 4).filter(|_| !request.cookie).unwrap_or(&COOKIE),
    );
}
