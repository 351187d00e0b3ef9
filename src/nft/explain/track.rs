//! Conntrack: when it looks at the packet, in which zone, and what `ct` says (net/netfilter/nf_conntrack_core.c, nft_ct.c).
//!
//! ```text
//!            ct zone set (a template)
//! Before ─────────────────────────────► Before, with a zone ─┐ priority -200
//!   │ └────────────────────────────────────────────────────────► Tracked
//!   └─ notrack ► Untracked (ct zone set makes it Before again)
//! ```

use super::super::Family;
use super::super::expr::ct;
use super::bits::{Bits, Truth};
use super::effect::{Effect, Loaded, stuck};
use super::load::{known, perhaps, shown};
use super::packet::{ICMP, ICMP6, Packet, State, TCP};
use super::words::number;
use super::{Outcome, Point, Stage, Stop, Walk};

/// IPS_SRC_NAT, IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h).
pub(super) const STATUS_SNAT: u32 = 0x10;
pub(super) const STATUS_DNAT: u32 = 0x20;
/// IPS_HELPER.
const STATUS_HELPER: u32 = 0x2000;
/// The zone that `ct zone set` gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zone {
    /// Two octets, host order.
    pub(super) id: Bits,
    /// Of one direction only: 0 original, 1 reply.
    pub(super) direction: Option<u8>,
}

impl Zone {
    fn none() -> Self {
        Self { id: Bits::known(&[0; 2]), direction: None }
    }

    /// As `ct zone` or `ct original zone` has it.
    fn seen_from(&self, direction: Option<u8>) -> Bits {
        match (direction, self.direction) {
            (Some(asked), Some(own)) if asked != own => Bits::known(&[0; 2]),
            _ => self.id.clone(),
        }
    }
}

impl Walk<'_> {
    /// conntrack looks at the packet, where it does.
    pub(super) fn track(&mut self) -> Result<(), Stop> {
        if self.stage != Stage::Before || !matches!(self.point, Point::Prerouting | Point::Output) {
            return Ok(());
        }
        self.in_zone()?;
        self.classify();
        self.original = Some(self.packet.clone());
        Ok(())
    }

    /// What conntrack makes of the packet, whatever was said of it.
    pub(super) fn classify(&mut self) {
        if self.packet.connection.state == State::New
            && let Some(state @ (State::Invalid | State::Untracked)) =
                first_of_a_connection(&self.packet)
        {
            let word = if state == State::Invalid { "invalid" } else { "untracked" };
            self.note(&format!(
                "conntrack calls the packet {word}: such a one begins no connection"
            ));
            self.packet.connection.state = state;
        }
        self.stage = match self.packet.connection.state {
            State::Untracked => Stage::Untracked,
            _ => Stage::Tracked,
        };
    }

    /// A connection that was said to be in one zone is not in another: the packet begins one of its own there.
    fn in_zone(&mut self) -> Result<(), Stop> {
        let connection = &self.packet.connection;
        let (State::Established | State::Related, Some(home)) = (connection.state, connection.zone)
        else {
            return Ok(());
        };
        let zone = self.tracked_zone();
        let from = u8::from(connection.reply);
        let state = match zone.seen_from(Some(from)).equals(&home.to_ne_bytes()) {
            Truth::Yes => return Ok(()),
            Truth::No if connection.state == State::Established => {
                first_of_a_connection(&self.packet)
            }
            _ => None,
        };
        let Some(state) = state else {
            let why = format!("what its connection is depends on the zone (--ct-zone {home})");
            return Err(Stop::Over(Outcome::CannotTell, why));
        };
        self.packet.connection.begin(state);
        Ok(())
    }

    pub(super) fn ct(&self, key: u32, direction: Option<u8>) -> Loaded {
        let connection = &self.packet.connection;
        let state = match self.stage {
            Stage::Before => State::Invalid,
            Stage::Untracked => State::Untracked,
            Stage::Tracked => connection.state,
        };
        if (self.stage, key) == (Stage::Before, ct::STATE) && self.zone.is_some() {
            // Of a template: that is all there is to be read of it.
            return known(state_bit(State::New), 4);
        }
        let first = state == State::New;
        match (key, state) {
            (ct::STATE, _) => known(state_bit(state), 4),
            (_, State::Invalid) if self.stage == Stage::Before => {
                Loaded::Nothing("conntrack sees the packet only later (priority -200)")
            }
            (_, State::Invalid | State::Untracked) => {
                Loaded::Nothing("the packet has no connection")
            }
            (ct::DIRECTION, _) => known(connection.reply.into(), 1),
            (ct::STATUS, _) => Loaded::Bits(connection.status.clone()),
            (ct::MARK, _) => Loaded::Bits(connection.mark.clone()),
            (ct::HELPER, _) if first && !self.helper_set => {
                Loaded::Nothing("a first packet has no helper yet")
            }
            (ct::HELPER, _) => Loaded::Bits(Bits::unknown(16)),
            (ct::L3PROTO, _) => known(self.packet.family.0.into(), 1),
            (ct::SRC | ct::DST | ct::PROTO_SRC | ct::PROTO_DST | ct::SRC_IP..=ct::DST_IP6, _) => {
                self.tuple(key, direction)
            }
            (ct::PROTOCOL, _) => Loaded::Bits(Bits::known(&[self.packet.protocol])),
            (ct::LABELS, _) => Loaded::Bits(connection.labels.clone()),
            (ct::PKTS..=ct::AVGPKT, _) => Loaded::Bits(Bits::unknown(8)),
            (ct::ZONE, _) => Loaded::Bits(self.tracked_zone().seen_from(direction)),
            _ => perhaps(None),
        }
    }

    fn tracked_zone(&self) -> Zone {
        self.zone.clone().unwrap_or_else(Zone::none)
    }

    /// An address or port of the connection: what it was before any NAT, or what its replies look for.
    fn tuple(&self, key: u32, direction: Option<u8>) -> Loaded {
        let source = matches!(key, ct::SRC | ct::PROTO_SRC | ct::SRC_IP | ct::SRC_IP6);
        let port = matches!(key, ct::PROTO_SRC | ct::PROTO_DST);
        let len = match (port, self.packet.family) {
            (true, _) => 2,
            (_, Family::IP6) => 16,
            _ => 4,
        };
        if matches!(
            (key, self.packet.family),
            (ct::SRC_IP | ct::DST_IP, Family::IP6) | (ct::SRC_IP6 | ct::DST_IP6, Family::IP)
        ) {
            return Loaded::Nothing("the connection is of the other family");
        }
        let first = self.packet.connection.state == State::New;
        let bits = match (direction.unwrap_or(0), first, &self.original) {
            (0, true, Some(original)) => part(original, !source, port),
            // What a rule wrote into the packet since then, conntrack knows nothing of.
            (_, true, _) if self.rewritten => Bits::unknown(len),
            // A reply comes from where the packet goes now.
            (_, true, _) => part(&self.packet, source, port),
            (0, false, Some(original)) if !self.packet.connection.reply => {
                part(original, !source, port)
            }
            // A reply that nobody rewrites is the other way round.
            (0, false, Some(original)) if self.is_untranslated() => part(original, source, port),
            (_, false, Some(original)) if self.is_untranslated() => {
                part(original, source != self.packet.connection.reply, port)
            }
            _ => Bits::unknown(len),
        };
        Loaded::Bits(bits)
    }

    fn is_untranslated(&self) -> bool {
        [true, false].into_iter().all(|destination| self.is_translated(destination) == Truth::No)
    }

    pub(super) fn set_ct(
        &mut self,
        key: u32,
        direction: Option<u8>,
        bits: &Bits,
        certain: bool,
    ) -> Effect {
        if key == ct::ZONE {
            let id = bits.part(0, 2).unwrap_or_else(|| Bits::unknown(2));
            return self.set_zone(Zone { id, direction }, certain);
        }
        if self.stage != Stage::Tracked || self.packet.connection.state == State::Invalid {
            // There is no connection yet, or none at all.
            return Effect::Next;
        }
        let connection = &mut self.packet.connection;
        match key {
            ct::MARK => {
                let mark = &mut connection.mark;
                let four = bits.part(0, 4).unwrap_or_else(|| Bits::unknown(4));
                *mark = if certain { four } else { mark.or(&four) };
                Effect::Said(format!("ct mark is {} from here on", shown(mark)))
            }
            ct::LABELS => {
                // Bits are added to those that there are.
                let both = connection.labels.with(bits);
                connection.labels = if certain { both } else { connection.labels.or(&both) };
                Effect::Next
            }
            // Events, security marks: nothing that decides where the packet goes; asked for, they are not known.
            _ => Effect::Next,
        }
    }

    /// Only the first zone counts, and none once conntrack has seen the packet.
    pub(super) fn set_zone(&mut self, zone: Zone, certain: bool) -> Effect {
        let state = self.packet.connection.state;
        match (self.stage, &self.zone) {
            (Stage::Before, Some(_)) => Effect::Next,
            (Stage::Tracked, _) if state != State::Invalid => Effect::Next,
            _ if self.is_past_conntrack() => {
                stuck("a zone is set for a packet that conntrack has left alone")
            }
            _ if !certain => stuck("whether the packet is given a zone is not known"),
            // It is tracked again when it was not to be.
            _ => {
                self.stage = Stage::Before;
                let id = zone
                    .id
                    .bytes()
                    .map_or_else(|| "not known".to_owned(), |id| number(&id, true).to_string());
                self.zone = Some(zone);
                Effect::Said(format!("ct zone is {id} from here on"))
            }
        }
    }

    fn is_past_conntrack(&self) -> bool {
        self.original.is_some() || !matches!(self.point, Point::Prerouting | Point::Output)
    }

    /// The object `ct helper` of a rule. Whether it fits the connection is the kernel's to say.
    pub(super) fn set_helper(&mut self) {
        if self.stage == Stage::Tracked && self.packet.connection.state == State::New {
            self.helper_set = true;
            let status = &mut self.packet.connection.status;
            let with = status.masked(&(!STATUS_HELPER).to_ne_bytes(), &STATUS_HELPER.to_ne_bytes());
            *status = status.or(&with);
        }
    }

    pub(super) fn no_track(&mut self, certain: bool) -> Effect {
        match (self.stage, &self.zone, certain) {
            // The zone is held by what looks like a connection.
            (Stage::Before, Some(_), _) => Effect::Next,
            (Stage::Before, None, true) => {
                self.stage = Stage::Untracked;
                Effect::Said("conntrack leaves the packet alone".into())
            }
            (Stage::Before, None, false) => stuck("whether the packet is tracked is not known"),
            _ => Effect::Next,
        }
    }
}

fn state_bit(state: State) -> u64 {
    match state {
        State::Invalid => 1,
        State::Established => 2,
        State::Related => 4,
        State::New => 8,
        State::Untracked => 0x40,
    }
}

/// How conntrack takes a packet of no connection it knows (nf_conntrack_proto_tcp.c, _icmp.c, _icmpv6.c); None where
/// that depends on what is not known. `nf_conntrack_tcp_loose` is taken as it is by default.
fn first_of_a_connection(packet: &Packet) -> Option<State> {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 0x10;
    let octet = |at| packet.transport.part(at, 1).and_then(|bits| bits.bytes()?.first().copied());
    Some(match packet.protocol {
        TCP => match octet(13)? & (FIN | SYN | RST | ACK) {
            SYN | ACK => State::New,
            _ => State::Invalid,
        },
        ICMP => match octet(0)? {
            8 | 13 | 15 | 17 => State::New,
            _ => State::Invalid,
        },
        ICMP6 => match octet(0)? {
            128 | 139 => State::New,
            // Neighbour discovery and multicast listeners are never tracked.
            130..=136 | 143 => State::Untracked,
            _ => State::Invalid,
        },
        _ => State::New,
    })
}

fn part(packet: &Packet, destination: bool, port: bool) -> Bits {
    if port { packet.port(destination) } else { packet.address(destination) }
}
