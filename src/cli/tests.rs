use super::*;

fn command(words: &[&str]) -> Command {
    match parse(words.iter().map(OsString::from))
        .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    {
        Request::Verb { command, .. } => command,
        other => panic!("{other:?}"),
    }
}

fn qemu_args(words: &[&str]) -> Vec<String> {
    match command(words) {
        Command::Run(options) => options.qemu_args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_holds() {
    Cli::command().debug_assert();
}

/// `berth run URL`, for `--img-source URL`, printed the password.
#[test]
fn a_url_in_the_wrong_place_is_masked_in_the_usage_error() {
    let said = |words: &[&str]| parse(words.iter().map(OsString::from)).expect_err("no command");
    for url in ["http://me:hunter2@h/x?hunter2", "me:hunter2@h", "http://h/x?hunter2"] {
        let (unknown, value) = (format!("--proxy={url}"), format!("--log-format={url}"));
        for words in [
            &["berth", url][..],
            &["berth", "run", url],
            &["berth", "run", &unknown],
            &["berth", "plan", &unknown],
            &["berth", "run", &value],
            &["berth", "nft", url],
            &["berth", "status", "--alive", url],
        ] {
            let text = said(words).render().to_string();
            assert!(!text.contains("hunter2"), "{words:?}: {text}");
            assert!(text.contains("error"), "{words:?}: {text}");
        }
    }
}

/// Of each verb whose numbers clap reads.
#[test]
fn numbers_have_no_sign_and_are_within_their_range() {
    let explain = ["--ct-zone", "--length", "--ttl", "--tos", "--uid", "--gid", "--vlan"];
    let flags = explain.map(|flag| ("explain", flag)).into_iter();
    let others =
        [("trace", "--port"), ("trace", "--count"), ("watch", "--count"), ("list", "--pid")];
    for (verb, flag) in flags.chain(others) {
        for number in ["+4", "-4", "0x4", "99999999999999999999"] {
            let words = ["berth", "nft", verb, &format!("{flag}={number}")].map(OsString::from);
            let text = parse(words).unwrap_err().render().to_string();
            assert!(text.contains("expected a number from "), "{verb} {flag} {number}: {text}");
        }
    }
}

#[test]
fn no_verb_is_run() {
    assert!(matches!(command(&["berth"]), Command::Run(_)));
    assert_eq!(qemu_args(&["berth", "--vcpu", "2", "--", "-m", "1G"]), ["-m", "1G"]);
    assert_eq!(qemu_args(&["berth", "run", "--", "-cpu", "a b"]), ["-cpu", "a b"]);
}

#[test]
fn under_the_seeds_name_every_argument_is_qemus() {
    assert_eq!(
        qemu_args(&["/startvm.sh", "-cpu", "qemu64", "--help"]),
        ["-cpu", "qemu64", "--help"]
    );
    assert!(qemu_args(&["/startvm.sh"]).is_empty());
}

#[test]
fn bash_first_is_a_shell() {
    for name in ["berth", "/startvm.sh"] {
        match parse([name, "bash", "-c", "true"].map(OsString::from)) {
            Ok(Request::Shell(rest)) => assert_eq!(rest, ["-c", "true"]),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn plan_prints_text_or_json() {
    assert!(matches!(command(&["berth", "plan"]), Command::Plan { output: Output::Text, .. }));
    assert!(matches!(
        command(&["berth", "plan", "--output", "json"]),
        Command::Plan { output: Output::Json, .. }
    ));
}

/// Containers always have HOSTNAME.
#[test]
fn the_environment_goes_with_every_verb() {
    let environment = |name: &str| (name == "HOSTNAME").then(|| "web-0".into());
    for words in [
        vec!["berth"],
        vec!["berth", "net"],
        vec!["berth", "plan"],
        vec!["berth", "nft", "check"],
        vec!["berth", "run", "--", "-m", "1G"],
    ] {
        let command = parse_in(words.iter().map(OsString::from), &environment);
        let Ok(Request::Verb {
            command:
                Command::Run(options)
                | Command::Net(options)
                | Command::Plan { options, .. }
                | Command::Check { options, .. },
            ..
        }) = command
        else {
            panic!("{words:?}: {command:?}")
        };
        assert_eq!(options.hostname.as_deref(), Some("web-0"), "{words:?}");
    }
    assert!(parse_in(["berth", "leases"].map(OsString::from), &environment).is_ok());
}

#[test]
fn other_verbs_help_and_mistakes_are_not_taken_for_run() {
    let said = |words: &[&str]| {
        parse(words.iter().map(OsString::from)).expect_err("no command").to_string()
    };
    assert!(said(&["berth", "--help"]).contains("selftest"));
    assert!(said(&["berth", "run", "--help"]).contains("berth run"));
    assert!(said(&["berth", "run", "--vcpu"]).contains("--vcpu"));
    assert!(said(&["berth", "--version"]).starts_with("berth "));
    assert!(said(&["berth", "no-such-verb"]).contains("no-such-verb"));
    assert!(matches!(command(&["berth", "net", "--mtu", "1400"]), Command::Net(_)));
}

/// Every line of a help's examples that begins with our name.
fn examples(command: &clap::Command, found: &mut Vec<String>) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let joined = help.replace("\\\n", " ");
    for line in joined.lines().filter_map(|line| line.strip_prefix("  berth ")) {
        // Two blanks, or a shell's redirection, end the words.
        let line = line.trim_start().split(" >").next().unwrap_or_default();
        let words: Vec<&str> =
            line.split("   ").next().unwrap_or_default().split_whitespace().collect();
        found.push(words.join(" "));
    }
    command.get_subcommands().for_each(|command| examples(command, found));
}

#[test]
fn every_example_of_every_help_is_understood() {
    let mut found = Vec::new();
    examples(&Cli::command(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    for line in found {
        let words = std::iter::once("berth").chain(line.split(' ')).map(OsString::from);
        if let Err(error) = parse(words) {
            panic!("berth {line}: {error}");
        }
    }
}

#[test]
fn an_unknown_flag_is_a_mistake() {
    let error = parse(["berth", "--no-such-flag"].map(OsString::from)).expect_err("a mistake");
    assert_eq!(error.exit_code(), 2);
}
