//! What links have counted (`IFLA_STATS64`, rtnetlink(7)). Needs no capability.

use netlink_packet_route::link::LinkAttribute;

use super::{Error, Links};
use crate::net::IfName;

/// A link's counters, as its own kernel side sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    pub index: u32,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

impl Links {
    /// None: there is no such link, or it counts nothing.
    pub async fn statistics(&self, name: &IfName) -> Result<Option<Statistics>, Error> {
        let Some(link) = self.find(name).await? else { return Ok(None) };
        let index = link.header.index;
        Ok(link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(Statistics {
                index,
                rx_bytes: stats.rx_bytes,
                tx_bytes: stats.tx_bytes,
                rx_packets: stats.rx_packets,
                tx_packets: stats.tx_packets,
                rx_errors: stats.rx_errors,
                tx_errors: stats.tx_errors,
                rx_dropped: stats.rx_dropped,
                tx_dropped: stats.tx_dropped,
            }),
            _ => None,
        }))
    }
}
