//! What counts as the same ruleset: what is wanted of it, without what the kernel counts, learns and numbers.

use std::collections::HashMap;

use super::attr::{Attributes, Writer};
use super::expr::Expr;
use super::nfta::quota;
use super::{Flowtable, Handle, OBJECT_QUOTA, Object, ObjectKind, Ruleset, Set, Table, set};

/// NFT_SET_ELEM_INTERVAL_END.
const INTERVAL_END: u32 = 1;

/// LOGLEVEL_WARNING.
const LOG_WARNING: u32 = 4;

impl Ruleset {
    /// The form in which wanted and found are compared: sorted where order means nothing, counters at zero,
    /// anonymous sets named after their first use, no handles.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let mut tables: Vec<Table> = self.tables.iter().map(Table::canonical).collect();
        tables.sort_by(|a, b| (a.family, &a.name).cmp(&(b.family, &b.name)));
        Self { tables }
    }
}

impl Table {
    fn canonical(&self) -> Self {
        let mut table = self.clone();
        table.handle = Handle::default();
        table.chains.sort_by(|a, b| a.name.cmp(&b.name));
        for chain in &mut table.chains {
            chain.handle = Handle::default();
            chain.rules.iter_mut().for_each(|rule| rule.handle = Handle::default());
        }
        let names = table.canonical_set_names();
        for expr in table
            .chains
            .iter_mut()
            .flat_map(|chain| &mut chain.rules)
            .flat_map(|rule| &mut rule.exprs)
        {
            expr.reset_counter();
            expr.fill_in();
            if let Some(set) = expr.set_name_mut()
                && let Some(name) = names.get(set)
            {
                set.clone_from(name);
            }
        }
        for set in &mut table.sets {
            if let Some(name) = names.get(&set.name) {
                set.name.clone_from(name);
            }
            set.make_canonical();
        }
        table.objects = table.objects.iter().map(Object::canonical).collect();
        table.flowtables = table.flowtables.iter().map(Flowtable::canonical).collect();
        table.sets.sort_by(|a, b| a.name.cmp(&b.name));
        table.objects.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
        table
    }

    /// Old name → `__set0`, `__map1`, … in the order the rules first use them.
    fn canonical_set_names(&self) -> HashMap<String, String> {
        let anonymous = self.sets.iter().filter(|set| set.is_anonymous());
        let anonymous: HashMap<&str, &Set> =
            anonymous.map(|set| (set.name.as_str(), set)).collect();
        let mut names = HashMap::new();
        for expr in self.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.exprs) {
            let Some(used) = expr.set_name() else { continue };
            let Some(set) = anonymous.get(used.as_str()) else { continue };
            // A meter has a name of its own.
            if set.is_meter() {
                continue;
            }
            let number = names.len();
            names.entry(used.clone()).or_insert_with(|| format!("__{}{number}", set.noun()));
        }
        names
    }
}

impl Set {
    pub(super) fn canonical(&self) -> Self {
        let mut set = self.clone();
        set.make_canonical();
        set
    }

    /// What packets put there, and what will go by itself, is not part of what is wanted.
    fn make_canonical(&mut self) {
        self.handle = Handle::default();
        let (dynamic, expires) = (self.flags & set::DYNAMIC != 0, self.timeout.is_some());
        self.elements.retain(|element| !dynamic && !expires && element.timeout.is_none());
        self.exprs.iter_mut().for_each(Expr::reset_counter);
        for element in &mut self.elements {
            element.exprs.iter_mut().for_each(Expr::reset_counter);
            // The kernel gives every element what the set is declared with.
            if element.exprs.is_empty() && element.flags & INTERVAL_END == 0 {
                element.exprs.clone_from(&self.exprs);
            }
        }
        self.elements.sort();
    }
}

impl Object {
    /// Names are unique within a kind.
    pub(super) fn id(&self) -> (u32, &str) {
        (self.kind.number(), &self.name)
    }

    pub(super) fn canonical(&self) -> Self {
        let mut object = Self { handle: Handle::default(), ..self.clone() };
        object.kind.reset_state();
        object
    }
}

impl Flowtable {
    pub(super) fn canonical(&self) -> Self {
        Self { handle: Handle::default(), ..self.clone() }
    }
}

impl ObjectKind {
    fn reset_state(&mut self) {
        match self {
            Self::Counter { packets, bytes } => (*packets, *bytes) = (0, 0),
            Self::Other { kind: OBJECT_QUOTA, bytes } => *bytes = quota(bytes, false),
            Self::Other { .. } => {}
        }
    }

    /// What goes on counting where this one is.
    pub(super) fn for_reuse(&self) -> Self {
        match self {
            Self::Other { kind: OBJECT_QUOTA, bytes } => {
                Self::Other { kind: OBJECT_QUOTA, bytes: quota(bytes, true) }
            }
            other => other.clone(),
        }
    }
}

impl Expr {
    /// Whether the kernel counts in it; what it has counted is not part of what is wanted.
    pub(super) fn is_stateful(&self) -> bool {
        matches!(self, Self::Counter { .. } | Self::Quota { .. } | Self::Last { .. })
    }

    /// What goes on counting where this one is. That a quota is used up (flag 2) is the kernel's to say.
    pub(super) fn for_reuse(&self) -> Self {
        let mut expr = self.clone();
        if let Self::Quota { flags, .. } = &mut expr {
            *flags &= 1;
        }
        expr
    }

    /// What the kernel takes where nothing was said, and tells as if it had been.
    pub(super) fn fill_in(&mut self) {
        if let Self::Log { group: None, level: level @ None, .. } = self {
            *level = Some(LOG_WARNING);
        }
    }

    /// What counts by itself back to nothing.
    pub(super) fn reset_counter(&mut self) {
        match self {
            Self::Counter { packets, bytes } => (*packets, *bytes) = (0, 0),
            Self::Quota { consumed, flags, .. } => (*consumed, *flags) = (0, *flags & 1),
            Self::Last { set, milliseconds } => (*set, *milliseconds) = (false, 0),
            Self::Dynset { exprs, .. } => exprs.iter_mut().for_each(Self::reset_counter),
            _ => {}
        }
    }
}

/// Attributes of a quota, without the flag that says it is used up, which
/// is the kernel's to set.
fn quota(bytes: &[u8], consumed: bool) -> Vec<u8> {
    let attributes = Attributes(bytes);
    let mut writer = Writer::new();
    if let Some(octets) = attributes.u64(quota::BYTES) {
        writer.u64(quota::BYTES, octets);
    }
    writer.some_u32(quota::FLAGS, attributes.u32(quota::FLAGS).map(|flags| flags & 1));
    if let Some(octets) = attributes.u64(quota::CONSUMED).filter(|_| consumed) {
        writer.u64(quota::CONSUMED, octets);
    }
    writer.into_bytes()
}
