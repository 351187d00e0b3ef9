//! Where the page and the metrics are to be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Serialize;

use crate::config::{Config, Reach};
use crate::facts::NetFacts;

/// Addresses to listen on, most of a pod's first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WebPlan {
    pub page: Vec<SocketAddr>,
    pub metrics: Vec<SocketAddr>,
}

/// Of the pod's addresses those that VNC would have: the first of each version.
pub fn plan(config: &Config, facts: &NetFacts) -> WebPlan {
    let first = facts.uplink.address.map(|address| IpAddr::V4(address.address));
    let first6 = facts.ipv6.addresses.first().map(|address| IpAddr::V6(*address));
    let pod = || first.into_iter().chain(first6);
    let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let web = &config.web;
    let page = match web.reach {
        Reach::Off => Vec::new(),
        Reach::Loopback => own.to_vec(),
        Reach::Pod => own.into_iter().chain(pod()).collect(),
    };
    let at = |port: u16| move |address: IpAddr| SocketAddr::new(address, port);
    WebPlan {
        page: page.into_iter().map(at(web.port)).collect(),
        metrics: web.metrics.into_iter().flat_map(|port| pod().map(at(port))).collect(),
    }
}
