//! Statements as JSON.

use serde_json::{Map, Value as Json, json};

use super::super::expr::Expr;
use super::super::names::words::{
    NAT_FLAGS, NETMAP, OBJECTS, OPERATIONS, QUEUE_FLAGS, bit_words, word,
};
use super::super::syntax::{Join, Nat, Relation, Statement, Update, Value};
use super::super::text::{Style, reject_words};
use super::one_or_list;
use super::plain::{plain_json, under};
use super::value::verdict;

impl Style {
    pub(super) fn statement_json(&self, statement: &Statement<'_>) -> Json {
        match statement {
            Statement::Match { left, relation, right } => json!({"match": {
                "op": relation_word(*relation),
                "left": self.value_json(left),
                "right": self.value_json(right)}}),
            Statement::Masked { left, not, value, mask } => json!({"match": {
                "op": if *not { "!=" } else { "==" },
                "left": {"&": [self.value_json(left), self.value_json(&Value::Flags(*mask, Join::List))]},
                "right": self.value_json(&Value::Flags(*value, Join::List))}}),
            Statement::VerdictMap(key, set) => {
                json!({"vmap": {"key": self.value_json(key), "data": self.value_json(set)}})
            }
            Statement::Verdict(found) => verdict(found),
            // Chains without a name are listed with the others: JSON has no other words for them that load.
            Statement::InPlace { verdict: found, .. } => verdict(found),
            Statement::Mangle(field, value) => {
                json!({"mangle": {"key": self.value_json(field), "value": self.value_json(value)}})
            }
            Statement::Nat(nat) => self.nat_json(nat),
            Statement::Reject { expr, family } => self.reject_json(expr, *family),
            Statement::Tproxy { family, addr, port } => {
                let mut fields = Map::new();
                self.endpoint_json(&mut fields, *family, addr.as_ref(), port.as_ref());
                json!({"tproxy": fields})
            }
            Statement::Queue { to, flags } => self.queue_json(to.as_ref(), *flags),
            Statement::Dup { addr, device } => {
                let mut fields = Map::new();
                if let Some(to) = addr.as_ref().or(device.as_ref()) {
                    fields.insert("addr".to_owned(), self.value_json(to));
                }
                if let (Some(_), Some(device)) = (addr, device) {
                    fields.insert("dev".to_owned(), self.value_json(device));
                }
                json!({"dup": fields})
            }
            Statement::Fwd { family, addr, device } => {
                let mut fields = Map::new();
                fields.insert("dev".to_owned(), self.value_json(device));
                if let Some(addr) = addr {
                    let family =
                        family.map_or("ip", |family| if family == 10 { "ip6" } else { "ip" });
                    fields.insert("family".to_owned(), json!(family));
                    fields.insert("addr".to_owned(), self.value_json(addr));
                }
                json!({"fwd": fields})
            }
            Statement::Update(update) => self.update_json(statement, update),
            Statement::ObjectMap(kind, map) => {
                under(word(OBJECTS, *kind).unwrap_or("object"), self.value_json(map))
            }
            Statement::Reset(field) => json!({"reset": self.field_json(field)}),
            Statement::Xt { expr, .. } | Statement::Plain(expr) => plain_json(expr, self.stateless),
        }
    }

    fn endpoint_json(
        &self,
        fields: &mut Map<String, Json>,
        family: Option<u8>,
        addr: Option<&Value<'_>>,
        port: Option<&Value<'_>>,
    ) {
        if let Some(family) = family {
            fields.insert("family".to_owned(), json!(if family == 10 { "ip6" } else { "ip" }));
        }
        if let Some(addr) = addr {
            fields.insert("addr".to_owned(), self.value_json(addr));
        }
        if let Some(port) = port {
            fields.insert("port".to_owned(), self.value_json(port));
        }
    }

    fn nat_json(&self, nat: &Nat<'_>) -> Json {
        let mut fields = Map::new();
        self.endpoint_json(&mut fields, nat.family, nat.addr.as_ref(), nat.port.as_ref());
        let mut flags = bit_words(NAT_FLAGS, nat.flags);
        if nat.flags & NETMAP != 0 {
            flags.push("netmap");
        }
        if !flags.is_empty() {
            fields.insert("flags".to_owned(), one_or_list(&flags));
        }
        if nat.flags & NETMAP != 0 {
            fields.insert("type_flags".to_owned(), json!("prefix"));
        }
        let fields = if fields.is_empty() { Json::Null } else { Json::Object(fields) };
        under(nat.verb, fields)
    }

    fn reject_json(&self, expr: &Expr, family: Option<u8>) -> Json {
        let Some((with, code, _)) = reject_words(expr, family) else {
            return json!({"reject": null});
        };
        let mut fields = Map::new();
        fields.insert("type".to_owned(), json!(with));
        if let Some(code) = code {
            fields.insert("expr".to_owned(), self.constant_json(code, false));
        }
        json!({"reject": fields})
    }

    fn queue_json(&self, to: Option<&Value<'_>>, flags: u16) -> Json {
        let mut fields = Map::new();
        if let Some(to) = to {
            fields.insert("num".to_owned(), self.value_json(to));
        }
        let names = bit_words(QUEUE_FLAGS, u32::from(flags));
        if !names.is_empty() {
            fields.insert("flags".to_owned(), one_or_list(&names));
        }
        if fields.is_empty() { json!({"queue": null}) } else { json!({"queue": fields}) }
    }

    fn update_json(&self, statement: &Statement<'_>, update: &Update<'_>) -> Json {
        let key = self.value_json(&update.key);
        let key = match update.timeout {
            Some(timeout) => json!({"elem": {"val": key, "timeout": timeout / 1000}}),
            None => key,
        };
        let mut statements: Vec<Json> =
            update.exprs.iter().map(|expr| plain_json(expr, true)).collect();
        if update.data.is_some() {
            // nft has no JSON for it and falls back to its text.
            let mut text = String::new();
            self.statement(&mut text, statement);
            return json!(text);
        }
        let mut fields = Map::new();
        if let Some(size) = update.meter {
            fields.insert("key".to_owned(), key);
            if !statements.is_empty() {
                fields.insert("stmt".to_owned(), statements.swap_remove(0));
            }
            fields.insert("size".to_owned(), json!(size.unwrap_or(0)));
            fields.insert("name".to_owned(), json!(update.name));
            return json!({"meter": fields});
        }
        fields.insert(
            "op".to_owned(),
            json!(word(OPERATIONS, update.operation).unwrap_or("unknown")),
        );
        fields.insert("elem".to_owned(), key);
        fields.insert("set".to_owned(), json!(format!("@{}", update.name)));
        if !statements.is_empty() {
            fields.insert("stmt".to_owned(), json!(statements));
        }
        json!({"set": fields})
    }
}

fn relation_word(relation: Relation) -> &'static str {
    match relation {
        Relation::Equal => "==",
        Relation::NotEqual => "!=",
        Relation::Less => "<",
        Relation::LessEqual => "<=",
        Relation::Greater => ">",
        Relation::GreaterEqual => ">=",
        Relation::Any => "in",
        Relation::None => "!",
    }
}
