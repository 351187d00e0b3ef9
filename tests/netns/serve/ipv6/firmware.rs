//! UEFI that boots by IPv6: it has its boot file's URL from us (RFC 5970), and asks for the file.

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use crate::serve::{Running, Site};

const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Some 10 s of a processor, most of it emulated.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn uefi_asks_for_the_boot_file_that_it_is_told() {
    let site = Site::advertising("--no-dns --boot-file6=tftp://[fd00::1]/boot.efi");
    for words in [
        "link add b0 type bridge forward_delay 0",
        "tuntap add dev t0 mode tap",
        "link set c0 master b0",
        "link set t0 master b0 up",
        "link set b0 up",
    ] {
        site.client.ip(words);
    }
    site.client.run("sysctl -qw net.bridge.bridge-nf-call-ip6tables=0");
    let tftp = site.server.within(|| UdpSocket::bind("[fd00::1]:69").unwrap());
    tftp.set_read_timeout(Some(PATIENCE)).unwrap();

    let variables = site.dir.path().join("variables");
    std::fs::copy(VARIABLES, &variables).unwrap();
    let (log, _) = site.log("qemu");
    let mut qemu = site.client.command("qemu-system-x86_64");
    qemu.args(["-machine", "q35,accel=tcg", "-m", "512", "-nodefaults", "-display", "none"]);
    qemu.args(["-serial", "stdio", "-drive"]);
    qemu.arg(format!("if=pflash,format=raw,readonly=on,file={CODE}"));
    qemu.arg("-drive").arg(format!("if=pflash,format=raw,file={}", variables.display()));
    // Else it waits a minute for a server of IPv4.
    qemu.args(["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]);
    qemu.args(["-netdev", "tap,id=n,ifname=t0,script=no,downscript=no"]);
    qemu.args(["-device", "virtio-net-pci,netdev=n,romfile="]);
    qemu.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let _qemu = Running(qemu.spawn().unwrap());

    let mut request = [0; 512];
    let asked = tftp.recv_from(&mut request).map(|(length, _)| request[..length].to_vec());
    let said = || std::fs::read_to_string(site.dir.path().join("qemu")).unwrap_or_default();
    let asked = asked.unwrap_or_else(|error| panic!("{error}: {}\n{}", said(), site.server_log()));
    // A read request (RFC 1350 §5).
    assert!(asked.starts_with(b"\0\x01boot.efi\0"), "{}", String::from_utf8_lossy(&asked));
    assert!(site.answered("Request") > 0, "{}", site.server_log());
}
