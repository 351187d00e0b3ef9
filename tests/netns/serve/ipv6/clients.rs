//! The DHCPv6 clients that people have, each from its first lease to its last.

use std::fs;
use std::process::{Command, Stdio};

use crate::serve::clients::{NETWORK_MANAGER, as_in_a_container};
use crate::serve::{Running, Site};
use crate::support::{checked, until};

/// T1 is 10 s, and T2 16 s.
const SHORT: &str = "--lease-time=20 --min-lease-time=20";

impl Site {
    fn leased_and_renewed(&self) {
        until("lease", || self.bound().is_some());
        until("renewed lease", || self.answered("Renew") > 0);
    }

    fn leased_renewed_and_rebound(&self) {
        self.leased_and_renewed();
        let its = self.bound().unwrap();
        // Renewals do not reach it any more.
        self.server.nft(
            "add table netdev t { chain c { type filter hook ingress device s0 priority 0; udp dport 547 @th,64,8 5 drop; }; }",
        );
        until("rebound lease", || self.answered("Rebind") > 0);
        self.server.nft("delete table netdev t");
        assert_eq!(self.bound(), Some(its), "{:?}", self.listed());
    }

    fn released(&self) {
        until("release", || self.listed().iter().any(|lease| lease["state"] == "released"));
    }

    fn has_its_address(&self) -> bool {
        let its = self.bound().unwrap();
        self.client.ip("-6 addr show dev c0").contains(&its)
    }
}

const NETWORKD: &str = "mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network /run/systemd/netif
printf '%s\\n' [Match] Name=c0 [Network] DHCP=ipv6 IPv6AcceptRA=yes >/run/systemd/network/c0.network
export SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console
exec /lib/systemd/systemd-networkd
";

/// That of Debian 12 releases nothing of IPv6.
#[test]
fn systemd_networkd_hears_the_router_leases_renews_and_rebinds() {
    let site = Site::advertising(SHORT);
    let (_running, _) = as_in_a_container(&site, "networkd", NETWORKD);
    site.leased_renewed_and_rebound();
    until("address", || site.has_its_address());
    let routes = site.client.ip("-6 route show default");
    assert!(routes.contains("via fe80:"), "{routes}");
}

#[test]
fn dhcpcd_hears_the_router_leases_renews_rebinds_and_releases() {
    let site = Site::advertising(SHORT);
    let line = "mount -t tmpfs none /var/lib/dhcpcd\nexec dhcpcd -6 -B -d -c /bin/true c0\n";
    let (_running, _) = as_in_a_container(&site, "dhcpcd", line);
    site.leased_renewed_and_rebound();
    assert!(site.has_its_address());
    let mut pids = site.client.command("ip");
    let pids = checked(pids.args(["netns", "pids", &site.client.name]));
    for pid in pids.split_whitespace() {
        // SIGALRM: release, and exit (dhcpcd(8)).
        let _ = Command::new("kill").args(["-ALRM", pid]).stderr(Stdio::null()).status();
    }
    site.released();
}

#[test]
fn dhclient_leases_renews_rebinds_and_releases() {
    let site = Site::advertising(SHORT);
    let path = |name: &str| site.dir.path().join(name);
    let files = |command: &mut Command| {
        command.arg("-lf").arg(path("dhclient.leases")).arg("-pf").arg(path("dhclient.pid"));
        command.args(["-sf", "/bin/true", "c0"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
    };
    let mut command = site.client.command("dhclient");
    files(command.args(["-6", "-d"]));
    let _running = Running(command.spawn().unwrap());
    site.leased_renewed_and_rebound();
    let mut release = site.client.command("timeout");
    files(release.args(["20", "dhclient", "-6", "-r"]));
    checked(&mut release);
    site.released();
}

const DIBBLER: &str = "for dir in /etc/dibbler /var/lib/dibbler /var/log/dibbler; do mount -t tmpfs none $dir; done
printf '%s\\n' 'log-level 8' 'iface c0 {' ia 'option dns-server' 'option domain' '}' >/etc/dibbler/client.conf
exec dibbler-client run
";

#[test]
fn dibbler_leases_renews_rebinds_and_releases() {
    let site = Site::advertising(SHORT);
    let (running, _) = as_in_a_container(&site, "dibbler", DIBBLER);
    site.leased_renewed_and_rebound();
    assert!(site.has_its_address());
    checked(Command::new("kill").arg(running.0.id().to_string()));
    site.released();
}

const WIDE: &str = "mount -t tmpfs none /var/lib/dhcpv6
printf '%s\\n' 'interface c0 { send ia-na 0; request domain-name-servers; request domain-name; };' 'id-assoc na 0 { };' >/run/c.conf
exec dhcp6c -f -D -c /run/c.conf -p /run/c.pid c0
";

/// Its second RENEW would come later than its lease ends: it rebinds longer ones only.
#[test]
fn wide_leases_renews_and_releases() {
    let site = Site::advertising(SHORT);
    let (running, _) = as_in_a_container(&site, "wide", WIDE);
    site.leased_and_renewed();
    assert!(site.has_its_address());
    checked(Command::new("kill").arg(running.0.id().to_string()));
    site.released();
}

/// Its own client; that of Debian 12 releases nothing.
#[test]
fn network_manager_hears_the_router_leases_renews_and_rebinds() {
    let site = Site::advertising(SHORT);
    let script = NETWORK_MANAGER.replace(
        "[ipv4] method=auto [ipv6] method=disabled",
        "[ipv4] method=disabled [ipv6] method=auto",
    );
    let (_running, _) = as_in_a_container(&site, "nm", &script);
    site.leased_renewed_and_rebound();
    until("address", || site.has_its_address());
}

/// Hosts that make their addresses have them, and what else there is by an INFORMATION-REQUEST.
#[test]
fn v15_a_stateless_host_makes_its_address_and_asks_for_the_rest() {
    let mut site = Site::silent();
    site.server.ip("addr add fd00::1/64 dev s0 nodad");
    site.launch_as("true", "--router-advertisements=stateless --domain=lan --log=debug");
    until("router advertisements", || site.server_log().contains("serving router adv"));
    let (_running, log) = as_in_a_container(&site, "networkd", NETWORKD);
    until("answer", || site.answered("InformationRequest") > 0);
    until("address", || site.client.ip("-6 addr show dev c0 scope global").contains("fd00::"));
    assert_eq!(site.listed().len(), 0, "{}", fs::read_to_string(log).unwrap());
}
