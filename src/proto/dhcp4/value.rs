//! Values of options as they go out: those that are the same for every client of a subnet, laid out once.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Parameters, Subnet, code};
use crate::net::Ipv4Prefix;

/// RFC 8925 §3.4: MIN_V6ONLY_WAIT, in seconds.
const MIN_V6_ONLY: u32 = 300;

/// By code; empty ones are left out.
pub(super) fn prepared(subnet: &Subnet) -> BTreeMap<u8, Vec<u8>> {
    let is = &subnet.parameters;
    let search = search_list(&is.search);
    let network =
        Ipv4Prefix { length: is.mask_length().unwrap_or(subnet.network.length), ..subnet.network };
    let routes = routes(network, is);
    // RFC 3021: two addresses, or one, leave none to broadcast to.
    let broadcast = Some(network.broadcast()).filter(|_| network.length < 31);
    let computed = [
        (code::MASK, network.mask().octets().to_vec()),
        (code::ROUTER, is.router.map(|router| router.octets().to_vec()).unwrap_or_default()),
        (code::DNS, is.dns.iter().flat_map(Ipv4Addr::octets).collect()),
        (code::DOMAIN_NAME, domain(subnet).unwrap_or_default().as_bytes().to_vec()),
        (code::MTU, is.mtu.map(|mtu| mtu.max(68).to_be_bytes().to_vec()).unwrap_or_default()),
        (code::BROADCAST, broadcast.map(|address| address.octets().to_vec()).unwrap_or_default()),
        (code::SEARCH, search),
        (code::ROUTES, routes.clone()),
        (code::ROUTES_MICROSOFT, routes),
    ];
    let configured =
        is.options.iter().filter(|(code, _)| !code::is_ours(**code)).map(|(code, value)| {
            let seconds = <[u8; 4]>::try_from(value.as_slice()).map(u32::from_be_bytes);
            match (*code, seconds) {
                (code::V6_ONLY, Ok(seconds)) => {
                    (*code, seconds.max(MIN_V6_ONLY).to_be_bytes().to_vec())
                }
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
    let name = is.domain.as_ref().or(is.search.first()).map(|name| name.trim_end_matches('.'));
    name.filter(|name| !name.is_empty())
}

/// RFC 3442. A client that asks for 121 does not look at 3, so the default route is in it unless it is among those
/// told already, and before it the way to a router that is not in the network itself.
fn routes(network: Ipv4Prefix, is: &Parameters) -> Vec<u8> {
    let mut out = Vec::new();
    let whole = |address, length| Ipv4Prefix { address, length };
    for &(to, by) in &is.routes {
        add_route(&mut out, to, by);
    }
    let has_default = is.routes.iter().any(|(to, _)| to.length == 0);
    if let Some(router) = is.router.filter(|_| !has_default) {
        if !network.contains(router) || network.length == 32 {
            add_route(&mut out, whole(router, 32), Ipv4Addr::UNSPECIFIED);
        }
        add_route(&mut out, whole(Ipv4Addr::UNSPECIFIED, 0), router);
    }
    out
}

/// Only the octets of the network that its length reaches into.
pub(super) fn add_route(out: &mut Vec<u8>, to: Ipv4Prefix, by: Ipv4Addr) {
    out.push(to.length);
    out.extend(to.network().octets().into_iter().take(usize::from(to.length.div_ceil(8))));
    out.extend(by.octets());
}

/// The routes that the octets of 121 or 249 say.
pub fn decode_routes(mut octets: &[u8]) -> Option<Vec<(Ipv4Prefix, Ipv4Addr)>> {
    let mut routes = Vec::new();
    while let Some((&length, rest)) = octets.split_first() {
        let (network, rest) = rest.split_at_checked(usize::from(length.div_ceil(8)))?;
        let (by, rest) = rest.split_first_chunk::<4>()?;
        let mut address = [0; 4];
        address.get_mut(..network.len())?.copy_from_slice(network);
        routes.push((Ipv4Prefix::new(address.into(), length)?, Ipv4Addr::from(*by)));
        octets = rest;
    }
    Some(routes)
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

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn routes_are_read_as_they_are_written(
            routes in proptest::collection::vec((proptest::num::u32::ANY, 0u8..=32, proptest::num::u32::ANY), 0..20),
        ) {
            let routes: Vec<(Ipv4Prefix, Ipv4Addr)> = routes
                .into_iter()
                .map(|(to, length, by)| {
                    let to = Ipv4Prefix { address: Ipv4Addr::from_bits(to), length };
                    (Ipv4Prefix { address: to.network(), length }, Ipv4Addr::from_bits(by))
                })
                .collect();
            let mut octets = Vec::new();
            routes.iter().for_each(|(to, by)| add_route(&mut octets, *to, *by));
            proptest::prop_assert_eq!(decode_routes(&octets), Some(routes));
            for cut in 1..octets.len().min(5) {
                proptest::prop_assert_eq!(decode_routes(&octets[..cut]), None);
            }
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
