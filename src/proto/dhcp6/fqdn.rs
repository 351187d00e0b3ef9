//! Client FQDN (option 39, RFC 4704): nobody's DNS is updated here, and the answer says so.

use crate::net::{DomainName, host_label};

const SERVER_UPDATES: u8 = 1;
const OVERRIDDEN: u8 = 2;
const NO_UPDATE: u8 = 4;
/// RFC 1035 §2.3.4.
const LONGEST: usize = 255;

/// The first label of the client's name, when it can be one.
pub(super) fn label(option: &[u8]) -> Option<&str> {
    let (_, name) = option.split_first()?;
    is_whole(name)?;
    let (&length, rest) = name.split_first()?;
    host_label(rest.get(..usize::from(length))?).filter(|label| label.len() == usize::from(length))
}

/// The reply to a client's option (RFC 4704 §6): its name, completed with the domain where it is but a part of one.
pub(super) fn reply(option: &[u8], domain: Option<&DomainName>) -> Vec<u8> {
    let Some((flags, name)) = option.split_first() else { return Vec::new() };
    let overridden = if flags & SERVER_UPDATES != 0 { OVERRIDDEN } else { 0 };
    let mut out = vec![NO_UPDATE | overridden];
    // Not a name one could have: flags only.
    if label(option).is_none() {
        return out;
    }
    out.extend(name);
    if is_whole(name) == Some(false) {
        let domain = domain.map(DomainName::labels).unwrap_or_default();
        let fits = name.len() + domain.len() <= LONGEST;
        out.extend(domain.into_iter().filter(|_| fits));
    }
    out
}

/// Whether the name ends at the root (RFC 4704 §4.2). None: no labels, or compressed ones, which no option has (RFC 8415 §10).
fn is_whole(mut name: &[u8]) -> Option<bool> {
    while let Some((&length, rest)) = name.split_first() {
        match length {
            0 => return rest.is_empty().then_some(true),
            1..=63 => name = rest.get(usize::from(length)..)?,
            _ => return None,
        }
    }
    Some(false)
}
