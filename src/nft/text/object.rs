//! Named objects as nft writes them.

use std::fmt::Write;

use super::super::attr::{Attributes, array};
use super::super::names::words::{
    FAMILIES, OBJECTS, SYNPROXY_FLAGS, TCP_TIMEOUTS, UDP_TIMEOUTS, bit_words, byte_unit, time_unit,
    word,
};
use super::super::names::{Type, hex};
use super::super::nfta::{ct_expect, ct_helper, ct_timeout, limit, quota, secmark, synproxy};
use super::super::{Object, ObjectKind};
use super::Style;
use super::time::duration;

impl Style {
    /// A named object, with its braces.
    pub fn object(&self, out: &mut String, object: &Object) {
        let kind = object.kind.number();
        let word = word(OBJECTS, kind).unwrap_or("object");
        let _ = write!(out, "\t{word} {} {{", object.name);
        self.handle(out, object.handle);
        if let Some(comment) = object.userdata.as_comment() {
            let _ = writeln!(out, "\t\tcomment \"{comment}\"");
        }
        match &object.kind {
            ObjectKind::Counter { .. } if self.stateless => {}
            ObjectKind::Counter { packets, bytes } => {
                let _ = writeln!(out, "\t\tpackets {packets} bytes {bytes}");
            }
            ObjectKind::Other { kind, bytes } => self.other(out, *kind, Attributes(bytes)),
        }
        out.push_str("\t}\n");
    }

    fn other(&self, out: &mut String, kind: u32, a: Attributes<'_>) {
        let _ = match kind {
            2 => {
                let (number, unit) = byte_unit(a.u64(quota::BYTES).unwrap_or(0));
                let over = if a.u32(quota::FLAGS).unwrap_or(0) & 1 == 0 { "" } else { "over " };
                let _ = write!(out, "\t\t{over}{number} {unit}");
                let (used, unit) = byte_unit(a.u64(quota::CONSUMED).unwrap_or(0));
                if used == 0 || self.stateless {
                    writeln!(out)
                } else {
                    writeln!(out, " used {used} {unit}")
                }
            }
            3 => {
                let helper = a.text(ct_helper::NAME).unwrap_or_default();
                let protocol = protocol_word(a.u8(ct_helper::L4PROTO).unwrap_or(0));
                let _ = writeln!(out, "\t\ttype \"{helper}\" protocol {protocol}");
                writeln!(out, "\t\tl3proto {}", family_word(a.u16(ct_helper::L3PROTO).unwrap_or(0)))
            }
            4 => limit(out, a),
            7 => {
                let protocol = a.u8(ct_timeout::L4PROTO).unwrap_or(0);
                let _ = writeln!(out, "\t\tprotocol {}", protocol_word(protocol));
                let _ = writeln!(
                    out,
                    "\t\tl3proto {}",
                    family_word(a.u16(ct_timeout::L3PROTO).unwrap_or(0))
                );
                let states: Vec<String> = ct_timeout_states(a)
                    .iter()
                    .map(|(name, seconds)| format!("{name} : {seconds}"))
                    .collect();
                writeln!(out, "\t\tpolicy = {{ {} }}", states.join(", "))
            }
            8 => writeln!(out, "\t\t\"{}\"", a.text(secmark::CTX).unwrap_or_default()),
            9 => {
                let _ = writeln!(
                    out,
                    "\t\tprotocol {}",
                    protocol_word(a.u8(ct_expect::L4PROTO).unwrap_or(0))
                );
                let _ = writeln!(out, "\t\tdport {}", a.u16(ct_expect::DPORT).unwrap_or(0));
                // In the host's order, unlike its neighbours.
                let milliseconds = a
                    .value(ct_expect::TIMEOUT)
                    .and_then(|bytes| array(bytes, 0))
                    .map_or(0, u32::from_ne_bytes);
                let timeout = duration(u64::from(milliseconds), self.numeric_time());
                let _ = writeln!(out, "\t\ttimeout {timeout}");
                let _ = writeln!(out, "\t\tsize {}", a.u8(ct_expect::SIZE).unwrap_or(0));
                writeln!(out, "\t\tl3proto {}", family_word(a.u16(ct_expect::L3PROTO).unwrap_or(0)))
            }
            10 => {
                let flags = a.u32(synproxy::FLAGS).unwrap_or(0);
                let _ = writeln!(out, "\t\tmss {}", a.u16(synproxy::MSS).unwrap_or(0));
                let _ = writeln!(out, "\t\twscale {}", a.u8(synproxy::WSCALE).unwrap_or(0));
                let names: Vec<&str> = bit_words(SYNPROXY_FLAGS, flags);
                if names.is_empty() { Ok(()) } else { writeln!(out, "\t\t{}", names.join(" ")) }
            }
            kind => writeln!(out, "\t\t<kind {kind} {}>", hex(a.0)),
        };
    }
}

fn limit(out: &mut String, a: Attributes<'_>) -> std::fmt::Result {
    let rate = a.u64(limit::RATE).unwrap_or(0);
    let per = time_unit(a.u64(limit::UNIT).unwrap_or(1));
    let burst = a.u32(limit::BURST).unwrap_or(0);
    let over = if a.u32(limit::FLAGS).unwrap_or(0) & 1 == 0 { "" } else { "over " };
    if a.u32(limit::TYPE) == Some(1) {
        let (rate, unit) = byte_unit(rate);
        write!(out, "\t\trate {over}{rate} {unit}/{per}")?;
        let (burst, unit) = byte_unit(u64::from(burst));
        if burst == 0 { writeln!(out) } else { writeln!(out, " burst {burst} {unit}") }
    } else {
        write!(out, "\t\trate {over}{rate}/{per}")?;
        if matches!(burst, 0 | 5) { writeln!(out) } else { writeln!(out, " burst {burst} packets") }
    }
}

/// NFPROTO_*.
pub fn family_word(family: u16) -> &'static str {
    word(FAMILIES, family.into()).unwrap_or("unknown")
}

/// A transport protocol in a named object.
pub fn protocol_word(protocol: u8) -> String {
    let word = Type::InetProto.symbol(u128::from(protocol));
    word.map_or_else(|| protocol.to_string(), str::to_owned)
}

/// The states whose timeout is not the usual one.
pub fn ct_timeout_states(a: Attributes<'_>) -> Vec<(&'static str, u32)> {
    let states: &[(u16, &str, u32)] =
        if a.u8(ct_timeout::L4PROTO) == Some(6) { TCP_TIMEOUTS } else { UDP_TIMEOUTS };
    let Some(told) = a.nest(ct_timeout::DATA) else { return Vec::new() };
    let unusual = |(kind, name, usual): &(u16, &'static str, u32)| {
        told.u32(*kind).filter(|seconds| seconds != usual).map(|seconds| (*name, seconds))
    };
    states.iter().filter_map(unusual).collect()
}
