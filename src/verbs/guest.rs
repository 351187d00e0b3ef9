//! `berth guest` and `berth suspend`.

use std::path::Path;

use berth::cli::Output;
use berth::cli::guest::{Guest, Whose};
use berth::config;
use berth::control::{self, Ask, Verb};
use berth::exit::{Code, Failure};
use serde_json::Value;

use super::{list, word};

/// Asks, and prints what was said.
pub async fn run(guest: &Guest) -> Result<Code, Failure> {
    let (verb, whose, for_secs) = match guest {
        Guest::Info(whose) => (Verb::Info, whose, None),
        Guest::Interfaces(whose) => (Verb::Interfaces, whose, None),
        Guest::Filesystems(whose) => (Verb::Filesystems, whose, None),
        Guest::Freeze { whose, secs } => (Verb::Freeze, whose, Some(*secs)),
        Guest::Thaw(whose) => (Verb::Thaw, whose, None),
    };
    let Whose { state_dir, output } = whose;
    let dir = state_dir.as_deref().unwrap_or(Path::new(config::STATE_DIR));
    let answer = control::ask(dir, &Ask { guest: verb, for_secs }).await?;
    super::print(&match output {
        Output::Json => format!("{answer:#}\n"),
        Output::Text => text(verb, &answer),
    })
}

/// Has the guest suspended.
pub async fn suspend(state_dir: Option<&Path>) -> Result<Code, Failure> {
    control::suspend(state_dir.unwrap_or(Path::new(config::STATE_DIR))).await?;
    super::print("the guest is suspended: the next start goes on\n")
}

fn text(verb: Verb, answer: &Value) -> String {
    let of = |path: &str| answer.pointer(path).map_or_else(|| "-".to_owned(), word);
    match verb {
        Verb::Info => format!(
            "agent    {}, version {}, {} commands\nsystem   {}, kernel {}, {}\nhost     {}\n",
            of("/state"),
            of("/agent/version"),
            answer.pointer("/agent/commands").map_or(0, |commands| list(commands).len()),
            of("/os/pretty_name"),
            of("/os/kernel_release"),
            of("/os/machine"),
            of("/host_name"),
        ),
        Verb::Interfaces => list(answer).iter().map(interface).collect(),
        Verb::Filesystems => list(answer).iter().map(file_system).collect(),
        Verb::Freeze => format!(
            "{} file systems are frozen, for {} s at most\n",
            of("/frozen"),
            of("/for_secs")
        ),
        Verb::Thaw => format!("{} file systems are thawed\n", of("/thawed")),
    }
}

fn interface(interface: &Value) -> String {
    let of = |key: &str| interface.get(key).map_or_else(|| "-".to_owned(), word);
    let mut line = format!("{} {}", of("name"), of("mac"));
    for address in interface.get("addresses").map(list).unwrap_or_default() {
        let part = |key: &str| address.get(key).map_or_else(|| "-".to_owned(), word);
        line.push_str(&format!(" {}/{}", part("address"), part("prefix")));
    }
    line.push('\n');
    line
}

fn file_system(system: &Value) -> String {
    let of = |key: &str| system.get(key).map_or_else(|| "-".to_owned(), word);
    format!(
        "{} {} {} of {} bytes\n",
        of("mountpoint"),
        of("type"),
        of("used_bytes"),
        of("total_bytes")
    )
}
