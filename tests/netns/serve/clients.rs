//! The clients that people have, each from its first lease to its last.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::serve::{Running, Site};
use crate::support::{checked, until};

fn dhclient(site: &Site, lease: &str) -> (Running, PathBuf) {
    let (script, _) = site.script();
    let path = |name: &str| site.dir.path().join(name);
    fs::write(path("dhclient.leases"), lease).unwrap();
    fs::write(path("dhclient.conf"), "timeout 20;\nretry 1;\ninitial-interval 1;\n").unwrap();
    let (log, log_path) = site.log("dhclient.log");
    let mut command = site.client.command("dhclient");
    command.args(["-4", "-d", "-v", "-sf"]).arg(script).arg("-cf").arg(path("dhclient.conf"));
    command.arg("-lf").arg(path("dhclient.leases")).arg("-pf").arg(path("dhclient.pid")).arg("c0");
    (Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap()), log_path)
}

#[test]
fn dhclient_leases_renews_rebinds_and_releases() {
    let site = Site::new("--lease-time=12 --min-lease-time=12");
    let (_running, log) = dhclient(&site, "");
    let says = |words: &str| fs::read_to_string(&log).unwrap().contains(words);
    until("lease", || site.told().contains("BOUND 10.0.1.1"));
    until("renewal", || says("DHCPREQUEST for 10.0.1.1 on c0 to 10.0.0.1 port 67"));
    until("renewed lease", || site.told().contains("RENEW 10.0.1.1"));
    site.deaf_to_renewals();
    let rebound =
        "to 10.0.0.1 port 67\nDHCPREQUEST for 10.0.1.1 on c0 to 255.255.255.255 port 67\nDHCPACK";
    until("rebinding", || says(rebound));
    site.server.nft("delete table netdev t");
    let path = |name: &str| site.dir.path().join(name);
    let mut release = site.client.command("timeout");
    release.args(["20", "dhclient", "-4", "-r", "-v", "-sf"]).arg(path("script"));
    release.arg("-lf").arg(path("dhclient.leases")).arg("-pf").arg(path("dhclient.pid")).arg("c0");
    checked(&mut release);
    until("release", || site.listed()[0]["state"] == "released");
}

#[test]
fn dhclient_with_a_lease_of_another_network_recovers_from_the_nak() {
    let lease = "lease {\n interface \"c0\";\n fixed-address 192.168.77.5;\n option subnet-mask 255.255.255.0;\n \
                 option dhcp-lease-time 90000;\n option dhcp-server-identifier 192.168.77.1;\n \
                 renew 6 2037/01/01 00:00:00;\n rebind 6 2037/01/01 00:00:00;\n expire 6 2037/01/01 00:00:00;\n}\n";
    let site = Site::new("");
    let (_running, log) = dhclient(&site, lease);
    until("lease", || site.told().contains("BOUND 10.0.1.1"));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("DHCPNAK from 10.0.0.1"), "{log}");
}

#[test]
fn udhcpc_leases_renews_rebinds_releases_and_recovers_from_a_nak() {
    let mut site = Site::new("--lease-time=8 --min-lease-time=8");
    let (script, _) = site.script();
    let (log, log_path) = site.log("udhcpc.log");
    let mut command = site.client.command("busybox");
    command
        .args(["udhcpc", "-i", "c0", "-f", "-R", "-t", "5", "-T", "1", "-A", "1", "-s"])
        .arg(script);
    let running = Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    until("lease", || site.told().contains("bound 10.0.1.1"));
    until("renewal", || site.told().contains("renew 10.0.1.1"));
    site.deaf_to_renewals();
    let renewals = || site.told().matches("renew").count();
    let before = renewals();
    until("rebinding", || renewals() > before);
    site.server.nft("delete table netdev t");
    site.take_over("--lease-time=8 --min-lease-time=8");
    until("another lease", || site.told().contains("bound 10.0.1.2"));
    assert!(site.told().contains("nak"), "{}", site.told());
    let pid = running.0.id().to_string();
    checked(Command::new("kill").args(["-USR2", &pid]));
    until("release", || site.listed().iter().any(|lease| lease["state"] == "released"));
    drop(fs::read(log_path));
}

#[test]
fn dhcpcd_leases_renews_rebinds_recovers_from_a_nak_and_releases() {
    const WORDS: &str = "--lease-time=20 --min-lease-time=20 --rapid-commit";
    let mut site = Site::new(WORDS);
    let (log, log_path) = site.log("dhcpcd.log");
    let mut command = site.client.command("dhcpcd");
    command.args([
        "-4",
        "-B",
        "-d",
        "-c",
        "/bin/true",
        "--noarp",
        "--nobackground",
        "-o",
        "rapid_commit",
    ]);
    command.args(["--waitip=4", "-t", "20", "c0"]);
    let running = Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let says = |words: &str| fs::read_to_string(&log_path).unwrap().matches(words).count();
    until("lease", || says("leased 10.0.1.1 for 20 seconds") > 0);
    until("renewal", || says("renewing lease of 10.0.1.1") > 0);
    until("renewed lease", || says("10.0.1.1 for 20 seconds") > 1);
    site.deaf_to_renewals();
    let before = says("acknowledged 10.0.1.1");
    until("rebinding", || says("failed to renew DHCP, rebinding") > 0);
    until("rebound lease", || says("acknowledged 10.0.1.1") > before);
    site.server.nft("delete table netdev t");
    site.take_over(WORDS);
    until("another lease", || says("leased 10.0.1.2 for 20 seconds") > 0);
    assert!(says("NAK") > 0);
    checked(site.client.command("dhcpcd").args(["-4", "-k", "c0"]));
    until("release", || site.listed().iter().any(|lease| lease["state"] == "released"));
    drop(running);
}

#[test]
fn perfdhcp_loses_nothing_and_gives_no_address_twice() {
    let site = Site::new("");
    site.client.ip("addr add 10.0.0.2/16 dev c0");
    // Without -W what is on its way when the driver ends counts as dropped.
    let words = "timeout 60 perfdhcp -4 -l c0 -r 200 -R 50000 -n 1200 -W 2000000";
    let output = {
        let mut words = words.split_whitespace();
        let mut command = site.client.command(words.next().unwrap());
        command.args(words).output().unwrap()
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("drops: 0\n").count(), 2, "{text}");
    assert_eq!(text.matches("non unique addresses: 0\n").count(), 2, "{text}");
    let acked: usize = text
        .rsplit("received packets: ")
        .next()
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(acked >= 1200, "{text}");
    assert_eq!(site.listed().len(), acked);
}

/// Runs a script in the client's namespace, with a /run of its own and a /sys that says there is no udev.
pub fn as_in_a_container(site: &Site, name: &str, script: &str) -> (Running, PathBuf) {
    let path = site.dir.path().join(name);
    fs::write(
        &path,
        format!("set -e\nmount -t tmpfs none /run\nmount -o remount,ro /sys\n{script}"),
    )
    .unwrap();
    let (log, log_path) = site.log(&format!("{name}.log"));
    let mut command = site.client.command("unshare");
    command.args(["--mount", "sh"]).arg(path).stdout(log.try_clone().unwrap()).stderr(log);
    (Running(command.spawn().unwrap()), log_path)
}

const NETWORKD: &str = "mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network /run/systemd/netif
printf '%s\\n' [Match] Name=c0 [Network] DHCP=ipv4 LinkLocalAddressing=no IPv6AcceptRA=no >/run/systemd/network/c0.network
export SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console
exec /lib/systemd/systemd-networkd
";

#[test]
fn systemd_networkd_leases_renews_rebinds_recovers_from_a_nak_and_releases() {
    const SHORT: &str = "--lease-time=10 --min-lease-time=10";
    let mut site = Site::new(SHORT);
    let (running, log) = as_in_a_container(&site, "networkd", NETWORKD);
    let says = |words: &str| fs::read_to_string(&log).unwrap().matches(words).count();
    until("lease", || {
        says("DHCPv4 address 10.0.1.1/16, gateway 10.0.0.1 acquired from 10.0.0.1") == 1
    });
    until("renewed lease", || {
        says("DHCPv4 client: REQUEST (renewing)") == 1 && says("DHCPv4 client: ACK") == 2
    });
    site.deaf_to_renewals();
    let before = says("DHCPv4 client: ACK");
    until("rebound lease", || {
        says("REQUEST (rebinding)") > 0 && says("DHCPv4 client: ACK") > before
    });
    site.server.nft("delete table netdev t");
    site.take_over(SHORT);
    until("another lease", || says("DHCPv4 address 10.0.1.2/16") > 0);
    assert!(says("DHCPv4 client: NAK") > 0);
    checked(Command::new("kill").arg(running.0.id().to_string()));
    until("release", || site.listed().iter().any(|lease| lease["state"] == "released"));
}

/// A bus, and a connection of the client's link; it reads nothing of the machine's.
pub const NETWORK_MANAGER: &str = r#"mount -t tmpfs none /var/lib/NetworkManager
mount -t tmpfs none /etc/NetworkManager
mkdir /etc/NetworkManager/system-connections
printf '%s\n' [main] plugins=keyfile dhcp=internal dns=none rc-manager=unmanaged >/etc/NetworkManager/NetworkManager.conf
cd /etc/NetworkManager/system-connections
printf '%s\n' [connection] id=c0 uuid=00000000-0000-4000-8000-000000000001 type=ethernet interface-name=c0 \
    [ipv4] method=auto [ipv6] method=disabled >c0.nmconnection
chmod 600 c0.nmconnection
allow() { for rule; do printf '<allow %s/>' "$rule"; done; }
{
    echo '<busconfig><type>system</type><listen>unix:path=/run/bus</listen><auth>EXTERNAL</auth>'
    echo '<policy context="default">'
    allow 'own="*"' 'send_type="method_call"' 'send_type="signal"'
    allow 'send_requested_reply="true" send_type="method_return"' 'send_requested_reply="true" send_type="error"'
    allow 'receive_type="method_call"' 'receive_type="signal"' 'receive_type="method_return"' 'receive_type="error"'
    echo '</policy></busconfig>'
} >/run/bus.conf
dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile &
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus
while ! [ -S /run/bus ]; do sleep 0.1; done
NetworkManager --no-daemon &
while sleep 0.5; do nmcli -g IP4.ADDRESS,IP4.GATEWAY,IP4.DNS device show c0 | tr '\n' ' ' || true; echo; done
"#;

/// Its own client (`dhcp=internal`); that of Debian 12 releases nothing.
#[test]
fn network_manager_leases_renews_rebinds_and_recovers_from_a_nak() {
    const WORDS: &str = "--lease-time=12 --min-lease-time=12 --log=debug --dns=10.0.0.53";
    let mut site = Site::new(WORDS);
    let (_running, log) = as_in_a_container(&site, "nm", NETWORK_MANAGER);
    let has = |address: &str| {
        fs::read_to_string(&log)
            .unwrap()
            .trim_end()
            .ends_with(&format!("{address}/16 10.0.0.1 10.0.0.53"))
    };
    let acked = || {
        fs::read_to_string(site.dir.path().join("log")).unwrap().matches("kind=Some(Ack)").count()
    };
    until("lease", || has("10.0.1.1"));
    until("renewed lease", || acked() >= 2);
    site.deaf_to_renewals();
    let before = acked();
    until("rebound lease", || acked() > before);
    assert!(has("10.0.1.1"));
    site.server.nft("delete table netdev t");
    site.take_over(WORDS);
    until("another lease", || has("10.0.1.2"));
}

/// The client of other small programs, on a packet socket of the test's.
#[test]
fn smoltcp_leases_renews_rebinds_and_recovers_from_a_nak() {
    const SHORT: &str = "--lease-time=8 --min-lease-time=8";
    let mut site = Site::new(SHORT);
    let client = super::smol::Client::start(&site.client, "c0");
    until("lease", || client.told().contains("10.0.1.1/16 by 10.0.0.1"));
    // smoltcp says nothing of a lease that was renewed, and gives up one that was not.
    let ends = || site.listed()[0]["expires"].clone();
    let first = ends();
    until("renewed lease", || ends() != first);
    site.deaf_to_renewals();
    let second = ends();
    until("rebound lease", || ends() != second);
    // The first line is how it begins.
    assert_eq!(client.told().matches("lost").count(), 1, "{}", client.told());
    site.server.nft("delete table netdev t");
    site.take_over(SHORT);
    until("another lease", || client.told().contains("10.0.1.2/16 by 10.0.0.1"));
}
