//! Who sits on netfilter's hooks, modules of the kernel too: nfnetlink_hook (linux/netfilter/nfnetlink_hook.h), written
//! as `nft list hooks` writes it.

use std::fmt::Write;

use super::Family;
use super::attr::{Attributes, Header, Message, Writer};
use super::text::hook_name;

/// NFNL_SUBSYS_HOOK.
const SUBSYSTEM: u16 = 12;
/// NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH.
const DUMP: u16 = 0x301;
/// NFNLA_HOOK_*.
const NUMBER: u16 = 1;
const PRIORITY: u16 = 2;
const DEVICE: u16 = 3;
const FUNCTION: u16 = 4;
const MODULE: u16 = 5;
const CHAIN_INFO: u16 = 6;
/// Hooks of the families that have five: prerouting to postrouting.
const FIVE: std::ops::Range<u32> = 0..5;

/// A hook to be asked about, and the family it is shown under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    shown: Family,
    family: Family,
    number: u32,
    device: Option<String>,
}

/// Something that is called at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    family: Family,
    number: u32,
    device: Option<String>,
    priority: i32,
    what: String,
    module: Option<String>,
}

/// What is to be asked. A device has an ingress and an egress of its own; `devices` are all there are.
pub fn queries(family: Option<Family>, device: Option<&str>, devices: &[String]) -> Vec<Query> {
    let query = |shown, family, number, device: Option<&str>| Query {
        shown,
        family,
        number,
        device: device.map(str::to_owned),
    };
    let ingress = |shown| device.map(|name| query(shown, Family::NETDEV, 0, Some(name)));
    let five = |family: Family| FIVE.map(move |number| query(family, family, number, None));
    match family {
        Some(Family::ARP) => {
            (0..2).map(|number| query(Family::ARP, Family::ARP, number, None)).collect()
        }
        Some(Family::NETDEV) => {
            let all = devices.iter().map(String::as_str).filter(|_| device.is_none());
            let named = device.into_iter().chain(all);
            named
                .flat_map(|name| (0..2).map(move |number| (number, name)))
                .map(|(number, name)| query(Family::NETDEV, Family::NETDEV, number, Some(name)))
                .collect()
        }
        Some(Family::INET) => {
            let ip = queries(Some(Family::IP), device, devices);
            ip.into_iter().chain(queries(Some(Family::IP6), device, devices)).collect()
        }
        Some(family) => ingress(family).into_iter().chain(five(family)).collect(),
        None => [Family::ARP, Family::INET, Family::BRIDGE, Family::NETDEV]
            .into_iter()
            .flat_map(|family| {
                let device = device.filter(|_| family == Family::NETDEV);
                queries(Some(family), device, devices)
            })
            .collect(),
    }
}

impl Query {
    /// The message that asks for it.
    pub fn request(&self, sequence: u32) -> Vec<u8> {
        let header = Header {
            kind: SUBSYSTEM << 8,
            flags: DUMP,
            sequence,
            family: self.family.0,
            ..Header::default()
        };
        let mut writer = Writer::new();
        writer.message(header, |w| {
            if let Some(device) = &self.device {
                w.text(DEVICE, device);
            }
            w.u32(NUMBER, self.number);
        });
        writer.into_bytes()
    }

    /// One of the answers to it.
    pub fn entry(&self, message: &Message<'_>) -> Option<Entry> {
        if message.kind >> 8 != SUBSYSTEM {
            return None;
        }
        let attributes = message.attributes();
        let chain = attributes.nest(CHAIN_INFO).and_then(described);
        Some(Entry {
            family: self.shown,
            // Of the device's own hook when the family has it at another number.
            number: if self.shown == self.family { self.number } else { INGRESS },
            device: self.device.clone(),
            priority: attributes.i32(PRIORITY)?,
            what: chain.or_else(|| attributes.text(FUNCTION)).unwrap_or_default(),
            module: attributes.text(MODULE),
        })
    }
}

/// NF_INET_INGRESS; the ingress of a device, among hooks of a family that has none.
const INGRESS: u32 = 5;

/// `chain inet t c`: NFNLA_HOOK_INFO_* and what is described by them.
fn described(info: Attributes<'_>) -> Option<String> {
    const CHAIN: u32 = 1;
    const BPF: u32 = 2;
    const FLOWTABLE: u32 = 3;
    let (description, kind) = (info.nest(1)?, info.u32(2)?);
    let noun = match kind {
        CHAIN => "chain",
        FLOWTABLE => "flowtable",
        BPF => return Some(format!("bpf id {}", description.u32(1)?)),
        _ => return None,
    };
    let family = Family(description.u8(2)?);
    Some(format!("{noun} {family} {} {}", description.text(1)?, description.text(3)?))
}

/// By family and hook, in the order they are called.
pub fn text(entries: &[Entry]) -> String {
    let mut out = String::new();
    for family in entries.chunk_by(|a, b| a.family == b.family) {
        let Some(first) = family.first() else { continue };
        let _ = writeln!(out, "family {} {{", first.family);
        for hook in family.chunk_by(|a, b| (a.number, &a.device) == (b.number, &b.device)) {
            hook_text(&mut out, hook);
        }
        out.push_str("}\n");
    }
    out
}

fn hook_text(out: &mut String, hook: &[Entry]) {
    let Some(Entry { family, number, device, .. }) = hook.first() else { return };
    let name = if *number == INGRESS { "ingress" } else { hook_name(*family, *number) };
    let device = device.as_ref().map_or_else(String::new, |device| format!(" device {device}"));
    let _ = writeln!(out, "\thook {name}{device} {{");
    for Entry { priority, what, module, .. } in hook {
        let sign = match priority {
            0 => ' ',
            ..0 => '-',
            _ => '+',
        };
        let module = module.as_ref().map_or_else(String::new, |module| format!(" [{module}]"));
        let _ = writeln!(out, "\t\t{sign}{:010} {what}{module}", priority.unsigned_abs());
    }
    out.push_str("\t}\n");
}

#[cfg(test)]
mod tests {
    use super::super::attr::Messages;
    use super::*;

    fn answer(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.message(Header { kind: SUBSYSTEM << 8, ..Header::default() }, fill);
        writer.into_bytes()
    }

    fn chain(kind: u32, family: Family, table: &str, name: &str) -> Vec<u8> {
        answer(|w| {
            w.u32(PRIORITY, 0);
            w.text(FUNCTION, "nft_do_chain_inet");
            w.text(MODULE, "nf_tables");
            w.nest(CHAIN_INFO, |w| {
                w.u32(2, kind);
                w.nest(1, |w| {
                    w.text(1, table);
                    w.u8(2, family.0);
                    w.text(3, name);
                });
            });
        })
    }

    fn function(priority: i32, name: &str, module: Option<&str>) -> Vec<u8> {
        answer(|w| {
            w.bytes(PRIORITY, &priority.to_be_bytes());
            w.text(FUNCTION, name);
            if let Some(module) = module {
                w.text(MODULE, module);
            }
        })
    }

    #[test]
    fn a_hook_is_written_as_nft_writes_it() {
        let asked = queries(Some(Family::IP), Some("eth0"), &[]);
        assert_eq!(asked.len(), 6);
        let answers = [
            vec![chain(1, Family::NETDEV, "x", "y")],
            vec![
                function(-400, "ipv4_conntrack_defrag", Some("nf_defrag_ipv4")),
                chain(1, Family::INET, "t", "pre"),
            ],
            vec![function(i32::MAX, "nf_confirm", Some("nf_conntrack"))],
            vec![],
            vec![function(-225, "selinux_ip_output", None)],
            vec![chain(3, Family::INET, "t", "f")],
        ];
        let found: Vec<Entry> = asked
            .iter()
            .zip(&answers)
            .flat_map(|(query, answers)| {
                let messages = answers.iter().flat_map(|bytes| Messages(bytes));
                messages.filter_map(|message| query.entry(&message)).collect::<Vec<_>>()
            })
            .collect();
        let wanted = "family ip {\n\
            \thook ingress device eth0 {\n\
            \t\t 0000000000 chain netdev x y [nf_tables]\n\
            \t}\n\
            \thook prerouting {\n\
            \t\t-0000000400 ipv4_conntrack_defrag [nf_defrag_ipv4]\n\
            \t\t 0000000000 chain inet t pre [nf_tables]\n\
            \t}\n\
            \thook input {\n\
            \t\t+2147483647 nf_confirm [nf_conntrack]\n\
            \t}\n\
            \thook output {\n\
            \t\t-0000000225 selinux_ip_output\n\
            \t}\n\
            \thook postrouting {\n\
            \t\t 0000000000 flowtable inet t f [nf_tables]\n\
            \t}\n\
            }\n";
        assert_eq!(text(&found), wanted);
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn every_hook_of_a_family_is_asked_about() {
        let devices = ["lo".to_owned(), "eth0".to_owned()];
        let count = |family, device: Option<&str>| queries(family, device, &devices).len();
        assert_eq!(count(Some(Family::ARP), None), 2);
        assert_eq!(count(Some(Family::NETDEV), None), 4);
        assert_eq!(count(Some(Family::NETDEV), Some("eth0")), 2);
        assert_eq!(count(Some(Family::INET), None), 10);
        assert_eq!(count(None, None), 2 + 10 + 5 + 4);
        assert_eq!(count(None, Some("lo")), 2 + 10 + 5 + 2);
        let bytes = queries(Some(Family::NETDEV), Some("lo"), &devices)[1].request(7);
        #[rustfmt::skip]
        let wanted = [
            36, 0, 0, 0, 0, 12, 1, 3, 7, 0, 0, 0, 0, 0, 0, 0,
            5, 0, 0, 0,
            7, 0, 3, 0, b'l', b'o', 0, 0,
            8, 0, 1, 0, 0, 0, 0, 1,
        ];
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_none() {
        let query = &queries(Some(Family::IP), None, &[])[0];
        for bytes in [answer(|_| {}), answer(|w| w.u8(PRIORITY, 1)), chain(9, Family::IP, "", "")] {
            for message in Messages(&bytes) {
                let _ = query.entry(&message);
            }
        }
        let other = Message { kind: 10 << 8, flags: 0, sequence: 0, body: &[] };
        assert_eq!(query.entry(&other), None);
    }
}
