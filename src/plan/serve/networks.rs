//! The networks served beside each other: each has its own addresses, clients and router.
//!
//! One may lie within another: its addresses are its own, and the larger one has what is around it, as with any route.
//! What leaves no doubt only by chance is refused: one network twice, a range of which nothing is left, our own
//! address behind a relay, a router that is not where its clients are.

use std::net::Ipv4Addr;

use super::addresses::end_of;
use super::{Error, range};
use crate::config::serve::{ServeOptions, Span};
use crate::net::Ipv4Prefix;
use crate::proto::dhcp4::left_of;

/// Whether they fit; what is worth a line at the start.
pub(super) fn check(options: &ServeOptions, own: Ipv4Prefix) -> Result<Vec<String>, Error> {
    let relayed = options.relayed.iter().map(|relayed| relayed.network);
    let networks: Vec<Ipv4Prefix> = std::iter::once(own).chain(relayed).collect();
    let same = |a: &Ipv4Prefix, b: &Ipv4Prefix| (a.network(), a.length) == (b.network(), b.length);
    for (at, network) in networks.iter().enumerate() {
        if networks.iter().take(at).any(|before| same(before, network)) {
            return Err(Error::SameNetwork(*network));
        }
    }
    for relayed in &options.relayed {
        let network = relayed.network;
        if network.length > own.length && network.contains(own.address) {
            return Err(Error::Behind { network, own: own.address });
        }
        if !is_host(network, relayed.router)
            || within(network, &networks).any(|it| it.contains(relayed.router))
        {
            return Err(Error::RouterElsewhere { network, router: relayed.router });
        }
    }
    let spans = options.range.iter().map(|span| (own, *span));
    let spans = spans.chain(options.relayed.iter().map(|relayed| (relayed.network, relayed.span)));
    let mut notes = Vec::new();
    for (network, span) in spans {
        let within: Vec<Ipv4Prefix> = within(network, &networks).collect();
        notes.extend(lost(network, span, &within)?);
    }
    Ok(notes)
}

/// The networks within this one.
fn within(network: Ipv4Prefix, networks: &[Ipv4Prefix]) -> impl Iterator<Item = Ipv4Prefix> {
    networks.iter().copied().filter(move |other| network.encloses(*other))
}

/// What a range gives up to networks within its own.
fn lost(network: Ipv4Prefix, span: Span, within: &[Ipv4Prefix]) -> Result<Option<String>, Error> {
    let count = |first: Ipv4Addr, last: Ipv4Addr| u64::from(last.to_bits() - first.to_bits()) + 1;
    let left: u64 =
        left_of(range(span), within).iter().map(|left| count(left.first, left.last)).sum();
    let gone = count(span.first, span.last).saturating_sub(left);
    let Span { first, last } = span;
    match (left, gone) {
        (0, _) => Err(Error::Swallowed { span, network }),
        (_, 0) => Ok(None),
        _ => Ok(Some(format!(
            "{gone} addresses of {first}-{last} are of a smaller network and given there only"
        ))),
    }
}

fn is_host(network: Ipv4Prefix, address: Ipv4Addr) -> bool {
    network.contains(address) && end_of(network, address).is_none()
}
