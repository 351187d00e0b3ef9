//! The words of `berth nft explain`.

use clap::{Args, ValueEnum};

use super::super::Output;
use crate::config::number;

pub(super) const EXAMPLES: &str = "\
Examples:
  # Does a connection from a peer reach port 22, and which rules does it meet on its way?
  berth nft explain --from 10.0.0.9 --to pod:22/tcp

  # A ping that comes by eth0; a DNS query made on this machine by user 101
  berth nft explain --from 10.0.0.9 --iif eth0 --to 10.1.1.2/icmp
  berth nft explain --local --uid 101 --to 10.96.0.10:53/udp

  # A later packet of a connection; only the chains of one hook
  berth nft explain --from 10.0.0.9:4711 --to 10.1.1.2:80/tcp --ct-state established --ct-status seen-reply
  berth nft explain --from 10.0.0.9 --to 10.1.1.2:80/tcp --hook forward --iif eth0 --oif br0

  # The rules that another pod's process sees; does the packet pass?
  berth nft explain --pid 4711 --from 10.0.0.9 --to 10.1.1.2:80/tcp >/dev/null && echo passes

How to read it: one paragraph for each chain in the order the kernel runs them, one line for each rule:
  +  the rule matched           -  it did not, and why
  ?  cannot tell: it depends on something that was not said (the line below says what, and with which flag)
An address may be `pod`: the one this machine uses towards its default route.

Exit codes: 0 accepted; 1 dropped or rejected; 3 cannot tell; 4, 10 and 17 as in docs/reference.md.";

/// How conntrack sees a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Track {
    #[default]
    New,
    Established,
    Related,
    Invalid,
    Untracked,
}

#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// Where it comes from
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub from: Option<String>,
    /// Where it goes, as in 10.1.1.2:22/tcp, [fd00::1]:53/udp or 10.1.1.2/icmp
    #[arg(long, value_name = "ADDRESS[:PORT]/PROTOCOL")]
    pub to: String,
    /// Interface it comes by [default: where the route back to its source leads]
    #[arg(long, value_name = "NAME", conflicts_with = "local")]
    pub iif: Option<String>,
    /// It is made on this machine
    #[arg(long)]
    pub local: bool,
    /// Look at this hook only: ingress, prerouting, input, forward, output, postrouting or egress
    #[arg(long, value_name = "HOOK")]
    pub hook: Option<String>,
    /// Interface it leaves by; with --hook
    #[arg(long, value_name = "NAME")]
    pub oif: Option<String>,
    /// Look at the rules of this family only: ip, ip6, inet, arp, bridge or netdev
    #[arg(long, value_name = "FAMILY")]
    pub family: Option<String>,
    /// How conntrack sees it
    #[arg(long, value_enum, value_name = "STATE", default_value_t, help_heading = "Connection")]
    pub ct_state: Track,
    /// It goes against the direction of its connection's first packet
    #[arg(long, help_heading = "Connection")]
    pub reply: bool,
    /// What else conntrack knows: seen-reply, assured, confirmed, snat, dnat; none for nothing
    #[arg(long, value_name = "WORDS", help_heading = "Connection")]
    pub ct_status: Option<String>,
    /// Mark of its connection
    #[arg(long, value_name = "N", help_heading = "Connection")]
    pub ct_mark: Option<String>,
    /// Zone its connection is in; looked for in another, the packet is the first of a new one [default: any]
    #[arg(long, value_name = "N", value_parser = number(0..=u16::MAX), help_heading = "Connection")]
    pub ct_zone: Option<u16>,
    /// Mark of the packet [default: 0]
    #[arg(long, value_name = "N", help_heading = "Packet")]
    pub mark: Option<String>,
    /// As in syn,ack; none for none
    #[arg(long, value_name = "WORDS", help_heading = "Packet")]
    pub tcp_flags: Option<String>,
    /// By name or number
    #[arg(long, value_name = "TYPE[/CODE]", help_heading = "Packet")]
    pub icmp_type: Option<String>,
    /// Octets from the IP header on
    #[arg(long, value_name = "N", value_parser = number(0..=u16::MAX), help_heading = "Packet")]
    pub length: Option<u16>,
    /// Time to live, or hop limit
    #[arg(long, value_name = "N", value_parser = number(0..=u8::MAX), help_heading = "Packet")]
    pub ttl: Option<u8>,
    /// Type of service, or traffic class: DSCP and ECN together
    #[arg(long, value_name = "N", value_parser = number(0..=u8::MAX), help_heading = "Packet")]
    pub tos: Option<u8>,
    /// User whose socket made it
    #[arg(long, value_name = "N", value_parser = number(0..=u32::MAX), help_heading = "Packet")]
    pub uid: Option<u32>,
    /// Group whose socket made it
    #[arg(long, value_name = "N", value_parser = number(0..=u32::MAX), help_heading = "Packet")]
    pub gid: Option<u32>,
    /// Ethernet address it comes from
    #[arg(long, value_name = "MAC", help_heading = "Packet")]
    pub ether_from: Option<String>,
    /// Ethernet address it goes to [default: the interface's own]
    #[arg(long, value_name = "MAC", help_heading = "Packet")]
    pub ether_to: Option<String>,
    /// VLAN of its 802.1Q tag, as the hooks ingress and those of bridges see it [default: no tag]
    #[arg(long, value_name = "ID", value_parser = number(0..=4095_u16), help_heading = "Packet")]
    pub vlan: Option<u16>,
    /// Take rates, quotas and numbers of connections as not exceeded
    #[arg(long)]
    pub within_limits: bool,
    /// How the result is printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
}
