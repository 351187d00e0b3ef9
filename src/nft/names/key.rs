//! What a packet is asked besides its octets: the keys of meta, ct, rt, fib, socket, ipsec and tunnel.

use super::datatype::Order::{self, Host, Network};
use super::datatype::Type::{self, self as T};
use super::words;

/// nft's word for a key, the type of its value and how a register holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub word: &'static str,
    /// `ip` or `ip6` where that is a word of its own.
    pub family: Option<&'static str>,
    pub kind: Type,
    pub bits: u32,
    pub order: Order,
}

const fn key(word: &'static str, kind: Type, bits: u32, order: Order) -> Key {
    Key { word, family: None, kind, bits, order }
}

const fn of(family: &'static str, word: &'static str, kind: Type, bits: u32) -> Key {
    Key { word, family: Some(family), kind, bits, order: Network }
}

/// What a payload offset counts from (NFT_PAYLOAD_*_HEADER).
pub mod base {
    /// Before the network header.
    pub const LINK: u32 = 0;
    /// IP, ARP and the like.
    pub const NETWORK: u32 = 1;
    /// TCP, UDP, ICMP and the like.
    pub const TRANSPORT: u32 = 2;
}

/// `enum nft_meta_keys`.
pub mod meta {
    /// Octets of the packet from the network header on.
    pub const LEN: u32 = 0;
    /// EtherType, network order.
    pub const PROTOCOL: u32 = 1;
    /// `skb->priority`, a traffic class.
    pub const PRIORITY: u32 = 2;
    /// `skb->mark`.
    pub const MARK: u32 = 3;
    /// Index of the interface it came by.
    pub const IIF: u32 = 4;
    /// Index of the interface it leaves by.
    pub const OIF: u32 = 5;
    /// Name of the interface it came by, 16 octets.
    pub const IIFNAME: u32 = 6;
    /// Name of the interface it leaves by, 16 octets.
    pub const OIFNAME: u32 = 7;
    /// ARPHRD_* of the interface it came by.
    pub const IIFTYPE: u32 = 8;
    /// ARPHRD_* of the interface it leaves by.
    pub const OIFTYPE: u32 = 9;
    /// User of the socket that sent it.
    pub const SKUID: u32 = 10;
    /// Group of the socket that sent it.
    pub const SKGID: u32 = 11;
    /// Whether it is traced.
    pub const NFTRACE: u32 = 12;
    /// Realm of its route.
    pub const RTCLASSID: u32 = 13;
    /// Of the security module.
    pub const SECMARK: u32 = 14;
    /// NFPROTO_* of the network header.
    pub const NFPROTO: u32 = 15;
    /// IANA's number of the transport.
    pub const L4PROTO: u32 = 16;
    /// Bridge of the interface it came by.
    pub const IBRNAME: u32 = 17;
    /// Bridge of the interface it leaves by.
    pub const OBRNAME: u32 = 18;
    /// PACKET_*: to this host, broadcast, ….
    pub const PKTTYPE: u32 = 19;
    /// That works on it.
    pub const CPU: u32 = 20;
    /// Group of the interface it came by.
    pub const IIFGROUP: u32 = 21;
    /// Group of the interface it leaves by.
    pub const OIFGROUP: u32 = 22;
    /// net_cls class of the sender.
    pub const CGROUP: u32 = 23;
    /// Another number each time.
    pub const RANDOM: u32 = 24;
    /// Whether it came or leaves by IPsec.
    pub const IPSEC: u32 = 25;
    /// Kind of the interface it came by, such as `veth`.
    pub const IIFKIND: u32 = 26;
    /// Kind of the interface it leaves by.
    pub const OIFKIND: u32 = 27;
    /// VLAN of the bridge's port.
    pub const IBRPVID: u32 = 28;
    /// VLAN protocol of the bridge.
    pub const IBRVPROTO: u32 = 29;
    /// Nanoseconds since 1970.
    pub const TIME: u32 = 30;
    /// Of the week, from Sunday, UTC.
    pub const DAY: u32 = 31;
    /// Seconds since midnight, UTC.
    pub const HOUR: u32 = 32;
    /// Index of the interface that is slave of a VRF.
    pub const SDIF: u32 = 33;
    /// Its name.
    pub const SDIFNAME: u32 = 34;
    /// Whether a bridge hands it to the IP stack.
    pub const BROUTE: u32 = 35;
}

/// By the numbers of [`meta`].
pub const META: &[Key] = &[
    key("length", T::Integer, 32, Host),
    key("protocol", T::EtherType, 16, Network),
    key("priority", T::ClassId, 32, Host),
    key("mark", T::Mark, 32, Host),
    key("iif", T::IfIndex, 32, Host),
    key("oif", T::IfIndex, 32, Host),
    key("iifname", T::IfName, 128, Host),
    key("oifname", T::IfName, 128, Host),
    key("iiftype", T::IfType, 16, Host),
    key("oiftype", T::IfType, 16, Host),
    key("skuid", T::Uid, 32, Host),
    key("skgid", T::Gid, 32, Host),
    key("nftrace", T::Integer, 8, Host),
    key("rtclassid", T::Realm, 32, Host),
    key("secmark", T::Integer, 32, Host),
    key("nfproto", T::NfProto, 8, Host),
    key("l4proto", T::InetProto, 8, Host),
    key("ibrname", T::IfName, 128, Host),
    key("obrname", T::IfName, 128, Host),
    key("pkttype", T::PktType, 8, Host),
    key("cpu", T::Integer, 32, Host),
    key("iifgroup", T::DevGroup, 32, Host),
    key("oifgroup", T::DevGroup, 32, Host),
    key("cgroup", T::Integer, 32, Host),
    key("random", T::Integer, 32, Network),
    key("ipsec", T::Boolean, 8, Host),
    key("iifkind", T::IfName, 128, Host),
    key("oifkind", T::IfName, 128, Host),
    key("ibrpvid", T::Integer, 16, Host),
    key("ibrvproto", T::EtherType, 16, Network),
    key("time", T::Date, 64, Host),
    key("day", T::Day, 8, Host),
    key("hour", T::Hour, 32, Host),
    key("sdif", T::IfIndex, 32, Host),
    key("sdifname", T::IfName, 128, Host),
    key("broute", T::Integer, 8, Host),
];

/// `enum nft_ct_keys`.
pub mod ct {
    /// Bits of `nf_conntrack_state`, as NF_CT_STATE_BIT has them.
    pub const STATE: u32 = 0;
    /// 0 original, 1 reply.
    pub const DIRECTION: u32 = 1;
    /// IPS_*.
    pub const STATUS: u32 = 2;
    /// Of the connection.
    pub const MARK: u32 = 3;
    /// Of the security module.
    pub const SECMARK: u32 = 4;
    /// Milliseconds that are left.
    pub const EXPIRATION: u32 = 5;
    /// Its name, 16 octets.
    pub const HELPER: u32 = 6;
    /// NFPROTO_*.
    pub const L3PROTO: u32 = 7;
    /// Source address, of the table's family.
    pub const SRC: u32 = 8;
    /// Destination address, of the table's family.
    pub const DST: u32 = 9;
    /// IANA's number of the transport.
    pub const PROTOCOL: u32 = 10;
    /// Source port.
    pub const PROTO_SRC: u32 = 11;
    /// Destination port.
    pub const PROTO_DST: u32 = 12;
    /// 128 bits.
    pub const LABELS: u32 = 13;
    /// Packets so far.
    pub const PKTS: u32 = 14;
    /// Bytes so far.
    pub const BYTES: u32 = 15;
    /// Bytes in a packet, on average.
    pub const AVGPKT: u32 = 16;
    /// Of the connection.
    pub const ZONE: u32 = 17;
    /// Which events are told, only set.
    pub const EVENTMASK: u32 = 18;
    /// Source address of IPv4.
    pub const SRC_IP: u32 = 19;
    /// Destination address of IPv4.
    pub const DST_IP: u32 = 20;
    /// Source address of IPv6.
    pub const SRC_IP6: u32 = 21;
    /// Destination address of IPv6.
    pub const DST_IP6: u32 = 22;
    /// Of the entry.
    pub const ID: u32 = 23;
}

/// By the numbers of [`ct`]; addresses without a family are of the family of the table.
pub const CT: &[Key] = &[
    key("state", T::CtState, 32, Host),
    key("direction", T::CtDir, 8, Host),
    key("status", T::CtStatus, 32, Host),
    key("mark", T::Mark, 32, Host),
    key("secmark", T::Integer, 32, Host),
    key("expiration", T::Time, 32, Host),
    key("helper", T::Text, 128, Host),
    key("l3proto", T::NfProto, 8, Host),
    key("saddr", T::Invalid, 32, Network),
    key("daddr", T::Invalid, 32, Network),
    key("protocol", T::InetProto, 8, Network),
    key("proto-src", T::InetService, 16, Network),
    key("proto-dst", T::InetService, 16, Network),
    key("label", T::CtLabel, 128, Host),
    key("packets", T::Integer, 64, Host),
    key("bytes", T::Integer, 64, Host),
    key("avgpkt", T::Integer, 64, Host),
    key("zone", T::Integer, 16, Host),
    key("event", T::CtEvent, 32, Host),
    key("ip saddr", T::Ipv4, 32, Network),
    key("ip daddr", T::Ipv4, 32, Network),
    key("ip6 saddr", T::Ipv6, 128, Network),
    key("ip6 daddr", T::Ipv6, 128, Network),
    key("id", T::Integer, 32, Network),
];

/// `enum nft_rt_keys`.
pub mod rt {
    pub const TCPMSS: u32 = 3;
}

/// By the numbers of [`rt`].
pub const RT: &[Key] = &[
    key("classid", T::Realm, 32, Host),
    of("ip", "nexthop", T::Ipv4, 32),
    of("ip6", "nexthop", T::Ipv6, 128),
    key("mtu", T::Integer, 16, Host),
    key("ipsec", T::Boolean, 8, Host),
];

/// `enum nft_socket_keys`.
pub mod socket {
    pub const CGROUPV2: u32 = 3;
}

/// By the numbers of `enum nft_socket_keys`.
pub const SOCKET: &[Key] = &[
    key("transparent", T::Integer, 8, Host),
    key("mark", T::Mark, 32, Host),
    key("wildcard", T::Integer, 8, Host),
    key("cgroupv2", T::CgroupV2, 64, Host),
];

/// By the numbers of `enum nft_xfrm_keys`, from 1.
pub const XFRM: &[Key] = &[
    of("ip", "daddr", T::Ipv4, 32),
    of("ip6", "daddr", T::Ipv6, 128),
    of("ip", "saddr", T::Ipv4, 32),
    of("ip6", "saddr", T::Ipv6, 128),
    key("reqid", T::Integer, 32, Host),
    key("spi", T::Integer, 32, Network),
];

/// By the numbers of `enum nft_tunnel_keys`.
pub const TUNNEL: &[Key] = &[key("path", T::Boolean, 32, Host), key("id", T::Integer, 32, Host)];

/// `enum nft_fib_result`, and NFTA_FIB_F_*.
pub mod fib {
    pub const OIF: u32 = 1;
    pub const OIFNAME: u32 = 2;
    pub const ADDRTYPE: u32 = 3;

    pub const DADDR: u32 = 2;
    pub const MARK: u32 = 4;
    pub const BY_IIF: u32 = 8;
    pub const BY_OIF: u32 = 0x10;
    /// Only whether there is one.
    pub const PRESENT: u32 = 0x20;
}

/// Of a result of the routing table, asked with these flags.
pub fn fib(result: u32, flags: u32) -> Option<Key> {
    let word = words::word(words::FIB_RESULTS, result)?;
    let (kind, bits) = match result {
        fib::OIF => (T::IfIndex, 32),
        fib::OIFNAME => (T::IfName, 128),
        _ => return Some(key(word, T::FibAddr, 32, Host)),
    };
    let (kind, bits) = if flags & fib::PRESENT == 0 { (kind, bits) } else { (T::Boolean, 8) };
    Some(key(word, kind, bits, Host))
}

/// A key by its number.
pub fn by_number(keys: &'static [Key], number: u32) -> Option<&'static Key> {
    keys.get(usize::try_from(number).ok()?)
}

/// The number of a key, by its word and family.
pub fn number_of(keys: &[Key], family: Option<&str>, word: &str) -> Option<u32> {
    let at = keys.iter().position(|key| key.word == word && key.family == family)?;
    u32::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_in_the_order_of_the_numbers() {
        let word = |keys, number| by_number(keys, number).map(|key| key.word);
        assert_eq!(word(META, meta::MARK), Some("mark"));
        assert_eq!(word(META, meta::BROUTE), Some("broute"));
        assert_eq!(word(CT, ct::ZONE), Some("zone"));
        assert_eq!(word(CT, ct::ID), Some("id"));
        assert_eq!(number_of(RT, Some("ip6"), "nexthop"), Some(2));
        assert_eq!(number_of(META, None, "no such key"), None);
    }
}
