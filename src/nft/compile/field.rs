//! What a rule can look at: where it is, of which type, and which protocol must be known for it.

use nftables::expr::{CT, CTDir, CTFamily, Fib, MetaKey, Payload, PayloadBase};
use serde::Serialize;

use super::Why;
use super::kind::Kind;
pub use crate::nft::build::{IPV4, IPV6};
use crate::nft::expr::Expr;
use crate::nft::names::header::{self, Header};
use crate::nft::names::key::{self, Key, base, by_number, ct, meta, number_of};
use crate::nft::names::words::{FIB_FLAGS, FIB_RESULTS, Words, number};
use crate::nft::names::{Order, Type};

/// Something to be loaded into a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Register 1 stands for whichever it will be.
    pub load: Expr,
    pub kind: Kind,
    /// Octets loaded.
    pub octets: usize,
    /// The field is these bits of what is loaded; its lowest is so many bits above the lowest loaded.
    pub bits: Option<(Vec<u8>, u32)>,
    pub needs: Needs,
    /// The header and its field, where it is one.
    pub header: Option<(&'static Header, header::Field)>,
}

/// The protocol a header field belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    Ether,
    /// AF_INET or AF_INET6.
    Network(u8),
    Arp,
    Transport(u8),
    /// ICMP of one of the two families, or IGMP.
    Icmp {
        protocol: u8,
        family: u8,
    },
}

pub const TCP: u8 = 6;
/// The kernel keeps the offset of a payload in an octet (`struct nft_payload`).
const PAYLOAD_OFFSET_MAX: u32 = 255;

impl Field {
    fn whole(load: Expr, kind: Kind) -> Self {
        Self { load, kind, octets: kind.octets(), bits: None, needs: Needs::Nothing, header: None }
    }

    pub fn payload(payload: &Payload<'_>) -> Result<Self, Why> {
        let field = match payload {
            Payload::PayloadField(field) => field,
            Payload::PayloadRaw(raw) => {
                let base = match raw.base {
                    PayloadBase::LL => base::LINK,
                    PayloadBase::NH => base::NETWORK,
                    PayloadBase::TH => base::TRANSPORT,
                    PayloadBase::IH => {
                        return Err("a raw payload of base ih is not supported".into());
                    }
                };
                if raw.offset % 8 != 0 || raw.len % 8 != 0 || !(8..=128).contains(&raw.len) {
                    return Err(
                        "a raw payload that is not of whole octets, 1 to 16, is not supported"
                            .into(),
                    );
                }
                if raw.offset / 8 > PAYLOAD_OFFSET_MAX {
                    return Err(format!(
                        "a raw payload past octet {PAYLOAD_OFFSET_MAX} is not supported"
                    ));
                }
                let kind = Kind { kind: Type::Hex, bits: raw.len, order: Order::Network };
                return Ok(Self::bits(base, raw.offset, raw.len, kind, Needs::Nothing));
            }
        };
        let (protocol, name) = (field.protocol.as_ref(), field.field.as_ref());
        let unsupported = || format!("the header field {protocol} {name} is not supported");
        let header = Header::by_name(protocol).ok_or_else(unsupported)?;
        let (base, needs) = place_of(header).ok_or_else(unsupported)?;
        // What only some messages of ICMP have would need more than its protocol.
        let field = header.fields.iter().find(|field| field.name == name && field.only.is_empty());
        let field = *field.ok_or_else(unsupported)?;
        let kind = Kind { kind: field.kind, bits: field.bits, order: Order::Network };
        let found = Self::bits(base, field.offset, field.bits, kind, needs);
        Ok(Self { header: Some((header, field)), ..found })
    }

    /// `offset` and `len` in bits.
    fn bits(base: u32, offset: u32, len: u32, kind: Kind, needs: Needs) -> Self {
        let first = offset / 8;
        let octets = (offset + len).div_ceil(8) - first;
        let load = Expr::Payload { base, offset: first, len: octets, dreg: 1 };
        let shift = octets * 8 - offset % 8 - len;
        let partial = !offset.is_multiple_of(8) || !len.is_multiple_of(8);
        let bits = partial.then(|| {
            let mask = ((1u64 << len) - 1) << shift;
            let bytes = mask.to_be_bytes();
            let skip = bytes.len().saturating_sub(octets as usize);
            (bytes.get(skip..).unwrap_or(&[]).to_vec(), shift)
        });
        Self { load, kind, octets: octets as usize, bits, needs, header: None }
    }

    pub fn meta(wanted: MetaKey) -> Result<Self, Why> {
        let word = word_of(&wanted);
        let unsupported = || format!("the meta key {word} is not supported");
        let key = number_of(key::META, None, &word).ok_or_else(unsupported)?;
        // As people write them they depend on the time zone.
        if matches!(key, meta::TIME | meta::HOUR) {
            return Err(unsupported());
        }
        let found = by_number(key::META, key).ok_or_else(unsupported)?;
        Ok(Self::whole(Expr::Meta { key, dreg: 1 }, found.into()))
    }

    pub fn ct(wanted: &CT<'_>) -> Result<Self, Why> {
        let direction = wanted.dir.map(|dir| match dir {
            CTDir::Original => 0,
            CTDir::Reply => 1,
        });
        let unsupported = || format!("the ct key {} is not supported", wanted.key);
        // The family is a word of its own, or one with the key's.
        let word = match wanted.family {
            Some(CTFamily::IP) => format!("ip {}", wanted.key),
            Some(CTFamily::IP6) => format!("ip6 {}", wanted.key),
            None => wanted.key.to_string(),
        };
        let key = number_of(key::CT, None, &word).ok_or_else(unsupported)?;
        // Which direction they want: none, one, any.
        let directed = match key {
            ct::STATE | ct::DIRECTION | ct::STATUS | ct::MARK => Some(false),
            ct::PROTO_SRC | ct::PROTO_DST | ct::SRC_IP..=ct::DST_IP6 => Some(true),
            ct::L3PROTO | ct::PROTOCOL | ct::PKTS | ct::BYTES | ct::AVGPKT | ct::ZONE => None,
            _ => return Err(unsupported()),
        };
        if directed.is_some_and(|directed| directed != direction.is_some()) {
            let word = if direction.is_some() { "with" } else { "without" };
            return Err(format!("the ct key {} {word} a direction is not supported", wanted.key));
        }
        // Of a protocol the kernel takes a direction, and forgets it: both have the same.
        let direction = direction.filter(|_| !matches!(key, ct::L3PROTO | ct::PROTOCOL));
        let found = by_number(key::CT, key).ok_or_else(unsupported)?;
        Ok(Self::whole(Expr::Ct { key, dreg: 1, direction }, found.into()))
    }

    /// `present`: compared with true or false.
    pub fn fib(fib: &Fib, present: bool) -> Result<Self, Why> {
        let flags = bits_of(FIB_FLAGS, &fib.flags)?;
        let result = number(FIB_RESULTS, &word_of(&fib.result))
            .ok_or("this result of fib is not supported")?;
        let flags = if present { flags | key::fib::PRESENT } else { flags };
        let found = key::fib(result, flags).ok_or("this result of fib is not supported")?;
        // The kernel fills a whole register with the answer.
        let kind = if present { Kind { bits: 32, ..Kind::from(&found) } } else { (&found).into() };
        Ok(Self::whole(Expr::Fib { dreg: 1, result, flags }, kind))
    }

    /// The load, into this register.
    pub(crate) fn load_into(&self, register: u32) -> Expr {
        let mut load = self.load.clone();
        if let Expr::Payload { dreg, .. }
        | Expr::Meta { dreg, .. }
        | Expr::Ct { dreg, .. }
        | Expr::Fib { dreg, .. } = &mut load
        {
            *dreg = register;
        }
        load
    }
}

impl From<&Key> for Kind {
    fn from(key: &Key) -> Self {
        Self { kind: key.kind, bits: key.bits, order: key.order }
    }
}

/// Where a header is, and what must be known for it; None for headers that are not supported.
fn place_of(header: &Header) -> Option<(u32, Needs)> {
    Some(match header.name {
        "ether" => (base::LINK, Needs::Ether),
        "arp" => (base::NETWORK, Needs::Arp),
        "ip" => (base::NETWORK, Needs::Network(IPV4)),
        "ip6" => (base::NETWORK, Needs::Network(IPV6)),
        "th" => (base::TRANSPORT, Needs::Nothing),
        "icmp" | "igmp" => {
            (base::TRANSPORT, Needs::Icmp { protocol: header.protocol()?, family: IPV4 })
        }
        "icmpv6" => (base::TRANSPORT, Needs::Icmp { protocol: header.protocol()?, family: IPV6 }),
        _ => (base::TRANSPORT, Needs::Transport(header.protocol()?)),
    })
}

/// The word that the document has for a value of the crate's type.
pub(crate) fn word_of(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.as_ref().and_then(|value| value.as_str()).unwrap_or("?").to_owned()
}

/// Flags together, by the words that the document has for them.
pub(crate) fn bits_of<'a, Flag: Serialize + 'a>(
    words: Words,
    flags: impl IntoIterator<Item = &'a Flag>,
) -> Result<u32, Why> {
    flags.into_iter().try_fold(0, |bits, flag| {
        let word = word_of(flag);
        let bit = number(words, &word).ok_or_else(|| format!("the flag {word}"))?;
        Ok(bits | bit)
    })
}
