//! What is wrong here, and how it is mended: checks over config, facts, plan and the launcher that runs, folded into
//! findings by the names of [`crate::faults`]. Touches nothing: it may run before a start, beside a launcher, and after
//! one that failed.

mod last;
mod name_servers;
pub mod place;
mod pressure;

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::Serialize;

use crate::exit::{Code, Coded, error_chain};
use crate::faults::{self, Fault, Finding, Severity};
use crate::status::{Serving, Status};

pub use last::{Last, forget, keep, last};
pub use name_servers::ask as name_servers;
pub use place::state_directory;
pub use pressure::{cgroups, volume};

/// What was found, the worst first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `run`, `net` or `vm`: the launcher that answers; None where there is none.
    pub running: Option<String>,
    pub findings: Vec<Finding>,
}

impl Report {
    /// Each fault once, at its worst; of two as bad what was found first.
    pub fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            match self.findings.iter_mut().find(|known| known.id == finding.id) {
                Some(known) if known.severity < finding.severity => *known = finding,
                Some(_) => {}
                None => self.findings.push(finding),
            }
        }
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }

    /// What a start would end with, as a finding.
    pub fn failure(&mut self, error: &impl Coded) {
        let fault = error.fault().unwrap_or(&faults::CANNOT_START);
        let mut finding = fault.found(error_chain(error));
        (finding.exit_code, finding.severity) = (Some(error.code().number()), Severity::Error);
        self.add([finding]);
    }

    /// What the launcher that runs says of itself.
    pub fn heard(&mut self, status: &Status) {
        self.running = Some(status.verb.clone());
        self.add(status.findings.iter().cloned());
        if !status.ready {
            self.add([faults::NOT_READY.found(status.reasons.join("; "))]);
        }
        match &status.network {
            None if status.verb == "vm" => {
                self.add([
                    faults::NET_HALF_LOST.found("no `berth net` serves in this network namespace")
                ]);
            }
            Some(network) if network.serving == Serving::Failing => {
                let why = network.reason.as_deref().unwrap_or("one of its services");
                self.add([faults::SERVICE_FAILS.found(why)]);
            }
            _ => {}
        }
    }

    /// 0, 1 and 2: nothing but notes, warnings, errors.
    pub fn code(&self) -> Code {
        match self.findings.iter().map(|finding| finding.severity).max() {
            None | Some(Severity::Note) => Code::Success,
            Some(Severity::Warning) => Code::Warnings,
            Some(Severity::Error) => Code::Errors,
        }
    }

    /// For people; nothing where nothing was found.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { id, severity, what, evidence, remedy, exit_code } in &self.findings {
            let code = exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
            let severity = severity.as_str();
            let _ = writeln!(
                text,
                "{severity:<8} {id}: {what}{code}\n  seen   {evidence}\n  do     {remedy}"
            );
        }
        text
    }
}

/// All faults, one a line.
pub fn list() -> String {
    let width = faults::ALL.iter().map(|fault| fault.id.len()).max().unwrap_or(0);
    faults::ALL.iter().fold(String::new(), |mut text, Fault { id, severity, what, .. }| {
        let severity = severity.as_str();
        let _ = writeln!(text, "{id:<width$}  {severity:<7}  {what}");
        text
    })
}

/// All that is known of a fault beforehand. None: no fault has this name.
pub fn explain(id: &str) -> Option<String> {
    let Fault { id, severity, exit_code, what, cause, remedy } = faults::by_id(id)?;
    let (severity, ends) = (severity.as_str(), ends(*exit_code));
    Some(format!("{id} ({severity}): {what}\n\n{cause}\n\nWhat to do: {remedy}.\n{ends}\n"))
}

fn ends(exit_code: Option<u8>) -> String {
    match exit_code {
        Some(code) => format!("A start that it keeps from running ends with exit code {code}."),
        None => "It ends no launcher by itself.".to_owned(),
    }
}

/// docs/doctor.md.
pub fn page() -> String {
    let mut text = String::from(
        "# Faults, by name\n\n`berth doctor` looks for these before a start, beside a running launcher, and after one that \
         failed; it touches nothing. What it finds has one of the names below, what was seen, and what to do; `berth doctor \
         --explain NAME` prints an entry, `--list` the names, `--output json` findings for scripts. Exit code 0: nothing but \
         notes; 1: warnings; 2: errors. The start tells the same in its log, with the name in brackets, and in the \
         container's termination message.\n\nThis page is written by `berth doctor --page`, from the table that the program \
         goes by.\n\n| name | what | exit code |\n|---|---|---|\n",
    );
    for Fault { id, severity, exit_code, what, .. } in faults::ALL {
        let code = exit_code.map_or_else(|| severity.as_str().to_owned(), |code| code.to_string());
        let _ = writeln!(text, "| [`{id}`](#{id}) | {what} | {code} |");
    }
    for Fault { id, severity, exit_code, what, cause, remedy } in faults::ALL {
        let (severity, ends) = (severity.as_str(), ends(*exit_code));
        let _ = write!(
            text,
            "\n## {id}\n\nA {severity}: {what}. {cause} {ends}\n\n**What to do:** {remedy}.\n"
        );
    }
    text.replace("A error", "An error")
}

/// Names that are as much alike as to be meant.
pub fn alike(id: &str) -> BTreeSet<&'static str> {
    let words: Vec<&str> = id.split('-').filter(|word| word.len() > 2).collect();
    let is_alike = |fault: &&&Fault| words.iter().any(|word| fault.id.contains(word));
    faults::ALL.iter().filter(is_alike).map(|fault| fault.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == page(), "docs/doctor.md is not what `berth doctor --page` prints");
    }

    #[test]
    fn the_worst_comes_first_and_each_once() {
        let mut report = Report::default();
        assert_eq!((report.code(), report.text().as_str()), (Code::Success, ""));
        report.add([faults::NO_KILL.found("one"), faults::NO_KILL.found("again")]);
        assert_eq!(report.code(), Code::Warnings);
        report.add([faults::NO_QEMU.found("none")]);
        assert_eq!(report.code(), Code::Errors);
        let ids: Vec<&str> = report.findings.iter().map(|finding| &*finding.id).collect();
        assert_eq!(ids, ["no-qemu", "no-kill"]);
        assert!(report.text().contains("seen   one") && !report.text().contains("again"));
    }

    #[test]
    fn a_fault_is_explained_by_its_name() {
        for fault in faults::ALL {
            let text = explain(fault.id).unwrap();
            assert!(text.contains(fault.cause) && text.contains(fault.remedy));
            assert!(list().contains(fault.id));
        }
        assert_eq!(explain("tun"), None);
        assert_eq!(alike("tun"), ["tun-missing", "tun-wrong"].into());
    }
}
