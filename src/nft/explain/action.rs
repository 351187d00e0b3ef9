//! Expressions that do something, or ask what only the kernel knows at the time.

use super::super::expr::{Expr, Register};
use std::net::IpAddr;

use super::super::{Family, Object, ObjectKind, Set, attr::Attributes};
use super::bits::{Bits, Truth};
use super::effect::{Effect, End, Loaded, stuck};
use super::lookup::{self, Found};
use super::machine::{Machine, usize_of};
use super::nat;
use super::packet::{TCP, UDP};
use super::words::{Place, Style, payload_words};
use super::world::Question;
use super::{Change, Stage};

/// NFT_OBJECT_*.
mod object {
    pub(crate) const QUOTA: u32 = 2;
    pub(crate) const HELPER: u32 = 3;
    pub const LIMIT: u32 = 4;
    pub(crate) const CONNLIMIT: u32 = 5;
    pub(crate) const SYNPROXY: u32 = 10;
}

impl Machine<'_, '_> {
    pub(super) fn act(&mut self, expr: &Expr) -> Result<Effect, Question> {
        Ok(match expr {
            // No effect on this packet, or none that a rule sees.
            Expr::Counter { .. }
            | Expr::Log { .. }
            | Expr::Last { .. }
            | Expr::FlowOffload { .. } => Effect::Next,
            Expr::MetaSet { key, sreg } => {
                let bits = self.registers.get(*sreg, 4);
                self.walk.set_meta(*key, &bits, self.certain())
            }
            Expr::CtSet { key, sreg, direction } => {
                let bits = self.registers.get(*sreg, 16);
                self.walk.set_ct(*key, *direction, &bits, self.certain())
            }
            Expr::PayloadSet { base, offset, len, sreg, .. } => {
                self.rewrite(*base, *offset, *len, *sreg)
            }
            Expr::ExthdrSet { field, .. } | Expr::ExthdrReset { field } => {
                match (field.space, self.walk.packet.protocol) {
                    (1, protocol) if protocol != TCP => Effect::Break("not a TCP packet".into()),
                    _ => Effect::Next,
                }
            }
            Expr::Nat { .. } | Expr::Masquerade { .. } | Expr::Redirect { .. } => {
                nat::apply(self, expr)?
            }
            Expr::Reject { kind, .. } => self.reject(*kind == 1),
            Expr::Dup { addr, device } => self.copied(*addr, *device),
            Expr::Fwd { device, addr, family } => self.handed(*device, *addr, *family),
            Expr::Notrack => self.walk.no_track(self.certain()),
            Expr::Limit { over, .. } => self.limited("rate", *over),
            Expr::Quota { flags, .. } => self.limited("quota", flags & 1 != 0),
            Expr::Connlimit { flags, .. } => self.limited("number of connections", flags & 1 != 0),
            Expr::Objref { kind, name } => {
                let objects = &self.table.objects;
                let found = objects
                    .iter()
                    .find(|found| found.name == *name && found.kind.number() == *kind);
                self.object(*kind, name, found)
            }
            Expr::ObjrefMap { set, sreg } => self.object_of(set, *sreg),
            Expr::Dynset { set, key, operation, exprs, flags, .. } => {
                self.dynamic(set, *key, *operation == 2, exprs, flags & 1 != 0)
            }
            Expr::Xt { target, name, revision, info } => self.xt(*target, name, *revision, info)?,
            other => self.ask_kernel(other),
        })
    }

    fn ask_kernel(&mut self, expr: &Expr) -> Effect {
        match expr {
            Expr::Queue { from, .. } => {
                stuck(&format!("a program in user space decides (queue {from})"))
            }
            Expr::Synproxy { .. } if self.walk.packet.protocol != TCP => {
                Effect::Break("not a TCP packet".into())
            }
            Expr::Tproxy { .. } if !matches!(self.walk.packet.protocol, TCP | UDP) => {
                Effect::Break("neither TCP nor UDP".into())
            }
            Expr::Tproxy { .. } => {
                stuck("the packet goes to a proxy's socket, if there is one (tproxy)")
            }
            Expr::Synproxy { .. } => stuck("synproxy answers for the server"),
            Expr::Numgen { dreg, .. } => self.open(*dreg, "the generated number"),
            Expr::Hash { dreg, .. } => self.open(*dreg, "the hash"),
            Expr::Socket { dreg, .. } => self.perhaps(*dreg, "the packet's socket"),
            Expr::Osf { dreg, .. } => self.perhaps(*dreg, "the sender's operating system"),
            Expr::Xfrm { dreg, .. } => self.perhaps(*dreg, "the packet's IPsec state"),
            Expr::Tunnel { dreg, .. } => self.perhaps(*dreg, "the packet's tunnel"),
            other => stuck(&format!("expression {} is not understood", other.name())),
        }
    }

    /// The interface and the next hop in these registers, as far as they are known.
    fn place(&self, addr: Option<Register>, device: Option<Register>, ip6: bool) -> String {
        let known = |register, octets| self.registers.get(register, octets).bytes();
        let index = device.and_then(|device| known(device, 4)?.try_into().ok());
        let index = index.map(u32::from_ne_bytes);
        let name = index.and_then(|index| Some(self.walk.world.interface(index)?.name.clone()));
        let device = match (device, name, index) {
            (None, ..) => String::new(),
            (_, Some(name), _) => format!(" by {name}"),
            (_, None, Some(index)) => format!(" by interface {index}"),
            (_, None, None) => " by an interface that is not known".to_owned(),
        };
        let octets = |addr| known(addr, if ip6 { 16 } else { 4 });
        let to: Option<IpAddr> = addr.and_then(octets).and_then(|octets| match octets.len() {
            16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
            _ => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        });
        match (addr, to) {
            (None, _) => device,
            (_, Some(to)) => format!("{device} to {to}"),
            (_, None) => format!("{device} to an address that is not known"),
        }
    }

    /// net/netfilter/nft_dup_netdev.c, and ipv6/netfilter/nf_dup_ipv6.c.
    fn copied(&mut self, addr: Option<Register>, device: Option<Register>) -> Effect {
        let place = self.place(addr, device, self.table.family == Family::IP6);
        let said = format!("a copy goes on{place}");
        if self.certain() {
            self.walk.copied = Some(said.clone());
        }
        Effect::Said(said)
    }

    /// net/netfilter/nft_fwd_netdev.c: to a neighbour it takes one of the time to live.
    fn handed(&self, device: Register, addr: Option<Register>, family: Option<u32>) -> Effect {
        let ip6 = family == Some(u32::from(Family::IP6.0));
        if addr.is_some() && ip6 != (self.walk.packet.family == Family::IP6) {
            return Effect::Break("a packet of another family".into());
        }
        let place = self.place(addr, Some(device), ip6);
        Effect::End(End::Handed(format!("handed on{place}")))
    }

    /// A value that is there, but nobody knows which.
    fn open(&mut self, dreg: Register, what: &str) -> Effect {
        self.loaded(dreg, Loaded::Bits(Bits::unknown(16)), what.to_owned(), Style::RAW)
    }

    /// The same, where the rule fails if there is none.
    fn perhaps(&mut self, dreg: Register, what: &str) -> Effect {
        self.open(dreg, what);
        Effect::Doubt(format!("{what} is not known"))
    }

    /// A match on how much came before; `over` matches when it was too much.
    pub(super) fn limited(&self, what: &str, over: bool) -> Effect {
        match (self.walk.world.within_limits, over) {
            (true, false) => Effect::Next,
            (true, true) => Effect::Break(format!("the {what} is taken as within its limit")),
            (false, _) => Effect::Doubt(format!(
                "the {what} may be over its limit or not (--within-limits: it is not)"
            )),
        }
    }

    fn object(&mut self, kind: u32, name: &str, found: Option<&Object>) -> Effect {
        let flag = |number| match found.map(|object| &object.kind) {
            Some(ObjectKind::Other { bytes, .. }) => {
                Attributes(bytes).u32(number).unwrap_or(0) & 1 != 0
            }
            _ => false,
        };
        match kind {
            object::QUOTA => self.limited(&format!("quota {name}"), flag(2)),
            object::LIMIT => self.limited(&format!("rate of {name}"), flag(5)),
            object::CONNLIMIT => self.limited(&format!("number of connections of {name}"), flag(2)),
            object::SYNPROXY if self.walk.packet.protocol != TCP => {
                Effect::Break("not a TCP packet".into())
            }
            object::SYNPROXY => stuck(&format!("synproxy {name} answers for the server")),
            object::HELPER => {
                self.walk.set_helper();
                Effect::Next
            }
            _ => Effect::Next,
        }
    }

    fn object_of(&mut self, name: &str, sreg: Register) -> Effect {
        let Some(set) = self.table.sets.iter().find(|set| set.name == name) else {
            return stuck(&format!("map {name} is not there"));
        };
        let kind = set.object.unwrap_or(0);
        match lookup::find(set, &self.registers.get(sreg, usize_of(set.key_len))) {
            Found::Nothing => {
                Effect::Break(format!("{} is not in @{name}", self.registers.origin(sreg).text))
            }
            Found::Perhaps => Effect::Doubt(self.registers.origin(sreg).doubt()),
            Found::Added => stuck(&format!("a rule has changed @{name}")),
            Found::Element(element) => {
                let name = element.object.as_deref().unwrap_or(name);
                let mut objects = self.table.objects.iter();
                let found = objects.find(|found| found.name == name && found.kind.number() == kind);
                self.object(kind, name, found)
            }
        }
    }

    /// Adds to, or removes from, a set; a rate of the element's own may say no.
    fn dynamic(
        &mut self,
        set: &str,
        key: Register,
        removes: bool,
        exprs: &[Expr],
        inverted: bool,
    ) -> Effect {
        let name = set;
        let Some(set) = self.table.sets.iter().find(|found| found.name == name) else {
            return stuck(&format!("set {name} is not there"));
        };
        let key = self.registers.get(key, usize_of(set.key_len));
        let place = (self.table.family, self.table.name.clone(), name.to_owned());
        let certain = self.certain();
        let changes = self.walk.changed.entry(place).or_default();
        let full = if removes { Truth::No } else { is_full(set, &key, changes) };
        if full == Truth::Yes {
            return Effect::Break(format!("@{name} is full"));
        }
        changes.push(Change { key, certain: certain && full == Truth::No, removes });
        if full == Truth::Maybe {
            return Effect::Doubt(format!("@{name} may be full"));
        }
        let limits =
            exprs.iter().any(|expr| !matches!(expr, Expr::Counter { .. } | Expr::Last { .. }));
        let over = exprs.iter().any(|expr| match expr {
            Expr::Limit { over, .. } => *over,
            Expr::Quota { flags, .. } | Expr::Connlimit { flags, .. } => flags & 1 != 0,
            _ => false,
        });
        match (limits, inverted) {
            (false, false) => Effect::Next,
            _ => self.limited(&format!("element's own rate in @{name}"), over != inverted),
        }
    }

    fn rewrite(&mut self, base: u32, offset: u32, len: u32, sreg: Register) -> Effect {
        let bits = self.registers.get(sreg, usize_of(len));
        let certain = self.certain();
        let packet = &mut self.walk.packet;
        let place = Place::of(packet.ether_type(), packet.protocol, base, offset, len);
        let (text, style) = payload_words(place, packet.icmp_type(), (base, offset, len));
        if packet.layer(base).is_none() {
            return Effect::Break(format!("{text}: the packet has no such header"));
        }
        let offset = usize_of(offset);
        let shape = packet.shape();
        let Some(layer) = packet.layer_mut(base) else { return Effect::Next };
        let before = layer.part(offset, bits.len()).unwrap_or_else(|| Bits::unknown(bits.len()));
        let after = if certain { bits } else { before.or(&bits) };
        layer.put(offset, &after);
        if packet.shape() != shape {
            return stuck("a rule writes another protocol, length or offset into the packet");
        }
        if self.walk.stage == Stage::Tracked
            && self.walk.packet.has_end_at(base, offset, after.len())
        {
            self.walk.rewritten = true;
        }
        let value = after.bytes().map_or_else(|| "?".to_owned(), |bytes| style.text(&bytes));
        Effect::Said(format!("{text} is {value} from here on"))
    }

    pub(super) fn reject(&self, reset: bool) -> Effect {
        let how = if reset && self.walk.packet.protocol == TCP {
            "with a TCP reset"
        } else {
            "with an ICMP error"
        };
        Effect::End(End::Reject(how.to_owned()))
    }
}

/// Whether there is no room for a key that is not there yet.
fn is_full(set: &Set, key: &Bits, changes: &[Change]) -> Truth {
    let Some(size) = set.size else { return Truth::No };
    let added = changes.iter().filter(|change| !change.removes).count();
    if set.elements.len().saturating_add(added) < usize_of(size) {
        return Truth::No;
    }
    let mut elements = set.elements.iter();
    let stays = set.timeout.is_none() && elements.all(|element| element.timeout.is_none());
    match lookup::find(set, key) {
        Found::Element(_) => Truth::No,
        Found::Nothing if stays && changes.is_empty() => Truth::Yes,
        _ => Truth::Maybe,
    }
}
