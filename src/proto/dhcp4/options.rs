//! The options of a reply: what was asked, in its order, within the client's size.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

use super::{FIXED, OneGuest, Request};

const MASK: u8 = 1;
const ROUTER: u8 = 3;
const DNS: u8 = 6;
const HOST_NAME: u8 = 12;
const DOMAIN_NAME: u8 = 15;
const MTU: u8 = 26;
const BROADCAST: u8 = 28;
const LEASE_TIME: u8 = 51;
const MESSAGE_TYPE: u8 = 53;
const SERVER: u8 = 54;
const MESSAGE: u8 = 56;
const T1: u8 = 58;
const T2: u8 = 59;
const CLIENT_ID: u8 = 61;
const SEARCH: u8 = 119;
const ROUTES: u8 = 121;
/// Microsoft's number for the same.
const ROUTES_MICROSOFT: u8 = 249;
const PAD: u8 = 0;
const END: u8 = 255;
const REQUESTED_ADDRESS: u8 = 50;
const REQUEST_LIST: u8 = 55;
const MAX_SIZE: u8 = 57;

/// A copy of the request with only the options that matter here, split ones joined (RFC 3396), each of the
/// length it must have: dhcproto 0.15 asserts where an option it knows is too short. None when an option runs
/// past the end or has a wrong length. A missing end option is tolerated.
pub(super) fn known_only(datagram: &[u8]) -> Option<Vec<u8>> {
    let (fixed, mut rest) = datagram.split_at_checked(FIXED)?;
    let mut found: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while let Some((&code, tail)) = rest.split_first() {
        rest = match code {
            PAD => tail,
            END => break,
            _ => {
                let (&length, tail) = tail.split_first()?;
                let (value, tail) = tail.split_at_checked(usize::from(length))?;
                found.entry(code).or_default().extend_from_slice(value);
                tail
            }
        };
    }
    let mut out = fixed.to_vec();
    for (code, value) in found {
        let right = match code {
            REQUESTED_ADDRESS | LEASE_TIME | SERVER => value.len() == 4,
            MESSAGE_TYPE => value.len() == 1,
            MAX_SIZE => value.len() == 2,
            REQUEST_LIST | CLIENT_ID => (1..=255).contains(&value.len()),
            _ => continue,
        };
        if !right {
            return None;
        }
        out.extend([code, u8::try_from(value.len()).ok()?]);
        out.extend(value);
    }
    out.push(END);
    Some(out)
}

/// For a client that asks for nothing in particular.
const USUAL: [u8; 8] = [MASK, ROUTER, DNS, HOST_NAME, DOMAIN_NAME, BROADCAST, MTU, SEARCH];

/// Options of OFFER and ACK. Without a lease time it is the answer to an INFORM (RFC 2131 §4.3.5).
pub(super) fn parameters(
    settings: &OneGuest,
    request: &Request,
    kind: MessageType,
    lease_secs: Option<u32>,
) -> Vec<u8> {
    let mut out = Options::new(settings, request, kind);
    if let Some(seconds) = lease_secs {
        out.must(LEASE_TIME, &seconds.to_be_bytes());
        out.must(T1, &(seconds / 2).to_be_bytes());
        out.must(T2, &(seconds / 8 * 7).to_be_bytes());
    }
    let wanted = request.wanted.as_deref().unwrap_or(&USUAL);
    if !wanted.contains(&MASK) {
        // Some clients read the mask before the router (quirk of BSDs), all need it.
        out.value(settings, MASK);
    }
    for &code in wanted {
        out.value(settings, code);
    }
    if settings.mtu < 1500 {
        // Told unasked: a guest with too large an MTU loses its large packets and nothing says why.
        out.value(settings, MTU);
    }
    out.finish()
}

/// RFC 2131 table 3: a NAK carries no parameters.
pub(super) fn nak(settings: &OneGuest, request: &Request, message: &str) -> Vec<u8> {
    let mut out = Options::new(settings, request, MessageType::Nak);
    out.may(MESSAGE, message.as_bytes());
    out.finish()
}

struct Options {
    bytes: Vec<u8>,
    sent: Vec<u8>,
    /// Octets for options, the end option not counted.
    room: usize,
}

impl Options {
    fn new(settings: &OneGuest, request: &Request, kind: MessageType) -> Self {
        let room = request.most.saturating_sub(FIXED + 1);
        let mut out = Self { bytes: Vec::with_capacity(256), sent: Vec::new(), room };
        out.must(MESSAGE_TYPE, &[kind.into()]);
        out.must(SERVER, &settings.server.octets());
        if let Some(client_id) = &request.client_id {
            out.may(CLIENT_ID, client_id);
        }
        out
    }

    /// Five to ten octets each: they always fit.
    fn must(&mut self, code: u8, value: &[u8]) {
        self.may(code, value);
    }

    /// Appends an option whole or not at all; more than 255 octets are split (RFC 3396).
    fn may(&mut self, code: u8, value: &[u8]) {
        let length = value.len() + 2 * value.len().div_ceil(255);
        if value.is_empty() || self.sent.contains(&code) || self.bytes.len() + length > self.room {
            return;
        }
        self.sent.push(code);
        for part in value.chunks(255) {
            self.bytes.extend([code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            self.bytes.extend_from_slice(part);
        }
    }

    fn value(&mut self, settings: &OneGuest, code: u8) {
        let value = match code {
            MASK => settings.guest.mask().octets().to_vec(),
            ROUTER => settings.server.octets().to_vec(),
            BROADCAST => settings.guest.broadcast().octets().to_vec(),
            DNS => settings.dns.iter().flat_map(Ipv4Addr::octets).collect(),
            HOST_NAME => settings.hostname.bytes().collect(),
            DOMAIN_NAME => {
                settings.search.first().map(|domain| domain.as_bytes().to_vec()).unwrap_or_default()
            }
            MTU => u16::try_from(settings.mtu).unwrap_or(u16::MAX).to_be_bytes().to_vec(),
            SEARCH => search_list(&settings.search),
            ROUTES | ROUTES_MICROSOFT => default_route(settings.server),
            _ => return,
        };
        self.may(code, &value);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        self.bytes
    }
}

/// RFC 3442: a prefix of no bits, then the router. A client that asks for 121 does not look at 3.
fn default_route(router: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(router.octets());
    bytes
}

/// RFC 3397: names as DNS writes them, a suffix that was there before by a pointer (RFC 1035 §4.1.4).
pub(super) fn search_list(domains: &[String]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    let mut known: Vec<(Vec<&str>, usize)> = Vec::new();
    for domain in domains {
        let labels: Vec<&str> = domain.split('.').collect();
        if labels.iter().any(|label| label.is_empty() || label.len() > 63) {
            continue;
        }
        let mut rest = labels.as_slice();
        loop {
            if let Some((_, at)) = known.iter().find(|(suffix, _)| suffix == rest) {
                let pointer = 0xc000 | u16::try_from(*at).unwrap_or(0);
                out.extend(pointer.to_be_bytes());
                break;
            }
            let Some((label, below)) = rest.split_first() else {
                out.push(0);
                break;
            };
            if out.len() < 0x4000 {
                known.push((rest.to_vec(), out.len()));
            }
            out.push(u8::try_from(label.len()).unwrap_or(0));
            out.extend(label.bytes());
            rest = below;
        }
    }
    out
}
