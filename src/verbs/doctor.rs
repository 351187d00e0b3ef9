//! `berth doctor`: looks at everything, touches nothing.

use std::io::IsTerminal;
use std::path::Path;

use berth::cli::Output;
use berth::cli::doctor::{Doctor, DoctorHalf};
use berth::config::{Ambient, Config};
use berth::doctor::{self, Place, Report};
use berth::exit::{Code, Failure};
use berth::faults;
use berth::plan::{Attached, NetPlan, Plan};
use berth::status::{self, Status};
use berth::sys::link::Links;
use berth::sys::probe;

use super::print;

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
    let mut report = Report::default();
    let config = match wanted.options.parse(&Ambient::read()) {
        Ok(config) => Some(config),
        Err(errors) => {
            report.add([faults::WRONG_WORDS.found(errors)]);
            None
        }
    };
    let state_dir = wanted.options.state_dir();
    let running = ask(&state_dir, &mut report).await;
    if let Some(status) = &running {
        report.heard(status);
    }
    if let Some(last) = doctor::last(&state_dir) {
        report.add([last.finding(running.is_some())]);
    }
    if let Some(config) = &config {
        let half = match running.as_ref().map(|status| status.verb.as_str()) {
            Some("net") => DoctorHalf::Net,
            Some("vm") => DoctorHalf::Vm,
            Some(_) => DoctorHalf::Run,
            None => wanted.half,
        };
        plan(config, half, running.is_none(), &mut report).await;
    }
    report.add(doctor::cgroups());
    report
}

/// The launcher that is here, or what is in its way.
async fn ask(state_dir: &Path, report: &mut Report) -> Option<Status> {
    match status::ask(state_dir).await {
        Ok(status) => Some(status),
        Err(error) => {
            if error.is_stuck() {
                report.add([faults::NOT_ANSWERING.found(berth::exit::error_chain(&error))]);
            }
            report.add(doctor::state_directory(state_dir));
            None
        }
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
        report.add(Place::machine(&plan));
    }
    report.add(plan.disk.lock.parent().and_then(doctor::volume));
    if half == DoctorHalf::Run {
        network(&plan.net, facts.net.uplink.mtu, idle, report).await;
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
        report.add(Place::network(plan));
    }
    if plan.guest.serve {
        report.add(doctor::name_servers(&plan.guest, mtu).await);
    }
}
