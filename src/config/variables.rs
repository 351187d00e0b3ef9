//! Variables that look like ours and that nobody reads: mistyped, most likely. And those that QEMU is given.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;

use clap::{Args, Command};

use super::serve::ServeOptions;
use super::{Log, Options, SelfTest};

/// What ours begin with, beside those that the seed had.
const PREFIX: &str = "BERTH_";
/// Names as much alike as this are taken for slips of the finger.
const ALIKE: usize = 2;

/// A variable that is not known, and the one that was perhaps meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub name: String,
    pub meant: Option<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not known here and does nothing", self.name.escape_debug())?;
        self.meant.as_ref().map_or(Ok(()), |meant| write!(f, ": did you mean {meant}?"))
    }
}

fn of<T: Args>() -> Vec<String> {
    let command = T::augment_args(Command::default());
    command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned())).collect()
}

/// Variables by their names of today and of before, which go on being read.
const RENAMED: [(&str, &str); 2] = [
    ("BERTH_SERVE_MIN_LEASE_TIME", "BERTH_SERVE_LEAST_LEASE_TIME"),
    ("BERTH_SERVE_MAX_LEASE_TIME", "BERTH_SERVE_MOST_LEASE_TIME"),
];

/// What a variable was called before.
pub(super) fn former(variable: &str) -> Option<&'static str> {
    RENAMED.iter().find_map(|(now, before)| (*now == variable).then_some(*before))
}

/// Names of all variables that flags have.
pub fn variables() -> BTreeSet<String> {
    [of::<Options>(), of::<Log>(), of::<SelfTest>(), of::<ServeOptions>()]
        .concat()
        .into_iter()
        .collect()
}

/// Those of the process.
#[expect(clippy::disallowed_methods, reason = "the one room that reads the environment")]
pub fn unknown_here() -> Vec<Unknown> {
    let names: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    unknown(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Variables that QEMU has of our environment: where programs, libraries and modules are, languages, the time zone, memory's
/// settings. A guest that broke out of QEMU finds nothing else in its own.
const QEMUS: [&str; 12] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "QEMU_MODULE_DIR",
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "TZ",
    "TMPDIR",
];

/// QEMU's whole environment.
#[expect(clippy::disallowed_methods, reason = "the one room that reads the environment")]
pub fn of_qemu() -> Vec<(&'static str, OsString)> {
    QEMUS.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect()
}

/// Which of these names look like ours and are not. Those that Kubernetes sets for a Service named `berth…` do not.
pub fn unknown(names: &[&str]) -> Vec<Unknown> {
    let services: Vec<&str> =
        names.iter().filter_map(|name| name.strip_suffix("_SERVICE_HOST")).collect();
    let of_service = |name: &str| {
        services.iter().any(|service| name.strip_prefix(service).is_some_and(is_of_a_service))
    };
    let looks_like_ours = |name: &&&str| name.starts_with(PREFIX) && !of_service(name);
    let mut left: Vec<&str> = names.iter().filter(looks_like_ours).copied().collect();
    // Before QEMU's start, and nearly always none is left by then.
    for known in [of::<Log>, of::<Options>] {
        if !left.is_empty() {
            let known = known();
            left.retain(|name| !known.iter().any(|known| known == name));
        }
    }
    if left.is_empty() {
        return Vec::new();
    }
    let known = variables();
    left.retain(|name| !known.contains(*name) && RENAMED.iter().all(|(_, before)| before != name));
    left.into_iter()
        .map(|name| Unknown { name: name.to_owned(), meant: meant(name, &known) })
        .collect()
}

/// What is behind a Service's name in its variables: `_SERVICE_HOST`, `_SERVICE_PORT[_NAME]`, and Docker's
/// `_PORT[_80_TCP[_PROTO|_PORT|_ADDR]]`.
fn is_of_a_service(rest: &str) -> bool {
    if rest == "_SERVICE_HOST" || rest == "_SERVICE_PORT" || rest == "_PORT" {
        return true;
    }
    if let Some(name) = rest.strip_prefix("_SERVICE_PORT_") {
        return !name.is_empty();
    }
    let Some((number, rest)) = rest.strip_prefix("_PORT_").and_then(|rest| rest.split_once('_'))
    else {
        return false;
    };
    let (protocol, rest) = rest.split_once('_').unwrap_or((rest, ""));
    number.parse::<u16>().is_ok()
        && ["TCP", "UDP", "SCTP"].contains(&protocol)
        && ["", "PROTO", "PORT", "ADDR"].contains(&rest)
}

/// The nearest of those that are known: by letters, or with another prefix.
fn meant(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let prefixed = [rest.to_owned(), format!("BERTH_SERVE_{rest}")];
    if let Some(same) = prefixed.into_iter().find(|name| known.contains(name)) {
        return Some(same);
    }
    let letters = |name: &str| name.to_ascii_uppercase().replace(['_', '-'], "");
    let distance = |known: &&String| {
        let apart = strsim::damerau_levenshtein(name, known);
        if letters(name) == letters(known) { 0 } else { apart }
    };
    known.iter().min_by_key(distance).filter(|known| distance(known) <= ALIKE).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str]) -> Vec<String> {
        unknown(names).iter().map(Unknown::to_string).collect()
    }

    #[test]
    fn mistyped_variables_are_named_with_what_was_meant() {
        for (name, meant) in [
            ("BERTH_SERVE_LEASETIME", "BERTH_SERVE_LEASE_TIME"),
            ("BERTH_SERVE_DOMIAN", "BERTH_SERVE_DOMAIN"),
            ("BERTH_DISKSIZE", "BERTH_DISK_SIZE"),
            ("BERTH_GRACE", "BERTH_GRACE_S"),
            ("BERTH_NO_VNC", "NO_VNC"),
            ("BERTH_IMG_SOURCE", "IMG_SOURCE"),
            ("BERTH_LEASE_FILE", "BERTH_SERVE_LEASE_FILE"),
            ("BERTH_RESERVED_PORT", "BERTH_RESERVED_PORTS"),
        ] {
            assert_eq!(
                said(&[name]),
                [format!("{name} is not known here and does nothing: did you mean {meant}?")]
            );
        }
        assert_eq!(
            said(&["BERTH_FROBNICATE"]),
            ["BERTH_FROBNICATE is not known here and does nothing"]
        );
        let all = variables();
        assert!(
            all.len() > 70 && said(&all.iter().map(String::as_str).collect::<Vec<_>>()).is_empty(),
            "{all:?}"
        );
        assert!(said(&["PATH", "HOME", "berth_name", "XBERTH_NAME"]).is_empty());
    }

    #[test]
    fn variables_of_services_are_kubernetes_own() {
        let of = |service: &str| {
            [
                "SERVICE_HOST",
                "SERVICE_PORT",
                "SERVICE_PORT_SSH",
                "PORT",
                "PORT_22_TCP",
                "PORT_22_TCP_PROTO",
                "PORT_22_TCP_PORT",
                "PORT_53_UDP_ADDR",
            ]
            .map(|rest| format!("{service}_{rest}"))
        };
        for service in ["BERTH", "BERTH_WEB", "BERTH_SERVE", "BERTH_SERVICE_HOST"] {
            let names = of(service);
            assert!(said(&names.each_ref().map(String::as_str)).is_empty(), "{service}");
        }
        // Without the Service they are somebody's words.
        assert_eq!(said(&["BERTH_SERVE_PORT"]).len(), 1);
        assert_eq!(
            said(&["BERTH_WEB_SERVICE_HOST", "BERTH_WEB_PROT", "BERTH_WEB_PORT_22_ICMP"]).len(),
            2
        );
    }
}
