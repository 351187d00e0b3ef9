//! Every measurement, one after another, and one report of them: Markdown with the plots, and the raw JSON beside it.
//!
//! What a step runs is the command line that the report shows. Goals that are not met are said so.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use clap::{Args, Parser};
use serde_json::Value;

use crate::{Cli, Error, at, measure};

#[derive(Debug, Args)]
pub struct Options {
    /// Where the report goes
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    out: PathBuf,
    /// The berth to measure [default: each measurement's own]
    #[arg(long)]
    berth: Option<PathBuf>,
    /// Only to see that all of it runs: the figures mean nothing
    #[arg(long)]
    brief: bool,
}

/// A measurement: the file it goes to, its title, the words after `berth-bench`, and those of a brief run.
struct Step {
    name: &'static str,
    title: &'static str,
    words: &'static str,
    brief: &'static str,
    plots: &'static [&'static str],
}

const STEPS: [Step; 14] = [
    Step {
        name: "startup",
        title: "Start to QEMU's exec",
        words: "startup",
        brief: "startup --runs 2",
        plots: &[],
    },
    Step {
        name: "boot",
        title: "Start to the guest's answer",
        words: "boot",
        brief: "boot --rounds 1 --suspend 0",
        plots: &[],
    },
    Step {
        name: "nft",
        title: "nf_tables",
        words: "nft --runs 60",
        brief: "nft --runs 2 --rules 10 --sets 100",
        plots: &[],
    },
    Step {
        name: "dhcp",
        title: "DHCP at 1,000 exchanges a second",
        words: "dhcp --against echo,berth,kea,isc,dnsmasq,networkd --rounds 3 --duration 3",
        brief: "dhcp --against echo,berth --rounds 1 --duration 0.5 --rate 200",
        plots: &["latency.svg", "time.svg"],
    },
    Step {
        name: "dhcp-perfdhcp",
        title: "The same by perfdhcp",
        words: "dhcp --against berth,kea,dnsmasq --relay --rounds 1 --duration 4 --rate 150 --perfdhcp",
        brief: "dhcp --against berth --relay --rounds 1 --duration 1 --rate 100 --perfdhcp",
        plots: &[],
    },
    Step {
        name: "dhcp-limit",
        title: "The highest rate that holds",
        words: "dhcp --against echo,berth,kea,isc,dnsmasq --rounds 2 --rate 250 --find-limit",
        brief: "dhcp --against berth --rounds 1 --rate 200 --find-limit --p99-ms 0.001",
        plots: &["limit.svg"],
    },
    Step {
        name: "dhcp6",
        title: "DHCPv6 at 1,000 exchanges a second",
        words: "dhcp6 --against echo,berth,kea --rounds 5 --duration 3",
        brief: "dhcp6 --against echo,berth --rounds 1 --duration 0.5 --rate 200",
        plots: &["latency.svg"],
    },
    Step {
        name: "dhcp6-limit",
        title: "The highest rate of DHCPv6 that holds",
        words: "dhcp6 --against echo,berth,kea --rounds 2 --rate 250 --find-limit",
        brief: "dhcp6 --against berth --rounds 1 --rate 200 --find-limit --p99-ms 0.001",
        plots: &["limit.svg"],
    },
    Step {
        name: "scale",
        title: "Few leases and many",
        words: "scale --against berth,kea --duration 2 --rounds 2",
        brief: "scale --against berth --leases 10 --rate 100 --duration 1 --rounds 1",
        plots: &[],
    },
    Step {
        name: "dns",
        title: "DNS",
        words: "dns --rounds 2",
        brief: "dns --against berth --rounds 1 --duration 1 --rate 200",
        plots: &[],
    },
    Step {
        name: "path",
        title: "The way of packets",
        words: "path --rounds 6 --duration 1",
        brief: "path --rounds 1 --duration 1",
        plots: &[],
    },
    Step {
        name: "footprint",
        title: "Launchers",
        words: "footprint --watch 12",
        brief: "footprint --launchers 1,2 --watch 2",
        plots: &[],
    },
    Step {
        name: "operate",
        title: "An operator's looks",
        words: "operate",
        brief: "operate --scrapes 2 --launchers 1 --rounds 0",
        plots: &[],
    },
    Step {
        name: "hostile",
        title: "Floods",
        words: "hostile",
        brief: "hostile --seconds 0.5 --only net-arp,serve-dns-tcp",
        plots: &[],
    },
];

/// The report's path.
pub fn run(options: &Options) -> Result<PathBuf, Error> {
    let out = &options.out;
    at(format!("making {}", out.display()), fs::create_dir_all(out))?;
    let mut text = "# Measured\n\n".to_owned();
    text.push_str(&facts());
    let (mut found, mut body) = (Value::Object(serde_json::Map::new()), String::new());
    for step in &STEPS {
        let began = Instant::now();
        let words = if options.brief { step.brief } else { step.words };
        eprintln!("{}: berth-bench {words}", step.title);
        let line = format!(
            "berth-bench {words} --json {}",
            out.join(step.name).with_extension("json").display()
        );
        let plots = match step.plots {
            [] => String::new(),
            _ => format!(" --svg {}", out.join(step.name).display()),
        };
        // nf_tables is measured in process.
        let berth = options.berth.as_ref().filter(|_| step.name != "nft");
        let berth = berth.map_or_else(String::new, |berth| format!(" --berth {}", berth.display()));
        let line = format!("{line}{plots}{berth}");
        let cli = Cli::try_parse_from(line.split_whitespace())
            .map_err(|error| Error::Step(error.to_string()))?;
        let report = measure(cli.bench)?;
        let json = at(step.name, fs::read(out.join(step.name).with_extension("json")))?;
        let value: Value =
            serde_json::from_slice(&json).map_err(|error| Error::Step(error.to_string()))?;
        if let Some(all) = found.as_object_mut() {
            all.insert(step.name.to_owned(), value);
        }
        let _ = writeln!(
            body,
            "\n## {}\n\n```console\n$ berth-bench {words}\n{}\n```",
            step.title,
            report.trim_end()
        );
        for plot in step.plots {
            let _ = writeln!(body, "\n![{}]({}/{plot})", step.title, step.name);
        }
        eprintln!("  took {:.0} s", began.elapsed().as_secs_f64());
    }
    text.push_str(&goals(&found));
    text.push_str(&body);
    let path = out.join("report.md");
    at("writing the report", fs::write(&path, text))?;
    Ok(path)
}

/// Of the machine and the programs.
fn facts() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, label: &str| {
        let line = text.lines().find(|line| line.starts_with(label)).unwrap_or_default();
        line.split_once([':', '='])
            .map_or(String::new(), |(_, value)| value.trim().trim_matches('"').to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let said = |program: &str, word: &str| {
        let output = Command::new(program).arg(word).output().ok();
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("not here").trim().to_owned()
    };
    let mut text = String::new();
    let _ = writeln!(text, "| | |\n|---|---|");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    row(
        "processor",
        format!("{}, {cores} cores, shared", field(&read("/proc/cpuinfo"), "model name")),
    );
    row("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned());
    row("system", field(&read("/etc/os-release"), "PRETTY_NAME"));
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok();
    row(
        "berth",
        String::from_utf8_lossy(&commit.map(|output| output.stdout).unwrap_or_default())
            .trim()
            .to_owned(),
    );
    for (name, program, word) in [
        ("dnsmasq", "dnsmasq", "--version"),
        ("Kea", "/usr/sbin/kea-dhcp4", "-v"),
        ("ISC dhcpd", "/usr/sbin/dhcpd", "--version"),
        ("unbound", "unbound", "-V"),
        ("nft", "nft", "--version"),
        ("QEMU", "qemu-system-x86_64", "--version"),
        ("iperf3", "iperf3", "--version"),
    ] {
        row(name, said(program, word));
    }
    text.push_str("\nRatios within one run are what counts; digits depend on the machine.\n");
    text
}

/// What a goal asks of a figure.
enum Wants {
    AtMost(f64),
    AtLeast(f64),
}

/// Every goal with what was measured; figures that are missing are said to be.
fn goals(found: &Value) -> String {
    let number = |pointer: &str| found.pointer(pointer).and_then(Value::as_f64);
    let server = |step: &str, name: &str, figure: &dyn Fn(&Value) -> Option<f64>| -> Option<f64> {
        let servers = found.pointer(&format!("/{step}/servers"))?.as_array()?;
        let server = servers.iter().find(|server| server["name"] == name)?;
        crate::stats::median(server["rounds"].as_array()?.iter().filter_map(figure))
            .map(|(middle, ..)| middle)
    };
    let at =
        |pointer: &'static str| move |round: &Value| round.pointer(pointer).and_then(Value::as_f64);
    let over =
        |one: Option<f64>, other: Option<f64>| Some(one? / other.filter(|other| *other > 0.0)?);
    let latency = |pointer: &'static str, peer: &str| {
        over(server("dhcp", "berth", &at(pointer)), server("dhcp", peer, &at(pointer)))
    };
    let limit = |step: &str, peer: &str| {
        over(server(step, "berth", &at("/limit")), server(step, peer, &at("/limit")))
    };
    let exchange6 = over(
        server("dhcp6", "berth", &at("/whole/mean")),
        server("dhcp6", "kea", &at("/whole/mean")),
    );
    let point = |leases: u64, figure: &str| {
        let points = found.pointer("/scale/points")?.as_array()?;
        let point =
            points.iter().find(|point| point["server"] == "berth" && point["leases"] == leases)?;
        point[figure].as_f64()
    };
    let dns = |name: &str, pointer: &'static str| {
        let servers = found.pointer("/dns/servers")?.as_array()?;
        let rounds = servers.iter().find(|server| server[0] == name)?[1].as_array()?;
        crate::stats::median(rounds.iter().filter_map(at(pointer))).map(|(middle, ..)| middle)
    };
    let path = |figure: &'static str| {
        let side = |name: &str| {
            let rounds = found.pointer(&format!("/path/{name}"))?.as_array()?;
            Some(rounds.iter().filter_map(at(figure)).collect::<Vec<_>>())
        };
        let (own, plain) = (side("berth")?, side("plain")?);
        crate::stats::median(own.iter().zip(&plain).map(|(own, plain)| own / plain))
            .map(|(middle, ..)| middle)
    };
    let crowd = |launchers: u64, figure: &str| {
        let crowds = found.pointer("/footprint/crowds")?.as_array()?;
        crowds.iter().find(|crowd| crowd["launchers"] == launchers)?[figure].as_f64()
    };
    let mib = |kib: Option<f64>| kib.map(|kib| kib / 1024.0);
    let agreement = || {
        let all = found.pointer("/dhcp-perfdhcp/agreement")?.as_array()?;
        all.iter().filter_map(at("/distance")).reduce(f64::min)
    };
    let cpu = crate::stats::median(
        found
            .pointer("/path/berth")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(at("/cpu_ms")),
    );
    use Wants::{AtLeast, AtMost};
    let rows: Vec<(&str, Option<f64>, &str, Wants)> = vec![
        ("DISCOVER to OFFER, mean, of Kea's", latency("/offer/mean", "kea"), "×", AtMost(0.6)),
        ("REQUEST to ACK, mean, of Kea's", latency("/ack/mean", "kea"), "×", AtMost(0.6)),
        ("DISCOVER to OFFER, p99, of Kea's", latency("/offer/p99", "kea"), "×", AtMost(0.6)),
        ("REQUEST to ACK, p99, of Kea's", latency("/ack/p99", "kea"), "×", AtMost(0.6)),
        ("DISCOVER to OFFER, mean, of the floor", latency("/offer/mean", "echo"), "×", AtMost(1.5)),
        ("REQUEST to ACK, mean, of the floor", latency("/ack/mean", "echo"), "×", AtMost(1.5)),
        ("highest rate that holds, of Kea's", limit("dhcp-limit", "kea"), "×", AtLeast(3.0)),
        (
            "highest rate that holds, of dnsmasq's",
            limit("dhcp-limit", "dnsmasq"),
            "×",
            AtLeast(50.0),
        ),
        ("an exchange of DHCPv6, mean, of Kea's", exchange6, "×", AtMost(0.6)),
        (
            "highest rate of DHCPv6 that holds, of Kea's",
            limit("dhcp6-limit", "kea"),
            "×",
            AtLeast(3.0),
        ),
        (
            "mean with 60,000 leases held, of that with 100",
            over(point(60_000, "mean_ms"), point(100, "mean_ms")),
            "×",
            AtMost(1.1),
        ),
        (
            "our mean of an exchange, off perfdhcp's (the closest server)",
            agreement().map(|share| share * 100.0),
            "%",
            AtMost(15.0),
        ),
        (
            "CPU for a remembered DNS answer, of dnsmasq's",
            over(dns("berth", "/cached_cpu_us"), dns("dnsmasq", "/cached_cpu_us")),
            "×",
            AtMost(0.5),
        ),
        (
            "CPU for a remembered DNS answer, of unbound's",
            over(dns("berth", "/cached_cpu_us"), dns("unbound", "/cached_cpu_us")),
            "×",
            AtMost(0.7),
        ),
        ("start to QEMU's exec", number("/startup/berth/median_ms"), "ms", AtMost(10.0)),
        ("the seed's tools, of that", number("/startup/ratio"), "×", AtLeast(10.0)),
        (
            "`nft -f`, of the commit of our table",
            over(
                number("/nft/commit/nft/done/median_ms"),
                number("/nft/commit/berth/done/median_ms"),
            ),
            "×",
            AtLeast(40.0),
        ),
        (
            "`nft list`, of our listing of 1,000 rules",
            over(number("/nft/listing/1/nft/median_ms"), number("/nft/listing/1/berth/median_ms")),
            "×",
            AtLeast(5.0),
        ),
        ("our table healed", number("/nft/heal/netlink/median_ms"), "ms", AtMost(1.0)),
        ("TCP to the guest, of plain routing", path("/ipv4/tcp_in"), "×", AtLeast(0.98)),
        ("TCP from the guest, of plain routing", path("/ipv4/tcp_out"), "×", AtLeast(0.98)),
        ("the same over IPv6, to the guest", path("/ipv6/tcp_in"), "×", AtLeast(0.97)),
        ("the same over IPv6, from the guest", path("/ipv6/tcp_out"), "×", AtLeast(0.97)),
        ("small datagrams over IPv6", path("/ipv6/small_in"), "×", AtLeast(0.95)),
        ("berth's CPU meanwhile", cpu.map(|(middle, ..)| middle), "ms", AtMost(10.0)),
        ("RSS of a launcher", mib(crowd(1, "rss_kib")), "MiB", AtMost(8.0)),
        ("wake-ups of a launcher a minute", crowd(1, "wake_ups_per_minute"), "", AtMost(6.0)),
        ("PSS of one more launcher, at 100", mib(crowd(100, "pss_kib")), "MiB", AtMost(6.0)),
        (
            "the binary",
            mib(number("/footprint/binary_bytes").map(|bytes| bytes / 1024.0)),
            "MiB",
            AtMost(10.0),
        ),
        (
            "lost by an honest client in the worst flood",
            number("/hostile/worst_loss").map(|share| share * 100.0),
            "%",
            AtMost(0.0),
        ),
        ("RSS in the worst flood", mib(number("/hostile/worst_rss_kib")), "MiB", AtMost(24.0)),
        (
            "our table healed in the worst flood",
            number("/hostile/worst_heal_ms"),
            "ms",
            AtMost(1000.0),
        ),
        (
            "SIGTERM to the end in the worst flood",
            number("/hostile/worst_sigterm_ms"),
            "ms",
            AtMost(10_000.0),
        ),
    ];
    let mut text = "\n## Goals\n\n| figure | measured | goal | |\n|---|---|---|---|\n".to_owned();
    for (figure, measured, unit, wants) in rows {
        let (goal, met) = match wants {
            AtMost(most) => (format!("≤ {most} {unit}"), measured.map(|measured| measured <= most)),
            AtLeast(least) => {
                (format!("≥ {least} {unit}"), measured.map(|measured| measured >= least))
            }
        };
        let measured =
            measured.map_or("not measured".to_owned(), |measured| format!("{measured:.2} {unit}"));
        let met = met.map_or("", |met| if met { "met" } else { "**missed**" });
        let _ =
            writeln!(text, "| {figure} | {} | {} | {met} |", measured.trim_end(), goal.trim_end());
    }
    text
}
