//! The links: a bridge that holds the gateway's address, a tap in it for QEMU, forwarding on both sides.

use serde::Serialize;

use crate::config::Config;
use crate::facts::Facts;
use crate::net::{IfName, Ipv4Prefix, MacAddr};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {}

/// Links as they should be; also how they are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkPlan {
    pub uplink: IfName,
    pub bridge: Bridge,
    pub tap: Tap,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bridge {
    pub name: IfName,
    pub mac: MacAddr,
    pub mtu: u32,
    /// The gateway's address and prefix.
    pub address: Ipv4Prefix,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tap {
    pub name: IfName,
    pub mtu: u32,
    /// Queue pairs: min(vCPU, 4), 1 = no multiqueue.
    pub queues: u16,
    /// uid that may attach to it.
    pub owner: u32,
}

pub fn plan(config: &Config, facts: &Facts) -> Result<LinkPlan, Error> {
    let mtu = config
        .network
        .mtu
        .map_or(facts.uplink.mtu, |mtu| mtu.min(facts.uplink.mtu));
    Ok(LinkPlan {
        uplink: facts.uplink.name.clone(),
        bridge: Bridge {
            name: config.network.bridge.clone(),
            mac: MacAddr::stable(&config.name, "gateway"),
            mtu,
            address: Ipv4Prefix {
                address: config.network.gateway,
                length: config.network.vm.length,
            },
        },
        tap: Tap {
            name: config.network.tap.clone(),
            mtu,
            queues: u16::try_from(config.machine.vcpu.clamp(1, 4)).unwrap_or(1),
            owner: config.machine.uid,
        },
    })
}
