//! What of a packet a rule can look at, with the values it may have and the families that see it.

use super::values::Shape::{self, Hex, Name, Number, V4, V6, Words};
use super::values::{Kind, kind_of};

#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub text: &'static str,
    pub kind: Kind,
    pub families: &'static [&'static str],
    /// Whether a rule can write it.
    pub settable: bool,
}

const ANY: &[&str] = &["ip", "ip6", "inet", "bridge", "netdev", "arp"];
const OVER_IP: &[&str] = &["ip", "ip6", "inet", "bridge", "netdev"];
const IN_V4: &[&str] = &["ip", "inet", "bridge", "netdev"];
const IN_V6: &[&str] = &["ip6", "inet", "bridge", "netdev"];
const CT: &[&str] = &["ip", "ip6", "inet"];
const ARP: &[&str] = &["arp", "bridge", "netdev"];
const LINK: &[&str] = &["bridge", "netdev", "inet", "ip", "ip6"];
const BRIDGE: &[&str] = &["bridge"];

/// Name, its type in words, families, whether it is writable.
type Named = (&'static str, &'static str, &'static [&'static str], bool);
/// Of types without a name of their own.
type Plain = (&'static str, Shape, &'static [&'static str], bool);

const NAMED: &[Named] = &[
    ("ip saddr", "ipv4_addr", IN_V4, true),
    ("ip daddr", "ipv4_addr", IN_V4, true),
    ("ip protocol", "inet_proto", IN_V4, false),
    ("ip dscp", "dscp", IN_V4, true),
    ("ip ecn", "ecn", IN_V4, true),
    ("ip6 saddr", "ipv6_addr", IN_V6, true),
    ("ip6 daddr", "ipv6_addr", IN_V6, true),
    ("ip6 nexthdr", "inet_proto", IN_V6, false),
    ("ip6 dscp", "dscp", IN_V6, false),
    ("ip6 ecn", "ecn", IN_V6, false),
    ("tcp sport", "inet_service", OVER_IP, false),
    ("tcp dport", "inet_service", OVER_IP, true),
    ("udp sport", "inet_service", OVER_IP, true),
    ("udp dport", "inet_service", OVER_IP, false),
    ("sctp dport", "inet_service", OVER_IP, false),
    ("dccp sport", "inet_service", OVER_IP, false),
    ("th dport", "inet_service", OVER_IP, false),
    ("th sport", "inet_service", OVER_IP, false),
    ("tcp flags", "tcp_flag", OVER_IP, false),
    ("dccp type", "dccp_pkttype", OVER_IP, false),
    ("icmp type", "icmp_type", IN_V4, false),
    ("icmp code", "icmp_code", IN_V4, false),
    ("icmpv6 type", "icmpv6_type", IN_V6, false),
    ("icmpv6 code", "icmpv6_code", IN_V6, false),
    ("igmp type", "igmp_type", IN_V4, false),
    ("mh type", "mh_type", IN_V6, false),
    ("hbh nexthdr", "inet_proto", IN_V6, false),
    ("frag nexthdr", "inet_proto", IN_V6, false),
    ("ether saddr", "ether_addr", LINK, true),
    ("ether daddr", "ether_addr", LINK, false),
    ("ether type", "ether_type", LINK, false),
    ("vlan type", "ether_type", LINK, false),
    ("arp operation", "arp_op", ARP, false),
    ("arp ptype", "ether_type", ARP, false),
    ("arp saddr ip", "ipv4_addr", ARP, true),
    ("arp daddr ip", "ipv4_addr", ARP, false),
    ("arp saddr ether", "ether_addr", ARP, true),
    ("meta mark", "mark", ANY, true),
    ("meta iifname", "ifname", ANY, false),
    ("meta oifname", "ifname", ANY, false),
    ("meta iif", "iface_index", ANY, false),
    ("meta oif", "iface_index", ANY, false),
    ("meta iiftype", "iface_type", ANY, false),
    ("meta oiftype", "iface_type", ANY, false),
    ("meta skuid", "uid", OVER_IP, false),
    ("meta skgid", "gid", OVER_IP, false),
    ("meta protocol", "ether_type", LINK, false),
    ("meta nfproto", "nf_proto", &["inet", "bridge", "netdev"], false),
    ("meta l4proto", "inet_proto", OVER_IP, false),
    ("meta priority", "classid", ANY, true),
    ("meta pkttype", "pkt_type", ANY, true),
    ("meta rtclassid", "realm", OVER_IP, false),
    ("meta iifgroup", "devgroup", ANY, false),
    ("meta oifgroup", "devgroup", ANY, false),
    ("meta day", "day", ANY, false),
    ("meta hour", "hour", ANY, false),
    ("meta iifkind", "ifname", ANY, false),
    ("meta sdifname", "ifname", OVER_IP, false),
    ("meta ibrname", "ifname", BRIDGE, false),
    ("meta obrname", "ifname", BRIDGE, false),
    ("meta ibrvproto", "ether_type", BRIDGE, false),
    ("meta ipsec", "boolean", OVER_IP, false),
    ("ct mark", "mark", CT, true),
    ("ct state", "ct_state", CT, false),
    ("ct status", "ct_status", CT, false),
    ("ct direction", "ct_dir", CT, false),
    ("ct expiration", "time", CT, false),
    ("ct label", "ct_label", CT, true),
    ("ct l3proto", "nf_proto", CT, false),
    ("ct original protocol", "inet_proto", CT, false),
    ("ct reply proto-src", "inet_service", CT, false),
    ("ct original ip saddr", "ipv4_addr", CT, false),
    ("ct reply ip daddr", "ipv4_addr", CT, false),
    ("ct original ip6 daddr", "ipv6_addr", CT, false),
    ("fib daddr type", "fib_addrtype", CT, false),
    ("fib saddr . iif oifname", "ifname", CT, false),
    ("fib daddr . mark oif", "iface_index", CT, false),
    ("fib saddr . iif oif", "boolean", CT, false),
    ("rt classid", "realm", CT, false),
    ("rt ip nexthop", "ipv4_addr", CT, false),
    ("rt ip6 nexthop", "ipv6_addr", CT, false),
    ("rt ipsec", "boolean", CT, false),
    ("socket mark", "mark", CT, false),
    ("ipsec in ip saddr", "ipv4_addr", CT, false),
    ("ipsec out ip6 daddr", "ipv6_addr", CT, false),
    ("exthdr frag", "boolean", IN_V6, false),
    ("tcp option sack-perm", "boolean", OVER_IP, false),
    ("ip option rr", "boolean", IN_V4, false),
    ("sctp chunk init", "boolean", OVER_IP, false),
];

const PLAIN: &[Plain] = &[
    ("ip version", Number(4, &[]), IN_V4, false),
    ("ip hdrlength", Number(4, &[]), IN_V4, false),
    ("ip length", Number(16, &[]), IN_V4, false),
    ("ip id", Number(16, &[]), IN_V4, false),
    ("ip frag-off", Number(16, &[]), IN_V4, false),
    ("ip ttl", Number(8, &[]), IN_V4, true),
    ("ip checksum", Number(16, &[]), IN_V4, false),
    ("ip6 version", Number(4, &[]), IN_V6, false),
    ("ip6 flowlabel", Number(20, &[]), IN_V6, true),
    ("ip6 length", Number(16, &[]), IN_V6, false),
    ("ip6 hoplimit", Number(8, &[]), IN_V6, true),
    ("tcp sequence", Number(32, &[]), OVER_IP, false),
    ("tcp ackseq", Number(32, &[]), OVER_IP, false),
    ("tcp doff", Number(4, &[]), OVER_IP, false),
    ("tcp window", Number(16, &[]), OVER_IP, true),
    ("tcp urgptr", Number(16, &[]), OVER_IP, false),
    ("udp length", Number(16, &[]), OVER_IP, false),
    ("udp checksum", Number(16, &[]), OVER_IP, true),
    ("udplite csumcov", Number(16, &[]), OVER_IP, false),
    ("sctp vtag", Number(32, &[]), OVER_IP, false),
    ("ah spi", Number(32, &[]), OVER_IP, false),
    ("ah sequence", Number(32, &[]), OVER_IP, false),
    ("esp spi", Number(32, &[]), OVER_IP, false),
    ("comp cpi", Number(16, &[]), OVER_IP, false),
    ("icmp id", Number(16, &[]), IN_V4, false),
    ("icmp sequence", Number(16, &[]), IN_V4, false),
    ("icmp mtu", Number(16, &[]), IN_V4, false),
    ("icmp gateway", Number(32, &[]), IN_V4, false),
    ("icmpv6 id", Number(16, &[]), IN_V6, false),
    ("icmpv6 mtu", Number(32, &[]), IN_V6, false),
    ("icmpv6 max-delay", Number(16, &[]), IN_V6, false),
    ("igmp mrt", Number(8, &[]), IN_V4, false),
    ("frag frag-off", Number(13, &[]), IN_V6, false),
    ("frag more-fragments", Number(1, &[]), IN_V6, false),
    ("frag id", Number(32, &[]), IN_V6, false),
    ("hbh hdrlength", Number(8, &[]), IN_V6, false),
    ("rt type", Number(8, &[]), IN_V6, false),
    ("rt seg-left", Number(8, &[]), IN_V6, false),
    ("dst hdrlength", Number(8, &[]), IN_V6, false),
    ("mh checksum", Number(16, &[]), IN_V6, false),
    ("tcp option maxseg size", Number(16, &[]), OVER_IP, true),
    ("tcp option window count", Number(8, &[]), OVER_IP, false),
    ("tcp option timestamp tsval", Number(32, &[]), OVER_IP, false),
    ("tcp option sack0 left", Number(32, &[]), OVER_IP, false),
    ("ip option ra value", Number(16, &[]), IN_V4, false),
    ("ip option rr addr", V4, IN_V4, false),
    ("sctp chunk data tsn", Number(32, &[]), OVER_IP, false),
    ("sctp chunk init init-tag", Number(32, &[]), OVER_IP, false),
    ("vlan id", Number(12, &[]), LINK, false),
    ("vlan pcp", Number(3, &[]), LINK, false),
    ("vlan dei", Number(1, &[]), LINK, false),
    ("arp htype", Number(16, &[]), ARP, false),
    ("arp plen", Number(8, &[]), ARP, false),
    ("meta length", Number(32, &[]), ANY, false),
    ("meta cpu", Number(32, &[]), ANY, false),
    ("meta cgroup", Number(32, &[]), OVER_IP, false),
    ("meta random", Number(32, &[]), ANY, false),
    ("meta ibrpvid", Number(16, &[]), BRIDGE, false),
    (
        "meta time",
        Words(&["\"2024-02-29 10:00:00\"", "\"2030-01-01 00:00:00\"", "\"1999-12-31 23:59:59\""]),
        ANY,
        false,
    ),
    ("ct zone", Number(16, &[]), CT, true),
    ("ct original bytes", Number(60, &[]), CT, false),
    ("ct packets", Number(60, &[]), CT, false),
    ("ct reply avgpkt", Number(60, &[]), CT, false),
    ("ct id", Number(32, &[]), CT, false),
    ("ct helper", Words(&["\"ftp\"", "\"sip\"", "\"tftp\""]), CT, false),
    ("rt mtu", Number(16, &[]), CT, false),
    ("socket transparent", Number(1, &[]), CT, false),
    ("socket wildcard", Number(1, &[]), CT, false),
    ("osf name", Words(&["\"Linux\"", "\"Windows\"", "\"unknown\""]), CT, false),
    ("ipsec in reqid", Number(32, &[]), CT, false),
    ("ipsec out spi", Number(32, &[]), CT, false),
    ("numgen inc mod 8", Number(3, &[]), OVER_IP, false),
    ("numgen random mod 100 offset 7", Number(6, &[]), OVER_IP, false),
    ("jhash ip saddr . ip daddr mod 16", Number(4, &[]), &["ip"], false),
    ("symhash mod 4", Number(2, &[]), OVER_IP, false),
    ("@th,0,16", Hex(16, &[]), OVER_IP, false),
    ("@th,32,32", Hex(32, &[]), OVER_IP, false),
    ("@nh,64,8", Hex(8, &[]), OVER_IP, false),
    ("@nh,160,16", Hex(16, &[]), OVER_IP, false),
    ("@ih,8,16", Hex(16, &[]), OVER_IP, false),
    ("ip6 saddr", V6, IN_V6, false),
    ("meta iifname", Name, ANY, false),
];

/// All of a family.
pub fn fields(family: &str) -> Vec<Field> {
    let named = NAMED.iter().map(|(text, kind, families, settable)| Field {
        text,
        kind: kind_of(kind),
        families,
        settable: *settable,
    });
    let plain = PLAIN.iter().map(|(text, shape, families, settable)| Field {
        text,
        kind: Kind { name: "", shape: *shape },
        families,
        settable: *settable,
    });
    named.chain(plain).filter(|field| field.families.contains(&family)).collect()
}

/// What one packet can be: rules and keys whose fields are of several protocols are refused.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub network: &'static str,
    pub transport: &'static str,
}

pub const TRANSPORTS: [&str; 11] =
    ["tcp", "tcp", "udp", "udplite", "sctp", "dccp", "icmp", "igmp", "esp", "ah", "comp"];

impl Packet {
    pub fn has(self, field: &Field) -> bool {
        let first = field.text.split(' ').next().unwrap_or_default();
        let option = field.text.split(' ').nth(1) == Some("option");
        let six = self.network == "ip6";
        match first {
            "ip" | "ip6" | "arp" => first == self.network,
            "hbh" | "frag" | "dst" | "mh" | "exthdr" => six,
            "rt" => six || !matches!(field.text, "rt type" | "rt seg-left" | "rt ip6 nexthop"),
            "icmp" => self.transport == "icmp" && !six,
            "icmpv6" => self.transport == "icmp" && six,
            "igmp" => self.transport == "igmp" && !six,
            "tcp" | "udp" | "udplite" | "sctp" | "dccp" | "ah" | "esp" | "comp" if !option => {
                first == self.transport
            }
            "tcp" => self.transport == "tcp",
            "@nh,160,16" | "@nh,64,8" | "@th,0,16" | "@th,32,32" | "@ih,8,16" => {
                self.network != "vlan"
            }
            "th" => matches!(self.transport, "tcp" | "udp" | "sctp" | "dccp" | "udplite"),
            "vlan" => self.network == "vlan" && field.text != "vlan type",
            "ether" | "meta" | "ct" => {
                !matches!(field.text, "vlan type" | "ether type" | "meta protocol")
            }
            "jhash" => !six,
            _ => true,
        }
    }
}
