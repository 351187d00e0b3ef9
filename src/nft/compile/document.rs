//! The objects of a document, in their order, put into tables.

use nftables::schema;
use nftables::stmt::Statement;
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::rule::Draft;
use super::set::{self, Entry};
use super::{Error, Why};
use crate::nft::expr::{Data, Expr, Verdict};
use crate::nft::{
    Chain, Family, Handle, Hook, Object, ObjectKind, Policy, Rule, Ruleset, Set, Table, Userdata,
    hook,
};

/// Says of a table, by family and name, that it is not the document's to define.
pub type IsReserved = fn(Family, &str) -> bool;

/// The ruleset that a document asks for.
pub fn compile(text: &str, is_reserved: IsReserved) -> Result<Ruleset, Error> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| Error::Json(error.to_string()))?;
    let list = document.get("nftables").unwrap_or(&document).as_array();
    let objects = list.ok_or(Error::Document("it has no list \"nftables\""))?;
    let mut compiler = Compiler::default();
    for (number, object) in (1..).zip(objects) {
        let (command, kind, body) = unwrapped(object).map_err(|why| Error::Object {
            number,
            name: "of no known kind".to_owned(),
            why,
        })?;
        compiler.origin = Origin { number, name: name_of(kind, body) };
        compiler
            .add(command, kind, body, is_reserved)
            .map_err(|why| compiler.origin.refused(why))?;
    }
    compiler.finish()
}

/// The object that something comes from.
#[derive(Debug, Clone, Default)]
struct Origin {
    number: usize,
    name: String,
}

impl Origin {
    fn refused(&self, why: Why) -> Error {
        Error::Object { number: self.number, name: self.name.clone(), why }
    }
}

#[derive(Debug, Default)]
struct Compiler {
    ruleset: Ruleset,
    /// Of the object at hand.
    origin: Origin,
    /// Elements of named sets by table and set, put in when all are known: intervals must not overlap.
    elements: Vec<(usize, String, Vec<Entry>, Origin)>,
    /// Chains jumped to, by table; they may come after the rules that name them.
    jumps: Vec<(usize, String, Origin)>,
}

/// Command, kind and body of `{"add": {"rule": {…}}}` and `{"rule": {…}}`.
fn unwrapped(object: &Value) -> Result<(&str, &str, &Value), Why> {
    let (key, inner) = single(object).ok_or("an object with one key was expected")?;
    const COMMANDS: [&str; 9] =
        ["add", "create", "insert", "replace", "delete", "list", "reset", "flush", "rename"];
    if !COMMANDS.contains(&key) {
        return Ok(("", key, inner));
    }
    let (kind, body) = single(inner).ok_or_else(|| format!("{key} of nothing"))?;
    Ok((key, kind, body))
}

fn single(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.iter().next().map(|(key, value)| (key.as_str(), value))
}

/// `rule in chain inet filter input`, as far as it says.
fn name_of(kind: &str, body: &Value) -> String {
    let word = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or("?");
    match kind {
        "table" => format!("table {} {}", word("family"), word("name")),
        "rule" => format!("rule in chain {} {} {}", word("family"), word("table"), word("chain")),
        "metainfo" => kind.to_owned(),
        _ => format!("{kind} {} {} {}", word("family"), word("table"), word("name")),
    }
}

impl Compiler {
    fn add(
        &mut self,
        command: &str,
        kind: &str,
        body: &Value,
        is_reserved: IsReserved,
    ) -> Result<(), Why> {
        match (command, kind) {
            ("", "metainfo") => Ok(()),
            ("" | "add" | "create", "table") => table(&mut self.ruleset, &read(body)?, is_reserved),
            ("" | "add" | "create", "chain") => chain(&mut self.ruleset, &read(body)?),
            ("" | "add" | "create", "set") => {
                let wanted: schema::Set<'_> = read(body)?;
                let at = table_at(&self.ruleset, wanted.family, &wanted.table)?;
                self.named(at, set::named_set(&wanted)?)
            }
            ("" | "add" | "create", "map") => {
                let (plain, verdicts) = set::without_verdict(body);
                let wanted: schema::Map<'_> = read(&plain)?;
                let at = table_at(&self.ruleset, wanted.family, &wanted.table)?;
                self.named(at, set::named_map(&wanted, verdicts)?)
            }
            ("" | "add" | "create", "element") => self.elements(&read(body)?),
            ("" | "add" | "create", "counter") => {
                let (plain, counts) = without_counts(body);
                counter(&mut self.ruleset, &read(&plain)?, counts)
            }
            ("" | "add" | "create" | "insert", "rule") => self.rule(command, body),
            ("" | "add" | "create" | "insert", _) => Err(format!("a {kind} is not supported here")),
            _ => Err(format!(
                "{command} is not supported: the tables are replaced as a whole, so that add, create and insert suffice"
            )),
        }
    }

    fn named(&mut self, at: usize, (made, entries): (Set, Vec<Entry>)) -> Result<(), Why> {
        let Some(table) = self.ruleset.tables.get_mut(at) else { return Ok(()) };
        if table.sets.iter().any(|set| set.name == made.name) {
            return Err("a set or map of this name was defined before".into());
        }
        self.elements.push((at, made.name.clone(), entries, self.origin.clone()));
        table.sets.push(made);
        Ok(())
    }

    fn elements(&mut self, wanted: &schema::Element<'_>) -> Result<(), Why> {
        let at = table_at(&self.ruleset, wanted.family, &wanted.table)?;
        let sets = self.ruleset.tables.get(at).map_or(&[][..], |table| &table.sets);
        let found = sets.iter().find(|set| set.name == wanted.name);
        let found = found.ok_or_else(|| format!("set {} is not defined before", wanted.name))?;
        let entries = set::entries(found, &wanted.elem)?;
        self.elements.push((at, found.name.clone(), entries, self.origin.clone()));
        Ok(())
    }

    fn rule(&mut self, command: &str, body: &Value) -> Result<(), Why> {
        let body = &listed_flags(body);
        // One by one first: the type of the whole does not say which statement it does not know.
        let statements = body.get("expr").and_then(Value::as_array).ok_or("a rule without expr")?;
        for (number, statement) in (1..).zip(statements) {
            read::<Statement<'_>>(statement)
                .map_err(|why| of_statement(number, statement, &why))?;
        }
        let wanted: schema::Rule<'_> = read(body)?;
        if !command.is_empty() && (wanted.handle.is_some() || wanted.index.is_some()) {
            return Err(
                "a position (handle or index) is not supported: rules come in the document's order"
                    .into(),
            );
        }
        let at = table_at(&self.ruleset, wanted.family, &wanted.table)?;
        let Some(table) = self.ruleset.tables.get_mut(at) else { return Ok(()) };
        let chain = table.chains.iter().position(|chain| chain.name == wanted.chain);
        let chain = chain.ok_or_else(|| format!("chain {} is not defined before", wanted.chain))?;
        let sets = table.sets.len();
        let mut draft = Draft::new(table);
        for ((number, statement), text) in (1..).zip(wanted.expr.iter()).zip(statements) {
            draft.statement(statement).map_err(|why| of_statement(number, text, &why))?;
        }
        let exprs = draft.finish();
        let in_maps = table.sets.iter().skip(sets).flat_map(values_of);
        let in_rule = exprs.iter().filter_map(|expr| match expr {
            Expr::Immediate { data, .. } => Some(data),
            _ => None,
        });
        let jumps = in_maps.chain(in_rule).filter_map(target);
        self.jumps.extend(jumps.map(|chain| (at, chain, self.origin.clone())));
        let userdata = wanted.comment.as_deref().map(Userdata::comment).unwrap_or_default();
        let rule = Rule { handle: Handle::default(), exprs, userdata };
        if let Some(chain) = table.chains.get_mut(chain) {
            let place = if command == "insert" { 0 } else { chain.rules.len() };
            chain.rules.insert(place, rule);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Ruleset, Error> {
        while !self.elements.is_empty() {
            let (table, name, mut entries, mut origin) = self.elements.remove(0);
            // What later objects add to the same set; the last of them is told when they do not go together.
            for (_, _, more, from) in
                self.elements.extract_if(.., |(at, set, ..)| *at == table && *set == name)
            {
                entries.extend(more);
                origin = from;
            }
            let sets = self.ruleset.tables.get_mut(table).map(|table| &mut table.sets);
            let Some(set) = sets.and_then(|sets| sets.iter_mut().find(|set| set.name == name))
            else {
                continue;
            };
            let kinds = set::kinds_of(set.key_type);
            set::fill(set, &kinds, entries, false).map_err(|why| origin.refused(why))?;
            let jumps = values_of(set).filter_map(target);
            self.jumps.extend(jumps.map(|chain| (table, chain, origin.clone())));
        }
        for (table, chain, origin) in self.jumps {
            let table = self.ruleset.tables.get(table);
            if !table.is_some_and(|table| table.chains.iter().any(|found| found.name == chain)) {
                return Err(origin.refused(format!("the chain {chain} is not in the document")));
            }
        }
        Ok(self.ruleset)
    }
}

fn values_of(set: &Set) -> impl Iterator<Item = &Data> {
    set.elements.iter().filter_map(|element| element.data.as_ref())
}

/// The chain that a verdict goes to.
fn target(data: &Data) -> Option<String> {
    match data {
        Data::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(chain.clone()),
        _ => None,
    }
}

/// Reads an object by the crate's type, and refuses what the type would lose.
fn read<T: DeserializeOwned + Serialize>(body: &Value) -> Result<T, Why> {
    let typed = T::deserialize(body).map_err(|error| error.to_string())?;
    let kept = serde_json::to_value(&typed).map_err(|error| error.to_string())?;
    match lost(body, &kept) {
        Some(path) => Err(format!("{path} is not understood")),
        None => Ok(typed),
    }
}

/// The first key of `given` that `kept` has not.
fn lost(given: &Value, kept: &Value) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            given.iter().find_map(|(key, value)| match kept.get(key) {
                Some(kept) => lost(value, kept).map(|path| format!("{key}.{path}")),
                None => (!value.is_null()).then(|| key.clone()),
            })
        }
        (Value::Array(given), Value::Array(kept)) => {
            given.iter().zip(kept).find_map(|(given, kept)| lost(given, kept))
        }
        _ => None,
    }
}

fn family(family: NfFamily) -> Family {
    match family {
        NfFamily::IP => Family::IP,
        NfFamily::IP6 => Family::IP6,
        NfFamily::INet => Family::INET,
        NfFamily::ARP => Family::ARP,
        NfFamily::Bridge => Family::BRIDGE,
        NfFamily::NetDev => Family::NETDEV,
    }
}

fn table_at(ruleset: &Ruleset, wanted: NfFamily, name: &str) -> Result<usize, Why> {
    let wanted = family(wanted);
    let found =
        ruleset.tables.iter().position(|table| table.family == wanted && table.name == name);
    found.ok_or_else(|| format!("table {wanted} {name} is not defined before"))
}

fn table(
    ruleset: &mut Ruleset,
    wanted: &schema::Table<'_>,
    is_reserved: IsReserved,
) -> Result<(), Why> {
    let (family, name) = (family(wanted.family), wanted.name.as_ref());
    if is_reserved(family, name) {
        return Err("this table is berth's own".into());
    }
    if ruleset.table(family, name).is_none() {
        ruleset.tables.push(Table::new(family, name));
    }
    Ok(())
}

fn chain(ruleset: &mut Ruleset, wanted: &schema::Chain<'_>) -> Result<(), Why> {
    let at = table_at(ruleset, wanted.family, &wanted.table)?;
    let hook = hook_of(wanted)?;
    if wanted.newname.is_some() {
        return Err("a new name belongs to rename".into());
    }
    let Some(table) = ruleset.tables.get_mut(at) else { return Ok(()) };
    match table.chains.iter().find(|chain| chain.name == wanted.name) {
        Some(before) if hook.is_none() || before.hook == hook => Ok(()),
        Some(_) => Err("the chain was defined before, otherwise".into()),
        None => {
            table.chains.push(Chain::new(&wanted.name, hook));
            Ok(())
        }
    }
}

fn hook_of(wanted: &schema::Chain<'_>) -> Result<Option<Hook>, Why> {
    let (kind, name, priority) = match (wanted._type, wanted.hook, wanted.prio) {
        (None, None, None) if wanted.policy.is_none() && wanted.dev.is_none() => return Ok(None),
        (Some(kind), Some(hook), Some(priority)) => (kind, hook, priority),
        _ => return Err("a base chain needs type, hook and prio".into()),
    };
    let number = match (wanted.family, name) {
        (NfFamily::NetDev, NfHook::Ingress) => 0,
        (NfFamily::NetDev, NfHook::Egress) => 1,
        (NfFamily::INet, NfHook::Ingress) => 5,
        (NfFamily::ARP, NfHook::Input) => 0,
        (NfFamily::ARP, NfHook::Output) => 1,
        (NfFamily::NetDev | NfFamily::ARP, _) | (_, NfHook::Ingress | NfHook::Egress) => {
            return Err("the family has no such hook".into());
        }
        (_, NfHook::Prerouting) => hook::PREROUTING,
        (_, NfHook::Input) => hook::INPUT,
        (_, NfHook::Forward) => hook::FORWARD,
        (_, NfHook::Output) => hook::OUTPUT,
        (_, NfHook::Postrouting) => hook::POSTROUTING,
    };
    let kind = match kind {
        NfChainType::Filter => "filter",
        NfChainType::Route => "route",
        NfChainType::NAT => "nat",
    };
    let policy = match wanted.policy {
        Some(NfChainPolicy::Drop) => Policy::Drop,
        Some(NfChainPolicy::Accept) | None => Policy::Accept,
    };
    let devices = wanted.dev.iter().map(ToString::to_string).collect();
    Ok(Some(Hook { kind: kind.to_owned(), number, priority, devices, policy }))
}

/// Packets and bytes of a counter: the crate's type has 32 bits for them, and four gigabytes are soon counted.
fn without_counts(body: &Value) -> (Value, [u64; 2]) {
    let mut body = body.clone();
    let counts = ["packets", "bytes"].map(|name| {
        let count = body.get(name).and_then(Value::as_u64);
        if let (Some(_), Some(fields)) = (count, body.as_object_mut()) {
            fields.remove(name);
        }
        count.unwrap_or(0)
    });
    (body, counts)
}

fn counter(
    ruleset: &mut Ruleset,
    wanted: &schema::Counter<'_>,
    [packets, bytes]: [u64; 2],
) -> Result<(), Why> {
    let at = table_at(ruleset, wanted.family, &wanted.table)?;
    let Some(table) = ruleset.tables.get_mut(at) else { return Ok(()) };
    if table.objects.iter().any(|object| object.name == wanted.name) {
        return Err("a counter of this name was defined before".into());
    }
    table.objects.push(Object {
        name: wanted.name.to_string(),
        handle: Handle::default(),
        kind: ObjectKind::Counter { packets, bytes },
        userdata: Userdata::default(),
    });
    Ok(())
}

/// nft prints the only flag of NAT or of a log as a word, which the crate's type does not take: made a list.
fn listed_flags(rule: &Value) -> Value {
    let mut rule = rule.clone();
    let statements = rule.get_mut("expr").and_then(Value::as_array_mut).into_iter().flatten();
    for statement in statements.filter_map(Value::as_object_mut) {
        let flagged = ["snat", "dnat", "masquerade", "redirect", "log"];
        let found = statement.iter_mut().filter(|(key, _)| flagged.contains(&key.as_str()));
        for flags in
            found.filter_map(|(_, body)| body.get_mut("flags")).filter(|flags| flags.is_string())
        {
            *flags = Value::Array(vec![flags.take()]);
        }
    }
    rule
}

fn of_statement(number: usize, statement: &Value, why: &str) -> Why {
    let name = statement.as_str().or_else(|| single(statement).map(|(key, _)| key)).unwrap_or("?");
    format!("statement {number} ({name}): {why}")
}
