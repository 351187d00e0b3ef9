//! Values as JSON.

use serde_json::{Map, Value as Json, json};

use super::super::expr::{Extension, Verdict};
use super::super::names::words::{BASES, FIB_FLAGS, FIB_RESULTS, OSF_TTL, bit_words, word};
use super::super::names::{Type, extension, hex};
use super::super::syntax::{Constant, Entry, Field, Join, Source, Value};
use super::super::text::{Style, words};
use super::plain::plain_json;

pub fn verdict(verdict: &Verdict) -> Json {
    match verdict {
        Verdict::Drop => json!({"drop": null}),
        Verdict::Accept => json!({"accept": null}),
        Verdict::Continue => json!({"continue": null}),
        Verdict::Return => json!({"return": null}),
        Verdict::Jump(chain) => json!({"jump": {"target": chain}}),
        Verdict::Goto(chain) => json!({"goto": {"target": chain}}),
        Verdict::Code(code) => json!({"verdict": code}),
    }
}

/// A number; what JSON's readers may not take whole is hexadecimal.
fn number(number: u128) -> Json {
    u64::try_from(number).map_or_else(|_| json!(format!("0x{number:x}")), |number| json!(number))
}

impl Style {
    pub(super) fn constant_json(&self, constant: Constant, in_range: bool) -> Json {
        // Of a range's ends nft names users, but not ports.
        let nameless = in_range && constant.kind == Type::InetService;
        if let Some(name) = self.names.of(constant).filter(|_| !nameless) {
            return json!(name);
        }
        let numeric = self.numeric || in_range && constant.kind == Type::InetProto;
        match constant.kind {
            Type::Boolean => match constant.number {
                0 => json!(false),
                1 => json!(true),
                other => number(other),
            },
            Type::Time => number(constant.number / 1000),
            Type::CtLabel => json!(constant.number.trailing_zeros() % 128),
            _ => match words(constant, self, numeric) {
                Some((text, _)) => json!(text),
                None => number(constant.number),
            },
        }
    }

    pub(super) fn value_json(&self, value: &Value<'_>) -> Json {
        match value {
            Value::Field(field) => self.field_json(field),
            Value::Constant(constant) => self.constant_json(*constant, false),
            Value::Flags(flags, join) => flags_json(*flags, *join, self.numeric),
            Value::Beginning(name) => json!(format!("{}*", name.name())),
            Value::Prefix(first, len) => {
                json!({"prefix": {"addr": self.constant_json(*first, false), "len": len}})
            }
            Value::Range(first, last) => {
                json!({"range": [self.constant_json(*first, true), self.constant_json(*last, true)]})
            }
            Value::Long(bytes) => json!(hex(bytes)),
            Value::Elements(elements) => {
                let entries: Vec<Json> =
                    elements.entries().iter().map(|entry| self.entry_json(entry)).collect();
                json!({"set": entries})
            }
            Value::Named(name) => json!(format!("@{name}")),
            Value::Verdict(found) => verdict(found),
            Value::Object(name) => json!(name),
            Value::Any => json!("*"),
            Value::Concat(values) => {
                let values: Vec<Json> = values.iter().map(|value| self.value_json(value)).collect();
                json!({"concat": values})
            }
            Value::Binary(sign, left, right) => {
                let mut object = Map::new();
                object.insert(
                    (*sign).to_owned(),
                    json!([self.value_json(left), self.value_json(right)]),
                );
                Json::Object(object)
            }
            Value::Map(key, set) => {
                json!({"map": {"key": self.value_json(key), "data": self.value_json(set)}})
            }
        }
    }

    pub(super) fn entry_json(&self, entry: &Entry<'_>) -> Json {
        let element = entry.element;
        let key = self.value_json(&entry.key);
        let mut fields = Map::new();
        if let Some(timeout) = element.timeout.filter(|timeout| *timeout != 0) {
            fields.insert("timeout".to_owned(), json!(timeout / 1000));
        }
        if let Some(left) = element.expiration.filter(|left| *left != 0) {
            fields.insert("expires".to_owned(), json!(left / 1000));
        }
        if let Some(comment) = element.userdata.as_comment() {
            fields.insert("comment".to_owned(), json!(comment));
        }
        for expr in &element.exprs {
            if let Json::Object(statement) = plain_json(expr, self.stateless) {
                fields.extend(statement);
            }
        }
        let key = if fields.is_empty() {
            key
        } else {
            let mut whole = Map::new();
            whole.insert("val".to_owned(), key);
            whole.extend(fields);
            json!({"elem": whole})
        };
        match &entry.data {
            Some(data) => json!([key, self.value_json(data)]),
            None => key,
        }
    }

    pub(super) fn field_json(&self, field: &Field<'_>) -> Json {
        match &field.source {
            Source::Meta { name, .. } => json!({"meta": {"key": name}}),
            Source::Ct { name, direction } => {
                let direction = match direction {
                    Some(0) => Some("original"),
                    Some(1) => Some("reply"),
                    _ => None,
                };
                object("ct", [("key", json!(name)), ("dir", json!(direction))])
            }
            Source::Header { header, field } => {
                json!({"payload": {"protocol": header.name, "field": field.name}})
            }
            Source::Payload(base, offset, bits) => {
                json!({"payload": {"base": word(BASES, *base).unwrap_or("?"), "offset": offset, "len": bits}})
            }
            Source::Extension(found, trimmed) => extension_json(found, *trimmed),
            Source::Rt { name, family } => {
                object("rt", [("key", json!(name)), ("family", json!(family))])
            }
            Source::Fib { flags, result } => {
                json!({"fib": {"result": word(FIB_RESULTS, *result).unwrap_or("unknown"), "flags": bit_words(FIB_FLAGS, *flags)}})
            }
            Source::Socket { name, .. } => json!({"socket": {"key": name}}),
            Source::Osf { ttl, version } => {
                let key = if *version { "version" } else { "name" };
                let ttl = word(OSF_TTL, u32::from(*ttl));
                object("osf", [("key", json!(key)), ("ttl", json!(ttl))])
            }
            Source::Numgen { random, modulus, offset } => {
                let mode = if *random { "random" } else { "inc" };
                json!({"numgen": {"mode": mode, "mod": modulus, "offset": offset}})
            }
            Source::Hash { key, modulus, seed, offset } => {
                let seed = seed.filter(|_| key.is_some());
                let offset = Some(*offset).filter(|offset| *offset != 0);
                let expr = key.as_ref().map(|key| self.value_json(key));
                object(
                    if key.is_some() { "jhash" } else { "symhash" },
                    [
                        ("mod", json!(modulus)),
                        ("seed", json!(seed)),
                        ("offset", json!(offset)),
                        ("expr", json!(expr)),
                    ],
                )
            }
            Source::Xfrm { name, family, direction, spnum } => object(
                "ipsec",
                [
                    ("key", json!(name)),
                    ("family", json!(family)),
                    ("dir", json!(if *direction == 1 { "out" } else { "in" })),
                    ("spnum", json!(spnum)),
                ],
            ),
            Source::Tunnel(name) => json!({"tunnel": {"key": name}}),
            Source::Unknown(text) => json!(text),
        }
    }
}

/// `{"kind": {…}}` with the fields that are not null.
fn object<const N: usize>(kind: &str, fields: [(&str, Json); N]) -> Json {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    let fields = fields.map(|(name, value)| (name.to_owned(), value)).collect();
    Json::Object(Map::from_iter([(kind.to_owned(), Json::Object(fields))]))
}

fn flags_json(flags: Constant, join: Join, numeric: bool) -> Json {
    let (names, rest) = (flags.flag_names(), flags.nameless());
    if names.is_empty() || join == Join::Whole && names.len() > 1 {
        return number(flags.number);
    }
    let mut words: Vec<Json> = names.iter().map(|name| json!(name)).collect();
    if rest != 0 {
        words.push(number(rest));
    }
    if numeric {
        let bits = (0..128).map(|bit| 1u128 << bit).filter(|bit| flags.number & bit != 0);
        words = bits.map(number).collect();
    }
    match (words.len(), join) {
        (1, _) => words.swap_remove(0),
        (_, Join::Or) => {
            let mut words = words.into_iter();
            let first = words.next().unwrap_or(Json::Null);
            words.fold(first, |left, right| json!({"|": [left, right]}))
        }
        _ => json!(words),
    }
}

fn extension_json(found: &Extension, trimmed: Option<(u32, u32)>) -> Json {
    let space = extension::space_word(found.space);
    let named = extension::named(found, trimmed);
    let whole = extension::is_presence(found) || found.len == 0;
    let name = named.map(|named| named.name).or_else(|| {
        let name = extension::name_of(found.space, found.kind);
        name.filter(|_| whole)
    });
    let mut fields = Map::new();
    match (name, named.and_then(|named| named.field)) {
        (Some(name), field) => {
            fields.insert("name".to_owned(), json!(name));
            if let Some((field, ..)) = field {
                fields.insert("field".to_owned(), json!(field));
            }
        }
        (None, _)
            if found.space == extension::TCP
                && extension::name_of(found.space, found.kind).is_some() =>
        {
            fields.insert("name".to_owned(), json!(extension::name_of(found.space, found.kind)));
            fields.insert("field".to_owned(), json!("unknown"));
        }
        (None, _) => {
            fields.insert("base".to_owned(), json!(found.kind));
            fields.insert("offset".to_owned(), json!(found.offset.saturating_mul(8)));
            fields.insert("len".to_owned(), json!(found.len.saturating_mul(8)));
        }
    }
    let mut object = Map::new();
    object.insert(space.to_owned(), Json::Object(fields));
    Json::Object(object)
}
