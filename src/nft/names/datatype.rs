//! The types nft gives to values, by the numbers it stores in a set's key type (include/datatype.h of nftables).

use super::{symbols, words};

/// How the bytes of a value are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Host,
    Network,
}

/// In the order of nft's numbers, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::enum_variant_names, reason = "nft's own names: ether_type, icmp_type, pkttype")]
pub enum Type {
    Invalid,
    Verdict,
    NfProto,
    Bitmask,
    Integer,
    Text,
    LinkAddress,
    Ipv4,
    Ipv6,
    Ether,
    EtherType,
    ArpOp,
    InetProto,
    InetService,
    IcmpType,
    TcpFlag,
    DccpType,
    MhType,
    Time,
    Mark,
    IfIndex,
    IfType,
    Realm,
    ClassId,
    Uid,
    Gid,
    CtState,
    CtDir,
    CtStatus,
    Icmpv6Type,
    CtLabel,
    PktType,
    IcmpCode,
    Icmpv6Code,
    IcmpxCode,
    DevGroup,
    Dscp,
    Ecn,
    FibAddr,
    Boolean,
    CtEvent,
    IfName,
    IgmpType,
    Date,
    Hour,
    Day,
    CgroupV2,
    /// Not one of nft's numbers: an integer it writes in hexadecimal, as it does with raw payload.
    Hex,
}

use Order::{Host, Network};
use Type as T;

/// Type, nft's name, bits of a value (0: any), order of its bytes in a set.
const TYPES: [(Type, &str, u32, Order); 48] = [
    (T::Invalid, "invalid", 0, Host),
    (T::Verdict, "verdict", 0, Host),
    (T::NfProto, "nf_proto", 8, Host),
    (T::Bitmask, "bitmask", 0, Host),
    (T::Integer, "integer", 0, Host),
    (T::Text, "string", 0, Host),
    (T::LinkAddress, "ll_addr", 0, Network),
    (T::Ipv4, "ipv4_addr", 32, Network),
    (T::Ipv6, "ipv6_addr", 128, Network),
    (T::Ether, "ether_addr", 48, Network),
    (T::EtherType, "ether_type", 16, Network),
    (T::ArpOp, "arp_op", 16, Network),
    (T::InetProto, "inet_proto", 8, Network),
    (T::InetService, "inet_service", 16, Network),
    (T::IcmpType, "icmp_type", 8, Network),
    (T::TcpFlag, "tcp_flag", 8, Host),
    (T::DccpType, "dccp_pkttype", 4, Network),
    (T::MhType, "mh_type", 8, Network),
    (T::Time, "time", 32, Host),
    (T::Mark, "mark", 32, Host),
    (T::IfIndex, "iface_index", 32, Host),
    (T::IfType, "iface_type", 16, Host),
    (T::Realm, "realm", 32, Host),
    (T::ClassId, "classid", 32, Host),
    (T::Uid, "uid", 32, Host),
    (T::Gid, "gid", 32, Host),
    (T::CtState, "ct_state", 32, Host),
    (T::CtDir, "ct_dir", 8, Host),
    (T::CtStatus, "ct_status", 32, Host),
    (T::Icmpv6Type, "icmpv6_type", 8, Network),
    (T::CtLabel, "ct_label", 128, Host),
    (T::PktType, "pkt_type", 8, Host),
    (T::IcmpCode, "icmp_code", 8, Network),
    (T::Icmpv6Code, "icmpv6_code", 8, Network),
    (T::IcmpxCode, "icmpx_code", 8, Network),
    (T::DevGroup, "devgroup", 32, Host),
    (T::Dscp, "dscp", 6, Network),
    (T::Ecn, "ecn", 2, Network),
    (T::FibAddr, "fib_addrtype", 32, Host),
    (T::Boolean, "boolean", 1, Host),
    (T::CtEvent, "ct_event", 32, Host),
    (T::IfName, "ifname", 128, Host),
    (T::IgmpType, "igmp_type", 8, Network),
    (T::Date, "time", 64, Host),
    (T::Hour, "hour", 32, Host),
    (T::Day, "day", 8, Host),
    (T::CgroupV2, "cgroupsv2", 64, Host),
    (T::Hex, "integer", 0, Network),
];

impl Type {
    fn row(self) -> Option<&'static (Type, &'static str, u32, Order)> {
        TYPES.get(self as usize)
    }

    pub fn by_number(number: u32) -> Self {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        TYPES.get(at).map_or(Self::Invalid, |(kind, ..)| *kind)
    }

    /// The parts of a set's key type: six bits for each part of a concatenation, the most significant first.
    pub fn parts(number: u32) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut rest = number;
        while rest != 0 {
            parts.push(Self::by_number(rest & 0x3f));
            rest >>= 6;
        }
        parts.reverse();
        parts
    }

    pub fn name(self) -> &'static str {
        self.row().map_or("invalid", |(_, name, ..)| name)
    }

    pub fn bits(self) -> u32 {
        self.row().map_or(0, |(_, _, bits, _)| *bits)
    }

    pub fn order(self) -> Order {
        self.row().map_or(Host, |(.., order)| *order)
    }

    /// Whether a value is a set of bits, each with a name.
    pub fn is_bitmask(self) -> bool {
        matches!(self, T::TcpFlag | T::CtState | T::CtStatus | T::CtLabel | T::CtEvent)
    }

    /// Whether a value with a mask of leading ones is written as a prefix.
    pub fn has_prefixes(self) -> bool {
        matches!(self, T::Ipv4 | T::Ipv6 | T::Mark | T::Realm | T::DevGroup)
    }

    pub fn is_address(self) -> bool {
        matches!(self, T::Ipv4 | T::Ipv6)
    }

    pub fn is_text(self) -> bool {
        matches!(self, T::Text | T::IfName)
    }

    /// Words for numbers.
    pub fn symbols(self) -> &'static [(u32, &'static str)] {
        match self {
            T::NfProto => symbols::NF_PROTO,
            T::EtherType => symbols::ETHER_TYPE,
            T::ArpOp => symbols::ARP_OP,
            T::InetProto => symbols::INET_PROTO,
            T::IcmpType => symbols::ICMP_TYPE,
            T::TcpFlag => symbols::TCP_FLAG,
            T::DccpType => symbols::DCCP_TYPE,
            T::MhType => symbols::MH_TYPE,
            T::IfType => symbols::IF_TYPE,
            T::Realm => symbols::REALM,
            T::CtState => symbols::CT_STATE,
            T::CtDir => symbols::CT_DIR,
            T::CtStatus => symbols::CT_STATUS,
            T::Icmpv6Type => symbols::ICMPV6_TYPE,
            T::PktType => symbols::PKT_TYPE,
            T::IcmpCode => symbols::ICMP_CODE,
            T::Icmpv6Code => symbols::ICMPV6_CODE,
            T::IcmpxCode => symbols::ICMPX_CODE,
            T::DevGroup => symbols::DEV_GROUP,
            T::Dscp => symbols::DSCP,
            T::Ecn => symbols::ECN,
            T::FibAddr => symbols::FIB_ADDR,
            T::CtEvent => symbols::CT_EVENT,
            T::IgmpType => symbols::IGMP_TYPE,
            T::Day => symbols::DAY,
            T::ClassId => symbols::CLASS_ID,
            _ => &[],
        }
    }

    /// The number of a word.
    pub fn number(self, word: &str) -> Option<u32> {
        words::number(self.symbols(), word)
    }

    pub fn symbol(self, value: u128) -> Option<&'static str> {
        words::word(self.symbols(), u32::try_from(value).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_numbers() {
        for (number, (kind, ..)) in TYPES.iter().enumerate() {
            assert_eq!(*kind as usize, number);
        }
        assert_eq!(Type::parts(7 << 6 | 13), [Type::Ipv4, Type::InetService]);
        assert_eq!((Type::by_number(41), Type::by_number(46)), (Type::IfName, Type::CgroupV2));
    }
}
