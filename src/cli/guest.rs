//! The words of `berth guest`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

pub(super) const EXAMPLES: &str = "\
Examples:
  berth guest info                      the system, its name, and what its agent can do
  berth guest interfaces                its network interfaces and addresses, as it sees them
  berth guest filesystems               what is mounted, and how full it is
  berth guest freeze --for 10           its file systems stand still, for a snapshot of the volume
  berth guest thaw                      and go on, when the snapshot is taken

In Kubernetes: kubectl exec POD -c CONTAINER -- berth guest info

It asks QEMU's guest agent, which has to run in the guest (Debian: the package qemu-guest-agent). What a guest says of itself
may be wrong. Exit code 1: the agent does not answer, or refuses.";

/// Whose guest, and how it is shown.
#[derive(Debug, Clone, Args)]
pub struct Whose {
    /// The launcher's state directory [default: /run/berth]
    #[arg(long, env = "BERTH_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    pub output: Output,
}

/// What is asked of the guest's agent.
#[derive(Debug, Clone, Subcommand)]
pub enum Guest {
    /// The guest's system, its host name, its agent
    Info(Whose),
    /// Its network interfaces and their addresses
    Interfaces(Whose),
    /// Its file systems: where, of which type, used and in all
    Filesystems(Whose),
    /// Flush and freeze its file systems, for a snapshot; they thaw by themselves
    Freeze {
        #[command(flatten)]
        whose: Whose,
        /// After so many seconds they thaw, whoever forgets them; 1 to 300
        #[arg(long = "for", value_name = "SECONDS", default_value_t = 30,
              value_parser = clap::value_parser!(u64).range(1..=300))]
        secs: u64,
    },
    /// Let its file systems go on
    Thaw(Whose),
}
