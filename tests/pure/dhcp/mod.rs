//! Every row of the DHCPv4 table (docs/dhcp-dns.md), black box: packets as bytes in, packets or silence out. A case
//! speaks to a `Wire`, so that it runs on the core under a virtual clock, and on a server behind a real link.

#[macro_use]
mod wire;

mod abuse;
mod beside;
mod binding;
mod boot;
mod config;
#[cfg(feature = "e2e")]
mod dnsmasq;
#[cfg(feature = "e2e")]
mod link;
mod malformed;
mod model;
mod networks;
mod options;
mod oracle;
mod packet;
mod pairs;
mod policy;
mod relay;

#[cfg(feature = "e2e")]
fn all_cases() -> impl Iterator<Item = &'static wire::Case> {
    [binding::CASES, boot::CASES, malformed::CASES, options::CASES, policy::CASES, relay::CASES]
        .into_iter()
        .flatten()
}
