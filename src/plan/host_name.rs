//! The guest's host name as a guest can have it.
//!
//! RFC 952 with RFC 1123 §2.1: labels of 1 to 63 letters, digits and inner `-`. Linux keeps 64 octets (`uname(2)`), and
//! a guest that is told more keeps none of it.

use crate::config::Config;

const LONGEST: usize = 64;
const LONGEST_LABEL: usize = 63;

/// The nearest name that is one: a dot at the end is dropped, other characters become `-`, too much is cut.
pub(super) fn usable(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let mut usable = String::new();
    for label in name.split('.') {
        let label: String = label.chars().map(letter).collect();
        let label: String = label.trim_matches('-').chars().take(LONGEST_LABEL).collect();
        let label = label.trim_end_matches('-');
        let dot = usize::from(!usable.is_empty());
        if usable.len() + dot + label.len() > LONGEST {
            break;
        }
        if !label.is_empty() {
            usable.push_str(if dot == 1 { "." } else { "" });
            usable.push_str(label);
        }
    }
    if usable.is_empty() { "vm".to_owned() } else { usable }
}

/// What DHCP says, which is what the config drive says (`named`) when it says anything; and a word when that is another name
/// than was asked for.
pub(super) fn told(config: &Config, named: Option<String>) -> (String, Option<String>) {
    let (name, place) = match named {
        Some(name) => (name, config.paths.metadata.display().to_string()),
        None => (config.hostname.clone(), "HOSTNAME".to_owned()),
    };
    let usable = usable(&name);
    let note = (usable != name).then(|| {
        format!(
            "the host name {name:?} of {place} is not one: labels of 1 to {LONGEST_LABEL} letters, digits and inner '-', \
             at most {LONGEST} in all: the guest is told {usable:?}"
        )
    });
    (usable, note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Ambient, Options};
    use crate::plan::disk;

    fn is_host_name(name: &str) -> bool {
        let label = |label: &str| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        name.len() <= LONGEST && name.split('.').all(label)
    }

    #[test]
    fn names_that_are_none_become_the_nearest_that_is() {
        let (l, label) = ("l".repeat(70), "l".repeat(63));
        for (name, wanted) in [
            ("vm.example.com", "vm.example.com"),
            ("MyVM", "MyVM"),
            ("0", "0"),
            ("vm.", "vm"),
            ("-bad", "bad"),
            ("my_vm", "my-vm"),
            ("a..b", "a.b"),
            ("_._", "vm"),
            (&l, &label),
            (&format!("{}.x", &l[..60]), &format!("{}.x", &l[..60])),
            (&format!("web.{}.x", &l[..61]), "web"),
        ] {
            assert_eq!(usable(name), wanted, "{name}");
        }
    }

    fn told_of(hostname: &str, format: &str, metadata: Option<&str>) -> (String, bool) {
        let options = Options {
            hostname: Some(hostname.into()),
            seed_format: Some(format.into()),
            ..Options::default()
        };
        let config = options.parse(&Ambient::default()).unwrap();
        let named = metadata
            .and_then(|metadata| disk::host_name(config.guest.seed_format, metadata.as_bytes()));
        let (name, note) = told(&config, named);
        (name, note.is_some())
    }

    #[test]
    fn dhcp_says_what_the_drive_says() {
        for (format, metadata, wanted) in [
            ("configdrive", None, "web"),
            ("configdrive", Some("{\"uuid\": \"u\"}"), "web"),
            ("configdrive", Some("{\"uuid\": \"u\", \"hostname\": \"given\"}"), "given"),
            ("configdrive", Some("local-hostname: local\n"), "local"),
            ("configdrive", Some("local-hostname: local\nhostname: given\n"), "given"),
            ("nocloud", Some("local-hostname: local\nhostname: given\n"), "local"),
            ("nocloud", Some("hostname: given\n"), "given"),
            ("nocloud", Some("hostname: 5\n"), "5"),
            ("nocloud", Some("hostname: [no name]\n"), "web"),
            ("nocloud", Some("- no map"), "web"),
        ] {
            assert_eq!(
                told_of("web", format, metadata),
                (wanted.to_owned(), false),
                "{format} {metadata:?}"
            );
        }
        assert_eq!(told_of("my_vm", "nocloud", None), ("my-vm".to_owned(), true));
        assert_eq!(told_of("web", "nocloud", Some("hostname: a_b")), ("a-b".to_owned(), true));
    }

    proptest::proptest! {
        #[test]
        fn every_name_becomes_one_and_good_ones_stay(name in "([a-cA-C0-9_.é -]|a{20}){0,12}") {
            let usable = usable(&name);
            assert!(is_host_name(&usable), "{name:?}: {usable:?}");
            assert!(!is_host_name(&name) || usable == name, "{name:?}: {usable:?}");
        }
    }
}
