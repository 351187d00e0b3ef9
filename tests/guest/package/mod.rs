//! The Debian package: what is in it, and `berth serve` as it runs where somebody installs it.

mod machine;

#[path = "../../../examples/man.rs"]
mod man;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::containers::docker::Docker;
use crate::support::{checked, find};
use machine::{Machine, PATIENCE};

/// Of the unit, as systemd counts: 0 is safe, 10 is not.
const MAX_EXPOSURE: f64 = 2.0;
/// CAP_NET_BIND_SERVICE and CAP_NET_RAW.
const CAPABILITIES: u64 = 1 << 10 | 1 << 13;
const UNIT: &str = "berth-serve";
const SETTINGS: &str = "BERTH_SERVE_INTERFACE=br1\n\
                        BERTH_SERVE_RANGE=10.0.1.100,10.0.1.200\n\
                        BERTH_SERVE_RESERVE=\"52:54:00:12:34:56,10.0.1.5,web 52:54:00:12:34:57,10.0.1.6,db\"\n\
                        BERTH_SERVE_UPSTREAM=192.0.2.53\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The static program that is in the launcher's image, or the one that BERTH names.
fn program(dir: &Path) -> PathBuf {
    if let Some(program) = std::env::var_os("BERTH") {
        return program.into();
    }
    let (docker, program) = (Docker::start(), dir.join("berth"));
    let container = docker.docker(&format!("create {}", docker.image));
    docker.docker(&format!("cp {container}:/usr/local/bin/berth {}", program.display()));
    program
}

/// Makes a package in a directory there.
fn package(program: &Path, dir: &Path) -> PathBuf {
    let pages = dir.join("man");
    man::write(&pages).unwrap();
    let mut make = Command::new("bash");
    make.arg(root().join("packaging/deb.sh")).arg(program).arg(pages).arg(dir);
    make.env("SOURCE_DATE_EPOCH", "1790000000");
    make.env("DEBFULLNAME", "berth tests").env("DEBEMAIL", "nobody@debian.org");
    PathBuf::from(checked(&mut make).trim())
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty()).collect()
}

#[test]
fn a_package_is_the_same_each_time_and_lintian_finds_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path());
    let made: Vec<PathBuf> = ["one", "two"]
        .map(|name| {
            let place = dir.path().join(name);
            std::fs::create_dir(&place).unwrap();
            package(&program, &place)
        })
        .to_vec();
    let octets = |path: &PathBuf| std::fs::read(path).unwrap();
    assert!(octets(&made[0]) == octets(&made[1]), "two packages of the same are not the same");
    let name = made[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(name, format!("berth_{}-1_amd64.deb", env!("CARGO_PKG_VERSION")));
    let mut judge = Command::new("lintian");
    judge.args(["--allow-root", "--fail-on=error,warning", "--tag-display-limit=0"]);
    let said = checked(judge.arg(&made[0]));
    assert_eq!(lines(&said), Vec::<&str>::new(), "{said}");
    for (name, wanted) in [
        ("crates.txt.gz", ["tokio ", "rustls ", "Text of: ", "Permission is hereby granted"]),
        ("page.txt.gz", ["@novnc/novnc ", "@xterm/xterm ", "Mozilla Public License", "MIT"]),
    ] {
        let text = document(&made[0], name);
        for wanted in wanted {
            assert!(text.contains(wanted), "{name}: {wanted}");
        }
    }
}

/// A packed document of a package.
fn document(package: &Path, name: &str) -> String {
    checked(Command::new("sh").arg("-c").arg(format!(
        "dpkg-deb --fsys-tarfile {} | tar -xO ./usr/share/doc/berth/{name} | gzip -d",
        package.display()
    )))
}

#[test]
fn installed_it_serves_when_it_is_set_up_and_purged_it_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&program(dir.path()), dir.path());
    let machine = Machine::start();
    let before = machine.files();
    std::fs::copy(&package, machine.path("/root/berth.deb")).unwrap();
    machine.run("apt-get install -y /root/berth.deb && rm /root/berth.deb");
    is_installed_and_idle(&machine);
    is_refused_without_settings(&machine);
    std::fs::write(machine.path("/etc/default/berth-serve"), SETTINGS).unwrap();
    serves(&machine);
    comes_back(&machine);
    another_interface_is_a_unit_of_its_own(&machine);
    is_upgraded(&machine, &package);
    machine.run("apt-get remove -y berth");
    assert_eq!(machine.unit(UNIT, "ActiveState"), "inactive");
    assert!(machine.path("/etc/default/berth-serve").exists(), "settings stay");
    assert!(machine.path("/var/lib/private/berth/leases").exists(), "leases stay");
    machine.run("apt-get purge -y berth");
    // systemd's own, and the administrator's.
    machine.run("rm -f /etc/default/berth-serve-br2 && rmdir /var/lib/private");
    let after = machine.files();
    let left: Vec<&String> = after.iter().filter(|file| !before.contains(file)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Everything is where Debian has it, and nothing runs.
fn is_installed_and_idle(machine: &Machine) {
    let version = machine.run("berth --version");
    assert_eq!(version, format!("berth {}", env!("CARGO_PKG_VERSION")));
    let files = machine.run("dpkg-query --listfiles berth");
    for wanted in [
        "/usr/share/man/man1/berth.1.gz",
        "/usr/share/man/man1/berth-serve.1.gz",
        "/usr/share/bash-completion/completions/berth",
        "/usr/share/zsh/vendor-completions/_berth",
        "/usr/share/fish/vendor_completions.d/berth.fish",
        "/usr/share/doc/berth/copyright",
        "/usr/share/doc/berth/changelog.Debian.gz",
    ] {
        // (The machine's own dpkg may be told to leave documents out.)
        assert!(files.lines().any(|file| file == wanted), "{wanted}: {files}");
    }
    assert_eq!(machine.run("dpkg --verify berth"), "");
    assert_eq!(machine.unit(UNIT, "UnitFileState"), "disabled");
    assert_eq!(machine.unit(UNIT, "ActiveState"), "inactive");
    let settings = std::fs::read_to_string(machine.path("/etc/default/berth-serve")).unwrap();
    assert!(settings.lines().all(|line| line.is_empty() || line.starts_with('#')), "{settings}");
    assert!(
        machine.run("dpkg-query -W -f '${Conffiles}' berth").contains("/etc/default/berth-serve")
    );
}

/// It says what is wrong, once.
fn is_refused_without_settings(machine: &Machine) {
    let (code, _) = machine.tried("systemctl start berth-serve");
    assert_ne!(code, Some(0));
    let log = machine.run("journalctl --no-pager -u berth-serve");
    assert!(log.contains("--interface"), "{log}");
    assert_eq!(machine.unit(UNIT, "ExecMainStatus"), "10", "{log}");
    assert_eq!(machine.unit(UNIT, "NRestarts"), "0", "{log}");
    machine.run("systemctl reset-failed berth-serve");
}

/// A unit that is started serves at once: systemd was told when it did.
fn serves(machine: &Machine) {
    machine.run("systemctl enable --quiet --now berth-serve");
    assert_eq!(machine.unit(UNIT, "ActiveState"), "active");
    let log = || machine.run("journalctl --no-pager -u berth-serve");
    let address = machine.lease("c0");
    assert_eq!(address.octets()[..3], [10, 0, 1], "{address}");
    let leases = std::fs::read_to_string(machine.path("/var/lib/private/berth/leases")).unwrap();
    assert!(leases.contains(&format!("bound {address} ")), "{leases}");
    assert_eq!(machine.run("readlink /var/lib/berth"), "private/berth");
    let told = machine.run("berth leases");
    assert!(told.contains(&format!("{address} ")) && told.contains("bound"), "{told}");
    // Nobody, and all that systemd was to do has been done.
    let pid = machine.unit(UNIT, "MainPID");
    let status = machine.run(&format!("cat /proc/{pid}/status"));
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_ne!(field("Uid:"), "0");
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), CAPABILITIES, "{set}");
    }
    assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"));
    for warning in ["WARN", "ERROR", "less than it could be"] {
        assert!(!log().contains(warning), "{}", log());
    }
    for unit in [UNIT, "berth-serve@br2"] {
        let (_, judged) =
            machine.tried(&format!("systemd-analyze security --no-pager {unit}.service"));
        let exposure = judged.lines().find_map(|line| line.split("exposure level for ").nth(1));
        let exposure: f64 = exposure
            .and_then(|rest| rest.split(": ").nth(1)?.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{judged}"));
        println!("exposure of {unit}: {exposure}");
        assert!(exposure <= MAX_EXPOSURE, "{judged}");
    }
}

/// After a kill its clients have what they had.
fn comes_back(machine: &Machine) {
    let (address, pid) = (machine.lease("c0"), machine.unit(UNIT, "MainPID"));
    machine.run(&format!("kill -KILL {pid}"));
    let state = || machine.unit(UNIT, "ActiveState");
    find("another process", PATIENCE, state, || {
        (machine.unit(UNIT, "MainPID") != pid && state() == "active").then_some(())
    });
    assert_eq!(machine.lease("c0"), address);
}

fn another_interface_is_a_unit_of_its_own(machine: &Machine) {
    let settings = "BERTH_SERVE_RANGE=10.0.2.7,10.0.2.7\nBERTH_SERVE_NO_DNS=yes\n";
    std::fs::write(machine.path("/etc/default/berth-serve-br2"), settings).unwrap();
    machine.run("systemctl enable --quiet --now berth-serve@br2");
    assert_eq!(machine.lease("c1"), Ipv4Addr::new(10, 0, 2, 7));
    let leases = machine.path("/var/lib/private/berth-serve/br2/leases");
    assert!(std::fs::read_to_string(leases).unwrap().contains("bound 10.0.2.7 "));
}

/// Settings are the user's, and what runs is the new version.
fn is_upgraded(machine: &Machine, package: &Path) {
    let pid = machine.unit(UNIT, "MainPID");
    std::fs::copy(package, machine.path("/root/berth.deb")).unwrap();
    machine.run("dpkg --install /root/berth.deb </dev/null && rm /root/berth.deb");
    assert_eq!(
        std::fs::read_to_string(machine.path("/etc/default/berth-serve")).unwrap(),
        SETTINGS
    );
    assert_ne!(machine.unit(UNIT, "MainPID"), pid);
    for unit in [UNIT, "berth-serve@br2"] {
        assert_eq!(machine.unit(unit, "ActiveState"), "active");
    }
}
