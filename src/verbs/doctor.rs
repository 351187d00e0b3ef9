//! `berth doctor`: looks at everything, touches nothing.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use berth::cli::Output;
use berth::cli::doctor::{Doctor, DoctorHalf};
use berth::config::{self, Ambient, Config, Errors};
use berth::doctor::{self, Report, place};
use berth::exit::{Code, Failure, error_chain};
use berth::faults;
use berth::plan::disk::Root;
use berth::plan::{Attached, NetPlan, Plan};
use berth::status::{self, Status};
use berth::sys::link::Links;
use berth::sys::probe;

use super::{now_ms, print};

/// A launcher that is busy with something else for so long is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

pub async fn run(wanted: &Doctor) -> Result<Code, Failure> {
    if wanted.list {
        return print(&doctor::list());
    }
    if wanted.page {
        return print(&doctor::page());
    }
    if let Some(id) = &wanted.explain {
        return print(&doctor::explain(id).ok_or_else(|| unknown(id))?);
    }
    let report = look(wanted).await;
    let text = match wanted.output {
        Output::Text => report.text(),
        Output::Json => {
            let text = serde_json::to_string_pretty(&report)
                .map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
            text + "\n"
        }
    };
    if text.is_empty() && std::io::stdout().is_terminal() {
        eprintln!("berth doctor: nothing is wrong that it knows of");
    }
    print(&text)?;
    Ok(report.code())
}

fn unknown(id: &str) -> Failure {
    let alike: Vec<&str> = doctor::alike(id).into_iter().collect();
    let meant = if alike.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", alike.join(", "))
    };
    Failure::new(Code::Usage, format!("no fault is called {id:?}: --list has their names{meant}"))
}

async fn look(wanted: &Doctor) -> Report {
    let config = wanted.options.parse(&Ambient::read());
    let state_dir = wanted.options.state_dir();
    let mut there = ask(&state_dir).await;
    loop {
        let report = once(wanted, &config, &there, &state_dir).await;
        // A launcher that began meanwhile has ports and locks that are no fault.
        if matches!(there, There::Nobody)
            && report.findings.iter().any(|finding| is_held(&finding.id))
        {
            there = ask(&state_dir).await;
            if !matches!(there, There::Nobody) {
                continue;
            }
        }
        return report;
    }
}

fn is_held(id: &str) -> bool {
    [faults::DISK_LOCKED.id, faults::VNC_TAKEN.id, faults::SERVE_TAKEN.id].contains(&id)
}

async fn once(
    wanted: &Doctor,
    config: &Result<Config, Errors>,
    there: &There,
    state_dir: &Path,
) -> Report {
    let mut report = Report::default();
    let unknown = config::unknown_here().into_iter().map(|unknown| unknown.to_string());
    let unknown: Vec<String> = unknown.collect();
    if !unknown.is_empty() {
        report.add([faults::UNKNOWN_VARIABLE.found(unknown.join("; "))]);
    }
    let half = match there {
        There::Runs(status) => {
            report.heard(status);
            match status.verb.as_str() {
                "net" => DoctorHalf::Net,
                "vm" => DoctorHalf::Vm,
                _ => DoctorHalf::Run,
            }
        }
        There::Silent(why) => {
            report.add([faults::NOT_ANSWERING.found(why)]);
            report.add(doctor::state_directory(state_dir));
            wanted.half
        }
        There::Nobody => {
            report.add(doctor::state_directory(state_dir));
            wanted.half
        }
    };
    let idle = matches!(there, There::Nobody);
    match config {
        Ok(config) => plan(config, half, idle, &mut report).await,
        Err(errors) => report.add([faults::WRONG_WORDS.found(errors)]),
    }
    report.add(doctor::cgroups());
    if let Some(last) = doctor::last(state_dir) {
        report.add([last.finding(!idle, now_ms())]);
    }
    report
}

/// The launcher with this state directory.
enum There {
    Runs(Box<Status>),
    /// Somebody is, and why there is no answer.
    Silent(String),
    Nobody,
}

async fn ask(state_dir: &Path) -> There {
    match tokio::time::timeout(ANSWER_WITHIN, status::ask(state_dir)).await {
        Ok(Ok(status)) => There::Runs(Box::new(status)),
        Ok(Err(error)) if error.is_absent() => There::Nobody,
        Ok(Err(error)) => There::Silent(error_chain(&error)),
        Err(_) => There::Silent(format!(
            "{}: no answer within {} s",
            state_dir.display(),
            ANSWER_WITHIN.as_secs()
        )),
    }
}

/// What would be planned, and the place it would be in. `idle`: nobody runs here, whose ports and locks they would be.
async fn plan(config: &Config, half: DoctorHalf, idle: bool, report: &mut Report) {
    let links = match Links::open() {
        Ok(links) => links,
        Err(error) => return report.failure(&error),
    };
    // In a container without QEMU and disks that is all.
    if half == DoctorHalf::Net {
        match net_plan(config, &links).await {
            Ok((plan, mtu)) => network(&plan, mtu, idle, report).await,
            Err(found) => report.add([found]),
        }
        return;
    }
    let facts = match probe::facts(config, &links).await {
        Ok(facts) => facts,
        Err(error) => {
            report.failure(&error);
            // What the network half says is no less true.
            if let Ok((plan, mtu)) = net_plan(config, &links).await {
                network(&plan, mtu, idle && half == DoctorHalf::Run, report).await;
            }
            return;
        }
    };
    let plan = match Plan::new(config, &facts) {
        Ok(plan) => plan,
        Err(error) => {
            report.failure(&error);
            if let Ok(plan) = NetPlan::new(config, &facts.net, Attached::Here) {
                let mtu = facts.net.uplink.mtu;
                network(&plan, mtu, idle && half == DoctorHalf::Run, report).await;
            }
            return;
        }
    };
    report.add(plan.findings().cloned());
    if idle {
        report.add(place::machine(&plan));
    }
    if let Root::Overlay { path, .. } = &plan.disk.root {
        report.add(path.parent().and_then(doctor::volume));
    }
    if half == DoctorHalf::Run {
        network(&plan.net, facts.net.uplink.mtu, idle, report).await;
    } else if idle {
        let tap = &plan.net.link.tap.name;
        if let Ok(None) = links.statistics(tap).await {
            let mut finding = faults::NET_HALF_LOST.found(format_args!("there is no {tap} here"));
            // As the start has it that waits for it.
            finding.exit_code = Some(Code::Network.number());
            report.add([finding]);
        }
    }
}

async fn net_plan(config: &Config, links: &Links) -> Result<(NetPlan, u32), faults::Finding> {
    let mut report = Report::default();
    match probe::settled_net_facts(config, links).await {
        Ok(facts) => match NetPlan::new(config, &facts, Attached::Elsewhere) {
            Ok(plan) => return Ok((plan, facts.uplink.mtu)),
            Err(error) => report.failure(&error),
        },
        Err(error) => report.failure(&error),
    }
    Err(report.findings.pop().unwrap_or_else(|| faults::CANNOT_START.found("the network")))
}

async fn network(plan: &NetPlan, mtu: u32, idle: bool, report: &mut Report) {
    report.add(plan.findings.iter().cloned());
    if idle {
        report.add(place::network(plan));
    }
    if plan.guest.serve {
        report.add(doctor::name_servers(&plan.guest, mtu).await);
    }
}
