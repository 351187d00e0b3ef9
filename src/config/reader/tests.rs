use super::*;
use crate::config::serve::{Aaaa, BootFor, ServeOptions};
use crate::config::{Log, LogFormat, Options};

#[derive(Debug, Parser)]
struct Serve {
    #[command(flatten)]
    options: ServeOptions,
    #[command(flatten)]
    log: Log,
}

#[derive(Debug, Parser)]
struct Run {
    #[command(flatten)]
    options: Options,
}

fn read<T: Parser>(words: &[&str], variables: &[(&str, &str)]) -> Result<T, String> {
    let words: Vec<OsString> = ["berth"].iter().chain(words).map(OsString::from).collect();
    let environment = |name: &str| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    parse(&words, &environment).map_err(|error| error.to_string())
}

/// On eth1, with one variable.
fn with(name: &str, value: &str) -> Result<String, String> {
    read::<Serve>(&["--interface=eth1"], &[(name, value)])
        .map(|serve| format!("{:?}", serve.options))
}

/// On eth1, with one flag.
fn flag(name: &str, value: &str) -> Result<String, String> {
    let words: &[&[&str]] =
        &[&["--interface=eth1", name, value], &["--interface=eth1", &format!("{name}={value}")]];
    let [apart, joined] = [words[0], words[1]]
        .map(|words| read::<Serve>(words, &[]).map(|serve| format!("{:?}", serve.options)));
    assert_eq!(apart.is_ok(), joined.is_ok(), "{name} {value:?}");
    if let (Ok(apart), Ok(joined)) = (&apart, &joined) {
        assert_eq!(apart, joined, "{name} {value:?}");
    }
    joined
}

/// Each with one value and, where it is a list, another.
const VALUES: [(&str, &str, &str, &str); 33] = [
    ("--address", "BERTH_SERVE_ADDRESS", "10.0.0.1/24", ""),
    ("--range", "BERTH_SERVE_RANGE", "10.0.0.9,10.0.0.10", "10.0.0.20,10.0.0.30"),
    (
        "--relayed",
        "BERTH_SERVE_RELAYED",
        "10.2.0.0/24,10.2.0.9,10.2.0.10,10.2.0.1",
        "10.3.0.0/24,10.3.0.9,10.3.0.10,10.3.0.1",
    ),
    ("--reserve", "BERTH_SERVE_RESERVE", "52:54:00:00:00:01,10.0.0.5,web", "id:01,10.0.0.6"),
    ("--lease-time", "BERTH_SERVE_LEASE_TIME", "infinite", ""),
    ("--min-lease-time", "BERTH_SERVE_MIN_LEASE_TIME", "30", ""),
    ("--max-lease-time", "BERTH_SERVE_MAX_LEASE_TIME", "86400", ""),
    ("--lease-file", "BERTH_SERVE_LEASE_FILE", "/tmp/leases", ""),
    ("--router", "BERTH_SERVE_ROUTER", "none", ""),
    ("--dns", "BERTH_SERVE_DNS", "10.0.0.53", "10.0.0.54"),
    ("--search", "BERTH_SERVE_SEARCH", "a.test", "b.test"),
    ("--option", "BERTH_SERVE_OPTION", "252=http://wpad/ x", "42=10.0.0.1, 10.0.0.2"),
    ("--boot-file", "BERTH_SERVE_BOOT_FILE", "pxelinux.0", "7,9=grubx64.efi"),
    ("--next-server", "BERTH_SERVE_NEXT_SERVER", "10.0.0.2", ""),
    ("--offer-hold", "BERTH_SERVE_OFFER_HOLD", "30", ""),
    ("--quarantine", "BERTH_SERVE_QUARANTINE", "60", ""),
    ("--client-rate", "BERTH_SERVE_CLIENT_RATE", "5", ""),
    ("--rate", "BERTH_SERVE_RATE", "50", ""),
    ("--address6", "BERTH_SERVE_ADDRESS6", "fd00::1/64", ""),
    ("--range6", "BERTH_SERVE_RANGE6", "fd00::9,fd00::10", "fd00::20,fd00::30"),
    (
        "--relayed6",
        "BERTH_SERVE_RELAYED6",
        "fd00:0:0:2::/64,fd00:0:0:2::9,fd00:0:0:2::10",
        "fd00:0:0:3::/64,fd00:0:0:3::9,fd00:0:0:3::10",
    ),
    ("--reserve6", "BERTH_SERVE_RESERVE6", "52:54:00:00:00:01,fd00::5,web", "id:000401,fd00::6"),
    ("--router-advertisements", "BERTH_SERVE_ROUTER_ADVERTISEMENTS", "slaac", ""),
    ("--router6", "BERTH_SERVE_ROUTER6", "none", ""),
    ("--dns6", "BERTH_SERVE_DNS6", "fd00::53", "fd00::54"),
    ("--boot-file6", "BERTH_SERVE_BOOT_FILE6", "http://[fd00::1]/a.efi", ""),
    ("--upstream", "BERTH_SERVE_UPSTREAM", "10.0.0.53:5353", "fd00::53"),
    ("--host", "BERTH_SERVE_HOST", "nas.lan=10.0.0.8", "*.apps.lan=fd00::8"),
    ("--domain", "BERTH_SERVE_DOMAIN", "lan", ""),
    ("--aaaa", "BERTH_SERVE_AAAA", "none", ""),
    ("--resolv-conf", "BERTH_RESOLV_CONF", "/tmp/resolv.conf", ""),
    ("--log", "BERTH_LOG", "debug", ""),
    ("--log-format", "BERTH_LOG_FORMAT", "json", ""),
];

#[test]
fn variables_and_flags_are_read_alike_whatever_stands_around_a_value() {
    let nothing = read::<Serve>(&["--interface=eth1"], &[])
        .map(|serve| format!("{:?}", serve.options))
        .unwrap();
    for (name, variable, value, other) in VALUES {
        let wanted = flag(name, value).unwrap();
        for around in [
            value.to_owned(),
            format!(" {value}\t"),
            format!("{value}\n"),
            format!("\r\n{value}\r\n"),
        ] {
            assert_eq!(with(variable, &around), Ok(wanted.clone()), "{variable}={around:?}");
            assert_eq!(flag(name, &around), Ok(wanted.clone()), "{name} {around:?}");
        }
        for empty in ["", " ", "\n", "\t \r\n"] {
            assert_eq!(with(variable, empty), Ok(nothing.clone()), "{variable}={empty:?}");
            assert_eq!(flag(name, empty), Ok(nothing.clone()), "{name} {empty:?}");
        }
        if other.is_empty() {
            continue;
        }
        let said = read::<Serve>(&["--interface=eth1", name, value, name, other], &[]).unwrap();
        let both = format!("{:?}", said.options);
        let lines = format!("{value}\n{other}\n");
        let mut lists = vec![lines];
        if name != "--option" {
            lists.extend([
                format!("{value}  {other}"),
                format!("{value}\t{other} "),
                format!("\n {value}\r\n\n{other}"),
            ]);
        }
        if ["--dns", "--dns6", "--search", "--upstream", "--host"].contains(&name) {
            lists.extend([format!("{value},{other}"), format!("{value}, {other},")]);
        }
        for list in lists {
            assert_eq!(with(variable, &list), Ok(both.clone()), "{variable}={list:?}");
            assert_eq!(flag(name, &list), Ok(both.clone()), "{name} {list:?}");
        }
    }
}

#[test]
fn what_was_renamed_is_read_by_its_former_name_and_the_new_one_goes_first() {
    let all = |words: &[&str], variables: &[(&str, &str)]| {
        let words: Vec<_> = ["--interface=eth1"].iter().chain(words).copied().collect();
        read::<Serve>(&words, variables).map(|serve| serve.options)
    };
    let read = |words: &[&str], variables: &[(&str, &str)]| {
        let options = all(words, variables).unwrap();
        (options.min_lease_time, options.max_lease_time)
    };
    assert_eq!(
        read(&["--least-lease-time=30", "--most-lease-time", "infinite"], &[]),
        (Some(30), Some(u32::MAX))
    );
    let former = [("BERTH_SERVE_LEAST_LEASE_TIME", "30"), ("BERTH_SERVE_MOST_LEASE_TIME", "90")];
    assert_eq!(read(&[], &former), (Some(30), Some(90)));
    assert_eq!(read(&["--max-lease-time=60"], &former), (Some(30), Some(60)));
    assert_eq!(read(&[], &[former[0], ("BERTH_SERVE_MIN_LEASE_TIME", "40")]), (Some(40), None));
    let wrong = all(&[], &[("BERTH_SERVE_MOST_LEASE_TIME", "x")]).unwrap_err();
    assert!(wrong.contains("BERTH_SERVE_MOST_LEASE_TIME"), "{wrong}");
    let names = former.map(|(name, _)| name);
    assert_eq!(crate::config::unknown(&names), []);
}

/// Every flag with a variable is in the table, or is a switch.
#[test]
fn every_variable_of_serve_is_tried() {
    use clap::CommandFactory;
    let command = Serve::command();
    let named = command
        .get_arguments()
        .filter(|arg| arg.get_env().is_some() && arg.get_id() != "interface");
    for arg in named.filter(|arg| !matches!(arg.get_action(), ArgAction::SetTrue)) {
        let long = format!("--{}", arg.get_long().unwrap());
        let row =
            VALUES.iter().find(|(name, ..)| *name == long).unwrap_or_else(|| panic!("{long}"));
        assert_eq!(Some(row.1), arg.get_env().and_then(OsStr::to_str));
        assert_eq!(row.3.is_empty(), !matches!(arg.get_action(), ArgAction::Append), "{long}");
    }
}

#[test]
fn flags_go_before_variables_and_a_list_is_one_or_the_other() {
    let serve = |words: &[&str], variables: &[(&str, &str)]| {
        let words: Vec<&str> = ["--interface=eth1"].iter().chain(words).copied().collect();
        read::<Serve>(&words, variables).unwrap()
    };
    let both = serve(
        &["--search", "a.test", "--domain=lan"],
        &[
            ("BERTH_SERVE_SEARCH", "b.test c.test"),
            ("BERTH_SERVE_DOMAIN", "home"),
            ("BERTH_SERVE_AAAA", "NONE"),
            ("BERTH_LOG_FORMAT", "JSON"),
            ("BERTH_SERVE_INTERFACE", "eth9"),
        ],
    );
    assert_eq!(both.options.search.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.test"]);
    assert_eq!(both.options.domain.unwrap().as_str(), "lan");
    assert_eq!((both.options.interface.as_str(), both.options.aaaa), ("eth1", Aaaa::None));
    assert_eq!(both.log.format, Some(LogFormat::Json));
    // A flag without a value is not said, so the variable is.
    let unsaid = serve(&["--domain="], &[("BERTH_SERVE_DOMAIN", "home")]);
    assert_eq!(unsaid.options.domain.unwrap().as_str(), "home");
    let boot =
        serve(&[], &[("BERTH_SERVE_BOOT_FILE", "pxelinux.0\n7,9=grubx64.efi\n")]).options.boot_file;
    assert_eq!(boot[1].clients, [BootFor::Architecture(7), BootFor::Architecture(9)]);
    let missing = read::<Serve>(&[], &[("BERTH_SERVE_INTERFACE", " ")]).unwrap_err();
    assert!(missing.contains("--interface <NAME>"), "{missing}");
}

#[test]
fn switches_take_the_words_people_write() {
    for (word, wanted) in [
        ("1", true),
        ("Yes\n", true),
        ("ON", true),
        ("true", true),
        ("0", false),
        ("no", false),
        ("Off", false),
        ("false", false),
        ("", false),
    ] {
        let serve = read::<Serve>(&["--interface=eth1"], &[("BERTH_SERVE_NO_DNS", word)]).unwrap();
        assert_eq!(serve.options.no_dns, wanted, "{word:?}");
    }
    let wrong = with("BERTH_SERVE_NO_DNS", "maybe").unwrap_err();
    assert!(
        wrong.contains("\"maybe\" for 'BERTH_SERVE_NO_DNS'") && wrong.contains("yes"),
        "{wrong}"
    );
}

#[test]
fn an_error_names_the_variable_and_shows_what_nobody_sees() {
    for (variable, value, said) in [
        ("BERTH_SERVE_DOMAIN", "lan,home", "invalid value 'lan,home' for 'BERTH_SERVE_DOMAIN'"),
        (
            "BERTH_SERVE_RANGE",
            "10.0.0.1,\u{200b}10.0.0.9",
            r"invalid value '10.0.0.1,\u{200b}10.0.0.9' for 'BERTH_SERVE_RANGE'",
        ),
        (
            "BERTH_SERVE_LEASE_TIME",
            "36\n00",
            r"invalid value '36\n00' for 'BERTH_SERVE_LEASE_TIME'",
        ),
        ("BERTH_SERVE_RATE", "0", "invalid value '0' for 'BERTH_SERVE_RATE'"),
        ("BERTH_SERVE_AAAA", "some", "[possible values: pass, none]"),
    ] {
        let error = with(variable, value).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let error = flag("--rate", "0").unwrap_err();
    assert!(error.contains("for '--rate <NUMBER>'"), "{error}");
}

/// clap says "one or more arguments", of which there may be none.
#[test]
fn text_that_is_no_utf8_is_refused_by_its_variable_and_a_path_may_be_any_octets() {
    let octets = OsStr::from_bytes(b"a\xff").to_owned();
    let said = |variable: &str| {
        let environment = |name: &str| (name == variable).then(|| octets.clone());
        let words = [OsString::from("berth"), OsString::from("--interface=eth1")];
        parse::<Serve>(&words, &environment).map(|serve| serve.options)
    };
    for variable in
        ["BERTH_SERVE_DOMAIN", "BERTH_SERVE_RANGE", "BERTH_SERVE_HOST", "BERTH_SERVE_LEASE_TIME"]
    {
        let error = said(variable).unwrap_err().to_string();
        assert!(error.contains(&format!("the value of '{variable}' is not UTF-8")), "{error}");
        assert!(!error.contains("\\xff") && !error.contains('\u{fffd}'), "{error}");
    }
    assert_eq!(said("BERTH_SERVE_LEASE_FILE").unwrap().lease_file.as_os_str(), octets);
}

#[test]
fn the_seeds_switches_are_any_text_and_qemus_words_are_its_own() {
    let run =
        |words: &[&str], variables: &[(&str, &str)]| read::<Run>(words, variables).unwrap().options;
    let said = run(
        &[],
        &[("NO_VNC", " "), ("NO_DHCP", ""), ("BERTH_CPU", " "), ("KVM_NET_OPTS", "-nic none\n")],
    );
    assert_eq!((said.no_vnc.as_deref(), said.no_dhcp, said.cpu), (Some(" "), None, None));
    assert_eq!(said.kvm_net_opts.as_deref(), Some("-nic none"));
    let said = run(
        &["--no-vnc", "--kvm-net-opts", "-nic none", "--", "-cpu", "", "--vcpu", " "],
        &[("IMG_VCPU", "2")],
    );
    assert_eq!((said.no_vnc.as_deref(), said.vcpu.as_deref()), (Some("1"), Some("2")));
    assert_eq!(
        (said.kvm_net_opts.as_deref(), said.qemu_args),
        (Some("-nic none"), ["-cpu", "", "--vcpu", " "].map(str::to_owned).to_vec())
    );
    let missing = read::<Run>(&["--vcpu", "--mtu", "1400"], &[]).unwrap_err();
    assert!(missing.contains("--vcpu"), "{missing}");
}

/// Help names variables with their values.
#[test]
fn help_shows_no_value_that_may_hold_a_password() {
    use clap::CommandFactory;
    let command = Run::command();
    let secret = |arg: &&Arg| {
        arg.get_env()
            .is_some_and(|name| crate::config::SECRET_VARIABLES.iter().any(|it| name == *it))
    };
    let secrets: Vec<&Arg> = command.get_arguments().filter(secret).collect();
    assert!(secrets.len() == 1 && secrets.iter().all(|arg| arg.is_hide_env_values_set()));
}

/// A name of any flag is one that DNS can carry as it is, read by another's parser.
fn carried(options: &ServeOptions) -> bool {
    let told = options.search.iter().chain(&options.domain);
    let hosts = options.host.iter().map(|host| &host.name);
    let reserved = options.reserve.iter().filter_map(|reserve| reserve.name.as_ref());
    told.chain(hosts).chain(reserved).all(|name| {
        let wire = hickory_proto::rr::Name::from_ascii(format!("{name}."));
        wire.is_ok_and(|wire| !wire.is_root() && wire.to_ascii() == format!("{name}."))
    })
}

proptest::proptest! {
    #[test]
    fn no_text_in_any_flag_or_variable_makes_it_panic_and_names_are_names_on_the_wire(
        which in 0..VALUES.len(),
        text in ".{0,60}|[a-zA-Z0-9_.,*= -]{0,40}|(52:54:00:00:00:01,10\\.0\\.0\\.5,|[a-z*.]{1,9}=10\\.0\\.0\\.8|7,9=)[a-z_.-]{0,20}",
        of_run in 0..60usize,
    ) {
        let (name, variable, ..) = VALUES[which];
        let words = ["--interface=eth1", &format!("{name}={text}")];
        let by_flag = read::<Serve>(&words, &[]);
        let by_variable = read::<Serve>(&words[..1], &[(variable, text.as_str())]);
        proptest::prop_assert_eq!(by_flag.is_ok(), by_variable.is_ok(), "{} {:?}", name, text);
        if let (Ok(one), Ok(other)) = (by_flag, by_variable) {
            proptest::prop_assert_eq!(format!("{:?}", one.options), format!("{:?}", other.options));
            proptest::prop_assert!(carried(&one.options), "{} {:?}", name, text);
        }
        let variables = variables();
        if let Some(variable) = variables.iter().nth(of_run) {
            let _ = crate::config::check(variable, &text);
        }
    }
}

/// One was told, and the next only when that was mended.
#[test]
fn every_wrong_value_is_told_at_once() {
    let words =
        ["--interface=eth1", "--range=10.0.0.9", "--range=10.0.0.9", "--aaaa=maybe", "--rate=5"];
    let error = read::<Serve>(&words, &[("BERTH_SERVE_LEASE_TIME", "x")]).unwrap_err();
    for says in
        ["'10.0.0.9' for '--range", "'maybe' for '--aaaa", "'x' for 'BERTH_SERVE_LEASE_TIME"]
    {
        assert_eq!(error.matches(says).count(), 1, "{says}: {error}");
    }
    assert_eq!(error.matches("error: ").count(), 3, "{error}");
    assert_eq!(error.matches("try '--help'").count(), 1, "{error}");
    // What is missing besides, and what is only missing because its value is wrong.
    let error = read::<Serve>(&["--range=10.0.0.9"], &[]).unwrap_err();
    assert!(error.contains("--range") && error.contains("--interface"), "{error}");
    let error = read::<Serve>(&["--range=10.0.0.9", "--interface=a/b"], &[]).unwrap_err();
    assert!(error.contains("--range") && error.contains("a/b"), "{error}");
    assert!(!error.contains("not provided"), "{error}");
    // A secret in one of several stays one.
    let error =
        read::<Serve>(&["--range=http://me:hunter2@h/x", "--aaaa=http://me:hunter2@h"], &[])
            .unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
}

/// Clap's own error for `--help` would show what was wrong before it as it was typed.
#[test]
fn help_beside_a_wrong_value_shows_no_secret() {
    let words = ["--interface=eth1", "--range=http://me:hunter2@h/x\u{7}", "--help"];
    let error = read::<Serve>(&words, &[]).unwrap_err();
    assert!(error.contains("--range"), "{error}");
    assert!(!error.contains("hunter2") && !error.contains('\u{7}'), "{error}");
}
