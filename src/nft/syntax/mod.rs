//! Rules as nft writes them: matches and statements, put together again from the kernel's instructions.
//!
//! ```text
//! Rule ── rebuild ──► [Statement] ──┬── text  (what `nft list` prints)
//!                                   └── json  (what `nft -j list` prints)
//! ```
//!
//! What nft knows no word for stays visible as what it is; nothing is left out.

mod declared;
mod dependency;
mod elements;
pub mod field;
mod rebuild;
mod relation;
mod statement;

use super::expr::{Expr, Verdict};
use super::names::{Order, Type};
use super::{Rule, Set, Table};

pub use elements::{Elements, Entry, Part};
pub use field::{Field, Source};

/// A value that is written down: up to 128 bits as a number, whatever the order of its bytes was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constant {
    pub number: u128,
    pub bits: u32,
    pub kind: Type,
}

/// How bits that have names are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// `a,b`
    List,
    /// `a | b`
    Or,
    /// One word; several bits are a number.
    Whole,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Field(Field<'a>),
    Constant(Constant),
    /// A value of named bits.
    Flags(Constant, Join),
    /// The first octets of a name; any may follow.
    Beginning(Constant),
    Prefix(Constant, u32),
    Range(Constant, Constant),
    /// Octets that are more than a number holds.
    Long(&'a [u8]),
    /// A set or map that is written where it is used.
    Elements(Elements<'a>),
    /// A set or map by name.
    Named(&'a str),
    Verdict(&'a Verdict),
    /// A named object, as maps give it.
    Object(&'a str),
    Any,
    Concat(Vec<Value<'a>>),
    /// `&`, `|`, `^`, `<<` or `>>`.
    Binary(&'static str, Box<Value<'a>>, Box<Value<'a>>),
    Map(Box<Value<'a>>, Box<Value<'a>>),
}

/// The relation of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// Any of the bits.
    Any,
    /// None of the bits.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement<'a> {
    Match {
        left: Value<'a>,
        relation: Relation,
        right: Value<'a>,
    },
    /// `FIELD value / mask`
    Masked {
        left: Value<'a>,
        not: bool,
        value: Constant,
        mask: Constant,
    },
    VerdictMap(Value<'a>, Value<'a>),
    Verdict(&'a Verdict),
    /// `jump { … }`, or `goto`: a chain without a name, written where it is used.
    InPlace {
        verdict: &'a Verdict,
        rules: Vec<InPlace<'a>>,
    },
    /// `FIELD set VALUE`
    Mangle(Value<'a>, Value<'a>),
    Nat(Nat<'a>),
    Reject {
        expr: &'a Expr,
        family: Option<u8>,
    },
    Tproxy {
        family: Option<u8>,
        addr: Option<Value<'a>>,
        port: Option<Value<'a>>,
    },
    /// `queue to VALUE`; the flags are the kernel's.
    Queue {
        to: Option<Value<'a>>,
        flags: u16,
    },
    Dup {
        addr: Option<Value<'a>>,
        device: Option<Value<'a>>,
    },
    Fwd {
        family: Option<u8>,
        addr: Option<Value<'a>>,
        device: Value<'a>,
    },
    /// A set or map that gets the key.
    Update(Update<'a>),
    /// An object chosen by a map.
    ObjectMap(u32, Value<'a>),
    /// `reset OPTION`
    Reset(Field<'a>),
    /// A module of x_tables, and the transport protocol that a match before it told.
    Xt {
        expr: &'a Expr,
        transport: Option<&'static str>,
    },
    /// What needs nothing from around it.
    Plain(&'a Expr),
}

/// A rule of a chain without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPlace<'a> {
    pub rule: &'a Rule,
    pub statements: Vec<Statement<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat<'a> {
    pub verb: &'static str,
    /// 2 or 10, where it is said.
    pub family: Option<u8>,
    pub addr: Option<Value<'a>>,
    pub port: Option<Value<'a>>,
    pub flags: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update<'a> {
    pub operation: u32,
    pub name: &'a str,
    /// Of an anonymous set: its largest number of elements; it is a meter then.
    pub meter: Option<Option<u32>>,
    pub key: Value<'a>,
    pub data: Option<Value<'a>>,
    /// Milliseconds.
    pub timeout: Option<u64>,
    pub exprs: &'a [Expr],
}

/// The statements of a rule.
pub fn statements<'a>(table: &'a Table, rule: &'a Rule) -> Vec<Statement<'a>> {
    rebuild::Rebuild::of(table).rule(rule)
}

/// The parts of a set's key.
pub(crate) fn key_parts(set: &Set) -> Vec<Part> {
    elements::key_parts(set)
}

/// What the keys of a set were declared with, and its data, when that was by expressions (`typeof`).
pub fn declared(set: &Set) -> (Option<Vec<Field<'_>>>, Option<Vec<Field<'_>>>) {
    (declared::key(set), declared::data(set))
}

/// The elements of a set that has a name.
pub(crate) fn elements_of(set: &Set) -> Elements<'_> {
    Elements::of_named(set)
}

impl Constant {
    /// `bytes` as a number; None when they are more than it holds.
    pub fn read(bytes: &[u8], kind: Type, order: Order) -> Option<Self> {
        if bytes.len() > 16 {
            return None;
        }
        let fold = |number: u128, byte: &u8| number << 8 | u128::from(*byte);
        let little = order == Order::Host && cfg!(target_endian = "little");
        let number =
            if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) };
        let bits = u32::try_from(bytes.len() * 8).unwrap_or(128);
        Some(Self { number, bits, kind })
    }

    pub fn of(self, kind: Type) -> Self {
        Self { kind, ..self }
    }

    /// The names of the bits; what has none is left out.
    pub fn flag_names(self) -> Vec<&'static str> {
        let symbols = self.kind.symbols().iter();
        symbols
            .filter(|(bit, _)| self.number & u128::from(*bit) != 0)
            .map(|(_, word)| *word)
            .collect()
    }

    /// Bits without a name.
    pub fn nameless(self) -> u128 {
        self.kind.symbols().iter().fold(self.number, |rest, (bit, _)| rest & !u128::from(*bit))
    }

    /// The octets of a name, as the kernel stores it: the first is the lowest of the number.
    pub fn name(self) -> String {
        let bytes = self.number.to_le_bytes();
        let used = bytes.iter().take(usize::try_from(self.bits / 8).unwrap_or(16));
        let text: Vec<u8> = used.copied().take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// All ones, of so many bits.
pub fn ones(bits: u32) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

/// Length of the prefix when the mask is ones and then zeros, within so many bits.
pub(crate) fn prefix_len(mask: u128, bits: u32) -> Option<u32> {
    let zeros = mask.trailing_zeros().min(bits);
    (mask == ones(bits) & !ones(zeros)).then_some(bits - zeros)
}
