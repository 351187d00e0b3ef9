//! D26, D46: BOOTP, and who boots from the network.

use crate::dhcp::packet::*;
use crate::dhcp::wire::Wire;

cases! {
    Office:
        d26_bootp_is_answered_for_a_reservation,
        d26_bootp_of_others_meets_silence,
        d46_the_boot_file_is_chosen_by_architecture,
        d46_ipxe_is_recognised,
        d46_http_boot_needs_its_class_echoed,
        d46_who_does_not_boot_gets_no_file;
    Small:
        d26_without_bootp_there_is_silence;
}

const PRINTER: Mac = [0x52, 0x54, 0, 0, 0, 0x77];
const PXE: &[u8] = b"\x3c\x20PXEClient:Arch:00000:UNDI:002001";

fn d26_bootp_is_answered_for_a_reservation(wire: &mut dyn Wire) {
    let reply = wire.reply(&Packet::new(PRINTER, &[]));
    assert_eq!((reply.kind(), reply.yiaddr().octets()), (0, [10, 0, 0, 77]));
    assert_eq!((reply.siaddr().octets(), reply.file()), ([10, 0, 0, 69], "lpxelinux.0"));
    assert_eq!(reply.bytes.len(), 300);
    assert_eq!(reply.option(1), Some(vec![255, 255, 255, 0]));
    assert!([51, 52, 54].iter().all(|&code| reply.option(code).is_none()));
    assert_eq!(reply.to, To { address: [10, 0, 0, 77].into(), port: 68, mac: Some(PRINTER) });
    // As RFC 951 had it: no cookie, a vendor field of no meaning.
    let plain = wire.reply(&Packet::new(PRINTER, &[]).set(236, &[0; 5]));
    assert_eq!((plain.yiaddr().octets(), &plain.bytes[236..240]), ([10, 0, 0, 77], &[0; 4][..]));
}

fn d26_bootp_of_others_meets_silence(wire: &mut dyn Wire) {
    wire.silence(&Packet::new(mac(1), &[]));
    wire.silence(&Packet::new(mac(1), &[]).set(236, &[0; 5]));
}

fn d26_without_bootp_there_is_silence(wire: &mut dyn Wire) {
    wire.silence(&Packet::new(PRINTER, &[]));
}

fn d46_the_boot_file_is_chosen_by_architecture(wire: &mut dyn Wire) {
    for (architecture, file) in
        [(&[0, 0][..], "lpxelinux.0"), (&[0, 7], "grubx64.efi"), (&[0, 9, 0, 7], "grubx64.efi")]
    {
        let option = [&[93, u8::try_from(architecture.len()).unwrap()], architecture].concat();
        let reply =
            wire.reply(&Packet::new(mac(1), &[DISCOVER, PXE, &option, &[55, 3, 1, 66, 67]]));
        assert_eq!((reply.file(), reply.text(67).as_deref()), (file, Some(file)));
        assert_eq!(
            (reply.siaddr().octets(), reply.text(66).as_deref()),
            ([10, 0, 0, 69], Some("10.0.0.69"))
        );
        assert!(reply.bytes.len() <= 548);
    }
}

fn d46_ipxe_is_recognised(wire: &mut dyn Wire) {
    for ipxe in [&b"\x4d\x04iPXE"[..], b"\x4d\x05\x04iPXE", &[175, 3, 177, 1, 1]] {
        let reply = wire.reply(&Packet::new(mac(1), &[DISCOVER, PXE, &[93, 2, 0, 7], ipxe]));
        assert_eq!(reply.file(), "http://10.0.0.69/script.ipxe");
    }
}

fn d46_http_boot_needs_its_class_echoed(wire: &mut dyn Wire) {
    let class = b"\x3c\x21HTTPClient:Arch:00016:UNDI:003001";
    let reply =
        wire.reply(&Packet::new(mac(1), &[DISCOVER, class, &[93, 2, 0, 16], &[55, 2, 1, 67]]));
    assert_eq!(reply.text(60).as_deref(), Some("HTTPClient"));
    assert_eq!(reply.text(67).as_deref(), Some("http://10.0.0.69/grubx64.efi"));
    let pxe = wire.reply(&Packet::new(mac(1), &[DISCOVER, PXE]));
    assert_eq!(pxe.option(60), None);
}

fn d46_who_does_not_boot_gets_no_file(wire: &mut dyn Wire) {
    let reply = wire.reply(&Packet::new(mac(1), &[DISCOVER, b"\x3c\x08MSFT 5.0", &[55, 2, 1, 3]]));
    assert_eq!((reply.file(), reply.option(67), reply.option(66)), ("", None, None));
}
