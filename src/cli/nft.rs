//! The words of `berth nft`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

const LIST_EXAMPLES: &str = "\
Examples:
  berth nft list                            everything, as `nft list ruleset` prints it
  berth nft list table inet berth -a        one table, with handles
  berth nft list chain ip nat POSTROUTING   one chain
  berth nft list -j --pid 4711              JSON, of another process's network namespace";

/// What is loaded in nf_tables, read and explained; needs no other program.
#[derive(Debug, Clone, Subcommand)]
pub enum Nft {
    /// Print what is loaded, as `nft list` does
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
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
