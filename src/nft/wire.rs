//! Attributes of tables, chains, rules, sets, elements and objects (linux/netfilter/nf_tables.h), both ways.
//!
//! Each `encode` writes what a NEW message needs; each `decode` reads what a dump says. Handles, use counts and
//! expirations are the kernel's and never sent.

use super::attr::{Attributes, Writer};
use super::expr::{Data, Expr, SetIds, length};
use super::nfta;
use super::{
    Chain, DataType, Element, Family, Flowtable, Handle, Hook, OBJECT_COUNTER, Object, ObjectKind,
    Policy, Rule, Set, Table, Userdata, set,
};

/// Message types (`enum nf_tables_msg_types`).
pub mod kind {
    pub(crate) const NEW_TABLE: u8 = 0;
    pub(crate) const GET_TABLE: u8 = 1;
    pub(crate) const DEL_TABLE: u8 = 2;
    pub(crate) const NEW_CHAIN: u8 = 3;
    pub(crate) const GET_CHAIN: u8 = 4;
    pub(crate) const DEL_CHAIN: u8 = 5;
    pub(crate) const NEW_RULE: u8 = 6;
    pub(crate) const GET_RULE: u8 = 7;
    pub(crate) const DEL_RULE: u8 = 8;
    pub(crate) const NEW_SET: u8 = 9;
    pub(crate) const GET_SET: u8 = 10;
    pub(crate) const DEL_SET: u8 = 11;
    pub(crate) const NEW_ELEMENT: u8 = 12;
    pub(crate) const GET_ELEMENT: u8 = 13;
    pub const NEW_GENERATION: u8 = 15;
    pub(crate) const GET_GENERATION: u8 = 16;
    pub(crate) const TRACE: u8 = 17;
    pub(crate) const NEW_OBJECT: u8 = 18;
    pub(crate) const GET_OBJECT: u8 = 19;
    pub(crate) const DEL_OBJECT: u8 = 20;
    pub(crate) const DEL_ELEMENT: u8 = 14;
    pub(crate) const DEL_FLOWTABLE: u8 = 24;
    pub(crate) const NEW_FLOWTABLE: u8 = 22;
    pub(crate) const GET_FLOWTABLE: u8 = 23;
}

/// NFTA_DATA type of a verdict in `NFTA_SET_DATA_TYPE`.
const DATA_VERDICT: u32 = 0xffff_ff00;
/// NFT_CHAIN_BASE: follows from the hook.
const CHAIN_BASE: u32 = 1;

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
        w.text(nfta::table::NAME, &self.name);
        w.u32(nfta::table::FLAGS, self.flags);
        self.userdata.encode(nfta::table::USERDATA, w);
    }

    pub(super) fn decode(family: Family, a: Attributes<'_>) -> Option<Self> {
        Some(Self {
            family,
            name: a.text(nfta::table::NAME)?,
            handle: Handle(a.u64(nfta::table::HANDLE)),
            flags: a.u32(nfta::table::FLAGS).unwrap_or(0),
            userdata: Userdata::decode(a, nfta::table::USERDATA),
            sets: Vec::new(),
            flowtables: Vec::new(),
            objects: Vec::new(),
            chains: Vec::new(),
        })
    }
}

impl Chain {
    pub(super) fn encode(&self, table: &str, w: &mut Writer) {
        w.text(nfta::chain::TABLE, table);
        w.text(nfta::chain::NAME, &self.name);
        if let Some(hook) = &self.hook {
            w.nest(nfta::chain::HOOK, |w| hook.encode(w));
            w.u32(nfta::chain::POLICY, hook.policy as u32);
            w.text(nfta::chain::TYPE, &hook.kind);
        }
        if self.flags != 0 {
            w.u32(nfta::chain::FLAGS, self.flags);
        }
        self.userdata.encode(nfta::chain::USERDATA, w);
    }

    pub(super) fn decode(a: Attributes<'_>) -> Option<Self> {
        let hook = match a.nest(nfta::chain::HOOK) {
            Some(hook) => Some(Hook::decode(hook, a)?),
            None => None,
        };
        Some(Self {
            name: a.text(nfta::chain::NAME)?,
            handle: Handle(a.u64(nfta::chain::HANDLE)),
            hook,
            flags: a.u32(nfta::chain::FLAGS).unwrap_or(0) & !CHAIN_BASE,
            userdata: Userdata::decode(a, nfta::chain::USERDATA),
            rules: Vec::new(),
        })
    }
}

impl Hook {
    fn encode(&self, w: &mut Writer) {
        w.u32(nfta::hook::HOOKNUM, self.number);
        w.bytes(nfta::hook::PRIORITY, &self.priority.to_be_bytes());
        match self.devices.as_slice() {
            [] => {}
            [device] => w.text(nfta::hook::DEV, device),
            devices => w.nest(nfta::hook::DEVS, |w| {
                devices.iter().for_each(|device| w.text(nfta::device::NAME, device));
            }),
        }
    }

    fn decode(a: Attributes<'_>, chain: Attributes<'_>) -> Option<Self> {
        let devices = match a.nest(nfta::hook::DEVS) {
            Some(list) => list.map(|(_, name)| name).map(until_nul).collect(),
            None => a.text(nfta::hook::DEV).into_iter().collect(),
        };
        Some(Self {
            kind: chain.text(nfta::chain::TYPE).unwrap_or_default(),
            number: a.u32(nfta::hook::HOOKNUM)?,
            priority: a.i32(nfta::hook::PRIORITY)?,
            devices,
            policy: if chain.u32(nfta::chain::POLICY) == Some(0) {
                Policy::Drop
            } else {
                Policy::Accept
            },
        })
    }
}

fn until_nul(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)).into_owned()
}

impl Rule {
    pub(super) fn encode(&self, table: &str, chain: &str, sets: &SetIds, w: &mut Writer) {
        w.text(nfta::rule::TABLE, table);
        w.text(nfta::rule::CHAIN, chain);
        w.nest(nfta::rule::EXPRESSIONS, |w| {
            self.exprs.iter().for_each(|expr| expr.encode(sets, w));
        });
        self.userdata.encode(nfta::rule::USERDATA, w);
    }

    pub(super) fn decode(a: Attributes<'_>) -> Self {
        Self {
            handle: Handle(a.u64(nfta::rule::HANDLE)),
            exprs: a.nest(nfta::rule::EXPRESSIONS).map(Expr::decode_list).unwrap_or_default(),
            userdata: Userdata::decode(a, nfta::rule::USERDATA),
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
        w.text(nfta::set::TABLE, table);
        w.text(nfta::set::NAME, self.wire_name());
        w.u32(nfta::set::FLAGS, self.flags);
        w.u32(nfta::set::KEY_TYPE, self.key_type);
        w.u32(nfta::set::KEY_LEN, self.key_len);
        match self.data {
            Some(DataType::Verdict) => w.u32(nfta::set::DATA_TYPE, DATA_VERDICT),
            Some(DataType::Value { kind, len }) => {
                w.u32(nfta::set::DATA_TYPE, kind);
                w.u32(nfta::set::DATA_LEN, len);
            }
            None => {}
        }
        if self.policy != 0 {
            w.u32(nfta::set::POLICY, self.policy);
        }
        if self.size.is_some() || !self.fields.is_empty() {
            w.nest(nfta::set::DESC, |w| {
                w.some_u32(nfta::set_desc::SIZE, self.size);
                if !self.fields.is_empty() {
                    w.nest(nfta::set_desc::CONCAT, |w| {
                        self.fields.iter().for_each(|len| {
                            w.nest(nfta::list::ELEM, |w| w.u32(nfta::set_field::LEN, *len));
                        });
                    });
                }
            });
        }
        w.u32(nfta::set::ID, id);
        if let Some(timeout) = self.timeout {
            w.u64(nfta::set::TIMEOUT, timeout);
        }
        w.some_u32(nfta::set::GC_INTERVAL, self.gc_interval);
        self.userdata.encode(nfta::set::USERDATA, w);
        w.some_u32(nfta::set::OBJ_TYPE, self.object);
        match self.exprs.as_slice() {
            [] => {}
            [one] => w.nest(nfta::set::EXPR, |w| one.encode_bare(&SetIds::new(), w)),
            several => w.nest(nfta::set::EXPRESSIONS, |w| {
                several.iter().for_each(|expr| expr.encode(&SetIds::new(), w));
            }),
        }
    }

    pub(super) fn decode(a: Attributes<'_>) -> Option<Self> {
        let flags = a.u32(nfta::set::FLAGS).unwrap_or(0);
        let data = match (flags & set::MAP != 0, a.u32(nfta::set::DATA_TYPE)) {
            (true, Some(DATA_VERDICT)) => Some(DataType::Verdict),
            (true, Some(kind)) => {
                Some(DataType::Value { kind, len: length(a.u32(nfta::set::DATA_LEN).or(Some(0)))? })
            }
            _ => None,
        };
        let description = a.nest(nfta::set::DESC).unwrap_or(Attributes(&[]));
        let fields = description.nest(nfta::set_desc::CONCAT).map(|list| {
            list.filter_map(|(_, field)| Attributes(field).u32(nfta::set_field::LEN)).collect()
        });
        Some(Self {
            name: a.text(nfta::set::NAME)?,
            handle: Handle(a.u64(nfta::set::HANDLE)),
            flags,
            key_type: a.u32(nfta::set::KEY_TYPE).unwrap_or(0),
            key_len: length(a.u32(nfta::set::KEY_LEN))?,
            data,
            object: a.u32(nfta::set::OBJ_TYPE),
            policy: a.u32(nfta::set::POLICY).unwrap_or(0),
            size: description.u32(nfta::set_desc::SIZE),
            fields: fields.unwrap_or_default(),
            timeout: a.u64(nfta::set::TIMEOUT),
            gc_interval: a.u32(nfta::set::GC_INTERVAL),
            exprs: match (a.nest(nfta::set::EXPR), a.nest(nfta::set::EXPRESSIONS)) {
                (Some(one), _) => vec![Expr::decode(one)],
                (None, Some(list)) => Expr::decode_list(list),
                (None, None) => Vec::new(),
            },
            userdata: Userdata::decode(a, nfta::set::USERDATA),
            elements: Vec::new(),
        })
    }
}

impl Element {
    pub(super) fn encode(&self, sets: &SetIds, w: &mut Writer) {
        if !self.key.is_empty() {
            w.nest(nfta::set_elem::KEY, |w| w.bytes(nfta::data::VALUE, &self.key));
        }
        if let Some(end) = &self.key_end {
            w.nest(nfta::set_elem::KEY_END, |w| w.bytes(nfta::data::VALUE, end));
        }
        if let Some(data) = &self.data {
            data.encode(nfta::set_elem::DATA, w);
        }
        if self.flags != 0 {
            w.u32(nfta::set_elem::FLAGS, self.flags);
        }
        if let Some(timeout) = self.timeout {
            w.u64(nfta::set_elem::TIMEOUT, timeout);
        }
        self.userdata.encode(nfta::set_elem::USERDATA, w);
        match self.exprs.as_slice() {
            [] => {}
            [expr] => w.nest(nfta::set_elem::EXPR, |w| expr.encode_bare(sets, w)),
            exprs => {
                w.nest(nfta::set_elem::EXPRESSIONS, |w| {
                    exprs.iter().for_each(|expr| expr.encode(sets, w));
                });
            }
        }
        if let Some(object) = &self.object {
            w.text(nfta::set_elem::OBJREF, object);
        }
    }

    pub(super) fn decode(a: Attributes<'_>) -> Self {
        let exprs = match (a.nest(nfta::set_elem::EXPR), a.nest(nfta::set_elem::EXPRESSIONS)) {
            (Some(one), _) => vec![Expr::decode(one)],
            (None, Some(list)) => Expr::decode_list(list),
            (None, None) => Vec::new(),
        };
        let bytes = |kind| Some(a.nest(kind)?.value(nfta::data::VALUE)?.to_vec());
        Self {
            key: bytes(nfta::set_elem::KEY).unwrap_or_default(),
            key_end: bytes(nfta::set_elem::KEY_END),
            flags: a.u32(nfta::set_elem::FLAGS).unwrap_or(0),
            data: a.nest(nfta::set_elem::DATA).and_then(Data::decode),
            object: a.text(nfta::set_elem::OBJREF),
            timeout: a.u64(nfta::set_elem::TIMEOUT),
            expiration: a.u64(nfta::set_elem::EXPIRATION),
            exprs,
            userdata: Userdata::decode(a, nfta::set_elem::USERDATA),
        }
    }
}

impl Object {
    pub(super) fn encode(&self, table: &str, w: &mut Writer) {
        w.text(nfta::obj::TABLE, table);
        w.text(nfta::obj::NAME, &self.name);
        match &self.kind {
            ObjectKind::Counter { packets, bytes } => {
                w.u32(nfta::obj::TYPE, OBJECT_COUNTER);
                w.nest(nfta::obj::DATA, |w| {
                    w.u64(nfta::counter::BYTES, *bytes);
                    w.u64(nfta::counter::PACKETS, *packets);
                });
            }
            ObjectKind::Other { kind, bytes } => {
                w.u32(nfta::obj::TYPE, *kind);
                w.nest(nfta::obj::DATA, |w| w.raw(bytes));
            }
        }
        self.userdata.encode(nfta::obj::USERDATA, w);
    }

    pub(super) fn decode(a: Attributes<'_>) -> Option<Self> {
        let data = a.nest(nfta::obj::DATA).unwrap_or(Attributes(&[]));
        let kind = match (
            a.u32(nfta::obj::TYPE)?,
            data.u64(nfta::counter::BYTES),
            data.u64(nfta::counter::PACKETS),
        ) {
            (OBJECT_COUNTER, Some(bytes), Some(packets)) => ObjectKind::Counter { packets, bytes },
            (kind, ..) => ObjectKind::Other { kind, bytes: data.0.to_vec() },
        };
        Some(Self {
            name: a.text(nfta::obj::NAME)?,
            handle: Handle(a.u64(nfta::obj::HANDLE)),
            kind,
            userdata: Userdata::decode(a, nfta::obj::USERDATA),
        })
    }
}

impl Flowtable {
    pub(super) fn decode(a: Attributes<'_>) -> Option<Self> {
        let hook = a.nest(nfta::flowtable::HOOK).unwrap_or(Attributes(&[]));
        let devices = hook
            .nest(nfta::flowtable_hook::DEVS)
            .map(|list| list.map(|(_, name)| until_nul(name)).collect());
        Some(Self {
            name: a.text(nfta::flowtable::NAME)?,
            handle: Handle(a.u64(nfta::flowtable::HANDLE)),
            hook: hook.u32(nfta::flowtable_hook::NUM).unwrap_or(0),
            priority: hook.i32(nfta::flowtable_hook::PRIORITY).unwrap_or(0),
            devices: devices.unwrap_or_default(),
            flags: a.u32(nfta::flowtable::FLAGS).unwrap_or(0),
        })
    }
}
