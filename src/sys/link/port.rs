//! Ports of the bridge, and which of its frames they get.

use netlink_packet_route::link::{InfoBridgePort, InfoPortData, LinkInfo, LinkMessage};

use super::infos;

/// A port of the bridge, where no address is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The guest's: all, its own too, for its calls of its pod's address.
    Guest,
    /// berth's own: what is for a group, and nothing of the guest's other traffic.
    Control,
}

/// Hairpin for the guest's calls of its pod's address. No learning: whoever sends names an address for each frame, and
/// each would be an entry in the node's memory. Where nothing is learned, all has to be flooded, to the one port.
pub(super) fn port_is(link: &LinkMessage, wanted: Port) -> bool {
    use InfoBridgePort::{BroadcastFlood, HairpinMode, Learning, MulticastFlood, UnicastFlood};
    let all = wanted == Port::Guest;
    let wrong = [Learning(true), UnicastFlood(!all), BroadcastFlood(!all), MulticastFlood(false)];
    infos(link).any(|info| {
        matches!(info, LinkInfo::PortData(InfoPortData::BridgePort(port))
            if port.contains(&HairpinMode(all)) && !port.iter().any(|is| wrong.contains(is)))
    })
}
