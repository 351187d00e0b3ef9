//! A traced packet for people.
//!
//! ```text
//! #1 +0.412s eth0: tcp 10.0.0.9:51234 > 10.1.1.2:80 syn ttl 64 length 60
//!   ip nat PREROUTING  rule ip daddr 10.1.1.2 counter … dnat to 192.168.254.2 (verdict accept)
//!   > tcp 10.0.0.9:51234 > 192.168.254.2:80 syn ttl 63 length 60, out br0
//!   ip filter FORWARD  policy drop
//!   dropped in ip filter FORWARD
//! ```

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::nft::Policy;
use crate::nft::trace::{Event, Packet, Step, Traced, TracedStep, protocol_name};

const RED: &str = "31";
const GREEN: &str = "32";
const BOLD: &str = "1";

/// One packet, a line for each step.
pub fn packet(
    traced: &Traced,
    number: u64,
    seconds: f64,
    named: &impl Fn(u32) -> String,
    colour: bool,
) -> String {
    let first = &traced.first;
    let mut shown = summary(first);
    let way = match (first.iif, first.oif) {
        (Some(iif), _) => named(iif),
        (None, Some(oif)) => format!("this host to {}", named(oif)),
        (None, None) => "this host".to_owned(),
    };
    let head = format!("#{number} +{seconds:.3}s {way}: {shown}{}", ending(first));
    let mut text = paint(&head, BOLD, colour) + "\n";
    let mut out = first.oif;
    for step in &traced.steps {
        let event = &step.event;
        let now = summary(event);
        if event.packet.is_some() && (now != shown || event.oif != out) {
            let to = event.oif.map_or_else(String::new, |oif| format!(", out {}", named(oif)));
            let _ = writeln!(text, "  > {now}{to}");
            (shown, out) = (now, event.oif);
        }
        let _ = writeln!(
            text,
            "  {} {} {}  {}",
            event.family,
            event.table,
            event.chain,
            printed(step, colour)
        );
    }
    if traced.more > 0 {
        let _ = writeln!(text, "  … and {} more", traced.more);
    }
    let end = match traced.dropped_by() {
        Some(event) => paint(
            &format!("dropped in {} {} {}", event.family, event.table, event.chain),
            RED,
            colour,
        ),
        None if traced.steps.is_empty() => "met no chain".to_owned(),
        None => paint("passed every chain it met", GREEN, colour),
    };
    let _ = writeln!(text, "  {end}");
    text
}

/// The last line: packets shown, messages lost, packets of other tables.
pub fn sums(packets: u64, lost: u64, foreign: u64) -> String {
    let plural = |number: u64, one: &str, more: &str| {
        format!("{number} {}", if number == 1 { one } else { more })
    };
    let mut text = format!("{} traced", plural(packets, "packet", "packets"));
    match lost {
        0 => text.push_str(", no events lost"),
        lost => {
            let _ = write!(
                text,
                ", events lost {} (the buffer was full: say which packets)",
                plural(lost, "time", "times")
            );
        }
    }
    if foreign > 0 {
        let _ =
            write!(text, ", {} of packets that others trace", plural(foreign, "event", "events"));
    }
    text + "\n"
}

fn printed(step: &TracedStep, colour: bool) -> String {
    let rule = |handle: u64| {
        step.rule.clone().unwrap_or_else(|| format!("with handle {handle}, gone since"))
    };
    let drops = |text: String| if step.event.drops() { paint(&text, RED, colour) } else { text };
    match &step.event.step {
        Step::Rule { handle, verdict } => {
            drops(format!("rule {} (verdict {verdict})", rule(*handle)))
        }
        Step::Return { verdict, .. } => drops(format!("end of chain (verdict {verdict})")),
        Step::Policy(Policy::Accept) => "policy accept".to_owned(),
        Step::Policy(Policy::Drop) => drops("policy drop".to_owned()),
        Step::Unknown(kind) => format!("event of type {kind}"),
    }
}

fn ending(event: &Event) -> String {
    let mark = event.mark.filter(|mark| *mark != 0);
    mark.map_or_else(String::new, |mark| format!(" mark 0x{mark:08x}"))
}

/// `tcp 10.0.0.9:51234 > 10.1.1.2:80 syn ttl 64 length 60`
fn summary(event: &Event) -> String {
    event.packet.as_ref().map_or_else(String::new, packet_text)
}

fn packet_text(packet: &Packet) -> String {
    let mut text = packet.protocol.map_or_else(|| "not IP".to_owned(), protocol_name);
    if let (Some(from), Some(to)) = (packet.from, packet.to) {
        let (source, destination) = packet.ports.unzip();
        let _ = write!(text, " {} > {}", end(from, source), end(to, destination));
    } else if let Some((from, to)) = packet.ether {
        let _ = write!(text, " {from} > {to}");
    }
    for word in [packet.flag_names(), packet.icmp_name()].into_iter().flatten() {
        let _ = write!(text, " {word}");
    }
    if packet.fragment {
        text.push_str(" fragment");
    }
    if let Some(ttl) = packet.ttl {
        let _ = write!(text, " ttl {ttl}");
    }
    if let Some(length) = packet.length {
        let _ = write!(text, " length {length}");
    }
    text
}

fn end(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
