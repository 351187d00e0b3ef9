//! Types of keys and data, and values of them in nft's words.

use crate::support::dice::Dice;

/// How the values of a type are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    V4,
    V6,
    Mac,
    Name,
    /// A number of so many bits; words stand beside the numbers.
    Number(u32, &'static [&'static str]),
    Hex(u32, &'static [&'static str]),
    /// Only these words.
    Words(&'static [&'static str]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub name: &'static str,
    pub shape: Shape,
}

const fn kind(name: &'static str, shape: Shape) -> Kind {
    Kind { name, shape }
}

use Shape::{Hex, Mac, Name, Number, V4, V6, Words};

pub const KINDS: &[Kind] = &[
    kind("ipv4_addr", V4),
    kind("ipv6_addr", V6),
    kind("ether_addr", Mac),
    kind("inet_proto", Number(8, &["tcp", "udp", "icmp", "ipv6-icmp", "esp", "sctp", "gre"])),
    kind("inet_service", Number(16, &["22", "80", "443"])),
    kind("mark", Hex(32, &[])),
    kind("ifname", Name),
    kind("iface_index", Words(&["lo", "77", "78", "4000"])),
    kind("iface_type", Number(16, &["ether", "ppp", "loopback", "sit"])),
    kind("ether_type", Hex(16, &["ip", "ip6", "arp", "vlan", "8021ad"])),
    kind("uid", Number(32, &[])),
    kind("gid", Number(32, &[])),
    kind("ct_state", Words(&["new", "established", "related", "invalid", "untracked"])),
    kind("ct_dir", Words(&["original", "reply"])),
    kind(
        "ct_status",
        Words(&["expected", "seen-reply", "assured", "confirmed", "snat", "dnat", "dying"]),
    ),
    kind("icmp_type", Number(8, &["echo-request", "echo-reply", "redirect", "time-exceeded"])),
    kind("icmpv6_type", Number(8, &["echo-request", "nd-neighbor-solicit", "packet-too-big"])),
    kind("icmp_code", Number(8, &["net-unreachable", "host-unreachable", "frag-needed"])),
    kind("icmpv6_code", Number(8, &["no-route", "policy-fail"])),
    kind(
        "icmpx_code",
        Words(&["port-unreachable", "admin-prohibited", "no-route", "host-unreachable"]),
    ),
    kind("pkt_type", Words(&["host", "broadcast", "multicast", "other"])),
    kind("realm", Number(32, &["cosmos"])),
    kind("classid", Words(&["1:2", "beef:1", "0:5", "ffff:ffff", "none", "root", "8:0"])),
    kind("devgroup", Number(32, &["default"])),
    kind("dscp", Number(6, &["cs1", "ef", "af21", "va"])),
    kind("ecn", Words(&["not-ect", "ect0", "ect1", "ce"])),
    kind("fib_addrtype", Words(&["unicast", "local", "broadcast", "multicast", "blackhole"])),
    kind("boolean", Words(&["exists", "missing"])),
    kind("tcp_flag", Words(&["syn", "ack", "fin", "rst", "psh", "urg", "ecn", "cwr"])),
    kind("dccp_pkttype", Words(&["request", "response", "data", "ack", "reset"])),
    kind("mh_type", Number(8, &["binding-update", "home-test", "binding-error"])),
    kind("nf_proto", Words(&["ipv4", "ipv6"])),
    kind("igmp_type", Words(&["membership-query", "leave-group", "membership-report-v3"])),
    kind("time", Words(&["1s", "30s", "5m", "1h", "2d3h", "1w"])),
    kind("arp_op", Words(&["request", "reply", "inrequest", "nak"])),
    kind("ct_event", Words(&["new", "related", "destroy", "mark"])),
];

/// Types that are no word of nft's: only expressions have them.
const NAMELESS: &[Kind] = &[
    kind("ct_label", Words(&["0", "5", "64", "127"])),
    kind("day", Words(&["\"Sunday\"", "\"Friday\"", "\"Wednesday\""])),
    kind("hour", Words(&["\"10:00\"", "\"23:59\"", "\"17:30:15\""])),
];

pub fn kind_of(name: &str) -> Kind {
    *KINDS.iter().chain(NAMELESS).find(|kind| kind.name == name).unwrap()
}

const NAMES: [&str; 9] =
    ["eth", "wg", "ppp", "br-lan", "dummy", "tun", "veth12345", "x", "cali1a2b3c4d5e6"];

impl Kind {
    /// A value; no two slots (0 to 7) have one in common where there are enough.
    pub fn value(self, dice: &mut Dice, slot: usize) -> String {
        match self.shape {
            Number(..) | Hex(..) => self.number(dice, slot),
            V4 => {
                format!("{}.{}.{}.{}", 10 + slot, dice.below(256), dice.below(256), dice.below(256))
            }
            V6 => match dice.below(3) {
                0 => format!("fd0{slot}::{:x}", dice.below(65536)),
                1 => format!("fd0{slot}:{:x}::", 1 + dice.below(65535)),
                _ => format!("fd0{slot}:0:{:x}:0:{:x}::1", dice.below(65536), dice.below(65536)),
            },
            Mac => format!("02:0{slot}:{:02x}:00:{:02x}:ff", dice.below(256), dice.below(256)),
            Name => match dice.below(12) {
                0 => format!("\"{}{slot}\\*\"", NAMES[slot % NAMES.len()]),
                _ => format!("\"{}{slot}\"", NAMES[slot % NAMES.len()]),
            },
            Words(words) => words[slot % words.len()].to_owned(),
        }
    }

    fn number(self, dice: &mut Dice, slot: usize) -> String {
        let (bits, words) = match self.shape {
            Number(bits, words) | Hex(bits, words) => (bits, words),
            _ => (8, &[] as &[&str]),
        };
        if !words.is_empty() && dice.chance(40) {
            return (dice.one(words)).to_owned();
        }
        self.figure(bits, base(bits, slot) + offset(dice, bits))
    }

    fn figure(self, bits: u32, number: u64) -> String {
        let number = number.min(u64::MAX >> (64 - bits));
        match self.shape {
            Hex(..) => format!("0x{number:x}"),
            _ => number.to_string(),
        }
    }

    /// From one value to another, or the like; the value alone for what has no order.
    pub fn wide(self, dice: &mut Dice, slot: usize) -> String {
        match self.shape {
            Number(bits, _) | Hex(bits, _) => {
                let (from, room) = (base(bits, slot), base(bits, 1));
                let [one, other] = [offset(dice, bits), offset(dice, bits)];
                let (low, high) = match dice.below(5) {
                    0 => (0, room - 1),
                    1 => (0, room / 2),
                    _ => (one.min(other), one.max(other)),
                };
                // From nothing on: nft 1.0.6 has prefixes of such numbers, later ones have not.
                let low = low.max(u64::from(slot == 0));
                if low >= high {
                    return self.figure(bits, from + low);
                }
                format!("{}-{}", self.figure(bits, from + low), self.figure(bits, from + high))
            }
            V4 => match dice.below(4) {
                0 => format!("{}.0.0.0/{}", 10 + slot, 8 + dice.below(24)),
                1 => format!("{0}.1.0.0-{0}.1.{1}.255", 10 + slot, dice.below(256)),
                2 => format!("{0}.1.2.3-{0}.200.2.{1}", 10 + slot, dice.below(256)),
                _ => format!("{0}.{1}.0.0/16", 10 + slot, dice.below(256)),
            },
            V6 => match dice.below(3) {
                0 => format!("fd0{slot}::/{}", 16 + dice.below(112)),
                1 => format!("fd0{slot}::1-fd0{slot}::{:x}", 2 + dice.below(65000)),
                _ => format!("fd0{slot}::-fd0{slot}:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            },
            Mac => {
                format!("02:0{slot}:00:00:00:01-02:0{slot}:00:00:{:02x}:00", 1 + dice.below(255))
            }
            Name => format!("\"{}{slot}*\"", NAMES[slot % NAMES.len()]),
            Words(_) => self.value(dice, slot),
        }
    }

    /// Whether `<` and ranges make sense.
    pub fn has_order(self) -> bool {
        matches!(self.shape, Number(..) | Hex(..) | V4 | V6 | Mac)
    }

    /// Whether a value is several bits: nft 1.0.6 cannot list intervals of such and stops with a fault.
    pub fn is_bits(self) -> bool {
        matches!(self.name, "ct_state" | "ct_status" | "ct_label" | "ct_event" | "tcp_flag")
    }

    /// Whether it is no whole octets: nft 1.0.6 makes intervals of concatenations with such wrong.
    pub fn is_narrow(self) -> bool {
        self.name == "boolean" || self.bits().is_some_and(|bits| bits % 8 != 0)
    }

    /// Whether its values are of no certain length, and stand alone.
    pub fn is_text(self) -> bool {
        matches!(self.shape, Words(words) if words[0].starts_with("\"ftp") || words[0].starts_with("\"Linux"))
    }

    /// How many values there are at most, as far as slots go.
    pub fn slots(self) -> usize {
        match self.shape {
            Words(words) => words.len().min(8),
            Number(bits, _) | Hex(bits, _) => 1 << bits.min(3),
            _ => 8,
        }
    }

    pub fn bits(self) -> Option<u32> {
        match self.shape {
            Number(bits, _) | Hex(bits, _) => Some(bits),
            _ => None,
        }
    }
}

/// The first number of a slot.
fn base(bits: u32, slot: usize) -> u64 {
    (slot as u64) << (bits.min(60) - 3.min(bits))
}

fn offset(dice: &mut Dice, bits: u32) -> u64 {
    let room = bits.min(60) - 3.min(bits);
    let number = (dice.below(1 << 30) as u64) << 30 | dice.below(1 << 30) as u64;
    let few = dice.below(room as usize + 1);
    number & ((1 << few) - 1)
}
