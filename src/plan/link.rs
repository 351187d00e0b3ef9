//! The links: a bridge that holds the gateway's address, a tap in it for QEMU, forwarding on both sides.

use std::net::IpAddr;

use serde::Serialize;

use super::ipv4::{self, Ipv4Plan};
use super::ipv6::{self, Ipv6Plan};
use crate::config::Config;
use crate::facts::NetFacts;
use crate::net::{IfName, Ipv4Prefix, MacAddr};

/// Why no bridge and tap can be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "the guest's network {vm} and the pod's address {pod} on {link} overlap: choose another with VM_IP and VM_GW"
    )]
    Overlap { vm: Ipv4Prefix, pod: Ipv4Prefix, link: IfName },
    #[error("{name} is the pod's own interface: choose another name with {variable}")]
    Uplink { name: IfName, variable: &'static str },
    #[error(transparent)]
    Ipv4(#[from] ipv4::Error),
    #[error(transparent)]
    Ipv6(#[from] ipv6::Error),
}

/// RFC 791 §3.2: every host takes datagrams of so many octets; and the least MTU of IPv6, RFC 8200 §5.
const MIN_MTU: u32 = 576;
const MIN_MTU6: u32 = 1280;

/// Links as they should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkPlan {
    pub uplink: IfName,
    pub bridge: Bridge,
    pub tap: Tap,
    /// What the guest has of IPv4.
    pub ipv4: Ipv4Plan,
    /// What the guest has of IPv6, and the links for it.
    pub ipv6: Ipv6Plan,
}

/// The bridge and its address, which is the guest's gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bridge {
    pub name: IfName,
    pub mac: MacAddr,
    /// Octets; the tap has the same.
    pub mtu: u32,
    /// The gateway's address and prefix.
    pub address: Ipv4Prefix,
}

/// The tap that QEMU is handed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tap {
    pub name: IfName,
    /// Queue pairs: min(vCPU, 4), 1 = no multiqueue.
    pub queues: u16,
    /// uid that may attach to it: QEMU's.
    pub owner: u32,
}

impl LinkPlan {
    /// The pod's addresses that are the guest's own.
    pub fn own(&self) -> Vec<IpAddr> {
        let four = self.ipv4.own().map(|own| IpAddr::V4(own.pod));
        let six = self.ipv6.own().map(|own| own.pod.clone());
        four.into_iter().chain(six.into_iter().flatten().map(IpAddr::V6)).collect()
    }
}

/// Decides the links; `owner` is the uid that QEMU runs as. The guest's network must be another one than the pod's.
pub fn plan(config: &Config, facts: &NetFacts, owner: u32) -> Result<LinkPlan, Error> {
    let Config { network, machine, name, .. } = config;
    let uplink = &facts.uplink;
    for (name, variable) in [(&network.bridge, "BERTH_BRIDGE"), (&network.tap, "BERTH_TAP")] {
        if *name == uplink.name {
            return Err(Error::Uplink { name: name.clone(), variable });
        }
    }
    let of_uplink = uplink.address.into_iter().chain(uplink.others.iter().copied());
    let of_further = facts
        .routing
        .further
        .iter()
        .flat_map(|link| link.addresses.iter().map(|pod| (&link.name, *pod)));
    for (name, pod) in of_uplink.map(|pod| (&uplink.name, pod)).chain(of_further) {
        if network.vm.contains(pod.address) || pod.contains(network.vm.address) {
            return Err(Error::Overlap { vm: network.vm, pod, link: name.clone() });
        }
    }
    let mtu = network.mtu.map_or(uplink.mtu, |mtu| mtu.min(uplink.mtu));
    Ok(LinkPlan {
        ipv4: ipv4::plan(config, facts, guest_mac(config))?,
        ipv6: ipv6::plan(config, facts, mtu, guest_mac(config))?,
        uplink: uplink.name.clone(),
        bridge: Bridge {
            name: network.bridge.clone(),
            mac: MacAddr::stable(name, "gateway"),
            mtu,
            address: Ipv4Prefix { address: network.gateway, length: network.vm.length },
        },
        tap: Tap {
            name: network.tap.clone(),
            queues: u16::try_from(machine.vcpu.clamp(1, 4)).unwrap_or(1),
            owner,
        },
    })
}

/// The guest's own.
pub(super) fn guest_mac(config: &Config) -> MacAddr {
    config.network.mac.unwrap_or_else(|| MacAddr::stable(&config.name, "guest"))
}

/// What a link of so few octets does not carry.
pub fn note(plan: &LinkPlan) -> Option<String> {
    let (uplink, mtu) = (&plan.uplink, plan.bridge.mtu);
    if mtu < MIN_MTU {
        Some(format!(
            "the MTU of {uplink} is {mtu}, below the {MIN_MTU} octets that every IPv4 host has to take: no answer of \
             DHCP fits, and the guest gets no address"
        ))
    } else if mtu < MIN_MTU6 {
        Some(format!(
            "the guest's MTU is {mtu}, as {uplink} or BERTH_MTU has it: guests use no IPv6 on links below \
             {MIN_MTU6} octets"
        ))
    } else {
        None
    }
}
