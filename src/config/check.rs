//! Variables alone, for whoever writes them elsewhere: what a start would refuse is told before there is one.

use std::ffi::OsString;

use clap::{Parser, ValueEnum};

use super::invalid::Invalid;
use super::options::{Log, LogFormat, Options};
use super::parse::Ambient;
use super::reader;

#[derive(Debug, Parser)]
struct Alone {
    #[command(flatten)]
    options: Options,
}

/// Whether a start with this variable and no other would refuse it. One that is not known here may have any value.
pub fn check(variable: &str, value: &str) -> Result<(), Invalid> {
    let wrong =
        check_all(&[(variable, value)]).into_iter().find(|invalid| invalid.variable == variable);
    wrong.map_or(Ok(()), Err)
}

/// What a start with these variables would refuse; of a variable that is there twice the last counts, as it does in a
/// container.
pub fn check_all(variables: &[(&str, &str)]) -> Vec<Invalid> {
    let said = |name: &str| {
        variables.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    };
    let environment = |name: &str| said(name).map(OsString::from);
    let mut wrong = match reader::parse::<Alone>(&[OsString::from("berth")], &environment) {
        Ok(Alone { options }) => {
            options.parse(&Ambient::default()).err().map_or(Vec::new(), |errors| errors.0)
        }
        // Each is text until here.
        Err(_) => Vec::new(),
    };
    let is_said = |name: &str| said(name).map(str::trim).filter(|text| !text.is_empty());
    if let Some(filter) = is_said("BERTH_LOG") {
        let log = Log { filter: Some(filter.to_owned()), format: None };
        wrong.extend(log.targets().err());
    }
    if let Some(format) =
        is_said("BERTH_LOG_FORMAT").filter(|format| LogFormat::from_str(format, true).is_err())
    {
        let (value, reason) = (format.to_owned(), "expected text or json".to_owned());
        wrong.push(Invalid { variable: "BERTH_LOG_FORMAT", value, reason });
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    /// A value that is taken, and one that is not, where there is one.
    const ALL: [(&str, &str, Option<&str>); 60] = [
        ("BERTH_NAME", "web-0", Some("../x")),
        ("HOSTNAME", "web.example", Some("../x")),
        ("IMG_VCPU", "255", Some("256")),
        ("IMG_RAM_MB", "16", Some("15")),
        ("IMG_SOURCE", "http://h/x", Some("htp://x/y")),
        ("IMG_TARGET", "x.qcow2", None),
        (
            "IMG_SHA256",
            "sha256:abababababababababababababababababababababababababababababababab",
            Some("sha1:00"),
        ),
        ("IMG_MAX_SIZE", "20G", Some("many")),
        ("BERTH_DISK_SIZE", "5Gi", Some("1.5Gi")),
        ("BERTH_SEED_FORMAT", "NoCloud", Some("iso")),
        ("BERTH_SEED_AS", "cdrom", Some("floppy")),
        ("VM_IP", "192.168.254.2", Some("192.168.254.300")),
        ("VM_GW", "192.168.254.1", Some("10.0.0.1")),
        ("BERTH_VM_PREFIX", "24", Some("31")),
        ("BERTH_UPLINK", "eth1", Some("a/b")),
        ("BERTH_BRIDGE", "br1", Some("sixteen-letters-")),
        ("BERTH_TAP", "tap1", Some("a b")),
        ("BERTH_MTU", "1400", Some("68")),
        ("BERTH_MAC", "52:54:00:12:34:56", Some("01:00:5e:00:00:01")),
        ("BERTH_RESERVED_PORTS", "22/tcp, 53/udp", Some("22/icmp")),
        ("BERTH_GATEWAY_PORTS", "15020/tcp, 9/sctp", Some("15020/icmp")),
        ("BERTH_METADATA_ADDRESS", "DROP", Some("reject")),
        ("NO_DHCP", "false", None),
        ("BERTH_DNS", "pod", Some("8.8.8.8")),
        ("BERTH_IPV4", "own", Some("off")),
        ("BERTH_IPV6", "own", Some("on")),
        ("BERTH_EXTRA_RULES", "/rules.json", None),
        ("BERTH_NFT_OWNER", "Yes", Some("maybe")),
        ("BERTH_QEMU", "qemu-kvm", None),
        ("BERTH_ACCEL", "tcg", Some("xen")),
        ("BERTH_CPU", "host", None),
        ("LAUNCHER", "nice -n 5", Some("a 'b")),
        ("KVM_BLK_OPTS", "-drive file=$KVM_IMAGE", Some("-x $(reboot)")),
        ("KVM_RAW_BLK_OPTS", "-drive file=$KVM_IMAGE", Some("-x $SECRET")),
        ("KVM_NET_OPTS", "-nic none", Some("-x `reboot`")),
        ("NO_VNC", "1", None),
        ("BERTH_VNC", "0", Some("localhost:1")),
        ("BERTH_VNC_PASSWORD_FILE", "/vnc/password", None),
        ("BERTH_QEMU_UID", "0", Some("nobody")),
        ("BERTH_CONFINE", "off", Some("perhaps")),
        ("BERTH_ON_POWEROFF", "restart", Some("explode")),
        ("BERTH_ON_REBOOT", "exit", Some("explode")),
        ("BERTH_ON_PANIC", "pause", Some("explode")),
        ("BERTH_ON_STOP", "suspend", Some("sleep")),
        ("BERTH_RESUME", "require", Some("always")),
        ("BERTH_ON_NET_LOST", "exit", Some("restart")),
        ("BERTH_READY", "agent", Some("booted")),
        ("BERTH_GRACE_S", "86400", Some("0")),
        ("BERTH_GRACE_MARGIN_S", "25", Some("26")),
        ("BERTH_WEB", "loopback", Some("all")),
        ("BERTH_WEB_PORT", "8080", Some("0")),
        ("BERTH_WEB_READONLY", "on", Some("maybe")),
        ("BERTH_METRICS", "pod:9177", Some("9177")),
        ("BERTH_IMAGE_DIR", "/image", None),
        ("BERTH_STATE_DIR", "/run/berth", None),
        ("BERTH_METADATA", "/metadata", None),
        ("BERTH_USERDATA", "/userdata", None),
        ("BERTH_CA_FILE", "/ca.pem", None),
        ("BERTH_LOG", "berth=debug,info", Some("berth=loud")),
        ("BERTH_LOG_FORMAT", "JSON", Some("xml")),
    ];
    const PATHS: [&str; 8] = [
        "BERTH_VENDORDATA",
        "BERTH_NETWORKDATA",
        "BERTH_DEVICE_DIR",
        "BERTH_VOLUMES_DIR",
        "BERTH_RESOLV_CONF",
        "BERTH_WEB_TOKEN_FILE",
        "BERTH_WEB_TLS_CERT",
        "BERTH_WEB_TLS_KEY",
    ];

    #[test]
    fn a_value_is_checked_as_a_start_checks_it() {
        for (variable, good, wrong) in ALL {
            // What stands around a value is no part of it, and an empty one is not said.
            for good in [good, &format!(" {good}\t\r\n"), "", " \n"] {
                assert_eq!(check(variable, good), Ok(()), "{variable}={good:?}");
            }
            if let Some(wrong) = wrong {
                assert_eq!(check(variable, wrong).unwrap_err().variable, variable, "{wrong}");
            }
        }
    }

    #[test]
    fn every_variable_of_run_is_checked() {
        let known: BTreeSet<String> = Alone::command()
            .get_arguments()
            .filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned()))
            .chain(["BERTH_LOG".to_owned(), "BERTH_LOG_FORMAT".to_owned()])
            .collect();
        let tried = ALL.iter().map(|(name, ..)| *name).chain(PATHS).map(str::to_owned).collect();
        assert_eq!(known, tried);
    }

    #[test]
    fn what_does_not_fit_together_is_told_and_what_does_is_not() {
        let apart = [("VM_IP", "10.0.0.2")];
        assert_eq!(check_all(&apart).first().map(|invalid| invalid.variable), Some("VM_GW"));
        assert!(check_all(&[("VM_IP", "10.0.0.2"), ("VM_GW", "10.0.0.1")]).is_empty());
        assert!(check_all(&[("IMG_VCPU", "0"), ("IMG_VCPU", "1"), ("OTHER", "x")]).is_empty());
        let endless = [("BERTH_ON_PANIC", "reset"), ("BERTH_ON_REBOOT", "exit")];
        assert_eq!(
            check_all(&endless).first().map(|invalid| invalid.variable),
            Some("BERTH_ON_PANIC")
        );
        let names: Vec<_> =
            check_all(&[("IMG_VCPU", "0"), ("BERTH_LOG", "=="), ("BERTH_MTU", "x")]);
        assert_eq!(names.len(), 3, "{names:?}");
    }

    /// `tracing` takes a word that is no level for a module's name: nothing else is logged, errors neither.
    #[test]
    fn a_log_filter_says_levels() {
        for filter in
            ["warn", "INFO", "off", "info,berth::serve=debug", "info, berth=trace", "berth=debug"]
        {
            assert_eq!(check("BERTH_LOG", filter), Ok(()), "{filter}");
        }
        for filter in
            ["warning", "loud", "none", "info,loud", "berth", "verbose,berth=debug", "berth=loud"]
        {
            assert_eq!(check("BERTH_LOG", filter).unwrap_err().variable, "BERTH_LOG", "{filter}");
        }
    }
}
