//! Attributes of tables, chains, rules, sets, elements and objects (linux/netfilter/nf_tables.h), both ways.
//!
//! Each `encode` writes what a NEW message needs; each `decode` reads what a dump says. Handles, use counts and
//! expirations are the kernel's and never sent.

use super::attr::{Attributes, Writer};
use super::expr::{Data, Expr, SetIds, length};
use super::{
    Chain, DataType, Element, Family, Flowtable, Handle, Hook, OBJECT_COUNTER, Object, ObjectKind, Policy,
    Rule, Set, Table, Userdata, set,
};

/// Message types (`enum nf_tables_msg_types`).
pub mod kind {
    pub const NEW_TABLE: u8 = 0;
    pub const GET_TABLE: u8 = 1;
    pub const DEL_TABLE: u8 = 2;
    pub const NEW_CHAIN: u8 = 3;
    pub const GET_CHAIN: u8 = 4;
    pub const DEL_CHAIN: u8 = 5;
    pub const NEW_RULE: u8 = 6;
    pub const GET_RULE: u8 = 7;
    pub const DEL_RULE: u8 = 8;
    pub const NEW_SET: u8 = 9;
    pub const GET_SET: u8 = 10;
    pub const DEL_SET: u8 = 11;
    pub const NEW_ELEMENT: u8 = 12;
    pub const GET_ELEMENT: u8 = 13;
    pub const NEW_GENERATION: u8 = 15;
    pub const GET_GENERATION: u8 = 16;
    pub const TRACE: u8 = 17;
    pub const NEW_OBJECT: u8 = 18;
    pub const GET_OBJECT: u8 = 19;
    pub const DEL_OBJECT: u8 = 20;
    pub const DEL_ELEMENT: u8 = 14;
    pub const DEL_FLOWTABLE: u8 = 24;
    pub const NEW_FLOWTABLE: u8 = 22;
    pub const GET_FLOWTABLE: u8 = 23;
}

/// NFTA_DATA type of a verdict in `NFTA_SET_DATA_TYPE`.
const DATA_VERDICT: u32 = 0xffff_ff00;
/// NFT_CHAIN_BASE: follows from the hook.
const CHAIN_BASE: u32 = 1;
/// NFTA_SET_USERDATA.
const SET_USERDATA: u16 = 13;

impl Userdata {
    fn encode(&self, kind: u16, w: &mut Writer) {
        if !self.0.is_empty() {
            w.bytes(kind, &self.0);
        }
    }

    fn decode(attributes: Attributes<'_>, kind: u16) -> Self {
        Self(attributes.value(kind).unwrap_or(&[]).to_vec())
    }
}

impl Table {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.text(1, &self.name);
        w.u32(2, self.flags);
        self.userdata.encode(6, w);
    }

    pub(super) fn decode(family: Family, a: Attributes<'_>) -> Option<Self> {
        Some(Self {
            family,
            name: a.text(1)?,
            handle: Handle(a.u64(4)),
            flags: a.u32(2).unwrap_or(0),
            userdata: Userdata::decode(a, 6),
            sets: Vec::new(),
            flowtables: Vec::new(),
            objects: Vec::new(),
            chains: Vec::new(),
        })
    }
}

impl Chain {
    pub(super) fn encode(&self, table: &str, w: &mut Writer) {
        w.text(1, table);
        w.text(3, &self.name);
        if let Some(hook) = &self.hook {
            w.nest(4, |w| hook.encode(w));
            w.u32(5, hook.policy as u32);
            w.text(7, &hook.kind);
        }
        if self.flags != 0 {
            w.u32(10, self.flags);
        }
        self.userdata.encode(12, w);
    }

    pub(super) fn decode(a: Attributes<'_>) -> Option<Self> {
        let hook = match a.nest(4) {
            Some(hook) => Some(Hook::decode(hook, a)?),
            None => None,
        };
        Some(Self {
            name: a.text(3)?,
            handle: Handle(a.u64(2)),
            hook,
            flags: a.u32(10).unwrap_or(0) & !CHAIN_BASE,
            userdata: Userdata::decode(a, 12),
            rules: Vec::new(),
        })
    }
}

impl Hook {
    fn encode(&self, w: &mut Writer) {
        w.u32(1, self.number);
        w.bytes(2, &self.priority.to_be_bytes());
        match self.devices.as_slice() {
            [] => {}
            [device] => w.text(3, device),
            devices => w.nest(4, |w| devices.iter().for_each(|device| w.text(1, device))),
        }
    }

    fn decode(a: Attributes<'_>, chain: Attributes<'_>) -> Option<Self> {
        let devices = match a.nest(4) {
            Some(list) => list.map(|(_, name)| name).map(until_nul).collect(),
            None => a.text(3).into_iter().collect(),
        };
        Some(Self {
            kind: chain.text(7).unwrap_or_default(),
            number: a.u32(1)?,
            priority: a.i32(2)?,
            devices,
            policy: if chain.u32(5) == Some(0) { Policy::Drop } else { Policy::Accept },
        })
    }
}

fn until_nul(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)).into_owned()
}

impl Rule {
    pub(super) fn encode(&self, table: &str, chain: &str, sets: &SetIds, w: &mut Writer) {
        w.text(1, table);
        w.text(2, chain);
        w.nest(4, |w| self.exprs.iter().for_each(|expr| expr.encode(sets, w)));
        self.userdata.encode(7, w);
    }

    pub(super) fn decode(a: Attributes<'_>) -> Self {
        Self {
            handle: Handle(a.u64(3)),
            exprs: a.nest(4).map(Expr::decode_list).unwrap_or_default(),
            userdata: Userdata::decode(a, 7),
        }
    }
}

impl Set {
    /// The name sent to the kernel: a template for an anonymous set.
    pub(super) fn wire_name(&self) -> &str {
        match (self.is_anonymous(), self.data.is_some()) {
            (false, _) => &self.name,
            // A meter.
            (true, _) if self.flags & set::DYNAMIC != 0 => &self.name,
            (true, false) => "__set%d",
            (true, true) => "__map%d",
        }
    }

    pub(super) fn encode(&self, table: &str, id: u32, w: &mut Writer) {
        w.text(1, table);
        w.text(2, self.wire_name());
        w.u32(3, self.flags);
        w.u32(4, self.key_type);
        w.u32(5, self.key_len);
        match self.data {
            Some(DataType::Verdict) => w.u32(6, DATA_VERDICT),
            Some(DataType::Value { kind, len }) => {
                w.u32(6, kind);
                w.u32(7, len);
            }
            None => {}
        }
        if self.policy != 0 {
            w.u32(8, self.policy);
        }
        if self.size.is_some() || !self.fields.is_empty() {
            w.nest(9, |w| {
                w.some_u32(1, self.size);
                if !self.fields.is_empty() {
                    w.nest(2, |w| {
                        self.fields.iter().for_each(|len| w.nest(1, |w| w.u32(1, *len)));
                    });
                }
            });
        }
        w.u32(10, id);
        if let Some(timeout) = self.timeout {
            w.u64(11, timeout);
        }
        w.some_u32(12, self.gc_interval);
        self.userdata.encode(SET_USERDATA, w);
        w.some_u32(15, self.object);
        match self.exprs.as_slice() {
            [] => {}
            [one] => w.nest(17, |w| one.encode_bare(&SetIds::new(), w)),
            several => w.nest(18, |w| several.iter().for_each(|expr| expr.encode(&SetIds::new(), w))),
        }
    }

    pub(super) fn decode(a: Attributes<'_>) -> Option<Self> {
        let flags = a.u32(3).unwrap_or(0);
        let data = match (flags & set::MAP != 0, a.u32(6)) {
            (true, Some(DATA_VERDICT)) => Some(DataType::Verdict),
            (true, Some(kind)) => Some(DataType::Value { kind, len: length(a.u32(7).or(Some(0)))? }),
            _ => None,
        };
        let description = a.nest(9).unwrap_or(Attributes(&[]));
        let fields =
            description.nest(2).map(|list| list.filter_map(|(_, field)| Attributes(field).u32(1)).collect());
        Some(Self {
            name: a.text(2)?,
            handle: Handle(a.u64(16)),
            flags,
            key_type: a.u32(4).unwrap_or(0),
            key_len: length(a.u32(5))?,
            data,
            object: a.u32(15),
            policy: a.u32(8).unwrap_or(0),
            size: description.u32(1),
            fields: fields.unwrap_or_default(),
            timeout: a.u64(11),
            gc_interval: a.u32(12),
            exprs: match (a.nest(17), a.nest(18)) {
                (Some(one), _) => vec![Expr::decode(one)],
                (None, Some(list)) => Expr::decode_list(list),
                (None, None) => Vec::new(),
            },
            userdata: Userdata::decode(a, SET_USERDATA),
            elements: Vec::new(),
        })
    }
}

impl Element {
    pub(super) fn encode(&self, sets: &SetIds, w: &mut Writer) {
        if !self.key.is_empty() {
            w.nest(1, |w| w.bytes(1, &self.key));
        }
        if let Some(end) = &self.key_end {
            w.nest(10, |w| w.bytes(1, end));
        }
        if let Some(data) = &self.data {
            data.encode(2, w);
        }
        if self.flags != 0 {
            w.u32(3, self.flags);
        }
        if let Some(timeout) = self.timeout {
            w.u64(4, timeout);
        }
        self.userdata.encode(6, w);
        match self.exprs.as_slice() {
            [] => {}
            [expr] => w.nest(7, |w| expr.encode_bare(sets, w)),
            exprs => w.nest(11, |w| exprs.iter().for_each(|expr| expr.encode(sets, w))),
        }
        if let Some(object) = &self.object {
            w.text(9, object);
        }
    }

    pub(super) fn decode(a: Attributes<'_>) -> Self {
        let exprs = match (a.nest(7), a.nest(11)) {
            (Some(one), _) => vec![Expr::decode(one)],
            (None, Some(list)) => Expr::decode_list(list),
            (None, None) => Vec::new(),
        };
        let bytes = |kind| Some(a.nest(kind)?.value(1)?.to_vec());
        Self {
            key: bytes(1).unwrap_or_default(),
            key_end: bytes(10),
            flags: a.u32(3).unwrap_or(0),
            data: a.nest(2).and_then(Data::decode),
            object: a.text(9),
            timeout: a.u64(4),
            expiration: a.u64(5),
            exprs,
            userdata: Userdata::decode(a, 6),
        }
    }
}

impl Object {
    pub(super) fn encode(&self, table: &str, w: &mut Writer) {
        w.text(1, table);
        w.text(2, &self.name);
        match &self.kind {
            ObjectKind::Counter { packets, bytes } => {
                w.u32(3, OBJECT_COUNTER);
                w.nest(4, |w| {
                    w.u64(1, *bytes);
                    w.u64(2, *packets);
                });
            }
            ObjectKind::Other { kind, bytes } => {
                w.u32(3, *kind);
                w.nest(4, |w| w.raw(bytes));
            }
        }
        self.userdata.encode(8, w);
    }

    pub(super) fn decode(a: Attributes<'_>) -> Option<Self> {
        let data = a.nest(4).unwrap_or(Attributes(&[]));
        let kind = match (a.u32(3)?, data.u64(1), data.u64(2)) {
            (OBJECT_COUNTER, Some(bytes), Some(packets)) => ObjectKind::Counter { packets, bytes },
            (kind, ..) => ObjectKind::Other { kind, bytes: data.0.to_vec() },
        };
        Some(Self { name: a.text(2)?, handle: Handle(a.u64(6)), kind, userdata: Userdata::decode(a, 8) })
    }
}

impl Flowtable {
    pub(super) fn decode(a: Attributes<'_>) -> Option<Self> {
        let hook = a.nest(3).unwrap_or(Attributes(&[]));
        let devices = hook.nest(3).map(|list| list.map(|(_, name)| until_nul(name)).collect());
        Some(Self {
            name: a.text(2)?,
            handle: Handle(a.u64(5)),
            hook: hook.u32(1).unwrap_or(0),
            priority: hook.i32(2).unwrap_or(0),
            devices: devices.unwrap_or_default(),
            flags: a.u32(7).unwrap_or(0),
        })
    }
}
