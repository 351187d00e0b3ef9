//! Client FQDN (option 81, RFC 4702): nobody's DNS is updated here, and the answer says so.

use crate::net::host_label;

const SERVER_UPDATES: u8 = 1;
const OVERRIDDEN: u8 = 2;
/// The name is in wire form (RFC 1035 §3.1), not ASCII.
const CANONICAL: u8 = 4;
const NO_UPDATE: u8 = 8;
/// RFC 4702 §2.2: not used any more, and this when sent by a server.
const RCODE: u8 = 255;

/// The first label of the client's name, when it can be one.
pub(super) fn label(option: &[u8]) -> Option<&str> {
    let [flags, _, _, name @ ..] = option else { return None };
    if flags & CANONICAL == 0 {
        return host_label(name);
    }
    let (&length, rest) = name.split_first()?;
    host_label(rest.get(..usize::from(length))?).filter(|label| label.len() == usize::from(length))
}

/// The reply to a client's option: its name, or the one reserved for it, completed with the domain.
pub(super) fn reply(option: &[u8], name: Option<&str>, domain: Option<&str>) -> Option<Vec<u8>> {
    let &[flags, _, _, ..] = option else { return None };
    let mut given = option.get(3..).unwrap_or_default();
    while flags & CANONICAL == 0
        && let Some((0, name)) = given.split_last()
    {
        // Windows ends it so.
        given = name;
    }
    let overridden = if flags & SERVER_UPDATES != 0 { OVERRIDDEN } else { 0 };
    let mut out = vec![flags & CANONICAL | NO_UPDATE | overridden, RCODE, RCODE];
    let is_whole = match flags & CANONICAL {
        0 => given.contains(&b'.'),
        _ => given.ends_with(&[0]),
    };
    match name.or_else(|| label(option)) {
        Some(label) if name.is_some() || !is_whole => {
            let labels = std::iter::once(label)
                .chain(domain.into_iter().flat_map(|domain| domain.split('.')));
            let labels: Vec<&str> =
                labels.filter(|label| (1..=63).contains(&label.len())).collect();
            if flags & CANONICAL == 0 {
                out.extend(labels.join(".").bytes());
            } else {
                for label in &labels {
                    out.push(u8::try_from(label.len()).unwrap_or(0));
                    out.extend(label.bytes());
                }
                if domain.is_some() {
                    out.push(0);
                }
            }
        }
        Some(_) => out.extend_from_slice(given),
        // Not a name one could have: flags only.
        None => {}
    }
    (out.len() <= 255).then_some(out)
}
