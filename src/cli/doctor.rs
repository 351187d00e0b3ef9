//! The words of `berth doctor`.

use clap::{Args, ValueEnum};

use super::Output;
use crate::config::{Log, Options};

pub(super) const EXAMPLES: &str = "\
Examples:
  berth doctor                          before a start, beside a launcher, after one that failed
  berth doctor --half net               in the container that runs `berth net`
  berth doctor --output json            for scripts: findings with id, severity, evidence, remedy, exit_code
  berth doctor --explain tun-missing    all there is to say about one of them

In Kubernetes: kubectl exec POD -c CONTAINER -- berth doctor

It reads the variables that the launcher reads, touches nothing, and says nothing where nothing is wrong. Exit code 0:
nothing but notes; 1: warnings; 2: errors.";

/// What would start here, where nothing runs that could say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DoctorHalf {
    Run,
    Net,
    Vm,
}

/// What is looked for, or told.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub options: Box<Options>,
    #[command(flatten)]
    pub log: Log,
    /// What is to start here; a launcher that runs says it by itself
    #[arg(long, value_enum, default_value_t = DoctorHalf::Run, value_name = "VERB")]
    pub half: DoctorHalf,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    pub output: Output,
    /// Print the names of all faults, and end
    #[arg(long, conflicts_with_all = ["explain", "page"])]
    pub list: bool,
    /// Print cause and remedy of the fault of this name, and end
    #[arg(long, value_name = "NAME", conflicts_with = "page")]
    pub explain: Option<String>,
    /// Print docs/doctor.md, and end
    #[arg(long, hide = true)]
    pub page: bool,
}
