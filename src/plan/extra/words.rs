//! The words nft has for values, as numbers. What /etc/services and the like would add is told by number instead.

pub type Words = &'static [(&'static str, u32)];

#[rustfmt::skip]
pub const PROTOCOLS: Words = &[
    ("icmp", 1), ("igmp", 2), ("tcp", 6), ("udp", 17), ("dccp", 33), ("ipv6", 41), ("gre", 47), ("esp", 50),
    ("ah", 51), ("icmpv6", 58), ("ipv6-icmp", 58), ("comp", 108), ("sctp", 132), ("udplite", 136),
];
/// The services that need no /etc/services; others are told by number.
#[rustfmt::skip]
pub const SERVICES: Words = &[
    ("ftp", 21), ("ssh", 22), ("telnet", 23), ("smtp", 25), ("domain", 53), ("bootps", 67), ("bootpc", 68),
    ("tftp", 69), ("http", 80), ("pop3", 110), ("ntp", 123), ("imap2", 143), ("snmp", 161), ("ldap", 389),
    ("https", 443), ("submission", 587), ("ldaps", 636), ("imaps", 993), ("pop3s", 995),
];
#[rustfmt::skip]
pub const FAMILIES: Words = &[("ipv4", 2), ("ipv6", 10)];
#[rustfmt::skip]
pub const ETHER_TYPES: Words = &[("ip", 0x0800), ("arp", 0x0806), ("ip6", 0x86dd), ("8021q", 0x8100), ("vlan", 0x8100)];
#[rustfmt::skip]
pub const ICMP_TYPES: Words = &[
    ("echo-reply", 0), ("destination-unreachable", 3), ("source-quench", 4), ("redirect", 5),
    ("echo-request", 8), ("router-advertisement", 9), ("router-solicitation", 10), ("time-exceeded", 11),
    ("parameter-problem", 12), ("timestamp-request", 13), ("timestamp-reply", 14), ("info-request", 15),
    ("info-reply", 16), ("address-mask-request", 17), ("address-mask-reply", 18),
];
#[rustfmt::skip]
pub const ICMPV6_TYPES: Words = &[
    ("destination-unreachable", 1), ("packet-too-big", 2), ("time-exceeded", 3), ("parameter-problem", 4),
    ("echo-request", 128), ("echo-reply", 129), ("mld-listener-query", 130), ("mld-listener-report", 131),
    ("mld-listener-done", 132), ("nd-router-solicit", 133), ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135), ("nd-neighbor-advert", 136), ("nd-redirect", 137),
];
#[rustfmt::skip]
pub const TCP_FLAGS: Words = &[
    ("fin", 1), ("syn", 2), ("rst", 4), ("psh", 8), ("ack", 0x10), ("urg", 0x20), ("ecn", 0x40), ("cwr", 0x80),
];
#[rustfmt::skip]
pub const CT_STATES: Words =
    &[("invalid", 1), ("established", 2), ("related", 4), ("new", 8), ("untracked", 0x40)];
#[rustfmt::skip]
pub const CT_STATUS: Words = &[
    ("expected", 1), ("seen-reply", 2), ("assured", 4), ("confirmed", 8), ("snat", 0x10), ("dnat", 0x20),
    ("dying", 0x200),
];
#[rustfmt::skip]
pub const CT_DIRECTIONS: Words = &[("original", 0), ("reply", 1)];
#[rustfmt::skip]
pub const FIB_TYPES: Words = &[
    ("unspec", 0), ("unicast", 1), ("local", 2), ("broadcast", 3), ("anycast", 4), ("multicast", 5),
    ("blackhole", 6), ("unreachable", 7), ("prohibit", 8),
];
#[rustfmt::skip]
pub const PACKET_TYPES: Words = &[("host", 0), ("unicast", 0), ("broadcast", 1), ("multicast", 2), ("other", 3)];
#[rustfmt::skip]
pub const LINK_TYPES: Words = &[("ether", 1), ("ppp", 512), ("loopback", 772)];
#[rustfmt::skip]
pub const ARP_OPERATIONS: Words = &[
    ("request", 1), ("reply", 2), ("rrequest", 3), ("rreply", 4), ("inrequest", 8), ("inreply", 9), ("nak", 10),
];
#[rustfmt::skip]
pub const DSCP: Words = &[
    ("cs0", 0), ("cs1", 8), ("cs2", 16), ("cs3", 24), ("cs4", 32), ("cs5", 40), ("cs6", 48), ("cs7", 56),
    ("af11", 10), ("af12", 12), ("af13", 14), ("af21", 18), ("af22", 20), ("af23", 22), ("af31", 26),
    ("af32", 28), ("af33", 30), ("af41", 34), ("af42", 36), ("af43", 38), ("ef", 46),
];
