//! What people write in compose files and manifests, and what goes out for it.

use crate::support::until;
use std::fs;
use std::process::{Command, Stdio};

use crate::serve::{Running, Site};

impl Site {
    /// Started with variables alone; its log.
    fn serve_by_variables(&mut self, variables: &[(&str, &str)]) -> std::path::PathBuf {
        let (log, path) = self.log("words.log");
        let mut command = self.server.command(env!("CARGO_BIN_EXE_berth"));
        command
            .arg("serve")
            .envs(variables.iter().copied())
            .env("BERTH_SERVE_LEASE_FILE", self.leases());
        self.serving = Some(Running(command.stderr(log).spawn().unwrap()));
        until("server", || fs::read_to_string(&path).unwrap().contains("serving DHCP"));
        path
    }
}

#[test]
fn variables_as_compose_files_have_them_are_served_as_they_are_meant() {
    let mut site = Site::silent();
    let log = site.serve_by_variables(&[
        ("BERTH_SERVE_INTERFACE", "s0\n"),
        ("BERTH_SERVE_RANGE", "10.0.1.1,10.0.1.5\n10.0.1.7,10.0.1.9\n"),
        ("BERTH_SERVE_DOMAIN", "Lan\n"),
        ("BERTH_SERVE_SEARCH", "lan, b.test\tc.test \n"),
        ("BERTH_SERVE_HOST", "nas.lan=10.0.0.8,*.apps.lan=10.0.0.7\n"),
        ("BERTH_SERVE_OPTION", "42=10.0.0.3, 10.0.0.4\n\n26=1400\n"),
        ("BERTH_SERVE_BOOT_FILE", ""),
        ("BERTH_SERVE_ROUTER", " "),
        ("BERTH_SERVE_UPSTREAM", ""),
        ("BERTH_SERVE_NO_DNS", "no"),
        ("BERTH_SERVE_LEASETIME", "60"),
        // A Service of this name is Kubernetes' own.
        ("BERTH_WEB_SERVICE_HOST", "10.96.0.1"),
        ("BERTH_WEB_SERVICE_PORT", "80"),
        ("BERTH_WEB_PORT_80_TCP_ADDR", "10.96.0.1"),
    ]);
    let told = site.dir.path().join("told");
    let script = site.dir.path().join("all");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = bound ] && echo \"$ip|$domain|$search|$ntpsrv|$mtu|$router\" >>{0}\n\
         [ \"$1\" = bound ] && ip addr replace $ip/16 dev c0\ntrue\n",
        told.display()
    );
    fs::write(&script, text).unwrap();
    let mut chmod = Command::new("chmod");
    crate::support::checked(chmod.arg("755").arg(&script));
    let mut client = site.client.command("busybox");
    client
        .args(["udhcpc", "-i", "c0", "-q", "-f", "-O", "search", "-O", "ntpsrv", "-O", "mtu", "-s"])
        .arg(&script);
    assert!(client.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let told = fs::read_to_string(told).unwrap();
    assert_eq!(told, "10.0.1.1|lan|lan b.test c.test|10.0.0.3 10.0.0.4|1400|10.0.0.1\n");
    let dig = |words: &str| site.client.run(&format!("dig @10.0.0.1 +tries=1 +time=5 {words}"));
    for (name, wanted) in
        [("nas.lan", "10.0.0.8\n"), ("a.b.apps.lan", "10.0.0.7\n"), ("apps.lan", ""), ("x.lan", "")]
    {
        assert_eq!(dig(&format!("+short {name}")), wanted, "{name}");
    }
    assert!(dig("apps.lan").contains("NOERROR") && dig("x.lan").contains("NXDOMAIN"));
    let log = fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("BERTH_").count(), 2, "{log}");
    assert!(log.contains(
        "BERTH_SERVE_LEASETIME is not known here and does nothing: did you mean BERTH_SERVE_LEASE_TIME?"
    ));
}

#[test]
fn words_that_mean_nothing_are_refused_before_anything_is_served() {
    let site = Site::silent();
    const RANGE: &str = "--range=10.0.1.1,10.0.1.9";
    let refused = |words: &[&str], code: i32, says: &str| {
        let mut command = site.server.command(env!("CARGO_BIN_EXE_berth"));
        let output = command.args(["serve", "--interface=s0", RANGE]).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        assert!(text.contains(says), "{words:?}: {text}");
    };
    for (words, says) in [
        (&["--search=a test,b..test"][..], "b..test"),
        (&["--search=10.0.0.1"], "is an address"),
        (&["--domain=lan,home"], "lan,home"),
        (&["--domain=.lan"], "label"),
        (&["--host=bücher.lan=10.0.0.8"], "xn--bcher-kva.lan"),
        (&["--reserve=52:54:00:00:00:c1,10.0.0.5,web,12h"], "web,12h"),
        (&["--boot-file=efi64=grubx64.efi"], "7 UEFI x64"),
        (&["--rate=0"], "a number from 1 to 4294967295, digits alone"),
        (&["--client-rate=0"], "a number from 1 to 4294967295, digits alone"),
        (&["--client-rate=+1"], "a number from 1 to 4294967295, digits alone"),
        (&["--lease-time=1"], "3 at least"),
        (&["--quarantine=0"], "a number from 1 to 31536000, digits alone"),
        (&["--quarantine=31536001"], "a number from 1 to 31536000, digits alone"),
        (&["--option=26=10"], "option 26 takes one number of 68 to 65535"),
        (&["--min-lease-time=7200"], "--min-lease-time 7200 is longer than --lease-time 3600"),
        (&["--boot-file=a", "--boot-file=b"], "--boot-file has two files for everyone"),
        (
            &[
                "--reserve=52:54:00:00:00:c1,10.0.0.5,web",
                "--domain=lan",
                "--host=web.lan=10.0.0.6",
            ],
            "--reserve gives the name web to 10.0.0.5, and --host to 10.0.0.6",
        ),
    ] {
        refused(words, 10, says);
    }
    for (words, says) in [
        (&["--reserve=52:54:00:00:00:c1,10.0.0.1"][..], "--reserve 10.0.0.1 is our own address"),
        (
            &["--reserve=52:54:00:00:00:c1,10.0.0.0"],
            "--reserve 10.0.0.0 is the network's own address",
        ),
        (
            &["--reserve=52:54:00:00:00:c1,10.0.255.255"],
            "--reserve 10.0.255.255 is the broadcast address",
        ),
        (
            &["--router=10.0.0.254", "--reserve=52:54:00:00:00:c1,10.0.0.254"],
            "--reserve 10.0.0.254 is the router's address",
        ),
    ] {
        refused(words, 12, says);
    }
}

#[test]
fn run_names_unknown_variables_and_switches_that_are_not_what_they_seem() {
    let site = Site::silent();
    for verb in ["run", "net", "vm", "plan"] {
        let mut command = site.client.command(env!("CARGO_BIN_EXE_berth"));
        command
            .arg(verb)
            .env("BERTH_ACCELL", "tcg")
            .env("NO_VNC", "false")
            .env("BERTH_STATE_DIR", site.dir.path());
        // It goes no further, once it has said so.
        let output = command.env("BERTH_VM_PREFIX", "31\n").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(10), "{verb}: {text}");
        for says in [
            "BERTH_ACCELL is not known here and does nothing: did you mean BERTH_ACCEL?",
            "NO_VNC=\"false\" is yes, as any text is",
            "BERTH_VM_PREFIX=\"31\": expected a prefix length from 1 to 30",
        ] {
            assert_eq!(text.matches(says).count(), 1, "{verb}: {text}");
        }
    }
}
