//! What `berth serve` refuses, and why.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::MAX_ADDRESSES;
use crate::config::serve::{Span, Span6};
use crate::exit::{Code, Coded};
use crate::net::{IfName, Ipv4Prefix, Ipv6Prefix};
use crate::proto::dhcp4::{INFINITE, OptionError};
use crate::proto::{dhcp6, ndp};

/// What `berth serve` refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0} has no IPv4 address: give it one, or say which subnet to serve with --address")]
    NoAddress(IfName),
    #[error("nothing to serve: --no-dhcp and --no-dns leave nothing")]
    Nothing,
    #[error("--address {0} is {1}, and no host's")]
    Address(Ipv4Prefix, &'static str),
    #[error("--range {span} is not within {network}: --address says which network is served")]
    Outside { span: Span, network: Ipv4Prefix },
    #[error("--reserve {0} is not within any network that is served")]
    ReservedOutside(Ipv4Addr),
    #[error("--reserve says {0} twice: one address, one client")]
    ReservedTwice(Ipv4Addr),
    #[error("--reserve {address} is {what}: no client can have it")]
    ReservedTaken { address: Ipv4Addr, what: &'static str },
    #[error("--reserve gives {client} {} and {} in one network: one client, one address", .addresses[0], .addresses[1])]
    ClientTwice { client: String, addresses: [Ipv4Addr; 2] },
    #[error("--reserve gives the name {name} to {} and {}: one name, one client", .addresses[0], .addresses[1])]
    NameTwice { name: String, addresses: [Ipv4Addr; 2] },
    #[error(
        "--reserve gives the name {name} to {reserved}, and --host to {host}: say both alike, or one alone"
    )]
    NameElsewhere { name: String, reserved: Ipv4Addr, host: Ipv4Addr },
    #[error(
        "neither --range nor --reserve: there are no addresses to give away (--no-dhcp for DNS alone)"
    )]
    NoAddresses,
    #[error("no address is left to give away: {0}")]
    NothingLeft(String),
    #[error("--relayed {0} is a network that is served already: each may be said once")]
    SameNetwork(Ipv4Prefix),
    #[error(
        "--relayed {network} has our own address {own} in it: its clients would not ask their relay"
    )]
    Behind { network: Ipv4Prefix, own: Ipv4Addr },
    #[error(
        "--relayed {network}: its router {router} is no host of that network, so that no client reaches it"
    )]
    RouterElsewhere { network: Ipv4Prefix, router: Ipv4Addr },
    #[error("the range {}-{} of {network} lies in a smaller network that is served: no address is left in it", .span.first, .span.last)]
    Swallowed { span: Span, network: Ipv4Prefix },
    #[error("more than {MAX_ADDRESSES} addresses in all ranges")]
    TooMany,
    #[error("{} {} is longer than {} {}: min up to default up to max", .0[0].0, secs(.0[0].1), .0[1].0, secs(.0[1].1))]
    LeaseTime([(&'static str, u32); 2]),
    #[error(
        "--upstream names no server that can be asked ({0}): name another, or none for those of resolv.conf"
    )]
    NoUpstream(String),
    #[error("--option")]
    Option(#[from] OptionError),
    #[error("--option {0} is said twice: several values of one option go by comma")]
    OptionTwice(u8),
    #[error("--option {code} and {flag} say the same thing: leave one out")]
    SaidTwice { code: u8, flag: &'static str },
    #[error(
        "--option 33 alone: clients that take 121 do not look at it, say --option 121=NETWORK/LENGTH,ROUTER as well"
    )]
    StaticRoutes,
    #[error(
        "--option 121 and --option 249 differ: they are the same routes for different clients, leave 249 out"
    )]
    RoutesDiffer,
    #[error(
        "--option 121 holds no routes: its octets are those of RFC 3442, or NETWORK/LENGTH,ROUTER pairs"
    )]
    NoRoutes,
    #[error("the default route is by {router}, and by {by} in --option 121: leave one out")]
    TwoDefaults { router: Ipv4Addr, by: Ipv4Addr },
    #[error("the router {router} is {what} of {network}, and no host's: name a host, or none")]
    NoRouter { router: Ipv4Addr, what: &'static str, network: Ipv4Prefix },
    #[error("--boot-file has two files for {0}: {1} and {2}")]
    BootTwice(String, String, String),
    #[error(
        "{0} says something of IPv6, which is not served: say --range6, --reserve6 or --router-advertisements as well"
    )]
    NoIpv6(&'static str),
    #[error("--range6 {0} is not within {1}: --address6 says which network is served")]
    Outside6(Span6, Ipv6Prefix),
    #[error("--relayed6 {0}: {1} is not within it")]
    RelayedOutside6(Ipv6Prefix, Span6),
    #[error("--relayed6 {0} overlaps {1}, which is served already: each address is of one network")]
    Overlap6(Ipv6Prefix, Ipv6Prefix),
    #[error("--reserve6 {0} is not within any network that is served")]
    ReservedOutside6(Ipv6Addr),
    #[error("--reserve6 says {0} twice: one address, one client")]
    ReservedTwice6(Ipv6Addr),
    #[error("--reserve6 {0} is {1}: no client can have it")]
    ReservedTaken6(Ipv6Addr, &'static str),
    #[error("--reserve6 gives {client} {} and {} in one network: one client, one address", .addresses[0], .addresses[1])]
    ClientTwice6 { client: String, addresses: [Ipv6Addr; 2] },
    #[error("--reserve6 gives the name {name} to {} and {}: one name, one client", .addresses[0], .addresses[1])]
    NameTwice6 { name: String, addresses: [Ipv6Addr; 2] },
    #[error(
        "--reserve6 gives the name {name} to {reserved}, and --host to {host}: say both alike, or one alone"
    )]
    NameElsewhere6 { name: String, reserved: Ipv6Addr, host: Ipv6Addr },
    #[error(
        "--router-advertisements {1} has hosts make their addresses, which takes a /64 (RFC 4862), and {0} is none"
    )]
    Autonomous(Ipv6Prefix, &'static str),
    #[error("DHCPv6")]
    Dhcp6(#[from] dhcp6::Error),
    #[error("router advertisements")]
    Advertisement(#[from] ndp::Error),
}

impl Coded for Error {
    /// Usage where the words are wrong for every pod, whatever its link is.
    fn code(&self) -> Code {
        match self {
            Self::Nothing
            | Self::Address(..)
            | Self::ReservedTwice(_)
            | Self::NameTwice { .. }
            | Self::NameElsewhere { .. }
            | Self::NoAddresses
            | Self::RouterElsewhere { .. }
            | Self::TooMany
            | Self::LeaseTime(_)
            | Self::Option(_)
            | Self::OptionTwice(_)
            | Self::SaidTwice { .. }
            | Self::StaticRoutes
            | Self::RoutesDiffer
            | Self::NoRoutes
            | Self::BootTwice(..)
            | Self::NoIpv6(_)
            | Self::RelayedOutside6(..)
            | Self::ReservedTwice6(_)
            | Self::NameTwice6 { .. }
            | Self::NameElsewhere6 { .. }
            | Self::Dhcp6(_) => Code::Usage,
            Self::NoAddress(_)
            | Self::Outside { .. }
            | Self::ReservedOutside(_)
            | Self::ReservedTaken { .. }
            | Self::ClientTwice { .. }
            | Self::NothingLeft(_)
            // It may be the link's own.
            | Self::SameNetwork(_)
            | Self::Behind { .. }
            | Self::Swallowed { .. }
            | Self::NoUpstream(_)
            | Self::TwoDefaults { .. }
            | Self::NoRouter { .. }
            | Self::Outside6(..)
            | Self::Overlap6(..)
            | Self::ReservedOutside6(_)
            | Self::ReservedTaken6(..)
            | Self::ClientTwice6 { .. }
            | Self::Autonomous(..)
            | Self::Advertisement(_) => Code::Plan,
        }
    }
}

fn secs(secs: u32) -> String {
    if secs == INFINITE { "infinite".to_owned() } else { secs.to_string() }
}
