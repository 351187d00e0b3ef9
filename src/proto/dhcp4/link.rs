//! The settings by what they are looked up by: which subnets a request is about, what is reserved for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::parameters::Values;
use super::request::Request;
use super::{Addresses, Reason, ReservedFor, Settings, code};
use crate::net::{Ipv4Prefix, MacAddr};
use crate::proto::leases::Range;

#[derive(Debug)]
pub(super) struct Link {
    places: Vec<Place>,
    /// Indices of reservations.
    by_mac: BTreeMap<MacAddr, Vec<usize>>,
    by_id: BTreeMap<Vec<u8>, Vec<usize>>,
    /// Addresses that no client gets from a pool: reserved ones and our own.
    kept: BTreeSet<Ipv4Addr>,
}

#[derive(Debug)]
struct Place {
    relayed: bool,
    one_guest: Option<Ipv4Addr>,
    /// Without the network's own and its broadcast address, and without networks within it.
    pool: Vec<Range>,
    whole: Vec<Range>,
    values: Values,
}

impl Link {
    /// Lays out what each subnet gives its clients.
    pub fn new(settings: &Settings) -> Self {
        let networks: Vec<Ipv4Prefix> =
            settings.subnets.iter().map(|subnet| subnet.network).collect();
        let mut link = Self {
            places: settings.subnets.iter().map(|subnet| Place::new(subnet, &networks)).collect(),
            by_mac: BTreeMap::new(),
            by_id: BTreeMap::new(),
            kept: BTreeSet::new(),
        };
        for (at, reservation) in settings.reservations.iter().enumerate() {
            link.kept.insert(reservation.address);
            match &reservation.client {
                ReservedFor::Mac(mac) => link.by_mac.entry(*mac).or_default().push(at),
                ReservedFor::ClientId(id) => link.by_id.entry(id.clone()).or_default().push(at),
            }
        }
        for subnet in &settings.subnets {
            link.kept.insert(subnet.server);
            link.kept.extend(subnet.parameters.routers());
        }
        link
    }

    /// Where the client is: what the relay says of the link (RFC 3527), what is selected (RFC 3011), the relay's own
    /// address, the client's; else the link this server is on. Of networks within each other it is the smallest.
    pub fn subnets(&self, settings: &Settings, request: &Request) -> Result<Vec<usize>, Reason> {
        if let Some(only) = self.places.iter().position(|place| place.one_guest.is_some()) {
            let is_own = request.giaddr.is_none_or(|relay| self.alone() == Some(relay));
            return if is_own { Ok(vec![only]) } else { Err(Reason::NoSubnet) };
        }
        let selected = || request.subnet_selection().filter(|_| settings.subnet_selection);
        let that = |is: &dyn Fn(&Place) -> bool| -> Vec<usize> {
            self.places
                .iter()
                .enumerate()
                .filter(|(_, place)| is(place))
                .map(|(at, _)| at)
                .collect()
        };
        let around = |address| that(&|place| place.has(address));
        let found = match request.relay(code::LINK_SELECTION).or_else(selected).or(request.giaddr) {
            Some(address) => around(address),
            None => {
                let own = request.ciaddr.map(around);
                own.filter(|own| !own.is_empty()).unwrap_or_else(|| that(&|place| !place.relayed))
            }
        };
        if found.is_empty() { Err(Reason::NoSubnet) } else { Ok(found) }
    }

    /// The options of a subnet, by its index in the settings.
    pub fn values(&self, subnet: usize) -> Option<&Values> {
        Some(&self.places.get(subnet)?.values)
    }

    /// The one guest, where nobody else is on the link: a relay could only be itself.
    pub fn alone(&self) -> Option<Ipv4Addr> {
        self.places.iter().find_map(|place| place.one_guest)
    }

    /// The address of the only guest, when the subnet is one guest's.
    pub fn one_guest(&self, subnet: usize) -> Option<Ipv4Addr> {
        self.places.get(subnet)?.one_guest
    }

    /// Addresses for anyone.
    pub fn pool(&self, subnet: usize) -> &[Range] {
        self.places.get(subnet).map(|place| place.pool.as_slice()).unwrap_or_default()
    }

    /// All addresses of a subnet, without those of networks within it.
    pub fn whole(&self, subnet: usize) -> &[Range] {
        self.places.get(subnet).map(|place| place.whole.as_slice()).unwrap_or_default()
    }

    pub(crate) fn is_kept(&self, address: Ipv4Addr) -> bool {
        self.kept.contains(&address)
    }

    /// Which of these subnets gives the address to anyone.
    pub(crate) fn giving(&self, on: &[usize], address: Ipv4Addr) -> Option<usize> {
        let inside = |range: &Range| range.contains(address);
        on.iter()
            .copied()
            .find(|&subnet| self.pool(subnet).iter().any(inside))
            .filter(|_| !self.is_kept(address))
    }

    /// Which of these subnets the address is in.
    pub(crate) fn holding(&self, on: &[usize], address: Ipv4Addr) -> Option<usize> {
        let inside =
            |&subnet: &usize| self.places.get(subnet).is_some_and(|place| place.has(address));
        on.iter().copied().find(inside)
    }

    /// The reservation for a client in one of these subnets: with its subnet. By identifier first, it says more.
    pub fn reservation(
        &self,
        settings: &Settings,
        on: &[usize],
        mac: MacAddr,
        id: Option<&[u8]>,
    ) -> Option<(usize, usize)> {
        let by_id = id.and_then(|id| self.by_id.get(id));
        by_id.into_iter().chain(self.by_mac.get(&mac)).flatten().find_map(|&at| {
            let reservation = settings.reservations.get(at)?;
            Some((at, self.holding(on, reservation.address)?))
        })
    }
}

impl Place {
    fn new(subnet: &super::Subnet, networks: &[Ipv4Prefix]) -> Self {
        let (first, last) = (subnet.network.network(), subnet.network.broadcast());
        // RFC 3021: in a /31 both are hosts, as is the one of a /32.
        let hosts = if subnet.network.length < 31 {
            (first.to_bits() + 1, last.to_bits() - 1)
        } else {
            (first.to_bits(), last.to_bits())
        };
        let inner = |range: &Range| {
            let first = Ipv4Addr::from_bits(range.first.to_bits().max(hosts.0));
            let last = Ipv4Addr::from_bits(range.last.to_bits().min(hosts.1));
            (first <= last).then_some(Range { first, last })
        };
        let within: Vec<Ipv4Prefix> =
            networks.iter().copied().filter(|other| subnet.network.encloses(*other)).collect();
        let (one_guest, pool) = match &subnet.addresses {
            Addresses::OneGuest(address) => (Some(*address), Vec::new()),
            Addresses::Pool(ranges) => (
                None,
                ranges.iter().filter_map(inner).flat_map(|range| left_of(range, &within)).collect(),
            ),
        };
        Self {
            relayed: subnet.relayed,
            one_guest,
            pool,
            whole: left_of(Range { first, last }, &within),
            values: Values::new(subnet),
        }
    }

    /// Whether the address belongs to this network, and to none within it.
    fn has(&self, address: Ipv4Addr) -> bool {
        self.whole.iter().any(|range| range.contains(address))
    }
}

/// What is left of a range without these networks.
pub fn left_of(range: Range, networks: &[Ipv4Prefix]) -> Vec<Range> {
    networks.iter().fold(vec![range], |ranges, network| {
        let (first, last) = (network.network().to_bits(), network.broadcast().to_bits());
        let around = |range: Range| {
            let (from, to) = (range.first.to_bits(), range.last.to_bits());
            let below = first.checked_sub(1).map(|end| (from, to.min(end)));
            let above = last.checked_add(1).map(|begin| (from.max(begin), to));
            [below, above].into_iter().flatten().filter(|(first, last)| first <= last)
        };
        let range = |(first, last)| Range {
            first: Ipv4Addr::from_bits(first),
            last: Ipv4Addr::from_bits(last),
        };
        ranges.into_iter().flat_map(around).map(range).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Address by address: what is left is what was there and is in none of the networks, once.
        #[test]
        fn a_range_without_networks_is_what_neither_has(
            first in 0u32..200,
            size in 0u32..200,
            networks in proptest::collection::vec((0u32..256, 24u8..=32), 0..6),
        ) {
            let base = if first % 2 == 0 { 0 } else { 0xffff_ff00 };
            let address = |low: u32| Ipv4Addr::from_bits(base + low.min(255));
            let range = Range { first: address(first), last: address(first + size) };
            let networks: Vec<Ipv4Prefix> =
                networks.into_iter().filter_map(|(low, length)| Ipv4Prefix::new(address(low), length)).collect();
            let left = left_of(range, &networks);
            for low in 0..256 {
                let it = address(low);
                let wanted = range.contains(it) && !networks.iter().any(|network| network.contains(it));
                let found = left.iter().filter(|range| range.contains(it)).count();
                proptest::prop_assert_eq!(found, usize::from(wanted), "{}", it);
            }
        }
    }
}
