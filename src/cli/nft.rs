//! The words of `berth nft`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Output;

const LIST_EXAMPLES: &str = "\
Examples:
  berth nft list                            everything, as `nft list ruleset` prints it
  berth nft list table inet berth -a        one table, with handles
  berth nft list chain ip nat POSTROUTING   one chain
  berth nft list -j --pid 4711              JSON, of another process's network namespace";

const EXPLAIN_EXAMPLES: &str = "\
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

Exit codes: 0 accepted; 1 dropped or rejected; 3 cannot tell; 4, 10 and 17 as in the README.";

/// What is loaded in nf_tables, read and explained; needs no other program.
#[derive(Debug, Clone, Subcommand)]
pub enum Nft {
    /// Print what is loaded, as `nft list` does
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Tell what would happen to a packet: every rule it meets, and the verdict
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Box<Explain>),
}

/// Whose rules are looked at.
#[derive(Debug, Clone, Default, Args)]
pub struct Where {
    /// Network namespace to look into: a file such as /run/netns/NAME
    #[arg(long, value_name = "PATH", global = true, help_heading = "Namespace", conflicts_with = "pid")]
    pub netns: Option<PathBuf>,
    /// Process whose network namespace is looked into
    #[arg(long, value_name = "PID", global = true, help_heading = "Namespace")]
    pub pid: Option<u32>,
}

#[derive(Debug, Clone, Args)]
pub struct List {
    /// ruleset [FAMILY], tables, table FAMILY NAME, chain|set|map|flowtable|counter|quota|limit FAMILY TABLE NAME, …
    #[arg(value_name = "WHAT")]
    pub what: Vec<String>,
    /// Print handles
    #[arg(short = 'a', long)]
    pub handle: bool,
    /// Print ports, protocols, users and the like as numbers
    #[arg(short = 'n', long)]
    pub numeric: bool,
    /// Leave out counters, consumed quotas and elements of dynamic sets
    #[arg(short = 's', long)]
    pub stateless: bool,
    /// Print JSON, as `nft -j list` does
    #[arg(short = 'j', long)]
    pub json: bool,
    /// How the result is printed
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with = "json")]
    pub output: Option<Output>,
    /// The nft release whose output is imitated in the JSON's metainfo
    #[arg(long, value_name = "VERSION", default_value = "1.0.6")]
    pub nft_version: String,
}

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
    #[arg(long, value_name = "N", help_heading = "Packet")]
    pub length: Option<u16>,
    /// Time to live, or hop limit
    #[arg(long, value_name = "N", help_heading = "Packet")]
    pub ttl: Option<u8>,
    /// Type of service, or traffic class: DSCP and ECN together
    #[arg(long, value_name = "N", help_heading = "Packet")]
    pub tos: Option<u8>,
    /// User whose socket made it
    #[arg(long, value_name = "N", help_heading = "Packet")]
    pub uid: Option<u32>,
    /// Group whose socket made it
    #[arg(long, value_name = "N", help_heading = "Packet")]
    pub gid: Option<u32>,
    /// Ethernet address it comes from
    #[arg(long, value_name = "MAC", help_heading = "Packet")]
    pub ether_from: Option<String>,
    /// Ethernet address it goes to [default: the interface's own]
    #[arg(long, value_name = "MAC", help_heading = "Packet")]
    pub ether_to: Option<String>,
    /// Take rates, quotas and numbers of connections as not exceeded
    #[arg(long)]
    pub within_limits: bool,
    /// How the result is printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
}
