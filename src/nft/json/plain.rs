//! Statements that need nothing from around them, as JSON.

use serde_json::{Map, Value as Json, json};

use super::super::expr::Expr;
use super::super::names::words::{
    LOG_ALL, LOG_FLAGS, LOG_LEVELS, OBJECTS, SYNPROXY_FLAGS, SYNPROXY_MSS, SYNPROXY_WSCALE, WARN,
    bit_words, byte_unit, time_unit, word,
};
use super::one_or_list;

pub fn under(word: &str, value: Json) -> Json {
    let mut object = Map::new();
    object.insert(word.to_owned(), value);
    Json::Object(object)
}

pub(crate) fn plain_json(expr: &Expr, stateless: bool) -> Json {
    match expr {
        Expr::Counter { .. } if stateless => json!({"counter": null}),
        Expr::Counter { packets, bytes } => {
            json!({"counter": {"packets": packets, "bytes": bytes}})
        }
        Expr::Limit { .. } => limit_json(expr),
        Expr::Quota { bytes, flags, consumed } => {
            let (number, unit) = byte_unit(*bytes);
            let mut fields = Map::new();
            fields.insert("val".to_owned(), json!(number));
            fields.insert("val_unit".to_owned(), json!(unit));
            if flags & 1 != 0 {
                fields.insert("inv".to_owned(), json!(true));
            }
            let (used, unit) = byte_unit(*consumed);
            if used != 0 && !stateless {
                fields.insert("used".to_owned(), json!(used));
                fields.insert("used_unit".to_owned(), json!(unit));
            }
            json!({"quota": fields})
        }
        Expr::Connlimit { count, flags } if flags & 1 != 0 => {
            json!({"ct count": {"val": count, "inv": true}})
        }
        Expr::Connlimit { count, .. } => json!({"ct count": {"val": count}}),
        Expr::Last { set, .. } if stateless || !set => json!({"last": null}),
        Expr::Last { milliseconds, .. } => json!({"last": {"used": milliseconds}}),
        Expr::Log { .. } => log_json(expr),
        Expr::Notrack => json!({"notrack": null}),
        Expr::Synproxy { mss, wscale, flags } => synproxy_json(*mss, *wscale, *flags),
        Expr::Objref { kind, name } => under(word(OBJECTS, *kind).unwrap_or("object"), json!(name)),
        Expr::FlowOffload { table } => {
            json!({"flow": {"op": "add", "flowtable": format!("@{table}")}})
        }
        Expr::Xt { target, name, .. } => {
            json!({"xt": {"type": if *target { "target" } else { "match" }, "name": name}})
        }
        other => json!(other.raw()),
    }
}

fn limit_json(expr: &Expr) -> Json {
    let Expr::Limit { rate, unit_secs, burst, by_bytes, over } = expr else { return Json::Null };
    let (rate, rate_unit) = if *by_bytes { byte_unit(*rate) } else { (*rate, "") };
    let (burst, burst_unit) =
        if *by_bytes { byte_unit(u64::from(*burst)) } else { (u64::from(*burst), "") };
    let mut fields = Map::new();
    fields.insert("rate".to_owned(), json!(rate));
    fields.insert("burst".to_owned(), json!(burst));
    fields.insert("per".to_owned(), json!(time_unit(*unit_secs)));
    if *over {
        fields.insert("inv".to_owned(), json!(true));
    }
    if *by_bytes {
        fields.insert("rate_unit".to_owned(), json!(rate_unit));
        fields.insert("burst_unit".to_owned(), json!(burst_unit));
    }
    json!({"limit": fields})
}

fn log_json(expr: &Expr) -> Json {
    let Expr::Log { prefix, group, snaplen, threshold, level, flags } = expr else {
        return Json::Null;
    };
    let mut fields = Map::new();
    if let Some(prefix) = prefix {
        fields.insert("prefix".to_owned(), json!(prefix));
    }
    if let Some(group) = group {
        fields.insert("group".to_owned(), json!(group));
    }
    if let Some(snaplen) = snaplen {
        fields.insert("snaplen".to_owned(), json!(snaplen));
    }
    if let Some(threshold) = threshold {
        fields.insert("queue-threshold".to_owned(), json!(threshold));
    }
    if let Some(level) = level.filter(|level| *level != WARN) {
        let word = word(LOG_LEVELS, level);
        fields.insert("level".to_owned(), json!(word.unwrap_or("unknown")));
    }
    match flags.unwrap_or(0) {
        0 => {}
        LOG_ALL => drop(fields.insert("flags".to_owned(), json!("all"))),
        flags => drop(fields.insert("flags".to_owned(), one_or_list(&bit_words(LOG_FLAGS, flags)))),
    }
    if fields.is_empty() { json!({"log": null}) } else { json!({"log": fields}) }
}

fn synproxy_json(mss: u16, wscale: u8, flags: u32) -> Json {
    let mut fields = Map::new();
    if flags & SYNPROXY_MSS != 0 {
        fields.insert("mss".to_owned(), json!(mss));
    }
    if flags & SYNPROXY_WSCALE != 0 {
        fields.insert("wscale".to_owned(), json!(wscale));
    }
    let names: Vec<&str> = bit_words(SYNPROXY_FLAGS, flags);
    if !names.is_empty() {
        fields.insert("flags".to_owned(), json!(names));
    }
    if fields.is_empty() { json!({"synproxy": null}) } else { json!({"synproxy": fields}) }
}
