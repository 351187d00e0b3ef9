//! Options as they lie in a message (RFC 8415 §21.1): a code, a length and a value, each of them whole.
//!
//! What is read is checked here once: lengths to the last octet, and that there is one of what there may be one of.
//! Options that are not known are as long as they say, and nothing else is asked of them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use dhcproto::v6::OptionCode;

use super::Reason;
use super::duid::LENGTHS as DUID;

/// Identity associations: the identifier, and T1 and T2 where there are any (RFC 8415 §21.4, §21.5).
pub(super) const IA: usize = 12;
pub(super) const IA_TEMPORARY: usize = 4;
/// An address with its lifetimes (§21.6), and a prefix (§21.22).
pub(super) const IA_ADDRESS: usize = 24;
pub(super) const IA_PREFIX: usize = 25;
/// What an option's own length can say.
const ANY: usize = 0xffff;

/// An option: code and value.
pub(super) type Item<'a> = (OptionCode, &'a [u8]);

/// All options of an area, in their order. Nothing of it is used when one of them is not right.
pub(super) fn read(mut rest: &[u8]) -> Result<Vec<Item<'_>>, Reason> {
    let mut found = Vec::new();
    let mut single = BTreeSet::new();
    while !rest.is_empty() {
        let (code, length, tail) = head(rest).ok_or(Reason::Malformed)?;
        let (value, tail) = tail.split_at_checked(length).ok_or(Reason::Malformed)?;
        let code = OptionCode::from(code);
        if !lengths(code).contains(&length) || code == OptionCode::ORO && !length.is_multiple_of(2)
        {
            return Err(Reason::Malformed);
        }
        if is_single(code) && !single.insert(u16::from(code)) {
            return Err(Reason::Repeated);
        }
        found.push((code, value));
        rest = tail;
    }
    Ok(found)
}

fn head(octets: &[u8]) -> Option<(u16, usize, &[u8])> {
    let (&[high, low, long, short], tail) = octets.split_first_chunk()?;
    Some((u16::from_be_bytes([high, low]), usize::from(u16::from_be_bytes([long, short])), tail))
}

/// Octets that the value may have: RFC 8415 §21, RFC 4704 §4, RFC 8357.
fn lengths(code: OptionCode) -> RangeInclusive<usize> {
    match code {
        OptionCode::ClientId | OptionCode::ServerId => DUID,
        OptionCode::IANA | OptionCode::IAPD => IA..=ANY,
        OptionCode::IATA => IA_TEMPORARY..=ANY,
        OptionCode::IAAddr => IA_ADDRESS..=ANY,
        OptionCode::IAPrefix => IA_PREFIX..=ANY,
        OptionCode::Preference | OptionCode::ReconfMsg => 1..=1,
        OptionCode::ElapsedTime | OptionCode::RelayPort => 2..=2,
        OptionCode::Authentication => 11..=ANY,
        OptionCode::ServerUnicast => 16..=16,
        OptionCode::StatusCode => 2..=ANY,
        OptionCode::RapidCommit | OptionCode::ReconfAccept => 0..=0,
        OptionCode::VendorClass | OptionCode::VendorOpts | OptionCode::RelayMsg => 4..=ANY,
        OptionCode::InformationRefreshTime | OptionCode::SolMaxRt | OptionCode::InfMaxRt => 4..=4,
        // Flags, and a name (RFC 1035 §2.3.4).
        OptionCode::ClientFqdn => 1..=256,
        _ => 0..=ANY,
    }
}

/// RFC 8415 §21: once, unless it is said to come more often.
fn is_single(code: OptionCode) -> bool {
    matches!(
        code,
        OptionCode::ClientId
            | OptionCode::ServerId
            | OptionCode::ORO
            | OptionCode::Preference
            | OptionCode::ElapsedTime
            | OptionCode::RelayMsg
            | OptionCode::Authentication
            | OptionCode::ServerUnicast
            | OptionCode::StatusCode
            | OptionCode::RapidCommit
            | OptionCode::UserClass
            | OptionCode::InterfaceId
            | OptionCode::ReconfMsg
            | OptionCode::ReconfAccept
            | OptionCode::InformationRefreshTime
            | OptionCode::ClientFqdn
            | OptionCode::SolMaxRt
            | OptionCode::InfMaxRt
            | OptionCode::RelayPort
    )
}

/// Writes an option. A value too long for its length is too long for a message, too: the length of all refuses it.
pub(super) fn write(out: &mut Vec<u8>, code: OptionCode, value: &[u8]) {
    out.extend(u16::from(code).to_be_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(value);
}
