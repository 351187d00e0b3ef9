//! Values of options as they go out: those that are the same for every client of a subnet, laid out once; and what
//! a person writes for `--option`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Subnet, code};
use crate::net::Ipv4Prefix;

/// RFC 8925 §3.4: MIN_V6ONLY_WAIT, in seconds.
const LEAST_V6_ONLY: u32 = 300;

/// By code; empty ones are left out.
pub(super) fn prepared(subnet: &Subnet) -> BTreeMap<u8, Vec<u8>> {
    let is = &subnet.parameters;
    let search = search_list(&is.search);
    let routes = routes(subnet);
    let computed = [
        (code::MASK, subnet.network.mask().octets().to_vec()),
        (code::ROUTER, is.router.map(|router| router.octets().to_vec()).unwrap_or_default()),
        (code::DNS, is.dns.iter().flat_map(Ipv4Addr::octets).collect()),
        (code::DOMAIN_NAME, domain(subnet).unwrap_or_default().as_bytes().to_vec()),
        (code::MTU, is.mtu.map(|mtu| mtu.max(68).to_be_bytes().to_vec()).unwrap_or_default()),
        (code::BROADCAST, subnet.network.broadcast().octets().to_vec()),
        (code::SEARCH, search),
        (code::ROUTES, routes.clone()),
        (code::ROUTES_MICROSOFT, routes),
    ];
    let configured = is.options.iter().filter(|(code, _)| !code::is_ours(**code)).map(|(code, value)| {
        let seconds = <[u8; 4]>::try_from(value.as_slice()).map(u32::from_be_bytes);
        match (*code, seconds) {
            (code::V6_ONLY, Ok(seconds)) => (*code, seconds.max(LEAST_V6_ONLY).to_be_bytes().to_vec()),
            _ => (*code, value.clone()),
        }
    });
    let mut values: BTreeMap<u8, Vec<u8>> = computed.into_iter().chain(configured).collect();
    values.retain(|_, value| !value.is_empty());
    values
}

/// Option 15, without the dot at the end.
pub(super) fn domain(subnet: &Subnet) -> Option<&str> {
    let is = &subnet.parameters;
    is.domain.as_ref().or(is.search.first()).map(|name| name.trim_end_matches('.'))
}

/// RFC 3442. A client that asks for 121 does not look at 3, so the default route is in it, and before it the way to
/// a router that is not in the network itself.
fn routes(subnet: &Subnet) -> Vec<u8> {
    let mut out = Vec::new();
    let whole = |address, length| Ipv4Prefix { address, length };
    for &(to, by) in &subnet.parameters.routes {
        add_route(&mut out, to, by);
    }
    if let Some(router) = subnet.parameters.router {
        if !subnet.network.contains(router) || subnet.network.length == 32 {
            add_route(&mut out, whole(router, 32), Ipv4Addr::UNSPECIFIED);
        }
        add_route(&mut out, whole(Ipv4Addr::UNSPECIFIED, 0), router);
    }
    out
}

/// Only the octets of the network that its length reaches into.
fn add_route(out: &mut Vec<u8>, to: Ipv4Prefix, by: Ipv4Addr) {
    out.push(to.length);
    out.extend(to.network().octets().into_iter().take(usize::from(to.length.div_ceil(8))));
    out.extend(by.octets());
}

/// RFC 3397: names as DNS writes them, a suffix that was there before by a pointer (RFC 1035 §4.1.4).
pub(super) fn search_list(domains: &[String]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    let mut known: Vec<(Vec<&str>, usize)> = Vec::new();
    for domain in domains {
        let labels: Vec<&str> = domain.trim_end_matches('.').split('.').collect();
        if labels.iter().any(|label| label.is_empty() || label.len() > 63) || domain.len() > 254 {
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

/// A host name of one label (RFC 1123 §2.1), as a client may have sent it: with NULs at the end, or with a domain.
pub(super) fn host_label(name: &[u8]) -> Option<&str> {
    let label = name.split(|&byte| byte == b'.' || byte == 0).next()?;
    let right = (1..=63).contains(&label.len())
        && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && !label.starts_with(b"-")
        && !label.ends_with(b"-");
    std::str::from_utf8(label).ok().filter(|_| right)
}

/// Why the words for an option are not its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("option {0} is written by the server itself: leave it out")]
    Ours(u8),
    #[error("option {0} takes {1}, not {2:?}; hex:… gives the octets themselves")]
    Value(u8, &'static str, String),
    #[error("option {0} is {1} octets long: at most 1024 are sent")]
    TooLong(u8, usize),
}

/// The octets of an option from a person's words: addresses, a number or text, whatever the code takes by its RFC,
/// or `hex:0a0b…` for any of them. No words: the option is not sent at all.
pub fn encode(code: u8, words: &str) -> Result<Vec<u8>, OptionError> {
    if code::is_ours(code) {
        return Err(OptionError::Ours(code));
    }
    let (takes, value) = match words.strip_prefix("hex:") {
        Some(digits) => ("pairs of hexadecimal digits", hex(digits)),
        None => typed(code, words),
    };
    let value = value.ok_or_else(|| OptionError::Value(code, takes, words.to_owned()))?;
    if value.len() > 1024 { Err(OptionError::TooLong(code, value.len())) } else { Ok(value) }
}

fn typed(code: u8, words: &str) -> (&'static str, Option<Vec<u8>>) {
    let list = || words.split(',').map(str::trim);
    if words.is_empty() {
        return ("nothing", Some(Vec::new()));
    }
    match code {
        1 | 3..=11 | 16 | 21 | 28 | 32 | 33 | 41 | 42 | 44 | 45 | 48 | 49 | 65 | 68..=76 | 85 | 150 => {
            let octets: Option<Vec<_>> =
                list().map(|word| Some(word.parse::<Ipv4Addr>().ok()?.octets())).collect();
            ("IPv4 addresses", octets.map(|octets| octets.concat()))
        }
        19 | 20 | 23 | 27 | 29..=31 | 34 | 36 | 37 | 39 | 46 | code::AUTO_CONFIGURE => {
            ("a number up to 255", words.parse().ok().map(|number: u8| vec![number]))
        }
        13 | 22 | 25 | code::MTU => {
            let numbers: Option<Vec<_>> =
                list().map(|word| Some(word.parse::<u16>().ok()?.to_be_bytes())).collect();
            ("numbers up to 65535", numbers.map(|numbers| numbers.concat()))
        }
        2 | 24 | 35 | 38 | code::V6_ONLY => {
            // 2 is the one that may be negative: seconds east of Greenwich.
            let number = words.parse::<i64>().ok().and_then(|it| {
                u32::try_from(it).ok().or_else(|| Some(i32::try_from(it).ok()?.cast_unsigned()))
            });
            ("a number of seconds or octets", number.map(|number| number.to_be_bytes().to_vec()))
        }
        code::ROUTES | code::ROUTES_MICROSOFT => {
            let words: Vec<&str> = list().collect();
            let route = |[to, by]: &[&str; 2]| {
                let mut out = Vec::new();
                add_route(&mut out, to.parse().ok()?, by.parse().ok()?);
                Some(out)
            };
            let (pairs, rest) = words.as_chunks();
            let octets: Option<Vec<_>> = pairs.iter().map(route).collect();
            ("NETWORK/LENGTH,ROUTER pairs", octets.filter(|_| rest.is_empty()).map(|octets| octets.concat()))
        }
        code::SEARCH => {
            let names: Vec<String> = list().map(str::to_owned).collect();
            ("domain names", Some(search_list(&names)).filter(|octets| !octets.is_empty()))
        }
        _ => ("text", Some(words.as_bytes().to_vec())),
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = digits.bytes().filter(|digit| *digit != b':').collect();
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2 && !text.starts_with('+'))?;
        u8::from_str_radix(text, 16).ok()
    };
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_written_as_its_rfc_types_it() {
        assert_eq!(encode(42, "10.0.0.1, 10.0.0.2").unwrap(), [10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(encode(26, "1400").unwrap(), [5, 120]);
        assert_eq!(encode(2, "-3600").unwrap(), (-3600i32).to_be_bytes());
        assert_eq!(encode(108, "1800").unwrap(), [0, 0, 7, 8]);
        assert_eq!(encode(252, "http://wpad/").unwrap(), b"http://wpad/");
        assert_eq!(encode(43, "hex:0104:0a000001").unwrap(), [1, 4, 10, 0, 0, 1]);
        assert_eq!(encode(119, "a.b,b").unwrap(), b"\x01a\x01b\x00\xc0\x02");
        assert_eq!(encode(121, "10.9.0.0/16,10.0.0.2").unwrap(), [16, 10, 9, 10, 0, 0, 2]);
        assert!(encode(3, "").unwrap().is_empty());
        for (code, words) in
            [(42, "ntp"), (26, "70000"), (43, "hex:1"), (43, "hex:zz"), (119, "a..b"), (54, "1.2.3.4")]
        {
            assert!(encode(code, words).is_err(), "{code}={words}");
        }
    }

    #[test]
    fn a_host_label_is_what_dns_can_hold() {
        assert_eq!(host_label(b"web\0"), Some("web"));
        assert_eq!(host_label(b"web.example.org"), Some("web"));
        for bad in [&b""[..], b"-web", b"web-", b"we b", b"\0web", &[b'a'; 64], b"w\xffb"] {
            assert_eq!(host_label(bad), None, "{bad:?}");
        }
    }

    /// As a client reads it: labels, pointers back.
    fn read_names(list: &[u8]) -> Vec<String> {
        let (mut names, mut at) = (Vec::new(), 0);
        while at < list.len() {
            let (mut labels, mut here, mut end) = (Vec::new(), at, None);
            while list[here] != 0 {
                if list[here] & 0xc0 == 0xc0 {
                    end = end.or(Some(here + 2));
                    let back = usize::from(u16::from_be_bytes([list[here] & 0x3f, list[here + 1]]));
                    assert!(back < here, "a pointer goes back");
                    here = back;
                } else {
                    let next = here + 1 + usize::from(list[here]);
                    labels.push(std::str::from_utf8(&list[here + 1..next]).unwrap());
                    here = next;
                }
            }
            names.push(labels.join("."));
            at = end.unwrap_or(here + 1);
        }
        names
    }

    proptest::proptest! {
        /// Search domains come from resolv.conf as somebody wrote it.
        #[test]
        fn search_lists_hold_the_names_that_can_be(domains in proptest::collection::vec("[a-cä.]{0,9}|[a-z]{60,66}\\.[a-c]", 0..40)) {
            let can_be = |name: &&String| {
                let name = name.trim_end_matches('.');
                name.split('.').all(|label| (1..64).contains(&label.len()))
            };
            let expected: Vec<String> =
                domains.iter().filter(can_be).map(|name| name.trim_end_matches('.').to_owned()).collect();
            proptest::prop_assert_eq!(read_names(&search_list(&domains)), expected);
        }
    }
}
