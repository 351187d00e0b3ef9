//! Words to Command: what the process was asked to be.
//!
//! `berth run` is the default. Two words of the seed are kept: the first argument `bash` gives a debug shell,
//! and under the name `startvm.sh` every argument is QEMU's.

pub mod console;
pub mod disks;
pub mod doctor;
pub mod guest;
pub mod nft;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub use crate::config::Log;
use crate::config::reader::{self, Environment};
use crate::config::serve::{LEASE_FILE, ServeOptions};
use crate::config::{Options, SelfTest};

const EXAMPLES: &str = "\
Examples:
  # In a pod or container: everything comes from the environment.
  IMG_SOURCE=https://images.example/debian-12.qcow2 IMG_TARGET=debian-12.qcow2 berth

  # What would it do here? Touches nothing.
  berth plan --image-target debian-12.qcow2

  # Arguments after -- come last on QEMU's line.
  berth run --vcpu 2 --ram-mb 2048 --image-target debian-12.qcow2 -- -device virtio-balloon

Exit codes: 0 the guest powered off; 2 no image directory; 3 no overlay; 4 no network; 10 and up see docs/reference.md;
QEMU's own code when QEMU ended by itself.";

const SERVE_EXAMPLES: &str = "\
Examples:
  # A pool, and an address of its own for one machine; names are asked of the servers in resolv.conf.
  berth serve --interface br1 --range 10.0.0.100,10.0.0.200 --reserve 52:54:00:12:34:56,10.0.0.5,web

  # DHCP alone, two networks behind a relay, leases of a day.
  berth serve --interface eth1 --no-dns --lease-time 86400 \\
    --relayed 10.2.0.0/16,10.2.0.10,10.2.255.250,10.2.0.1 --relayed 10.3.0.0/24,10.3.0.10,10.3.0.250,10.3.0.1

  # Network boot: a file for old ROMs, one for UEFI (architecture 7), one for iPXE.
  berth serve --interface eth1 --range 10.0.0.100,10.0.0.200 --next-server 10.0.0.2 \\
    --boot-file pxelinux.0 --boot-file 7=grubx64.efi --boot-file ipxe=http://10.0.0.2/boot.ipxe

  # DNS alone, with two names of our own.
  berth serve --interface br1 --no-dhcp --host printer.lan=10.0.0.9 --host nas.lan=10.0.0.8 --domain lan";

const SPLIT: &str = "\
Two containers that share a network namespace and have the same environment:
  # As uid 0 with NET_ADMIN and NET_BIND_SERVICE; the tap belongs to BERTH_QEMU_UID (65534).
  berth net

  # As uid 65534 with no capability at all.
  berth vm";

/// Run a virtual machine in a container or pod and make it be the pod on the network.
#[derive(Debug, Parser)]
#[command(name = "berth", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true,
          subcommand_precedence_over_arg = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Common,
}

/// The definition of every flag and verb: man pages and shell completions are made of it.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// What starts containers, alone: building all that other verbs take costs a tenth of the time to QEMU.
#[derive(Debug, Parser)]
#[command(name = "berth")]
struct RunAlone {
    #[command(flatten)]
    run: Common,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Network, DHCP and DNS, disks, QEMU: everything, as PID 1 (the default)
    #[command(after_help = EXAMPLES)]
    Run(Common),
    /// The network half alone, for a container that may: bridge, tap, NAT, DHCP and DNS, watched and healed
    #[command(after_help = SPLIT)]
    Net(Common),
    /// The machine half alone, without any capability, on the tap that berth net made
    #[command(after_help = SPLIT)]
    Vm(Common),
    /// Whether this container can be a guest: a synthetic one gets a lease, resolves, and is called through the NAT
    Selftest {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        test: SelfTest,
    },
    /// How the launcher in this container is; exit code 0 when it is ready
    Status {
        /// The launcher's state directory [default: /run/berth]
        #[arg(long, env = "BERTH_STATE_DIR", value_name = "DIR")]
        state_dir: Option<PathBuf>,
        /// 0 too when it is not ready, as long as it answers
        #[arg(long)]
        alive: bool,
        /// How it is printed; prometheus and openmetrics are its page of metrics
        #[arg(long, value_enum, default_value_t = StatusOutput::Text, value_name = "FORMAT")]
        output: StatusOutput,
    },
    /// The guest's serial console, shared by all who attach; Ctrl-] leaves
    #[command(after_help = console::EXAMPLES)]
    Console(console::Console),
    /// What the guest's agent tells, and can do; exit code 1 when it does not answer or refuses
    #[command(after_help = guest::EXAMPLES)]
    Guest {
        #[command(subcommand)]
        verb: guest::Guest,
    },
    /// A copy of the guest's disks as they are now, while it goes on; exit code 1 when there is none
    #[command(after_help = disks::BACKUP)]
    Backup(disks::Backup),
    /// Make the guest's disk larger, or let it see that its volume is; exit code 1 when it is not
    #[command(after_help = disks::RESIZE)]
    Resize(disks::Resize),
    /// Save the guest's memory beside its disk and end: the next start goes on; exit code 1 when it runs on
    Suspend {
        /// The launcher's state directory [default: /run/berth]
        #[arg(long, env = "BERTH_STATE_DIR", value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// What is wrong here, and how it is mended; touches nothing
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Doctor),
    /// Print what run would do; touches nothing
    Plan {
        #[command(flatten)]
        common: Common,
        /// How the plan is printed
        #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
        output: Output,
    },
    /// DHCP and DNS on an interface that exists, with pools and reservations
    #[command(after_help = SERVE_EXAMPLES)]
    Serve {
        #[command(flatten)]
        options: Box<ServeOptions>,
        #[command(flatten)]
        log: Log,
    },
    /// Check values files of the chart, merged as `helm --values` merges them: all mistakes at once, with their lines; exit
    /// code 1 when there are any
    Validate {
        /// Values files of one release, the last goes first; - is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// How mistakes are printed
        #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
        output: Output,
    },
    /// The leases of berth serve, running or not
    Leases {
        /// Where they are kept
        #[arg(long, env = "BERTH_SERVE_LEASE_FILE", value_name = "PATH", default_value = LEASE_FILE)]
        lease_file: PathBuf,
        /// How they are printed
        #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
        output: Output,
    },
    /// Show and explain the nf_tables rules that are loaded, ours and everybody's
    Nft {
        #[command(flatten)]
        place: nft::Where,
        #[command(flatten)]
        log: Log,
        #[command(subcommand)]
        verb: nft::Nft,
    },
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// How a status is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusOutput {
    Text,
    Json,
    /// Metrics, in Prometheus' text format 0.0.4
    Prometheus,
    /// Metrics, in OpenMetrics 1.0
    #[value(name = "openmetrics")]
    OpenMetrics,
}

#[derive(Debug, Clone, Default, Args)]
struct Common {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    log: Log,
}

/// What the process is asked to be.
#[derive(Debug)]
pub enum Request {
    /// A shell, with these arguments.
    Shell(Vec<OsString>),
    Verb {
        log: Log,
        command: Command,
    },
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    Run(Box<Options>),
    Net(Box<Options>),
    Vm(Box<Options>),
    Selftest { options: Box<Options>, no_dns: bool },
    Status { state_dir: Option<PathBuf>, alive: bool, output: StatusOutput },
    Console(console::Console),
    Guest(guest::Guest),
    Backup(disks::Backup),
    Resize(disks::Resize),
    Suspend { state_dir: Option<PathBuf> },
    Doctor(doctor::Doctor),
    Plan { options: Box<Options>, output: Output },
    Serve(Box<ServeOptions>),
    Validate { files: Vec<PathBuf>, output: Output },
    Leases { lease_file: PathBuf, output: Output },
    Check { place: nft::Where, options: Box<Options> },
    Inspect { place: nft::Where, verb: nft::Inspect },
}

impl Command {
    /// Whether it does something with what the environment says of VMs and servers.
    pub fn reads_variables(&self) -> bool {
        match self {
            Self::Run(_)
            | Self::Net(_)
            | Self::Vm(_)
            | Self::Selftest { .. }
            | Self::Doctor(_)
            | Self::Plan { .. }
            | Self::Serve(_)
            | Self::Check { .. } => true,
            Self::Status { .. }
            | Self::Console(_)
            | Self::Guest(_)
            | Self::Backup(_)
            | Self::Resize(_)
            | Self::Suspend { .. }
            | Self::Validate { .. }
            | Self::Leases { .. }
            | Self::Inspect { .. } => false,
        }
    }

    /// Whether it starts QEMU or serves: then it is confined.
    pub fn runs_long(&self) -> bool {
        match self {
            Self::Run(_) | Self::Net(_) | Self::Vm(_) | Self::Serve(_) => true,
            Self::Selftest { .. }
            | Self::Plan { .. }
            | Self::Check { .. }
            | Self::Status { .. }
            | Self::Console(_)
            | Self::Guest(_)
            | Self::Backup(_)
            | Self::Resize(_)
            | Self::Suspend { .. }
            | Self::Doctor(_)
            | Self::Validate { .. }
            | Self::Leases { .. }
            | Self::Inspect { .. } => false,
        }
    }
}

/// Reads the arguments (program name first). The error is clap's: it knows whether it is help or a mistake,
/// how to print itself and which exit code it has.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, clap::Error> {
    parse_in(args, &reader::environment)
}

fn parse_in(
    args: impl IntoIterator<Item = OsString>,
    environment: Environment<'_>,
) -> Result<Request, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut words = args.iter().skip(1);
    if words.next().is_some_and(|word| word == "bash") {
        return Ok(Request::Shell(words.cloned().collect()));
    }
    let args = as_seed(args);
    if let Some(common) = run_alone(&args, environment) {
        return Ok(run(common));
    }
    let cli: Cli = reader::parse(&args, environment)?;
    let (log, command) = match cli.verb {
        None => return Ok(run(cli.run)),
        Some(Verb::Run(common)) => return Ok(run(common)),
        Some(Verb::Net(Common { options, log })) => (log, Command::Net(Box::new(options))),
        Some(Verb::Vm(Common { options, log })) => (log, Command::Vm(Box::new(options))),
        Some(Verb::Selftest { common: Common { options, log }, test }) => {
            (log, Command::Selftest { options: Box::new(options), no_dns: test.no_dns })
        }
        Some(Verb::Plan { common: Common { options, log }, output }) => {
            (log, Command::Plan { options: Box::new(options), output })
        }
        Some(Verb::Serve { options, log }) => (log, Command::Serve(options)),
        Some(Verb::Status { state_dir, alive, output }) => {
            (Log::default(), Command::Status { state_dir, alive, output })
        }
        Some(Verb::Console(console)) => (Log::default(), Command::Console(console)),
        Some(Verb::Guest { verb }) => (Log::default(), Command::Guest(verb)),
        Some(Verb::Backup(backup)) => (Log::default(), Command::Backup(backup)),
        Some(Verb::Resize(resize)) => (Log::default(), Command::Resize(resize)),
        Some(Verb::Suspend { state_dir }) => (Log::default(), Command::Suspend { state_dir }),
        Some(Verb::Doctor(doctor)) => (doctor.log.clone(), Command::Doctor(doctor)),
        Some(Verb::Validate { files, output }) => {
            (Log::default(), Command::Validate { files, output })
        }
        Some(Verb::Leases { lease_file, output }) => {
            (Log::default(), Command::Leases { lease_file, output })
        }
        Some(Verb::Nft { place, log, verb: nft::Nft::Check(options) }) => {
            (log, Command::Check { place, options })
        }
        Some(Verb::Nft { place, log, verb: nft::Nft::Inspect(verb) }) => {
            (log, Command::Inspect { place, verb })
        }
    };
    Ok(Request::Verb { log, command })
}

/// `run` with flags and nothing else, said or not; None for all others, and for mistakes.
fn run_alone(args: &[OsString], environment: Environment<'_>) -> Option<Common> {
    let (name, words) = args.split_first()?;
    let words = words.strip_prefix(&[OsString::from("run")]).unwrap_or(words);
    let args: Vec<OsString> = [name].into_iter().chain(words).cloned().collect();
    reader::parse::<RunAlone>(&args, environment).ok().map(|alone| alone.run)
}

fn run(Common { options, log }: Common) -> Request {
    Request::Verb { log, command: Command::Run(Box::new(options)) }
}

/// Under the seed's name there are no flags: everything is QEMU's.
fn as_seed(mut args: Vec<OsString>) -> Vec<OsString> {
    let seed = args
        .first()
        .is_some_and(|name| Path::new(name).file_name().is_some_and(|name| name == "startvm.sh"));
    if seed {
        args.insert(1, "--".into());
    }
    args
}

#[cfg(test)]
mod tests;
