//! The words of `berth nft`.

mod explain;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};

use super::Output;
use crate::config::{Options, number};

pub use explain::{Explain, Track};

const LIST_EXAMPLES: &str = "\
Examples:
  berth nft list                            everything, as `nft list ruleset` prints it
  berth nft list table inet berth -a        one table, with handles
  berth nft list chain ip nat POSTROUTING   one chain
  berth nft list -t                         without the elements of large sets
  berth nft list -j --pid 4711              JSON, of another process's network namespace";

const TRACE_EXAMPLES: &str = "\
Examples:
  berth nft trace --to 10.1.1.2 --port 22 --count 3     three packets to or from port 22
  berth nft trace --from 10.0.0.0/8 --protocol icmp     pings of a network, until Ctrl-C
  berth nft trace --iif eth0 --for 10s --output json    what comes in there, one JSON object a packet

Marks the packets with a rule in a table of its own, which the kernel removes when this process ends, however it
ends. Rules that match are told with their verdict, and the policy where a chain ends; rules that do not match are
silent. Packets are marked as they come in, or as this host sends them: what the netdev and bridge families do
before that is not told. On a busy host say which packets.";

const WATCH_EXAMPLES: &str = "\
Examples:
  berth nft watch                    until Ctrl-C
  berth nft watch --count 1          the next change, whoever makes it
  berth nft watch --for 1m --pid 1   in another process's network namespace, for a minute

Lines with - went, lines with + came. Packets that are counted are no change. The pid is that of the initial PID
namespace, so in a container it is not the one that `ps` shows there.";

const CHECK_EXAMPLES: &str = "\
Examples:
  berth nft check                           with the environment of the launcher
  berth nft check --reserved-ports 22/tcp   with its flags

Lines with - are planned and not loaded, lines with + are loaded and not planned.";

/// What is loaded in nf_tables, read and explained; needs no other program.
#[derive(Debug, Clone, Subcommand)]
pub enum Nft {
    #[command(flatten)]
    Inspect(Inspect),
    /// Compare berth's own rules with the plan: prints what differs; exit code 0 when nothing does, 1 when they drifted
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Box<Options>),
}

/// What needs no plan.
#[derive(Debug, Clone, Subcommand)]
pub enum Inspect {
    /// Print what is loaded, as `nft list` does
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Tell what would happen to a packet: every rule it meets, and the verdict
    #[command(after_help = explain::EXAMPLES)]
    Explain(Box<Explain>),
    /// Show live which rules packets meet, and what becomes of them
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(Trace),
    /// Show every change of the rules as it happens: when, by whom, and the lines that went and came
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(Watch),
}

impl Inspect {
    /// Whether it goes on until it is told to end.
    pub fn goes_on(&self) -> bool {
        match self {
            Self::Trace(_) | Self::Watch(_) => true,
            Self::List(_) | Self::Explain(_) => false,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct Watch {
    /// End after this many changes
    #[arg(long, value_name = "N", value_parser = number(1..=u64::MAX))]
    pub count: Option<u64>,
    /// End after this time: 10s, 500ms, 2m; a number is seconds
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,
}

/// Whose rules are looked at.
#[derive(Debug, Clone, Default, Args)]
pub struct Where {
    /// Network namespace to look into: a file such as /run/netns/NAME
    #[arg(
        long,
        value_name = "PATH",
        global = true,
        help_heading = "Namespace",
        conflicts_with = "pid"
    )]
    pub netns: Option<PathBuf>,
    /// Process whose network namespace is looked into
    #[arg(long, value_name = "PID", global = true, value_parser = number(1..=u32::MAX), help_heading = "Namespace")]
    pub pid: Option<u32>,
}

#[derive(Debug, Clone, Args)]
pub struct List {
    /// ruleset [FAMILY], tables, hooks [FAMILY] [device NAME], table FAMILY NAME, chain|set|map|flowtable|counter|quota|limit FAMILY TABLE NAME, …
    #[arg(value_name = "WHAT")]
    pub what: Vec<String>,
    /// Print handles
    #[arg(short = 'a', long)]
    pub handle: bool,
    /// Print protocols, priorities, flags, types and times as numbers
    #[arg(short = 'n', long, action = ArgAction::Count)]
    pub numeric: u8,
    /// Print priorities of chains as numbers
    #[arg(short = 'y', long)]
    pub numeric_priority: bool,
    /// Print protocols above IP as numbers
    #[arg(short = 'p', long)]
    pub numeric_protocol: bool,
    /// Print times in seconds
    #[arg(short = 'T', long)]
    pub numeric_time: bool,
    /// Print the names that /etc/services has for ports
    #[arg(short = 'S', long)]
    pub service: bool,
    /// Print the names that /etc/passwd and /etc/group have for users and groups
    #[arg(short = 'u', long)]
    pub guid: bool,
    /// Leave out counters, consumed quotas and elements of dynamic sets
    #[arg(short = 's', long)]
    pub stateless: bool,
    /// Leave out the elements of sets and maps that have a name; they are not read either
    #[arg(short = 't', long)]
    pub terse: bool,
    /// No effect: nothing is added here that could be echoed
    #[arg(short = 'e', long, hide = true)]
    pub echo: bool,
    /// Refused
    #[arg(short = 'N', long, hide = true)]
    pub reversedns: bool,
    /// Refused
    #[arg(short = 'i', long, hide = true)]
    pub interactive: bool,
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

#[derive(Debug, Clone, Args)]
pub struct Trace {
    /// Source address, or network
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Destination address, or network, as the packet has it when it comes in (before NAT)
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,
    /// tcp, udp, icmp, icmpv6, sctp, …, or a number
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// Source or destination port
    #[arg(long, value_name = "PORT", value_parser = number(0..=u16::MAX))]
    pub port: Option<u16>,
    /// Interface it comes in by; packets of this host's own are then left out
    #[arg(long, value_name = "NAME")]
    pub iif: Option<String>,
    /// End after this many packets
    #[arg(long, value_name = "N", value_parser = number(1..=u64::MAX))]
    pub count: Option<u64>,
    /// End after this time: 10s, 500ms, 2m; a number is seconds
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,
    /// How packets are printed: text, or one JSON object a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
}

/// `500ms`, `10s`, `2m`, `1h`; without a unit, seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "a time such as 10s, 500ms or 2m".to_owned())?;
    let millis = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    let longest = Duration::from_secs(366 * 86_400);
    millis.map(Duration::from_millis).filter(|time| !time.is_zero() && *time <= longest).ok_or_else(
        || "a time such as 10s, 500ms or 2m, more than nothing and at most a year".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_with_a_unit() {
        let millis = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(millis("10s"), Ok(10_000));
        assert_eq!(millis("10"), Ok(10_000));
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("2m"), Ok(120_000));
        assert_eq!(millis("1h"), Ok(3_600_000));
        for wrong in ["", "0s", "s", "1d", "-1s", "1.5s", "99999999999999999999s", "9000000h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
