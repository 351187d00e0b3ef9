//! What a guest has to show until it is ready.

use std::fmt;

use serde::{Serialize, Serializer};

use super::parse::Wrong;

/// Longest pattern, in octets.
const MAX_PATTERN: usize = 1024;

/// What makes a launcher ready, beside a guest that runs and a network that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// Nothing more.
    Running,
    /// The guest has taken its address by DHCP, in this run of QEMU.
    Dhcp,
    /// The guest takes a connection at this TCP port.
    Tcp(u16),
    /// The guest has written what this regular expression matches.
    Serial(String),
    /// The guest's agent answers.
    Agent,
}

impl Ready {
    /// The words of a user. The error says what is allowed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (word, rest) =
            text.split_once(':').map_or((text, None), |(word, rest)| (word, Some(rest)));
        match (word.to_ascii_lowercase().as_str(), rest) {
            ("running", None) => Ok(Self::Running),
            ("dhcp", None) => Ok(Self::Dhcp),
            ("agent", None) => Ok(Self::Agent),
            ("tcp", Some(port)) => match port.parse::<u16>() {
                Ok(port) if port > 0 && port.to_string().len() == rest.map_or(0, str::len) => {
                    Ok(Self::Tcp(port))
                }
                _ => Err("expected a port from 1 to 65535 behind tcp:".to_owned()),
            },
            ("serial", Some(pattern)) => Self::serial(pattern),
            _ => Err("expected running, dhcp, agent, tcp:PORT or serial:REGEX".to_owned()),
        }
    }

    fn serial(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_PATTERN {
            return Err(format!("expected at most {MAX_PATTERN} octets behind serial:"));
        }
        match regex_lite::Regex::new(pattern) {
            Ok(regex) if regex.is_match("") => Err(
                "this regular expression matches nothing at all, too: it would be ready at once"
                    .to_owned(),
            ),
            Ok(_) => Ok(Self::Serial(pattern.to_owned())),
            Err(error) => Err(format!("expected a regular expression behind serial:: {error}")),
        }
    }
}

impl Wrong {
    /// What was said, or what goes with DHCP or without it.
    pub(super) fn ready(&mut self, said: Option<&str>, dhcp: bool) -> Ready {
        let default = if dhcp { Ready::Dhcp } else { Ready::Running };
        let Some(text) = said else { return default };
        match Ready::parse(text) {
            Ok(Ready::Dhcp) if !dhcp => {
                let reason = "with NO_DHCP nobody sees the guest take an address: expected running, agent, tcp:PORT or serial:REGEX";
                self.refuse("BERTH_READY", text, reason.to_owned());
                default
            }
            Ok(ready) => ready,
            Err(reason) => {
                self.refuse("BERTH_READY", text, reason);
                default
            }
        }
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Dhcp => f.write_str("dhcp"),
            Self::Agent => f.write_str("agent"),
            Self::Tcp(port) => write!(f, "tcp:{port}"),
            Self::Serial(pattern) => write!(f, "serial:{pattern}"),
        }
    }
}

impl Serialize for Ready {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_words_a_port_or_a_pattern() {
        for (text, wanted) in [
            ("running", Ready::Running),
            ("DHCP", Ready::Dhcp),
            ("agent", Ready::Agent),
            ("tcp:22", Ready::Tcp(22)),
            ("serial:login: $", Ready::Serial("login: $".to_owned())),
        ] {
            assert_eq!(Ready::parse(text), Ok(wanted), "{text}");
        }
        assert_eq!(Ready::parse("serial:a|b").unwrap().to_string(), "serial:a|b");
        for text in [
            "booted",
            "agent:",
            "tcp",
            "tcp:",
            "tcp:0",
            "tcp:65536",
            "tcp:022",
            "tcp:+22",
            "dhcp:4",
            "serial",
            "serial:",
            "serial:(",
            "serial:x*",
        ] {
            assert!(Ready::parse(text).is_err(), "{text}");
        }
    }
}
