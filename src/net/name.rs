//! Names of hosts and domains as a person writes them: RFC 1035 §2.3.1 with RFC 1123 §2.1.
//!
//! `_` may be in them, as it is in names of services (RFC 2782) and of many machines. Names in other scripts are
//! refused with the form that DNS has for them (RFC 5890), since whoever asks asks for that one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;

/// RFC 1035 §2.3.4, without the length of the first label and the root.
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("an empty name: labels of letters and digits, as in printer.lan")]
    Empty,
    #[error("{0} is an address, not a name")]
    Address(String),
    #[error("DNS has this name as {0}: write it so")]
    Ascii(String),
    #[error("the label {0:?} is none: 1 to 63 letters, digits, '_' and inner '-'")]
    Label(String),
    #[error("{0} octets are too many for a name: at most 253")]
    TooLong(usize),
    #[error("a name does not end in a number: {0:?}")]
    Number(String),
    #[error("localhost is everybody's own: 127.0.0.1 (RFC 6761)")]
    Localhost,
}

/// In lower case, without a dot at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DomainName(String);

impl DomainName {
    /// The name in lower case, without the dot at its end; at most 253 octets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// RFC 1035 §3.1, uncompressed.
    pub(crate) fn labels(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        for label in self.0.split('.') {
            octets.push(u8::try_from(label.len()).unwrap_or(0));
            octets.extend(label.bytes());
        }
        octets.push(0);
        octets
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DomainName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.parse::<IpAddr>().is_ok() {
            return Err(NameError::Address(name.to_owned()));
        }
        if let Some(ascii) = ascii(name) {
            return Err(NameError::Ascii(ascii));
        }
        if let Some(label) = name.split('.').find(|label| !is_label(label)) {
            return Err(NameError::Label(label.chars().take(LONGEST_LABEL + 1).collect()));
        }
        if name.len() > LONGEST {
            return Err(NameError::TooLong(name.len()));
        }
        // RFC 1123 §2.1: an address that was cut, rather.
        if name
            .rsplit_once('.')
            .is_some_and(|(_, top)| top.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(NameError::Number(name.to_owned()));
        }
        let name = name.to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            return Err(NameError::Localhost);
        }
        Ok(Self(name))
    }
}

fn is_label(label: &str) -> bool {
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// What DNS has for a name in another script, when there is something.
fn ascii(name: &str) -> Option<String> {
    let url::Host::Domain(ascii) = url::Host::parse(name).ok().filter(|_| !name.is_ascii())? else {
        return None;
    };
    ascii.split('.').all(is_label).then_some(ascii)
}

/// A host name of one label (RFC 1123 §2.1), as a client may have sent it: with NULs at the end, or with a domain.
/// `_` is none of it, but telephones and microcontrollers have it, and DNS takes it (RFC 2181 §11); not at the
/// beginning, where names of services have it (RFC 8552).
pub(crate) fn host_label(name: &[u8]) -> Option<&str> {
    let label = name.split(|&byte| byte == b'.' || byte == 0).next()?;
    let right = (1..=63).contains(&label.len())
        && label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
        && !label.starts_with(b"-")
        && !label.starts_with(b"_")
        && !label.ends_with(b"-");
    std::str::from_utf8(label).ok().filter(|_| right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<String, String> {
        text.parse::<DomainName>().map(|name| name.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_host_label_is_what_dns_can_hold() {
        assert_eq!(host_label(b"web\0"), Some("web"));
        assert_eq!(host_label(b"web.example.org"), Some("web"));
        assert_eq!(host_label(b"ESP_0a1b2c"), Some("ESP_0a1b2c"));
        for bad in [
            &b""[..],
            b"-web",
            b"_web",
            b"_ldap._tcp",
            b"web-",
            b"we b",
            b"\0web",
            &[b'a'; 64],
            b"w\xffb",
        ] {
            assert_eq!(host_label(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn names_are_labels_in_lower_case_without_the_last_dot() {
        let (longest, label) = (
            ["l".repeat(61), "l".repeat(63), "l".repeat(63), "l".repeat(63)].join("."),
            "l".repeat(63),
        );
        for (text, wanted) in [
            ("printer.lan", "printer.lan"),
            ("Printer.LAN.", "printer.lan"),
            ("8", "8"),
            ("4you.example", "4you.example"),
            ("_sip._tcp.example.org", "_sip._tcp.example.org"),
            ("my_host", "my_host"),
            ("xn--bcher-kva.lan", "xn--bcher-kva.lan"),
            (&label, &label),
            (&longest, &longest),
        ] {
            assert_eq!(name(text).as_deref(), Ok(wanted), "{text}");
        }
        assert_eq!(longest.len(), LONGEST);
    }

    #[test]
    fn what_is_no_name_is_told_in_words() {
        let long = format!(
            "{}.{}",
            "l".repeat(62),
            ["l".repeat(63), "l".repeat(63), "l".repeat(63)].join(".")
        );
        for (text, words) in [
            ("", "empty"),
            (".", "empty"),
            ("lan,home", "label \"lan,home\""),
            (".lan", "label \"\""),
            ("a..b", "label \"\""),
            ("lan..", "label \"\""),
            ("my lan", "label \"my lan\""),
            ("lan\n", r#"label "lan\n""#),
            ("a/b", "label \"a/b\""),
            ("*.lan", "label \"*\""),
            ("-a.lan", "label \"-a\""),
            ("a-.lan", "label \"a-\""),
            (&"l".repeat(70), "1 to 63"),
            (&long, "254 octets"),
            ("10.0.0.1", "is an address"),
            ("fd00::1", "is an address"),
            ("10.0.0", "number"),
            ("bücher.lan", "xn--bcher-kva.lan"),
            ("Ж.example", "xn--f1a.example"),
            ("a\u{200b}b", "as ab"),
            ("localhost", "127.0.0.1"),
            ("x.LocalHost.", "127.0.0.1"),
        ] {
            let error = name(text).expect_err(text);
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_a_name_stays_one(text in ".{0,80}|[a-zA-Z0-9_.-]{0,300}") {
            if let Ok(read) = name(&text) {
                proptest::prop_assert_eq!(name(&read), Ok(read.clone()));
                proptest::prop_assert!(read.len() <= LONGEST && read.split('.').all(is_label));
            }
        }
    }
}
