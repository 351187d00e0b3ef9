//! What a guest that runs does not do and should, by the names of [`crate::faults`]: looked for from time to time after each
//! start of QEMU, told once in the log, and shown for as long as it is so.
//!
//! ```text
//! QEMU runs the guest ── 15 s ── 60 s ─────────────── 120 s
//!                        its screen of text: nothing to boot?
//!                                its config drive: unread?
//!                                                     no address by DHCP: who sends what on the tap?
//! an address by DHCP ─► all of it is forgotten but the config drive
//! ```
//!
//! A guest that does as it should costs four looks, and nothing that a packet would notice.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

use crate::console::Hub;
use crate::faults::{self, Fault, Finding};
use crate::net::{IfName, MacAddr};
use crate::serve::Tally;
use crate::supervise::{MachineStatus, Monitor, Phase};
use crate::sys::frames::Frames;
use crate::sys::link::Links;

/// After the guest first ran.
const FIRMWARE: Duration = Duration::from_secs(15);
const CONFIG_DRIVE: Duration = Duration::from_secs(60);
const SILENT: Duration = Duration::from_secs(120);
/// How long a silent guest's frames are looked at, and how many.
const LISTEN: Duration = Duration::from_secs(10);
const MAX_FRAMES: usize = 256;
/// The end of what the guest wrote that is looked through.
const MAX_WRITTEN: usize = 16 * 1024;
/// What SeaBIOS says once it has tried all there is (its src/boot.c).
const NOTHING_TO_BOOT: &str = "No bootable device";
const BANNER: &str = "SeaBIOS (version";
/// Senders that are named.
const MAX_SENDERS: usize = 4;

/// What is known of the guest beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub tap: IfName,
    /// Of the guest's card, and of the gateway, which sends on the tap too.
    pub mac: MacAddr,
    pub gateway: MacAddr,
    /// It is to take its address by DHCP (`NO_DHCP` is not set).
    pub asks: bool,
    /// It has a config drive.
    pub seed: bool,
}

/// Whom is asked.
#[derive(Debug)]
pub(super) struct Watch {
    pub expected: Expected,
    pub machine: watch::Receiver<MachineStatus>,
    pub acked: watch::Receiver<Option<Instant>>,
    pub monitor: Monitor,
    pub hub: Hub,
    pub findings: watch::Sender<Vec<Finding>>,
}

impl Watch {
    /// Each run of QEMU anew, for as long as the task lives. A guest that goes on where it was suspended does not start.
    pub(super) async fn run(mut self) {
        loop {
            let runs = |status: &MachineStatus| status.phase == Phase::Running;
            let Ok((started, is_resumed)) =
                self.machine.wait_for(runs).await.map(|status| (status.started, status.is_resumed))
            else {
                return;
            };
            let mut machine = self.machine.clone();
            let ended = machine.wait_for(|status| status.started != started);
            tokio::select! {
                gone = ended => if gone.is_err() { return },
                () = self.look(started), if !is_resumed => {}
            }
            for fault in [
                &faults::NO_BOOT,
                &faults::CONFIG_DRIVE_UNREAD,
                &faults::GUEST_SILENT,
                &faults::GUEST_STATIC,
            ] {
                self.clear(fault);
            }
        }
    }

    /// One run, without an end.
    async fn look(&self, started: Option<Instant>) {
        let began = tokio::time::Instant::now();
        let sent = self.sent().await;
        let at = |after: Duration| sleep_until(began + after);
        let mut acked = self.acked.clone();
        let firmware = async {
            for after in [FIRMWARE, CONFIG_DRIVE, SILENT] {
                at(after).await;
                if !self.has_address(started) {
                    self.look_at_firmware();
                }
            }
        };
        let config_drive = async {
            at(CONFIG_DRIVE).await;
            self.look_at_config_drive().await;
        };
        let silent = async {
            at(SILENT).await;
            if self.expected.asks && !self.has_address(started) {
                self.look_at_tap(started, sent).await;
            }
        };
        let addressed = async {
            loop {
                if self.has_address(started) {
                    self.given_address();
                }
                if acked.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::join!(firmware, config_drive, silent, addressed);
    }

    fn has_address(&self, started: Option<Instant>) -> bool {
        started.is_some_and(|started| self.acked.borrow().is_some_and(|at| at >= started))
    }

    fn given_address(&self) {
        for fault in [&faults::NO_BOOT, &faults::GUEST_SILENT, &faults::GUEST_STATIC] {
            self.clear(fault);
        }
    }

    fn look_at_firmware(&self) {
        let written = self.hub.replay(MAX_WRITTEN);
        let text = String::from_utf8_lossy(&written);
        // What comes before its banner is of another run.
        let text = text.rsplit_once(BANNER).map_or("", |(_, text)| text);
        if text.contains(NOTHING_TO_BOOT) {
            self.tell(
                faults::NO_BOOT.found(format_args!("the firmware says \"{NOTHING_TO_BOOT}\"")),
            );
        }
    }

    /// Until it is read, once it was not.
    async fn look_at_config_drive(&self) {
        if !self.expected.seed {
            return;
        }
        loop {
            match self.reads_of_config_drive().await {
                Some(0) => self.tell(faults::CONFIG_DRIVE_UNREAD.found(
                    "a minute after its start the guest has read nothing of its config drive",
                )),
                Some(_) => return self.clear(&faults::CONFIG_DRIVE_UNREAD),
                None => {}
            }
            sleep(CONFIG_DRIVE).await;
        }
    }

    /// Operations; None where QEMU does not say.
    async fn reads_of_config_drive(&self) -> Option<u64> {
        let answer = self.monitor.ask("query-blockstats", None, None).await.ok()?;
        let drive = answer.as_array()?.iter().find(|drive| {
            drive.get("device").and_then(serde_json::Value::as_str) == Some("seed0")
        })?;
        drive.get("stats")?.get("rd_operations")?.as_u64()
    }

    /// A guest without an address: does it send anything, and as whom?
    async fn look_at_tap(&self, started: Option<Instant>, before: Option<u64>) {
        let Expected { tap, mac, gateway, .. } = &self.expected;
        let sent = self.sent().await.map(|sent| sent.saturating_sub(before.unwrap_or(0)));
        let card = self.card().await;
        let heard = listen(tap, *gateway).await;
        if self.has_address(started) {
            return;
        }
        let after = SILENT.as_secs();
        let mut seen = format!("{after} s after its start the guest has no address by DHCP");
        match (sent, &heard) {
            (Some(0), _) => seen.push_str("; the tap saw no frame of it"),
            (Some(sent), Ok(senders)) if senders.is_empty() => {
                seen.push_str(&format!(
                    "; {sent} frames came by the tap, none within the last 10 s"
                ));
            }
            (Some(sent), _) => seen.push_str(&format!("; {sent} frames came by the tap")),
            (None, _) => {}
        }
        if heard.is_err() && sent != Some(0) {
            seen.push_str(", whose is not seen without CAP_NET_RAW");
        }
        if let Some(card) = card.filter(|card| *card != mac.to_string()) {
            seen.push_str(&format!("; the guest has set its card to {card}"));
        }
        let senders = heard.unwrap_or_default();
        if !senders.is_empty() {
            let named = senders.iter().map(|(mac, what)| format!("{mac} ({})", what.words()));
            seen.push_str(", from ");
            seen.push_str(&named.take(MAX_SENDERS).collect::<Vec<_>>().join(", "));
        }
        let address = senders.values().find_map(|sender| sender.address);
        let others = senders.keys().find(|sender| *sender != mac);
        self.tell(match (address, others) {
            (Some(address), _) => {
                faults::GUEST_STATIC.found(format_args!("{seen}; it speaks ARP as {address}"))
            }
            (None, Some(_)) => {
                faults::GUEST_SILENT.found(format_args!("{seen}; its card is {mac}"))
            }
            (None, None) => faults::GUEST_SILENT.found(seen),
        });
    }

    /// Frames of this guest and those before it, by the tap, which outlives them.
    async fn sent(&self) -> Option<u64> {
        let links = Links::open().ok()?;
        let statistics = links.statistics(&self.expected.tap).await.ok()?;
        statistics.map(|statistics| statistics.rx_packets)
    }

    /// The MAC address that the guest's driver has set (query-rx-filter, qapi/net.json).
    async fn card(&self) -> Option<String> {
        let answer = self.monitor.ask("query-rx-filter", None, None).await.ok()?;
        Some(answer.as_array()?.first()?.get("main-mac")?.as_str()?.chars().take(17).collect())
    }

    /// Once in the log for each time that it begins.
    fn tell(&self, finding: Finding) {
        let is_new = !self.findings.borrow().iter().any(|known| known.id == finding.id);
        if is_new {
            tracing::warn!("{finding}");
        }
        self.findings.send_modify(|all| set(all, finding));
    }

    fn clear(&self, fault: &Fault) {
        clear(&self.findings, fault);
    }
}

/// Whether who was given the address has the MAC address of the guest's card, for as long as the task lives. For who serves.
pub async fn look_at_client(tally: Tally, mac: MacAddr, findings: watch::Sender<Vec<Finding>>) {
    let mut acked = tally.acked();
    while acked.changed().await.is_ok() {
        match tally.counted().client {
            // Said in the log by who answered.
            Some(client) if client != mac => findings.send_modify(|all| {
                let seen = format!("its card is {mac}, and {client} was given the address");
                set(all, faults::GUEST_OTHER_MAC.found(seen));
            }),
            _ => clear(&findings, &faults::GUEST_OTHER_MAC),
        }
    }
}

fn clear(findings: &watch::Sender<Vec<Finding>>, fault: &Fault) {
    findings.send_if_modified(|all| {
        let before = all.len();
        all.retain(|finding| finding.id != fault.id);
        all.len() != before
    });
}

fn set(all: &mut Vec<Finding>, finding: Finding) {
    all.retain(|known| known.id != finding.id);
    all.push(finding);
}

/// What somebody sent.
#[derive(Debug, Clone, Default)]
struct Sender {
    kinds: BTreeSet<Cow<'static, str>>,
    /// Which address it speaks ARP for, where that is one.
    address: Option<Ipv4Addr>,
}

impl Sender {
    fn words(&self) -> String {
        self.kinds.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
    }
}

/// Who sends on a tap, besides the gateway. An error: this process may not see (CAP_NET_RAW).
async fn listen(tap: &IfName, gateway: MacAddr) -> std::io::Result<BTreeMap<MacAddr, Sender>> {
    let frames = Frames::every(tap).map_err(std::io::Error::other)?;
    let mut senders: BTreeMap<MacAddr, Sender> = BTreeMap::new();
    let hearing = async {
        for _ in 0..MAX_FRAMES {
            let Ok(frame) = frames.next().await else { return };
            let Some((mac, kind, address)) = read(&frame) else { continue };
            if mac == gateway || (senders.len() >= MAX_SENDERS && !senders.contains_key(&mac)) {
                continue;
            }
            let sender = senders.entry(mac).or_default();
            if sender.kinds.len() < MAX_SENDERS {
                sender.kinds.insert(kind);
            }
            sender.address = sender.address.or(address);
        }
    };
    let _ = timeout(LISTEN, hearing).await;
    Ok(senders)
}

/// From whom, of which protocol, and ARP's sender address (RFC 826), where that is one.
fn read(frame: &[u8]) -> Option<(MacAddr, Cow<'static, str>, Option<Ipv4Addr>)> {
    let mac = MacAddr(frame.get(6..12)?.try_into().ok()?);
    let ethertype = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let kind = match ethertype {
        0x0800 => "IPv4".into(),
        0x0806 => "ARP".into(),
        0x86dd => "IPv6".into(),
        other => format!("ethertype {other:#06x}").into(),
    };
    let address = (ethertype == 0x0806).then(|| frame.get(28..32)).flatten();
    let address = address.and_then(|octets| <[u8; 4]>::try_from(octets).ok());
    let address = address.map(Ipv4Addr::from).filter(|address| !address.is_unspecified());
    Some((mac, kind, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_who_sent_it_and_for_which_address() {
        let mut arp = [[0xff; 6], [2, 0, 0, 0, 0, 9]].concat();
        arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 1, 2, 3]);
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        assert_eq!(read(&arp), Some((mac, "ARP".into(), Some([10, 1, 2, 3].into()))));
        // A probe (RFC 5227) has no address yet.
        arp[28..32].fill(0);
        assert_eq!(read(&arp), Some((mac, "ARP".into(), None)));
        assert_eq!(read(&arp[..30]), Some((mac, "ARP".into(), None)));
        assert_eq!(read(&arp[..13]), None);
    }
}
