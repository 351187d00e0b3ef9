//! A request as it came: fixed fields (RFC 2131 §2) and the options that matter here, borrowed from the datagram.
//!
//! Split options are joined (RFC 3396), overloaded fields are read (RFC 2132 §9.3), unknown options skipped.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

use super::{COOKIE, FIXED, Reason, code};
use crate::net::MacAddr;
use crate::proto::leases::Hardware;

/// Largest request looked at, in octets of UDP payload: nothing real comes near it.
const LARGEST: usize = 4096;
/// What every client takes (RFC 2131 §2): 576 octets of IP datagram, less IP and UDP headers.
pub(super) const MIN_MESSAGE: usize = 576 - 28;
/// What Ethernet takes.
pub(super) const MAX_MESSAGE: usize = 1500 - 28;
/// Hardware types (IANA's ARP parameters): Ethernet, and what has its addresses too (IEEE 802).
const ETHERNET: u8 = 1;
const IEEE_802: u8 = 6;
/// Its addresses are too long for chaddr (RFC 4390).
const INFINIBAND: u8 = 32;
const SNAME: usize = 44;
const FILE: usize = 108;

/// A request that makes sense so far.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// Op to magic cookie.
    pub header: &'a [u8],
    /// None: a BOOTP request.
    pub kind: Option<MessageType>,
    /// Without the magic cookie options mean nothing.
    pub cookie: bool,
    /// Zeros on InfiniBand.
    pub mac: MacAddr,
    pub hardware: Hardware,
    pub ciaddr: Option<Ipv4Addr>,
    pub giaddr: Option<Ipv4Addr>,
    pub broadcast: bool,
    /// No frame can be sent to the client alone, whatever its flags say (RFC 4390 §2.2).
    pub answered_to_all: bool,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 50.
    pub address: Option<Ipv4Addr>,
    /// Option 51.
    pub lease_secs: Option<u32>,
    /// Octets of UDP payload a reply may have: option 57 less the IP and UDP headers.
    pub max: usize,
    options: Options<'a>,
}

impl<'a> Request<'a> {
    /// Reads a whole BOOTP or DHCP message; the reason why not.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Reason> {
        if datagram.len() > LARGEST {
            return Err(Reason::TooLong);
        }
        let (header, rest) = datagram.split_at_checked(FIXED).ok_or(Reason::Truncated)?;
        let &[op, htype, hlen, _] = header.first_chunk::<4>().ok_or(Reason::Truncated)?;
        if op != 1 {
            return Err(Reason::NotARequest);
        }
        let mac = MacAddr(*field(header, 28).ok_or(Reason::Truncated)?);
        let mac = match (htype, hlen) {
            (ETHERNET | IEEE_802, 6) => mac,
            (INFINIBAND, 0) => MacAddr([0; 6]),
            _ => return Err(Reason::HardwareAddress),
        };
        let cookie = header.ends_with(&COOKIE);
        let options = if cookie {
            Options::gather(header, rest).ok_or(Reason::Malformed)?
        } else {
            Options::default()
        };
        let address = |at| {
            field::<4>(header, at)
                .map(|&octets| Ipv4Addr::from(octets))
                .filter(|it| !it.is_unspecified())
        };
        Ok(Self {
            kind: options.fixed(code::MESSAGE_TYPE)?.map(|[kind]| MessageType::from(kind)),
            cookie,
            mac,
            hardware: Hardware { kind: htype, address: mac },
            ciaddr: address(12),
            giaddr: address(24),
            broadcast: field::<1>(header, 10).is_some_and(|[flags]| flags & 0x80 != 0),
            answered_to_all: htype == INFINIBAND,
            server: options.fixed(code::SERVER)?.map(Ipv4Addr::from_octets),
            address: options.fixed(code::REQUESTED_ADDRESS)?.map(Ipv4Addr::from_octets),
            lease_secs: options.fixed(code::LEASE_TIME)?.map(u32::from_be_bytes),
            max: options.fixed(code::MAX_SIZE)?.map_or(MIN_MESSAGE, |size| {
                usize::from(u16::from_be_bytes(size))
                    .saturating_sub(28)
                    .clamp(MIN_MESSAGE, MAX_MESSAGE)
            }),
            header,
            options,
        })
    }

    /// What the client is known by, when it says nothing else (RFC 2131 §4.2). On InfiniBand all would be one.
    pub fn machine(&self) -> Option<Vec<u8>> {
        let Hardware { kind, address } = self.hardware;
        (kind != INFINIBAND).then(|| [&[kind], address.0.as_slice()].concat())
    }

    /// The value of an option that is there and not empty.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.value(code).filter(|value| !value.is_empty())
    }

    /// Whether the option is there, even empty.
    pub fn has(&self, code: u8) -> bool {
        self.options.value(code).is_some()
    }

    /// An address that the relay added (RFC 3046).
    pub fn relay(&self, suboption: u8) -> Option<Ipv4Addr> {
        self.suboption(suboption)?.try_into().ok().map(Ipv4Addr::from_octets)
    }

    /// Whether the relay added it, even empty.
    pub(crate) fn has_relay(&self, suboption: u8) -> bool {
        self.suboption(suboption).is_some()
    }

    /// Without giaddr no relay we know of spoke.
    fn suboption(&self, suboption: u8) -> Option<&[u8]> {
        self.giaddr?;
        let mut rest = self.option(code::RELAY_INFORMATION)?;
        while let Some((&[code, length], tail)) = rest.split_first_chunk() {
            let (value, tail) = tail.split_at_checked(usize::from(length))?;
            if code == suboption {
                return Some(value);
            }
            rest = tail;
        }
        None
    }

    /// RFC 3011.
    pub fn subnet_selection(&self) -> Option<Ipv4Addr> {
        self.option(code::SUBNET_SELECTION)?.try_into().ok().map(Ipv4Addr::from_octets)
    }
}

/// `N` octets at an offset.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// Those that are looked at.
const KNOWN: [u8; 19] = [
    code::HOST_NAME,
    code::REQUESTED_ADDRESS,
    code::LEASE_TIME,
    code::OVERLOAD,
    code::MESSAGE_TYPE,
    code::SERVER,
    code::REQUEST_LIST,
    code::MAX_SIZE,
    code::VENDOR_CLASS,
    code::CLIENT_ID,
    code::USER_CLASS,
    code::RAPID_COMMIT,
    code::FQDN,
    code::RELAY_INFORMATION,
    code::AUTHENTICATION,
    code::ARCHITECTURE,
    code::AUTO_CONFIGURE,
    code::SUBNET_SELECTION,
    code::IPXE,
];

#[derive(Debug, Default)]
struct Options<'a>([Option<Cow<'a, [u8]>>; KNOWN.len()]);

impl<'a> Options<'a> {
    /// None when an option runs past its field, or there are two client identifiers. A missing end is tolerated.
    fn gather(header: &'a [u8], options: &'a [u8]) -> Option<Self> {
        let mut found = Self::default();
        found.read(options)?;
        // RFC 2132 §9.3; the order is that of RFC 3396 §5.
        let overloaded =
            found.value(code::OVERLOAD).and_then(|value| value.first().copied()).unwrap_or(0);
        if overloaded & 1 != 0 {
            found.read(header.get(FILE..FILE + 128)?)?;
        }
        if overloaded & 2 != 0 {
            found.read(header.get(SNAME..SNAME + 64)?)?;
        }
        Some(found)
    }

    fn read(&mut self, mut rest: &'a [u8]) -> Option<()> {
        while let Some((&code, tail)) = rest.split_first() {
            rest = match code {
                code::PAD => tail,
                code::END => break,
                _ => {
                    let (&length, tail) = tail.split_first()?;
                    let (value, tail) = tail.split_at_checked(usize::from(length))?;
                    self.add(code, value)?;
                    tail
                }
            };
        }
        Some(())
    }

    fn add(&mut self, code: u8, value: &'a [u8]) -> Option<()> {
        let Some(slot) = slot(code).and_then(|at| self.0.get_mut(at)) else { return Some(()) };
        match slot {
            // Joined they would be a third client. Longer ones than 255 octets nobody sends.
            Some(first) if code == code::CLIENT_ID => return (**first == *value).then_some(()),
            Some(first) => first.to_mut().extend_from_slice(value),
            None => *slot = Some(Cow::Borrowed(value)),
        }
        Some(())
    }

    fn value(&self, code: u8) -> Option<&[u8]> {
        self.0.get(slot(code)?)?.as_deref()
    }

    fn fixed<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, Reason> {
        self.value(code).map(|value| value.try_into().map_err(|_| Reason::Malformed)).transpose()
    }
}

fn slot(code: u8) -> Option<usize> {
    KNOWN.iter().position(|&known| known == code)
}
