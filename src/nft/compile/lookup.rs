//! Sets and maps that a rule looks into: named ones, and those it brings along.

use nftables::expr::{Expression, NamedExpression, SetItem, Verdict as Word};
use nftables::stmt::Statement;

use super::Why;
use super::declared;
use super::field::Field;
use super::kind::{Kind, what};
use super::rule::{Draft, field_of};
use super::set::{self, Entry, Values};
use crate::nft::expr::{Expr, Register, VERDICT};
use crate::nft::{Set, set as flags};

impl Draft<'_> {
    pub(crate) fn in_set(
        &mut self,
        key: &Expression<'_>,
        set: &Expression<'_>,
        inverted: bool,
    ) -> Result<(), Why> {
        self.look(key, set, None, None, inverted)
    }

    pub(crate) fn verdict_map(
        &mut self,
        key: &Expression<'_>,
        map: &Expression<'_>,
    ) -> Result<(), Why> {
        self.look(key, map, Some(Values::Verdicts), Some(VERDICT), false)
    }

    /// The value of a map, in register 1.
    pub fn mapped(
        &mut self,
        key: &Expression<'_>,
        map: &Expression<'_>,
        kind: Kind,
    ) -> Result<(), Why> {
        self.look(key, map, Some(Values::Of(kind)), Some(1), false)
    }

    fn look(
        &mut self,
        key: &Expression<'_>,
        set: &Expression<'_>,
        values: Option<Values>,
        dreg: Option<Register>,
        inverted: bool,
    ) -> Result<(), Why> {
        let fields = fields_of(key)?;
        let kinds: Vec<Kind> = fields.iter().map(|field| field.kind).collect();
        let (name, set_flags) = match set {
            Expression::String(word) => self.named(word, &kinds, values)?,
            Expression::Named(NamedExpression::Set(items)) => {
                self.own(items, &fields, &kinds, values)?
            }
            other => return Err(format!("{} where a set is wanted", what(other))),
        };
        for field in &fields {
            self.need(field.needs)?;
        }
        let mut at = 0;
        for field in &fields {
            self.load(field, slot(at));
            at += field.octets.next_multiple_of(4);
        }
        if let ([kind], true) = (kinds.as_slice(), set_flags & flags::INTERVAL != 0) {
            self.in_network_order(*kind, 1);
        }
        self.exprs.push(Expr::Lookup { set: name, sreg: 1, dreg, inverted });
        Ok(())
    }

    /// A set of the table, by `@name`.
    fn named(
        &self,
        word: &str,
        kinds: &[Kind],
        values: Option<Values>,
    ) -> Result<(String, u32), Why> {
        let name =
            word.strip_prefix('@').ok_or_else(|| format!("{word:?} where a set is wanted"))?;
        let found = self.table.sets.iter().find(|set| set.name == name && !set.is_anonymous());
        let found = found.ok_or_else(|| format!("the set {name} is not defined before"))?;
        let wanted = set::empty(name, kinds)?;
        if (wanted.key_type, wanted.key_len) != (found.key_type, found.key_len) {
            return Err(format!("the set {name} has keys of another type"));
        }
        if values.map(Values::data_type).transpose()? != found.data {
            return Err(format!(
                "{name} is not what is wanted here: a set, a map to verdicts, or one to values of this type"
            ));
        }
        Ok((found.name.clone(), found.flags))
    }

    /// A set of the rule's own.
    fn own(
        &mut self,
        items: &[SetItem<'_>],
        fields: &[Field],
        kinds: &[Kind],
        values: Option<Values>,
    ) -> Result<(String, u32), Why> {
        let entries: Vec<Entry> =
            items.iter().map(|item| entry(item, kinds, values)).collect::<Result<_, _>>()?;
        if entries.is_empty() {
            return Err("an empty set".into());
        }
        let name =
            format!("__{}{}", if values.is_some() { "map" } else { "set" }, self.table.sets.len());
        let mut made = set::empty(&name, kinds)?;
        made.flags = flags::ANONYMOUS | flags::CONSTANT;
        if let Some(values) = values {
            made.flags |= flags::MAP;
            made.data = Some(values.data_type()?);
        }
        if entries.iter().any(Entry::is_interval) {
            made.flags |= flags::INTERVAL;
        }
        set::finish(&mut made, kinds, values)?;
        made.userdata.0.extend(declared::of_set(fields, values));
        set::fill(&mut made, kinds, entries, values.is_none())?;
        distinct(&mut made)?;
        if made.flags & flags::INTERVAL == 0 {
            made.size = u32::try_from(made.elements.len()).ok();
        }
        let found = (name, made.flags);
        self.table.sets.push(made);
        Ok(found)
    }
}

/// The same key twice is once; with two values it is a mistake.
fn distinct(made: &mut Set) -> Result<(), Why> {
    made.elements.sort();
    made.elements.dedup();
    let keys = made.elements.iter().map(|element| (&element.key, &element.key_end, element.flags));
    let twice = keys.clone().zip(keys.skip(1)).any(|(a, b)| a == b);
    if twice { Err("a key that is there twice".into()) } else { Ok(()) }
}

fn entry(item: &SetItem<'_>, kinds: &[Kind], values: Option<Values>) -> Result<Entry, Why> {
    match (item, values) {
        (SetItem::Element(element), values) => set::pair_or_key(kinds, values, element),
        (SetItem::Mapping(key, value), Some(values)) => {
            set::entry(kinds, key, Some((values, value)))
        }
        (SetItem::MappingStatement(key, statement), Some(values)) => {
            let word = match statement {
                Statement::Accept(_) => Word::Accept,
                Statement::Drop(_) => Word::Drop,
                Statement::Continue(_) => Word::Continue,
                Statement::Return(_) => Word::Return,
                Statement::Jump(to) => Word::Jump(to.clone()),
                Statement::Goto(to) => Word::Goto(to.clone()),
                _ => return Err("a statement that is not a verdict, in a map".into()),
            };
            set::entry(kinds, key, Some((values, &Expression::Verdict(word))))
        }
        (_, None) => Err("a pair in a set".into()),
    }
}

/// One field, or several put together.
fn fields_of(key: &Expression<'_>) -> Result<Vec<Field>, Why> {
    let fields = match key {
        Expression::Named(NamedExpression::Concat(parts)) => {
            parts.iter().map(|part| field_of(part, false)).collect::<Result<Vec<_>, _>>()?
        }
        single => vec![field_of(single, false)?],
    };
    if fields.iter().any(|field| field.bits.is_some()) {
        return Err(
            "a field that is not of whole octets, looked up in a set, is not supported".into()
        );
    }
    Ok(fields)
}

/// The register at so many octets: the whole ones where they begin, the small ones between.
fn slot(at: usize) -> Register {
    let at = u32::try_from(at).unwrap_or(0);
    if at.is_multiple_of(16) { 1 + at / 16 } else { 8 + at / 4 }
}
