//! Named objects as JSON.

use serde_json::{Map, Value as Json, json};

use super::super::attr::{Attributes, array};
use super::super::names::hex;
use super::super::names::words::{OBJECTS, SYNPROXY_FLAGS, bit_words, byte_unit, time_unit, word};
use super::super::nfta::{ct_expect, ct_helper, ct_timeout, limit, quota, secmark, synproxy};
use super::super::text::{Style, ct_timeout_states, family_word, protocol_word};
use super::super::{Object, ObjectKind};

impl Style {
    pub(super) fn object_in(&self, family: &str, table: &str, object: &Object) -> Json {
        let mut fields = Map::new();
        fields.insert("family".to_owned(), json!(family));
        fields.insert("name".to_owned(), json!(object.name));
        fields.insert("table".to_owned(), json!(table));
        fields.insert("handle".to_owned(), super::handle(object.handle));
        if let Some(comment) = object.userdata.as_comment() {
            fields.insert("comment".to_owned(), json!(comment));
        }
        let kind = object.kind.number();
        match &object.kind {
            ObjectKind::Counter { packets, bytes } => {
                fields.insert("packets".to_owned(), json!(packets));
                fields.insert("bytes".to_owned(), json!(bytes));
            }
            ObjectKind::Other { kind, bytes } => fields.extend(other(*kind, Attributes(bytes))),
        }
        super::named(word(OBJECTS, kind).unwrap_or("object"), fields)
    }
}

fn other(kind: u32, a: Attributes<'_>) -> Map<String, Json> {
    let value = match kind {
        2 => json!({
            "bytes": a.u64(quota::BYTES).unwrap_or(0),
            "used": a.u64(quota::CONSUMED).unwrap_or(0),
            "inv": a.u32(quota::FLAGS).unwrap_or(0) & 1 != 0}),
        3 => json!({
            "type": a.text(ct_helper::NAME).unwrap_or_default(),
            "protocol": protocol_word(a.u8(ct_helper::L4PROTO).unwrap_or(0)),
            "l3proto": family_word(a.u16(ct_helper::L3PROTO).unwrap_or(0))}),
        4 => limit(a),
        7 => {
            let states: Map<String, Json> = ct_timeout_states(a)
                .iter()
                .map(|(name, seconds)| ((*name).to_owned(), json!(seconds)))
                .collect();
            json!({
                "protocol": protocol_word(a.u8(ct_timeout::L4PROTO).unwrap_or(0)),
                "l3proto": family_word(a.u16(ct_timeout::L3PROTO).unwrap_or(0)),
                "policy": states})
        }
        8 => json!({"context": a.text(secmark::CTX).unwrap_or_default()}),
        9 => {
            let milliseconds = a
                .value(ct_expect::TIMEOUT)
                .and_then(|bytes| array(bytes, 0))
                .map_or(0, u32::from_ne_bytes);
            json!({
                "protocol": protocol_word(a.u8(ct_expect::L4PROTO).unwrap_or(0)),
                "dport": a.u16(ct_expect::DPORT).unwrap_or(0),
                "timeout": milliseconds,
                "size": a.u8(ct_expect::SIZE).unwrap_or(0),
                "l3proto": family_word(a.u16(ct_expect::L3PROTO).unwrap_or(0))})
        }
        10 => {
            let flags = a.u32(synproxy::FLAGS).unwrap_or(0);
            let names: Vec<&str> = bit_words(SYNPROXY_FLAGS, flags);
            let mut fields = Map::new();
            fields.insert("mss".to_owned(), json!(a.u16(synproxy::MSS).unwrap_or(0)));
            fields.insert("wscale".to_owned(), json!(a.u8(synproxy::WSCALE).unwrap_or(0)));
            if !names.is_empty() {
                fields.insert("flags".to_owned(), super::one_or_list(&names));
            }
            Json::Object(fields)
        }
        _ => json!({"data": hex(a.0)}),
    };
    match value {
        Json::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn limit(a: Attributes<'_>) -> Json {
    let by_bytes = a.u32(limit::TYPE) == Some(1);
    let (rate, rate_unit) = unit(a.u64(limit::RATE).unwrap_or(0), by_bytes);
    let (burst, burst_unit) = unit(u64::from(a.u32(limit::BURST).unwrap_or(0)), by_bytes);
    let mut fields = Map::new();
    fields.insert("rate".to_owned(), json!(rate));
    fields.insert("per".to_owned(), json!(time_unit(a.u64(limit::UNIT).unwrap_or(1))));
    if a.u32(limit::FLAGS).unwrap_or(0) & 1 != 0 {
        fields.insert("inv".to_owned(), json!(true));
    }
    if let Some(unit) = rate_unit {
        fields.insert("rate_unit".to_owned(), json!(unit));
    }
    if burst != 0 {
        fields.insert("burst".to_owned(), json!(burst));
        if let Some(unit) = burst_unit {
            fields.insert("burst_unit".to_owned(), json!(unit));
        }
    }
    Json::Object(fields)
}

fn unit(number: u64, by_bytes: bool) -> (u64, Option<&'static str>) {
    if by_bytes {
        let (number, unit) = byte_unit(number);
        (number, Some(unit))
    } else {
        (number, None)
    }
}
